// What a page that is a file of its own holds (report/held.js); the page of a server holds nothing.

/** @type {{run: string, fetch: (address: string) => Promise<Response>} | undefined} */
export const report = /** @type {any} */ (globalThis).fettleReport;
