"""Where a run comes from."""

from __future__ import annotations

import platform
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

LIBRARIES = ("torch", "transformers", "accelerate", "peft", "trl", "lightning")


def run_metadata(
    backend: str, *, model: Any = None, name: str | None = None, **fields: Any
) -> dict[str, Any]:
    """metadata.json of a run of somebody else's loop: `fields`, size of the model where known, versions."""
    parameters: list[Any] = [] if model is None else list(model.parameters())
    sizes = {
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
    }
    return {
        "created_at": datetime.now().astimezone().isoformat(),
        "backend": backend,
        **({} if model is None else {"model": name, **sizes}),
        **fields,
        **_versions(),
        **process_facts(),
    }


def process_facts() -> dict[str, Any]:
    """What wrote a run, by which command and on which machine."""
    from fettle import __version__

    return {
        "fettle": __version__,
        "python": platform.python_version(),
        "host": platform.node(),
        "command": sys.argv,
    }


def model_name(model: Any) -> str:
    """As its configuration has it, else its class."""
    return str(getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__)


def _versions() -> dict[str, str]:
    """Of the libraries this process has loaded."""
    found: dict[str, str] = {}
    for name in LIBRARIES:
        if name in sys.modules:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
    return found
