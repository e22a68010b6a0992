// One click each: an edit of the photograph that is there, or of an example where it has no use for it.

import { h } from "./element.js";
import { drawIntake } from "./photo.js";
import { asEdit } from "./search.js";
import { changed, on, reset, state } from "./state.js";

const LEAST_SHARE = 0.02; // of the code: below it the photograph has nothing of a story's subject
const TEXT = ["stop sign", "sign", "street sign", "text", "letters"];
const SNOW = 2; // p99

const remove = (concept) => ({ concept, op: "ablate" });
const clamp = (concept, value) => ({ concept, op: "clamp", value });
const tell = (edits) => reset(edits.map(asEdit));

// choose(name): a promise of that example on the page.
export function drawStories(choose, take) {
  const chooseExample = (name) => {
    reset([]); // edits of the photograph before would be tried on this one first
    return choose(name);
  };
  const pet = story("Cat to dog", async () => {
    if (!pets()) await chooseExample("chelsea.jpg");
    const [from, to] = pets() === "dog" ? ["dog", "cat"] : ["cat", "dog"];
    tell([remove(from), clamp(to, 1)]);
  });
  on("features", () => { pet.textContent = pets() === "dog" ? "Dog to cat" : "Cat to dog"; });
  const text = story("Hide the text", async () => {
    if (share(["sign", "text", "letters"]) < LEAST_SHARE) await chooseExample("sign.jpg");
    // Behind the sign of the example stand trees; without something to say instead it is guessed again.
    const behind = state.photo.example && state.photo.name === "sign.jpg" ? [clamp("tree", 1)] : [];
    tell([...TEXT.map(remove), ...behind]);
  });
  const snow = story("What if it snowed?", async () => {
    if (!state.photo) await chooseExample("rocket.jpg");
    tell([clamp("snow", SNOW)]);
  });
  const dialog = h("dialog", { class: "second", "aria-labelledby": "second-title" },
    h("h2", { id: "second-title" }, "Mix with a second photograph"),
    h("p", { class: "hint" }, "Its strongest features that this photograph lacks are added to the code."),
    drawIntake((photo) => {
      dialog.close();
      take(photo, (second) => {
        reset([]);
        state.second = second;
        changed("edits");
      });
    }, "the second photograph"),
    h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Cancel"));
  const mix = story("Mix with a second photograph", () => dialog.showModal());
  return h("div", { class: "stories", role: "group", "aria-label": "One-click stories" }, h("span", { class: "hint" }, "Try"), pet, text, snow, mix, dialog);
}

const story = (text, onclick) => h("button", { type: "button", class: "story", onclick }, text);

// How much of the code features with such names have, 0 to 1.
function share(names) {
  return state.features.filter(({ name }) => name.split(" ").some((word) => names.includes(word))).reduce((sum, one) => sum + one.share, 0);
}

// The pet that is strongest in the photograph, null where it has neither.
function pets() {
  const [dog, cat] = [share(["dog"]), share(["cat"])];
  return Math.max(dog, cat) < LEAST_SHARE ? null : dog > cat ? "dog" : "cat";
}
