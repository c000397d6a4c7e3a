// What can be done with any picture: save its PNG, copy it, copy its settings. Python hands the bytes over when they are asked
// for (picture_files.py). Put in front of the scripts that show pictures, behind shared.js.

// Asks the model's panel for files. `tell(text, error)` says what became of it.
function pictureFiles(model, tell) {
  const waiting = new Map(); // token -> [resolve, reject]

  function received(message, buffers) {
    const [resolve, reject] = waiting.get(message.token) ?? [];
    if (!resolve) return; // another view of this widget asked for it
    waiting.delete(message.token);
    if (message.error) reject(new Error(message.error));
    else resolve({ name: message.name, text: message.text, png: buffers?.length ? new Blob([buffers[0]], { type: "image/png" }) : null });
  }

  function ask(id, what) {
    const token = `${Date.now()} ${Math.random()}`;
    return new Promise((resolve, reject) => {
      waiting.set(token, [resolve, reject]);
      model.send({ do: "file", id, what, token });
    });
  }

  async function said(work) {
    tell("Preparing the picture …", false);
    try {
      tell(await work(), false);
    } catch (error) {
      tell(error.message, true);
    }
  }

  const save = (id) => said(async () => {
    const { name, text, png } = await ask(id, "png");
    download(name, png);
    return text ? `Saved ${name}, with its settings inside.` : `Saved ${name}.`;
  });

  const copyImage = (id) => said(async () => {
    if (!navigator.clipboard?.write) {
      throw new Error("The browser copies pictures only from a page at https or localhost; use Save PNG.");
    }
    // handed over as a promise: the browser forgets the press while the picture is on its way
    const png = ask(id, "png").then((file) => file.png);
    await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]).catch(async (error) => {
      await png; // where there is no picture, that is what is said
      throw error;
    });
    return "The picture was copied.";
  });

  const copySettings = (id) => said(async () => {
    await copyText((await ask(id, "text")).text);
    return "The settings were copied, as A1111 writes them.";
  });

  model.on("msg:custom", received);
  return {
    ask,
    // [label, what it does] each; `id()`: of the picture, asked for when one is pressed
    actions: (id) => [
      ["Save PNG", () => save(id())], ["Copy image", () => copyImage(id())], ["Copy settings", () => copySettings(id())],
    ],
  };
}

function download(name, blob) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => revoke([url]), 10_000);
}

async function copyText(text) {
  if (navigator.clipboard?.writeText) return navigator.clipboard.writeText(text);
  const area = make("textarea", {}, text); // a page at plain http: the old way
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("The browser did not let this page copy; use Save PNG, which has the settings inside.");
}

// A button that opens a menu: [the button, the menu]. `entries()` gives [text, what it does] each when it is opened.
function menuButton(text, label, entries, attributes = {}) {
  const list = make("div", { role: "menu", popover: "auto", class: "wb-menu", "aria-label": label, onkeydown: keys });
  const button = make("button", {
    type: "button", "aria-haspopup": "menu", "aria-expanded": false, "aria-label": label, title: label, onclick: open, ...attributes,
  }, text);

  function open() {
    list.replaceChildren(...entries().map(([name, act]) => make("button", {
      type: "button", role: "menuitem", tabindex: "-1", onclick: () => {
        list.hidePopover();
        act();
      },
    }, name)));
    list.showPopover();
    const [box, around] = [list.getBoundingClientRect(), button.getBoundingClientRect()];
    list.style.left = `${Math.max(4, Math.min(around.left, innerWidth - box.width - 4))}px`;
    list.style.top = `${around.bottom + box.height + 4 < innerHeight ? around.bottom + 2 : Math.max(4, around.top - box.height - 2)}px`;
    list.firstChild?.focus();
  }

  function keys(event) {
    const items = [...list.children];
    const at = items.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (event.key === "Escape" || event.key === "Tab") {
      event.preventDefault();
      list.hidePopover();
      button.focus();
    } else if (to !== undefined) {
      event.preventDefault();
      items.at(to % items.length).focus();
    }
    if (event.key !== "Enter" && event.key !== " ") event.stopPropagation(); // Escape would close what is behind, too
    else keepKey(event);
  }

  list.addEventListener("toggle", (event) => button.setAttribute("aria-expanded", event.newState === "open"));
  return [button, list];
}
