// A photograph as the page holds it: the file's own bytes, untouched, so that receipts name its sha256.

import { h, iconButton, sign } from "./element.js";
import { GatewayError, baseUrl } from "./gateway.js";

const EXAMPLES = [
  { name: "chelsea.jpg", shows: "Chelsea the cat" },
  { name: "coffee.jpg", shows: "a cup of coffee" },
  { name: "rocket.jpg", shows: "a rocket on its pad at night" },
  { name: "astronaut.jpg", shows: "the astronaut Eileen Collins" },
  { name: "sign.jpg", shows: "a stop sign, drawn" },
];
const MOST_BYTES = 20e6; // a data URI is a third larger, and the gateway takes 32 MiB

export const exampleUrl = (name) => new URL(`examples/${name}`, import.meta.url).href;

// {name, example, sha256, uri, url}: `example` says that the page itself has it, `url` shows it.
export async function readPhoto(blob, name, example = false) {
  if (blob.size > MOST_BYTES) throw new Error(`${name} has ${(blob.size / 1e6).toFixed(1)} MB, at most 20 are taken; make it smaller`);
  const bytes = await blob.arrayBuffer();
  // Browsers hash only on https and on this machine itself; elsewhere links go by name alone.
  const digest = globalThis.crypto?.subtle ? new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)) : [];
  const sha256 = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const kind = blob.type.startsWith("image/") ? blob.type : "image/jpeg"; // the gateway goes by the bytes
  const typed = new Blob([bytes], { type: kind });
  return { name, example, sha256, uri: await dataUri(typed), url: URL.createObjectURL(typed) };
}

export async function examplePhoto(name) {
  const got = await fetch(exampleUrl(name)).catch(() => {
    throw new GatewayError(`no answer from ${baseUrl()}; is \`sparsight serve\` running there?`, { gone: true });
  });
  if (!got.ok) throw new Error(`there is no example photograph ${name}; choose another`);
  return readPhoto(await got.blob(), name, true);
}

export const photoFromUri = async (uri, name) => readPhoto(await (await fetch(uri)).blob(), name);

function dataUri(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("the photograph cannot be read; choose it again"));
    reader.readAsDataURL(blob);
  });
}

// Ways to choose a photograph: upload, paste, camera, examples. take(promise of a photograph).
export function drawIntake(take, label) {
  const file = h("input", { type: "file", accept: "image/*", class: "hidden", tabindex: "-1", "aria-label": `Upload ${label}`, onchange: () => {
    if (file.files[0]) take(readPhoto(file.files[0], file.files[0].name));
    file.value = "";
  } });
  const examples = EXAMPLES.map(({ name, shows }) =>
    h("button", { type: "button", class: "thumb", "aria-label": `Example: ${shows}`, title: shows, onclick: () => take(examplePhoto(name)) },
      h("img", { src: exampleUrl(name), alt: "" })));
  return h("div", { class: "intake", role: "group", "aria-label": `Choose ${label}` },
    file,
    h("button", { type: "button", class: "quiet", onclick: () => file.click() }, sign("upload"), "Upload"),
    iconButton("paste", `Paste ${label}`, () => take(pasted())),
    iconButton("camera", `Take ${label} with the camera`, () => take(snapped())),
    h("span", { class: "thumbs" }, examples));
}

// The image of a paste or drop event, null where it has none.
export function fileOf(transfer) {
  const file = [...(transfer?.files ?? [])][0];
  return file ? readPhoto(file, file.name) : null;
}

async function pasted() {
  let items;
  try {
    items = await navigator.clipboard.read();
  } catch {
    throw new Error("the browser does not let the page read the clipboard; press Ctrl+V instead");
  }
  for (const item of items) {
    const kind = item.types.find((type) => type.startsWith("image/"));
    if (kind) return readPhoto(await item.getType(kind), `pasted.${kind.slice(6)}`);
  }
  throw new Error("there is no picture on the clipboard; copy one first");
}

async function snapped() {
  let film;
  try {
    film = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) {
    const why = error.name === "NotAllowedError" ? "the browser was not allowed to use it" : "there is none, or it is in use";
    throw new Error(`no picture from the camera: ${why}`);
  }
  const video = h("video", { autoplay: true, playsinline: true, muted: true, "aria-label": "What the camera sees" });
  video.srcObject = film;
  const shot = h("button", { type: "button", class: "primary" }, "Take the picture");
  const leave = h("button", { type: "button", class: "quiet" }, "Cancel");
  const dialog = h("dialog", { class: "camera", "aria-label": "Camera" }, video, h("div", { class: "line" }, shot, leave));
  document.querySelector("#sparsight").append(dialog);
  dialog.showModal();
  try {
    const taken = await new Promise((resolve) => {
      shot.addEventListener("click", () => resolve(true));
      leave.addEventListener("click", () => resolve(false));
      dialog.addEventListener("cancel", () => resolve(false));
    });
    if (!taken) return null;
    const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    return readPhoto(await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92)), "camera.jpg");
  } finally {
    film.getTracks().forEach((track) => track.stop());
    dialog.remove();
  }
}
