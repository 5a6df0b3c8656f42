"""The page as it is sent: its HTML, one script and one style sheet, which `hatch_build.py` bundled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import xxhash

STATIC = Path(__file__).parent / "static"
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/static/app.js": ("built/app.js", "text/javascript; charset=utf-8"),
    "/static/app.css": ("built/app.css", "text/css; charset=utf-8"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}
HELD = "built/held.js"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent."""

    body: bytes
    media_type: str

    @property
    def etag(self) -> str:
        """Changes with the content."""
        return f'"{xxhash.xxh3_64_hexdigest(self.body)}"'


def page_assets(static: Path = STATIC) -> dict[str, Asset]:
    """What the page consists of, by address. Raises OSError where it was not built."""
    return {address: Asset((static / name).read_bytes(), type) for address, (name, type) in FILES.items()}


def held_script(static: Path = STATIC) -> bytes:
    """What stands before the page's script where the page holds its answers itself, as a report does."""
    return (static / HELD).read_bytes()
