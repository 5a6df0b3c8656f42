"""The alert about layers that do not learn."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, cast

from fettle.decide.alerts.numbers import number
from fettle.decide.alerts.rule import Finding, Record, Rule
from fettle.decide.alerts.run_state import RunState

if TYPE_CHECKING:
    from fettle.config import AlertsConfig

SHOWN_LAYERS = 8


class DeadLoraLayers(Rule):
    """Layers whose LoRA update stays zero."""

    category = "dead_lora_layers"
    level = "warning"
    reads = frozenset({"layers"})

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._dead: list[int] = []
        self._layers = 0

    def judge(self, record: Record, run: RunState) -> bool | None:
        steps = (number(record, "step") or 0.0) - (number(record, "since_step") or 0.0)
        # Every update starts at zero, and the first step of a warm-up may leave it there.
        if record.get("method") != "lora" or steps < 2:
            return None
        moved = layer_movements(record)
        if not moved:
            return None
        self._dead = sorted(layer for layer, size in moved.items() if size <= self.threshold)
        self._layers = len(moved)
        return bool(self._dead)

    def finding(self, run: RunState) -> Finding:
        names = ", ".join(str(layer) for layer in self._dead[:SHOWN_LAYERS])
        more = f" and {len(self._dead) - SHOWN_LAYERS} more" if len(self._dead) > SHOWN_LAYERS else ""
        return Finding(
            f"{len(self._dead)} of {self._layers} layers have not moved by step {run.step}: {names}{more}.",
            "Check that no gradient is cut off on its way to them, and that lora.target_modules names "
            "what the model runs through.",
            {"layers": self._dead, "of": self._layers},
        )


def layer_movements(record: Record) -> dict[int, float]:
    """Movement of every numbered layer, as a share of its weights.

    Where the weights could not be read it is 0 or infinite: all that is known is whether it moved.
    """
    listed: Any = record.get("rows")
    found: dict[int, float] = {}
    for item in cast("list[Any]", listed) if isinstance(listed, list) else []:
        if not isinstance(item, dict):
            continue
        row = cast("dict[str, Any]", item)
        layer, relative, movement = row.get("layer"), number(row, "relative"), number(row, "movement")
        if isinstance(layer, int) and movement is not None:
            found[layer] = relative if relative is not None else inf if movement else 0.0
    return found
