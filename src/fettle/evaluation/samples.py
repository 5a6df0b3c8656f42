"""The held-out samples of an evaluation: which, and as tokens of which tokenizer."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from fettle.config import EvaluationConfig
from fettle.data import ChatEncoder, Example, PatternClassifier, fingerprint, read_examples
from fettle.errors import DataError
from fettle.evaluation.choice_ranking import ChoiceQuestions
from fettle.evaluation.weights import tokenizer_digest
from fettle.evaluation.work import Prompts
from fettle.scoring.generate import end_tokens
from fettle.train.fixed_prompt import fixed_prompts
from fettle.train.held_out import encode_held_out
from fettle.train.model import load_tokenizer


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """One file of held-out chats, and what was drawn of it."""

    path: Path
    fingerprint: str
    examples: list[Example]
    """Those drawn, in the order of the file."""
    total: int
    """Examples in the file."""


class EncodedData:
    """The samples of a file as tokens of one tokenizer."""

    def __init__(self, data: EvaluationData, tokenizer_name: str, config: EvaluationConfig) -> None:
        """Raises DataError where no sample fits, ModelError for a tokenizer that cannot be used."""
        self.tokenizer_name = tokenizer_name
        """Hub id or folder."""
        self.tokenizer = tokenizer = load_tokenizer(tokenizer_name)
        self.encoder = ChatEncoder(
            tokenizer, train_on=config.train_on, max_seq_length=config.max_seq_length, too_long="drop"
        )
        classifier = PatternClassifier(config.patterns.rules)
        self.eval_set, self.counts = encode_held_out(self.encoder, data.examples, data.path, classifier)
        self.unscored = len(data.examples) - len(self.eval_set)
        """Samples that do not fit."""
        asked = fixed_prompts(self.eval_set)
        self.asked = [i for i, prompt in enumerate(asked) if prompt is not None]
        """Samples whose last answer has something before it, which the model can be asked."""
        self.prompts = [prompt for prompt in asked if prompt is not None]
        """What is asked of the model, one of each of `asked`."""
        ends = sorted(end_tokens(None, tokenizer, [p.truth_tokens[-1] for p in self.prompts]))
        tokens = [prompt.tokens for prompt in self.prompts]
        self.questions = Prompts(tokens, ends, tokenizer_name, tokenizer_digest(tokenizer))
        """The same as tokens."""
        self.choice_questions = {
            name: ChoiceQuestions(self.prompts, ranking, tokenizer, config.max_seq_length)
            for name, ranking in config.rankings.items()
        }
        """By checker: the choices of each prompt that it ranks."""


def read_evaluation_data(path: Path, config: EvaluationConfig) -> EvaluationData:
    """Read a file and draw the samples that all checkpoints are evaluated on. Raises DataError."""
    examples = read_examples(path, config.patterns.field)
    if not examples:
        raise DataError(f"{path}: holds no chats. It needs one a line")
    classifier = PatternClassifier(config.patterns.rules)
    kinds = [classifier.kind(example) for example in examples]
    chosen = stratified(kinds, config.subset_frac, config.max_samples, config.seed)
    return EvaluationData(path, fingerprint(path), [examples[i] for i in chosen], len(examples))


def stratified(kinds: Sequence[str], share: float, at_most: int | None, seed: int) -> list[int]:
    """Indices of a share of each kind, rising; at least one of each where there is room for all kinds.

    What remains after whole numbers goes to the kinds with the largest remainders.
    """
    wanted = max(1, ceil(len(kinds) * share - 1e-9))
    wanted = min(wanted, len(kinds) if at_most is None else at_most)
    places: defaultdict[str, list[int]] = defaultdict(list)
    for index, kind in enumerate(kinds):
        places[kind].append(index)
    exact = {kind: len(found) * wanted / len(kinds) for kind, found in places.items()}
    counts = {kind: int(value) for kind, value in exact.items()}
    if wanted >= len(places):
        counts = {kind: max(1, count) for kind, count in counts.items()}
    by_remainder = sorted(places, key=lambda kind: (counts[kind] - exact[kind], kind))
    while sum(counts.values()) < wanted:
        kind = min(
            (k for k in by_remainder if counts[k] < len(places[k])), key=lambda k: counts[k] - exact[k]
        )
        counts[kind] += 1
    while sum(counts.values()) > wanted:
        kind = max((k for k in by_remainder if counts[k] > 1), key=lambda k: counts[k] - exact[k])
        counts[kind] -= 1
    chosen: list[int] = []
    for kind, found in sorted(places.items()):
        chosen += random.Random(f"{seed} {kind}").sample(found, counts[kind])
    return sorted(chosen)
