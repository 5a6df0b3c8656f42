"""Losses with where they go, and their curves."""

from __future__ import annotations

from rich.text import Text

from fettle.decide.direction import Direction
from fettle.runs.numbers import number
from fettle.watch.facts import Facts, Loss
from fettle.watch.panels import Panel
from fettle.watch.plot import Picture, draw
from fettle.watch.text import BAD, BOLD, FAINT, GOOD, MISSING, PLAIN, change, fit, line, nats, padded

ARROWS = {"falling": ("↓", GOOD), "rising": ("↑", BAD), "level": ("→", PLAIN)}
NAME = 13
LEAST_PLOT = 4
ROOMY = 60
"""Cells from which on there is room for what a number rests on."""


def _title(facts: Facts) -> str:
    return "Loss, nats per token"


def _draw(facts: Facts, width: int, height: int) -> list[Text]:
    losses = facts.losses
    lines = [
        _loss("train", losses.train, width, "rows"),
        _loss("streaming CE", losses.streaming, width, "rows"),
        _loss("validation", losses.validation, width, "eval"),
    ]
    if height >= len(lines) + 2 + 2 * LEAST_PLOT or width >= ROOMY:
        lines.append(_optimiser(facts))
    lines = [fit(text, width) for text in lines[:height]]
    picture = _picture(facts)
    room = height - len(lines)
    if picture is None or room < LEAST_PLOT:
        return lines
    return [*lines, *draw(picture, width, room)]


def _loss(name: str, loss: Loss, width: int, unit: str) -> Text:
    odd = {"nan": "NaN", "inf": "+Inf", "-inf": "−Inf"}.get(loss.nonfinite or "")
    value = odd or (MISSING if loss.value is None else nats(loss.value))
    text = line((padded(name, NAME), FAINT), (f"{value:>7}", BAD + BOLD if odd else BOLD))
    direction = loss.direction
    if direction is None or loss.value is None:
        return text
    arrow, style = ARROWS[direction.word]
    text += line((f"  {arrow} {direction.word:<7}", style), f" {change(direction.change)}")
    return text + line((_span(direction, unit), FAINT)) if width >= ROOMY else text


def _span(direction: Direction, unit: str) -> str:
    return " since the eval before" if unit == "eval" else f" over {direction.rows} {unit}"


def _optimiser(facts: Facts) -> Text:
    rate, norm = number(facts.train.get("learning_rate")), number(facts.train.get("grad_norm"))
    return line(
        (padded("learning rate", NAME + 1), FAINT), MISSING if rate is None else f"{rate:.3g}",
        ("   gradient norm ", FAINT), MISSING if norm is None else f"{norm:.3g}",
    )  # fmt: skip


def _picture(facts: Facts) -> Picture | None:
    if facts.curves is None:
        return None
    points = [(float(e.step), e.cross_entropy) for e in facts.evals if e.cross_entropy is not None]
    chosen = (facts.verdict or {}).get("checkpoint")
    return Picture(
        facts.curves.loss, facts.curves.streaming, points, float(chosen["step"]) if chosen else None
    )


LOSSES = Panel("losses", _title, _draw)
