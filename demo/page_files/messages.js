// What the page says in words: errors in the gateway's own, and notes for screen readers. While a
// gateway is gone, it is asked every two seconds; once it is back, what was asked is asked again.

import { h, iconButton } from "./element.js";
import { isThere } from "./gateway.js";

const AGAIN_MS = 2000;

let box, text, live;
let waiting = null;
const whenBack = [];

export function drawMessages() {
  text = h("span");
  box = h("div", { class: "message", role: "alert", hidden: true }, text, iconButton("close", "Close the message", clearMessage));
  live = h("div", { class: "unseen", role: "status", "aria-live": "polite" });
  return [box, live];
}

export const onBack = (again) => whenBack.push(again);

export function say(words) {
  live.textContent = words;
}

export function fail(error) {
  if (error.name === "AbortError") return;
  text.textContent = error.message;
  box.hidden = false;
  box.classList.toggle("gone", error.gone === true);
  if (!error.gone) return;
  text.append(" The page tries again by itself.");
  if (waiting === null) wait();
}

export function clearMessage() {
  box.hidden = true;
}

function wait() {
  waiting = setInterval(async () => {
    if (!(await isThere())) return;
    clearInterval(waiting);
    waiting = null;
    clearMessage();
    say("The gateway is back.");
    for (const again of whenBack) again();
  }, AGAIN_MS);
}
