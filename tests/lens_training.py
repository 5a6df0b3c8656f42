"""A small model taught two concepts, or none: what the drift of its lenses should show."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse

from fettle.lens.activations import pooled_activations
from fettle.lens.lens_pack import LensPack
from fettle.lens.problem import LensProblem
from fettle.lens.spec import ExtractionSpec
from fettle.lens.tokens import Tokens
from lens_problems import pack_of
from tiny_models import tiny_model

CONCEPTS, WORDS, TEXTS = 30, 6, 30
LAYER, WIDTH = 2, 192
SPEC = ExtractionSpec(layers=(LAYER,))
FIRST, NEUTRAL, END = 3, 3 + CONCEPTS * WORDS, 320
"""Ids of the first concept word, of the first neutral one, and behind the last."""


def written(rng: np.random.Generator, concept: int | None, length: int = 12) -> np.ndarray:
    """A text, half of its words of a concept; of none where it is None."""
    ids = rng.integers(NEUTRAL, END, length)
    if concept is not None:
        own = rng.choice(length, length // 2, replace=False)
        ids[own] = FIRST + concept * WORDS + rng.integers(0, WORDS, own.size)
    return ids


def activations(model: Any, texts: list[np.ndarray]) -> np.ndarray:
    tokens = [Tokens(ids, np.arange(ids.size) > 0) for ids in texts]
    found = np.empty((len(texts), WIDTH), dtype=np.float32)
    for indices, vectors in pooled_activations(model, tokens, SPEC):
        found[indices] = vectors[:, 0]
    return found


def base_model(seed: int) -> Any:
    """Pretrained a little on texts of all concepts, so that their words mean something to it."""
    model = tiny_model(layers=3, hidden=WIDTH, seed=seed)
    taught(model, seed, list(range(CONCEPTS)), steps=60)
    return model


def taught(model: Any, seed: int, concepts: list[int], steps: int) -> None:
    """Trained in place on texts of some concepts."""
    rng = np.random.default_rng(seed + 1000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        batch = np.stack([written(rng, int(rng.choice(concepts))) for _ in range(16)])
        ids = torch.from_numpy(batch)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def lens_pack(model: Any, seed: int) -> LensPack:
    rng = np.random.default_rng(seed)
    # Texts of no concept too: 300 negatives of all.
    owner = np.append(np.arange(CONCEPTS).repeat(TEXTS), np.full(300, CONCEPTS))
    empty = np.array([], dtype=np.int64)
    problem = LensProblem(
        concepts=[f"concept {c}" for c in range(CONCEPTS)],
        features=activations(model, [written(rng, int(c) if c < CONCEPTS else None) for c in owner]),
        positive=sparse.csr_array(owner[:, None] == np.arange(CONCEPTS)),
        excluded=sparse.csr_array((owner.size, CONCEPTS), dtype=bool),
        groups=np.arange(owner.size),
        sets={"train": np.arange(owner.size), "select": empty, "calibrate": empty, "test": empty},
    )
    return pack_of(problem, layer=LAYER)
