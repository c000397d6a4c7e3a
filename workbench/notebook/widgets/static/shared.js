// What the widgets' scripts have in common. anywidget takes one module per widget and there is no build step, so Python
// puts this text in front of each script (scripts.py): plain functions, nothing is imported or exported.

const KERNEL_GONE = "The kernel was restarted: run this cell again; everything made so far is on disk.";

// A DOM node. `attributes`: "onclick" and other names that begin with "on" are event listeners; true sets an attribute
// without a value; false, null and undefined leave it out, except that aria-* attributes are set to "true" and "false".
// Children are nodes or text; null is left out.
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-")) node.setAttribute(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

// Set traits of the model and send them to Python in one message.
function set(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}

// --- pictures

// An object URL for the bytes of a JPEG. The page keeps the bytes until the URL is revoked.
function jpegUrl(bytes) {
  return URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
}

// {id: object URL} for `items`, each with an `id` and the bytes of its `picture`. The URLs of `old` are used again where
// the id is the same, and revoked where it is gone.
function jpegUrls(items, old) {
  const fresh = Object.fromEntries(items.map((item) => [item.id, old[item.id] ?? jpegUrl(item.picture)]));
  revoke(Object.entries(old).filter(([id]) => !(id in fresh)).map(([, url]) => url));
  return fresh;
}

function revoke(urls) {
  for (const url of urls) URL.revokeObjectURL(url);
}

// --- keys

function withModifier(event) {
  return event.ctrlKey || event.metaKey || event.altKey;
}

// Keep a key from JupyterLab, which listens further out in the bubbling phase: it takes A and B for "insert a cell", an
// arrow key for "fold the heading". (data-lm-suppress-shortcuts on the root does not stop it: its selector still matches
// a button inside that has the focus.) Shortcuts with Ctrl or Command are left to JupyterLab.
function keepKey(event) {
  if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
}

// --- what a panel says

// The two lines in which a panel says what became of the last press: `alert` for an error, `status` for anything else. They
// follow the trait `said`, {text, error}, and `tell(text, error)`. After the kernel is gone `alert` says so for good,
// `isGone()` is true and `whenGone` is called; left out, somebody else says it.
function sayings(model, whenGone = null) {
  const alert = make("p", { class: "wb-alert", role: "alert", hidden: true });
  const status = make("p", { class: "wb-status", role: "status", hidden: true });
  let gone = false;

  function say() {
    const { text = "", error = false } = model.get("said");
    tell(text, error);
  }

  function tell(text, error) {
    if (gone) return;
    alert.textContent = error ? text : "";
    status.textContent = error ? "" : text;
    alert.hidden = !alert.textContent;
    status.hidden = !status.textContent;
  }

  model.on("change:said", say);
  if (whenGone) model.on("comm_live_update", () => {
    gone = true;
    alert.textContent = KERNEL_GONE;
    alert.hidden = false;
    whenGone();
  });
  say();
  return { alert, status, tell, isGone: () => gone };
}
