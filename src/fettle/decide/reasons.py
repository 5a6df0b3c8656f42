"""The sentences of a verdict: reasons with numbers, what was not measured, what to be careful with."""

from __future__ import annotations

from typing import Any

import numpy as np

from fettle.decide.actions import Ruling
from fettle.decide.evidence import Findings
from fettle.decide.layers import dead_layers_warning
from fettle.runs.records import FixedEval


def reasons(findings: Findings, ruling: Ruling) -> list[str]:
    """Short sentences, the rule that decided first."""
    lines = [ruling.reason]
    if findings.judged is not None:
        lines.append(numbers_line(findings.judged) + ".")
    lines += [
        f"{name} {trend.text}."
        for trend, name in (
            (findings.exact_match, "Exact match"),
            (findings.cross_entropy, "Cross-entropy"),
        )
        if trend.evals and trend.explanation not in ruling.reason
    ]
    if findings.overfitting is not None:
        sign = findings.overfitting
        lines.append(
            f"Overfitting since step {sign.since_step}: cross-entropy rose by "
            f"{sign.cross_entropy_rise:.3f} nats while train loss fell by {sign.train_loss_fall:.3f}."
        )
    if findings.choice is not None:
        lines.append(f"{findings.choice.explanation}.")
    if findings.patterns:
        lines.append(patterns_line(findings) + ".")
    if findings.history is not None:
        lines.append(f"Samples: {findings.history.text}.")
    return lines


def numbers_line(e: FixedEval) -> str:
    """`Step 15200: EM 81.5 % ± 1.7, CE 0.312, ECE 0.04 (n = 2000)`; what was not measured is left out."""
    parts: list[str] = []
    if e.exact_match is not None:
        text = f"EM {100 * e.exact_match:.1f} %"
        if e.exact_match_low is not None and e.exact_match_high is not None:
            text += f" ± {50 * (e.exact_match_high - e.exact_match_low):.1f}"
        parts.append(text)
    if e.cross_entropy is not None:
        parts.append(f"CE {e.cross_entropy:.3f}")
    if e.expected_calibration_error is not None:
        parts.append(f"ECE {e.expected_calibration_error:.2f}")
    return f"Step {e.step}: {', '.join(parts)}" + (f" (n = {e.samples})" if e.samples else "")


def patterns_line(findings: Findings) -> str:
    """The weakest kind first, those too few to judge last."""
    texts: list[str] = []
    for row in findings.patterns:
        text = row.text
        if findings.weakest is not None and row.pattern == findings.weakest.pattern:
            text = f"{text[:-1]}, weakest)"
        texts.append(text)
    return "Patterns: " + ", ".join(texts)


def not_measured(findings: Findings) -> list[str]:
    """What the verdict would have used and was not there."""
    evals, train = findings.evals, findings.run.train
    missing: list[str] = []
    if not evals:
        missing.append("evaluation on held-out examples")
    else:
        names = {
            "exact_match": "exact match",
            "cross_entropy": "cross-entropy",
            "expected_calibration_error": "calibration (ECE)",
            "entropy": "entropy",
        }
        missing += [name for key, name in names.items() if all(getattr(e, key) is None for e in evals)]
        if all(e.per_sample is None for e in evals):
            missing.append("per-sample results (paired tests, intervals)")
        if not findings.patterns:
            missing.append("kinds of prompts")
    missing += [
        name
        for key, name in (("loss", "train loss"), ("tokens_per_sec", "tokens per second"))
        if not _has(train, key)
    ]
    if findings.comparability.comparable is False:
        missing.append("gap between train and eval loss (not comparable)")
    return missing


def _has(train: Any, key: str) -> bool:
    return key in train and bool(np.isfinite(train[key]).any())


def warnings(findings: Findings) -> list[str]:
    """What a reader must know before acting on the verdict."""
    lines: list[str] = []
    if findings.comparability.comparable is False or _odd_ratio(findings):
        lines.append(_sentence(findings.comparability.explanation))
    if findings.evals and not any(e.per_sample is not None for e in findings.evals):
        lines.append(
            "Nothing here was tested: without per-sample results a trend is a reading of the numbers."
        )
    if findings.choice is None and findings.evals:
        lines.append("No evaluated step has a checkpoint on disk.")
    if findings.choice is not None and findings.choice.unsaved_best_step is not None:
        lines.append(f"The best eval, step {findings.choice.unsaved_best_step}, has no checkpoint on disk.")
    if findings.run.state in ("crashed", "interrupted"):
        lines.append(f"The run is {findings.run.state}: it did not reach its end.")
    if findings.exact_match.state == "improving" and findings.cross_entropy.state == "regressing":
        lines.append("Cross-entropy rises while exact match improves: wrong answers are held more firmly.")
    lines += _calibration(findings.judged)
    if findings.drift is not None:
        lines.append(f"Calibration drifts: {findings.drift.text}.")
    lines += dead_layers_warning(findings.run.layers)
    return list(dict.fromkeys(lines))


def _odd_ratio(findings: Findings) -> bool:
    ratio = findings.comparability.ratio
    return findings.comparability.comparable is None and ratio is not None


def _calibration(e: FixedEval | None) -> list[str]:
    """Over-confidence: the model is surer than it is right."""
    if e is None or e.cross_entropy is None or e.entropy is None:
        return []
    if e.expected_calibration_error is None or e.expected_calibration_error <= 0.15:
        return []
    gap = e.cross_entropy - e.entropy
    word = "over-confident" if gap > 0 else "under-confident"
    return [
        f"Poorly calibrated ({word}): ECE {e.expected_calibration_error:.2f}, CE - entropy {gap:+.2f} nats."
    ]


def _sentence(text: str) -> str:
    text = text.strip()
    if not text:
        return text
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
