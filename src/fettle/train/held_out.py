"""A file of held-out chats, encoded for a model whose trainer is not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from loguru import logger

from fettle.config import PatternsConfig
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
from fettle.train.evaluation import FixedEvalSet


def load_fixed_eval(
    path: Path,
    processing_class: Any,
    *,
    max_samples: int,
    max_seq_length: int,
    train_on: Literal["all", "last"],
    seed: int,
    patterns: PatternsConfig,
) -> tuple[FixedEvalSet, dict[str, Any]]:
    """The set and what describes it. Raises DataError, or ModelError for a tokenizer that cannot be used."""
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    if tokenizer is None:
        raise ModelError("FettleCallback needs the tokenizer. Give the trainer processing_class=tokenizer.")
    examples = read_examples(path, patterns.field)
    chosen = choose_samples(examples, max_samples, seed)
    encoder = ChatEncoder(tokenizer, train_on=train_on, max_seq_length=max_seq_length)
    eval_set, counts = encode_held_out(encoder, chosen, path, PatternClassifier(patterns.rules))
    described: dict[str, Any] = {
        "path": str(path),
        "fingerprint": fingerprint(path),
        "examples": len(examples),
        "chosen": len(chosen),
        "chosen_fingerprint": examples_fingerprint(chosen),
        "encoded": counts,
    }
    return eval_set, described


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
        raise DataError(f"{path}: no example fits into training.max_seq_length")
    kept = [examples[i] for i in encoded.kept]
    eval_set = FixedEvalSet(encoded.sequences, kept, [e.id for e in kept], [classifier.kind(e) for e in kept])
    return eval_set, {**encoded.counts, "sequences": len(encoded.sequences)}


def completion_share(eval_set: FixedEvalSet) -> float:
    """Completion tokens over all tokens that could carry loss."""
    completion = sum(sequence.completion_tokens for sequence in eval_set.sequences)
    return completion / max(1, sum(len(sequence) - 1 for sequence in eval_set.sequences))
