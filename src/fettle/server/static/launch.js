// Trainings that are launched from here: a configuration to queue, and how those stand that were.

import { getJson, postJson } from "./api.js";
import { announce, fill, footnote, h } from "./dom.js";
import { integer, measured } from "./format.js";
import { controlAllowed } from "./head.js";
import { address } from "./place.js";
import { stateChip } from "./signs.js";

const POLL_MS = 2000;
const JOBS = "training/jobs";
const EXAMPLE = "model: Qwen/Qwen3-0.6B\ndata:\n  train: train.jsonl\n  fixed_eval: valid.jsonl";

/** Show the button where the server lets the page act. @param {HTMLElement} opener @param {HTMLElement} host */
export async function offerLaunch(opener, host) {
  const dialog = /** @type {HTMLDialogElement} */ (host);
  const yaml = h("textarea", { class: "mono", rows: 10, spellcheck: "false", "aria-label": "Configuration", placeholder: EXAMPLE });
  const problem = h("p", { class: "problem", role: "alert" });
  const list = h("ul", { class: "plain jobs" });
  let drawn = "";

  const load = async () => {
    const { jobs } = await getJson(JOBS);
    const now = JSON.stringify(jobs);
    if (now === drawn) return;
    drawn = now;
    fill(list, jobs.length ? jobs.map(item) : h("li", { class: "footnote", text: "Nothing was launched yet." }));
  };
  /** Do it, and say what is wrong with it. @param {string} path @param {any} body */
  const post = async (path, body) => {
    fill(problem);
    try {
      const job = await postJson(path, body);
      announce(`${job.job_id}: ${job.cancelling ? "saves and ends" : job.state}`);
      await load();
    } catch (error) {
      fill(problem, /** @type {Error} */ (error).message);
    }
  };
  /** @param {any} job */
  const item = (job) => {
    const button = (/** @type {string} */ text, /** @type {string} */ action) => h("button", { type: "button", text, "aria-label": `${text} ${job.job_id}`, onclick: () => post(`${JOBS}/${job.job_id}/${action}`, {}) });
    const again = ["failed", "cancelled"].includes(job.state);
    return h(
      "li",
      {},
      stateChip(job.state),
      job.has_run ? h("a", { href: address({ run: job.job_id }), text: job.job_id, onclick: () => dialog.close() }) : h("b", { text: job.job_id }),
      h("span", { class: "footnote", text: where(job) }),
      again ? button("Restart", "restart") : job.state === "completed" ? null : button(job.cancelling ? "Kill" : "Cancel", "cancel"),
      job.error ? h("p", { class: "problem", text: job.error }) : null,
    );
  };

  fill(
    dialog,
    h("h2", { id: "launch-title", text: "Launch a training" }),
    yaml,
    problem,
    footnote("YAML; paths are relative to the served folder. One training runs at a time, the others wait."),
    h("form", { method: "dialog" }, h("button", { type: "button", text: "Launch", onclick: () => post(JOBS, { config: yaml.value }) }), " ", h("button", { type: "submit", text: "Close" })),
    list,
  );
  opener.addEventListener("click", () => {
    if (opener.hidden) return announce("Control is off. Start the server with --control to launch from here.");
    dialog.showModal();
    load();
  });
  setInterval(() => dialog.open && load().catch(() => {}), POLL_MS);
  opener.hidden = !(await controlAllowed());
}

/** @param {any} job */
function where(job) {
  if (job.queue_position) return `no. ${job.queue_position} in the queue`;
  if (measured(job.step)) return `step ${integer(job.step)}${measured(job.total_steps) ? ` of ${integer(job.total_steps)}` : ""}`;
  return job.state === "pending" ? "loading" : "";
}
