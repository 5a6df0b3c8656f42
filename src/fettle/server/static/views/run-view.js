// One page a run: the verdict on top, the panels below.

import { fill, h } from "../dom.js";
import { controlAllowed, Head } from "../head.js";
import { Panel } from "../panel.js";
import { PANELS } from "../panels/all.js";
import { Run } from "../run.js";

export class RunView {
  /** @param {HTMLElement} host @param {string} id */
  constructor(host, id) {
    this.host = host;
    this.run = new Run(id);
    /** @type {Panel[]} */
    this.panels = [];
    /** @type {Head | null} */
    this.head = null;
    this.open();
  }

  async open() {
    fill(this.host, h("p", { class: "loading", role: "status", text: "Reading the run …" }));
    try {
      const [control] = await Promise.all([controlAllowed(), this.run.open()]);
      if (this.run.stop.signal.aborted) return;
      this.head = new Head(this.run, control);
    } catch (error) {
      if (this.run.stop.signal.aborted) return;
      fill(this.host, h("p", { class: "problem", role: "alert" }, /** @type {Error} */ (error).message, " ", h("button", { type: "button", text: "Try again", onclick: () => this.open() })));
      return;
    }
    this.panels = PANELS.map((spec) => new Panel(spec, this.run));
    fill(this.host, this.head.element, h("div", { class: "panels" }, this.panels.map((panel) => panel.element)));
  }

  /** @param {string} id */
  show(id) {
    this.panels.find((panel) => panel.spec.id === id)?.show();
  }

  /** @param {"pause" | "stop" | "checkpoint"} action */
  ask(action) {
    this.head?.ask(action === "pause" && this.run.row?.state === "paused" ? "resume" : action);
  }

  destroy() {
    this.panels.forEach((panel) => panel.destroy());
    this.head?.destroy();
    this.run.close();
  }
}
