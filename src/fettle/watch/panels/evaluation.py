"""The fixed eval: exact match, cross-entropy and calibration with their intervals, and what is best."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from fettle.runs.records import FixedEval
from fettle.watch.facts import Facts
from fettle.watch.panels import Panel
from fettle.watch.text import (
    BAD,
    BOLD,
    CALM,
    FAINT,
    GOOD,
    MISSING,
    PLAIN,
    fit,
    line,
    margin,
    nats,
    percent,
    sparkline,
    whole,
    wrapped,
)

STANDINGS = {"improving": GOOD, "plateau": CALM, "regressing": BAD}
ARROWS = {
    "exact_match": {"improving": "↑", "plateau": "→", "regressing": "↓"},
    "cross_entropy": {"improving": "↓", "plateau": "→", "regressing": "↑"},
}
ROOMY = 44
NAME = 5
VALUE = 15


def _title(facts: Facts) -> str:
    if not facts.evals:
        return "Fixed eval"
    last = facts.evals[-1]
    count = "" if last.samples is None else f", n = {whole(last.samples)}"
    return f"Fixed eval, step {whole(last.step)}{count}"


def _draw(facts: Facts, width: int, height: int) -> list[Text]:
    if not facts.evals:
        return [fit(line((f"no fixed eval yet: {MISSING}", FAINT)), width)]
    last = facts.evals[-1]
    rows = [
        ("EM", exact_match(last), [e.exact_match for e in facts.evals], standing(facts, "exact_match")),
        ("CE", cross_entropy(last), [e.cross_entropy for e in facts.evals], standing(facts, "cross_entropy")),
        ("ECE", calibration(last), [e.expected_calibration_error for e in facts.evals], Text()),
    ]
    lines = [_row(name, value, values, word, width) for name, value, values, word in rows]
    return [fit(text, width) for text in [*lines, *_best(facts, width)][:height]]


def exact_match(e: FixedEval) -> str:
    """`90.2 % ± 2.9`, in points."""
    if e.exact_match is None:
        return MISSING
    return f"{100 * e.exact_match:.1f} %" + margin(e.exact_match_low, e.exact_match_high, 100)


def cross_entropy(e: FixedEval) -> str:
    """`0.518 ± 0.016`, in nats."""
    if e.cross_entropy is None:
        flag = e.extra.get("cross_entropy_nonfinite")
        return {"nan": "NaN", "inf": "+Inf", "-inf": "−Inf"}.get(str(flag), MISSING)
    return nats(e.cross_entropy) + margin(e.cross_entropy_low, e.cross_entropy_high, digits=3)


def calibration(e: FixedEval) -> str:
    """`0.072`."""
    return nats(e.expected_calibration_error)


def standing(facts: Facts, metric: str) -> Text:
    """What the paired tests of the verdict say of a number; nothing while there is no verdict."""
    if facts.verdict is None:
        return Text()
    word = str(facts.verdict["evidence"]["trend"][metric]["standing"])
    return line((f"{ARROWS[metric].get(word, '')} {word}".strip(), STANDINGS.get(word, PLAIN)))


def _row(name: str, value: str, values: list[float | None], told: Text, width: int) -> Text:
    text = line((f"{name:<{NAME}}", FAINT), (f"{value:<{VALUE}}", BOLD))
    curve = sparkline(values, min(20, width - NAME - VALUE - told.cell_len - 1))
    return text + line((curve, CALM), " " if curve else "") + told


def _best(facts: Facts, width: int) -> list[Text]:
    choice: dict[str, Any] | None = facts.evidence.get("choice")
    if not choice:
        return [line(("best ", FAINT), f"checkpoint {MISSING}")]
    judged = next((e for e in facts.evals if e.step == choice["step"]), None)
    numbers = "" if judged is None else f"  EM {percent(judged.exact_match)}"
    numbers += "" if judged is None or width < ROOMY else f"  CE {nats(judged.cross_entropy)}"
    return [
        line(("best ", FAINT), (f"checkpoint-{choice['step']}", GOOD + BOLD), numbers),
        *(line("     ", (part, FAINT)) for part in wrapped(str(choice["explanation"]), width - NAME)),
    ]


EVALUATION = Panel("evaluation", _title, _draw)
