// Edits as one types them, as vlm/shorthand.py has them: dog=0, cat=1.2raw, #812*1.5@0,0,0.5,1.

const OPS = { "=": "clamp", "*": "scale", "+": "add" };
const SIGNS = { ablate: "=0", clamp: "=", scale: "*", add: "+" };
const FORMS = "dog=0, cat=1, cat=1.2raw, cat*1.5, cat+0.4, #812=1 or cat=1@0,0,0.5,1";
const DOSE = /^([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(raw|p99)?$/i;

// What is no edit is an Error that says why; what the model would refuse is left to the gateway.
export function parseShorthand(text) {
  const refuse = (why) => new Error(`'${text}' is no edit: ${why}; write it like ${FORMS}`);
  const [head, ...regions] = text.split("@");
  const at = head.search(/[=*+]/);
  if (at < 0) throw refuse("it has no =, * or +");
  const target = head.slice(0, at).trim();
  const operator = head[at];
  if (!target) throw refuse("nothing stands before the operator");
  if (target.startsWith("#") && !/^#\s*\d{1,9}$/.test(target)) throw refuse(`'${target}' is no feature index such as #812`);
  const dose = DOSE.exec(head.slice(at + 1).trim());
  if (!dose) throw refuse(`no number follows ${operator}, alone or with raw`);
  const value = Number(dose[1]);
  const unit = (dose[2] ?? "").toLowerCase();
  if (operator === "*" && unit) throw refuse(`a scale is a pure factor, without ${unit}`);
  const edit = target.startsWith("#") ? { feature: Number(target.slice(1)) } : { concept: target };
  edit.op = operator === "=" && value === 0 ? "ablate" : OPS[operator];
  if (edit.op !== "ablate") edit.value = value;
  if (unit === "raw" && edit.op !== "ablate") edit.unit = "raw";
  if (regions.length) {
    edit.region = regions.join("@").split(",").map(Number);
    if (edit.region.length !== 4 || edit.region.some(Number.isNaN)) throw refuse(`'${regions.join("@")}' is no region x0,y0,x1,y1`);
  }
  return edit;
}

// Whether what came from a link or a file has the form of an edit; its sense is the gateway's to judge.
export function isEdit(edit) {
  const { op, concept, feature, value, region } = edit ?? {};
  return (
    typeof op === "string" && op in SIGNS &&
    (typeof concept === "string" || typeof feature === "number") &&
    (value === undefined || typeof value === "number") &&
    (region === undefined || (Array.isArray(region) && region.every((x) => typeof x === "number")))
  );
}

export function writeShorthand(edit) {
  const target = edit.feature === undefined ? edit.concept : `#${edit.feature}`;
  const value = edit.value === undefined ? "" : Number(edit.value.toPrecision(6));
  const unit = edit.unit === "raw" ? "raw" : "";
  const region = edit.region ? `@${edit.region.map((x) => Number(x.toPrecision(6)))}` : "";
  return `${target}${SIGNS[edit.op]}${value}${unit}${region}`;
}

// "dog=0, cat=1@0,0,0.5,1" as its edits: a comma before a bare number is a region's.
export function splitShorthand(text) {
  const out = [];
  for (const piece of text.split(/[,;\n]/)) {
    if (out.length && out.at(-1).includes("@") && /^\s*[\d.]+\s*$/.test(piece)) out[out.length - 1] += `,${piece.trim()}`;
    else if (piece.trim()) out.push(piece.trim());
  }
  return out;
}
