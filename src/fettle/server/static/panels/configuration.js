// The configuration as it was resolved, and where the run comes from.

import { copyText, fill, footnote, h } from "../dom.js";
import { words } from "../format.js";
import { sign } from "../signs.js";

/** @type {import("../panel.js").PanelSpec} */
export const configuration = {
  id: "configuration",
  title: "Configuration and provenance",
  wide: true,
  mount(context) {
    const yaml = h("div", { class: "text-block" });
    const origin = h("div", { class: "text-block" });
    context.body.append(h("div", { class: "texts" }, yaml, origin));
    context.watch("config", (data) => {
      const text = data.yaml ?? (data.resolved ? JSON.stringify(data.resolved, null, 2) : "");
      fill(yaml, h("h3", {}, "config.yaml ", text ? h("button", { type: "button", class: "quiet", onclick: () => copyText(text, "Configuration") }, sign("copy"), "Copy") : null), text ? h("pre", { class: "scroll tall", tabindex: 0, text }) : footnote("Not recorded."));
    });
    context.watch("", (row) => fill(origin, h("h3", { text: "metadata.json" }), row.metadata ? h("dl", { class: "pairs scroll tall", tabindex: 0 }, pairs(row.metadata)) : footnote("Not recorded.")));
  },
};

/** Nested values as dotted names. @param {any} value @param {string} [prefix] @returns {any[]} */
function pairs(value, prefix = "") {
  return Object.entries(value).flatMap(([key, item]) => {
    const name = `${prefix}${words(key)}`;
    if (item !== null && typeof item === "object" && !Array.isArray(item)) return pairs(item, `${name} · `);
    const text = item === null ? "not recorded" : Array.isArray(item) ? JSON.stringify(item) : String(item);
    return [h("dt", { text: name }), h("dd", { text })];
  });
}
