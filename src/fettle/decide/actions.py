"""The rules that turn findings into an action. First match wins; every rule says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fettle.decide.evidence import Findings
from fettle.decide.trend import SMALLEST_EVALS, Trend
from fettle.runs.numbers import number

Action = Literal["stop", "continue", "investigate", "insufficient"]

FINISHED = {"completed", "early_stopped"}


@dataclass(frozen=True, slots=True)
class Ruling:
    """An action and the sentence that says which rule gave it."""

    action: Action
    reason: str


def rule(findings: Findings) -> Ruling:
    """Stop, continue, investigate, or insufficient evidence."""
    ruling = (
        _went_wrong(findings)
        or _too_few(findings)
        or _early_stopped(findings)
        or _by_exact_match(findings)
        or _by_cross_entropy(findings)
        or _undecided(findings)
    )
    if _out_of_budget(findings):
        ruling = Ruling(ruling.action, f"{_budget(findings)} {ruling.reason}")
    if ruling.action in ("stop", "continue") and not _tested(findings):
        return Ruling(ruling.action, f"{ruling.reason} (Read from the numbers, not tested.)")
    return ruling


def _tested(findings: Findings) -> bool:
    return findings.exact_match.tested or findings.cross_entropy.tested


def _went_wrong(findings: Findings) -> Ruling | None:
    if findings.critical:
        alert = findings.critical[-1]
        what = str(alert.get("message") or alert.get("category") or "a critical alert").rstrip(".")
        where = f" at step {alert['step']}" if "step" in alert and "step" not in what else ""
        return Ruling("investigate", f"{what}{where}.")
    broken = [e.step for e in findings.evals if _broken(e.extra)]
    if broken:
        return Ruling("investigate", f"The eval at step {broken[-1]} gave a number that is not finite.")
    if findings.run.state == "failed":
        return Ruling("investigate", "The run ended with an error; its log says which.")
    if findings.run.state == "crashed" and not _stops_anyway(findings):
        return Ruling(
            "investigate",
            "The run ended without a word (killed, or out of memory); it can go on from its last checkpoint.",
        )
    return None


def _broken(extra: dict[str, object]) -> bool:
    return any(f"{key}_nonfinite" in extra for key in ("cross_entropy", "loss", "eval_loss"))


def _stops_anyway(findings: Findings) -> bool:
    ruling = _by_exact_match(findings) or _by_cross_entropy(findings)
    return ruling is not None and ruling.action == "stop"


def _out_of_budget(findings: Findings) -> bool:
    return findings.run.state == "early_stopped" and (findings.run.end or {}).get("cause") == "budget"


def _out_of_patience(findings: Findings) -> bool:
    return findings.run.state == "early_stopped" and not _out_of_budget(findings)


def _budget(findings: Findings) -> str:
    end = findings.run.end or {}
    amounts = [number(end.get(key)) for key in ("budget_usd", "spent_usd")]
    if None in amounts:
        return "Its budget ended the run."
    return "The budget of ${:,.2f} ended the run, with ${:,.2f} spent.".format(*amounts)


def _too_few(findings: Findings) -> Ruling | None:
    count = max(findings.exact_match.evals, findings.cross_entropy.evals, _measured(findings))
    if count == 0:
        return Ruling("insufficient", "No evaluation was recorded: nothing says how good the model is.")
    if count < SMALLEST_EVALS and not _out_of_patience(findings):
        evals = "1 eval" if count == 1 else f"{count} evals"
        return Ruling("insufficient", f"{evals} so far; a trend needs {SMALLEST_EVALS}.")
    return None


def _measured(findings: Findings) -> int:
    return sum(e.cross_entropy is not None or e.exact_match is not None for e in findings.evals)


def _early_stopped(findings: Findings) -> Ruling | None:
    if not _out_of_patience(findings):
        return None
    record = findings.run.early_stop or {}
    count, best_step = record.get("evals_without_improvement"), record.get("best_step")
    told = f" after {count} evals without enough improvement" if count is not None else ""
    best = f" (best step {best_step})" if best_step is not None else ""
    for trend, name in _metrics(findings):
        if trend.state == "improving":
            return Ruling(
                "continue",
                f"Early stopping ended the run{told}, but {name} was still improving "
                f"({trend.explanation}): the threshold is too coarse.",
            )
    return Ruling("stop", f"Early stopping ended the run{told}{best}.")


def _metrics(findings: Findings) -> list[tuple[Trend, str]]:
    exact_match = [(findings.exact_match, "exact match")] if findings.exact_match_tells else []
    return [*exact_match, (findings.cross_entropy, "cross-entropy")]


def _by_exact_match(findings: Findings) -> Ruling | None:
    """Exact match decides; cross-entropy has a say only where exact match has levelled off."""
    if not findings.exact_match_tells:
        return None
    exact, cross = findings.exact_match.standing, findings.cross_entropy.standing
    if exact == "regressing" and cross == "improving":
        return Ruling(
            "investigate",
            "Exact match falls while cross-entropy improves: answers become likelier and less exact.",
        )
    if exact == "regressing":
        return Ruling("stop", "Exact match is falling from its best.")
    if exact == "improving":
        return Ruling("continue", _go_on(findings, "exact match"))
    if exact == "plateau" and cross == "improving":
        return Ruling("continue", _go_on(findings, "cross-entropy") + " Exact match is level.")
    if exact == "plateau":
        worse = " while cross-entropy worsens" if cross == "regressing" else ""
        return Ruling("stop", f"Exact match has levelled off{worse}.")
    return None


def _by_cross_entropy(findings: Findings) -> Ruling | None:
    cross = findings.cross_entropy.standing
    unsure = " Exact match is too noisy to say more." if findings.exact_match_tells else ""
    if cross == "regressing":
        cause = ": the model overfits" if findings.overfitting else ""
        return Ruling("stop", f"Cross-entropy is rising from its best{cause}.{unsure}")
    if cross == "improving":
        return Ruling("continue", _go_on(findings, "cross-entropy") + unsure)
    if cross == "plateau":
        return Ruling("stop", f"Cross-entropy has levelled off.{unsure}")
    return None


def _go_on(findings: Findings, name: str) -> str:
    if findings.run.state in FINISHED:
        return f"The run ended while {name} was still improving: train longer."
    return f"{name.capitalize()} is still improving."


def _undecided(findings: Findings) -> Ruling:
    trend = findings.exact_match if findings.exact_match_tells else findings.cross_entropy
    return Ruling("insufficient", f"Neither an improvement nor its end shows: {trend.explanation}.")
