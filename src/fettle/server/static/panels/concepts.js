// Concepts that the fine-tune moved: frozen lenses of the base model over the checkpoints.

import { fill, footnote, h } from "../dom.js";
import { decimal, integer, measured, notMeasured, shown } from "../format.js";
import { LensTable, texts } from "../lens-table.js";

/** @type {import("../panel.js").PanelSpec} */
export const concepts = {
  id: "concepts",
  title: "Concepts",
  wide: true,
  mount(context) {
    /** @type {any} */
    let drift = null;
    let size = 1;
    const table = new LensTable(context.tools, {
      label: "Concepts over checkpoints",
      columns: [
        { title: "Shift", by: last, cell: (lens) => [lens.moved ? (last(lens) > 0 ? "▲ " : "▼ ") : "", shown(last(lens), signed, true)], hint: range },
        { title: "Effect", by: (lens) => (lens.effect === null ? null : Math.abs(lens.effect)), cell: (lens) => shown(lens.effect, signed, true) },
      ],
      sort: "Effect",
      heads: () => drift.steps.map((/** @type {any} */ step, /** @type {number} */ i) => h("th", { scope: "col", title: drift.names[i], text: measured(step) ? integer(step) : drift.names[i] })),
      cells: (lens) => lens.shifts.map((/** @type {any} */ value) => heat(value, size)),
      details: (lens) => [reread(lens), texts("Moved most", lens.examples), texts("Highest in the test of the lens", lens.strongest)],
    });
    context.watch("concepts", (data) => {
      drift = data.drift;
      if (!drift) return fill(context.body, footnote("No lens looked at this run. ", h("code", { text: "fettle lens drift RUN --lenses PACK" }), " says which concepts its checkpoints moved."));
      const { lenses } = drift;
      size = Math.max(1e-12, ...lenses.flatMap((/** @type {any} */ lens) => lens.shifts.map(Math.abs)));
      const moved = lenses.filter((/** @type {any} */ lens) => lens.moved).length;
      table.show(lenses);
      fill(
        context.body,
        h("p", {}, moved ? `${integer(moved)} of ${integer(lenses.length)} concepts moved (▲ more, ▼ less).` : `None of ${integer(lenses.length)} concepts moved beyond what any training does.`),
        table.element,
        footnote(`Mean change on ${integer(drift.texts)} plain texts at each checkpoint, in deviations of texts without the concept; judged beside ${drift.controls > 1 ? `${integer(drift.controls)} control runs` : "the other lenses"}. Lenses of ${drift.pack || "an unnamed pack"}. A concept leads to its texts.`),
      );
    });
  },
};

/** @param {any} lens */
const last = (lens) => lens.shifts.at(-1);

/** @param {number} value */
const signed = (value) => (value > 0 ? "+" : "") + decimal(value);

/** @param {any} lens */
const range = (lens) => (measured(lens.low) && measured(lens.high) ? `95 %: ${signed(lens.low)} to ${signed(lens.high)}` : "");

/** A cell as dark as its concept moved. @param {any} value @param {number} size of the largest */
function heat(value, size) {
  if (!measured(value)) return h("td", {}, notMeasured(true));
  const cell = h("span", { class: "heat-cell small", text: (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(1) });
  cell.style.setProperty("--share", `${(100 * Math.abs(value)) / size}%`);
  return h("td", {}, cell);
}

/** Whether the concept became harder to read, or is written elsewhere. @param {any} lens */
function reread(lens) {
  const [frozen, refit, cosine] = [lens.frozen_auroc, lens.refit_auroc, lens.cosine].map((values) => values.at(-1));
  if (![frozen, refit, cosine].every(measured)) return null;
  return h("p", { text: `On its own texts at the last checkpoint the lens reads it with AUROC ${decimal(frozen)}, one trained anew with ${decimal(refit)}; cosine of their directions ${decimal(cosine)}.` });
}
