"""What a reader waits for, in a real Chromium: the page, log to pixel, the first view of fifty runs."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from fettle.runs import EventLog, RunFolder
from monitoring import servers
from monitoring.report import Row, progress
from monitoring.runs import PROJECT, losses, write_fettle, write_trackio

LIVE_SECONDS = 0.1
RUNS, POINTS = 50, 2_000
NO_SPIKES = np.empty(0, dtype=np.int64)

# Notes when a value of the legend was on the screen: the frame after the text has changed.
WATCH = """() => {
  window.seen = {};
  const value = document.querySelector("#loss .legend-value");
  new MutationObserver(() => {
    const text = value.textContent;
    requestAnimationFrame(() => requestAnimationFrame(() => (window.seen[text] ??= Date.now())));
  }).observe(value, { childList: true, characterData: true, subtree: true });
}"""
# The legend is filled in the frame that draws the curves.
DRAWN = """(name) => {
  const entries = [...document.querySelectorAll("main .legend-entry")];
  const wanted = entries.filter((entry) => entry.textContent.includes(name));
  const values = wanted.map((entry) => entry.querySelector(".legend-value"));
  return values.length > 0 && values.every((value) => value.textContent && !value.querySelector(".missing"));
}"""
SIZE = """() => [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")]
  .reduce((sum, entry) => sum + entry.transferSize, 0)"""


def measure(folder: Path, live_steps: int) -> list[Row]:
    """All of it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("FETTLE_CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        rows = [
            *_log_to_pixel(browser, folder / "live", live_steps),
            *_first_views(browser, folder / "fifty"),
        ]
        browser.close()
    return rows


def _log_to_pixel(browser: Any, root: Path, steps: int) -> list[Row]:
    """From the write of a record to the frame that shows it."""
    progress("from the log to the pixel")
    run = RunFolder.create(root / "live", config_yaml="", metadata={})
    log = EventLog(run.metrics_path)
    log.append("start", {"step": 0, "total_steps": 10_000})
    for step in range(1, 201):
        log.append("train", {"step": step, "loss": 2.0, "streaming_ce": 2.0})
    run.write_status({"state": "running", "step": 200, "total_steps": 10_000})
    with run.lock(), servers.fettle(root, root / "cache") as server:
        page = browser.new_page()
        page.goto(f"{server.base}/#run=live")
        page.locator("#loss canvas").wait_for()
        page.wait_for_timeout(2000)
        page.evaluate(WATCH)
        written: dict[str, float] = {}
        for i in range(steps):
            loss = 1 + i / 1000
            log.append("train", {"step": 201 + i, "loss": loss, "streaming_ce": loss})
            written[f"{loss:.3f}"] = 1000 * time.time()
            page.wait_for_timeout(1000 * LIVE_SECONDS)
        page.wait_for_timeout(1000)
        seen = page.evaluate("window.seen")
        page.close()
    # Two steps of one batch make one frame; the first of them is not shown for itself.
    delays = sorted(seen[text] - moment for text, moment in written.items() if text in seen)
    note = f"{len(delays)} of {steps} steps in frames of their own"
    return [
        Row("log to pixel, median", float(np.median(delays)), "ms", 500.0, note=note),
        Row("  95th percentile", float(np.percentile(delays, 95)), "ms", 1000.0),
    ]


def _first_views(browser: Any, root: Path) -> list[Row]:
    """Fifty runs over each other, from a warm server to the drawn curves; of trackio its answer alone."""
    progress(f"{RUNS} runs of {POINTS:,} steps over each other")
    loss = losses(POINTS, NO_SPIKES)
    names = [f"run-{i:02d}" for i in range(RUNS)]
    for i, name in enumerate(names):
        write_fettle(root / "runs" / name, loss + i / 100)
    write_trackio(root / "trackio", {name: loss + i / 100 for i, name in enumerate(names)})
    with servers.fettle(root / "runs", root / "cache") as ours, servers.trackio(root / "trackio") as theirs:
        address = f"{ours.base}/#compare={','.join(names)}"
        _view(browser, address)
        views = [_view(browser, address) for _ in range(5)]
        answers = [_answer(theirs, names) for _ in range(5)]
        weights = _weight(browser, ours.base), _weight(browser, theirs.base)
    milliseconds, size = float(np.median([ms for ms, _ in views])), views[0][1]
    answer, answer_size = float(np.median([ms for ms, _ in answers])), answers[0][1]
    return [
        Row(f"{RUNS} runs × {POINTS:,} steps, first view", milliseconds, "ms", 300.0, answer,
            (milliseconds / answer,) * 3, "trackio: its answer alone, not drawn"),
        Row("  its bytes, page included", size / 1000, "kB", 500.0, answer_size / 1000),
        Row("page: scripts and styles, gzipped", weights[0], "kB", 60.0, weights[1]),
    ]  # fmt: skip


def _view(browser: Any, url: str) -> tuple[float, int]:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    started = time.perf_counter()
    page.goto(url, wait_until="commit")
    while not page.evaluate(DRAWN, ""):
        page.wait_for_timeout(10)
    taken = 1000 * (time.perf_counter() - started)
    page.wait_for_timeout(300)
    size: int = page.evaluate(SIZE)
    page.close()
    return taken, size


def _answer(server: servers.Server, names: list[str]) -> tuple[float, int]:
    runs = [{"run": name, "run_id": name} for name in names]
    started = time.perf_counter()
    answer = server.client.post(
        "/api/get_logs_batch", json={"project": PROJECT, "runs": runs, "scalar_only": True}
    ).raise_for_status()
    return 1000 * (time.perf_counter() - started), servers.size_of(answer)


def _weight(browser: Any, base: str) -> float:
    """Kilobytes of the scripts and styles that a page loads before anything is clicked, packed alike."""
    page = browser.new_page()
    bodies: dict[str, bytes] = {}

    def note(response: Any) -> None:
        if response.request.resource_type in ("script", "stylesheet") and response.ok:
            bodies[response.url] = response.body()

    page.on("response", note)
    page.goto(base)
    page.wait_for_timeout(3000)
    page.close()
    return sum(len(gzip.compress(body, 9)) for body in bodies.values()) / 1000
