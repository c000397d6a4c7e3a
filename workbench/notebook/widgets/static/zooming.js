// Looking closer at pictures: wheel, drag, keys and buttons, at the same part of all pictures of a panel. Put in front of the
// scripts that show large pictures, behind shared.js.

const CLOSEST = 32; // CSS px for a pixel of the picture
const PANELS = ".wb-tuner, .wb-wall, .wb-ballot"; // whose pictures are looked at together
const WHOLE = [0, 0, 1, 1];

// The pictures of a widget in boxes that can be zoomed.
//   places(): [{ box, images, size, base }] now: `images` fill `box` with the same picture, of `size` [width, height] in px;
//     `base`: x0, y0, x1, y1, the part of it that fits into the box before anybody zooms; `sharper`, where there is one, is
//     called when the images are smaller than `size` and too coarse for what is looked at.
//   dragged(event): whether a drag that begins here is the widget's own.
// What a panel shows, `zoom` times as large as fitted and around (x, y), is a view; x and y are shares of `base`, so that faces
// at different places are looked at together.
function zooming(el, places, dragged = () => false) {
  const own = { zoom: 1, x: 0.5, y: 0.5 };
  const text = make("span", { class: "wb-percent", role: "status" });
  const button = (name, label, act) => make("button", { type: "button", "aria-label": label, title: label, onclick: act }, name);
  const bar = make("span", { class: "wb-zooming", role: "group", "aria-label": "Zoom" },
    button("−", "Smaller (−)", () => closer(1 / 1.5)), button("+", "Larger (+)", () => closer(1.5)),
    button("1:1", "Pixel by pixel (1)", pixels), button("Fit", "The whole (0)", fit), text);
  let panel = null;
  let wheeled = 0; // when the wheel last moved elsewhere: a page that is scrolled goes on scrolling over a picture

  function view() {
    return panel?.wbView ?? own;
  }

  function look(next) {
    const first = places()[0];
    if (!first) return;
    Object.assign(view(), inside(next, first));
    if (panel) panel.dispatchEvent(new CustomEvent("wb-view"));
    else paint();
  }

  function closer(by, [px, py] = [0.5, 0.5], place = places()[0]) { // (px, py): what stays where it is, as shares of the box
    if (!place) return;
    const old = view();
    const least = Math.min(1, pixelZoom(place));
    const zoom = Math.min(Math.max(old.zoom * by, least), CLOSEST * pixelZoom(place));
    const [w, h] = part(place);
    const keep = (share, center, side) => center + (share - 0.5) * side * (1 / old.zoom - 1 / zoom);
    look({ zoom, x: keep(px, old.x, w), y: keep(py, old.y, h) });
  }

  function fit() {
    look({ zoom: 1, x: 0.5, y: 0.5 });
  }

  function pixels() {
    look({ ...view(), zoom: pixelZoom(places()[0]) });
  }

  function move(dx, dy, place = places()[0]) { // by shares of the box
    if (!place) return;
    const { zoom, x, y } = view();
    const [w, h] = part(place);
    look({ zoom, x: x - (dx * w) / zoom, y: y - (dy * h) / zoom });
  }

  function paint() {
    for (const place of places()) {
      const { zoom, x, y } = view();
      const scale = fitted(place) * zoom; // CSS px of a pixel
      const [w, h] = place.size.map((side) => side * scale);
      const { width, height } = boxSize(place);
      const [cx, cy] = center(place, x, y);
      for (const img of place.images) {
        Object.assign(img.style, {
          width: `${(100 * w) / width}%`, height: `${(100 * h) / height}%`,
          left: `${50 - (100 * cx * w) / width}%`, top: `${50 - (100 * cy * h) / height}%`,
          imageRendering: scale * devicePixelRatio >= 2 ? "pixelated" : "auto",
        });
      }
      place.box.classList.toggle("wb-closer", zoom > 1.001);
      const seen = place.images[0].naturalWidth;
      if (seen && (scale * devicePixelRatio * place.size[0]) / seen > 1.05 && seen < place.size[0]) place.sharper?.();
    }
    const first = places()[0];
    text.textContent = first ? `${Math.round((100 * view().zoom) / pixelZoom(first))} %` : "";
  }

  function placeAt(target) {
    return places().find((place) => place.box.contains(target));
  }

  function wheel(event) {
    const place = placeAt(event.target);
    const goesOn = event.timeStamp - wheeled < 300 && !event.ctrlKey;
    const out = event.deltaY > 0 && view().zoom <= 1; // nothing to see: the page scrolls
    if (place && goesOn) wheeled = event.timeStamp;
    if (!place || event.deltaY === 0 || goesOn || (out && !event.ctrlKey)) return;
    event.preventDefault();
    const box = place.box.getBoundingClientRect();
    const at = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    closer(1.0015 ** -Math.max(-400, Math.min(400, event.deltaY * (event.deltaMode ? 30 : 1))), at, place);
  }

  function elsewhere(event) {
    if (!placeAt(event.target)) wheeled = event.timeStamp;
  }

  function press(event) {
    const place = placeAt(event.target);
    if (!place || event.button !== 0 || view().zoom <= 1 || dragged(event)) return;
    let [x, y, moved] = [event.clientX, event.clientY, false];
    const box = place.box.getBoundingClientRect();
    const drag = (next) => {
      if (!moved && Math.hypot(next.clientX - x, next.clientY - y) < 4) return;
      moved = true;
      move((next.clientX - x) / box.width, (next.clientY - y) / box.height, place);
      [x, y] = [next.clientX, next.clientY];
    };
    const end = () => {
      window.removeEventListener("pointermove", drag);
      window.removeEventListener("pointerup", end);
      // a drag that ends on a button is no press of it
      if (moved) place.box.addEventListener("click", swallow, { capture: true, once: true });
      setTimeout(() => place.box.removeEventListener("click", swallow, { capture: true }));
    };
    window.addEventListener("pointermove", drag);
    window.addEventListener("pointerup", end);
  }

  // + - 0 1 from anywhere in the widget; the arrows where `arrows` says so: elsewhere they have another meaning
  function key(event, arrows) {
    if (withModifier(event) || !places().length) return false;
    const steps = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    const acts = { "+": () => closer(1.25), "=": () => closer(1.25), "-": () => closer(0.8), 0: fit, 1: pixels };
    if (event.key in acts) acts[event.key]();
    else if (arrows && event.key in steps && view().zoom > 1) move(...steps[event.key]);
    else return false;
    event.preventDefault();
    return true;
  }

  const resized = new ResizeObserver(paint);
  requestAnimationFrame(() => { // the widget is in its panel now
    panel = el.closest(PANELS);
    if (!panel) return;
    panel.wbView ??= own;
    panel.addEventListener("wb-view", paint);
    resized.observe(el);
    paint();
  });
  el.addEventListener("wheel", wheel, { passive: false });
  el.addEventListener("pointerdown", press);
  document.addEventListener("wheel", elsewhere, { passive: true, capture: true });
  return {
    bar, paint, key, fit,
    view,
    stop: () => {
      resized.disconnect();
      panel?.removeEventListener("wb-view", paint);
      document.removeEventListener("wheel", elsewhere, { capture: true });
    },
  };
}

function swallow(event) {
  event.preventDefault();
  event.stopPropagation();
}

function boxSize({ box }) {
  return { width: box.clientWidth || 1, height: box.clientHeight || 1 };
}

// CSS px of a pixel where `base` is fitted into the box
function fitted(place) {
  const { width, height } = boxSize(place);
  const [x0, y0, x1, y1] = place.base;
  const [w, h] = place.size;
  return Math.min(width / ((x1 - x0) * w), height / ((y1 - y0) * h));
}

// the zoom at which a pixel of the picture is one of the screen
function pixelZoom(place) {
  return 1 / (devicePixelRatio * fitted(place));
}

// how much of `base` the box shows at zoom 1, as shares of its sides: more than 1 where it is fitted with bars beside it
function part(place) {
  const { width, height } = boxSize(place);
  const [x0, y0, x1, y1] = place.base;
  const [w, h] = place.size;
  const scale = fitted(place);
  return [width / (scale * (x1 - x0) * w), height / (scale * (y1 - y0) * h)];
}

// (x, y) of a view, as shares of the whole picture
function center({ base: [x0, y0, x1, y1] }, x, y) {
  return [x0 + x * (x1 - x0), y0 + y * (y1 - y0)];
}

// the view, moved so that the box shows nothing beside the picture where it can help it
function inside({ zoom, x, y }, place) {
  const [x0, y0, x1, y1] = place.base;
  if (Math.abs(zoom - 1) < 1e-3) return { zoom: 1, x: 0.5, y: 0.5 };
  const within = (share, from, to, seen) => {
    const half = (seen * (to - from)) / zoom / 2; // as shares of the whole picture
    const whole = from + share * (to - from);
    const kept = half >= 0.5 ? 0.5 : Math.min(Math.max(whole, half), 1 - half);
    return (kept - from) / (to - from);
  };
  const [w, h] = part(place);
  return { zoom, x: within(x, x0, x1, w), y: within(y, y0, y1, h) };
}
