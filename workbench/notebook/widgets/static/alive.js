// The first part of a panel of ipywidgets. A restarted kernel leaves widgets that look alive: it says so, and makes the
// panel's controls inert. It also keeps the panel's keys from JupyterLab.

function render({ model, el }) {
  el.classList.add("wb-alive");
  el.setAttribute("role", "alert");
  const keep = (event) => {
    if (event.shiftKey && event.key === "Enter") return; // runs the cell, from a control too
    keepKey(event);
  };
  requestAnimationFrame(() => el.parentElement?.addEventListener("keydown", keep));
  model.on("comm_live_update", () => setTimeout(() => { // ipywidgets sets the class on the same event, after this
    const gone = Boolean(el.closest(".jupyter-widgets-disconnected"));
    el.textContent = gone ? KERNEL_GONE : "";
    for (const part of el.parentElement.querySelectorAll(".wb-controls")) part.inert = gone;
  }));
}

export default { render };
