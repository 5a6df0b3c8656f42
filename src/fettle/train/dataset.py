"""From the files that a configuration names to what the loop trains and evaluates on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from loguru import logger

from fettle.config import Config
from fettle.data import ChatEncoder, Example, PatternClassifier, fingerprint, leakage, read_examples
from fettle.data.sequence import Sequence
from fettle.errors import DataError
from fettle.metrics import count_patterns
from fettle.train.evaluation import FixedEvalSet
from fettle.train.held_out import choose_held_out, encode_held_out


@dataclass(frozen=True, slots=True)
class Chats:
    """The examples of a configuration, read and checked; no tokenizer is needed yet."""

    train: list[Example]
    fixed_eval: list[Example]
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])


def read_chats(config: Config) -> Chats:
    """Read both sets and compare them. Raises DataError for what cannot be used."""
    data = config.data
    train = read_examples(data.train, config.patterns.field)
    provenance: dict[str, Any] = {
        "train": {"path": str(data.train), "fingerprint": fingerprint(data.train), "examples": len(train)},
    }
    if data.fixed_eval is None:
        return Chats(train, [], provenance)
    chosen, provenance["fixed_eval"] = choose_held_out(
        data.fixed_eval, config.patterns.field, data.max_samples, config.training.seed
    )
    if data.leakage != "off":
        found = leakage(train, chosen)
        provenance["leakage"] = {"exact": found.exact, "near": found.near, "samples": len(chosen)}
        if found.exact or found.near:
            if data.leakage == "error":
                raise DataError(found.message())
            logger.warning("{}", found.message())
    return Chats(train, chosen, provenance)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token sequences of both sets."""

    train: list[Sequence]
    fixed_eval: FixedEvalSet | None
    counts: dict[str, Any]
    patterns: dict[str, Any]
    """Bins of answer lengths, and how many training examples are of which kind and length."""


def encode_chats(chats: Chats, config: Config, tokenizer: Any, *, progress: bool = False) -> Encoded:
    """Apply the model's chat template to both sets; what was cut or dropped is counted and logged.

    Raises DataError when too many training examples carry no token to learn from.
    """
    encoder = ChatEncoder(
        tokenizer,
        train_on=config.data.train_on,
        max_seq_length=config.training.max_seq_length,
        too_long=config.data.too_long,
    )
    train = encoder.encode_all(chats.train, progress=progress)
    for message in train.messages:
        logger.warning("{}: {}", config.data.train.name, message)
    unusable = len(chats.train) - len(train.sequences)
    if unusable > config.data.max_unusable_fraction * len(chats.train) or not train.sequences:
        raise DataError(
            f"{config.data.train}: {unusable} of {len(chats.train)} examples have no token to learn from "
            f"({train.counts}). Raise training.max_seq_length, or accept it with data.max_unusable_fraction."
        )
    counts: dict[str, Any] = {
        "train": {
            **train.counts,
            "sequences": len(train.sequences),
            "tokens": sum(len(s) for s in train.sequences),
            "completion_tokens": sum(s.completion_tokens for s in train.sequences),
        }
    }
    classifier = PatternClassifier(config.patterns.rules)
    patterns = {
        "length_bins": config.patterns.length_bins,
        "train": count_patterns(
            [classifier.kind(chats.train[i]) for i in train.kept],
            np.array([s.completion_tokens for s in train.sequences]),
            config.patterns.length_bins,
        ),
    }
    if not chats.fixed_eval:
        return Encoded(train.sequences, None, counts, patterns)
    assert config.data.fixed_eval is not None
    held_out, counts["fixed_eval"] = encode_held_out(
        encoder, chats.fixed_eval, config.data.fixed_eval, classifier, progress=progress
    )
    return Encoded(train.sequences, held_out, counts, patterns)
