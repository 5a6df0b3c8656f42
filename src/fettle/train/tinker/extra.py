"""What the backend needs beside the core."""

from __future__ import annotations

from importlib.util import find_spec

from fettle.errors import MissingExtraError
from fettle.train.model import require_train_extra


def require_tinker_extra() -> None:
    """Raises MissingExtraError when what the backend needs is not installed."""
    if find_spec("tinker") is None:
        raise MissingExtraError(
            "backend 'tinker' needs tinker. Install it with: pip install 'fettle[tinker]'"
        )
    require_train_extra()
