// The list of runs beside every view: search, what each is up to, and a choice to compare.

import { getJson } from "./api.js";
import { fill, footnote, h } from "./dom.js";
import { integer, measured, nats, percent } from "./format.js";
import { address, at } from "./place.js";
import { sign, stateChip } from "./signs.js";

const POLL_MS = 5000;
const SEARCH_MS = 150;
const SHOWN = 100;
const MORE = 400;

export class RunList {
  /** @param {HTMLElement} host */
  constructor(host) {
    /** @type {any[]} */
    this.rows = [];
    this.total = 0;
    this.query = "";
    this.limit = SHOWN;
    this.sort = "-updated_at";
    /** @type {string | null} */
    this.error = null;
    /** @type {Set<() => void>} */
    this.listeners = new Set();
    /** @type {Set<string>} */
    this.chosen = new Set((at("compare") ?? "").split(",").filter(Boolean).map(decodeURIComponent));
    /** @type {Map<string, Entry>} */
    this.entries = new Map();
    this.search = h("input", { type: "search", placeholder: "Search runs  /", "aria-label": "Search runs", autocomplete: "off", oninput: () => this.setQuery(this.search.value) });
    this.items = h("ul", { class: "run-items" });
    this.note = footnote();
    this.more = h("button", { type: "button", text: "More runs", hidden: true, onclick: () => this.showMore() });
    this.compare = h("a", { class: "button", hidden: true });
    host.append(this.search, this.items, this.note, this.more, this.compare);
    this.load();
    setInterval(() => !document.hidden && this.load(), POLL_MS);
  }

  focusSearch() {
    this.search.focus();
    this.search.select();
  }

  /** @param {string} query */
  setQuery(query) {
    this.query = query;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), SEARCH_MS);
  }

  async load() {
    const { query, sort } = this;
    try {
      const answer = await getJson("runs", { q: query, sort: this.sort, limit: this.limit });
      if (query !== this.query || sort !== this.sort) return;
      this.rows = answer.runs;
      this.total = answer.total;
      this.error = null;
    } catch (error) {
      this.error = /** @type {Error} */ (error).message;
    }
    this.draw();
    for (const listener of this.listeners) listener();
  }

  draw() {
    const entries = this.rows.map((row) => {
      const entry = this.entries.get(row.id) ?? new Entry(row.id, (on) => this.choose(row.id, on));
      this.entries.set(row.id, entry);
      entry.show(row, this.chosen.has(row.id));
      return entry.element;
    });
    const same = entries.length === this.items.children.length && entries.every((e, i) => e === this.items.children[i]);
    if (!same) fill(this.items, entries);
    this.note.textContent = this.say();
    this.more.hidden = !this.hasMore;
    this.mark();
  }

  get hasMore() {
    return this.rows.length < this.total;
  }

  /** What is wrong, or what of the runs is shown. */
  say() {
    if (this.error) return this.error;
    if (!this.total) return this.query ? "No run fits." : "No runs in this folder yet. A run appears here as soon as its folder does.";
    return this.hasMore ? `${integer(this.rows.length)} of ${integer(this.total)} runs` : "";
  }

  showMore() {
    this.limit += MORE;
    this.load();
  }

  /** @param {string} sort a field of the rows; with a minus, descending */
  setSort(sort) {
    this.sort = sort;
    this.load();
  }

  /** @param {string} id @param {boolean} on */
  choose(id, on) {
    if (on) this.chosen.add(id);
    else this.chosen.delete(id);
    this.draw();
    for (const listener of this.listeners) listener();
  }

  /** The address that compares what is chosen. */
  compareAddress() {
    return address({ compare: [...this.chosen].map(encodeURIComponent).join(",") });
  }

  /** Say which run is open, and what can be compared. */
  mark() {
    const open = at("run");
    for (const [id, entry] of this.entries) entry.link.setAttribute("aria-current", id === open ? "page" : "false");
    this.compare.hidden = this.chosen.size < 2;
    this.compare.setAttribute("href", this.compareAddress());
    this.compare.textContent = `Compare ${this.chosen.size} runs`;
  }
}

class Entry {
  /** @param {string} id @param {(on: boolean) => void} choose */
  constructor(id, choose) {
    this.box = h("input", { type: "checkbox", "aria-label": `Compare ${id}`, title: "Choose to compare", onchange: () => choose(this.box.checked) });
    this.name = h("span", { class: "run-name" });
    this.state = h("span", { class: "run-state" });
    this.facts = h("span", { class: "run-line" });
    this.link = h("a", { href: address({ run: id }) }, this.name, h("span", { class: "run-line" }, this.state), this.facts);
    this.element = h("li", {}, this.link, this.box);
    this.shown = "";
  }

  /** @param {any} row @param {boolean} chosen */
  show(row, chosen) {
    this.box.checked = chosen;
    const now = JSON.stringify([row.name, row.state, row.step, row.total_steps, row.exact_match, row.streaming_ce, row.alerts]);
    if (now === this.shown) return;
    this.shown = now;
    this.name.textContent = row.name ?? row.id;
    this.name.title = row.name ?? row.id;
    fill(this.state, stateChip(row.state), row.alerts ? h("span", { class: "chip tone-notice", title: "open alerts" }, sign("warning"), `${row.alerts} alert${row.alerts > 1 ? "s" : ""}`) : null);
    fill(this.facts, summary(row).map((text) => h("span", { text })));
  }
}

/** @param {any} row */
function summary(row) {
  const parts = [];
  if (measured(row.step)) parts.push(measured(row.total_steps) ? `${integer(row.step)} / ${integer(row.total_steps)}` : `step ${integer(row.step)}`);
  if (measured(row.exact_match)) parts.push(`EM ${percent(row.exact_match)}`);
  const loss = row.streaming_ce ?? row.loss;
  if (measured(loss)) parts.push(`loss ${nats(loss)}`);
  return parts;
}
