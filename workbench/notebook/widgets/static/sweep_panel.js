// The head of a sweep: what is planned, Start and Stop, and how far each stage is.

function render({ model, el }) {
  const title = make("h3");
  const state = make("span", { class: "wb-state" });
  const start = make("button", { type: "button", class: "wb-start" }, "Start");
  const stop = make("button", { type: "button" }, "Stop");
  const plan = make("p");
  const warnings = make("ul");
  const bars = make("div", { class: "wb-bars" });
  const now = make("p", { class: "wb-now" });
  const { alert, status, isGone } = sayings(model, draw);
  el.append(make(
    "section", { class: "wb-box wb-panel", "aria-label": "Sweep", onkeydown: keepKey },
    make("header", {}, title, state, start, stop), plan, warnings, alert, status, bars, now,
  ));

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
    start.disabled = isGone() || !view.start;
    start.hidden = view.over && !view.retry;
    stop.hidden = view.over;
    stop.disabled = isGone() || !view.stop;
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

  model.on("change:view", draw);
  draw();
}

export default { render };
