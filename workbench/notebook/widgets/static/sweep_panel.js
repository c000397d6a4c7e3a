// The head of a sweep: what is planned, Start and Stop, how far each stage is, and when it has ended what came out.

function render({ model, el }) {
  const title = make("h3");
  const state = make("span", { class: "wb-state" });
  const start = make("button", { type: "button", class: "wb-start" }, "Start");
  const stop = make("button", { type: "button" }, "Stop");
  const tell = make("button", { type: "button", "aria-pressed": false, title: "A notification when the sweep ends" }, "Tell me");
  const headline = make("p", { class: "wb-headline", role: "status" });
  const plan = make("p");
  const warnings = make("ul");
  const bars = make("div", { class: "wb-bars" });
  const now = make("p", { class: "wb-now" });
  const finer = make("button", { type: "button" }, "Finer around the winner …");
  const proposal = make("div", { class: "wb-proposal", role: "group", "aria-label": "Finer sweep", hidden: true });
  const { alert, status, isGone } = sayings(model, draw);
  let before = model.get("view").state;
  el.append(make(
    "section", { class: "wb-box wb-panel", "aria-label": "Sweep", onkeydown: keys },
    make("header", {}, title, state, start, stop, tell, finer), headline, proposal, plan, warnings, alert, status, bars, now,
  ));

  start.onclick = () => {
    start.disabled = true;
    model.send({ do: "start", retry: model.get("view").retry });
  };
  stop.onclick = () => {
    stop.disabled = true;
    model.send({ do: "stop" });
  };

  // --- when it ends

  tell.onclick = async () => { // the browser asks only where somebody has asked for it
    const told = tell.getAttribute("aria-pressed") !== "true" && (await Notification.requestPermission()) === "granted";
    tell.setAttribute("aria-pressed", String(told));
    if (Notification.permission === "denied") tell.title = "This browser does not allow notifications of this page";
  };

  function ended(view) {
    const words = `${view.title}: ${view.headline || view.state}`;
    const old = document.title;
    const mark = `● ${view.state}: ${view.title}`;
    document.title = mark;
    const back = () => { // until somebody is there
      if (document.title === mark) document.title = old;
      for (const kind of ["pointermove", "keydown"]) window.removeEventListener(kind, back);
    };
    for (const kind of ["pointermove", "keydown"]) window.addEventListener(kind, back);
    if (tell.getAttribute("aria-pressed") === "true") new Notification("Workbench", { body: words });
    tell.setAttribute("aria-pressed", "false");
  }

  // --- the next sweep

  finer.onclick = () => model.send({ do: "propose" });

  function propose(message) {
    if (!message.proposal) return;
    const go = make("button", { type: "button", class: "wb-start", onclick: () => {
      model.send({ do: "finer" });
      close();
    } }, "Start the finer sweep");
    const cancel = make("button", { type: "button", onclick: close }, "Cancel");
    proposal.replaceChildren(make("ul", {}, ...message.proposal.map((line) => make("li", {}, line))), go, cancel);
    proposal.hidden = false;
    go.focus();
  }

  function close() {
    proposal.hidden = true;
    finer.focus();
  }

  function keys(event) {
    keepKey(event);
    if (event.key !== "Escape" || proposal.hidden) return;
    event.preventDefault();
    close();
  }

  function draw() {
    const view = model.get("view");
    title.textContent = view.title;
    state.textContent = view.state;
    state.dataset.state = view.state;
    start.textContent = view.label;
    start.disabled = isGone() || !view.start;
    start.hidden = view.over && !view.retry;
    stop.hidden = view.over;
    stop.disabled = isGone() || !view.stop;
    tell.hidden = !view.running || !("Notification" in window);
    tell.disabled = isGone();
    headline.textContent = view.headline;
    headline.hidden = !view.headline;
    finer.hidden = !view.headline;
    finer.disabled = isGone();
    plan.textContent = view.plan;
    plan.hidden = !view.plan;
    warnings.replaceChildren(...view.warnings.map((text) => make("li", {}, text)));
    warnings.hidden = !view.warnings.length;
    bars.replaceChildren(...view.bars.flatMap(([name, done, total]) => [
      make("span", {}, name),
      make("progress", { max: Math.max(total, 1), value: done, "aria-label": `${name} done` }),
      make("span", {}, `${done} of ${total}`),
    ]));
    bars.hidden = Boolean(view.headline);
    now.textContent = view.now;
    if (["running", "stopping"].includes(before) && ["finished", "stopped", "failed", "died"].includes(view.state)) {
      if (view.state !== "finished" || view.headline) ended(view);
      else return; // its headline comes a moment later
    }
    before = view.state;
  }

  model.on("change:view", draw);
  model.on("msg:custom", propose);
  draw();
}

export default { render };
