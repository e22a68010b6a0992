// The same request elsewhere: as curl, as Python with OpenAI's client, and on the command line.

import { baseUrl } from "./gateway.js";
import { exampleUrl } from "./photo.js";
import { PROMPT, state, steering, wireEdits } from "./state.js";
import { writeShorthand } from "./shorthand.js";

const HOLE = "@@PHOTO@@";
const SECOND = "@@SECOND@@";

export function snippets() {
  return { curl: curl(), Python: python(), CLI: cli() };
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
// A file of the user's may be called anything, "-rf" too; a leading ./ makes it a file.
const file = (photo) => quoted(`./${photo.name.replace(/[/\0]/g, "_")}`);

function fetching() {
  return [state.photo, state.second].filter(Boolean).map((photo) =>
    photo.example ? `curl -sSo ${file(photo)} ${quoted(exampleUrl(photo.name))}` : `# ${photo.name.replace(/\s+/g, " ")} is your photograph, in this folder`);
}

// The request with holes where the photographs go.
function body(content) {
  const wanted = steering();
  if (wanted?.steer_from) wanted.steer_from = { ...wanted.steer_from, image_url: { url: SECOND } };
  const out = { model: state.model.name, messages: [{ role: "user", content }] };
  if (state.temperature > 0) Object.assign(out, { temperature: state.temperature, seed: state.seed });
  return wanted ? { ...out, steering: wanted } : out;
}

function curl() {
  const json = JSON.stringify(body([{ type: "image_url", image_url: { url: HOLE } }, { type: "text", text: state.prompt }]));
  const uri = (photo) => `printf 'data:image/jpeg;base64,'; base64 < ${file(photo)} | tr -d '\\n'`;
  const pieces = json.split(new RegExp(`(${HOLE}|${SECOND})`)).map((piece) =>
    piece === HOLE ? uri(state.photo) : piece === SECOND ? uri(state.second) : `printf '%s' ${quoted(piece)}`);
  return [...fetching(), `{ ${pieces.join("\n  ")}\n} | curl -sS ${baseUrl()}/v1/chat/completions \\`, `  -H 'content-type: application/json' -d @-`].join("\n");
}

function python() {
  const text = (value) => JSON.stringify(value); // a JSON string is a Python one
  const name = (photo) => text(photo.name.replace(/[/\0]/g, "_"));
  const photos = [state.photo, state.second].filter(Boolean);
  const load = photos.some((photo) => photo.example);
  const { steering: wanted, temperature, seed } = body([]);
  const lines = [
    "import base64", load && "import urllib.request", "", "from openai import OpenAI", "",
    ...photos.filter((photo) => photo.example).map((photo) => `urllib.request.urlretrieve(${text(exampleUrl(photo.name))}, ${name(photo)})`),
    ...photos.filter((photo) => !photo.example).map((photo) => `# ${photo.name.replace(/\s+/g, " ")} is your photograph, in this folder`),
    "", "",
    "def uri(path):", "    with open(path, \"rb\") as file:", "        return \"data:image/jpeg;base64,\" + base64.b64encode(file.read()).decode()",
    "", "",
    `client = OpenAI(base_url=${text(`${baseUrl()}/v1`)}, api_key="none")`,
    "answer = client.chat.completions.create(",
    `    model=${text(state.model.name)},`,
    "    messages=[{\"role\": \"user\", \"content\": [",
    `        {"type": "image_url", "image_url": {"url": uri(${name(state.photo)})}},`,
    `        {"type": "text", "text": ${text(state.prompt)}},`,
    "    ]}],",
    temperature !== undefined && `    temperature=${temperature}, seed=${seed},`,
    wanted && `    extra_body={"steering": ${literal(wanted).replace(`"${SECOND}"`, `uri(${state.second ? name(state.second) : ""})`)}},`,
    ")", "print(answer.choices[0].message.content)",
  ];
  return lines.filter((line) => line !== false && line !== undefined && line !== null).join("\n");
}

// JSON as Python writes it: only its three names differ.
function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${literal(one)}`).join(", ")}}`;
  return JSON.stringify(value);
}

function cli() {
  const recipe = state.recipe && quoted(`./${fileName(state.recipe.name)}`);
  const parts = [
    `sparsight caption ${file(state.photo)}`,
    ...wireEdits().map((edit) => `--steer ${quoted(writeShorthand(edit))}`),
    recipe && `--recipe ${recipe}`,
    recipe && state.resolveAgain && "--resolve-again",
    state.second && `--steer-from ${file(state.second)} --top ${state.top}`,
    state.prompt !== PROMPT && `--prompt ${quoted(state.prompt)}`,
  ].filter(Boolean);
  return [
    ...fetching(),
    recipe && `# ${fileName(state.recipe.name)}: save the recipe from the page`,
    state.temperature > 0 && "# the command line always says the likeliest words: temperature 0",
    parts.join(" \\\n  "),
  ].filter(Boolean).join("\n");
}

export const fileName = (name) => `${name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "recipe"}.json`;
