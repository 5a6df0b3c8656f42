// What a person should act on, the open ones first, each with its action and its numbers.

import { fill, footnote, h } from "../dom.js";
import { decimal, integer, measured, words } from "../format.js";
import { SEVERITIES, sign } from "../signs.js";

const ORDER = ["critical", "warning", "info"];

/** @type {import("../panel.js").PanelSpec} */
export const alerts = {
  id: "alerts",
  title: "Alerts",
  wide: true,
  mount(context) {
    context.watch("alerts", (data) => {
      const open = data.alerts.filter((/** @type {any} */ alert) => !alert.resolved).sort(bySeverity);
      const over = data.alerts.filter((/** @type {any} */ alert) => alert.resolved);
      fill(
        context.body,
        open.length ? h("ul", { class: "alerts" }, open.map(item)) : footnote(sign("check"), " No open alerts."),
        over.length ? h("details", {}, h("summary", { text: `${over.length} resolved` }), h("ul", { class: "alerts resolved" }, over.map(item))) : null,
      );
      fill(context.tools, open.length ? h("span", { class: "footnote", text: `${open.length} open` }) : null);
    });
  },
};

/** @param {any} a @param {any} b */
function bySeverity(a, b) {
  return ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity) || (b.last_step ?? 0) - (a.last_step ?? 0);
}

/** @param {any} alert */
function item(alert) {
  const [name, tone, title] = SEVERITIES[alert.severity] ?? ["info", "calm", words(alert.severity)];
  return h(
    "li",
    { class: `alert tone-${tone}` },
    h("p", { class: "alert-head" }, h("span", { class: `chip tone-${tone}` }, sign(name), title), h("b", { text: words(alert.category) }), h("span", { class: "footnote", text: when(alert) })),
    h("p", { text: alert.message }),
    alert.recommendation ? h("p", { class: "alert-action" }, h("b", { text: "Do: " }), alert.recommendation) : null,
    evidence(alert),
  );
}

/** @param {any} alert */
function when(alert) {
  if (!measured(alert.first_step)) return "";
  const resolved = measured(alert.resolved_step) ? `, over at step ${integer(alert.resolved_step)}` : "";
  const until = measured(alert.last_step) && alert.last_step !== alert.first_step && !resolved ? ` to ${integer(alert.last_step)}` : "";
  return `step ${integer(alert.first_step)}${until}${resolved}`;
}

/** @param {any} alert */
function evidence(alert) {
  const said = `${alert.message} ${alert.recommendation}`;
  const isNews = (/** @type {any} */ value) => value !== null && typeof value !== "object" && !(typeof value === "string" && said.includes(value));
  const pairs = Object.entries(alert.evidence ?? {}).filter(([, value]) => isNews(value));
  const parts = pairs.map(([key, value]) => `${words(key)} ${plain(value)}`);
  if (measured(alert.threshold)) parts.push(`threshold ${decimal(alert.threshold)}`);
  return parts.length ? footnote(parts.join(" · ")) : null;
}

/** @param {unknown} value */
function plain(value) {
  return typeof value === "number" ? (Number.isInteger(value) ? integer(value) : decimal(value)) : String(value);
}
