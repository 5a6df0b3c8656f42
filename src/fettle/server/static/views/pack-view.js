// A pack of lenses, without a run that they looked at.

import { getJson } from "../api.js";
import { fill, footnote, h } from "../dom.js";
import { decimal, integer, measured, words } from "../format.js";
import { LensTable, texts } from "../lens-table.js";

export class PackView {
  /** @param {HTMLElement} host @param {string} id */
  constructor(host, id) {
    this.stop = new AbortController();
    document.title = `${id} · fettle`;
    const problem = h("p", { class: "problem", role: "alert" });
    const facts = h("p", { class: "run-line" });
    const tools = h("div", { class: "panel-tools" });
    const body = h("div", { class: "panel-body" }, footnote("Reading …"));
    const table = new LensTable(tools, {
      label: "Lenses",
      columns: [{ title: "Over baseline", by: (lens) => lens.selectivity }],
      sort: "AUROC",
      details: (lens) => [h("p", { text: standing(lens) }), texts("Highest in the test of the lens", lens.strongest)],
    });
    fill(
      host,
      h("header", { class: "run-head" }, h("div", { class: "run-title" }, h("h1", { text: id })), facts),
      problem,
      h("div", { class: "panels" }, h("section", { class: "panel wide", id: "lenses", "aria-label": "Lenses" }, h("header", { class: "panel-head" }, h("h2", { text: "Lenses" }), tools), body)),
    );
    getJson(`packs/${encodeURIComponent(id)}`, {}, this.stop.signal).then(
      (pack) => {
        document.title = `${pack.name} · fettle`;
        fill(facts, [pack.model, `layer ${integer(pack.layer)}`, `${integer(pack.count)} lenses`].map((text) => h("span", { text: text ?? "" })));
        const graded = ["A", "B", "C", "U"].map((grade) => `${grade} ${integer(pack.lenses.filter((/** @type {any} */ lens) => lens.grade === grade).length)}`);
        table.show(pack.lenses);
        fill(body, h("p", { text: `Grades: ${graded.join(", ")}.` }), table.element, footnote("F1 and AUROC on the sealed test; over baseline: AUROC beyond that of the best one. A and B single their concept out, C does not, U had too few texts. A concept leads to its texts."));
      },
      (error) => !this.stop.signal.aborted && fill(problem, error.message),
    );
  }

  destroy() {
    this.stop.abort();
  }
}

/** How it came to its grade. @param {any} lens */
function standing(lens) {
  const others = Object.entries(lens.baselines).filter(([, value]) => measured(value)).map(([name, value]) => `${words(name)} ${decimal(value)}`);
  const said = [lens.kind === "mlp" ? "a network" : "", lens.state ?? "", lens.reason ?? ""].filter(Boolean).join(": ");
  return `${said}. AUROC of baselines: ${others.join(", ") || "none"}.`;
}
