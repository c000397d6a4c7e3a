// A picture that is dropped on the panel, or chosen by the button: Python reads its settings, and how each was read is listed.

const PART = 2 ** 21; // bytes in one message; a server closes the line at 10 MB

function render({ model, el }) {
  el.classList.add("wb-box", "wb-dropping");
  const { alert, status, tell } = sayings(model);
  const input = make("input", { type: "file", accept: "image/*", hidden: true, onchange: () => take(input.files) });
  const choose = make("button", { type: "button", onclick: () => input.click() }, "Load settings from a picture …");
  const found = make("div", { class: "wb-found" });
  el.append(make("div", { class: "wb-row" }, choose, input, make("span", {}, "or drop one anywhere on this panel")), alert, status, found);
  let panel = null;
  let within = 0; // dragenter and dragleave come for every part that is crossed

  async function take(files) {
    const file = files[0];
    input.value = "";
    if (!file) return;
    if (files.length > 1) return tell("These are several files; drop one picture.", true);
    if (file.size > model.get("most")) {
      return tell(`${file.name} has more than ${Math.floor(model.get("most") / 2 ** 20)} MB; drop a smaller file.`, true);
    }
    tell(`Reading ${file.name} …`, false);
    const bytes = await file.arrayBuffer();
    for (let at = 0; at === 0 || at < bytes.byteLength; at += PART) {
      const part = { do: "part", name: file.name, first: at === 0, last: at + PART >= bytes.byteLength };
      model.send(part, undefined, [bytes.slice(at, at + PART)]);
    }
  }

  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

  function entered(by) {
    within = Math.max(0, within + by);
    panel.classList.toggle("wb-drop", within > 0);
  }

  const listeners = {
    dragenter: (event) => hasFiles(event) && entered(1),
    dragleave: (event) => hasFiles(event) && entered(-1),
    dragover: (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      event.stopPropagation();
      event.dataTransfer.dropEffect = "copy";
    },
    drop: (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      event.stopPropagation();
      entered(-within);
      take(event.dataTransfer.files);
    },
  };

  function table(title, names, rows) {
    if (!rows.length) return null;
    return make("table", {}, make("caption", {}, title),
      make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...rows.map(([first, ...rest]) => make(
        "tr", {}, make("th", { scope: "row" }, first), ...rest.map((text) => make("td", {}, text)),
      ))));
  }

  function draw() {
    const view = model.get("view");
    found.replaceChildren();
    if (!view.title) return;
    const close = make("button", { type: "button", onclick: () => {
      found.replaceChildren();
      choose.focus();
    } }, "Close");
    const parts = [
      table("Not understood: left out", ["in the picture", "why"], view.unmapped),
      table("Guessed", ["setting", "what and why"], view.guessed),
      table("Read", ["setting", "value", "from"], view.read),
    ].filter(Boolean);
    found.append(make("p", { role: "status" }, view.title), ...view.notes.map((note) => make("p", {}, note)), ...parts, close);
  }

  requestAnimationFrame(() => {
    panel = el.closest(".wb-tuner");
    for (const [name, listener] of Object.entries(listeners)) panel?.addEventListener(name, listener);
  });
  model.on("change:view", draw);
  draw();
  return () => {
    for (const [name, listener] of Object.entries(listeners)) panel?.removeEventListener(name, listener);
  };
}

export default { render };
