// A restarted kernel leaves widgets that look alive: say so, and let nobody drag a dead slider.

function render({ model, el }) {
  el.classList.add("wb-alive");
  el.setAttribute("role", "alert");
  model.on("comm_live_update", () => setTimeout(() => {  // ipywidgets sets the class on the same event, after this
    const gone = Boolean(el.closest(".jupyter-widgets-disconnected"));
    el.textContent = gone ? model.get("words") : "";
    for (const part of el.parentElement.querySelectorAll(".wb-controls")) part.inert = gone;
  }));
}

export default { render };
