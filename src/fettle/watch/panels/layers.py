"""The layers that moved most."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from fettle.watch.facts import Facts
from fettle.watch.panels import Panel
from fettle.watch.text import BOLD, CALM, FAINT, MISSING, NOTICE, bar, fit, line, whole

MOST_NAMED = 6


def _title(facts: Facts) -> str:
    if facts.layers is None:
        return "Layers"
    kind = "LoRA layers" if facts.layers["method"] == "lora" else "Layers"
    return f"{kind} that moved most, step {whole(facts.layers['step'])}"


def _draw(facts: Facts, width: int, height: int) -> list[Text]:
    top: list[dict[str, Any]] = (facts.layers or {}).get("top") or []
    if facts.layers is None or not top:
        told = MISSING if facts.layers is None else "none of them moved"
        return [fit(line((told, FAINT)), width)]
    lines = _bars(top, width) if height > len(top) else [_named(top)]
    lines += [
        line((f"! {word}: {_names(facts.layers[key])}", NOTICE))
        for key, word in (
            ("dead", "not moved"),
            ("vanishing", "gradient vanishes"),
            ("exploding", "explodes"),
        )
        if facts.layers[key]
    ]
    return [fit(text, width) for text in lines[:height]]


def _bars(top: list[dict[str, Any]], width: int) -> list[Text]:
    most = max(_size(row) for row in top) or 1.0
    room = max(4, min(24, width - 22))
    return [
        line(f"layer {row['layer']:<4}")
        + bar(_size(row) / most, room, CALM)
        + line((f" {_told(row)}", BOLD), (" ΔW/W" if row["relative"] is not None else " ΔW", FAINT))
        for row in top
    ]  # fmt: skip


def _named(top: list[dict[str, Any]]) -> Text:
    names = ", ".join(str(row["layer"]) for row in top)
    return line(
        (names, BOLD), (f"  first by ΔW/W {_told(top[0])}" if top[0]["relative"] is not None else "", FAINT)
    )


def _names(layers: list[int]) -> str:
    more = f" and {len(layers) - MOST_NAMED} more" if len(layers) > MOST_NAMED else ""
    return ", ".join(map(str, layers[:MOST_NAMED])) + more


def _size(row: dict[str, Any]) -> float:
    return float(row["movement"] if row["relative"] is None else row["relative"])


def _told(row: dict[str, Any]) -> str:
    return f"{row['movement']:.3g}" if row["relative"] is None else f"{100 * row['relative']:.2g} %"


LAYERS = Panel("layers", _title, _draw)
