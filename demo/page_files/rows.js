// The middle column: edits that were asked for, then the photograph's strongest features, each with
// a slider. A feature's slider that is left where the photograph put it sends nothing.

import { h, iconButton } from "./element.js";
import { featureCard, trustMark } from "./feature_card.js";
import { endHover, isPinned, showHeat, unpin } from "./picture.js";
import { SLIDER_MAX, STEP, changed, clearEdits, on, setEdit, sliderEdit, state } from "./state.js";
import { writeShorthand } from "./shorthand.js";

const FIRST = 8; // features shown before "Show more"

let asked, seen, more, undo;
let shown = FIRST;
const features = new Map(); // index -> {slider, output, row, start}

export function drawRows() {
  asked = h("ul", { class: "rows", "aria-label": "Your edits" });
  seen = h("ul", { class: "rows", "aria-label": "Strongest features" });
  undo = h("button", { type: "button", class: "quiet small", onclick: clearEdits, hidden: true }, "Undo all edits");
  more = h("button", { type: "button", class: "quiet small", onclick: () => { shown += FIRST; drawFeatures(); } }, "Show more");
  on("features", () => { shown = FIRST; drawFeatures(); });
  on("edits region", () => { drawAsked(); followEdits(); });
  return [
    h("div", { class: "asked", hidden: true }, h("h3", {}, "Your edits"), asked),
    h("div", { class: "line between" }, h("h3", {}, "Strongest features of the photograph"), undo),
    h("p", { class: "hint" }, "Activation in p99: 1 is a strong example of the feature. Share: of the code’s squared norm."),
    seen, more,
  ];
}

export const featureTarget = (index) => ({ feature: index });

function drawFeatures() {
  features.clear();
  seen.replaceChildren(...state.features.slice(0, shown).map(featureRow));
  more.hidden = state.features.length <= shown;
  drawAsked();
  followEdits();
}

function featureRow(found) {
  const name = found.name || "(no name)";
  const target = featureTarget(found.feature);
  const dead = found.p99 === null;
  const start = dead ? 0 : Number((Math.round(found.p99 / STEP) * STEP).toFixed(4));
  const key = `#${found.feature}`;
  const output = h("output", {}, dead ? "dead" : found.p99.toFixed(2));
  const slider = h("input", {
    type: "range", min: 0, max: Math.max(SLIDER_MAX, start), step: STEP, value: start, disabled: dead,
    "aria-label": `${name}, feature ${found.feature}, in p99`,
    oninput: () => {
      const value = Number(slider.value);
      const left = Math.abs(value - start) < STEP / 2;
      setEdit(key, name, left ? null : sliderEdit(target, value), { start });
    },
  });
  slider.style.setProperty("--start", `${(100 * start) / slider.max}%`);
  const also = h("span", { class: "also" });
  const mark = h("span", { class: "mark" });
  const back = iconButton("undo", `Put ${name}, feature ${found.feature}, back`, () => setEdit(key, name, null), { class: "icon back" });
  const chip = regionChip(key);
  const row = h("li", { class: "row" },
    h("div", { class: "what" }, mark, h("strong", {}, name), also, chip),
    h("span", { class: "portion", title: "share of the code’s squared norm" }, `${(100 * found.share).toFixed(1)} %`),
    slider, output, whereButton(target, name), back);
  hover(row, target, name);
  features.set(key, { slider, output, row, start, dead, found, back, chip });
  featureCard(found.feature).then((card) => {
    mark.replaceWith(trustMark(card));
    also.textContent = [`#${found.feature}`, ...card.runner_up.filter((other) => other !== name).slice(0, 2)].join(" · ");
  }, () => { also.textContent = key; }); // the row stands without its card
  return row;
}

// Sliders follow edits that came from elsewhere: a link, a story, undo.
function followEdits() {
  for (const [key, { slider, output, row, start, dead, found, back, chip }] of features) {
    const one = state.edits.find((edit) => edit.key === key);
    back.hidden = one === undefined;
    followChip(chip, one);
    const value = one === undefined ? start : one.edit.op === "ablate" ? 0 : (one.edit.value ?? start);
    if (Number(slider.value) !== value) slider.value = value;
    row.classList.toggle("moved", one !== undefined);
    output.textContent = dead ? "dead" : one === undefined ? found.p99.toFixed(2) : value.toFixed(2);
    paintSlider(slider);
  }
}

const askedRows = new Map(); // key -> {row, follow}

// Rows are kept while they live: one that is drawn anew under a finger would lose it.
function drawAsked() {
  // A feature that has its row below is moved there: a row that came up above would push it away.
  const entries = state.edits.filter((one) => !features.has(one.key)).map((one) => [one.key, one]);
  if (state.second) entries.push(["second", null]);
  if (state.recipe) entries.push(["recipe", null]);
  const keys = entries.map(([key]) => key);
  for (const key of askedRows.keys()) if (!keys.includes(key)) askedRows.delete(key);
  const rows = entries.map(([key, one]) => {
    const known = askedRows.get(key) ?? (one ? editRow(one) : key === "second" ? mixRow() : recipeRow());
    askedRows.set(key, known);
    known.follow(one);
    return known.row;
  });
  if (rows.some((row, i) => asked.children[i] !== row) || rows.length !== asked.children.length) asked.replaceChildren(...rows);
  asked.parentElement.hidden = rows.length === 0;
  undo.hidden = state.edits.length === 0 && rows.length === 0;
}

function editRow(one) {
  const { key, label } = one;
  const target = one.edit.feature === undefined ? { concept: one.edit.concept } : { feature: one.edit.feature };
  const plain = (edit) => ["clamp", "ablate"].includes(edit.op) && edit.unit !== "raw";
  const now = () => state.edits.find((other) => other.key === key);
  const output = h("output");
  const slider = h("input", {
    type: "range", min: 0, max: SLIDER_MAX, step: STEP, "aria-label": `${label}, dose in p99`,
    oninput: () => {
      const edit = sliderEdit(target, Number(slider.value));
      const own = now()?.edit.region;
      setEdit(key, label, own ? { ...edit, region: own } : edit);
    },
  });
  const typed = h("code", { class: "typed" });
  const inRegion = regionChip(key);
  const kind = h("span", { class: "also" }, target.concept ? "concept" : `#${target.feature}`);
  const row = h("li", { class: "row moved" },
    h("div", { class: "what" }, h("strong", {}, label), kind, inRegion),
    iconButton("close", `Remove ${label}`, () => setEdit(key, label, null)),
    slider, typed, output, whereButton(target, label));
  hover(row, target, label);
  const follow = (next) => {
    const edit = next.edit;
    const slides = plain(edit) && edit.value !== undefined || edit.op === "ablate";
    slider.hidden = output.hidden = !slides;
    typed.hidden = slides && !edit.region;
    typed.textContent = writeShorthand(edit);
    if (slides) {
      const value = edit.op === "ablate" ? 0 : edit.value;
      if (value > Number(slider.max)) slider.max = value;
      if (Number(slider.value) !== value) slider.value = value;
      output.textContent = value === 0 ? "removed" : value.toFixed(2);
      paintSlider(slider);
    }
    followChip(inRegion, next);
  };
  return { row, follow };
}

function regionChip(key) {
  return h("button", { type: "button", class: "chip", hidden: true, title: "Whether the drawn region limits this edit", onclick: () => {
    const found = state.edits.find((one) => one.key === key);
    found.regional = !found.regional;
    changed("edits");
  } }, "in the region");
}

function followChip(chip, one) {
  chip.hidden = one === undefined || state.region === null || one.edit.region !== undefined;
  chip.setAttribute("aria-pressed", one?.regional ?? false);
}

function mixRow() {
  const image = h("img", { class: "mini", alt: "" });
  const output = h("output");
  const slider = h("input", { type: "range", min: 1, max: 64, step: 1, "aria-label": "How many features of the second photograph",
    oninput: () => { state.top = Number(slider.value); changed("edits"); } });
  const row = h("li", { class: "row moved" },
    h("div", { class: "what" }, image, h("strong", {}, "second photograph"), h("span", { class: "also" }, "its strongest features that this one lacks")),
    iconButton("close", "Remove the second photograph", () => { state.second = null; changed("edits"); }),
    slider, output);
  const follow = () => {
    image.src = state.second.url;
    slider.value = state.top;
    output.textContent = `${state.top}`;
    paintSlider(slider);
  };
  return { row, follow };
}

function recipeRow() {
  const name = h("strong");
  const what = h("code", { class: "typed" });
  const row = h("li", { class: "row moved" }, h("div", { class: "what" }, name, h("span", { class: "also" }, "recipe")),
    iconButton("close", "Remove the recipe", () => { state.recipe = null; changed("edits"); }), what);
  const follow = () => {
    name.textContent = state.recipe.name;
    what.textContent = state.recipe.edits.map(writeShorthand).join(", ");
  };
  return { row, follow };
}

function whereButton(target, label) {
  return iconButton("where", `Show where ${label} is`, (event) => {
    const pin = !isPinned(target);
    document.querySelectorAll(".where-button[aria-pressed=true]").forEach((other) => other.setAttribute("aria-pressed", false));
    event.currentTarget.setAttribute("aria-pressed", pin);
    if (pin) showHeat(target, label, { pin });
    else unpin();
  }, { class: "icon where-button", "aria-pressed": "false" });
}

function hover(row, target, label) {
  let timer = null;
  row.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "mouse") timer = setTimeout(() => showHeat(target, label), 120);
  });
  row.addEventListener("pointerleave", (event) => {
    clearTimeout(timer);
    if (event.pointerType === "mouse") endHover();
  });
}

function paintSlider(slider) {
  slider.style.setProperty("--at", `${(100 * (slider.value - slider.min)) / (slider.max - slider.min)}%`);
}
