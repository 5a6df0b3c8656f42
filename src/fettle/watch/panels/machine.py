"""How fast it goes and what it takes of the machine."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from fettle.runs.numbers import number
from fettle.watch.facts import Facts
from fettle.watch.panels import Panel
from fettle.watch.panels.head import monitoring
from fettle.watch.text import BOLD, FAINT, MISSING, fit, gibibytes, joined, line, percent, whole


def _title(facts: Facts) -> str:
    return "Speed and memory"


def _draw(facts: Facts, width: int, height: int) -> list[Text]:
    machine = facts.system
    rows = [
        ("speed", *_speed(facts)),
        (
            "GPU", gibibytes(machine.get("gpu_memory_used"), machine.get("gpu_memory_total")),
            [_share(machine.get("gpu_utilization"), ""), _unit(machine.get("gpu_temperature"), "°C"),
             _unit(machine.get("gpu_power"), "W")],
        ),
        (
            "host", gibibytes(machine.get("host_memory_used"), machine.get("host_memory_total")),
            [_share(machine.get("host_cpu"), "CPU "), _swap(machine.get("host_swap_used"))],
        ),
        ("seen", _tokens(facts), [_share(monitoring(facts), "recording ", 2), _spent(facts)]),
    ]  # fmt: skip
    lines = [
        line((f"{name:<6}", FAINT), (value, BOLD), f"  {joined(more)}" if any(more) else "")
        for name, value, more in rows
    ]
    return [fit(text, width) for text in lines[:height]]


def _speed(facts: Facts) -> tuple[str, list[str]]:
    """Of the last ten steps where the status tells, else of the last."""
    speed = number(facts.status.get("tokens_per_sec"))
    speed = number(facts.train.get("tokens_per_sec")) if speed is None else speed
    step, completion = (number(facts.train.get(key)) for key in ("step_time", "completion_tokens_per_sec"))
    return (
        MISSING if speed is None else f"{whole(speed)} tokens/s",
        [
            "" if step is None else f"{step:.2g} s/step",
            "" if completion is None else f"{whole(completion)} of the answers/s",
        ],
    )


def _tokens(facts: Facts) -> str:
    total = number(facts.status.get("tokens_total"))
    return MISSING if total is None else f"{whole(total)} tokens"


def _spent(facts: Facts) -> str:
    """What the service charged, where it does and the price is known."""
    spent = number(facts.status.get("spent_usd"))
    return "" if spent is None else f"${spent:,.2f} spent"


def _share(value: Any, name: str, digits: int = 0) -> str:
    known = number(value)
    return "" if known is None else f"{name}{percent(known, digits)}"


def _unit(value: Any, unit: str) -> str:
    known = number(value)
    return "" if known is None else f"{known:.0f} {unit}"


def _swap(value: Any) -> str:
    used = number(value)
    return f"swap {gibibytes(used, None)}" if used else ""


MACHINE = Panel("machine", _title, _draw)
