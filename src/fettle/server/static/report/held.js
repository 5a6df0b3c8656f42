// In a report: its run's answers, given as the server would give them. Joined before the page's modules.

{
  const LEVELS = ["debug", "info", "success", "warning", "error", "critical"];
  const held = JSON.parse(/** @type {any} */ (document.getElementById("answers")).textContent);

  /** @param {any} body @param {number} [status] */
  const json = (body, status = 200) => new Response(JSON.stringify(body), { status });

  /** The buckets within a window, and the one that it begins in. @param {URLSearchParams} query */
  const curve = (query) => {
    const found = held.curves[`${query.get("type")} ${query.get("y")}`] ?? { fields: "x_first,mean", raw: true, data: "" };
    const bytes = Uint8Array.from(atob(found.data), (character) => character.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const size = 8 * found.fields.split(",").length;
    const rows = bytes.length / size;
    const x = (/** @type {number} */ row) => view.getFloat64(row * size, true);
    const [from, to] = [Number(query.get("from") ?? -Infinity), Number(query.get("to") ?? Infinity)];
    let [first, last] = [rows, -1];
    for (let row = 0; row < rows; row += 1) {
      const reaches = x(row) >= from || (!found.raw && row + 1 < rows && x(row + 1) > from);
      if (!reaches || x(row) > to) continue;
      first = Math.min(first, row);
      last = row;
    }
    const inside = bytes.slice(first * size, Math.max(first, last + 1) * size);
    return new Response(inside, { headers: { "X-Fields": found.fields, "X-Raw": String(Number(found.raw)), "X-Rows": String(Math.max(0, last + 1 - first)) } });
  };

  /** A page of the rows that fit. @param {any[]} rows @param {URLSearchParams} query @param {(row: any) => boolean} fits */
  const page = (rows, query, fits) => {
    const found = rows.filter(fits);
    const asked = Number(query.get("offset"));
    const offset = asked < 0 ? Math.max(0, found.length + asked) : asked;
    return { total: found.length, offset, rows: found.slice(offset, offset + Number(query.get("limit"))) };
  };

  /** @param {any} answer @param {URLSearchParams} query */
  const lines = (answer, query) => {
    const least = LEVELS.indexOf(query.get("level") ?? "");
    const text = (query.get("q") ?? "").toLowerCase();
    const { total, offset, rows } = page(answer.lines, query, (line) => (line.level === null || LEVELS.indexOf(line.level) >= least) && line.text.toLowerCase().includes(text));
    return { total_lines: total, offset, lines: rows };
  };

  /** @param {any} answer @param {URLSearchParams} query */
  const samples = (answer, query) => {
    const wanted = ["pattern", "length", "history"].filter((key) => query.has(key));
    const { total, rows } = page(answer.samples, query, (sample) => wanted.every((key) => sample[key] === query.get(key)));
    return { ...answer, total, samples: rows };
  };

  /** @param {string} address */
  const answer = (address) => {
    const { pathname, searchParams: query } = new URL(address, "http://report");
    if (pathname === "/api/health") return json({ control: false });
    const name = pathname.split("/").slice(4).join("/");
    if (name === "series") return curve(query);
    const found = held.answers[name];
    const step = query.get("step");
    if (held.refused[name]) return json({ detail: held.refused[name] }, 422);
    if (name === "logs") return json(lines(found, query));
    if (step !== null && String(found?.step) !== step) {
      const other = held.answers[`${name} ${step}`];
      return other ? json(other) : json({ detail: `This report holds the ${name} of step ${found?.step}.` }, 404);
    }
    if (name === "samples") return json(samples(found, query));
    return found ? json(found) : json({ detail: "This report does not hold that." }, 404);
  };

  /** @type {any} */ (globalThis).fettleReport = { run: held.run, fetch: async (/** @type {string} */ address) => answer(address) };
}
