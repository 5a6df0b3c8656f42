"""All that is measured of one set of weights on one file: scores, answers, and what checkers say of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fettle.config import EvaluationConfig
from fettle.evaluation.answer_rows import (
    Checks,
    answer_row,
    answer_summary,
    answer_texts,
    checker_summary,
)
from fettle.evaluation.cached_model import CachedModel
from fettle.evaluation.checkers import reference
from fettle.evaluation.judging import NamedChecker
from fettle.evaluation.sample_rows import calibration_table, prediction_rows, sample_rows, spread
from fettle.evaluation.samples import EncodedData
from fettle.evaluation.subject import Subject
from fettle.evaluation.work import Work
from fettle.metrics import pattern_matrix, summarise_samples
from fettle.runs.records import SampleResults
from fettle.scoring import Answer
from fettle.train.evaluation import sample_results

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
        """Raises ConfigError or MissingExtraError for a checker that cannot be had."""
        self._model = model
        self._config = config
        checkers = config.answer_checkers.items()
        self._checkers = [NamedChecker(name, checker, model.cache) for name, checker in checkers]
        self._handed_out: dict[tuple[Subject, EncodedData], tuple[int, int]] = {}
        """Samples and answers that somebody else was to run, by subject and data."""

    def works(self, subject: Subject, data: EncodedData) -> list[Work]:
        """What the model has to be run for; nothing for what is known. Raises ModelError."""
        config = self._config
        scores = self._model.missing_scores(subject, data.eval_set.sequences)
        answers = self._model.missing_answers(subject, data, config.sampling) if config.sampling else []
        samples = sum(len(work.keys) for work in scores)
        self._handed_out[subject, data] = samples, sum(work.size for work in answers)
        works: list[Work] = [*scores, *answers]
        for questions in data.choice_questions.values():
            works += self._model.missing_scores(subject, questions.sequences)
        return works

    def measure(self, subject: Subject, data: EncodedData, on_stage: OnStage) -> Measurement:
        """Everything asked for. Raises ModelError, DataError."""
        began = time.perf_counter()
        found, run = self._score(subject, data, on_stage)
        elsewhere = self._handed_out.get((subject, data), (0, 0))
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

    def _score(self, subject: Subject, data: EncodedData, on_stage: OnStage) -> tuple[Measurement, int]:
        eval_set = data.eval_set
        scores, run = self._model.score(
            subject, eval_set.sequences, lambda done, of: on_stage("tokens", done, of)
        )
        samples = sample_results(scores, eval_set.sample_ids, eval_set.patterns)
        rows = sample_rows(samples, scores)
        matrix = pattern_matrix(
            samples.pattern, samples.tokens, samples.exact_match, samples.cross_entropy_sum,
            self._config.patterns.length_bins,
        )  # fmt: skip
        summary: dict[str, Any] = {
            **summarise_samples(samples),
            "unscored": data.unscored,
            "encoding": data.counts,
            "patterns": [cell.to_json() for cell in matrix.cells],
            "calibration": calibration_table(samples),
        }
        return Measurement(samples, rows, list(prediction_rows(eval_set, rows)), summary), run

    def _answer(
        self, subject: Subject, data: EncodedData, on_stage: OnStage
    ) -> tuple[list[list[Answer]], int]:
        if self._config.sampling is None:
            return [], 0
        return self._model.answer(
            subject, data, self._config.sampling, lambda done, of: on_stage("answers", done, of)
        )

    def _check(self, data: EncodedData, answers: Sequence[Sequence[Answer]], on_stage: OnStage) -> Checks:
        references = [reference(prompt.example) for prompt in data.prompts]
        return {
            checker.name: checker.check(answers, references, lambda done, of: on_stage("checks", done, of))
            for checker in self._checkers
        }

    def _rank(self, subject: Subject, data: EncodedData, on_stage: OnStage) -> Checks:
        checks: dict[str, Sequence[Sequence[Any]]] = {}
        for name, questions in data.choice_questions.items():
            scores, _ = self._model.score(
                subject, questions.sequences, lambda done, of: on_stage("choices", done, of)
            )
            found = questions.checks((-scores.cross_entropy_sum).tolist())
            checks |= {f"{name}{suffix}": checked for suffix, checked in found.items()}
        return checks

    def _add_answers(
        self, found: Measurement, data: EncodedData, answers: Sequence[Sequence[Answer]], checks: Checks
    ) -> None:
        """Each sample's own answers and checks, beside its scores."""
        for place, sample in enumerate(data.asked):
            own = {name: checked[place] for name, checked in checks.items()}
            said: Sequence[Answer] = answers[place] if answers else ()
            row = answer_row(said, own)
            found.rows[sample] |= row
            found.texts[sample] |= row
            if said:
                found.texts[sample]["answers"] = answer_texts(said, own)
