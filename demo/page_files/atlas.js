// The atlas: search and browse all features, open one. #atlas, #atlas?dog and #atlas/2149 are links.

import { h, sign } from "./element.js";
import { featureCard, trustMark } from "./feature_card.js";
import { get } from "./gateway.js";
import { clearMessage, fail, onBack, say } from "./messages.js";
import { showHeat } from "./picture.js";
import { addFeature } from "./search.js";
import { state } from "./state.js";

const PAGE = 24;
const WAIT_MS = 200;

let list, more, count, opened, input;
let asked = null;
let query = null;
let cursor = null;

export function drawAtlas(view) {
  let timer = null;
  input = h("input", { type: "search", placeholder: "Search features: dog, red, kitchen…", "aria-label": "Search features", maxlength: 100, oninput: () => {
    clearTimeout(timer);
    timer = setTimeout(() => { location.hash = input.value.trim() ? `#atlas?${encodeURIComponent(input.value.trim())}` : "#atlas"; }, WAIT_MS);
  } });
  count = h("p", { class: "hint", role: "status" });
  list = h("ul", { class: "cards" });
  more = h("button", { type: "button", class: "quiet", onclick: () => load(false), hidden: true }, "Show more");
  opened = h("article", { class: "card opened", tabindex: "-1", hidden: true });
  view.append(
    h("div", { class: "line between" }, h("h2", {}, "Atlas of features"), h("div", { class: "search" }, sign("search"), input)),
    count, h("div", { class: "atlas" }, h("div", {}, list, more), opened));
  const follow = () => {
    if (!location.hash.startsWith("#atlas")) return;
    const rest = location.hash.slice("#atlas".length);
    const index = /^\/(\d+)$/.exec(rest);
    if (index) return show(Number(index[1]));
    opened.hidden = true;
    view.querySelector(".atlas").classList.remove("has-opened");
    search(rest.startsWith("?") ? decodeURIComponent(rest.slice(1)) : "");
  };
  addEventListener("hashchange", follow);
  onBack(() => { if (!list.children.length) query = null; follow(); });
  follow();
}

function search(text) {
  if (text === query) return;
  query = text;
  if (document.activeElement !== input) input.value = text;
  load(true);
}

async function load(anew) {
  asked?.abort();
  asked = new AbortController();
  const options = new URLSearchParams({ limit: PAGE });
  if (query) options.set("query", query);
  if (!anew && cursor) options.set("cursor", cursor);
  try {
    const found = await get(`v1/features?${options}`, asked.signal);
    clearMessage();
    cursor = found.next_cursor;
    const cards = found.features.map(card);
    if (anew) list.replaceChildren(...cards);
    else {
      list.append(...cards);
      cards[0]?.querySelector("a").focus();
    }
    more.hidden = cursor === null;
    count.textContent = `${found.total.toLocaleString("en")} ${query ? `features answer to “${query}”` : "live features"}`;
  } catch (error) {
    if (error.name !== "AbortError" && anew) query = null; // asked again where the hash comes back
    fail(error);
  }
}

function card(found) {
  const mark = h("span", { class: "mark" });
  featureCard(found.feature).then((whole) => mark.replaceWith(trustMark(whole)), () => {});
  return h("li", {}, h("a", { class: "card", href: `#atlas/${found.feature}` },
    h("span", { class: "what" }, mark, h("strong", {}, found.name || "(no name)"), h("span", { class: "also" }, `#${found.feature}`)),
    h("span", { class: "also" }, found.runner_up.slice(0, 3).join(" · ")),
    h("span", { class: "bar", title: "share of the reference images with it active" }, h("span", { style: `width:${Math.max(1, 100 * found.density)}%` })),
    h("span", { class: "also" }, `active in ${(100 * found.density).toFixed(1)} % of images`)));
}

async function show(index) {
  if (query === null) search("");
  let found;
  try {
    found = await featureCard(index);
  } catch (error) {
    // Said here: the banner belongs to the photograph, which may be loading still.
    opened.replaceChildren(h("p", { class: "warning", role: "alert" }, error.message));
    opened.hidden = false;
    if (error.gone) fail(error);
    return;
  }
  if (location.hash !== `#atlas/${index}`) return; // another was opened meanwhile
  clearMessage();
  const name = found.name || "(no name)";
  const more_ = found.more ?? {};
  const number = (value, digits = 2) => (value == null ? "not measured" : value.toFixed(digits));
  const facts = [
    ["Active in", `${(100 * found.density).toFixed(1)} % of the reference images`],
    ["Activation, raw", `median ${number(found.p50)}, p90 ${number(found.p90)}, p99 ${number(found.p99)}, largest ${number(found.max)}`],
    ["Modality", `${number(found.modality)} (1: images only, 0: texts only)`],
    ["Trust", more_.trust ? `${more_.trust}${more_.trust_auc == null ? "" : `, AUC ${number(more_.trust_auc)} (${number(more_.trust_low)} to ${number(more_.trust_high)})`}` : "not measured"],
    ["Clarity", number(more_.clarity)],
    ["Effective dose", more_.effective == null ? "not calibrated" : `${more_.effective} p99`],
  ];
  const link = (one) => h("a", { class: "chip", href: `#atlas/${one.feature}`, title: `cosine ${one.cosine.toFixed(2)}` }, `${one.name || "(no name)"} #${one.feature}`);
  opened.replaceChildren(
    h("a", { class: "quiet small back-link", href: query ? `#atlas?${encodeURIComponent(query)}` : "#atlas" }, sign("back"), "All features"),
    h("div", { class: "what" }, trustMark(found), h("h2", {}, name), h("span", { class: "also" }, `#${index}`)),
    found.runner_up.length ? h("p", {}, "Also answers to ", h("em", {}, found.runner_up.join(", ")), ".") : null,
    more_.description ? h("p", { class: "hint" }, more_.description) : null,
    spread(found),
    h("dl", {}, facts.map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)])),
    h("div", { class: "line" },
      h("button", { type: "button", class: "primary", disabled: found.dead, onclick: () => { addFeature(index, found.name); location.hash = ""; } }, "Use as an edit"),
      h("button", { type: "button", class: "quiet", disabled: !state.photo, onclick: () => { location.hash = ""; showHeat({ feature: index }, name, { pin: true }); } }, "Where in the photograph?")),
    h("h3", {}, "Most like it"), h("p", { class: "chips" }, found.neighbours.map(link)));
  opened.hidden = false;
  opened.parentElement.classList.add("has-opened");
  opened.focus({ preventScroll: true });
  if (innerWidth < 900) opened.scrollIntoView();
  say(`Feature ${index}, ${name}`);
}

// Median, p90 and p99 on a line to the largest activation.
function spread({ p50, p90, p99, max, dead }) {
  if (dead || !max) return h("p", { class: "warning" }, "Dead: active on no reference image, so it cannot be edited.");
  const at = (value) => `left:${(100 * value) / max}%`;
  return h("div", { class: "spread", "aria-hidden": "true" }, h("span", { class: "fill", style: `left:0;width:${(100 * p90) / max}%` }),
    [["p50", p50], ["p90", p90], ["p99", p99]].map(([label, value]) => h("span", { class: "tick", style: at(value) }, label)));
}
