// The preset in force in words, and an input for each setting that it opens to requests.

/** Whether a licence of the preset forbids commercial use. */
export const notCommercial = (preset) => preset.licences.some((text) => /non[- ]?commercial/i.test(text));

/** An element. `of`: its properties, or attributes where there is no such property, or (`list`) one that only can be read. */
export function element(tag, of = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(of)) {
    if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...inside);
  return made;
}

/** {name: value} as the rows of a <dl>. */
export function rows(values) {
  return Object.entries(values)
    .filter(([, value]) => value !== "" && value !== undefined && value !== null)
    .flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]);
}

const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
const settingsOf = (values) => Object.entries(values).map(([name, value]) => `${name} ${value}`).join(", ");

/** The evidence in a few sentences. Written by hand it may be anything, so that each entry is looked at. */
function evidence({ evidence: found = {}, provenance = {} }) {
  if (!Object.keys(found).length) return { Evidence: "none: nobody has measured these settings against others." };
  const verdict = found.verdict ?? {};
  const guards = Object.entries(found.guards ?? {}).map(([name, n]) => `${name} on ${n}`);
  const measured = typeof found.mean === "number" ? `${found.mean.toFixed(1)} on average over ${count(found.n, "picture")}` : "";
  return {
    Verdict: verdict.words ?? (found.forced ? `promoted without a duel: ${found.forced}` : "no duel was held"),
    Chosen: found.chosen && [settingsOf(found.chosen), found.chosen_by && `by ${found.chosen_by}`].filter(Boolean).join(", "),
    "Face sharpness": measured,
    Guards: found.guards && (guards.join(", ") || "none fired"),
    "Bear in mind": found.caveat,
    Note: found.note,
    Promoted: provenance.promoted && new Date(provenance.promoted).toLocaleString(),
    Run: found.run,
  };
}

/** What `GET /preset` says, as elements. */
export function presetWords(preset) {
  return [
    element("p", {}, element("strong", {}, preset.name), preset.about ? ` – ${preset.about}` : ""),
    ...(preset.withdrawn ? [element("p", { className: "warn" }, preset.withdrawn)] : []),
    ...(notCommercial(preset)
      ? [element("p", { className: "warn" }, element("strong", {}, "Not for commercial use"), ": one of the licences below forbids it.")]
      : []),
    element("dl", {}, ...rows(evidence(preset))),
    element("h3", {}, "Licences"),
    element("ul", {}, ...preset.licences.map((text) => element("li", {}, text))),
    element("details", {}, element("summary", {}, "All settings"), element("dl", {}, ...rows(preset.settings))),
  ];
}

/** A labelled input for a setting. */
export function field(name, schema, value) {
  const id = `set-${name}`;
  const of = { id, name, "aria-describedby": `${id}-about` };
  const about = element("small", { id: `${id}-about` }, schema.description ?? "");
  const { title: short = name, unit = "" } = schema;
  const title = unit && !short.toLowerCase().includes(unit) ? `${short}, ${unit}` : short;
  if (schema.type === "boolean") {
    const input = element("input", { ...of, type: "checkbox", checked: value });
    return element("div", {}, element("label", {}, input, title), about);
  }
  return element("div", {}, element("label", { htmlFor: id }, title), ...inputs(of, schema, value), about);
}

function inputs(of, schema, value) {
  if (schema.enum) {
    return [element("select", of, ...schema.enum.map((each) => element("option", { selected: each === value }, each)))];
  }
  if (schema.type === "integer" || schema.type === "number" || schema.anyOf) {
    const step = schema.type === "integer" ? (schema.multipleOf ?? 1) : "any";
    return [element("input", { ...of, type: "number", min: schema.minimum ?? "", max: schema.maximum ?? "", step, value })];
  }
  if (!schema.named?.length) return [element("input", { ...of, type: "text", value })];
  const list = `${of.id}-list`;
  const known = schema.named.map((each) => element("option", { value: each }));
  return [element("input", { ...of, type: "text", value, list }), element("datalist", { id: list }, ...known)];
}
