// All runs as a table: the view without a run.

import { getJson } from "../api.js";
import { fill, h } from "../dom.js";
import { ago, duration, integer, nats, percent, shown } from "../format.js";
import { address } from "../place.js";
import { sign, stateChip } from "../signs.js";

/** @type {[string, string, boolean][]} key, title, whether it is a number */
const COLUMNS = [
  ["name", "Run", false],
  ["state", "State", false],
  ["model", "Model", false],
  ["step", "Step", true],
  ["loss", "Loss", true],
  ["exact_match", "Exact match", true],
  ["cross_entropy", "Cross-entropy", true],
  ["alerts", "Alerts", true],
  ["eta_seconds", "Time left", true],
  ["updated_at", "Updated", true],
];

export class RunsView {
  /** @param {HTMLElement} host @param {import("../run-list.js").RunList} list */
  constructor(host, list) {
    this.list = list;
    this.drawn = "";
    this.drawnSort = "";
    document.title = "Runs · fettle";
    this.search = h("input", { type: "search", placeholder: "Search runs  /", "aria-label": "Search runs", value: list.query, oninput: () => list.setQuery(this.search.value) });
    this.compare = h("a", { class: "button" });
    this.headings = h("tr");
    this.rows = h("tbody");
    this.note = h("p", { class: "footnote", role: "status" });
    this.packs = h("section", { class: "packs" });
    this.more = h("button", { type: "button", text: "More runs", onclick: () => list.showMore() });
    fill(
      host,
      h("div", { class: "run-head" }, h("div", { class: "run-title" }, h("h1", { text: "Runs" }), this.search, this.compare)),
      h("div", { class: "scroll panel", tabindex: 0, role: "region", "aria-label": "Table of runs" }, h("table", { class: "runs-table" }, h("thead", {}, this.headings), this.rows)),
      this.note,
      this.more,
      this.packs,
    );
    getJson("packs").then(({ packs }) => packs.length && fill(this.packs, h("h2", { text: "Lens packs" }), packTable(packs)), () => {});
    this.draw = this.draw.bind(this);
    list.listeners.add(this.draw);
    this.draw();
  }

  destroy() {
    this.list.listeners.delete(this.draw);
  }

  focusSearch() {
    this.search.focus();
  }

  draw() {
    const { list } = this;
    if (this.drawnSort !== list.sort) this.drawHeadings();
    const now = JSON.stringify([list.rows, [...list.chosen]]);
    this.compare.hidden = list.chosen.size < 2;
    this.compare.textContent = `Compare ${list.chosen.size} runs`;
    this.compare.setAttribute("href", list.compareAddress());
    this.note.textContent = list.say();
    this.more.hidden = !list.hasMore;
    if (now === this.drawn) return;
    this.drawn = now;
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset?.key;
    fill(this.rows, list.rows.map((row) => this.row(row)));
    if (focused) /** @type {HTMLElement | null} */ (this.rows.querySelector(`[data-key="${CSS.escape(focused)}"]`))?.focus();
  }

  drawHeadings() {
    const { sort } = this.list;
    this.drawnSort = sort;
    const descending = sort.startsWith("-");
    fill(
      this.headings,
      h("th", {}, h("span", { class: "hidden", text: "Compare" })),
      COLUMNS.map(([key, title, numeric]) => {
        const sorted = key === sort.replace("-", "");
        const choose = () => {
          this.list.setSort((sorted ? !descending : numeric) ? `-${key}` : key);
          this.draw();
          this.headings.querySelector(`[data-key="${key}"]`)?.focus();
        };
        const arrow = sorted ? (descending ? " ↓" : " ↑") : "";
        return h("th", { scope: "col", class: numeric ? "number" : "", "aria-sort": sorted ? (descending ? "descending" : "ascending") : null }, h("button", { type: "button", class: "sort", "data-key": key, text: title + arrow, onclick: choose }));
      }),
    );
  }

  /** A tag, which searches for itself. @param {string} tag */
  tag(tag) {
    const search = () => {
      this.search.value = tag;
      this.list.setQuery(tag);
    };
    return [" ", h("button", { type: "button", class: "tag", text: tag, title: `Search ${tag}`, onclick: search })];
  }

  /** @param {any} row */
  row(row) {
    const number = (/** @type {any} */ content) => h("td", { class: "number" }, content);
    const of = typeof row.total_steps === "number" ? ` / ${integer(row.total_steps)}` : "";
    const box = h("input", { type: "checkbox", checked: this.list.chosen.has(row.id), "aria-label": `Compare ${row.name ?? row.id}`, "data-key": `box ${row.id}`, onchange: () => this.list.choose(row.id, box.checked) });
    return h(
      "tr",
      {},
      h("td", {}, box),
      h("th", { scope: "row" }, h("a", { href: address({ run: row.id }), "data-key": `run ${row.id}`, text: row.name ?? row.id }), row.problem ? h("span", { class: "problem", title: row.problem }, " ", sign("warning"), h("span", { class: "hidden", text: row.problem })) : null, (row.tags ?? []).map((/** @type {string} */ tag) => this.tag(tag))),
      h("td", {}, stateChip(row.state)),
      h("td", { text: row.model ?? "" }),
      number(shown(row.step, (v) => integer(v) + of, true)),
      number(shown(row.streaming_ce ?? row.loss, nats, true)),
      number(shown(row.exact_match, percent, true)),
      number(shown(row.cross_entropy, nats, true)),
      number(row.alerts ? `${row.alerts} open` : "none"),
      number(typeof row.eta_seconds === "number" ? duration(row.eta_seconds) : ""),
      number(shown(row.updated_at, ago, true)),
    );
  }
}

/** @param {any[]} packs */
function packTable(packs) {
  const line = (/** @type {any} */ pack) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, h("a", { href: address({ pack: pack.id }), text: pack.name }), pack.problem ? h("span", { class: "problem", text: ` ${pack.problem}` }) : null),
      h("td", { text: pack.model ?? "" }),
      h("td", { class: "number" }, shown(pack.layer, integer, true)),
      h("td", { class: "number" }, integer(pack.count)),
    );
  const heads = ["Pack", "Model", "Layer", "Lenses"].map((text, i) => h("th", { scope: "col", class: i > 1 ? "number" : "", text }));
  return h("div", { class: "scroll panel", tabindex: 0, role: "region", "aria-label": "Lens packs" }, h("table", { class: "runs-table" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, packs.map(line))));
}
