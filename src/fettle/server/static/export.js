// Everything that can be taken along: tables as JSON or CSV, charts as PNG, the run as one page.

import { runPath, url } from "./api.js";
import { charts } from "./chart.js";
import { fill, h } from "./dom.js";
import { integer, words } from "./format.js";
import { report } from "./report.js";

/** @param {import("./run.js").Run} run */
export function openExport(run) {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("export"));
  const counts = Object.entries(run.row?.counts ?? {}).filter(([, count]) => Number(count) > 0);
  const link = (/** @type {string} */ text, /** @type {import("./api.js").Query} */ query) => h("a", { href: url(runPath(run.id, "export"), query), download: "", text });
  const rows = counts.map(([type, count]) => h("tr", {}, h("th", { scope: "row", text: words(type) }), h("td", { class: "number", text: integer(Number(count)) }), h("td", {}, link("JSON", { type, format: "json" })), h("td", {}, link("CSV", { type, format: "csv" }))));
  const drawn = [...charts].filter((chart) => chart.plot);
  drawn.sort((a, b) => (a.canvas.compareDocumentPosition(b.canvas) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1));
  fill(
    dialog,
    h("h2", { id: "export-title", text: "Export" }),
    !report && h("p", {}, link("Everything as JSON", { type: "all", format: "json" }), " · ", h("a", { href: url(runPath(run.id, "report.html")), download: "", text: "HTML report" })),
    !report && h("table", { class: "plain" }, h("thead", {}, h("tr", {}, h("th", { scope: "col", text: "Records" }), h("th", { scope: "col", class: "number", text: "rows" }), h("th", { scope: "col", colspan: 2 }, h("span", { class: "hidden", text: "Format" })))), h("tbody", {}, rows)),
    h("h3", { text: "Charts as PNG" }),
    h("ul", { class: "plain pictures" }, drawn.map((chart) => h("li", {}, h("button", { type: "button", class: "quiet", text: chart.options.label, onclick: () => savePicture(chart, run.id) })))),
    h("form", { method: "dialog" }, h("button", { type: "submit", text: "Close" })),
  );
  dialog.showModal();
}

/** @param {import("./chart.js").Chart} chart @param {string} name */
function savePicture(chart, name) {
  chart.picture()?.toBlob((blob) => {
    if (!blob) return;
    const address = URL.createObjectURL(blob);
    h("a", { href: address, download: `${name} ${chart.options.label}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  });
}
