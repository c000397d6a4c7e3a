// One picture at every stage, with a before/after slider; both sides always show the same part of the picture.

function render({ model, el }) {
  el.classList.add("wb-viewer");
  const tabs = make("div", { role: "tablist", "aria-label": "Stages" });
  const against = make("select", { "aria-label": "Compare with" });
  const zoom = make("button", { type: "button", class: "wb-zoom" }, "Zoom on face");
  const bar = make("div", { class: "wb-bar" }, tabs, make("label", {}, "against ", against), zoom);
  const after = make("img", { class: "after", draggable: "false" });
  const before = make("img", { class: "before", draggable: "false" });
  const clip = make("div", { class: "clip" }, before);
  const range = make("input", { type: "range", min: 0, max: 1, step: 0.005, "aria-label": "Before and after" });
  const left = make("span", { class: "side left", "aria-hidden": "true" });
  const right = make("span", { class: "side right", "aria-hidden": "true" });
  const pending = make("span", { class: "side top" }, "updating …");
  const box = make("div", { class: "wb-compare", role: "tabpanel", "aria-label": "Picture" },
    after, clip, left, right, pending, range);
  const caption = make("p", { class: "wb-caption" });
  el.append(bar, box, caption);

  let urls = {}; // picture id -> object URL

  function paint() {
    const stages = [...model.get("stages"), ...model.get("live")];
    const all = [...stages, ...model.get("others")];
    urls = jpegUrls(all, urls);
    const shown = stages.find((s) => s.name === model.get("shown")) ?? stages.at(-1);
    const held = document.activeElement?.dataset?.stage; // of a tab that is about to be replaced
    tabs.replaceChildren(...stages.map((stage) => {
      const chosen = stage === shown;
      return make("button", {
        type: "button", role: "tab", "aria-selected": chosen, tabindex: chosen ? 0 : -1, "data-stage": stage.name,
        onclick: () => set(model, { shown: stage.name }),
      }, stage.label + (stage.pending ? " …" : ""));
    }));
    if (held && el.isConnected) tabs.querySelector(`[data-stage="${held}"]`)?.focus();
    el.classList.toggle("empty", !shown);
    if (!shown) return;

    // the same picture may be made again under another id: a choice is kept by its name
    const names = all.filter((p) => p !== shown);
    against.replaceChildren(make("option", { value: "" }, "nothing"),
      ...names.map((p) => make("option", { value: p.name }, p.label)));
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
    for (const img of [after, before]) placeFace(img, zoomed ? face : null);
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

  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const stages = [...model.get("stages"), ...model.get("live")];
    const now = stages.findIndex((s) => s.name === event.target.dataset.stage);
    if (!step || now < 0) return;
    event.preventDefault();
    const next = stages[(now + step + stages.length) % stages.length].name;
    set(model, { shown: next });
    tabs.querySelector(`[data-stage="${next}"]`)?.focus();
  });
  // a drag on the picture moves the line only; Python hears of it once, on release
  range.addEventListener("input", () => {
    model.set("position", Number(range.value));
    slide();
  });
  range.addEventListener("change", () => model.save_changes());
  against.addEventListener("change", () => set(model, { against: against.value }));
  zoom.addEventListener("click", () => set(model, { zoom: !model.get("zoom") }));
  for (const name of ["stages", "live", "others", "shown", "against", "face", "zoom"]) model.on(`change:${name}`, paint);
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
    revoke(Object.values(urls));
  };
}

export default { render };
