"""Against lm-evaluation-harness, through its public interface, on text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fettle import Sequence, score
from tiny_models import tiny_model, tiny_tokenizer


def texts() -> list[tuple[str, str]]:
    generator = np.random.default_rng(0)
    words = "the answer to a question is another number and here are the other words of it".split()

    def some(low: int, high: int) -> str:
        return " ".join(generator.choice(words, int(generator.integers(low, high))))

    shared = some(20, 21)
    return [(shared + " " + some(1, 20) if i % 2 else some(2, 40), " " + some(1, 8)) for i in range(20)]


@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("kind", ["qwen3", "gemma2", "granite"])
def test_log_likelihood_of_each_sample(kind: str, batch_size: int) -> None:
    huggingface: Any = pytest.importorskip("lm_eval.models.huggingface")
    from lm_eval.api.instance import Instance

    model, tokenizer = tiny_model(kind), tiny_tokenizer()
    harness = huggingface.HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_length=512)
    pairs = texts()
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    theirs = harness.loglikelihood(requests, disable_tqdm=True)
    sequences: list[Sequence] = []
    for context, continuation in pairs:
        before, after = harness._encode_pair(context, continuation)
        sequences.append(Sequence(before + after, [0] * len(before) + [1] * len(after)))
    ours = score(model, sequences)
    np.testing.assert_allclose(-ours.cross_entropy_sum, [value for value, _ in theirs], atol=1e-3, rtol=0)
    assert ours.exact_match.tolist() == [bool(greedy) for _, greedy in theirs]
