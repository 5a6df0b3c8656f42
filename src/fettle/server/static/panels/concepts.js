// Concepts that the fine-tune moved: frozen lenses of the base model over the checkpoints.

import { fill, footnote, h } from "../dom.js";
import { decimal, integer, measured, notMeasured, shown } from "../format.js";
import { select } from "../panel.js";

const FEW = 12;
const GRADES = ["A", "B", "C", "U"];

/** @typedef {[string, (lens: any) => any]} Column title, and what it is sorted by */

/** @type {import("../panel.js").PanelSpec} */
export const concepts = {
  id: "concepts",
  title: "Concepts",
  wide: true,
  mount(context) {
    /** @type {any} */
    let drift = null;
    const state = { grade: "", branch: "", sort: "Effect", descending: true, most: FEW, open: "" };
    const draw = () => fill(context.body, drift ? table(drift, state, draw) : footnote("No lens looked at this run. ", h("code", { text: "fettle lens drift RUN --lenses PACK" }), " says which concepts its checkpoints moved."));
    context.watch("concepts", (data) => {
      drift = data.drift;
      if (drift) {
        const branches = [...new Set(drift.lenses.flatMap((/** @type {any} */ lens) => lens.branches))].sort();
        const tool = (/** @type {string} */ label, /** @type {"grade" | "branch"} */ key, /** @type {string[]} */ names) =>
          names.length > 1
            ? select(label, [["", "all"], ...names.map((name) => /** @type {[string, string]} */ ([name, name]))], state[key], (value) => {
                state[key] = value;
                draw();
              })
            : null;
        const grades = GRADES.filter((grade) => drift.lenses.some((/** @type {any} */ lens) => lens.grade === grade));
        fill(context.tools, tool("Grade", "grade", grades), tool("Branch", "branch", branches));
      }
      draw();
    });
  },
};

/** @param {any} drift @param {any} state @param {() => void} draw */
function table(drift, state, draw) {
  const last = (/** @type {any} */ lens) => lens.shifts.at(-1);
  /** @type {Column[]} */
  const columns = [
    ["Concept", (lens) => lens.concept],
    ["Grade", (lens) => lens.grade],
    ["F1", (lens) => lens.f1],
    ["AUROC", (lens) => lens.auroc],
    ["Shift", last],
    ["Effect", (lens) => lens.effect === null ? null : Math.abs(lens.effect)],
  ];
  const sorted = columns.find(([title]) => title === state.sort) ?? columns[5];
  const wanted = drift.lenses.filter((/** @type {any} */ lens) => (!state.grade || lens.grade === state.grade) && (!state.branch || lens.branches.includes(state.branch)));
  const rows = [...wanted].sort((a, b) => compare(sorted[1](a), sorted[1](b)) * (state.descending ? -1 : 1));
  const head = columns.map(([title], i) => {
    const chosen = title === sorted[0];
    const choose = () => {
      state.descending = chosen ? !state.descending : i > 1;
      state.sort = title;
      draw();
    };
    return h("th", { scope: "col", class: i > 1 ? "number" : "", "aria-sort": chosen ? (state.descending ? "descending" : "ascending") : null }, h("button", { type: "button", class: "sort", text: title + (chosen ? (state.descending ? " ↓" : " ↑") : ""), onclick: choose }));
  });
  const steps = drift.steps.map((/** @type {any} */ step, /** @type {number} */ i) => h("th", { scope: "col", title: drift.names[i], text: measured(step) ? integer(step) : drift.names[i] }));
  const size = Math.max(1e-12, ...drift.lenses.flatMap((/** @type {any} */ lens) => lens.shifts.map(Math.abs)));
  const moved = drift.lenses.filter((/** @type {any} */ lens) => lens.moved).length;
  return [
    h("p", {}, moved ? `${integer(moved)} of ${integer(drift.lenses.length)} concepts moved (▲ more, ▼ less).` : `None of ${integer(drift.lenses.length)} concepts moved beyond what any training does.`),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Concepts over checkpoints" },
      h("table", { class: "heat lenses" }, h("thead", {}, h("tr", {}, head, steps)), h("tbody", {}, rows.slice(0, state.most).map((lens) => line(lens, size, state, draw)))),
    ),
    rows.length > state.most ? h("button", { type: "button", text: `More of ${integer(rows.length)}`, onclick: () => { state.most *= 4; draw(); } }) : null,
    footnote(`Mean change on ${integer(drift.texts)} plain texts at each checkpoint, in deviations of texts without the concept; judged beside ${drift.controls > 1 ? `${integer(drift.controls)} control runs` : "the other lenses"}. Lenses of ${drift.pack || "an unnamed pack"}. A concept leads to its texts.`),
  ];
}

/** @param {any} lens @param {number} size @param {any} state @param {() => void} draw */
function line(lens, size, state, draw) {
  const open = state.open === lens.concept;
  const toggle = () => {
    state.open = open ? "" : lens.concept;
    draw();
  };
  const number = (/** @type {any} */ content) => h("td", { class: "number" }, content);
  const signed = (/** @type {number} */ value) => (value > 0 ? "+" : "") + decimal(value);
  const shift = lens.shifts.at(-1);
  const cells = lens.shifts.map((/** @type {any} */ value) => {
    if (!measured(value)) return h("td", {}, notMeasured(true));
    const cell = h("span", { class: "heat-cell small", text: (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(1) });
    cell.style.setProperty("--share", `${(100 * Math.abs(value)) / size}%`);
    return h("td", {}, cell);
  });
  const range = measured(lens.low) && measured(lens.high) ? `95 %: ${signed(lens.low)} to ${signed(lens.high)}` : "";
  const row = h(
    "tr",
    {},
    h("th", { scope: "row" }, h("button", { type: "button", class: "sort", "aria-expanded": String(open), text: lens.concept, title: lens.branches.join(", "), onclick: toggle })),
    h("td", { text: lens.grade ?? "" }),
    number(shown(lens.f1, decimal, true)),
    number(shown(lens.auroc, decimal, true)),
    h("td", { class: "number", title: range }, lens.moved ? (shift > 0 ? "▲ " : "▼ ") : "", shown(shift, signed, true)),
    number(shown(lens.effect, signed, true)),
    cells,
  );
  if (!open) return row;
  const texts = (/** @type {string} */ title, /** @type {string[]} */ list) => (list.length ? [h("h3", { text: title }), h("ul", {}, list.map((text) => h("li", { text })))] : null);
  return [row, h("tr", {}, h("td", { class: "lens-texts", colspan: 6 + cells.length }, reread(lens), texts("Moved most", lens.examples), texts("Highest in the test of the lens", lens.strongest)))];
}

/** Whether the concept became harder to read, or is written elsewhere. @param {any} lens */
function reread(lens) {
  const [frozen, refit, cosine] = [lens.frozen_auroc, lens.refit_auroc, lens.cosine].map((values) => values.at(-1));
  if (![frozen, refit, cosine].every(measured)) return null;
  return h("p", { text: `On its own texts at the last checkpoint the lens reads it with AUROC ${decimal(frozen)}, one trained anew with ${decimal(refit)}; cosine of their directions ${decimal(cosine)}.` });
}

/** What was not measured comes last in both directions' reading. @param {any} a @param {any} b */
function compare(a, b) {
  if (typeof a === "string" || typeof b === "string") return String(a ?? "").localeCompare(String(b ?? ""));
  return (a ?? -Infinity) - (b ?? -Infinity);
}
