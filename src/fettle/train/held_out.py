"""A file of held-out chats, encoded for a model whose trainer is not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from loguru import logger

from fettle.data import ChatEncoder, choose_samples, examples_fingerprint, fingerprint, read_examples
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
) -> tuple[FixedEvalSet, dict[str, Any]]:
    """The set and what describes it. Raises DataError, or ModelError for a tokenizer that cannot be used."""
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    if tokenizer is None:
        raise ModelError("FettleCallback needs the tokenizer. Give the trainer processing_class=tokenizer.")
    examples = read_examples(path)
    chosen = choose_samples(examples, max_samples, seed)
    encoded = ChatEncoder(tokenizer, train_on=train_on, max_seq_length=max_seq_length).encode_all(chosen)
    for message in encoded.messages:
        logger.warning("fixed eval: {}", message)
    if not encoded.sequences:
        raise DataError(f"{path}: no example fits into max_seq_length {max_seq_length}")
    kept = [chosen[i] for i in encoded.kept]
    described: dict[str, Any] = {
        "path": str(path),
        "fingerprint": fingerprint(path),
        "examples": len(examples),
        "chosen": len(chosen),
        "chosen_fingerprint": examples_fingerprint(chosen),
        "encoded": {**encoded.counts, "sequences": len(encoded.sequences)},
    }
    return FixedEvalSet(encoded.sequences, [e.id for e in kept], [e.pattern for e in kept]), described


def completion_share(eval_set: FixedEvalSet) -> float:
    """Completion tokens over all tokens that could carry loss."""
    completion = sum(sequence.completion_tokens for sequence in eval_set.sequences)
    return completion / max(1, sum(len(sequence) - 1 for sequence in eval_set.sequences))
