// What came out of a sweep: charts whose dots and bars open their cell, and the ranking.

function render({ model, el }) {
  const charts = make("div", { class: "wb-charts" });
  const ranking = make("div", { class: "wb-ranking" });
  const busy = make("p", { role: "status" });
  const { alert, status, isGone } = sayings(model, () => {});
  const root = make(
    "section", { class: "wb-box wb-outcome", "aria-label": "What came out", onkeydown: keys, onclick: press },
    alert, status, charts, busy, ranking,
  );
  el.append(root);

  function draw() {
    const view = model.get("view");
    for (const { title, svg } of view.charts.slice(charts.children.length)) {
      const figure = make("figure", {}, make("figcaption", {}, title));
      figure.insertAdjacentHTML("beforeend", svg);
      figure.querySelector("[data-cell]")?.setAttribute("tabindex", "0"); // one tab stop a chart; arrow keys walk
      charts.append(figure);
    }
    if (view.ranking && !ranking.hasChildNodes()) ranking.innerHTML = view.ranking;
    busy.textContent = view.busy ? "Drawing the charts …" : "";
    busy.hidden = !view.busy;
  }

  function press(event) {
    const target = event.target.closest("[data-cell]");
    if (target && !isGone()) model.send({ do: "open", cell: Number(target.dataset.cell) });
  }

  function keys(event) {
    keepKey(event);
    const target = event.target.closest("[data-cell]");
    if (!target || withModifier(event)) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      press(event);
    }
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const all = [...target.closest("svg").querySelectorAll("[data-cell]")];
    const next = all[all.indexOf(target) + by];
    if (!next) return;
    target.setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  }

  // the large view is the wall's: it comes a moment later, and gets the focus
  function follow(message, tries = 50) {
    if (message.opened === undefined) return;
    const detail = el.closest(".wb-sweep")?.querySelector(".wb-wall .wb-detail:not([hidden])");
    if (detail?.dataset.opened === String(message.opened)) {
      detail.scrollIntoView({ block: "start" });
      detail.querySelector("button")?.focus({ preventScroll: true });
    } else if (tries) setTimeout(() => follow(message, tries - 1), 100);
  }

  model.on("change:view", draw);
  model.on("msg:custom", (message) => follow(message));
  draw();
}

export default { render };
