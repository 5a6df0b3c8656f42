// Ranges, ticks and labels of the axes of a chart.

/** 1, 2 and 5 times powers of ten within the range; only powers where there are many. @param {number} low @param {number} high */
export function logTicks(low, high) {
  const decades = Math.log10(high / low);
  const steps = decades > 4 ? [1] : decades > 1.5 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const step of steps) {
      const tick = Number((step * 10 ** power).toPrecision(3));
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks;
}

/** A range with some air around it. @param {number | null} low @param {number | null} high @param {boolean} log @returns {[number, number]} */
export function padded(low, high, log) {
  if (low === null || high === null || !Number.isFinite(low) || !Number.isFinite(high)) return log ? [0.1, 1] : [0, 1];
  if (log) return [low / 1.08, high * 1.08];
  const air = high > low ? 0.06 * (high - low) : Math.abs(high) * 0.1 || 1;
  return [low >= 0 && low - air < 0 ? 0 : low - air, high + air];
}

/** Labels of ticks without the zeros that all of them end with. @param {number[]} ticks @param {(value: number) => string} format */
export function axisLabels(ticks, format) {
  let labels = ticks.map(format);
  const trimmed = /^([^.]*)(\.\d*?)0(?=\D*$)/;
  while (labels.some((label) => label.includes(".")) && labels.every((label) => !label.includes(".") || trimmed.test(label))) {
    labels = labels.map((label) => label.replace(trimmed, "$1$2").replace(/\.(?=\D*$)/, ""));
  }
  return labels;
}
