// A row of pictures one can press, each with a menu: the history, and the pinned variants, which zoom together.

function render({ model, el }) {
  const label = model.get("label");
  const { alert, status, tell } = sayings(model);
  const files = pictureFiles(model, tell);
  const list = make("ul", { "aria-label": label });
  const search = make("input", { type: "search", placeholder: "Search prompts and settings", "aria-label": `Search ${label}`, oninput: filter });
  const only = make("input", { type: "checkbox", onchange: filter });
  const count = make("span", { role: "status" });
  const undo = make("button", { type: "button", onclick: () => act("undo", "") });
  const head = make("div", { class: "wb-head", hidden: !model.get("searchable") },
    make("span", { class: "wb-title" }, label), search,
    make("label", { hidden: !model.get("stars") }, only, " favourites only"), count);
  const said = make("div", { class: "wb-said" }, alert, status, undo);
  el.classList.add("wb-strip", "wb-box");
  el.classList.toggle("zooms", model.get("zooms"));
  el.append(head, said, list);
  el.addEventListener("keydown", keys);
  let urls = {}; // item id and version -> object URL of its picture
  let drawn = []; // ids in the row
  const closer = model.get("zooms") ? zooming(el, places) : null;
  let active = null; // id of the item that Tab reaches

  const act = (name, id) => model.send({ do: "act", act: name, id });
  const key = (item) => `${item.id} ${item.version}`;

  function tile(item) {
    const img = make("img", { src: urls[key(item)], alt: "", draggable: "false", onload: () => closer?.paint() });
    const press = make(
      "button",
      { type: "button", "data-id": item.id, title: item.title, onclick: () => act("choose", item.id) },
      make("span", { class: "frame" }, img),
      make("span", { class: "text" }, item.caption),
      make("span", { class: "prompt" }, item.prompt),
    );
    const star = make("button", {
      type: "button", class: "star", "aria-label": `Favourite: picture ${item.id}`, onclick: () => act("star", item.id),
    });
    const more = menuButton("⋯", `More of picture ${item.id}`, () => [
      ...files.actions(() => item.id),
      ...model.get("menu").map(([name, text]) => [text, () => act(name, item.id)]),
    ], { class: "more" });
    const [removal, removing] = model.get("removal");
    const remove = make("button", {
      type: "button", class: "remove", "aria-label": `${removing} picture ${item.id}`, title: removing,
      onclick: () => act(removal, item.id),
    }, "×");
    return make("li", { "data-item": item.id }, press, model.get("stars") ? star : null, ...more, removal ? remove : null);
  }

  function paint() {
    const items = model.get("items");
    const held = el.contains(document.activeElement) ? document.activeElement.closest("li")?.dataset.item : null;
    const [left, ids] = [list.scrollLeft, items.map((item) => item.id)];
    urls = jpegUrls(items.map((item) => ({ id: key(item), picture: item.picture })), urls);
    el.classList.toggle("empty", !items.length && !model.get("undo"));
    el.style.setProperty("--tile", `${model.get("tile")}px`);
    list.replaceChildren(...items.map(tile));
    const came = ids.some((id) => !drawn.includes(id));
    drawn = ids;
    mark();
    filter();
    closer?.paint();
    // a row that is pressed stays where it is; only a new picture is scrolled to
    list.scrollLeft = came && !held && model.get("newest_last") ? list.scrollWidth : left;
    if (held) at(held)?.querySelector("button").focus({ preventScroll: true });
  }

  function places() {
    return [...list.children].map((item, i) => {
      const img = item.querySelector("img");
      const face = model.get("items")[i]?.face;
      const base = model.get("zoom") && face?.length ? face : WHOLE;
      return { box: item.querySelector(".frame"), images: [img], size: [img.naturalWidth, img.naturalHeight], base };
    }).filter((place) => place.size[0]);
  }

  const at = (id) => list.querySelector(`[data-item="${id}"]`);

  function mark() {
    const starred = model.get("starred");
    for (const item of list.children) {
      const id = item.dataset.item;
      const star = item.querySelector(".star");
      item.querySelector("button").setAttribute("aria-current", id === model.get("current"));
      star?.setAttribute("aria-pressed", starred.includes(id));
      if (star) star.textContent = starred.includes(id) ? "★" : "☆";
    }
    reach(drawn.includes(active) ? active : model.get("current"));
  }

  function reach(id) { // one item is reached by Tab, with its buttons; the arrow keys walk
    const shown = [...list.children].filter((item) => !item.hidden);
    const chosen = shown.find((item) => item.dataset.item === id) ?? shown.at(-1);
    active = chosen?.dataset.item ?? null;
    for (const item of list.children) {
      for (const button of item.querySelectorAll(":scope > button")) button.tabIndex = item === chosen ? 0 : -1;
    }
  }

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const items = model.get("items");
    let shown = 0;
    for (const item of items) {
      const text = `${item.prompt} ${item.caption}`.toLowerCase();
      const fits = words.every((word) => text.includes(word)) && (!only.checked || model.get("starred").includes(item.id));
      at(item.id).hidden = !fits;
      shown += fits;
    }
    count.textContent = shown === items.length ? "" : `${shown} of ${items.length}`;
    reach(active);
  }

  function keys(event) {
    const item = event.target.closest("li");
    if (!item || event.target.closest("[role=menu]") || withModifier(event)) return;
    if (closer?.key(event, event.shiftKey)) return;
    const shown = [...list.children].filter((each) => !each.hidden);
    const place = shown.indexOf(item);
    const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (to !== undefined && shown[to]) {
      reach(shown[to].dataset.item);
      shown[to].querySelector("button").focus();
    } else if (event.key === "Delete" && model.get("removal").length) {
      (shown[place + 1] ?? shown[place - 1])?.querySelector("button").focus();
      act(model.get("removal")[0], item.dataset.item);
    } else if (event.key.toLowerCase() === "f" && model.get("stars")) {
      act("star", item.dataset.item);
    } else return;
    event.preventDefault();
  }

  function taken() {
    undo.textContent = model.get("undo");
    undo.hidden = !undo.textContent;
  }

  model.on("change:zoom", () => closer?.paint());
  for (const name of ["items", "tile"]) model.on(`change:${name}`, paint);
  model.on("change:current", mark);
  model.on("change:starred", () => {
    mark();
    filter();
  });
  model.on("change:undo", taken);
  taken();
  paint();
  return () => {
    closer?.stop();
    revoke(Object.values(urls));
  };
}

export default { render };
