// A blind ballot: two faces, the keys A, B, T and U. Python alone knows which cells they are.

function render({ model, el }) {
  const button = (text, key, act) =>
    make("button", { type: "button", "aria-keyshortcuts": key, onclick: act }, make("kbd", {}, key.toUpperCase()), ` ${text}`);
  const picture = (alt) => make("img", { alt, draggable: "false", onload: () => closer.paint() });
  const pictures = { a: picture("Face A"), b: picture("Face B") };
  const boxes = Object.values(pictures).map((image) => make("div", { class: "wb-look" }, image));
  const choices = {
    a: button("this face is better", "a", () => vote("a")),
    b: button("this face is better", "b", () => vote("b")),
    t: button("no difference", "t", () => vote("tie")),
    u: button("take back the last vote", "u", () => model.send({ do: "undo" })),
  };
  const figures = ["a", "b"].map((side, i) => make("figure", {}, boxes[i], make("figcaption", {}, choices[side])));
  const pair = make("div", { class: "wb-pair" }, ...figures);
  const count = make("span", { class: "wb-count", role: "status" });
  const whole = make("input", { type: "checkbox", onchange: () => set(model, { whole: whole.checked }) });
  const show = make("button", { type: "button", onclick: () => model.send({ do: "agreement" }) }, "Show how the score agrees");
  const agreement = make("div", { class: "wb-agreement" });
  const { alert, status, isGone } = sayings(model, draw);
  const how = make("p", { class: "wb-how" });
  const closer = zooming(pair, places); // both faces at once, so that neither is looked at more closely
  const root = make(
    "section",
    { class: "wb-box wb-ballot", tabindex: "0", role: "group", "aria-label": "Blind vote", onkeydown: press, onclick: focus },
    how, alert, pair, make("div", { class: "wb-row" }, choices.t, choices.u, make("label", {}, whole, " whole pictures"), closer.bar, count),
    status, make("div", { class: "wb-row" }, show), agreement,
  );
  el.append(root);
  let voted = -1; // the turn that was voted on last

  function vote(choice) {
    const { turn, open } = model.get("view");
    if (!open || isGone() || voted === turn) return;
    voted = turn;
    model.send({ do: "vote", choice, turn });
  }

  function places() {
    return boxes.map((box) => ({ box, images: [box.firstChild], size: [box.firstChild.naturalWidth, box.firstChild.naturalHeight], base: WHOLE }))
      .filter((place) => place.size[0]);
  }

  function press(event) {
    keepKey(event);
    if (closer.key(event, true)) return;
    if (event.repeat || withModifier(event)) return;
    const key = event.key.toLowerCase();
    if (!(key in choices)) return;
    event.preventDefault();
    if (!choices[key].disabled) choices[key].click();
  }

  function focus(event) { // a click anywhere makes the keys work
    if (!root.contains(document.activeElement) || event.target.tagName === "IMG") root.focus();
  }

  function fill(side) {
    const bytes = model.get(side);
    if (pictures[side].src) revoke([pictures[side].src]);
    if (bytes.byteLength) pictures[side].src = jpegUrl(bytes);
    else pictures[side].removeAttribute("src");
  }

  function draw() {
    const view = model.get("view");
    pair.hidden = !view.open;
    for (const key of ["a", "b", "t"]) choices[key].disabled = isGone() || !view.open;
    choices.u.disabled = isGone() || !view.votes;
    show.disabled = isGone() || !view.votes;
    whole.checked = model.get("whole");
    count.textContent = `${view.votes} vote${view.votes === 1 ? "" : "s"}${view.ties ? `, ${view.ties} of them ties` : ""}`;
    how.textContent = view.open
      ? "Which face is crisper and still right? Click into this box (or Tab to it), then press A or B, T for no difference, U to take the last vote back."
      : view.none ? "There is nothing to compare yet: it takes two scored pictures of one prompt and seed." : "Every pair has been voted on. Thank you.";
    agreement.replaceChildren(...(view.agreement.length ? [agreementTable(view.agreement)] : []));
  }

  model.on("change:a", () => fill("a"));
  model.on("change:b", () => fill("b"));
  model.on("change:view", draw);
  model.on("change:said", () => {
    if (model.get("said").error) voted = -1; // the vote was not recorded: it may be pressed again
  });
  fill("a");
  fill("b");
  draw();
  return () => {
    closer.stop();
    revoke(Object.values(pictures).map((image) => image.src));
  };
}

// `rows`: [which pairs, votes, ties, agreed, interval] in words
function agreementTable(rows) {
  const names = ["pairs", "votes", "ties", "the score agreed", "95 % interval"];
  return make(
    "table", {}, make("caption", {}, "How often the sharper-scored face was the one you preferred; chance is 50 %"),
    make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows.map(([pairs, ...figures]) => make(
      "tr", {}, make("th", { scope: "row" }, pairs), ...figures.map((text) => make("td", {}, text)),
    ))),
  );
}

export default { render };
