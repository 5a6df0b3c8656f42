"""What a new run is called."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fettle.config import Config


def fresh_run_name(config: Config, taken: Callable[[str], bool]) -> str:
    """Date, model, kind of training: `2026-11-20_18-04-12_qwen3-8b-r16`; a number where that is `taken`."""
    model = re.sub(r"[^a-z0-9.]+", "-", Path(config.model).name.lower()).strip("-.")
    kind = "full" if config.lora is None else f"r{config.lora.rank}"
    stem = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{model}-{kind}"
    name, count = stem, 2
    while taken(name):
        name, count = f"{stem}-{count}", count + 1
    return name
