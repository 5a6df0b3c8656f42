// The frame of a panel: a title that collapses it, tools beside it, an error in place of silence.

import { announce, fill, h, icon } from "./dom.js";
import { onMove } from "./place.js";
import { recall, remember } from "./preferences.js";

/**
 * @typedef {object} PanelSpec
 * @property {string} id
 * @property {string} title
 * @property {boolean} [wide] over all columns
 * @property {(context: Context) => void} mount
 */

const CHEVRON = "M4 6l4 4 4-4";

/** What a panel is given: the run, a place to draw, and listeners that end with it. */
export class Context {
  /** @param {import("./run.js").Run} run @param {HTMLElement} body @param {HTMLElement} tools @param {HTMLElement} problem @param {AbortSignal} stop */
  constructor(run, body, tools, problem, stop) {
    this.run = run;
    this.body = body;
    this.tools = tools;
    this.problem = problem;
    this.stop = stop;
    /** What the problem that is told came from. @type {(() => void) | null} */
    this.failed = null;
  }

  /** @param {EventTarget} target @param {string} name @param {(event: Event) => void} listener */
  listen(target, name, listener) {
    target.addEventListener(name, listener, { signal: this.stop });
  }

  /** Hear when one of these values of the address changes. @param {string[]} keys @param {() => void} listener */
  onMove(keys, listener) {
    const drop = onMove((changed) => keys.some((key) => changed.has(key)) && listener());
    this.stop.addEventListener("abort", drop);
  }

  /**
   * Draw an answer of the server now and whenever it has changed; returns how to ask again.
   * @param {string} name @param {(data: any) => void} render @param {() => import("./api.js").Query} [query]
   */
  watch(name, render, query = () => ({})) {
    let turn = 0;
    const load = async () => {
      turn += 1;
      const mine = turn;
      try {
        const data = await this.run.get(name, query());
        if (mine !== turn || this.stop.aborted) return;
        if (this.failed === load) fill(this.problem);
        render(data);
      } catch (error) {
        if (mine === turn) this.fail(error, load);
      }
    };
    this.listen(this.run, `old:${name}`, load);
    this.listen(this.run, "refresh", load);
    load();
    return load;
  }

  /** Say what went wrong, and offer to try again. @param {any} error @param {() => void} retry */
  fail(error, retry) {
    if (this.stop.aborted || error?.name === "AbortError") return;
    console.error(error);
    this.failed = retry;
    const again = () => {
      fill(this.problem);
      retry();
    };
    fill(this.problem, h("span", { text: error?.message ?? String(error) }), " ", h("button", { type: "button", onclick: again, text: "Try again" }));
  }

  /** Call at most once a period while the panel lives and the page is seen. @param {number} ms @param {() => void} action */
  every(ms, action) {
    const timer = setInterval(() => !document.hidden && action(), ms);
    this.stop.addEventListener("abort", () => clearInterval(timer));
  }
}

export class Panel {
  /** @param {PanelSpec} spec @param {import("./run.js").Run} run */
  constructor(spec, run) {
    this.spec = spec;
    this.stop = new AbortController();
    this.body = h("div", { class: "panel-body", id: `${spec.id}-body` });
    this.tools = h("div", { class: "panel-tools" });
    const problem = h("p", { class: "problem", role: "alert" });
    this.button = h("button", { type: "button", class: "panel-toggle", "aria-controls": this.body.id, onclick: () => this.setOpen(!this.open) }, icon(CHEVRON, "chevron"), spec.title);
    this.element = h(
      "section",
      { class: `panel waiting${spec.wide ? " wide" : ""}`, id: spec.id, "aria-label": spec.title },
      h("header", { class: "panel-head" }, h("h2", {}, this.button), this.tools),
      problem,
      this.body,
    );
    this.context = new Context(run, this.body, this.tools, problem, this.stop.signal);
    this.open = recall(`panel.${spec.id}`) !== "closed";
    this.mounted = false;
    // What nobody sees is not asked for.
    this.seen = new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && this.mount(), { rootMargin: "400px" });
    this.seen.observe(this.element);
    this.apply();
  }

  mount() {
    if (!this.open || this.mounted) return;
    this.mounted = true;
    this.element.classList.remove("waiting");
    this.seen.disconnect();
    this.spec.mount(this.context);
    if (!this.body.childElementCount) fill(this.body, h("p", { class: "footnote", role: "status", text: "Reading …" }));
  }

  /** @param {boolean} open */
  setOpen(open) {
    this.open = open;
    remember(`panel.${this.spec.id}`, open ? "open" : "closed");
    this.apply();
    this.mount();
  }

  apply() {
    this.button.setAttribute("aria-expanded", String(this.open));
    this.element.classList.toggle("closed", !this.open);
    this.body.hidden = this.tools.hidden = !this.open;
  }

  /** Open it, bring it into view, and put the focus there. */
  show() {
    this.setOpen(true);
    this.element.scrollIntoView({ block: "start" });
    this.button.focus({ preventScroll: true });
    announce(this.spec.title);
  }

  destroy() {
    this.seen.disconnect();
    this.stop.abort();
  }
}

/** A group of buttons of which one is on. @param {string} label @param {[string, string][]} choices value and text @param {string} chosen @param {(value: string) => void} choose */
export function choices(label, choices, chosen, choose) {
  const group = h("div", { class: "choices", role: "group", "aria-label": label });
  const press = (/** @type {string} */ value) => {
    for (const button of group.children) button.setAttribute("aria-pressed", String(button.dataset.value === value));
  };
  for (const [value, text] of choices) {
    group.append(
      h("button", {
        type: "button", "data-value": value, text,
        onclick: () => {
          press(value);
          choose(value);
        },
      }),
    );
  }
  press(chosen);
  return group;
}

/** A labelled list to choose from. @param {string} label @param {[string, string][]} options @param {string} chosen @param {(value: string) => void} choose */
export function select(label, options, chosen, choose) {
  const list = h("select", { onchange: (/** @type {any} */ event) => choose(event.target.value) });
  for (const [value, text] of options) list.append(h("option", { value, text, selected: value === chosen }));
  return h("label", { class: "field" }, h("span", { text: label }), list);
}
