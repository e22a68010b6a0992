// What the user has chosen, and who wants to know when it changes. One of it a browser tab, so two
// users never meet.

export const PROMPT = "Describe the image in one sentence.";
export const SLIDER_MAX = 4; // p99; typed edits may go to the gateway's limit of 8
export const STEP = 0.05; // p99

export const state = {
  model: null, // {name, fingerprint, features}
  photo: null, // see photo.js
  features: [], // strongest first, as the gateway sends them
  edits: [], // {key, label, edit, start, regional}, in the order they were made
  region: null, // [x0, y0, x1, y1], fractions of the upright photograph
  second: null, // a second photograph, mixed in
  top: 16, // how many features of it, at most
  recipe: null, // a recipe file's content
  resolveAgain: false,
  prompt: PROMPT,
  temperature: 0,
  seed: 0,
};

const listeners = new Map();

// what: "photo", "features", "edits", "region", "asking" (prompt and sampling), "model".
export function on(what, listener) {
  for (const one of what.split(" ")) listeners.set(one, [...(listeners.get(one) ?? []), listener]);
}

export function changed(what, detail) {
  for (const listener of listeners.get(what) ?? []) listener(detail);
}

// The edits as they are sent. A drawn region limits those that have none of their own.
export function wireEdits() {
  return state.edits.map(({ edit, regional }) =>
    state.region && regional && !edit.region ? { ...edit, region: state.region } : edit,
  );
}

export const isSteered = () => state.edits.length > 0 || state.second !== null || state.recipe !== null;

// The `steering` object of a request; null where nothing is changed.
export function steering() {
  if (!isSteered()) return null;
  const out = {};
  const edits = wireEdits();
  if (edits.length) out.edits = edits;
  if (state.recipe) {
    out.recipe = state.recipe;
    if (state.resolveAgain) out.resolve_again = true;
  }
  if (state.second) out.steer_from = { image_url: { url: state.second.uri }, top: state.top };
  return out;
}

// Sets, or with a null edit takes away, the edit of one target.
export function setEdit(key, label, edit, more = {}) {
  const at = state.edits.findIndex((one) => one.key === key);
  if (edit === null) {
    if (at < 0) return;
    state.edits.splice(at, 1);
  } else if (at < 0) {
    state.edits.push({ key, label, edit, start: null, regional: true, ...more });
  } else {
    state.edits[at] = { ...state.edits[at], label, edit, ...more };
  }
  changed("edits");
}

// The edit of a slider that stands at `value` (p99).
export function sliderEdit(target, value) {
  return value === 0 ? { ...target, op: "ablate" } : { ...target, op: "clamp", value };
}

export function clearEdits() {
  Object.assign(state, { edits: [], second: null, recipe: null, region: null });
  changed("region");
  changed("edits");
}

export function reset(edits) {
  Object.assign(state, { edits: [], second: null, recipe: null, region: null });
  for (const { key, ...edit } of edits) state.edits.push({ key, start: null, regional: true, ...edit });
  changed("region");
  changed("edits");
}
