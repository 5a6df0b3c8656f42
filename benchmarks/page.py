"""What the page costs a reader: bytes, log to pixel, and the first view of fifty runs, in a real Chromium.

Usage: python benchmarks/page.py    (needs the dev extra, and Chromium: FETTLE_CHROMIUM or /usr/bin/chromium)
"""

from __future__ import annotations

import gzip
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from playwright.sync_api import sync_playwright

from fettle.runs import EventLog, RunFolder
from fettle.server.app import create_app
from fettle.server.assets import page_assets
from fettle.server.settings import Settings

LIVE_STEPS = 100
LIVE_SECONDS = 0.1
RUNS, POINTS = 50, 2_000
LARGE = 1_000_000

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


def main() -> None:
    """Measure and print."""
    packed = {name: len(gzip.compress(asset.body, 9)) for name, asset in page_assets().items() if name != "/"}
    print(f"page, scripts and styles gzipped      {sum(packed.values()) / 1000:8.1f} kB")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("FETTLE_CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        log_to_pixel(browser, Path(folder) / "live")
        first_views(browser, Path(folder) / "many")
        browser.close()


def log_to_pixel(browser: Any, root: Path) -> None:
    """From the write of a record to the frame that shows it."""
    run = _folder(root / "live")
    log = EventLog(run.metrics_path)
    log.append("start", {"step": 0, "total_steps": 10_000})
    _steps(log, 1, 200)
    run.write_status({"state": "running", "step": 200, "total_steps": 10_000})
    with run.lock(), _serving(root) as base:
        page = browser.new_page()
        page.goto(f"{base}/#run=live")
        page.locator("#loss canvas").wait_for()
        page.wait_for_timeout(2000)
        page.evaluate(WATCH)
        written: dict[str, float] = {}
        for i in range(LIVE_STEPS):
            loss = 1 + i / 1000
            log.append("train", {"step": 201 + i, "loss": loss, "streaming_ce": loss})
            written[f"{loss:.3f}"] = 1000 * time.time()
            page.wait_for_timeout(1000 * LIVE_SECONDS)
        page.wait_for_timeout(1000)
        seen = page.evaluate("window.seen")
        page.close()
    # Two steps of one batch make one frame; the first of them is not shown for itself.
    delays = sorted(seen[text] - moment for text, moment in written.items() if text in seen)
    print(
        f"log to pixel                          {statistics.median(delays):8.0f} ms median, "
        f"{np.percentile(delays, 95):.0f} ms p95  ({len(delays)} of {LIVE_STEPS} steps in their own frames)"
    )


def first_views(browser: Any, root: Path) -> None:
    """Fifty runs overlaid, and one run of a million points, from a warm server to the drawn curves."""
    for i in range(RUNS):
        run = _folder(root / f"run-{i:02d}")
        _steps(EventLog(run.metrics_path), 1, POINTS)
        run.write_status({"state": "completed", "step": POINTS, "total_steps": POINTS})
    large = _folder(root / "large")
    _steps(EventLog(large.metrics_path), 1, LARGE)
    large.write_status({"state": "completed", "step": LARGE, "total_steps": LARGE})
    ids = ",".join(f"run-{i:02d}" for i in range(RUNS))
    with _serving(root) as base:
        for name, place, line in (
            (f"{RUNS} runs x {POINTS} points, first view", f"#compare={ids}", ""),
            (f"{LARGE} points, first view", "#run=large", "train, each step"),
        ):
            for label in ("cold", "warm"):
                milliseconds, size = _view(browser, f"{base}/{place}", line)
                print(f"{name:<38}{milliseconds:8.0f} ms, {size / 1000:.0f} kB  (server {label})")


def _view(browser: Any, url: str, line: str) -> tuple[float, int]:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    started = time.perf_counter()
    page.goto(url, wait_until="commit")
    while not page.evaluate(DRAWN, line):
        page.wait_for_timeout(10)
    taken = 1000 * (time.perf_counter() - started)
    page.wait_for_timeout(300)
    size: int = page.evaluate(SIZE)
    page.close()
    return taken, size


def _folder(path: Path) -> RunFolder:
    return RunFolder.create(path, config_yaml="model:\n  name: tiny\n", metadata={"model": {"name": "tiny"}})


def _steps(log: EventLog, first: int, last: int) -> None:
    rng = np.random.default_rng(first)
    noise = rng.standard_normal(last - first + 1).tolist()
    for step, error in enumerate(noise, first):
        loss = 0.5 + 2 * float(np.exp(-step / (last / 5))) + 0.05 * error
        log.append("train", {"step": step, "loss": loss, "streaming_ce": loss, "learning_rate": 1e-4})


@contextmanager
def _serving(root: Path) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]
    config = uvicorn.Config(create_app(Settings(root=root, port=port)), log_level="critical")
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


if __name__ == "__main__":
    main()
