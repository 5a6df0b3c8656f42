// Lenses as a table: sorted, chosen by grade and branch, a concept opened to its texts.

import { fill, h } from "./dom.js";
import { decimal, integer, shown } from "./format.js";
import { select } from "./panel.js";

const FEW = 12;
const GRADES = ["A", "B", "C", "U"];

/**
 * @typedef {object} Column
 * @property {string} title
 * @property {(lens: any) => any} by what it is sorted by
 * @property {(lens: any) => any} [cell] what stands in it
 * @property {(lens: any) => string} [hint]
 */
/**
 * @typedef {object} Spec
 * @property {string} label
 * @property {Column[]} columns beside concept, grade, F1 and AUROC
 * @property {string} sort title of a column
 * @property {() => any[]} [heads] of further cells
 * @property {(lens: any) => any[]} [cells]
 * @property {(lens: any) => any[]} details what an opened concept shows
 */

/** @type {Column[]} */
const COMMON = [
  { title: "Concept", by: (lens) => lens.concept },
  { title: "Grade", by: (lens) => lens.grade },
  { title: "F1", by: (lens) => lens.f1 },
  { title: "AUROC", by: (lens) => lens.auroc },
];

export class LensTable {
  /** @param {HTMLElement} tools @param {Spec} spec */
  constructor(tools, spec) {
    this.tools = tools;
    this.spec = spec;
    this.columns = [...COMMON, ...spec.columns];
    this.grade = this.branch = this.opened = "";
    this.sort = spec.sort;
    this.descending = true;
    this.most = FEW;
    /** @type {any[]} */
    this.lenses = [];
    this.element = h("div");
  }

  /** @param {any[]} lenses */
  show(lenses) {
    this.lenses = lenses;
    const tool = (/** @type {string} */ label, /** @type {"grade" | "branch"} */ key, /** @type {string[]} */ names) =>
      names.length > 1
        ? select(label, [["", "all"], ...names.map((name) => /** @type {[string, string]} */ ([name, name]))], this[key], (value) => {
            this[key] = value;
            this.draw();
          })
        : null;
    const grades = GRADES.filter((grade) => lenses.some((lens) => lens.grade === grade));
    fill(this.tools, tool("Grade", "grade", grades), tool("Branch", "branch", [...new Set(lenses.flatMap((lens) => lens.branches))].sort()));
    this.draw();
  }

  draw() {
    const sorted = this.columns.find(({ title }) => title === this.sort) ?? this.columns[0];
    const wanted = this.lenses.filter((lens) => (!this.grade || lens.grade === this.grade) && (!this.branch || lens.branches.includes(this.branch)));
    const rows = wanted.sort((a, b) => compare(sorted.by(a), sorted.by(b)) * (this.descending ? -1 : 1));
    const heads = [...this.columns.map((column, i) => this.head(column, i, column === sorted)), ...(this.spec.heads?.() ?? [])];
    fill(
      this.element,
      h(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": this.spec.label },
        h("table", { class: "heat lenses" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows.slice(0, this.most).map((lens) => this.line(lens, heads.length)))),
      ),
      rows.length > this.most ? h("button", { type: "button", text: `More of ${integer(rows.length)}`, onclick: () => { this.most *= 4; this.draw(); } }) : null,
    );
  }

  /** @param {Column} column @param {number} i @param {boolean} chosen */
  head({ title }, i, chosen) {
    const choose = () => {
      this.descending = chosen ? !this.descending : i > 1;
      this.sort = title;
      this.draw();
    };
    return h("th", { scope: "col", class: i > 1 ? "number" : "", "aria-sort": chosen ? (this.descending ? "descending" : "ascending") : null }, h("button", { type: "button", class: "sort", text: title + (chosen ? (this.descending ? " ↓" : " ↑") : ""), onclick: choose }));
  }

  /** @param {any} lens @param {number} width of the table, in columns */
  line(lens, width) {
    const open = this.opened === lens.concept;
    const toggle = () => {
      this.opened = open ? "" : lens.concept;
      this.draw();
    };
    const row = h(
      "tr",
      {},
      h("th", { scope: "row" }, h("button", { type: "button", class: "sort", "aria-expanded": String(open), text: lens.concept, title: lens.branches.join(", "), onclick: toggle })),
      h("td", { text: lens.grade ?? "" }),
      this.columns.slice(2).map((column) => h("td", { class: "number", title: column.hint?.(lens) ?? "" }, column.cell ? column.cell(lens) : shown(column.by(lens), decimal, true))),
      this.spec.cells?.(lens) ?? [],
    );
    return open ? [row, h("tr", {}, h("td", { class: "lens-texts", colspan: width }, this.spec.details(lens)))] : row;
  }
}

/** Texts under a title; nothing where there are none. @param {string} title @param {string[]} list */
export function texts(title, list) {
  return list.length ? [h("h3", { text: title }), h("ul", {}, list.map((text) => h("li", { text })))] : null;
}

/** What was not measured comes last in both directions' reading. @param {any} a @param {any} b */
function compare(a, b) {
  if (typeof a === "string" || typeof b === "string") return String(a ?? "").localeCompare(String(b ?? ""));
  return (a ?? -Infinity) - (b ?? -Infinity);
}
