// The right column: both captions, the words that differ marked, each word a button; warnings, receipt.

import { h, sign } from "./element.js";
import { askWhy, drawWhy } from "./why.js";
import { answers, onAnswers } from "./generation.js";
import { clearMessage, fail, say } from "./messages.js";
import { PROMPT, changed, isSteered, on, state } from "./state.js";
import { download } from "./share.js";
import { broken, differing, words } from "./words.js";

let plain, steered, warnings, speed, receipt, prompt;

export function drawCaptions() {
  plain = h("p", { class: "caption", id: "unsteered" });
  steered = h("p", { class: "caption", id: "steered" });
  warnings = h("div", { class: "warnings", role: "status" });
  speed = h("p", { class: "speed" });
  receipt = h("details", { class: "receipt", hidden: true });
  onAnswers(draw);
  on("edits photo asking", clearMessage);
  return [
    drawAsking(),
    h("section", { class: "card said", "aria-labelledby": "said-plain" }, h("h3", { id: "said-plain" }, "What it says"), plain),
    h("section", { class: "card said steered", "aria-labelledby": "said-steered" }, h("div", { class: "line between" }, h("h3", { id: "said-steered" }, "Steered"), speed), steered, warnings, receipt),
    drawWhy(),
  ];
}

function drawAsking() {
  prompt = h("input", { type: "text", id: "prompt", value: PROMPT, "aria-label": "Prompt", onchange: () => {
    state.prompt = prompt.value.trim() || PROMPT;
    prompt.value = state.prompt;
    changed("asking");
  } });
  const number = (id, label, key, props) => {
    const input = h("input", { type: "number", id, value: state[key], ...props, onchange: () => {
      if (!input.checkValidity() || input.value === "") {
        fail(new Error(`${label} is ${input.value || "empty"}, expected ${props.min} to ${props.max}`));
        input.value = state[key];
        return;
      }
      state[key] = Number(input.value);
      changed("asking");
    } });
    on("asking", () => { input.value = state[key]; });
    return h("label", { for: id }, label, input);
  };
  on("asking", () => { prompt.value = state.prompt; });
  return h("details", { class: "asking" }, h("summary", {}, "Prompt and sampling"),
    h("label", { for: "prompt" }, "Prompt", prompt),
    h("div", { class: "line" },
      number("temperature", "Temperature", "temperature", { min: 0, max: 2, step: 0.1 }),
      number("seed", "Seed", "seed", { min: 0, max: 2147483647, step: 1 })),
    h("p", { class: "hint" }, "At temperature 0 the likeliest words are said and the seed has no part."));
}

function draw() {
  const { plain: one, steered: other } = answers;
  const both = one?.text && other?.text;
  // While a caption grows, only what it has said already can differ.
  const [lost, won] = both ? differing(one.text, other.text) : [[], []];
  show(plain, one, other?.whole && !other.stale ? lost : [], "lost", state.photo ? "…" : "Choose a photograph.");
  show(steered, other, won, "won", isSteered() ? "…" : "Move a slider, add a concept, or pick a story.");
  steered.parentElement.classList.toggle("same", Boolean(both && other.whole && one.text === other.text));
  speed.textContent = other?.firstWordMs && !other.stale ? `first changed word after ${(other.firstWordMs / 1000).toFixed(2)} s` : "";
  if (other?.whole && !other.stale) finish(other, one);
  else if (!other) {
    warnings.replaceChildren();
    receipt.hidden = true;
  }
}

const drawn = new WeakMap(); // what a caption shows, so that equal draws leave its buttons alone

function show(place, answer, marks, kind, empty) {
  const key = JSON.stringify([answer?.text, answer?.stale, answer?.failed, marks, empty, answer?.whole]);
  if (drawn.get(place) === key) return;
  drawn.set(place, key);
  place.classList.toggle("stale", Boolean(answer?.stale));
  place.classList.toggle("growing", Boolean(answer && !answer.whole && !answer.failed));
  if (!answer?.text) {
    place.replaceChildren(h("span", { class: "hint" }, answer?.failed ? "No caption." : answer?.whole ? "It said nothing." : empty));
    return;
  }
  place.replaceChildren(...words(answer.text).flatMap((word, i) => [
    h("button", { type: "button", class: marks[i] ? `word ${kind}` : "word", title: `Why “${word}”?`, onclick: (event) => askWhy(word, place === steered, event.currentTarget) },
      marks[i] ? h(kind === "won" ? "ins" : "del", {}, word) : word),
    " ",
  ]));
}

let finished = null;

function finish(answer, one) {
  if (finished === answer) return;
  finished = answer;
  say(`Steered caption: ${answer.text}`);
  const found = broken(answer.text, answer.finish);
  const theirs = answer.receipt?.warnings ?? [];
  const notes = [
    found && h("p", { class: "warning" }, `This caption looks broken: ${found}. Try a smaller dose.`),
    one?.whole && one.text === answer.text && h("p", { class: "hint" }, "The words stayed the same; a larger dose may change them."),
    // One line each would push all else away: an edit of a concept touches 16 features.
    theirs.length === 1 && h("p", { class: "warning" }, theirs[0]),
    theirs.length > 1 && h("details", { class: "warning" }, h("summary", {}, `${theirs.length} warnings: the dose may be too high`), h("ul", {}, theirs.map((text) => h("li", {}, text)))),
  ];
  warnings.replaceChildren(...notes.filter(Boolean));
  if (answer.receipt) drawReceipt(answer.receipt);
}

function drawReceipt(made) {
  const was = (x) => x.toFixed(1);
  receipt.hidden = false;
  const rows = made.edits.map((edit) => h("tr", {},
    h("th", { scope: "row" }, edit.name || "(no name)"), h("td", {}, `#${edit.feature}`), h("td", {}, edit.op),
    h("td", { class: "number" }, edit.dose?.p99 == null ? "" : edit.dose.p99.toFixed(2)),
    h("td", { class: "number" }, `${was(edit.before)} → ${was(edit.after)}`), h("td", { class: "number" }, `${edit.cells_changed}`)));
  const head = ["feature", "index", "op", "dose, p99", "activation", "cells"].map((text) => h("th", { scope: "col" }, text));
  receipt.replaceChildren(
    h("summary", {}, `Receipt: ${made.edits.length} features edited`),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Edited features" }, h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows))),
    h("p", { class: "hint" }, `Model ${made.fingerprint.slice(0, 12)}, codes ${made.codes_sha256.slice(0, 12)}. `,
      h("code", {}, "sparsight verify"), " rebuilds it from the photograph."),
    h("button", { type: "button", class: "quiet small", onclick: () => download("receipt.json", JSON.stringify(made, null, 2)) }, sign("link"), "Save the receipt"));
}
