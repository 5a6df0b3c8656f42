"""A file of held-out chats, encoded and scored for a model whose trainer is not ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from loguru import logger

from fettle.config import PatternsConfig, check_section
from fettle.data import (
    ChatEncoder,
    Example,
    PatternClassifier,
    choose_samples,
    examples_fingerprint,
    fingerprint,
    read_examples,
)
from fettle.errors import DataError, ModelError
from fettle.runs.records import SampleResults
from fettle.train.evaluation import FixedEvalSet, sample_results
from fettle.train.shared_scoring import shared_score


class HeldOut:
    """Held-out chats, encoded once and scored as often as the weights change.

    >>> held_out = HeldOut("valid.jsonl", tokenizer)
    >>> judgement = recorder.evaluation(step, held_out.evaluate(model))
    """

    def __init__(
        self,
        path: str | Path,
        tokenizer: Any,
        *,
        max_samples: int = 2000,
        max_seq_length: int = 2048,
        train_on: Literal["all", "last"] = "all",
        seed: int = 42,
        patterns: PatternsConfig | Mapping[str, Any] | None = None,
    ) -> None:
        """`tokenizer` may be a processor that holds one; `patterns` has the keys of that section.

        Raises DataError, or ModelError for a tokenizer that cannot be used.
        """
        if not isinstance(patterns, PatternsConfig):
            patterns = check_section(PatternsConfig, patterns, "HeldOut(patterns=...)")
        path = Path(path)
        self.tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        if self.tokenizer is None:
            raise ModelError("The held-out chats need the tokenizer of the model: HeldOut(path, tokenizer)")
        chosen, described = choose_held_out(path, patterns.field, max_samples, seed)
        encoder = ChatEncoder(self.tokenizer, train_on=train_on, max_seq_length=max_seq_length)
        self.eval_set, counts = encode_held_out(encoder, chosen, path, PatternClassifier(patterns.rules))
        self.description: dict[str, Any] = {**described, "encoded": counts}
        """The file, what was chosen of it and what became of that; goes into metadata.json."""

    def __len__(self) -> int:
        return len(self.eval_set)

    def evaluate(self, model: Any, *, batch_tokens: int | None = None) -> SampleResults:
        """Score every chat with the weights as they are. The mode and random state of all stay.

        In data-parallel training every process must call it: each does its share, all get everything.
        """
        scores = shared_score(model, self.eval_set.sequences, batch_tokens=batch_tokens)
        return sample_results(scores, self.eval_set.sample_ids, self.eval_set.patterns)


def choose_held_out(
    path: Path, field: str, max_samples: int, seed: int
) -> tuple[list[Example], dict[str, Any]]:
    """The examples of a file that are scored, and which file and examples these are."""
    examples = read_examples(path, field)
    chosen = choose_samples(examples, max_samples, seed)
    return chosen, {
        "path": str(path),
        "fingerprint": fingerprint(path),
        "examples": len(examples),
        "chosen": len(chosen),
        "chosen_fingerprint": examples_fingerprint(chosen),
    }


def encode_held_out(
    encoder: ChatEncoder,
    examples: list[Example],
    path: Path,
    classifier: PatternClassifier,
    *,
    progress: bool = False,
) -> tuple[FixedEvalSet, dict[str, int]]:
    """Sequences of those that fit, and what became of the others. Raises DataError where none fits."""
    encoded = encoder.encode_all(examples, progress=progress)
    for message in encoded.messages:
        logger.warning("fixed eval: {}", message)
    if not encoded.sequences:
        raise DataError(f"{path}: no example fits into max_seq_length")
    kept = [examples[i] for i in encoded.kept]
    eval_set = FixedEvalSet(encoded.sequences, kept, [e.id for e in kept], [classifier.kind(e) for e in kept])
    return eval_set, {**encoded.counts, "sequences": len(encoded.sequences)}


def completion_share(eval_set: FixedEvalSet) -> float:
    """Completion tokens over all tokens that could carry loss."""
    completion = sum(sequence.completion_tokens for sequence in eval_set.sequences)
    return completion / max(1, sum(len(sequence) - 1 for sequence in eval_set.sequences))
