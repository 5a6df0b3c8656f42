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
    source.addEventListener("rows", (event) => this.listeners.rows(parse(event)));
    source.addEventListener("status", (event) => this.listeners.status(parse(event)));
    source.addEventListener("rewind", (event) => this.listeners.rewind(parse(event)));
    source.addEventListener("end", () => {
      this.close();
      this.listeners.state("ended");
    });
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

/** @param {Event} event */
function parse(event) {
  const text = /** @type {MessageEvent} */ (event).data;
  return text ? JSON.parse(text) : {};
}
