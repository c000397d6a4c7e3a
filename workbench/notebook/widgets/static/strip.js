// A row of pictures one can press: the history, and the pinned variants, which zoom together.

const url = (bytes) => URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

function render({ model, el }) {
  el.classList.add("wb-strip");
  const list = element("ul", { "aria-label": model.get("label") });
  el.append(list);
  let urls = {};

  function paint() {
    const items = model.get("items"), zoom = model.get("zoom");
    const held = el.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    const fresh = Object.fromEntries(items.map((item) => [item.id, urls[item.id] ?? url(item.picture)]));
    for (const [id, old] of Object.entries(urls)) if (!(id in fresh)) URL.revokeObjectURL(old);
    urls = fresh;
    el.classList.toggle("empty", !items.length);
    el.style.setProperty("--tile", `${model.get("tile")}px`);
    list.replaceChildren(...items.map((item) => {
      const img = element("img", { src: urls[item.id], alt: "", draggable: "false" });
      const frame = element("span", { class: "frame" }, img);
      if (zoom && item.face?.length) {
        const [x0, y0, x1, y1] = item.face;
        Object.assign(img.style, {
          position: "absolute", maxWidth: "none", width: `${100 / (x1 - x0)}%`, height: `${100 / (y1 - y0)}%`,
          left: `${(-100 * x0) / (x1 - x0)}%`, top: `${(-100 * y0) / (y1 - y0)}%`,
        });
      }
      const press = element("button", {
        type: "button", "data-id": item.id, title: item.title, "aria-current": item.id === model.get("current"),
      }, frame, element("span", { class: "text" }, item.caption));
      press.addEventListener("click", () => model.send({ event: "choose", id: item.id }));
      const entry = element("li", {}, press);
      if (item.removable) {
        const remove = element("button", { type: "button", class: "remove", "aria-label": `Take out ${item.caption}` }, "×");
        remove.addEventListener("click", () => model.send({ event: "remove", id: item.id }));
        entry.append(remove);
      }
      return entry;
    }));
    if (held) list.querySelector(`[data-id="${held}"]`)?.focus();
    else if (model.get("newest_last")) list.scrollLeft = list.scrollWidth;
  }
  for (const name of ["items", "zoom", "current", "tile"]) model.on(`change:${name}`, paint);
  paint();
  return () => Object.values(urls).forEach((old) => URL.revokeObjectURL(old));
}

export default { render };
