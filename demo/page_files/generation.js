// Both captions: asked for when something changes, the older request let go. The gateway keeps a
// photograph's codes, so that only the language model works again; leaving a request ends its answer.

import { stream } from "./gateway.js";
import { fail, onBack } from "./messages.js";
import { isSteered, on, state, steering } from "./state.js";
import { hasLeft } from "./words.js";

const WAIT_MS = 40; // after a slider's last step

export const answers = { plain: null, steered: null }; // {text, finish, receipt, whole, failed}
const views = [];
const kept = new Map(); // whole unsteered answers by what was asked
let plainAsked, steeredAsked, timer;
let moved = 0; // when the edits changed last, ms
export const timings = []; // ms from that to the first changed word on the page

// draw(): called whenever an answer has grown.
export function onAnswers(draw) {
  views.push(draw);
}

export function startGeneration() {
  on("photo asking", () => { askPlain(); askSteered(); });
  on("edits", () => {
    moved = performance.now();
    clearTimeout(timer);
    steeredAsked?.abort();
    if (answers.steered) answers.steered = { ...answers.steered, stale: true }; // from the very first step on
    draw();
    timer = setTimeout(askSteered, isSteered() ? WAIT_MS : 0);
  });
  onBack(() => {
    if (!answers.plain?.whole) askPlain();
    if (isSteered() && !answers.steered?.whole) askSteered();
  });
}

export function chatBody() {
  const body = {
    model: state.model.name,
    messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: state.photo.uri } }, { type: "text", text: state.prompt }] }],
  };
  if (state.temperature > 0) Object.assign(body, { temperature: state.temperature, seed: state.seed });
  const wanted = steering();
  return wanted ? { ...body, steering: wanted } : body;
}

async function askPlain() {
  plainAsked?.abort();
  answers.plain = null;
  draw();
  if (!state.photo || !state.model) return;
  const { steering: _, ...body } = chatBody();
  const key = [state.photo.sha256 || state.photo.url, state.prompt, state.temperature, state.seed].join("\n");
  if (kept.has(key)) {
    answers.plain = kept.get(key);
    return draw();
  }
  plainAsked = new AbortController();
  const whole = await follow("plain", body, plainAsked);
  if (whole) kept.set(key, whole);
}

async function askSteered() {
  steeredAsked?.abort();
  clearTimeout(timer);
  if (!state.photo || !state.model || !isSteered()) {
    answers.steered = null;
    return draw();
  }
  steeredAsked = new AbortController();
  const since = moved;
  moved = 0;
  await follow("steered", chatBody(), steeredAsked, (text) => {
    const plain = answers.plain;
    if (!since || !plain?.whole || !hasLeft(text, plain.text)) return false;
    // After the next frame the word is on the screen, not only in the document.
    requestAnimationFrame(() => setTimeout(() => {
      answers.steered && (answers.steered.firstWordMs = performance.now() - since);
      timings.push(performance.now() - since);
      document.querySelector("#sparsight").dataset.firstWordMs = timings.at(-1).toFixed(0);
      draw();
    }));
    return true;
  });
}

// Grows answers[which] to its end; the whole answer, or null where it was let go or failed.
async function follow(which, body, asked, onChange = () => true) {
  let told = false;
  // The answer before stays in sight, greyed, until the new one has its first word.
  if (answers[which]) answers[which] = { ...answers[which], stale: true };
  draw();
  const answer = { text: "", finish: null, receipt: null, whole: false };
  try {
    for await (const piece of stream(body, asked.signal)) {
      answer.text += piece.text;
      answer.finish = piece.finish ?? answer.finish;
      answer.receipt = piece.receipt ?? answer.receipt;
      if (answer.text) answers[which] = answer;
      draw();
      told ||= onChange(answer.text);
    }
    answers[which] = answer;
    answer.whole = true;
    draw();
    return answer;
  } catch (error) {
    if (error.name === "AbortError" || asked.signal.aborted) return null;
    answers[which] = { text: "", failed: error.message, whole: false }; // half a caption looks like an answer
    draw();
    fail(error);
    return null;
  }
}

function draw() {
  for (const view of views) view();
}
