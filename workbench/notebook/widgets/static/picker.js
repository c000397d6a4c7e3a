// A text that names a file: typed, or picked from what is on this machine.

function render({ model, el }) {
  const label = model.get("description");
  const box = make("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: model.get("placeholder") });
  const menu = make("select", { "aria-label": `${label}: what is on this machine` });
  el.classList.add("wb-picker");
  el.title = model.get("tooltip") ?? "";
  el.append(make("label", {}, make("span", {}, label), box), menu);

  function paint() {
    box.value = model.get("value");
    const known = model.get("options");
    menu.replaceChildren(make("option", { value: "" }, known.length ? "on this machine:" : "none on this machine"),
      ...known.map((name) => make("option", { value: name }, name)));
    menu.value = "";
  }

  function take(value) {
    if (value !== model.get("value")) set(model, { value });
    paint();
  }

  // into a list as "name:0.8"
  function added(name) {
    const listed = model.get("value").trim();
    return listed ? `${listed}, ${name}:0.8` : `${name}:0.8`;
  }

  box.addEventListener("change", () => take(box.value.trim()));
  menu.addEventListener("change", () => menu.value && take(model.get("listed") ? added(menu.value) : menu.value));
  for (const name of ["value", "options"]) model.on(`change:${name}`, paint);
  paint();
}

export default { render };
