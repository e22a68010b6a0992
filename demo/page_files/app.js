// The page: what is where, and what happens when it is opened.

import { drawAtlas } from "./atlas.js";
import { drawCaptions } from "./captions.js";
import { h, iconButton } from "./element.js";
import { get, post } from "./gateway.js";
import { startGeneration } from "./generation.js";
import { clearMessage, drawMessages, fail, onBack, say } from "./messages.js";
import { drawIntake, examplePhoto, fileOf } from "./photo.js";
import { drawPicture } from "./picture.js";
import { drawRows } from "./rows.js";
import { drawSearch } from "./search.js";
import { drawShare, restore } from "./share.js";
import { changed, on, state } from "./state.js";
import { drawStories } from "./stories.js";
import { drawSweep } from "./sweep.js";

const N_FEATURES = 40;
const FIRST = "chelsea.jpg";

let asked = null; // AbortController of the features that are on their way

// What is in a new photograph; edits stay, so that one recipe can be seen on several photographs.
export async function setPhoto(photo) {
  state.photo = photo;
  state.features = [];
  changed("photo");
  changed("features");
  await look();
}

async function look() {
  if (!state.photo) return;
  asked?.abort();
  asked = new AbortController();
  try {
    const found = await post("v1/features/activations", { image: state.photo.uri, top: N_FEATURES }, asked.signal);
    state.features = found.features;
    changed("features");
    say(`Photograph ${state.photo.name}: ${found.n_active} features are active.`);
  } catch (error) {
    fail(error);
  }
}

// photo: a promise; null where the user thought better of it.
async function take(photo, use = setPhoto) {
  try {
    const read = await photo;
    if (!read) return;
    clearMessage();
    await use(read);
  } catch (error) {
    fail(error);
  }
}

async function meet() {
  try {
    const [card] = (await get("v1/models")).data;
    state.model = { name: card.id, fingerprint: card.steering.fingerprint, features: card.steering.n_features };
    changed("model");
    return true;
  } catch (error) {
    fail(error);
    return false;
  }
}

function drawHead(views) {
  const model = h("span", { class: "model" });
  on("model", () => { model.textContent = `${state.model.name} · ${state.model.features.toLocaleString("en")} features`; });
  const tabs = Object.keys(views).map((name) => h("a", { href: name === "Steer" ? "#" : `#${name.toLowerCase()}` }, name));
  const follow = () => {
    const at = location.hash.startsWith("#atlas") ? "Atlas" : "Steer";
    for (const [name, view] of Object.entries(views)) view.hidden = name !== at;
    tabs.forEach((tab) => (tab.textContent === at ? tab.setAttribute("aria-current", "page") : tab.removeAttribute("aria-current")));
  };
  addEventListener("hashchange", follow);
  follow();
  return h("header", {},
    h("a", { class: "name", href: "#" }, h("h1", {}, "Sparsight")),
    h("p", { class: "tagline" }, "Read a photograph’s code. Change it. The caption follows."),
    h("nav", { "aria-label": "Pages" }, tabs), model, iconButton("theme", "Light or dark", switchTheme));
}

const THEME = "sparsight-theme";

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.look ? root.dataset.look === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.look = dark ? "light" : "dark";
  localStorage.setItem(THEME, root.dataset.look);
}

function draw(root) {
  const chooseExample = async (name) => setPhoto(await examplePhoto(name));
  const picture = drawPicture();
  const steer = h("main", { class: "view" },
    drawStories(chooseExample, take),
    h("div", { class: "columns" },
      h("section", { class: "left", "aria-label": "Photograph" }, picture, drawIntake(take, "a photograph"),
        h("p", { class: "hint" }, "Drag on the picture to keep edits to a region. The photograph goes to the gateway and is not kept."),
        drawSweep()),
      h("section", { class: "middle", "aria-label": "Features and edits" }, drawSearch(), drawRows()),
      h("section", { class: "right", "aria-label": "Captions" }, drawCaptions(), drawShare(take, setPhoto))));
  const atlas = h("main", { class: "view", hidden: true });
  const head = drawHead({ Steer: steer, Atlas: atlas });
  root.replaceChildren(head, ...drawMessages(), steer, atlas);
  drawAtlas(atlas);
  picture.addEventListener("dragover", (event) => event.preventDefault());
  picture.addEventListener("drop", (event) => {
    event.preventDefault();
    const file = fileOf(event.dataTransfer);
    if (file) take(file);
  });
  document.addEventListener("paste", (event) => {
    const file = fileOf(event.clipboardData);
    if (file) take(file);
  });
}

async function open(root) {
  const look_ = localStorage.getItem(THEME);
  if (look_) document.documentElement.dataset.look = look_;
  draw(root);
  startGeneration();
  onBack(async () => {
    if (!state.model && !(await meet())) return;
    if (!state.photo) await begin();
    else if (!state.features.length) await look();
  });
  addEventListener("hashchange", () => { if (location.hash.startsWith("#s=")) begin(); });
  if (await meet()) await begin();
  root.dataset.ready = true;
}

// The photograph and edits of a shared link, or the first example.
async function begin() {
  if (location.hash.startsWith("#s=")) await restore(location.hash.slice(3), setPhoto);
  else await take(examplePhoto(FIRST));
}

// Gradio draws the page; its place for us comes up a moment after this script.
const waiting = setInterval(() => {
  const root = document.querySelector("#sparsight");
  if (!root) return;
  clearInterval(waiting);
  open(root);
}, 20);
