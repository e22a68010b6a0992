// Share: a link or a file that brings photograph, edits and seed back; code to copy; recipes.

import { h, iconButton, sign } from "./element.js";
import { post } from "./gateway.js";
import { clearMessage, fail, say } from "./messages.js";
import { examplePhoto, photoFromUri } from "./photo.js";
import { asEdit } from "./search.js";
import { isEdit } from "./shorthand.js";
import { fileName, snippets } from "./snippets.js";
import { PROMPT, changed, isSteered, on, state, steering } from "./state.js";

const VERSION = 1;
const MOST_EDITS = 64;

export function drawShare(take, setPhoto) {
  const code = h("pre", { class: "snippet", tabindex: "0", "aria-label": "Code to copy" });
  let kind = "curl";
  const tabs = ["curl", "Python", "CLI"].map((name) => h("button", { type: "button", class: "chip", "aria-pressed": name === kind, onclick: () => {
    kind = name;
    tabs.forEach((tab) => tab.setAttribute("aria-pressed", tab.textContent === name));
    write();
  } }, name));
  const write = () => { code.textContent = state.photo && state.model ? snippets()[kind] : ""; };
  on("photo edits region asking model", write);
  const file = h("input", { type: "file", accept: ".json,application/json", class: "hidden", tabindex: "-1", "aria-label": "Open a saved file or recipe", onchange: () => {
    const [chosen] = file.files;
    if (chosen) open(chosen, take, setPhoto);
    file.value = "";
  } });
  const name = h("input", { type: "text", "aria-label": "Name of the recipe", placeholder: "name of the recipe", maxlength: 100 });
  const again = h("label", { class: "check", hidden: true }, h("input", { type: "checkbox", onchange: (event) => { state.resolveAgain = event.target.checked; changed("edits"); } }), "made for another model: resolve its concepts again");
  on("edits", () => { again.hidden = state.recipe === null || state.recipe.fingerprint === state.model?.fingerprint; });
  return h("section", { class: "card share", "aria-labelledby": "share-title" },
    h("h2", { id: "share-title" }, "Share"),
    h("div", { class: "line" },
      button("link", "Copy link", copyLink),
      button("paste", "Save as a file", saveFile),
      h("button", { type: "button", class: "quiet", onclick: () => file.click() }, sign("upload"), "Open a file or recipe"), file),
    h("form", { class: "line", onsubmit: (event) => { event.preventDefault(); saveRecipe(name.value); } }, name, h("button", { type: "submit", class: "quiet" }, "Save the edits as a recipe")),
    again,
    h("div", { class: "line between" }, h("div", { class: "line", role: "group", "aria-label": "Copy as" }, tabs), iconButton("paste", "Copy the code", () => copy(code.textContent, "The code"))),
    code);
}

const button = (icon, text, act) => h("button", { type: "button", class: "quiet", onclick: () => act().catch(fail) }, sign(icon), text);

// What a link holds: an upload goes by its sha256, since its bytes would not fit.
function kept(photo) {
  return photo && (photo.example ? { example: photo.name } : { name: photo.name, sha256: photo.sha256 });
}

function snapshot() {
  const { region, top, prompt, temperature, seed, recipe, resolveAgain } = state;
  const edits = state.edits.map(({ label, edit, regional }) => ({ label, edit, regional }));
  return { sparsight: VERSION, photo: kept(state.photo), second: kept(state.second), edits, region, top, prompt, temperature, seed, recipe, resolveAgain };
}

async function copyLink() {
  const bytes = new TextEncoder().encode(JSON.stringify(snapshot()));
  const packed = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  const link = `${location.href.split("#")[0]}#s=${packed}`;
  history.replaceState(null, "", link);
  const uploads = [state.photo, state.second].some((photo) => photo && !photo.example);
  await copy(link, uploads ? "The link (it asks for your photograph; a file has it inside)" : "The link");
}

async function saveFile() {
  if (!state.photo) throw new Error("there is no photograph to save yet; choose one");
  const made = snapshot();
  for (const key of ["photo", "second"]) if (state[key] && !state[key].example) made[key].uri = state[key].uri;
  download("sparsight.json", JSON.stringify(made));
}

async function saveRecipe(name) {
  clearMessage();
  try {
    if (!isSteered()) throw new Error("there are no edits to save; move a slider or add a concept");
    if (!name.trim()) throw new Error("a recipe needs a name; type one beside the button");
    const body = { name: name.trim(), steering: steering(), ...(state.second ? { image: state.photo.uri } : {}) };
    download(fileName(name), `${JSON.stringify(await post("v1/steering/recipe", body), null, 2)}\n`);
  } catch (error) {
    fail(error);
  }
}

async function open(chosen, take, setPhoto) {
  clearMessage();
  try {
    let found;
    try {
      found = JSON.parse(await chosen.text());
    } catch {
      throw new Error(`${chosen.name} is no JSON; expected a file or a recipe that was saved here`);
    }
    if (found?.sparsight) return await apply(found, setPhoto);
    if (!isRecipe(found)) throw new Error(`${chosen.name} is no recipe: it has no name, or no edits`);
    state.recipe = found;
    state.resolveAgain = false;
    changed("edits");
  } catch (error) {
    fail(error);
  }
}

// packed: what follows #s= in a link.
export async function restore(packed, setPhoto) {
  let found;
  try {
    const bytes = Uint8Array.from(atob(packed.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    found = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return fail(new Error("the link is not whole: what follows #s= cannot be read; copy it again"));
  }
  try {
    await apply(found, setPhoto);
  } catch (error) {
    fail(error);
  }
}

async function apply(found, setPhoto) {
  if (found?.sparsight !== VERSION) throw new Error(`what was shared is of version ${found?.sparsight}; this page reads ${VERSION}`);
  const edits = Array.isArray(found.edits) ? found.edits : null;
  if (!edits || edits.length > MOST_EDITS || !edits.every((one) => isEdit(one?.edit))) throw new Error("what was shared has no list of edits");
  const number = (value, least, most, usual) => (typeof value === "number" && value >= least && value <= most ? value : usual);
  const region = Array.isArray(found.region) && found.region.length === 4 && found.region.every((x) => typeof x === "number") ? found.region : null;
  Object.assign(state, {
    prompt: typeof found.prompt === "string" && found.prompt ? found.prompt : PROMPT,
    temperature: number(found.temperature, 0, 2, 0),
    seed: number(found.seed, 0, 2147483647, 0),
    top: number(found.top, 1, 64, 16),
    region,
    edits: edits.map(({ label, edit, regional }) => ({ start: null, ...asEdit(edit), ...(label ? { label: String(label) } : {}), regional: regional !== false })),
    recipe: isRecipe(found.recipe) ? found.recipe : null,
    resolveAgain: found.resolveAgain === true,
    second: null,
  });
  const second = await brought(found.second);
  const photo = await brought(found.photo);
  state.second = second?.uri ? second : null;
  if (photo?.uri) await setPhoto(photo);
  for (const what of ["asking", "region", "edits"]) changed(what);
  for (const one of [photo, second])
    if (one && !one.uri) fail(new Error(`the link was made with the photograph ${one.name}, which only its owner has; upload it to see the same${one.sha256 ? ` (sha256 ${one.sha256.slice(0, 12)}…)` : ""}`));
}

const isRecipe = (found) => typeof found?.name === "string" && Array.isArray(found.edits) && found.edits.every(isEdit);

async function brought(photo) {
  if (!photo) return null;
  if (typeof photo.example === "string" && /^[a-z]+\.jpg$/.test(photo.example)) return examplePhoto(photo.example);
  if (typeof photo.uri === "string" && photo.uri.startsWith("data:image/")) return photoFromUri(photo.uri, String(photo.name));
  return { name: String(photo.name), sha256: String(photo.sha256 ?? "") };
}

export function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
  say(`${name} is saved.`);
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    throw new Error("the browser does not let the page write to the clipboard; select the text and press Ctrl+C (a link is in the address bar)");
  }
  toast(`${what} is on the clipboard.`);
}

function toast(text) {
  say(text);
  const shown = h("div", { class: "toast", "aria-hidden": "true" }, text);
  document.querySelector("#sparsight").append(shown);
  setTimeout(() => shown.remove(), 2500);
}
