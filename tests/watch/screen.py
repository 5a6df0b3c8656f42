"""Drives the live view without a terminal, and reads what it shows."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fettle.runs import RunFolder
from fettle.runs.control import read_requests
from fettle.watch.app import WatchApp
from fettle.watch.watcher import Watcher

Pilot = Any
Script = Callable[[WatchApp, Pilot], Awaitable[None]]
PATIENCE = 500
"""Looks at the screen before what should come is given up."""
CELL = 12.2
"""Width of a character in the picture."""
TEXT = re.compile(
    r'<text class="[^"]*" x="([\d.]+)" y="[\d.]+"[^>]*clip-path="url\(#[^)]*-line-(\d+)\)">(.*?)</text>'
)


def asked(folder: RunFolder) -> str | None:
    """What its trainer was asked for last."""
    return read_requests(folder.control_path)[-1].action if folder.control_path.is_file() else None


def drive(path: Path, script: Script, size: tuple[int, int] = (80, 24)) -> WatchApp:
    """Open the run, wait until it was judged, run the script, leave."""

    async def main() -> WatchApp:
        app = WatchApp(Watcher(path), interval=0.1)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.facts is not None and not app.facts.reading and judged(app))
            await script(app, pilot)
        return app

    return in_a_loop(main())


def in_a_loop(work: Coroutine[Any, Any, WatchApp]) -> WatchApp:
    """Run it on a thread of its own: on this one the browser's driver may have left its loop running."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def judged(app: WatchApp) -> bool:
    facts = app.facts
    return facts is not None and (facts.verdict is not None or facts.verdict_problem is not None)


async def until(pilot: Pilot, condition: Callable[[], bool]) -> None:
    """Wait for something that will come."""
    for _ in range(PATIENCE):
        if condition():
            break
        await asyncio.sleep(0.01)
    else:
        raise AssertionError("it never came:\n" + "\n".join(lines(pilot.app)))
    await pilot.pause()


async def until_shown(app: WatchApp, pilot: Pilot, text: str) -> None:
    """Wait until a text stands on the screen."""
    await until(pilot, lambda: text in "\n".join(lines(app)))


def lines(app: WatchApp) -> list[str]:
    """The screen as text, one string a row, as wide as it is."""
    width, height = app.size
    rows = [[" "] * width for _ in range(height)]
    for x, row, text in TEXT.findall(app.export_screenshot()):
        start = round(float(x) / CELL)
        for column, character in enumerate(html.unescape(text).replace("\xa0", " ")):
            if int(row) < height and start + column < width:
                rows[int(row)][start + column] = character
    return ["".join(row) for row in rows]


def shown(path: Path, size: tuple[int, int] = (80, 24)) -> list[str]:
    """What a run looks like once it was judged."""
    found: list[str] = []

    async def script(app: WatchApp, pilot: Pilot) -> None:
        await pilot.pause(0.1)
        found.extend(lines(app))

    drive(path, script, size)
    return found


def told(path: Path) -> list[Any]:
    """Everything one reading of the run gives, in order."""
    return list(Watcher(path).poll())
