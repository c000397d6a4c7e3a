// A number: a slider over the range of use, and a box for every value that is allowed, taken as it is typed.

const ARROWS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };

function render({ model, el }) {
  const { low, high, step, minimum, maximum, whole } = Object.fromEntries(
    ["low", "high", "step", "minimum", "maximum", "whole"].map((name) => [name, model.get(name)]));
  const label = model.get("description");
  const box = make("input", { type: "text", inputmode: "decimal", autocomplete: "off", spellcheck: "false" });
  const range = make("input", { type: "range", min: low, max: high, step: "any", "aria-label": label });
  const wrong = make("p", { role: "alert" });
  el.classList.add("wb-number");
  el.classList.toggle("long", maximum > 1e6);
  el.title = model.get("tooltip") ?? "";
  el.append(make("label", {}, make("span", {}, label), box), range, wrong);
  range.hidden = !model.get("slider");

  const within = (value, from, to) => Math.min(Math.max(value, from), to);
  // 0.1 + 0.2 is 0.30000000000000004
  const tidy = (value) => Number(value.toFixed(10));

  function paint() {
    const value = model.get("value");
    box.value = String(value);
    range.value = value;
    range.setAttribute("aria-valuetext", String(value));
    say("");
  }

  function say(what) {
    wrong.textContent = what;
    wrong.hidden = !what;
    box.setAttribute("aria-invalid", Boolean(what));
  }

  function take(value) {
    if (value !== model.get("value")) set(model, { value });
    paint();
  }

  // what a typed text is refused for, "" where it is a value
  function refusal(text) {
    const value = Number(text);
    if (!text || !Number.isFinite(value)) return `'${text}' is no number.`;
    if (whole && !Number.isInteger(value)) return `${text} is no whole number.`;
    if (value < minimum || value > maximum) return `${text} is out of range: ${minimum} to ${maximum}.`;
    return "";
  }

  function typed() {
    const text = box.value.trim().replace(",", ".");
    const why = refusal(text);
    if (why) say(`${why} It stays at ${model.get("value")}.`);
    else take(Number(text));
  }

  // the next multiple of the step in that direction
  const next = (steps) => {
    const at = model.get("value") / step;
    return tidy((steps > 0 ? Math.floor(at + 1e-6) + steps : Math.ceil(at - 1e-6) + steps) * step);
  };

  box.addEventListener("change", typed);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !withModifier(event) && !event.shiftKey) typed();
    else if (event.key === "Escape") paint();
    else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      event.preventDefault();
      take(within(next(ARROWS[event.key]), minimum, maximum));
    }
  });
  range.addEventListener("input", () => take(within(tidy(Math.round(range.value / step) * step), low, high)));
  range.addEventListener("keydown", (event) => {
    const ends = { Home: low, End: high };
    if (withModifier(event) || !(event.key in ARROWS || event.key in ends)) return;
    event.preventDefault();
    const now = model.get("value"); // may have been typed beyond the slider
    take(ends[event.key] ?? within(next(ARROWS[event.key]), Math.min(low, now), Math.max(high, now)));
  });
  model.on("change:value", paint);
  paint();
}

export default { render };
