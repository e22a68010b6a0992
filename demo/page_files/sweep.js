// What one concept does over several doses: likeness of each caption to its name as a plot, and the
// captions themselves.

import { h, svg } from "./element.js";
import { post } from "./gateway.js";
import { fail, say } from "./messages.js";
import { on, state } from "./state.js";
import { addConcept } from "./search.js";
import { differing, words } from "./words.js";

const [WIDTH, HEIGHT] = [420, 220];
const EDGE = { left: 38, right: 10, top: 16, bottom: 40 };

export function drawSweep() {
  let asked = null;
  const concept = h("input", { type: "text", id: "sweep-concept", value: "dog", "aria-label": "Concept of the sweep" });
  const go = h("button", { type: "submit", class: "primary" }, "Sweep");
  const out = h("div", { class: "sweep-out" });
  const form = h("form", { class: "line", onsubmit: async (event) => {
    event.preventDefault();
    if (!state.photo || !concept.value.trim()) return;
    asked?.abort();
    asked = new AbortController();
    go.textContent = "Sweeping…";
    out.classList.add("stale");
    try {
      const name = concept.value.trim();
      const target = /^#\d+$/.test(name) ? { feature: Number(name.slice(1)) } : { concept: name };
      const found = await post("v1/steering/sweep", { model: state.model.name, image: state.photo.uri, prompt: state.prompt, ...target }, asked.signal);
      out.replaceChildren(...show(found));
      say(`Sweep of ${name}: ${found.points.length} captions`);
    } catch (error) {
      fail(error);
    } finally {
      go.textContent = "Sweep";
      out.classList.remove("stale");
    }
  } }, concept, go);
  on("photo", () => { asked?.abort(); out.replaceChildren(); });
  on("edits", () => {
    const last = state.edits.findLast((one) => one.edit.concept && one.edit.op !== "ablate");
    if (last && document.activeElement !== concept) concept.value = last.edit.concept;
  });
  return h("section", { class: "card sweep", "aria-labelledby": "sweep-title" },
    h("h2", { id: "sweep-title" }, "Dose sweep"),
    h("p", { class: "hint" }, "One concept at rising doses, alone. A full point says the concept."), form, out);
}

function show(found) {
  const { points } = found;
  const text = points.some((point) => point.likeness === null);
  const picked = h("p", { class: "caption small", "aria-live": "polite" });
  const pick = (i) => {
    const point = points[i];
    const [, won] = differing(found.unsteered.text, point.text);
    picked.replaceChildren(h("strong", {}, `${point.dose} p99 `), ...words(point.text).flatMap((word, j) => [won[j] ? h("ins", {}, word) : word, " "]));
    chart.querySelectorAll(".point").forEach((dot, j) => dot.classList.toggle("picked", j === i));
  };
  const chart = plot(found, text, pick);
  const rows = points.map((point, i) => h("tr", { onpointerenter: () => pick(i) },
    h("th", { scope: "row", class: "number" }, `${point.dose}`), h("td", {}, point.text),
    h("td", {}, point.says ? "says it" : ""),
    h("td", {}, found.concept ? h("button", { type: "button", class: "quiet small", "aria-label": `Use ${found.concept} at ${point.dose} p99`, onclick: () => addConcept(found.concept, point.dose) }, "Use") : null)));
  const first = points.findIndex((point) => point.says);
  pick(first < 0 ? points.length - 1 : first);
  const head = ["dose, p99", "caption", "", ""].map((name) => h("th", { scope: "col" }, name));
  return [chart, picked, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Captions of the sweep" }, h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)))];
}

// Doses stand evenly: they are chosen closer where captions turn.
function plot(found, flat, pick) {
  const { points, effective, safe_max: safe } = found;
  const inner = [WIDTH - EDGE.left - EDGE.right, HEIGHT - EDGE.top - EDGE.bottom];
  const x = (i) => EDGE.left + (inner[0] * (i + 0.5)) / points.length;
  const value = (point) => (flat ? Number(point.says) : point.likeness);
  const [low, high] = [Math.min(0, ...points.map(value)), Math.max(0.2, ...points.map(value)) * 1.05];
  const y = (v) => EDGE.top + inner[1] * (1 - (v - low) / (high - low));
  const line = points.map((point, i) => `${i ? "L" : "M"}${x(i)} ${y(value(point))}`).join("");
  const bottom = EDGE.top + inner[1];
  const at = (dose) => points.findIndex((point) => point.dose === dose);
  const late = at(effective) > points.length - 3; // no room to the right of its line
  const unsafe = safe === null ? -1 : points.findIndex((point) => point.dose > safe);
  const ticks = [low, (low + high) / 2, high];
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "plot", role: "group", "aria-label": `Likeness of the caption to ${found.name || "the feature"} by dose` },
    unsafe > 0 && svg("rect", { class: "unsafe", x: x(unsafe) - inner[0] / points.length / 2, y: EDGE.top, width: WIDTH - EDGE.right - x(unsafe) + inner[0] / points.length / 2, height: inner[1] }),
    ticks.map((tick) => [svg("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(tick), y2: y(tick) }), svg("text", { x: EDGE.left - 8, y: y(tick) + 4, "text-anchor": "end" }, tick.toFixed(2))]),
    // The word stands low: at a dose that works the curve is high.
    at(effective) >= 0 && [svg("line", { class: "effective", x1: x(at(effective)), x2: x(at(effective)), y1: EDGE.top, y2: bottom }), svg("text", { x: x(at(effective)) + (late ? -6 : 6), y: bottom - 8, "text-anchor": late ? "end" : "start" }, "effective")],
    svg("path", { class: "curve", d: line }),
    points.map((point, i) => svg("circle", { class: point.says ? "point says" : "point", cx: x(i), cy: y(value(point)), r: 6, tabindex: "0", role: "img", "aria-label": `${point.dose} p99: ${point.text}`, onpointerenter: () => pick(i), onfocus: () => pick(i) }, svg("title", {}, point.text))),
    points.map((point, i) => svg("text", { x: x(i), y: bottom + 18, "text-anchor": "middle" }, `${point.dose}`)),
    svg("text", { x: EDGE.left + inner[0] / 2, y: HEIGHT - 4, "text-anchor": "middle", class: "axis" }, "dose, p99"));
}
