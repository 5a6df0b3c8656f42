// One run as the page knows it: what was asked of the server, kept until news make it old.

import { getJson, getSeries, runPath, url } from "./api.js";
import { report } from "./report.js";
import { Stream } from "./stream.js";

/** What a new row makes old. @type {Record<string, string[]>} */
const OUTDATES = {
  fixed_eval: ["evals", "patterns", "samples", "checkpoints", "predictions", "verdict"],
  checkpoint: ["checkpoints", "verdict"],
  alert: ["alerts", "verdict"],
  evaluation: ["evaluations", "alerts", "verdict"],
  layers: ["layers", "verdict"],
  lenses: ["concepts", "verdict"],
  early_stop: ["verdict"],
  control: ["", "verdict"],
  end: ["", "verdict", "checkpoints", "alerts", "predictions"],
};
const SETTLE_MS = 250;
const FINISHED = new Set(["completed", "early_stopped", "failed", "crashed", "interrupted", "cancelled"]);

/** @param {any} state */
export function isFinished(state) {
  return FINISHED.has(state);
}

export class Run extends EventTarget {
  /** @param {string} id */
  constructor(id) {
    super();
    this.id = id;
    /** @type {any} */
    this.row = null;
    /** @type {import("./stream.js").StreamState} */
    this.connection = "connecting";
    /** @type {Map<string, Promise<any>>} */
    this.answers = new Map();
    /** The newest step that came as a row since the last rewind. */
    this.newest = 0;
    this.outdated = new Set();
    this.stop = new AbortController();
    /** @type {Stream | null} */
    this.stream = null;
  }

  /** Load the row, then listen. */
  async open() {
    this.row = await this.get("");
    if (this.stop.signal.aborted) return;
    if (report || isFinished(this.row.state)) this.connection = "ended";
    else this.listen();
  }

  listen() {
    this.stream = new Stream(url("stream", { run: this.id }), {
      rows: (rows) => this.take(rows),
      status: (row) => this.update(row),
      rewind: () => {
        this.newest = 0;
        this.refresh();
      },
      resumed: () => this.refresh(),
      state: (state) => {
        this.connection = state;
        this.tell("connection");
      },
    });
  }

  close() {
    this.stop.abort();
    this.stream?.close();
    clearTimeout(this.timer);
  }

  /** @param {string} name @param {any} [detail] */
  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** An answer about this run, asked once until it is old. @param {string} name @param {import("./api.js").Query} [query] */
  get(name, query) {
    const key = url(runPath(this.id, name), query);
    let answer = this.answers.get(key);
    if (!answer) {
      answer = getJson(runPath(this.id, name), query, this.stop.signal);
      answer.catch(() => this.answers.delete(key));
      this.answers.set(key, answer);
    }
    return answer;
  }

  /** @param {import("./api.js").Query} query @param {boolean} extremes */
  series(query, extremes) {
    return getSeries(this.id, query, extremes, this.stop.signal);
  }

  /** The last step that is known. */
  get lastStep() {
    return this.row?.step ?? 0;
  }

  /** @param {Record<string, any[]>} rows */
  take(rows) {
    const last = rows.train?.at(-1);
    if (last) {
      this.newest = Math.max(this.newest, last.step ?? 0);
      this.row.step = last.step ?? this.row.step;
      this.row.epoch = last.epoch ?? this.row.epoch;
    }
    this.learnColumns(rows);
    this.tell("rows", rows);
    if (last) this.tell("status");
    for (const type of Object.keys(rows)) OUTDATES[type]?.forEach((name) => this.outdate(name));
  }

  /** A young run may log for the first time what its panels wait for. @param {Record<string, any[]>} rows */
  learnColumns(rows) {
    const known = (this.row.columns ??= {});
    let news = false;
    for (const [type, list] of Object.entries(rows)) {
      const names = (known[type] ??= []);
      const found = Object.keys(list.at(-1) ?? {}).filter((name) => typeof list.at(-1)[name] === "number" && !names.includes(name));
      names.push(...found);
      news ||= found.length > 0;
    }
    if (news) this.tell("columns");
  }

  /** @param {any} row */
  update(row) {
    Object.assign(this.row, row);
    this.catchUp();
    this.tell("status");
  }

  /** The status is written once a second; the steps that came as rows are newer. */
  catchUp() {
    if (this.newest > (this.row.step ?? 0)) this.row.step = this.newest;
  }

  /** News come in bunches: ask once after them. @param {string} name */
  outdate(name) {
    this.outdated.add(name);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.settle(), SETTLE_MS);
  }

  async settle() {
    const names = [...this.outdated];
    this.outdated.clear();
    for (const name of names) {
      const path = url(runPath(this.id, name));
      for (const key of this.answers.keys()) {
        if (key === path || (name && key.startsWith(`${path}?`))) this.answers.delete(key);
      }
    }
    if (names.includes("")) {
      try {
        this.row = await this.get("");
        this.catchUp();
        this.tell("status");
      } catch {
        // The stream will say when the server is back.
      }
    }
    for (const name of names) if (name) this.tell(`old:${name}`);
  }

  /** Everything may have changed: a rewind, or a stream that was broken. */
  async refresh() {
    this.answers.clear();
    try {
      this.row = await this.get("");
    } catch {
      return;
    }
    this.catchUp();
    this.tell("status");
    this.tell("refresh");
  }
}
