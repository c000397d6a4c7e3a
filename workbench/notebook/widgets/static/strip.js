// A row of pictures one can press: the history, and the pinned variants, which zoom together.

function render({ model, el }) {
  el.classList.add("wb-strip");
  const list = make("ul", { "aria-label": model.get("label") });
  el.append(list);
  let urls = {}; // item id -> object URL of its picture

  function tile(item) {
    const img = make("img", { src: urls[item.id], alt: "", draggable: "false" });
    if (model.get("zoom") && item.face?.length) {
      Object.assign(img.style, { position: "absolute", maxWidth: "none" });
      placeFace(img, item.face);
    }
    const press = make(
      "button",
      {
        type: "button", "data-id": item.id, title: item.title, "aria-current": item.id === model.get("current"),
        onclick: () => model.send({ event: "choose", id: item.id }),
      },
      make("span", { class: "frame" }, img),
      make("span", { class: "text" }, item.caption),
    );
    if (!item.removable) return make("li", {}, press);
    const remove = make(
      "button",
      {
        type: "button", class: "remove", "aria-label": `Take out ${item.caption}`,
        onclick: () => model.send({ event: "remove", id: item.id }),
      },
      "×",
    );
    return make("li", {}, press, remove);
  }

  function paint() {
    const items = model.get("items");
    const held = el.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    urls = jpegUrls(items, urls);
    el.classList.toggle("empty", !items.length);
    el.style.setProperty("--tile", `${model.get("tile")}px`);
    list.replaceChildren(...items.map(tile));
    if (held) list.querySelector(`[data-id="${held}"]`)?.focus();
    else if (model.get("newest_last")) list.scrollLeft = list.scrollWidth;
  }

  for (const name of ["items", "zoom", "current", "tile"]) model.on(`change:${name}`, paint);
  paint();
  return () => revoke(Object.values(urls));
}

export default { render };
