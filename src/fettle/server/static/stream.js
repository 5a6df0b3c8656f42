// One stream of news a page. The browser resumes it after a break by the id of the last event.

const RETRY = [1000, 2000, 5000, 10000];

/** @typedef {"connecting" | "live" | "lost" | "ended"} StreamState */

export class Stream {
  /**
   * @param {string} address
   * @param {{rows: (rows: Record<string, any[]>) => void, status: (row: any) => void, rewind: (data: any) => void,
   *   resumed: () => void, state: (state: StreamState) => void}} listeners
   */
  constructor(address, listeners) {
    this.address = address;
    this.listeners = listeners;
    this.failures = 0;
    this.lastId = "";
    this.broken = false;
    /** @type {EventSource | null} */
    this.source = null;
    /** Names of the values of rows that come as lists, by type. @type {Record<string, string[]>} */
    this.columns = {};
    this.open();
  }

  open() {
    const source = new EventSource(this.address);
    this.source = source;
    source.onopen = () => {
      const again = this.broken;
      this.broken = false;
      this.failures = 0;
      this.listeners.state("live");
      if (again) this.listeners.resumed();
    };
    source.onerror = () => this.fail();
    source.addEventListener("columns", (event) => Object.assign(this.columns, parse(event)));
    source.addEventListener("rows", (event) => this.listeners.rows(this.named(parse(event))));
    source.addEventListener("status", (event) => this.listeners.status(parse(event)));
    source.addEventListener("rewind", (event) => this.listeners.rewind(parse(event)));
    source.addEventListener("end", () => {
      this.close();
      this.listeners.state("ended");
    });
  }

  /** Rows with their names, as in the log. @param {Record<string, any[]>} rows */
  named(rows) {
    const types = Object.entries(rows);
    return Object.fromEntries(types.map(([type, list]) => [type, list.map((row) => (Array.isArray(row) ? record(this.columns[type] ?? [], row) : row))]));
  }

  /** A lost connection resumes by itself; an answer that was no stream is tried again here. */
  fail() {
    this.broken = true;
    this.listeners.state("lost");
    if (this.source?.readyState !== EventSource.CLOSED) return;
    const wait = RETRY[Math.min(this.failures, RETRY.length - 1)];
    this.failures += 1;
    this.timer = setTimeout(() => this.open(), wait);
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
  }
}

/** A list of values as a record; one that is no number is null beside what it was. @param {string[]} names @param {any[]} values */
function record(names, values) {
  /** @type {Record<string, any>} */
  const row = {};
  names.forEach((name, i) => {
    const odd = typeof values[i] === "string";
    row[name] = odd ? null : values[i];
    if (odd) row[`${name}_nonfinite`] = values[i];
  });
  return row;
}

/** @param {Event} event */
function parse(event) {
  const text = /** @type {MessageEvent} */ (event).data;
  return text ? JSON.parse(text) : {};
}
