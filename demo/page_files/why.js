// Why a word: the features that made the unsteered caption say it, each checked by taking it out; for a
// word that only the steered caption says, what the edits raised.

import { h, iconButton } from "./element.js";
import { answers } from "./generation.js";
import { post } from "./gateway.js";
import { fail, say } from "./messages.js";
import { endHover, showHeat } from "./picture.js";
import { on, state } from "./state.js";
import { bare, words } from "./words.js";

let panel, title, body;
let asked = null;
let opener = null;

export function drawWhy() {
  title = h("h3", { id: "why" });
  body = h("div");
  panel = h("section", { class: "card why", "aria-labelledby": "why", tabindex: "-1", hidden: true },
    h("div", { class: "line between" }, title, iconButton("close", "Close the explanation", close)), body);
  panel.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  on("photo", close);
  return panel;
}

export async function askWhy(word, isSteered, from) {
  asked?.abort();
  opener = from;
  const plain = bare(word);
  title.textContent = `Why “${plain}”?`;
  panel.hidden = false;
  panel.focus({ preventScroll: true });
  panel.scrollIntoView({ block: "nearest", behavior: "smooth" });
  if (isSteered && !words(answers.plain?.text ?? "").map(bare).includes(plain)) return showRaised(plain);
  asked = new AbortController();
  const since = performance.now();
  const clock = h("span", {}, "0 s");
  const ticking = setInterval(() => { clock.textContent = `${Math.round((performance.now() - since) / 1000)} s`; }, 1000);
  body.replaceChildren(h("p", { class: "busy" }, h("span", { class: "spin", "aria-hidden": "true" }), "Takes features out one by one and asks again each time… ", clock));
  try {
    const found = await post("v1/explain", { image: state.photo.uri, word: plain, top: 8 }, asked.signal);
    showCauses(found.word);
  } catch (error) {
    if (error.name === "AbortError") return;
    body.replaceChildren(h("p", { class: "warning" }, error.message));
    if (error.gone) fail(error);
  } finally {
    clearInterval(ticking);
  }
}

function close() {
  asked?.abort();
  if (panel.hidden) return;
  panel.hidden = true;
  endHover();
  if (opener?.isConnected) opener.focus();
}

function showCauses(word) {
  const most = Math.max(...word.causes.map((cause) => Math.abs(cause.ablated.loss)), 1e-9);
  const rows = word.causes.map((cause) => {
    const name = cause.name || "(no name)";
    const item = h("button", { type: "button", class: "cause", title: `Show where ${name} is`, onclick: () => showHeat({ feature: cause.feature }, name, { pin: true }) },
      h("span", { class: "what" }, h("strong", {}, name), h("span", { class: "also" }, `#${cause.feature}`)),
      h("span", { class: "bar" }, h("span", { style: `width:${Math.max(2, (100 * Math.max(0, cause.ablated.loss)) / most)}%` })),
      h("output", {}, `${cause.ablated.loss.toFixed(2)} nats`),
      h("span", { class: `mark ${cause.confirmed ? "verified" : "unverified"}`, role: "img", "aria-label": cause.confirmed ? "confirmed" : "not confirmed",
        title: cause.confirmed ? "costs the word more than any of 8 random features" : "costs it no more than random features do" }, cause.confirmed ? "✓" : "·"));
    return h("li", {}, item);
  });
  const all = word.together;
  body.replaceChildren(
    h("p", { class: "hint" }, "How much likelihood the word loses with each feature taken out."),
    h("ul", { class: "causes" }, rows),
    h("p", {}, `With all ${word.causes.length} taken out it says: `, h("em", {}, all.caption || "nothing")));
  say(`Features that made ${word.word}: ${word.causes.map((cause) => cause.name).join(", ")}`);
}

function showRaised(word) {
  const raised = (answers.steered?.receipt?.edits ?? []).filter((edit) => edit.after > edit.before).sort((a, b) => b.after - b.before - (a.after - a.before)).slice(0, 8);
  body.replaceChildren(
    h("p", {}, `The photograph’s own code does not say “${word}”: your edits do.`, raised.length ? " They raised" : " They took features away, and this is what was left."),
    h("ul", { class: "causes" }, raised.map((edit) => h("li", {}, h("span", { class: "cause" }, h("span", { class: "what" }, h("strong", {}, edit.name || "(no name)"), h("span", { class: "also" }, `#${edit.feature}`)), h("output", {}, `${edit.before.toFixed(1)} → ${edit.after.toFixed(1)}`))))));
}
