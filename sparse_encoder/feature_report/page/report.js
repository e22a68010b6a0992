"use strict";
// The table of all features and the view of one. Data comes as scripts that call index() and
// chunk(), because a page opened from disk may not fetch. Words are set as text, never as HTML.

const sparsight = (() => {
  const ROWS = 100;
  const HEADS = {
    name: "name", density: "density %", modality: "modality", p99: "p99", name_score: "text activation",
    trust: "trust", trust_low: "AUC at least", clarity: "clarity", monosemanticity: "monosem.",
  };
  const VERDICTS = ["", "unverified", "doubtful", "verified"]; // ever better
  const WORDS = new Set(["name", "trust"]); // columns that are left-aligned words
  const chunks = new Map();
  let index, order = [], page = 0, sorted = { key: "density", down: true };
  const by = (id) => document.getElementById(id);

  const element = (tag, text, more = {}) => {
    const made = Object.assign(document.createElement(tag), more);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const title = (i) => index.columns.name[i] || "no name";
  const link = (i) => element("a", `#${i} ${title(i)}`, { href: `#${i}` });
  const shown = (key, value) => {
    if (value === null || value === undefined) return "-";
    if (key === "name" || key === "trust") return value || "-";
    if (typeof value !== "number") return Array.isArray(value) ? JSON.stringify(value) : String(value);
    return key === "density" ? (100 * value).toFixed(2) : value.toPrecision(3);
  };

  const select = () => {
    const words = by("query").value.trim().toLowerCase();
    const all = by("dead").checked;
    const verdict = by("verdict").value;
    const { name, density, trust } = index.columns;
    order = [];
    for (let i = 0; i < name.length; i += 1) {
      if (!all && !(density[i] > 0)) continue;
      if (verdict !== "any" && trust && trust[i] !== verdict) continue;
      const called = words.startsWith("#") ? `#${i}` === words : name[i].toLowerCase().includes(words);
      if (called || (words && index.further[i].toLowerCase().includes(words))) order.push(i);
    }
    const column = sorted.key === "feature" ? null : index.columns[sorted.key];
    const low = index.columns.trust_low;
    const value = (i) => {
      if (column === null) return i;
      // Verdicts by how good they are, and within one by what the AUC is at least.
      return sorted.key === "trust" ? 2 * VERDICTS.indexOf(column[i]) + (low[i] || 0) : column[i];
    };
    const sign = sorted.down ? -1 : 1;
    order.sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === y) return a - b;
      if (x === null || x === "") return 1; // what is not known comes last, whichever the way
      if (y === null || y === "") return -1;
      return (x < y ? -1 : 1) * sign;
    });
    page = 0;
    table();
  };

  const table = () => {
    const keys = ["feature", ...Object.keys(index.columns)];
    const head = element("tr");
    for (const key of keys) {
      const arrow = key === sorted.key ? (sorted.down ? " ↓" : " ↑") : "";
      const button = element("button", (HEADS[key] || key) + arrow);
      button.onclick = () => {
        sorted = { key, down: key === sorted.key ? !sorted.down : key !== "name" && key !== "feature" };
        select();
      };
      const cell = element("th", undefined, { ariaSort: key !== sorted.key ? "none" : sorted.down ? "descending" : "ascending" });
      if (WORDS.has(key)) cell.style.textAlign = "left";
      cell.append(button);
      head.append(cell);
    }
    by("table").tHead.replaceChildren(head);
    const rows = order.slice(page * ROWS, (page + 1) * ROWS).map((i) => {
      const row = element("tr");
      const first = element("td");
      first.append(element("a", i, { href: `#${i}` }));
      row.append(first);
      for (const key of Object.keys(index.columns)) {
        const cell = element("td", shown(key, index.columns[key][i]));
        if (WORDS.has(key)) cell.style.textAlign = "left";
        if (key === "trust") cell.className = index.columns.trust[i];
        row.append(cell);
      }
      return row;
    });
    by("table").tBodies[0].replaceChildren(...rows);
    by("count").textContent = `${order.length} features`;
    const pages = Math.max(1, Math.ceil(order.length / ROWS));
    by("place").textContent = `page ${page + 1} of ${pages}`;
    by("back").disabled = page === 0;
    by("on").disabled = page + 1 >= pages;
  };

  const FACTS = { density: "density % of reference images", modality: "modality (1: images only, 0: texts only)",
    monosemanticity: "monosemanticity", p99: "p99, the unit of a dose", name_score: "text activation of the name" };

  // test: held-out images that say the name, AUC, upper end of its interval.
  const trustWords = (i, [positives, auc, high]) => {
    const { name, trust, trust_low: low } = index.columns;
    if (!name[i]) return "no name to test";
    const images = `${positives} held-out image${positives === 1 ? "" : "s"} said to show it`;
    if (auc === null) return `${trust[i]}: ${images}, too few to tell`;
    return `${trust[i]}: AUC ${auc.toFixed(2)} (${low[i].toFixed(2)} to ${high.toFixed(2)}), ${images}`;
  };

  const listOf = (heading, near) => {
    const part = element("section"), list = element("ul");
    for (const [j, cosine] of near) {
      const item = element("li", cosine === null ? "" : `${cosine.toFixed(2)} `);
      item.append(link(j));
      list.append(item);
    }
    part.append(element("h2", heading), list);
    return part;
  };

  const one = (i, row) => {
    const main = by("one");
    const facts = element("dl");
    const fact = (key, value) => facts.append(element("dt", key), element("dd", value));
    fact("further names", row.further.join(", ") || "-");
    if (row.description) fact("description", row.description);
    if (row.test) fact("trust", trustWords(i, row.test));
    if (row.named_by) fact("named by", row.named_by === "images" ? "what its images show" : "the text tower");
    for (const [key, column] of Object.entries(index.columns)) {
      if (key !== "name" && !key.startsWith("trust")) fact(FACTS[key] || HEADS[key] || key, shown(key, column[i]));
    }
    for (const [share, value] of row.quantiles.slice(1)) {
      const key = share === 1 ? "largest" : `p${Math.round(100 * share)}`;
      if (!(key in index.columns)) fact(key, value);
    }
    for (const [key, value] of Object.entries(row.more || {})) if (!(key in index.columns)) fact(key.replaceAll("_", " "), shown(key, value));
    main.replaceChildren(element("p"), element("h1", `Feature ${i}: ${title(i)}`), facts);
    main.firstChild.append(element("a", "All features", { href: "#" }));
    if (row.quantiles.length) {
      const canvas = element("canvas", undefined, { width: 640, height: 200 });
      main.append(element("h2", "Activations"), canvas,
        element("p", "Non-zero activations on the reference images, raw units; a bar's area is its share of them.", { className: "soft" }));
      plots.distribution(canvas, row.quantiles);
    }
    if (row.pictures && row.pictures.length) {
      const list = element("div", undefined, { className: "pictures" });
      for (const [n, activation, cells] of row.pictures) {
        const figure = element("figure"), canvas = element("canvas");
        const picture = element("img", undefined, { src: `pictures/${n}.jpg` });
        picture.onload = () => plots.map(canvas, picture, cells, index.grid);
        figure.append(canvas, element("figcaption", `activation ${activation}`));
        list.append(figure);
      }
      main.append(element("h2", "Strongest pictures"), list);
    }
    if (row.maps && row.maps.length) {
      const list = element("div", undefined, { className: "pictures maps" });
      for (const [id, activation, cells] of row.maps) {
        const figure = element("figure"), canvas = element("canvas");
        plots.cells(canvas, Uint8Array.from(atob(cells), (c) => c.charCodeAt(0)), index.map_grid);
        figure.append(canvas, element("figcaption", `${id}, activation ${activation}`));
        list.append(figure);
      }
      main.append(element("h2", "Where it is active in its strongest reference images"), list,
        element("p", "The images themselves are not part of a report.", { className: "soft" }));
    }
    const near = element("div", undefined, { className: "columns" });
    if (row.near.length) near.append(listOf("Like it by direction (cosine of head rows)", row.near));
    if (row.active.length) near.append(listOf("Active on the same images", row.active.map((j) => [j, null])));
    main.append(near);
  };

  const open = () => {
    const i = location.hash.length > 1 ? Number(location.hash.slice(1)) : NaN;
    const known = Number.isInteger(i) && i >= 0 && i < index.columns.name.length;
    by("list").hidden = known;
    by("one").hidden = !known;
    if (!known) return;
    window.scrollTo(0, 0);
    const number = Math.floor(i / index.chunk);
    if (chunks.has(number)) { one(i, chunks.get(number)[i % index.chunk]); return; }
    by("one").replaceChildren(element("p", "loading ..."));
    const src = `data/${String(number).padStart(4, "0")}.js`;
    document.head.append(element("script", undefined, {
      src, onload: open, onerror: () => by("one").replaceChildren(element("p", `${src} is missing from the report`)),
    }));
  };

  return {
    index: (data) => {
      index = data;
      const { name, density, modality } = index.columns;
      const live = density.filter((d) => d > 0).length, named = name.filter(Boolean).length;
      const trust = index.columns.trust;
      const verified = trust ? `, ${trust.filter((v) => v === "verified").length} of these verified` : "";
      document.title = `Features of ${index.model}`;
      by("title").textContent = document.title;
      by("facts").textContent = `${name.length} features, ${live} live, ${named} with a name${verified}. Model ${index.fingerprint.slice(0, 12)}.`;
      const canvas = by("scatter");
      plots.scatter(canvas, density, modality);
      canvas.onmousemove = (event) => {
        const i = plots.nearest(canvas, event, density, modality);
        by("pointed").textContent = i < 0 ? "" : `#${i} ${title(i)}`;
      };
      canvas.onclick = (event) => {
        const i = plots.nearest(canvas, event, density, modality);
        if (i >= 0) location.hash = `#${i}`;
      };
      by("verdicts").hidden = !index.columns.trust;
      by("verdict").onchange = select;
      by("query").oninput = select;
      by("dead").onchange = select;
      by("back").onclick = () => { page -= 1; table(); };
      by("on").onclick = () => { page += 1; table(); };
      window.onhashchange = open;
      select();
      open();
    },
    chunk: (number, rows) => chunks.set(number, rows),
  };
})();
