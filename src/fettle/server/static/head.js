// The line above everything: which run, how it stands, how far it is, and what can be asked of it.

import { getJson, postJson, runPath } from "./api.js";
import { announce, fill, h } from "./dom.js";
import { ago, duration, integer, measured, nats } from "./format.js";
import { stateChip, sign } from "./signs.js";
import { isFinished } from "./run.js";

/** @type {Record<string, [Parameters<typeof sign>[0], string, string]>} */
const CONNECTIONS = {
  connecting: ["clock", "connecting", "calm"],
  live: ["dot", "live", "good"],
  lost: ["cross", "reconnecting", "critical"],
};

export class Head {
  /** @param {import("./run.js").Run} run @param {boolean} control */
  constructor(run, control) {
    this.run = run;
    this.control = control;
    this.stop = new AbortController();
    this.name = h("h1", { text: run.id });
    this.state = h("span", {});
    this.connection = h("span", { "aria-live": "polite" });
    this.bar = h("progress", { max: 1, "aria-label": "Progress" });
    this.facts = h("p", { class: "run-facts" });
    this.problems = h("ul", { class: "warnings" });
    this.buttons = h("span", { class: "run-buttons" });
    this.element = h("header", { class: "run-head" }, h("div", { class: "run-title" }, this.name, this.state, this.connection, this.buttons), this.bar, this.facts, this.problems);
    const { signal } = this.stop;
    run.addEventListener("status", () => this.show(), { signal });
    run.addEventListener("refresh", () => this.show(), { signal });
    run.addEventListener("connection", () => this.show(), { signal });
    this.timer = setInterval(() => this.show(), 5000);
    this.show();
  }

  destroy() {
    this.stop.abort();
    clearInterval(this.timer);
  }

  show() {
    const row = this.run.row;
    if (!row) return;
    this.name.textContent = row.name ?? this.run.id;
    this.name.title = row.name ?? this.run.id;
    fill(this.state, stateChip(row.state));
    const [name, text, tone] = CONNECTIONS[this.run.connection] ?? [];
    fill(this.connection, name ? h("span", { class: `chip tone-${tone}` }, sign(name), text) : null);
    this.bar.hidden = !measured(row.total_steps) || !measured(row.step);
    if (!this.bar.hidden) this.bar.value = Math.min(1, row.step / row.total_steps);
    fill(this.facts, facts(row).map((fact) => h("span", {}, fact)));
    fill(this.problems, (row.problems ?? []).map((/** @type {string} */ text) => h("li", {}, sign("warning"), h("span", { text }))));
    this.problems.hidden = !row.problems?.length;
    this.showButtons(row.state);
    document.title = `${progressText(row)}${row.name ?? this.run.id} · fettle`;
  }

  /** @param {string} state */
  showButtons(state) {
    const wanted = this.control && !isFinished(state) ? state : "";
    if (this.buttons.dataset.state === wanted) return;
    this.buttons.dataset.state = wanted;
    if (!wanted) return fill(this.buttons);
    const button = (/** @type {string} */ text, /** @type {string} */ action, /** @type {string} */ key) => h("button", { type: "button", title: `${text} (${key})`, text, onclick: () => this.ask(action) });
    fill(this.buttons, state === "paused" ? button("Resume", "resume", "P") : button("Pause", "pause", "P"), button("Save checkpoint", "checkpoint", "S"), button("Stop", "stop", "C"));
  }

  /** Ask the trainer for something. @param {string} action */
  async ask(action) {
    if (!this.control) return announce("Control is off. Start the server with --control to pause, stop or save from here.");
    if (isFinished(this.run.row?.state)) return announce("The run has ended.");
    if (action === "stop" && !confirm(`Stop ${this.run.row?.name ?? "this run"} after the current step? A checkpoint is saved.`)) return;
    try {
      await postJson(runPath(this.run.id, "control"), { action });
      announce(`Asked to ${action === "checkpoint" ? "save a checkpoint" : action}. The trainer acts within a step.`);
    } catch (error) {
      announce(/** @type {Error} */ (error).message);
    }
  }
}

/** Whether the server lets the page act. */
export async function controlAllowed() {
  try {
    return Boolean((await getJson("health")).control);
  } catch {
    return false;
  }
}

/** @param {any} row */
function progressText(row) {
  return measured(row.step) && measured(row.total_steps) && !isFinished(row.state) ? `${Math.floor((100 * row.step) / row.total_steps)}% ` : "";
}

/** @param {any} row */
function facts(row) {
  const status = row.status ?? {};
  const parts = [];
  if (measured(row.step)) parts.push(measured(row.total_steps) ? `step ${integer(row.step)} of ${integer(row.total_steps)}` : `step ${integer(row.step)}`);
  if (measured(row.epoch)) parts.push(`epoch ${row.epoch.toFixed(2)}`);
  if (!isFinished(row.state)) parts.push(measured(row.eta_seconds) ? `${duration(row.eta_seconds)} left` : "time left not measured");
  if (measured(row.streaming_ce)) parts.push(`loss ${nats(row.streaming_ce)}`);
  if (row.model) parts.push(row.model);
  if (measured(row.updated_at)) parts.push(`updated ${ago(row.updated_at)}`);
  const asked = row.control?.at(-1);
  if (asked) parts.push(`${asked.action} on request at step ${integer(asked.step)}`);
  if (isFinished(row.state) && status.reason) parts.push(status.reason);
  return parts;
}
