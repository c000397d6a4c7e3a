// A restarted kernel leaves widgets that look alive: say so, and let nobody drag a dead slider. And keep a panel's keys
// its own: JupyterLab took "b" on a button for "insert a cell", and an arrow key for "fold the heading".

function render({ model, el }) {
  el.classList.add("wb-alive");
  el.setAttribute("role", "alert");
  // JupyterLab listens further out, in the bubbling phase; Shift+Enter and shortcuts with Ctrl are left to it
  const keep = (event) => {
    if (!event.ctrlKey && !event.metaKey && !(event.shiftKey && event.key === "Enter")) event.stopPropagation();
  };
  requestAnimationFrame(() => el.parentElement?.addEventListener("keydown", keep));
  model.on("comm_live_update", () => setTimeout(() => {  // ipywidgets sets the class on the same event, after this
    const gone = Boolean(el.closest(".jupyter-widgets-disconnected"));
    el.textContent = gone ? model.get("words") : "";
    for (const part of el.parentElement.querySelectorAll(".wb-controls")) part.inert = gone;
  }));
}

export default { render };
