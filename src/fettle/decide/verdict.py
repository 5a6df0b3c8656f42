"""The verdict: what to do with a run, which checkpoint to use, and on what evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fettle.decide.actions import Action, rule
from fettle.decide.concepts import concepts_evidence
from fettle.decide.evidence import Evidence, Findings, find
from fettle.decide.layers import layers_evidence
from fettle.decide.pattern_table import pattern_table
from fettle.decide.reasons import not_measured, reasons, warnings
from fettle.metrics import perplexity
from fettle.runs.records import LIVE, FixedEval

VERDICT_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and why."""

    action: Action
    checkpoint: dict[str, Any] | None
    """`step` and `path` of the checkpoint to use; None where no evaluated one is on disk."""
    reasons: list[str]
    """Short sentences with numbers, the most important first."""
    evidence: dict[str, Any]
    """The numbers behind them, with intervals."""
    not_measured: list[str]
    warnings: list[str]
    recommendation: str
    """The action as a sentence: what to do now, with which checkpoint, and what data to add."""
    schema_version: int = VERDICT_SCHEMA_VERSION
    name: str = ""
    state: str = "unknown"

    def to_json(self) -> dict[str, Any]:
        """Plain values, finite throughout; a number that was not measured is None."""
        fields = {
            "schema_version": self.schema_version,
            "run": self.name,
            "state": self.state,
            "action": self.action,
            "checkpoint": self.checkpoint,
            "recommendation": self.recommendation,
            "reasons": self.reasons,
            "evidence": self.evidence,
            "not_measured": self.not_measured,
            "warnings": self.warnings,
        }
        return {key: _plain(value) for key, value in fields.items()}


def schema_text() -> str:
    """JSON schema of `Verdict.to_json`."""
    return (Path(__file__).parent / "verdict.schema.json").read_text(encoding="utf-8")


def verdict(run: Evidence) -> Verdict:
    """Judge a run from what was recorded of it; nothing is measured here."""
    findings = find(run)
    ruling = rule(findings)
    choice = findings.choice
    return Verdict(
        action=ruling.action,
        checkpoint={"step": choice.step, "path": str(choice.path)} if choice else None,
        reasons=reasons(findings, ruling),
        evidence=_evidence(findings),
        not_measured=not_measured(findings),
        warnings=warnings(findings),
        recommendation=_recommendation(findings, ruling.action),
        name=run.name,
        state=run.state,
    )


def _recommendation(findings: Findings, action: Action) -> str:
    checkpoint = f"checkpoint-{findings.choice.step}" if findings.choice else None
    if action == "stop":
        running = findings.run.state in LIVE
        first = "Stop training." if running else "Do not train further on this data."
        first += f" Use {checkpoint}." if checkpoint else " No evaluated checkpoint is on disk."
    elif action == "continue":
        unfinished = findings.run.state in {*LIVE, "interrupted", "crashed"}
        first = "Go on training." if unfinished else "Train longer."
        first += f" So far the best is {checkpoint}." if checkpoint else ""
    elif action == "investigate":
        advice = [str(a["action"]) for a in findings.critical if a.get("action")]
        first = advice[-1] if advice else "Find out what happened before training on."
        first += f" The last good choice is {checkpoint}." if checkpoint else ""
    else:
        first = _missing_evidence(findings)
        first += f" Until then, use {checkpoint}." if checkpoint else ""
    return f"{first} {findings.next_data.text}" if findings.next_data else first


def _missing_evidence(findings: Findings) -> str:
    if not findings.evals:
        return "Evaluate on held-out examples (data.fixed_eval) to get a verdict."
    if findings.cross_entropy.tested or findings.exact_match.tested:
        return "Evaluate on more held-out examples."
    return "Evaluate more often."


def _evidence(findings: Findings) -> dict[str, Any]:
    last = findings.evals[-1] if findings.evals else None
    return {
        "evals": len(findings.evals),
        "last_eval": _numbers(last) if last else None,
        "judged_eval": _numbers(findings.judged) if findings.judged else None,
        "trend": {
            "exact_match": findings.exact_match.to_json(),
            "cross_entropy": findings.cross_entropy.to_json(),
        },
        "choice": findings.choice.to_json() if findings.choice else None,
        "patterns": [row.to_json() for row in findings.patterns],
        "weakest_pattern": findings.weakest.pattern if findings.weakest else None,
        "pattern_matrix": pattern_table(findings.matrix, findings.run.metadata, findings.weak_cell),
        "next_data": findings.next_data.to_json() if findings.next_data else None,
        "overfitting": findings.overfitting.to_json() if findings.overfitting else None,
        "samples": findings.history.to_json() if findings.history else None,
        "calibration_drift": findings.drift.to_json() if findings.drift else None,
        "train_and_eval_loss": findings.comparability.to_json(),
        "layers": layers_evidence(findings.run.layers),
        "concepts": concepts_evidence(findings.run.concepts),
        "alerts": [dict(alert) for alert in findings.run.alerts],
        "early_stop": dict(findings.run.early_stop) if findings.run.early_stop else None,
        "checkpoints_on_disk": sum(c.path is not None for c in findings.run.checkpoints),
    }


def _numbers(e: FixedEval) -> dict[str, Any]:
    names = (
        "step", "epoch", "exact_match", "exact_match_low", "exact_match_high",
        "cross_entropy", "cross_entropy_low", "cross_entropy_high",
        "expected_calibration_error", "entropy", "samples", "tokens",
    )  # fmt: skip
    return {**{name: getattr(e, name) for name in names}, "perplexity": perplexity(e.cross_entropy)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in cast("list[Any]", value)]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
