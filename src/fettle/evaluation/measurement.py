"""All that is measured of one set of weights on one file: scores, answers, and what checkers say of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from fettle.config import EvaluationConfig
from fettle.data.sequence import Sequence as TokenSequence
from fettle.evaluation.answer_rows import (
    Checks,
    Said,
    answer_row,
    answer_summary,
    answer_texts,
    checker_summary,
)
from fettle.evaluation.cached_endpoint import CachedEndpoint
from fettle.evaluation.cached_model import CachedModel, OnProgress
from fettle.evaluation.checkers import Check, reference
from fettle.evaluation.choice_ranking import WAYS
from fettle.evaluation.endpoint_rows import endpoint_rows, endpoint_samples, endpoint_summary
from fettle.evaluation.endpoint_scores import EndpointScore, unmeasured
from fettle.evaluation.judging import NamedChecker
from fettle.evaluation.sample_rows import calibration_table, prediction_rows, sample_rows, spread
from fettle.evaluation.samples import EncodedData
from fettle.evaluation.subject import Evaluated, Subject
from fettle.evaluation.unencoded import NO_TOKENIZER, UnencodedData
from fettle.evaluation.work import Work
from fettle.metrics import summarise_patterns, summarise_samples
from fettle.runs.records import SampleResults
from fettle.train.evaluation import sample_results

Data = EncodedData | UnencodedData
Stage = Literal["pieces", "tokens", "answers", "choices", "checks"]
OnStage = Callable[[Stage, int, int], None]
"""Told what is under way, how much of it is done, and how much there is."""


@dataclass(slots=True)
class Measurement:
    """What came out."""

    samples: SampleResults
    rows: list[dict[str, Any]]
    """One a sample, numbers only."""
    texts: list[dict[str, Any]]
    """The same with prompts, golden answers and generated ones."""
    summary: dict[str, Any] = field(default_factory=dict[str, Any])


class Measures:
    """What an evaluation asks for, ready for any number of subjects."""

    def __init__(self, model: CachedModel, config: EvaluationConfig) -> None:
        """Raises ConfigError or MissingExtraError for a checker or an endpoint that cannot be had."""
        self._model = model
        self.endpoint = CachedEndpoint(model.cache, config.endpoint) if config.endpoint else None
        self._config = config
        checkers = config.answer_checkers.items()
        self._checkers = [NamedChecker(name, checker, model.cache) for name, checker in checkers]
        self._handed_out: dict[tuple[Subject, EncodedData], tuple[int, int]] = {}
        """Samples and answers that somebody else was to run, by subject and data."""

    def judges(self) -> dict[str, dict[str, Any]]:
        """What each judge was asked, by the name of the checker."""
        spent = {checker.name: checker.spent() for checker in self._checkers}
        return {name: told for name, told in spent.items() if told is not None}

    def works(self, subject: Subject, data: EncodedData) -> list[Work]:
        """What the model has to be run for; nothing for what is known. Raises ModelError."""
        config = self._config
        scores = self._model.missing_scores(subject, data.eval_set.sequences)
        answers = (
            self._model.missing_answers(subject, data.questions, config.sampling) if config.sampling else []
        )
        samples = sum(len(work.keys) for work in scores)
        self._handed_out[subject, data] = samples, sum(work.size for work in answers)
        works: list[Work] = [*scores, *answers]
        for questions in data.choice_questions.values():
            works += self._model.missing_scores(subject, questions.sequences)
        return works

    def measure(self, subject: Evaluated, data: Data, on_stage: OnStage) -> Measurement:
        """Everything asked for. Raises ModelError, DataError."""
        began = time.perf_counter()
        found, run = self._score(subject, data, on_stage)
        elsewhere = (0, 0)
        if isinstance(subject, Subject) and isinstance(data, EncodedData):
            elsewhere = self._handed_out.get((subject, data), elsewhere)
        found.summary["samples_run"] = run + elsewhere[0]
        answers, generated = self._answer(subject, data, on_stage)
        checks = {**self._check(data, answers, on_stage), **self._rank(subject, data, on_stage)}
        if self._config.sampling:
            found.summary |= {**answer_summary(answers), "answers_run": generated + elsewhere[1]}
        for name, checked in checks.items():
            found.summary |= checker_summary(name, checked, self._config.ks)
        self._add_answers(found, data, answers, checks)
        found.summary["seconds"] = time.perf_counter() - began
        found.summary["per_sample"] = spread(found.rows)
        return found

    def _score(self, subject: Evaluated, data: Data, on_stage: OnStage) -> tuple[Measurement, int]:
        eval_set, bins = data.eval_set, self._config.patterns.length_bins
        tell = partial(on_stage, "tokens")
        if isinstance(subject, Subject):
            scores, run = self._model.score(subject, eval_set.sequences, tell)
            samples = sample_results(scores, eval_set.sample_ids, eval_set.patterns)
            rows, summary = sample_rows(samples, scores), _summary(samples, bins)
        else:
            told, run = self._told(data, tell)
            samples = endpoint_samples(eval_set, told)
            rows, summary = endpoint_rows(eval_set, told), endpoint_summary(eval_set, told, bins)
        summary |= {"unscored": data.unscored, "encoding": data.counts}
        return Measurement(samples, rows, list(prediction_rows(eval_set, rows)), summary), run

    def _told(self, data: Data, tell: OnProgress) -> tuple[list[EndpointScore], int]:
        if isinstance(data, UnencodedData):
            return [unmeasured(i, NO_TOKENIZER) for i in range(len(data.eval_set.examples))], 0
        return self._asked.score(data, data.eval_set.sequences, tell)

    @property
    def _asked(self) -> CachedEndpoint:
        assert self.endpoint is not None, "there is no such subject without an endpoint"
        return self.endpoint

    def _answer(
        self, subject: Evaluated, data: Data, on_stage: OnStage
    ) -> tuple[Sequence[Sequence[Said]], int]:
        if self._config.sampling is None:
            return [], 0
        tell = partial(on_stage, "answers")
        if isinstance(subject, Subject) and isinstance(data, EncodedData):
            return self._model.answer(subject, data.questions, self._config.sampling, tell)
        return self._asked.answer(data, self._config.sampling, tell)

    def _check(self, data: Data, answers: Sequence[Sequence[Said]], on_stage: OnStage) -> Checks:
        references = [reference(prompt.example) for prompt in data.prompts]
        return {
            checker.name: checker.check(answers, references, partial(on_stage, "checks"))
            for checker in self._checkers
        }

    def _rank(self, subject: Evaluated, data: Data, on_stage: OnStage) -> Checks:
        if isinstance(data, UnencodedData):
            unknown = [[Check(None, NO_TOKENIZER)]] * len(data.prompts)
            return {f"{name}{suffix}": unknown for name in self._config.rankings for suffix in WAYS}
        checks: dict[str, Sequence[Sequence[Check]]] = {}
        for name, questions in data.choice_questions.items():
            sums = self._log_likelihoods(subject, data, questions.sequences, partial(on_stage, "choices"))
            found = questions.checks(sums)
            checks |= {f"{name}{suffix}": checked for suffix, checked in found.items()}
        return checks

    def _log_likelihoods(
        self, subject: Evaluated, data: EncodedData, sequences: Sequence[TokenSequence], tell: OnProgress
    ) -> list[float]:
        """Of each sequence in nats; NaN where it was not told."""
        if isinstance(subject, Subject):
            return (-self._model.score(subject, sequences, tell)[0].cross_entropy_sum).tolist()
        told, _ = self._asked.score(data, sequences, tell)
        return [math.nan if score.logprob is None else float(score.logprob.sum()) for score in told]

    def _add_answers(
        self, found: Measurement, data: Data, answers: Sequence[Sequence[Said]], checks: Checks
    ) -> None:
        """Each sample's own answers and checks, beside its scores."""
        for place, sample in enumerate(data.asked):
            own = {name: checked[place] for name, checked in checks.items()}
            said: Sequence[Said] = answers[place] if answers else ()
            row = answer_row(said, own)
            found.rows[sample] |= row
            found.texts[sample] |= row
            if said:
                found.texts[sample]["answers"] = answer_texts(said, own)


def _summary(samples: SampleResults, length_bins: Sequence[int]) -> dict[str, Any]:
    """Numbers of all samples, by kind and length, and by confidence."""
    return {
        **summarise_samples(samples),
        "patterns": summarise_patterns(samples, length_bins),
        "calibration": calibration_table(samples),
    }
