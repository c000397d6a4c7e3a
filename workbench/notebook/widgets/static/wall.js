// The sweep wall. Python sends what is on the page (`view`); pictures are asked for a few at a time, the visible ones first.

const AT_ONCE = 16; // pictures in one message
const KEPT = 1500; // pictures in memory, about 6 kB each
// cividis, safe for colour-blind eyes: nine of its colours, from 0 to 1
const CIVIDIS = [
  [0, 34, 78], [26, 56, 111], [67, 78, 108], [97, 101, 111], [125, 124, 120], [155, 148, 118], [188, 174, 108],
  [222, 201, 88], [254, 232, 56],
];

function ramp(shade) {
  const at = Math.min(Math.max(shade, 0), 1) * (CIVIDIS.length - 1);
  const i = Math.min(Math.floor(at), CIVIDIS.length - 2);
  return CIVIDIS[i].map((low, c) => Math.round(low + (CIVIDIS[i + 1][c] - low) * (at - i)));
}

function luminance(rgb) {
  const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function option(value, text, chosen) {
  return make("option", { value, selected: value === chosen }, text);
}

function render({ model, el }) {
  const urls = new Map(); // "cell:zoom:version" -> object URL of its tile
  const missing = new Map(); // the same -> why there is none
  const buttons = new Map(); // cell -> its button
  const visible = new Set(); // cells on the screen
  const unfolded = new Set(["Sharpness", "diff"]); // parts of the large view
  let drawn = ""; // what the table was built from: while that stays, cells are updated in place
  let asking = null;
  let focused = null; // key of the button that Tab reaches
  let follow = null;

  const bar = make("div", { class: "wb-bar", role: "group", "aria-label": "What the wall shows" });
  const pager = make("div", { class: "wb-bar", role: "group", "aria-label": "Pages" });
  const { alert, status, tell, isGone } = sayings(model, disable);
  const files = pictureFiles(model, tell);
  const line = make("div", { class: "wb-line", hidden: true });
  const table = make("table", { role: "grid", onkeydown: walk });
  const scroller = make("div", { class: "wb-scroll" }, table);
  const detail = make("section", { class: "wb-detail", "aria-label": "Large view", hidden: true });
  const main = make("div", { class: "wb-main" }, scroller, detail);
  const root = make("div", { class: "wb-box wb-wall", onkeydown: keys }, bar, pager, alert, status, line, main);
  const closer = zooming(main, places);
  const save = menuButton("Save …", "Save the wall as a picture", () => [
    ["This page as PNG", files.actions(() => "page")[0][1]], ["All cells as PNG (contact sheet)", files.actions(() => "sheet")[0][1]],
  ], { "data-control": "save" });
  el.append(root);

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const cell = Number(entry.target.dataset.cell);
      if (entry.isIntersecting) visible.add(cell);
      else visible.delete(cell);
    }
    pump();
  }, { rootMargin: "200px" });

  // --- controls

  function drawBar() {
    const view = model.get("view");
    const roles = model.get("roles");
    const held = root.contains(document.activeElement) ? document.activeElement.dataset.control : null;
    const chooser = ([name, label]) =>
      make("label", {}, `${label} `, make(
        "select",
        {
          "data-control": name,
          onchange: (event) => set(model, { roles: { ...model.get("roles"), [name]: event.target.value }, page: 0 }),
        },
        ...["rows", "columns", "pages"].map((role) => option(role, role, roles[name])),
      ));
    const colour = make(
      "select",
      { "data-control": "colour", onchange: (event) => set(model, { colour: event.target.value }) },
      ...view.measures.map(([group, measures]) => make(
        "optgroup", { label: group }, ...measures.map(([name, text]) => option(name, text, model.get("colour"))),
      )),
    );
    const zoom = make("input", {
      type: "checkbox", "data-control": "zoom", checked: model.get("zoom"),
      onchange: (event) => set(model, { zoom: event.target.checked }),
    });
    const legend = make(
      "span", { class: "wb-legend" }, view.low,
      make("span", {
        class: "wb-ramp",
        style: `background: linear-gradient(to right, ${CIVIDIS.map((c) => `rgb(${c})`).join(", ")})`,
      }),
      view.high,
    );
    bar.replaceChildren(
      ...Object.entries(view.dimensions).map(chooser),
      make("label", {}, "colour ", colour),
      make("label", {}, zoom, " zoom on faces"),
      ...(view.low === "" ? [] : [legend]),
      ...save,
    );
    const choose = make(
      "select",
      { "data-control": "page", "aria-label": "Page", onchange: (event) => set(model, { page: Number(event.target.value) }) },
      ...view.pages.map((text, i) => option(String(i), text.replaceAll("\n", ", "), String(view.page))),
    );
    const turn = (by, text, name) =>
      make("button", {
        "data-control": name, "aria-label": name, disabled: !(view.page + by in view.pages),
        onclick: () => set(model, { page: view.page + by }),
      }, text);
    pager.hidden = view.pages.length < 2;
    pager.replaceChildren(turn(-1, "‹", "previous page"), choose, turn(1, "›", "next page"));
    if (held) root.querySelector(`[data-control="${held}"]`)?.focus();
  }

  // --- the table

  function order(labels, side) {
    const pinned = model.get("pinned")[side] ?? [];
    const first = labels.map((_, i) => i).filter((i) => pinned.includes(labels[i]));
    return [...first, ...labels.map((_, i) => i).filter((i) => !first.includes(i))];
  }

  function header(side, label) {
    const pinned = (model.get("pinned")[side] ?? []).includes(label);
    return make(
      "button",
      {
        class: "wb-head", "data-key": `${side}:${label}`, "aria-pressed": pinned, tabindex: "-1",
        title: pinned ? "Pinned in front; click to let it go" : "Click to pin it in front",
        onclick: () => pin(side, label),
      },
      label || (side === "rows" ? "all" : "picture"),
    );
  }

  function pin(side, label) {
    const all = model.get("pinned");
    const old = all[side] ?? [];
    focused = `${side}:${label}`;
    set(model, { pinned: { ...all, [side]: old.includes(label) ? old.filter((l) => l !== label) : [...old, label] } });
  }

  function draw() {
    const view = model.get("view");
    drawMarks();
    closer.paint();
    drawBar();
    const plan = JSON.stringify([view.title, view.page, view.pages, view.rows, view.columns, model.get("pinned")]);
    if (plan !== drawn) build(view);
    drawn = plan;
    view.cells.forEach((row) => row.forEach(paint));
    pump();
  }

  function build(view) {
    const inside = table.contains(document.activeElement);
    const [rows, columns] = [order(view.rows, "rows"), order(view.columns, "columns")];
    const [top, left] = [scroller.scrollTop, scroller.scrollLeft];
    const pinned = model.get("pinned");
    seen.disconnect();
    visible.clear();
    buttons.clear();
    table.setAttribute("aria-label", `Cells of ${view.title}`);
    root.style.setProperty("--columns", columns.length);
    table.replaceChildren(
      make("thead", {}, make(
        "tr", {}, make("td", { class: "wb-corner" }),
        ...columns.map((c) => make(
          "th", { scope: "col", class: (pinned.columns ?? []).includes(view.columns[c]) ? "wb-pinned" : null },
          header("columns", view.columns[c]),
        )),
      )),
      make("tbody", {}, ...rows.map((r) => make(
        "tr", { class: (pinned.rows ?? []).includes(view.rows[r]) ? "wb-pinned" : null },
        make("th", { scope: "row" }, header("rows", view.rows[r])),
        ...columns.map((c) => make(
          "td", { class: (pinned.columns ?? []).includes(view.columns[c]) ? "wb-pinned" : null },
          place(view.cells[r][c], [view.rows[r], view.columns[c]].filter(Boolean).join(", ")),
        )),
      ))),
    );
    for (const button of buttons.values()) seen.observe(button);
    stick();
    [scroller.scrollTop, scroller.scrollLeft] = [top, left];
    const all = grid().flat().filter(Boolean);
    const home = all.find((b) => b.dataset.key === focused) ?? buttons.values().next().value;
    if (home) home.tabIndex = 0;
    if (inside) home?.focus();
  }

  function stick() { // the first pinned row and column stay on the screen, beside the headers; more would fill it
    const corner = table.querySelector(".wb-corner").getBoundingClientRect();
    scroller.style.setProperty("--top", `${corner.height + 3}px`);
    scroller.style.setProperty("--left", `${corner.width + 3}px`);
    table.querySelector("tbody tr.wb-pinned")?.classList.add("wb-stick-row");
    if (!table.querySelector("thead th.wb-pinned")) return;
    for (const row of table.rows) row.cells[1]?.classList.add("wb-stick-column");
  }

  function place(cell, where) {
    const button = make(
      "button",
      {
        class: "wb-cell", "data-cell": cell.cell, "data-key": `cell:${cell.cell}`, tabindex: "-1",
        onclick: () => open(cell.cell),
      },
      make("span", { class: "wb-tile" }),
      make("span", { class: "wb-value" }),
      make("span", { class: "wb-mark", "aria-hidden": "true" }),
    );
    button.where = where.replaceAll("\n", ", ");
    button.onfocus = () => {
      focused = button.dataset.key;
      for (const other of table.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
      button.tabIndex = 0;
    };
    buttons.set(cell.cell, button);
    return button;
  }

  function key(cell) {
    return `${cell.cell}:${model.get("zoom")}:${cell.version}`;
  }

  function paint(cell) {
    const button = buttons.get(cell.cell);
    if (!button) return;
    const opened = model.get("opened") === cell.cell;
    const url = cell.picture ? urls.get(key(cell)) : undefined;
    const state = JSON.stringify([cell, opened, url, missing.get(key(cell))]);
    if (button.painted === state) return;
    button.painted = state;
    button.wanted = cell.picture && !url && !missing.has(key(cell)) ? cell : null;
    button.setAttribute("aria-expanded", String(opened));
    button.setAttribute("aria-keyshortcuts", "F X");
    const words = [button.where, cell.text || cell.state.replaceAll("_", " ")];
    if (cell.mark) words.push(cell.mark);
    if (cell.flags.length) words.push(`! ${cell.flags.join(", ")}`);
    if (cell.reason) words.push(cell.reason);
    words.push(`cell ${cell.cell}`);
    button.setAttribute("aria-label", words.join("; "));
    button.title = words.join("\n");
    const [tile, strip, mark] = button.children;
    mark.textContent = { favourite: "★", reject: "✕" }[cell.mark] ?? "";
    button.dataset.mark = cell.mark;
    if (url) {
      // the picture stays until the next one is there, so that a zoom does not blink
      const image = tile.querySelector("img") ?? make("img", { alt: "" });
      image.src = url;
      tile.replaceChildren(image);
    } else if (!cell.picture || missing.has(key(cell))) {
      const why = missing.has(key(cell)) ? "picture is gone" : cell.text || cell.state.replaceAll("_", " ");
      tile.replaceChildren(make("span", { class: "wb-word" }, why));
    }
    strip.textContent = cell.picture ? cell.text : "";
    const colour = cell.shade === null ? null : ramp(cell.shade);
    strip.style.background = colour ? `rgb(${colour})` : "";
    strip.style.color = colour ? (luminance(colour) > 0.179 ? "#000" : "#fff") : "";
  }

  // --- pictures: one question at a time, of what is visible then

  function pump() {
    if (asking) return;
    const wanted = [...buttons.values()].filter((b) => b.wanted && visible.has(b.wanted.cell)).slice(0, AT_ONCE);
    if (!wanted.length) return;
    asking = setTimeout(() => { asking = null; }, 20_000); // a kernel that is busy answers later, a dead one never
    model.send({ do: "tiles", cells: wanted.map((b) => b.wanted.cell), zoom: model.get("zoom") });
  }

  function received(message, buffers) {
    if (message.tiles) {
      message.tiles.forEach((name, i) => {
        if (!urls.has(name)) urls.set(name, jpegUrl(buffers[i]));
      });
      for (const [name, why] of Object.entries(message.missing)) missing.set(name, why);
      for (const name of [...urls.keys()].slice(0, Math.max(0, urls.size - KEPT))) {
        revoke([urls.get(name)]);
        urls.delete(name);
      }
      clearTimeout(asking);
      asking = null;
      model.get("view").cells.forEach((row) => row.forEach(paint));
      pump();
    } else if (message.preview) {
      showPreview(message);
    } else if (message.line !== undefined) {
      opensTuner(message.line);
    }
  }

  // the tuner of this notebook shows the cell now, or `code` would open one
  function opensTuner(code) {
    line.hidden = !code;
    if (!code) return document.querySelector(".wb-tuner")?.scrollIntoView({ behavior: "smooth", block: "start" });
    const copy = make("button", { type: "button", onclick: () => copyText(code).then(() => tell("Copied; paste it into a new cell and run it.", false)) }, "Copy");
    line.replaceChildren(make("pre", { tabindex: "0" }, code), copy);
  }

  // --- favourites and rejects

  function markOf(cell) {
    return model.get("view").cells.flat().find((each) => each.cell === cell);
  }

  function toggleMark(cell, mark) {
    const now = markOf(cell);
    if (!now?.picture || isGone()) return;
    model.send({ do: "mark", cell, mark: now.mark === mark ? null : mark });
  }

  // --- keys

  function grid() {
    return [...table.rows].map((row) => [...row.cells].map((cell) => cell.querySelector("button")));
  }

  function walk(event) {
    const rows = grid();
    const r = rows.findIndex((row) => row.includes(document.activeElement));
    if (r < 0 || withModifier(event)) return;
    const c = rows[r].indexOf(document.activeElement);
    const moves = {
      ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1],
      Home: [r, 1], End: [r, rows[r].length - 1],
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [nr, nc] = moves[event.key];
    const next = rows[nr]?.[nc];
    if (!next) return;
    document.activeElement.tabIndex = -1;
    next.tabIndex = 0;
    focused = next.dataset.key;
    next.focus();
    next.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (model.get("opened") >= 0 && next.dataset.cell) { // leafing through with the large view open
      clearTimeout(follow);
      follow = setTimeout(() => open(Number(next.dataset.cell)), 200);
    }
  }

  function keys(event) {
    keepKey(event);
    if (!event.target.closest("input, select, textarea") && (marks(event) || closer.key(event, event.target === look))) return;
    if (event.key !== "Escape" || model.get("opened") < 0) return;
    event.preventDefault();
    const opened = model.get("opened");
    open(-1);
    buttons.get(opened)?.focus();
  }

  function marks(event) { // F and X, in the table and in the large view
    const cell = event.target.dataset.cell ?? (detail.contains(event.target) ? model.get("opened") : undefined);
    const mark = { f: "favourite", x: "reject" }[event.key.toLowerCase()];
    if (!mark || cell === undefined || withModifier(event)) return false;
    event.preventDefault();
    toggleMark(Number(cell), mark);
    return true;
  }

  // --- the large view

  function open(cell) {
    clearTimeout(follow);
    if (cell !== model.get("opened")) set(model, { opened: cell });
  }

  function fold(name, title, ...children) {
    const box = make("details", { open: unfolded.has(name) }, make("summary", {}, title), ...children);
    box.addEventListener("toggle", () => (box.open ? unfolded.add(name) : unfolded.delete(name)));
    return box;
  }

  function rowsOf(lines, names = null) {
    return make(
      "table", {},
      names ? make("thead", {}, make("tr", {}, ...names.map((n) => make("th", { scope: "col" }, n)))) : null,
      make("tbody", {}, ...lines.map(([first, ...rest]) => make(
        "tr", {}, make("th", { scope: "row" }, first), ...rest.map((text) => make("td", {}, text)),
      ))),
    );
  }

  let waits = false;

  function soon() { // both parts of the large view come in one message, as two events
    if (waits) return;
    waits = true;
    queueMicrotask(() => {
      waits = false;
      drawDetail();
    });
  }

  function drawDetail() {
    const about = model.get("detail");
    revoke([shown, sharp].filter(Boolean));
    shown = sharp = "";
    look = null;
    line.hidden = true;
    detail.hidden = about.cell === undefined;
    main.classList.toggle("wb-open", !detail.hidden);
    if (detail.hidden) return detail.replaceChildren();
    const bytes = model.get("picture");
    const close = make("button", { "aria-label": "Close the large view", title: "Close (Escape)", onclick: () => {
      open(-1);
      buttons.get(about.cell)?.focus();
    } }, "×");
    const children = [make("header", {},
      make("h3", { "aria-live": "polite" }, about.title, make("small", {}, ` ${about.number}`)), close)];
    if (bytes.byteLength) {
      shown = jpegUrl(bytes);
      const image = make("img", { class: "wb-large", src: shown, alt: `${about.title}, large`, draggable: "false", onload: () => closer.paint() });
      look = make("div", { class: "wb-look", role: "group", tabindex: "0", "aria-label": "Picture", "aria-keyshortcuts": "+ - 0 1 F X" }, image);
      const acts = [
        ...files.actions(() => String(about.cell)), ["Open in tuner", () => model.send({ do: "tune", cell: about.cell })],
      ];
      children.push(look, make("div", { class: "wb-actions" }, closer.bar,
        markButton("favourite", "★ Favourite", "F"), markButton("reject", "✕ Reject", "X"),
        ...acts.map(([text, act]) => make("button", { type: "button", onclick: act }, text))));
    }
    if (about.words) children.push(make("p", { class: "wb-word" }, about.words));
    if (about.flags.length) children.push(make("p", { class: "wb-flags" }, `! ${about.flags.join(", ")}`));
    if (about.promotable) children.push(promotion(about.cell));
    if (about.settings.length) {
      for (const [title, parts] of about.parts) {
        const lines = parts.map(([name, value, meaning]) => [make("span", { title: meaning }, name), value]);
        children.push(fold(title, title, rowsOf(lines)));
      }
      const against = make("p", {}, about.against);
      const diff = about.diff.length ? [rowsOf(about.diff, ["setting", "production", "this cell"])] : [];
      children.push(fold("diff", "Against production", against, ...diff), fold("settings", "Settings", rowsOf(about.settings)));
      children.push(make("p", { class: "wb-hint" }, "In Python: ", make("code", {}, "wall.selected"), ` · ${about.file}`));
    }
    detail.replaceChildren(...children);
    detail.dataset.opened = about.cell; // whoever opened it from elsewhere waits for it
    drawMarks();
    closer.paint();
  }

  function markButton(mark, text, key) {
    return make("button", {
      type: "button", "data-mark": mark, "aria-keyshortcuts": key, title: `${text} (${key})`,
      onclick: () => toggleMark(model.get("opened"), mark),
    }, text);
  }

  function drawMarks() {
    const now = markOf(model.get("opened"))?.mark;
    for (const button of detail.querySelectorAll("[data-mark]")) button.setAttribute("aria-pressed", button.dataset.mark === now);
  }

  let shown = ""; // object URL of the large picture, small as it came,
  let sharp = ""; // and of its PNG, which comes when somebody looks closer
  let look = null; // its box

  function places() {
    const about = model.get("detail");
    if (!look?.isConnected) return [];
    const base = model.get("zoom") && about.face?.length ? about.face : WHOLE;
    return [{ box: look, images: [look.firstChild], size: about.size, base, sharper }];
  }

  async function sharper() {
    const image = look.firstChild;
    if (image.asked) return;
    image.asked = true;
    const { png } = await files.ask(String(model.get("detail").cell), "png").catch(() => ({}));
    if (!png || !image.isConnected) return;
    sharp = URL.createObjectURL(png);
    image.src = sharp;
  }

  function promotion(cell) {
    const name = make("input", { value: "production", size: 14, class: "wb-name" });
    const note = make("input", { value: "", size: 24, class: "wb-note" });
    const preview = make("div", { class: "wb-preview", "aria-live": "polite" });
    const ask = make("button", { type: "submit", class: "wb-ask" }, "Promote …");
    const forget = () => preview.replaceChildren();
    name.addEventListener("input", forget);
    const form = make(
      "form", {
        class: "wb-promote", "aria-label": "Promote this cell",
        onsubmit: (event) => {
          event.preventDefault();
          model.send({ do: "preview", cell, name: name.value.trim() });
        },
      },
      make("label", {}, "preset ", name), make("label", {}, "note ", note), ask, preview,
    );
    form.dataset.cell = cell;
    return form;
  }

  function showPreview({ duel, preview, name, cell }) {
    const form = detail.querySelector(`form[data-cell="${cell}"]`);
    if (!form || form.querySelector(".wb-name").value.trim() !== name) return;
    const box = form.querySelector(".wb-preview");
    const really = make("button", { type: "button", class: "wb-really", onclick: () => {
      model.send({ do: "promote", cell, name, note: form.querySelector(".wb-note").value });
      box.replaceChildren();
      form.querySelector(".wb-ask").focus(); // or it falls to the page, where Escape is nobody's
    } }, "Run the duel");
    const cancel = make("button", { type: "button", onclick: () => {
      box.replaceChildren();
      form.querySelector(".wb-ask").focus();
    } }, "Cancel");
    box.replaceChildren(
      ...duel.map((line) => make("p", {}, line)), make("p", {}, `If it is better, '${name}' becomes:`),
      make("pre", { tabindex: "0" }, preview.join("\n")), really, cancel,
    );
    really.focus();
  }

  function disable() { // the kernel is gone
    for (const control of root.querySelectorAll("button, select, input")) control.disabled = true;
  }

  model.on("change:view", draw);
  model.on("change:pinned", draw);
  model.on("change:zoom", draw);
  model.on("change:opened", draw);
  model.on("change:detail", soon);
  model.on("change:picture", soon);
  model.on("msg:custom", received);
  draw();
  drawDetail();
  return () => {
    seen.disconnect();
    closer.stop();
    revoke([...urls.values(), shown, sharp].filter(Boolean));
  };
}

export default { render };
