// Two captions, word by word: which words differ, and whether one looks broken.

export const words = (text) => text.split(/\s+/).filter(Boolean);

export const bare = (word) => word.toLowerCase().replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "");

// For each word of both texts, whether the other lacks it: by the longest common run of words.
export function differing(one, other) {
  const [a, b] = [words(one), words(other)];
  const [x, y] = [a.map(bare), b.map(bare)];
  const longest = Array.from({ length: x.length + 1 }, () => new Uint16Array(y.length + 1));
  for (let i = x.length - 1; i >= 0; i--)
    for (let j = y.length - 1; j >= 0; j--)
      longest[i][j] = x[i] === y[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
  const inA = a.map(() => true);
  const inB = b.map(() => true);
  for (let i = 0, j = 0; i < x.length && j < y.length; ) {
    if (x[i] === y[j]) inA[i++] = inB[j++] = false;
    else if (longest[i + 1][j] >= longest[i][j + 1]) i++;
    else j++;
  }
  return [inA, inB];
}

// Whether a growing text has left the one it is compared with.
export const hasLeft = (growing, whole) => growing.length > 0 && !whole.startsWith(growing);

// Why an answer looks broken, "" where it does not: the rules of vlm/corruption.py that need no
// fitting (nothing said, cut off, says itself again, odd signs).
export function broken(text, finish) {
  const said = text.toLowerCase().replaceAll("’", "'").match(/[\p{L}]+(?:'[\p{L}]+)*/gu) ?? [];
  if (!said.length) return "it says nothing";
  if (finish === "length") return "it was cut off at the longest answer";
  for (let n = 1; n <= 6; n++) {
    const needed = n === 1 ? 4 : 3;
    for (let start = 0; start + n * needed <= said.length; start++) {
      const run = said.slice(start, start + n * needed);
      if (run.every((word, i) => word === run[i % n])) return `it repeats “${run.slice(0, n).join(" ")}”`;
    }
  }
  const pairs = said.slice(1).map((word, i) => `${said[i]} ${word}`);
  if (said.length >= 16 && new Set(pairs).size < 0.5 * pairs.length) return "it goes round in circles";
  const odd = [...text].filter((c) => !/[\p{L}\p{N}_\s.,;:'"\-()?!‘’“”]/u.test(c)).length;
  return odd > 0.2 * text.length ? "it is full of odd signs" : "";
}
