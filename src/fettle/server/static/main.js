// Where the page begins: which view the address asks for, and what belongs to all views.

import { openExport } from "./export.js";
import { listenForKeys } from "./keys.js";
import { offerLaunch } from "./launch.js";
import { address, at, onMove } from "./place.js";
import { recall, remember } from "./preferences.js";
import { report } from "./report.js";
import { RunList } from "./run-list.js";
import { applyTheme, toggleTheme } from "./theme.js";
import { CompareView } from "./views/compare-view.js";
import { PackView } from "./views/pack-view.js";
import { RunView } from "./views/run-view.js";
import { RunsView } from "./views/runs-view.js";

/** @param {string} id */
const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

const main = element("main");
// A report is of one run.
const list = report ? null : new RunList(element("runs"));
element("toggle-runs").hidden = !list;
/** @type {RunView | RunsView | CompareView | PackView | null} */
let view = null;

function show() {
  view?.destroy();
  const [compare, run, pack] = report ? [null, report.run] : [at("compare"), at("run"), at("pack")];
  if (compare) view = new CompareView(main, compare.split(",").map(decodeURIComponent));
  else if (run) view = new RunView(main, run);
  else if (pack) view = new PackView(main, pack);
  else if (list) view = new RunsView(main, list);
  document.body.dataset.view = compare ? "compare" : run ? "run" : pack ? "pack" : "runs";
  element("open-export").hidden = !(view instanceof RunView);
  list?.mark();
  scrollTo(0, 0);
}

/** Narrow windows begin without the list. @param {boolean} open */
function setRunsOpen(open) {
  document.body.classList.toggle("runs-closed", !open);
  element("toggle-runs").setAttribute("aria-expanded", String(open));
}

const wide = matchMedia("(min-width: 1000px)");
setRunsOpen(Boolean(list) && wide.matches && recall("runs") !== "closed");
element("toggle-runs").addEventListener("click", () => {
  const open = document.body.classList.contains("runs-closed");
  setRunsOpen(open);
  if (wide.matches) remember("runs", open ? "open" : "closed");
});
onMove((changed) => {
  if (!["run", "compare", "pack"].some((key) => changed.has(key))) return;
  if (!wide.matches) setRunsOpen(false);
  show();
});

document.addEventListener("show-panel", (event) => {
  if (view instanceof RunView) view.show(/** @type {CustomEvent} */ (event).detail);
});

const exportRun = () => view instanceof RunView && openExport(view.run);
element("open-export").addEventListener("click", exportRun);
element("toggle-theme").addEventListener("click", toggleTheme);
element("home").setAttribute("href", address({}));
listenForKeys({
  help: element("help"),
  opener: element("open-help"),
  run: () => (view instanceof RunView ? view : null),
  export: exportRun,
  launch: () => element("open-launch").click(),
  search: () => {
    if (!(view instanceof RunsView)) setRunsOpen(true);
    (view instanceof RunsView ? view : list)?.focusSearch();
  },
});
offerLaunch(element("open-launch"), element("launch"));
applyTheme();
show();
