// Asks the server for pictures, and shows how far they are. No framework, nothing from elsewhere.

import * as history from "./history.js";
import { element, field, notCommercial, presetWords, rows } from "./preset.js";

const $ = (id) => document.getElementById(id);
const form = $("form");
const OWN = ["prompt", "negative_prompt", "seed"]; // settings whose inputs stand in index.html

let preset = null; // what GET /preset says
let running = null; // the AbortController of the request that is being answered
let shown = null; // the entry of the history that is seen
let link = ""; // its object URL

// a page that was opened as http://:TOKEN@host/ may not fetch relative addresses
const at = (path) => location.origin + path;

function say(words, steps = "") {
  if ($("status").textContent !== words) $("status").textContent = words; // read out once, not at every step
  $("steps").textContent = steps;
}

function complain(words) {
  $("problem").textContent = words;
}

function inWords(seconds) {
  if (seconds < 2) return "a moment";
  return seconds < 100 ? `about ${Math.round(seconds)} s` : `about ${Math.round(seconds / 60)} min`;
}

// --- the form

const inputOf = (name) => form.elements.namedItem(name);

function read(input) {
  if (input.type === "checkbox") return input.checked;
  return input.type === "number" ? (input.value === "" ? undefined : Number(input.value)) : input.value;
}

function write(input, value) {
  if (input.type === "checkbox") input.checked = value;
  else input.value = value;
}

/** What is asked for: of the settings those alone that differ from the preset's, which may change on the server meanwhile. */
function request() {
  const asked = { prompt: $("prompt").value, seed: read($("seed")), n: Number($("n").value) };
  if ($("preset-name").options.length > 1) asked.preset = $("preset-name").value;
  for (const name of preset?.allow ?? []) {
    const input = inputOf(name);
    if (!input || name in asked) continue;
    const value = read(input);
    if (value !== preset.settings[name]) asked[name] = value;
  }
  return asked;
}

function valid() {
  const blank = !$("prompt").value.trim();
  $("prompt").setAttribute("aria-invalid", blank);
  if (blank) {
    complain("The prompt is blank; say what the picture shows.");
    $("prompt").focus();
    return false;
  }
  if (form.querySelector("#more :invalid")) $("more").open = true; // or the browser has nowhere to show what is wrong
  return form.reportValidity();
}

async function loadPreset(name = "") {
  const answer = await fetch(at(`/preset?preset=${encodeURIComponent(name)}`));
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  const old = preset;
  const typed = new Map([...form.elements].filter((input) => input.name).map((input) => [input.name, read(input)]));
  preset = found;
  const more = found.allow.filter((each) => !OWN.includes(each));
  $("more-fields").replaceChildren(...more.map((each) => field(each, found.schema[each] ?? {}, found.settings[each])));
  $("more").hidden = !more.length;
  $("negative-field").hidden = !found.allow.includes("negative_prompt");
  for (const each of found.allow) {
    const input = inputOf(each);
    if (!input || each === "seed") continue;
    const own = old && typed.get(each) !== undefined && typed.get(each) !== old.settings[each];
    if (own || (each === "prompt" && typed.get(each))) write(input, typed.get(each));
    else write(input, found.settings[each]);
  }
  $("preset-words").replaceChildren(...presetWords(found));
  $("preset-link").textContent = `Preset ${found.name}${notCommercial(found) ? ", not for commercial use" : ""}`;
  if (!shown) expect();
}

async function loadServer() {
  const { presets } = await (await fetch(at("/health"))).json();
  $("preset-name").replaceChildren(...presets.map((name) => element("option", {}, name)));
  $("preset-field").hidden = presets.length < 2;
  await loadPreset(presets[0]);
  $("generate").setAttribute("aria-disabled", false);
  await ready();
}

async function ready() {
  const { status } = await fetch(at("/ready"));
  const waits = "The server is loading its networks; a picture that you ask for now waits for them.";
  if (status === 503) {
    if (!running) say(waits);
    setTimeout(() => ready().catch(lost), 2000);
  } else if ($("status").textContent === waits) say("Ready.");
}

function lost(error) {
  complain(error instanceof TypeError ? "The server does not answer; is it still running?" : error.message);
}

// --- asking

async function generate() {
  if (running) return complain("A picture is being made already; Esc stops it.");
  complain("");
  if (!preset) return loadServer().catch(lost); // which was not there, and may be now
  if (!valid()) return;
  running = new AbortController();
  busy(true);
  expect();
  say("Asking …");
  try {
    const answer = await fetch(at("/generate"), {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
      body: JSON.stringify(request()),
      signal: running.signal,
    });
    if (!answer.ok) await refused(answer);
    else await follow(answer.body);
    complain("");
  } catch (error) {
    complain("");
    say(error.name === "AbortError" ? "Cancelled." : "");
    if (error.name !== "AbortError") lost(error);
  } finally {
    running = null;
    busy(false);
    if ($("frame").classList.contains("preview")) show(shown); // the one that was there before
  }
}

async function refused(answer) {
  const { error = answer.statusText } = await answer.json().catch(() => ({}));
  throw new Error(retry(error, answer.headers.get("Retry-After")));
}

function retry(words, seconds) {
  const sentence = words.charAt(0).toUpperCase() + words.slice(1);
  return seconds && !words.includes("again in") ? `${sentence.replace(/[.;]?$/, ".")} Try again in ${seconds} s.` : sentence;
}

/** Reads the server-sent events of an answer, and shows what they tell. */
async function follow(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let picture = null;
  for (;;) {
    const { done, value } = await reader.read();
    if (done && picture) return arrived(picture);
    if (done) throw new Error("The server broke off before the picture was there; ask again.");
    let from = Math.max(0, text.length - 1); // pictures are megabytes: what was looked through is not looked through again
    text += decoder.decode(value, { stream: true });
    for (let end; (end = text.indexOf("\n\n", from)) >= 0; from = 0) {
      const [, name, data] = /^event: (.*)\ndata: ([^]*)$/.exec(text.slice(0, end)) ?? [];
      text = text.slice(end + 2);
      const told = name && JSON.parse(data);
      if (name === "progress") progress(told);
      else if (name === "error") throw new Error(retry(told.error, told.retry_after));
      else if (name === "picture") picture = told;
    }
  }
}

function progress({ place, stage, done, total, eta, preview, picture, pictures }) {
  if (place) {
    say(place === 1 ? "One picture is before yours." : `${place} pictures are before yours.`, `Done in ${inWords(eta)}.`);
  } else {
    const which = pictures > 1 && picture ? `Picture ${picture} of ${pictures}, ` : "";
    say(stage ? `${which}${preset.stages[stage] ?? stage}:` : "It is your turn.", stage ? `${done} of ${total}, ${inWords(eta)} left` : "");
  }
  $("bar").max = total || 1;
  if (stage) $("bar").value = done;
  if (preview) {
    frame(preview, `Preview ${done < total ? "during" : "after"} ${preset.stages[stage] ?? stage}`);
    $("frame").classList.add("preview");
  }
}

async function arrived(answer) {
  const images = answer.images ?? [answer.image];
  const { prompt, negative_prompt, preset: name, settings, seconds, notes } = answer;
  let first = null;
  for (const [i, image] of images.entries()) {
    const seed = answer.seed + i;
    const about = { prompt, negative_prompt, seed, preset: name, settings: { ...settings, seed }, seconds, notes, of: images.length };
    const entry = await history.add({ blob: blobOf(image), ...about });
    first ??= entry;
  }
  show(first);
  say(images.length > 1 ? `Done: ${images.length} pictures.` : "Done.");
  if (answer.settings_digest !== preset.settings_digest) await loadPreset($("preset-name").value); // promoted meanwhile
}

/** The very bytes of a data URL, with the text in them; the page's policy lets nothing be fetched but from the server. */
function blobOf(url) {
  return new Blob([Uint8Array.from(atob(url.slice(url.indexOf(",") + 1)), (each) => each.charCodeAt(0))], { type: "image/png" });
}

function busy(whether) {
  form.classList.toggle("busy", whether);
  $("generate").setAttribute("aria-disabled", whether); // not `disabled`, which would take the keyboard's focus away
  if (!whether && document.activeElement === $("cancel")) $("generate").focus();
  $("cancel").disabled = !whether;
  $("bar").removeAttribute("value");
}

// --- showing

/** Makes room for the picture that is asked for, so that nothing moves when it comes. */
function expect() {
  const side = (name) => (inputOf(name) && read(inputOf(name))) || preset?.settings[name] || 1;
  $("frame").style.setProperty("--ratio", side("width") / side("height"));
}

function frame(source, alt) {
  $("frame").classList.remove("preview");
  $("picture").hidden = !source;
  $("empty").hidden = Boolean(source);
  $("picture").alt = alt;
  if (source) $("picture").src = source;
}

function show(entry) {
  shown = entry;
  URL.revokeObjectURL(link);
  link = entry ? URL.createObjectURL(entry.blob) : "";
  frame(link, entry ? `Picture of: ${entry.prompt}` : "");
  $("again").disabled = !entry;
  const download = $("download");
  for (const name of ["href", "download", "aria-disabled"]) download.removeAttribute(name);
  if (entry) {
    const { width, height } = entry.settings;
    $("frame").style.setProperty("--ratio", width / height);
    download.href = link;
    download.download = `${entry.preset}-${entry.seed}.png`;
  } else download.setAttribute("aria-disabled", "true");
  describe(entry);
  list();
}

function describe(entry) {
  $("made-with").hidden = !entry;
  $("caption").replaceChildren();
  if (!entry) return;
  const pictures = entry.of > 1 ? `${entry.of} pictures in ` : "";
  const took = entry.seconds < 0.05 ? "made before" : `${pictures}${entry.seconds.toFixed(1)} s`;
  const facts = [`Seed ${entry.seed}`, took, `preset ${entry.preset}`, new Date(entry.when).toLocaleString()];
  const lines = [facts.join(" · "), ...entry.notes].map((line) => element("p", { className: "faint" }, line));
  $("caption").replaceChildren(element("p", {}, entry.prompt), ...lines);
  $("made-with").querySelector("dl").replaceChildren(...rows(entry.settings));
}

function list() {
  const items = history.all().map((entry) => {
    const button = element("button", { type: "button", "aria-label": `Show seed ${entry.seed}: ${entry.prompt}` });
    button.append(element("img", { src: entry.thumb, alt: "" }));
    if (entry === shown) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => {
      show(entry);
      $("history").querySelector("[aria-current]").focus(); // the list was drawn anew
    });
    return element("li", {}, button);
  });
  $("history").replaceChildren(...items);
  $("clear").disabled = !items.length;
}

function useAgain() {
  for (const [name, value] of Object.entries(shown.settings)) {
    const input = inputOf(name);
    if (input && (OWN.includes(name) || preset.allow.includes(name))) write(input, value);
  }
  $("prompt").focus();
}

async function forget() {
  if (!confirm("Delete all pictures of this browser's history? Those that you downloaded stay.")) return;
  await history.clear();
  show(null);
  say("The history is deleted.");
  $("history").focus();
}

// --- what a person does

form.addEventListener("submit", (event) => {
  event.preventDefault();
  generate();
});
$("cancel").addEventListener("click", () => running?.abort());
$("again").addEventListener("click", useAgain);
$("clear").addEventListener("click", forget);
$("preset-name").addEventListener("change", () => loadPreset($("preset-name").value).catch(lost));
$("prompt").addEventListener("input", () => $("prompt").removeAttribute("aria-invalid"));
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  } else if (event.key === "Escape") running?.abort();
});

loadServer().catch(lost);
const lasting = await history.open();
if (!lasting) $("history-note").textContent = "This browser keeps nothing for this page: the history ends with it.";
if (!shown && history.all().length) show(history.all()[0]);
