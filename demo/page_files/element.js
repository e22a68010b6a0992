// Makes DOM elements. Text always goes in as text: what a server or a file says is never HTML.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-")) element.setAttribute(name, value); // "true" and "false" are words there
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

// A drawn sign beside words, or alone in a button that has an aria-label.
const SIGNS = {
  close: "M5 5l10 10M15 5L5 15",
  where: "M10 2.5v4M10 13.5v4M2.5 10h4M13.5 10h4M10 5.5a4.5 4.5 0 100 9 4.5 4.5 0 000-9z",
  search: "M9 3.5a5.5 5.5 0 100 11 5.5 5.5 0 000-11zM13.2 13.2l4 4",
  upload: "M10 13V3.5M6 7l4-4 4 4M3.5 13v3.5h13V13",
  camera: "M3 6.5h3.5L8 4.5h4l1.5 2H17v9.500H3zM10 8.200a2.800 2.800 0 100 5.600 2.800 2.800 0 000-5.600z",
  paste: "M6.500 4.500H5v12h10v-12h-1.500M7.500 3h5v3h-5z",
  theme: "M10 3.500a6.500 6.500 0 100 13zM10 3.500a6.500 6.500 0 110 13",
  link: "M8.500 11.500l3-3M9 6.500l1.700-1.700a3.200 3.200 0 014.500 4.500L13.500 11M11 13.500l-1.700 1.700a3.200 3.200 0 01-4.500-4.500L6.500 9",
  back: "M12 4l-6 6 6 6",
  undo: "M4 8.500h8a4 4 0 010 8H8M7 5L3.500 8.500 7 12",
};

export function sign(name) {
  return svg("svg", { viewBox: "0 0 20 20", class: "sign", "aria-hidden": "true" }, svg("path", { d: SIGNS[name] }));
}

export function iconButton(name, label, onclick, props = {}) {
  return h("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick, ...props }, sign(name));
}
