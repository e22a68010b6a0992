// One feature's card, as GET /v1/features/{id} has it, asked for once; and its trust mark.

import { h } from "./element.js";
import { get } from "./gateway.js";

const cards = new Map();

const MARKS = {
  verified: ["✓", "verified: its name was found again in held-out captions"],
  doubtful: ["?", "doubtful: held-out captions do not bear its name out"],
  unverified: ["·", "unverified: too few held-out captions to tell"],
};

export function featureCard(index) {
  if (!cards.has(index)) {
    const asked = get(`v1/features/${index}`);
    asked.catch(() => cards.delete(index)); // a gateway that is back is asked again
    cards.set(index, asked);
  }
  return cards.get(index);
}

export function trustMark(card) {
  const trust = card.more?.trust || "unverified";
  const [text, why] = MARKS[trust] ?? ["·", trust];
  return h("span", { class: `mark ${trust}`, role: "img", "aria-label": trust, title: `Name ${why}` }, text);
}
