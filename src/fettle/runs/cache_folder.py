"""Where fettle keeps what it can work out again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$FETTLE_CACHE, else below the user's cache folder. Can be removed at any time."""
    named = os.environ.get("FETTLE_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "fettle"
