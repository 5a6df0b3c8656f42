"""Pictures of the page and of the terminal for the documentation, from generated runs."""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from PIL import Image  # noqa: E402

from fettle.runs import RunFolder  # noqa: E402
from fettle.watch.app import WatchApp  # noqa: E402
from fettle.watch.watcher import Watcher  # noqa: E402
from page.browser import chromium  # noqa: E402
from page.conftest import running  # noqa: E402
from page.rich_run import RichRun, write_rich_run  # noqa: E402

PICTURES = (
    ("page-light", "light", 1440, 1500),
    ("page-dark", "dark", 1440, 1500),
    ("page-phone", "light", 390, 1500),
)
TERMINAL = (120, 40)
COLOURS = 128
"""As many as a picture keeps: a third of the bytes, and no eye sees it."""


def main() -> None:
    """Write docs/page-*.png and docs/watch.png."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run = write_rich_run(root)
        write_rich_run(root, RichRun(name="2026-11-19_09-30-41_qwen3-8b-r64", seed=5, learning_rate=1e-4))
        with running(root) as address, chromium() as browser:
            for name, theme, width, height in PICTURES:
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
                page.goto(f"{address}/#run={run.name}")
                page.locator("#loss .legend").wait_for()
                page.wait_for_timeout(4000)
                save(page.screenshot(), name)
                page.close()
        drawn = asyncio.run(terminal(root / "terminal"))
        with chromium() as browser:
            page = browser.new_page()
            page.set_content(f'<body style="margin:0;width:max-content">{drawn}</body>')
            page.locator("svg").evaluate("svg => svg.setAttribute('width', svg.viewBox.baseVal.width)")
            save(page.locator("svg").screenshot(), "watch")


async def terminal(root: Path) -> str:
    """`fettle watch` of a run that goes on, as SVG."""
    path = write_rich_run(root, RichRun(last_step=1400, state=None, spike_steps=(1310,)))
    with RunFolder(path).lock(), (path / "config.yaml").open("a") as config:
        # The run is of another day: that it says nothing since is no news.
        config.write("alerts: {stalled_run: null}\n")
        config.flush()
        app = WatchApp(Watcher(path))
        async with app.run_test(size=TERMINAL) as pilot:
            while app.facts is None or app.facts.verdict is None:
                await pilot.pause(0.1)
            await pilot.pause(0.5)
            return app.export_screenshot(title=f"fettle watch runs/{path.name}")


def save(picture: bytes, name: str) -> None:
    """Write one picture in few colours."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(COLOURS).save(ROOT / "docs" / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
