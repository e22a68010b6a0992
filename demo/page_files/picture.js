// The photograph with a heat map over it, and the region that is drawn on it by dragging or by keys.

import { h, iconButton } from "./element.js";
import { post } from "./gateway.js";
import { changed, on, state } from "./state.js";

// The same scale as sparse_encoder/overlay.py: five stops of matplotlib's "inferno" (CC0).
const STOPS = [[66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];
const COVER = 0.8; // of the photograph by the strongest cell
const LEAST = 0.02; // a drag below this share of the picture is a click
const NUDGE = 0.04;

let image, canvas, box, caption, clear;
let asked = null; // AbortController of the map that is on its way
let pinned = null; // the target that stays when the cursor leaves
const maps = new Map(); // by photograph and target

export function drawPicture() {
  image = h("img", { alt: "", draggable: "false" });
  canvas = h("canvas", { class: "heat", "aria-hidden": "true" });
  box = h("div", { class: "region", hidden: true });
  caption = h("p", { class: "where", "aria-live": "polite" });
  clear = iconButton("close", "Remove the region", () => setRegion(null), { hidden: true, class: "icon clear-region" });
  const stage = h("div", {
    class: "stage", tabindex: "0", role: "group",
    "aria-label": "The photograph. Drag to limit edits to a region; with the keyboard, Enter draws one, arrows move it, Shift and arrows resize it, Delete removes it.",
    onkeydown: byKey,
  }, image, canvas, box, clear);
  dragging(stage);
  on("photo", () => {
    image.src = state.photo?.url ?? "";
    image.alt = state.photo ? `Photograph ${state.photo.name}` : "";
    pinned = null;
    maps.clear();
    hide();
  });
  on("region", showRegion);
  image.addEventListener("error", () => { if (state.photo) image.alt = "this browser cannot show the file"; });
  return h("div", { class: "picture" }, stage, caption);
}

// target: {feature} or {concept}. Asked for under the cursor; `pin` keeps it.
export async function showHeat(target, label, { pin = false } = {}) {
  if (!state.photo) return;
  if (pin) pinned = { target, label };
  const key = JSON.stringify(target);
  asked?.abort();
  asked = new AbortController();
  try {
    const found = maps.get(key) ?? (await post("v1/features/locate", { image: state.photo.uri, ...target }, asked.signal));
    maps.set(key, found);
    paint(found.cells);
    caption.textContent = found.strongest ? `Where the model sees “${label}”` : `The model sees “${label}” nowhere here`;
  } catch (error) {
    if (error.name === "AbortError") return;
    hide();
    caption.textContent = error.message;
  }
}

export const isPinned = (target) => pinned !== null && JSON.stringify(pinned.target) === JSON.stringify(target);

export function unpin() {
  pinned = null;
  hide();
}

// The cursor has left: back to the map that was chosen, or none.
export function endHover() {
  if (pinned) showHeat(pinned.target, pinned.label);
  else hide();
}

function hide() {
  asked?.abort();
  canvas.style.opacity = 0;
  caption.textContent = "";
}

function paint(cells) {
  const [rows, cols] = [cells.length, cells[0].length];
  const most = Math.max(...cells.flat()) || 1;
  const pixels = new ImageData(cols, rows);
  cells.flat().forEach((cell, i) => {
    const level = cell / most;
    const at = Math.min(level * (STOPS.length - 1), STOPS.length - 1.001);
    const [low, high, part] = [STOPS[Math.floor(at)], STOPS[Math.floor(at) + 1], at % 1];
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = low[c] + part * (high[c] - low[c]);
    pixels.data[4 * i + 3] = 255 * COVER * level;
  });
  // Cells are joined bilinearly: a small canvas, drawn large.
  const small = h("canvas", { width: cols, height: rows });
  small.getContext("2d").putImageData(pixels, 0, 0);
  [canvas.width, canvas.height] = [cols * 24, rows * 24];
  const large = canvas.getContext("2d");
  large.imageSmoothingQuality = "high";
  large.drawImage(small, 0, 0, canvas.width, canvas.height);
  canvas.style.opacity = 1;
}

function setRegion(region) {
  state.region = region && region.map((x) => Number(Math.min(1, Math.max(0, x)).toFixed(3)));
  changed("region");
  if (state.edits.length) changed("edits");
}

function showRegion() {
  const region = state.region;
  box.hidden = clear.hidden = region === null;
  if (region === null) return;
  const [x0, y0, x1, y1] = region.map((x) => 100 * x);
  Object.assign(box.style, { left: `${x0}%`, top: `${y0}%`, width: `${x1 - x0}%`, height: `${y1 - y0}%` });
  Object.assign(clear.style, { left: `calc(${x1}% - 34px)`, top: `calc(${y0}% + 4px)` });
}

function dragging(stage) {
  let start = null;
  const place = (event) => {
    const frame = image.getBoundingClientRect();
    return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height].map((x) => Math.min(1, Math.max(0, x)));
  };
  const spanned = (event) => {
    const [x, y] = place(event);
    return [Math.min(x, start[0]), Math.min(y, start[1]), Math.max(x, start[0]), Math.max(y, start[1])];
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !state.photo || event.target.closest("button")) return;
    start = place(event);
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (start === null) return;
    const [x0, y0, x1, y1] = spanned(event);
    if (Math.max(x1 - x0, y1 - y0) < LEAST) return;
    state.region = [x0, y0, x1, y1];
    showRegion();
  });
  const end = (event) => {
    if (start === null) return;
    const [x0, y0, x1, y1] = spanned(event);
    start = null;
    if (Math.min(x1 - x0, y1 - y0) >= LEAST) setRegion([x0, y0, x1, y1]);
    else if (state.region) setRegion(null);
  };
  stage.addEventListener("pointerup", end);
  stage.addEventListener("pointercancel", end);
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function byKey(event) {
  if (event.target.closest("button") || !state.photo) return;
  const arrow = ARROWS[event.key];
  if (event.key === "Enter" && !state.region) setRegion([0.25, 0.25, 0.75, 0.75]);
  else if (["Delete", "Backspace", "Escape"].includes(event.key) && state.region) setRegion(null);
  else if (arrow && state.region) {
    const [dx, dy] = arrow.map((x) => x * NUDGE);
    const [x0, y0, x1, y1] = state.region;
    const inside = (x) => x >= -1e-9 && x <= 1 + 1e-9;
    const moved = event.shiftKey ? [x0, y0, Math.min(1, Math.max(x0 + NUDGE, x1 + dx)), Math.min(1, Math.max(y0 + NUDGE, y1 + dy))] : [x0 + dx, y0 + dy, x1 + dx, y1 + dy];
    if (moved.every(inside)) setRegion(moved);
  } else return;
  event.preventDefault();
}
