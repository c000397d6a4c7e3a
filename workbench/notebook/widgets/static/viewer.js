// One picture at every stage, with a before/after slider; both sides always show the same part of the picture.

function render({ model, el }) {
  el.classList.add("wb-viewer", "wb-box");
  const { alert, status, tell } = sayings(model);
  const files = pictureFiles(model, tell);
  const tabs = make("div", { role: "tablist", "aria-label": "Stages" });
  const against = make("select", { "aria-label": "Compare with" });
  const zoom = make("button", { type: "button", class: "wb-zoom" }, "Zoom on face");
  const after = make("img", { class: "after", draggable: "false" });
  const before = make("img", { class: "before", draggable: "false" });
  const clip = make("div", { class: "clip" }, before);
  const range = make("input", { type: "range", min: 0, max: 1, step: 0.005, "aria-label": "Before and after" });
  const left = make("span", { class: "side left", "aria-hidden": "true" });
  const right = make("span", { class: "side right", "aria-hidden": "true" });
  const pending = make("span", { class: "side top" }, "updating …");
  const box = make("div", { class: "wb-compare", role: "tabpanel", tabindex: 0, "aria-label": "Picture", "aria-keyshortcuts": "+ - 0 1" },
    after, clip, left, right, pending, range);
  const closer = zooming(el, places, line);
  const bar = make("div", { class: "wb-bar" }, tabs, make("label", {}, "against ", against), zoom, closer.bar);
  const caption = make("p", { class: "wb-caption" });
  const actions = make("div", { class: "wb-actions", role: "group", "aria-label": "The shown picture" });
  el.append(bar, box, make("div", { class: "wb-foot" }, caption, actions), alert, status);

  let base = WHOLE; // the part of the picture that is shown before anybody zooms
  let urls = {}; // picture id -> object URL
  let shownPicture = null;

  function drawActions() {
    const own = model.get("menu").map(([name, text]) => [text, () => model.send({ do: "act", act: name, id: shownPicture.id })]);
    const buttons = [...files.actions(() => shownPicture.id), ...own].map(([text, act]) => make("button", { type: "button", onclick: act }, text));
    actions.replaceChildren(...buttons);
  }

  function paint() {
    const stages = model.get("stages");
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

    shownPicture = shown;
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
      left.replaceChildren(chosen.label, make("small", {}, chosen.about));
      right.replaceChildren(shown.label, make("small", {}, shown.about));
      range.setAttribute("aria-label", `Before and after: ${chosen.label} left, ${shown.label} right`);
    }
    const face = model.get("face")?.length ? model.get("face") : null;
    const zoomed = model.get("zoom") && face;
    base = zoomed ? face : WHOLE;
    zoom.setAttribute("aria-pressed", Boolean(zoomed));
    zoom.disabled = !face;
    zoom.title = face ? "" : "No face was found in this picture";
    box.style.aspectRatio = zoomed ? "1" : `${shown.width} / ${shown.height}`;
    el.style.setProperty("--ratio", zoomed ? 1 : shown.width / shown.height); // the sheet bounds the height by it
    closer.paint();
    caption.textContent = shown.about;
    Object.assign(el.dataset, { shown: shown.name, what: shown.what, pending: stages.filter((s) => s.pending).length });
    age();
    slide();
  }

  function places() {
    return shownPicture
      ? [{ box, images: [after, before], size: [shownPicture.width, shownPicture.height], base }]
      : [];
  }

  // A drag that begins at the line of a picture that is looked at closer moves the line, any other one the picture; of one
  // that is not, the slider takes it.
  function line(event) {
    const around = box.getBoundingClientRect();
    const share = (x) => Math.min(1, Math.max(0, (x - around.left) / around.width));
    if (range.hidden || Math.abs(share(event.clientX) - model.get("position")) * around.width > 14) return false;
    const follow = (next) => {
      model.set("position", share(next.clientX));
      slide();
    };
    window.addEventListener("pointermove", follow);
    window.addEventListener("pointerup", () => {
      window.removeEventListener("pointermove", follow);
      model.save_changes();
    }, { once: true });
    return true;
  }

  // dim what is not of the settings that the controls show
  function age() {
    const stale = model.get("stale");
    const names = [el.dataset.shown, against.value];
    [[after, right], [before, left]].forEach(([img, side], i) => {
      for (const part of [img, side]) part.classList.toggle("stale", stale.includes(names[i]));
    });
    caption.classList.toggle("stale", stale.includes(names[0]));
  }

  function slide() {
    const at = model.get("position");
    box.style.setProperty("--at", at);
    range.value = at;
    range.setAttribute("aria-valuetext", `${Math.round(at * 100)} %`);
  }

  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const stages = model.get("stages");
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
  for (const name of ["stages", "others", "shown", "against", "face", "zoom"]) model.on(`change:${name}`, paint);
  model.on("change:position", slide);
  model.on("change:stale", age);
  const work = () => el.classList.toggle("busy", model.get("busy"));
  model.on("change:busy", work);

  box.addEventListener("keydown", (event) => closer.key(event, event.target === box));
  closer.bar.addEventListener("keydown", (event) => closer.key(event, true));

  work();
  drawActions();
  paint();
  return () => {
    closer.stop();
    revoke(Object.values(urls));
  };
}

export default { render };
