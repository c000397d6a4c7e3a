// The head of a sweep: what is planned, Start and Stop, and how far each stage is.

const GONE = "The kernel was restarted: run this cell again; everything made so far is on disk.";

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function render({ model, el }) {
  const title = make("h3");
  const state = make("span", { class: "wb-state" });
  const start = make("button", { type: "button", class: "wb-start" }, "Start");
  const stop = make("button", { type: "button" }, "Stop");
  const plan = make("p");
  const warnings = make("ul");
  const bars = make("div", { class: "wb-bars" });
  const now = make("p", { class: "wb-now" });
  const alert = make("p", { class: "wb-alert", role: "alert" });
  const status = make("p", { class: "wb-status", role: "status" });
  const root = make(
    "section", { class: "wb-panel", "aria-label": "Sweep" },
    make("header", {}, title, state, start, stop), plan, warnings, alert, status, bars, now,
  );
  root.addEventListener("keydown", (event) => { // JupyterLab listens further out, and takes Enter for its own
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  });
  el.append(root);
  let gone = false;

  start.onclick = () => {
    start.disabled = true;
    model.send({ do: "start", retry: model.get("view").retry });
  };
  stop.onclick = () => {
    stop.disabled = true;
    model.send({ do: "stop" });
  };

  function draw() {
    const view = model.get("view");
    title.textContent = view.title;
    state.textContent = view.state;
    state.dataset.state = view.state;
    start.textContent = view.label;
    start.disabled = gone || !view.start;
    start.hidden = view.over && !view.retry;
    stop.hidden = view.over;
    stop.disabled = gone || !view.stop;
    plan.textContent = view.plan;
    plan.hidden = !view.plan;
    warnings.replaceChildren(...view.warnings.map((text) => make("li", {}, text)));
    warnings.hidden = !view.warnings.length;
    bars.replaceChildren(...view.bars.flatMap(([name, done, total]) => [
      make("span", {}, name),
      make("progress", { max: Math.max(total, 1), value: done, "aria-label": `${name} done` }),
      make("span", {}, `${done} of ${total}`),
    ]));
    now.textContent = view.now;
  }

  function say() {
    const { text = "", error = false } = model.get("said");
    if (gone) return;
    alert.textContent = error ? text : "";
    status.textContent = error ? "" : text;
    alert.hidden = !alert.textContent;
    status.hidden = !status.textContent;
  }

  function dead() {
    gone = true;
    alert.textContent = GONE;
    alert.hidden = false;
    draw();
  }

  model.on("change:view", draw);
  model.on("change:said", say);
  model.on("comm_live_update", dead);
  draw();
  say();
}

export default { render };
