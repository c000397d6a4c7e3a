// A blind ballot: two faces, the keys A, B, T and U. Python alone knows which cells they are.

const GONE = "The kernel was restarted: run this cell again; everything made so far is on disk.";

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function render({ model, el }) {
  const button = (text, key, act) => {
    const node = make("button", { type: "button", "aria-keyshortcuts": key }, make("kbd", {}, key.toUpperCase()), ` ${text}`);
    node.onclick = act;
    return node;
  };
  const pictures = { a: make("img", { alt: "Face A" }), b: make("img", { alt: "Face B" }) };
  const acts = {
    a: button("this face is better", "a", () => vote("a")),
    b: button("this face is better", "b", () => vote("b")),
    t: button("no difference", "t", () => vote("tie")),
    u: button("take back the last vote", "u", () => model.send({ do: "undo" })),
  };
  const figures = ["a", "b"].map((side) => make("figure", {}, pictures[side], make("figcaption", {}, acts[side])));
  const pair = make("div", { class: "wb-pair" }, ...figures);
  const count = make("span", { class: "wb-count", role: "status" });
  const whole = make("input", { type: "checkbox" });
  const show = make("button", { type: "button" }, "Show how the score agrees");
  const agreement = make("div", { class: "wb-agreement" });
  const alert = make("p", { class: "wb-alert", role: "alert" });
  const said = make("p", { class: "wb-said", role: "status" });
  const how = make("p", { class: "wb-how" });
  const root = make(
    "section",
    { class: "wb-ballot", tabindex: "0", role: "group", "aria-label": "Blind vote" },
    how, alert, pair, make("div", { class: "wb-row" }, acts.t, acts.u, make("label", {}, whole, " whole pictures"), count),
    said, make("div", { class: "wb-row" }, show), agreement,
  );
  el.append(root);
  let voted = -1; // the turn that was voted on last
  let gone = false;

  function vote(choice) {
    const { turn, open } = model.get("view");
    if (!open || gone || voted === turn) return;
    voted = turn;
    model.send({ do: "vote", choice, turn });
  }

  root.addEventListener("keydown", (event) => {
    // JupyterLab listens further out and takes A, B and the others for its own: A inserts a cell
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (!(key in acts)) return;
    event.preventDefault();
    if (!acts[key].disabled) acts[key].click();
  });
  root.addEventListener("click", (event) => { // a click anywhere makes the keys work
    if (!root.contains(document.activeElement) || event.target.tagName === "IMG") root.focus();
  });
  whole.onchange = () => {
    model.set("whole", whole.checked);
    model.save_changes();
  };
  show.onclick = () => model.send({ do: "agreement" });

  function picture(side) {
    const bytes = model.get(side);
    if (pictures[side].src) URL.revokeObjectURL(pictures[side].src);
    if (bytes.byteLength) pictures[side].src = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
    else pictures[side].removeAttribute("src");
  }

  function draw() {
    const view = model.get("view");
    pair.hidden = !view.open;
    for (const key of ["a", "b", "t"]) acts[key].disabled = gone || !view.open;
    acts.u.disabled = gone || !view.votes;
    show.disabled = gone || !view.votes;
    whole.checked = model.get("whole");
    count.textContent = `${view.votes} vote${view.votes === 1 ? "" : "s"}${view.ties ? `, ${view.ties} of them ties` : ""}`;
    how.textContent = view.open
      ? "Which face is crisper and still right? Click into this box (or Tab to it), then press A or B, T for no difference, U to take the last vote back."
      : view.none ? "There is nothing to compare yet: it takes two scored pictures of one prompt and seed." : "Every pair has been voted on. Thank you.";
    agreement.replaceChildren();
    if (view.agreement.length) {
      const cells = (tag, texts) => texts.map((text, i) => make(i ? tag : "th", i && tag === "td" ? {} : { scope: tag === "th" ? "col" : "row" }, text));
      agreement.append(make(
        "table", {}, make("caption", {}, "How often the sharper-scored face was the one you preferred; chance is 50 %"),
        make("thead", {}, make("tr", {}, ...cells("th", ["pairs", "votes", "ties", "the score agreed", "95 % interval"]))),
        make("tbody", {}, ...view.agreement.map((row) => make("tr", {}, ...cells("td", row)))),
      ));
    }
  }

  function say() {
    if (gone) return;
    const { text = "", error = false } = model.get("said");
    alert.textContent = error ? text : "";
    said.textContent = error ? "" : text;
    alert.hidden = !alert.textContent;
    said.hidden = !said.textContent;
    if (error) voted = -1; // it may be pressed again
  }

  model.on("change:a", () => picture("a"));
  model.on("change:b", () => picture("b"));
  model.on("change:view", draw);
  model.on("change:said", say);
  model.on("comm_live_update", () => {
    gone = true;
    alert.textContent = GONE;
    alert.hidden = false;
    draw();
  });
  picture("a");
  picture("b");
  draw();
  say();
  return () => Object.values(pictures).forEach((image) => URL.revokeObjectURL(image.src));
}

export default { render };
