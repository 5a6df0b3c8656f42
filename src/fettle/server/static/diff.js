// What two texts share and where they differ, word by word.

/** @typedef {{kind: "same" | "insert" | "delete", text: string}} Piece */

const MOST_CELLS = 4_000_000;

/** @param {string} text */
function split(text) {
  return text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];
}

/**
 * The pieces that turn `before` into `after`, by their longest common subsequence of words.
 * @param {string} before @param {string} after @returns {Piece[]}
 */
export function wordDiff(before, after) {
  const [a, b] = [split(before), split(after)];
  if (a.length * b.length > MOST_CELLS) return before === after ? piece("same", before) : [...piece("delete", before), ...piece("insert", after)];
  const width = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] = a[i] === b[j] ? longest[(i + 1) * width + j + 1] + 1 : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  /** @type {Piece[]} */
  const pieces = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      add(pieces, "same", a[i]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && longest[(i + 1) * width + j] >= longest[i * width + j + 1])) {
      add(pieces, "delete", a[i]);
      i += 1;
    } else {
      add(pieces, "insert", b[j]);
      j += 1;
    }
  }
  return pieces;
}

/** @param {Piece["kind"]} kind @param {string} text @returns {Piece[]} */
function piece(kind, text) {
  return text ? [{ kind, text }] : [];
}

/** @param {Piece[]} pieces @param {Piece["kind"]} kind @param {string} text */
function add(pieces, kind, text) {
  const last = pieces.at(-1);
  if (last?.kind === kind) last.text += text;
  else pieces.push({ kind, text });
}
