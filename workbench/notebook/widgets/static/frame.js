// The tuner's frame: which of its two columns is shown where there is room for one only, and keys that ipywidgets lacks.

const FOCUSABLE = "button:not([disabled]), input:not([hidden], [disabled]), select:not([disabled]), textarea, [tabindex='0']";
const COLUMNS = { controls: "Controls", picture: "Picture" };

function render({ model, el }) {
  el.classList.add("wb-frame");
  el.setAttribute("role", "tablist");
  el.setAttribute("aria-label", "Columns");
  const tabs = Object.entries(COLUMNS).map(([name, label]) =>
    make("button", { type: "button", role: "tab", "data-column": name, onclick: () => choose(name) }, label));
  el.append(...tabs);

  // the sheet hides the other column where the panel is narrow
  function choose(name) {
    el.dataset.column = name;
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", tab.dataset.column === name);
      tab.tabIndex = tab.dataset.column === name ? 0 : -1;
    }
  }

  el.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    event.preventDefault();
    const other = tabs.find((tab) => tab.tabIndex < 0);
    choose(other.dataset.column);
    other.focus();
  });
  choose("picture");

  // JupyterLab would run the cell anew
  function renderNow(event) {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    event.stopPropagation();
    document.activeElement.dispatchEvent(new Event("change", { bubbles: true })); // a text that is still being typed
    model.send({ event: "render" });
  }

  // ipywidgets' headers of groups are plain text that only a mouse can press
  function head(header) {
    const group = header.parentElement; // it has the class that says so
    const state = () => header.setAttribute("aria-expanded", group.classList.contains("jupyter-widget-Collapse-open"));
    Object.assign(header, { tabIndex: 0, role: "button" });
    header.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      header.click();
    });
    new MutationObserver(state).observe(group, { attributes: true, attributeFilter: ["class"] });
    state();
  }

  // A button that is disabled or removed when it was pressed would leave the focus nowhere: it goes to what is next to it.
  let held = null; // {the element in focus, what it is in, from the inside out}

  function hold(event) {
    held = { element: event.target, inside: [] };
    for (let node = event.target.parentElement; node && node !== panel; node = node.parentElement) held.inside.push(node);
  }

  function keepFocus() {
    // a button that was just disabled has the focus until the page is drawn again
    const nowhere = [document.body, held?.element].includes(document.activeElement);
    if (!held || !nowhere || (held.element.isConnected && !held.element.disabled)) return;
    for (const place of held.inside.filter((node) => node.isConnected)) {
      const next = [...place.querySelectorAll(FOCUSABLE)].find((each) => each.checkVisibility({ visibilityProperty: true }));
      if (next) return next.focus();
    }
  }

  function look() {
    for (const header of panel.querySelectorAll(".jupyter-widget-Collapse-header:not([role])")) head(header);
    keepFocus();
  }

  let panel = null;
  const watch = new MutationObserver(look);
  requestAnimationFrame(() => {
    panel = el.closest(".wb-tuner");
    if (!panel) return;
    panel.addEventListener("keydown", renderNow, true); // before ipywidgets' texts, which let no key out
    panel.addEventListener("focusin", hold);
    watch.observe(panel, { childList: true, subtree: true, attributes: true, attributeFilter: ["disabled"] });
    look();
  });
  return () => watch.disconnect();
}

export default { render };
