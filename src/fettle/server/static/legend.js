// The legend of a chart: what each line is, its value under the cursor, and a switch for it.

import { fill, h, icon } from "./dom.js";
import { integer, measured, notMeasured } from "./format.js";

/** @param {import("./chart.js").TrackSpec} spec */
function swatch(spec) {
  const shape = spec.points ? "M0 8h4M12 8h4M8 4l4 4-4 4-4-4z" : spec.dash ? "M0 8h4M6 8h4M12 8h4" : "M0 8h16";
  const drawn = icon(shape, "swatch");
  drawn.style.color = `var(${spec.colour})`;
  return drawn;
}

export class Legend {
  /** @param {import("./chart.js").TrackSpec[]} specs @param {(key: string) => void} toggle @param {string} unit */
  constructor(specs, toggle, unit = "step") {
    this.specs = specs;
    this.unit = unit;
    this.where = h("span", { class: "legend-where" });
    this.element = h("div", { class: "legend" });
    /** @type {Map<string, {button: HTMLElement, value: HTMLElement}>} */
    this.entries = new Map();
    for (const spec of specs) {
      const value = h("span", { class: "legend-value" });
      const button = h(
        "button",
        { type: "button", class: "legend-entry", "aria-pressed": "true", title: `Show or hide ${spec.label}`, onclick: () => toggle(spec.key) },
        swatch(spec),
        h("span", { text: spec.label }),
        value,
      );
      this.entries.set(spec.key, { button, value });
      this.element.append(button);
    }
    this.element.append(this.where);
  }

  /** @param {string} key @param {boolean} on */
  press(key, on) {
    this.entries.get(key)?.button.setAttribute("aria-pressed", String(on));
  }

  /**
   * Show the values at a place; null is the latest.
   * @param {Map<string, import("./api.js").Track>} tracks @param {number | null} x
   */
  show(tracks, x) {
    for (const spec of this.specs) {
      const entry = this.entries.get(spec.key);
      const point = pointAt(tracks.get(spec.key), x);
      if (entry) fill(entry.value, point ? text(spec, point) : notMeasured(true));
    }
    this.where.textContent = x === null ? "" : `${this.unit} ${integer(x)}`;
  }
}

/** @param {import("./chart.js").TrackSpec} spec @param {{y: number, low: number | null, high: number | null}} point */
function text(spec, point) {
  const shown = spec.format(point.y);
  if (!spec.interval || !measured(point.low) || !measured(point.high)) return shown;
  return `${shown} (${spec.format(point.low)} to ${spec.format(point.high)})`;
}

/** The last point that has a value at or before x. @param {import("./api.js").Track | undefined} track @param {number | null} x */
export function pointAt(track, x) {
  if (!track) return null;
  let index = x === null ? track.x.length - 1 : nearest(track.x, x);
  while (index >= 0 && track.y[index] === null) index -= 1;
  if (index < 0) return null;
  return { x: track.x[index], y: /** @type {number} */ (track.y[index]), low: track.low[index], high: track.high[index] };
}

/** Index of the value next to x in an ascending list. @param {number[]} list @param {number} x */
function nearest(list, x) {
  let [low, high] = [0, list.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - list[low - 1] < list[low] - x ? low - 1 : low;
}
