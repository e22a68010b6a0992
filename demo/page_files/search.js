// "Add a concept": a word becomes an edit; features that answer to it are offered below.
// What has an operator in it is taken as edits in shorthand: dog=0, cat=1@0,0,0.5,1.

import { h, sign } from "./element.js";
import { get } from "./gateway.js";
import { parseShorthand, splitShorthand, writeShorthand } from "./shorthand.js";
import { setEdit, state } from "./state.js";
import { fail, say } from "./messages.js";

const DOSE = 1; // p99, where a new concept starts
const N_OFFERED = 6;
const WAIT_MS = 150;

export function drawSearch() {
  const input = h("input", {
    type: "text", role: "combobox", id: "add-concept", placeholder: "Add a concept: dog, snow… or dog=0, cat*1.5", autocomplete: "off",
    "aria-expanded": "false", "aria-controls": "offers", "aria-autocomplete": "list", "aria-label": "Add a concept",
  });
  const list = h("ul", { class: "offers", id: "offers", role: "listbox", "aria-label": "Concepts and features", hidden: true });
  let timer = null;
  let asked = null;
  let at = -1;

  const close = () => {
    clearTimeout(timer);
    asked?.abort();
    list.hidden = true;
    at = -1;
    input.setAttribute("aria-expanded", false);
    input.removeAttribute("aria-activedescendant");
  };
  const take = (act) => {
    act();
    input.value = "";
    close();
  };
  const offer = (options) => {
    at = -1;
    list.replaceChildren(...options.map(({ act, content }, i) =>
      h("li", { role: "option", id: `offer-${i}`, "aria-selected": "false", onpointerdown: (event) => { event.preventDefault(); take(act); } }, content)));
    list.acts = options.map((option) => option.act);
    list.hidden = options.length === 0;
    input.setAttribute("aria-expanded", !list.hidden);
  };
  const typed = () => input.value.replace(/\s+/g, " ").trim();
  const search = async () => {
    const text = typed();
    asked?.abort();
    if (!text || /[=*+]/.test(text)) return close();
    asked = new AbortController();
    const own = { act: () => addConcept(text), content: [h("strong", {}, text), h("span", { class: "also" }, "as a concept: up to 16 features at once")] };
    offer([own]);
    try {
      const found = await get(`v1/features?query=${encodeURIComponent(text.slice(0, 100))}&limit=${N_OFFERED}`, asked.signal);
      offer([own, ...found.features.map((one) => ({
        act: () => addFeature(one.feature, one.name),
        content: [h("span", {}, one.name || "(no name)"), h("span", { class: "also" }, [`#${one.feature}`, ...one.runner_up.slice(0, 2)].join(" · "))],
      }))]);
    } catch (error) {
      if (error.name !== "AbortError") fail(error);
    }
  };
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, WAIT_MS);
  });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const options = [...list.children];
    if (["ArrowDown", "ArrowUp"].includes(event.key) && options.length) {
      at = (at + (event.key === "ArrowDown" ? 1 : options.length + (at < 0 ? 0 : -1))) % options.length;
      options.forEach((option, i) => option.setAttribute("aria-selected", i === at));
      input.setAttribute("aria-activedescendant", options[at].id);
      options[at].scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter" && typed()) {
      take(at >= 0 ? list.acts[at] : () => addTyped(typed()));
    } else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  });
  return h("div", { class: "search" }, sign("search"), input, list);
}

export function addConcept(concept, value = DOSE) {
  setEdit(`concept ${concept}`, concept, { concept, op: "clamp", value });
  say(`${concept} is set to ${value} p99`);
}

export function addFeature(feature, name) {
  const seen = state.features.find((one) => one.feature === feature);
  setEdit(`#${feature}`, name || `#${feature}`, { feature, op: "clamp", value: Math.max(DOSE, seen?.p99 ?? 0) });
}

// An edit of the wire, from a link, a recipe or the box: {key, label, edit} as the page holds it.
export function asEdit(edit) {
  const label = edit.concept ?? `#${edit.feature}`;
  const plain = (edit.op === "ablate" || (edit.op === "clamp" && edit.unit !== "raw")) && !edit.region;
  const target = edit.concept === undefined ? `#${edit.feature}` : `concept ${edit.concept}`;
  return { key: plain ? target : `typed ${writeShorthand(edit)}`, label, edit };
}

function addTyped(text) {
  if (!/[=*+]/.test(text)) return addConcept(text);
  try {
    for (const edit of splitShorthand(text).map(parseShorthand)) {
      const { key, label } = asEdit(edit);
      setEdit(key, label, edit);
    }
  } catch (error) {
    fail(error);
  }
}
