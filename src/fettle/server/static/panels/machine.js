// The machine while it trains: GPU, memory, processor.

import { columnCharts } from "../curves.js";
import { h } from "../dom.js";
import { percent, size } from "../format.js";

const HEIGHT = 90;

/** @type {import("../panel.js").PanelSpec} */
export const machine = {
  id: "machine",
  title: "GPU and host",
  mount(context) {
    const grid = h("div", { class: "charts small" });
    context.body.append(grid);
    const share = (/** @type {number} */ value) => percent(value, 0);
    const line = (/** @type {string} */ column, /** @type {string} */ label, /** @type {string} */ colour, /** @type {(v: number) => string} */ format, dash = /** @type {number[] | undefined} */ (undefined)) => ({ key: column, column, label, colour, format, dash, width: 1.5, band: !dash });
    columnCharts(context, grid, [
      { label: "GPU utilization", height: HEIGHT, zero: true, type: "system", specs: [line("gpu_utilization", "GPU utilization", "--line-1", share)] },
      { label: "GPU memory", height: HEIGHT, zero: true, type: "system", specs: [line("gpu_memory_used", "GPU memory", "--line-3", size), line("gpu_memory_total", "total", "--line-6", size, [4, 4])] },
      { label: "GPU temperature", height: HEIGHT, type: "system", specs: [line("gpu_temperature", "GPU temperature", "--line-2", (v) => `${v.toFixed(0)}\u202f°C`)] },
      { label: "GPU power", height: HEIGHT, type: "system", specs: [line("gpu_power", "GPU power", "--line-4", (v) => `${v.toFixed(0)}\u202fW`)] },
      { label: "Host memory", height: HEIGHT, zero: true, type: "system", specs: [line("host_memory_used", "host memory", "--line-3", size), line("process_memory", "this process", "--line-1", size), line("host_memory_total", "total", "--line-6", size, [4, 4])] },
      { label: "Processor", height: HEIGHT, zero: true, type: "system", specs: [line("host_cpu", "processor", "--line-5", share)] },
    ]);
  },
};
