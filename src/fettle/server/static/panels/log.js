// The log of the run: its end, followed while it grows; filtered and searched by the server.

import { getJson, runPath } from "../api.js";
import { fill, h } from "../dom.js";
import { integer } from "../format.js";
import { select } from "../panel.js";
import { at, move } from "../place.js";
import { isFinished } from "../run.js";

const PAGE = 200;
const POLL_MS = 2000;
const SEARCH_MS = 200;

/** @type {import("../panel.js").PanelSpec} */
export const log = {
  id: "log",
  title: "Log",
  wide: true,
  mount(context) {
    new LogPanel(context);
  },
};

class LogPanel {
  /** @param {import("../panel.js").Context} context */
  constructor(context) {
    this.context = context;
    this.first = 0;
    this.total = 0;
    this.turn = 0;
    this.lines = h("ol", { class: "log-lines" });
    this.box = h("div", { class: "log", tabindex: 0, role: "log", "aria-label": "Log lines" }, this.lines);
    this.earlier = h("button", { type: "button", class: "quiet", text: "Earlier lines", onclick: () => this.loadEarlier() });
    this.note = h("p", { class: "footnote", role: "status" });
    this.search = h("input", { type: "search", placeholder: "Search the log", "aria-label": "Search the log", value: at("grep") ?? "", oninput: () => this.searchSoon() });
    const levels = /** @type {[string, string][]} */ ([["", "all"], ["info", "info and above"], ["warning", "warning and above"], ["error", "error and above"]]);
    context.tools.append(select("Level", levels, at("level") ?? "", (value) => move({ level: value || null })), this.search);
    context.body.append(this.earlier, this.box, this.note);
    context.onMove(["level", "grep"], () => this.reload());
    context.listen(context.run, "refresh", () => this.reload());
    context.every(POLL_MS, () => !isFinished(context.run.row?.state) && !context.body.hidden && this.loadNew());
    this.reload();
  }

  searchSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => move({ grep: this.search.value || null }), SEARCH_MS);
  }

  /** @param {number} offset @param {number} limit */
  ask(offset, limit) {
    const query = { limit, offset, level: at("level"), q: at("grep") };
    return getJson(runPath(this.context.run.id, "logs"), query, this.context.stop);
  }

  async reload() {
    this.turn += 1;
    const mine = this.turn;
    try {
      const answer = await this.ask(-PAGE, PAGE);
      if (mine !== this.turn) return;
      fill(this.context.problem);
      fill(this.lines, answer.lines.map(line));
      this.first = answer.offset;
      this.say(answer.total_lines);
      this.box.scrollTop = this.box.scrollHeight;
    } catch (error) {
      if (mine === this.turn) this.context.fail(error, () => this.reload());
    }
  }

  async loadNew() {
    const mine = this.turn;
    try {
      // The last line may have come again, as a bar of progress does; a shorter log is another log.
      const from = Math.max(0, this.total - 1);
      const answer = await this.ask(from, PAGE);
      if (mine !== this.turn) return;
      if (answer.total_lines < this.total || answer.lines.length >= PAGE) return this.reload();
      const atEnd = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 40;
      if (this.total) this.lines.lastElementChild?.remove();
      this.lines.append(...answer.lines.map(line));
      this.say(answer.total_lines);
      if (atEnd) this.box.scrollTop = this.box.scrollHeight;
    } catch {
      // The head of the page says that the server does not answer.
    }
  }

  async loadEarlier() {
    const from = Math.max(0, this.first - PAGE);
    try {
      const answer = await this.ask(from, this.first - from);
      const height = this.box.scrollHeight;
      this.lines.prepend(...answer.lines.map(line));
      this.box.scrollTop += this.box.scrollHeight - height;
      this.first = from;
      this.say(answer.total_lines);
    } catch (error) {
      this.context.fail(error, () => this.loadEarlier());
    }
  }

  /** @param {number} total */
  say(total) {
    this.total = total;
    this.earlier.hidden = this.first === 0;
    const filtered = at("level") || at("grep") ? " that fit" : "";
    this.note.textContent = total ? `${integer(this.lines.childElementCount)} of ${integer(total)} lines${filtered}` : filtered ? "No line fits." : "The log is empty.";
  }
}

/** @param {any} entry */
function line(entry) {
  const level = String(entry.level ?? "").toUpperCase();
  const times = entry.repeated > 1 ? h("span", { class: "chip tone-calm", title: "identical lines", text: `×${integer(entry.repeated)}` }) : null;
  return h("li", { class: `log-${level.toLowerCase()}` }, h("span", { class: "log-time", text: String(entry.time ?? "").replace(/^.*[T ](?=\d\d:\d\d:)/, "").slice(0, 12), title: entry.time ?? "" }), h("span", { class: "log-level", text: level }), h("span", { class: "log-text" }, entry.text, " ", times));
}
