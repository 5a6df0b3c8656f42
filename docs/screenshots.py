"""Pictures of the page for the documentation, from a generated run: python docs/screenshots.py"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from PIL import Image  # noqa: E402

from page.browser import chromium  # noqa: E402
from page.conftest import running  # noqa: E402
from page.rich_run import RichRun, write_rich_run  # noqa: E402

PICTURES = (
    ("page-light", "light", 1440, 1500),
    ("page-dark", "dark", 1440, 1500),
    ("page-phone", "light", 390, 1500),
)
COLOURS = 128
"""As many as a picture keeps: a third of the bytes, and no eye sees it."""


def main() -> None:
    """Write docs/page-*.png."""
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
                picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                picture.quantize(COLOURS).save(ROOT / "docs" / f"{name}.png", optimize=True)
                page.close()


if __name__ == "__main__":
    main()
