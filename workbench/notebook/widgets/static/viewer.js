// One picture at every stage, with a before/after slider; both sides always show the same part of the picture.

const url = (bytes) => URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

// where an <img> has to lie so that the square `face` (shares of the picture's sides) fills the box
function place(img, face) {
  const [x0, y0, x1, y1] = face ?? [0, 0, 1, 1];
  Object.assign(img.style, {
    width: `${100 / (x1 - x0)}%`, height: `${100 / (y1 - y0)}%`,
    left: `${(-100 * x0) / (x1 - x0)}%`, top: `${(-100 * y0) / (y1 - y0)}%`,
  });
}

function render({ model, el }) {
  el.classList.add("wb-viewer");
  const tabs = element("div", { role: "tablist", "aria-label": "Stages" });
  const against = element("select", { "aria-label": "Compare with" });
  const zoom = element("button", { type: "button", class: "wb-zoom" }, "Zoom on face");
  const bar = element("div", { class: "wb-bar" }, tabs, element("label", {}, "against ", against), zoom);
  const after = element("img", { class: "after", draggable: "false" });
  const before = element("img", { class: "before", draggable: "false" });
  const clip = element("div", { class: "clip" }, before);
  const range = element("input", { type: "range", min: 0, max: 1, step: 0.005, "aria-label": "Before and after" });
  const left = element("span", { class: "side left", "aria-hidden": "true" });
  const right = element("span", { class: "side right", "aria-hidden": "true" });
  const pending = element("span", { class: "side top" }, "updating …");
  const box = element("div", { class: "wb-compare", role: "tabpanel", "aria-label": "Picture" },
    after, clip, left, right, pending, range);
  const caption = element("p", { class: "wb-caption" });
  el.append(bar, box, caption);

  let urls = {};  // picture id -> object URL, revoked when the picture is no longer there
  const pictures = () => [...model.get("stages"), ...model.get("others")];

  function paint() {
    const stages = model.get("stages"), all = pictures();
    const fresh = Object.fromEntries(all.map((p) => [p.id, urls[p.id] ?? url(p.picture)]));
    for (const [id, old] of Object.entries(urls)) if (!(id in fresh)) URL.revokeObjectURL(old);
    urls = fresh;
    const shown = stages.find((s) => s.name === model.get("shown")) ?? stages.at(-1);
    const held = document.activeElement?.dataset?.stage;  // of a tab that is about to be replaced
    tabs.replaceChildren(...stages.map((stage) => {
      const chosen = stage === shown;
      const tab = element("button", {
        type: "button", role: "tab", "aria-selected": chosen, tabindex: chosen ? 0 : -1, "data-stage": stage.name,
      }, stage.label + (stage.pending ? " …" : ""));
      tab.addEventListener("click", () => choose(stage.name));
      return tab;
    }));
    if (held && el.isConnected) tabs.querySelector(`[data-stage="${held}"]`)?.focus();
    el.classList.toggle("empty", !shown);
    if (!shown) return;

    // the same picture may be made again under another id: a choice is kept by its name
    const names = all.filter((p) => p !== shown);
    against.replaceChildren(element("option", { value: "" }, "nothing"),
      ...names.map((p) => element("option", { value: p.name }, p.label)));
    const chosen = names.find((p) => p.name === model.get("against"));
    against.value = chosen?.name ?? "";
    after.src = urls[shown.id];
    after.alt = `${shown.label}: ${shown.about}`;
    pending.hidden = !shown.pending;
    clip.hidden = range.hidden = left.hidden = !chosen;
    right.hidden = !chosen;
    if (chosen) {
      before.src = urls[chosen.id];
      before.alt = chosen.label;
      left.textContent = chosen.label;
      right.textContent = shown.label;
      range.setAttribute("aria-label", `Before and after: ${chosen.label} left, ${shown.label} right`);
    }
    const face = model.get("face")?.length ? model.get("face") : null;
    const zoomed = model.get("zoom") && face;
    zoom.setAttribute("aria-pressed", Boolean(zoomed));
    zoom.disabled = !face;
    zoom.title = face ? "" : "No face was found in this picture";
    box.style.aspectRatio = zoomed ? "1" : `${shown.width} / ${shown.height}`;
    for (const img of [after, before]) place(img, zoomed ? face : null);
    caption.textContent = shown.about;
    Object.assign(el.dataset, { shown: shown.name, what: shown.what, pending: stages.filter((s) => s.pending).length });
    slide();
  }
  function slide() {
    const at = model.get("position");
    box.style.setProperty("--at", at);
    range.value = at;
    range.setAttribute("aria-valuetext", `${Math.round(at * 100)} %`);
  }
  function choose(name) {
    model.set("shown", name);
    model.save_changes();
  }

  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const stages = model.get("stages");
    const now = stages.findIndex((s) => s.name === event.target.dataset.stage);
    if (!step || now < 0) return;
    event.preventDefault();
    const next = stages[(now + step + stages.length) % stages.length].name;
    choose(next);
    tabs.querySelector(`[data-stage="${next}"]`)?.focus();
  });
  // a drag on the picture moves the line only; Python hears of it once, on release
  range.addEventListener("input", () => { model.set("position", Number(range.value)); slide(); });
  range.addEventListener("change", () => model.save_changes());
  against.addEventListener("change", () => { model.set("against", against.value); model.save_changes(); });
  zoom.addEventListener("click", () => { model.set("zoom", !model.get("zoom")); model.save_changes(); });
  for (const name of ["stages", "others", "shown", "against", "face", "zoom"]) model.on(`change:${name}`, paint);
  model.on("change:position", slide);
  const work = () => el.classList.toggle("busy", model.get("busy"));
  model.on("change:busy", work);

  const panel = () => el.closest(".wb-tuner");

  // ipywidgets gives the handles of its sliders no name, so that a screen reader says "slider, 0.35" for each of them
  const name = () => {
    for (const handle of panel()?.querySelectorAll(".noUi-handle:not([aria-label])") ?? []) {
      const label = handle.closest(".jupyter-widgets")?.querySelector("label");
      if (label) handle.setAttribute("aria-label", label.textContent);
    }
  };
  const watch = new MutationObserver(name);
  requestAnimationFrame(() => {
    if (panel()) watch.observe(panel(), { childList: true, subtree: true });
    name();
  });
  work();
  paint();
  return () => {
    watch.disconnect();
    Object.values(urls).forEach((old) => URL.revokeObjectURL(old));
  };
}

export default { render };
