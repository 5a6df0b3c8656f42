"""The results of `fettle eval` as one HTML file: what changed, what regressed, which checkpoint to use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import fettle
from fettle.decide.best_result import BestResult, best_result
from fettle.decide.paired import measured
from fettle.decide.regression import CROSS_ENTROPY, Change, changes, flips
from fettle.errors import RunError
from fettle.evaluation.compared import Compared, find_results, texts
from fettle.evaluation.results_folder import ResultsFolder
from fettle.evaluation.subject import ENDPOINT
from fettle.report import evaluation_plots

SHOWN_FLIPS = 10
BASE = "base"


@dataclass(frozen=True, slots=True)
class Result:
    """One set of weights on one file."""

    name: str
    step: int | None
    summary: dict[str, Any]
    compared: Compared


@dataclass(slots=True)
class Section:
    """All results on one file of samples."""

    data: str
    results: list[Result]
    metrics: list[str]
    """What is measured of each; the first decides."""
    best: BestResult | None = None
    changes: dict[str, dict[str, Change]] = field(default_factory=dict[str, dict[str, Change]])
    """By metric and name: every result against the one to use."""
    flipped: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Samples that the result to use gets right and the first does not, and the other way round."""

    @property
    def primary(self) -> str:
        """The metric that decides."""
        return self.metrics[0]


def write_evaluation_report(path: Path) -> Path:
    """Write report.html and its pictures into a folder of `fettle eval`, from the files in it.

    Raises RunError where it holds no results or cannot be written.
    """
    folder = ResultsFolder(path)
    sections = gather(folder)
    jinja2: Any = import_module("jinja2")
    template = files("fettle.report").joinpath("evaluation.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"metric": _metric_title, "value": _value, "change": _change}
    pictures = [evaluation_plots.figures(section) for section in sections]
    page: str = environment.from_string(template).render(
        name=path.name,
        metadata=folder.read_metadata(),
        sections=list(zip(sections, [evaluation_plots.as_svg(drawn) for drawn in pictures], strict=True)),
        version=fettle.__version__,
    )
    return folder.write_report(page, evaluation_plots.as_png(pictures[0]["metrics"]))


def gather(folder: ResultsFolder) -> list[Section]:
    """What the report shows, one section a file of samples. Raises RunError where there is nothing."""
    summaries = folder.read_summaries()
    by_data: dict[str, list[Result]] = {}
    for found in find_results(folder.path):
        name, _, data = found.name.partition("/")
        step = name.removeprefix("step_")
        place = int(step) if step.isdecimal() else 0 if name == BASE else None
        result = Result(name, place, summaries.get(found.name, {}), found)
        by_data.setdefault(data, []).append(result)
    if not by_data:
        raise RunError(f"{folder.path}: holds no results to report")
    names = [Path(data["path"]).name for data in folder.read_metadata().get("data", [])]
    return [
        _section(next((n for n in names if Path(n).stem == data), names[0] if names else data), results)
        for data, results in by_data.items()
    ]


def _section(data: str, results: list[Result]) -> Section:
    tables = [result.compared.values for result in results]
    shared = [metric for metric in tables[0] if all(metric in table for table in tables)]
    checkers = [metric for metric in shared if metric not in ("exact_match", CROSS_ENTROPY)]
    own = [metric for metric in shared if metric not in checkers]
    if checkers:  # What no result has, as of an endpoint that tells no log-probabilities, needs no room.
        own = [metric for metric in own if measured([table[metric] for table in tables])]
    section = Section(data, results, [*checkers, *own])
    trained = [r for r in results if r.name != BASE and not r.name.startswith(ENDPOINT)] or results
    if CROSS_ENTROPY in own and all(_mean(result, section.primary) in (None, 0.0) for result in trained):
        section.metrics.remove(CROSS_ENTROPY)
        section.metrics.insert(0, CROSS_ENTROPY)
    candidates = {result.name: result.compared.values[section.primary] for result in trained}
    if section.primary == CROSS_ENTROPY:
        section.best = best_result(candidates, lower_is_better=True)
    else:
        losses = {result.name: result.compared.values[CROSS_ENTROPY] for result in trained}
        section.best = best_result(candidates, lower_is_better=False, cross_entropy=losses)
    if section.best is not None and len(results) > 1:
        _compare(section, section.best.name)
    return section


def _compare(section: Section, best: str) -> None:
    chosen = next(result for result in section.results if result.name == best)
    others = [result for result in section.results if result.name != best]
    for metric in section.metrics:
        tables = {result.name: result.compared.values[metric] for result in others}
        found = changes((best, chosen.compared.values[metric]), tables, metric)
        section.changes[metric] = {change.name: change for change in found}
    telling = next(metric for metric in section.metrics if metric != CROSS_ENTROPY)
    for result in (others[0], others[-1])[: len(others)]:
        right, wrong = flips(result.compared.values[telling], chosen.compared.values[telling])
        words = texts(chosen.compared, {*right[:SHOWN_FLIPS], *wrong[:SHOWN_FLIPS]})
        section.flipped.append(
            {
                "name": result.name,
                "metric": telling,
                "right": right,
                "wrong": wrong,
                "shown_right": [words[i] for i in right[:SHOWN_FLIPS] if i in words],
                "shown_wrong": [words[i] for i in wrong[:SHOWN_FLIPS] if i in words],
            }
        )


def _mean(result: Result, metric: str) -> float | None:
    return result.summary.get(summary_key(metric))


def summary_key(metric: str) -> str:
    """Where the summary holds a metric."""
    return metric if metric in ("exact_match", CROSS_ENTROPY) else f"{metric}_pass_rate"


# -- how the page says it --------------------------------------------------------------


def _metric_title(metric: str) -> str:
    return {"exact_match": "Exact match", CROSS_ENTROPY: "Cross-entropy"}.get(metric, metric)


def _value(summary: Mapping[str, Any], metric: str) -> str:
    """A number with half its interval."""
    key = summary_key(metric)
    value, low, high = (summary.get(name) for name in (key, f"{key}_low", f"{key}_high"))
    if value is None:
        return "not measured"
    scale, digits, unit = (1, 4, "") if metric == CROSS_ENTROPY else (100, 1, " %")
    half = "" if low is None or high is None else f" ± {scale * (high - low) / 2:.{digits}f}"
    return f"{scale * value:.{digits}f}{unit}{half}"


def _change(change: Change | None, metric: str) -> str:
    """A change in the metric's unit."""
    if change is None or change.difference is None:
        return ""
    return f"{change.difference:+.4f}" if metric == CROSS_ENTROPY else f"{100 * change.difference:+.1f}"
