"""The alert about layers that do not learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from fettle.decide.alerts.numbers import number
from fettle.decide.alerts.rule import Finding, Record, Rule
from fettle.decide.alerts.run_state import RunState

if TYPE_CHECKING:
    from fettle.config import AlertsConfig

SHOWN_LAYERS = 8


class DeadLoraLayers(Rule):
    """Layers whose LoRA update stays zero, in two measurements in a row."""

    category = "dead_lora_layers"
    level = "warning"
    reads = frozenset({"layers"})

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        super().__init__(threshold, config)
        self._before: set[int] | None = None
        self._dead: list[int] = []
        self._layers = 0

    def judge(self, record: Record, run: RunState) -> bool | None:
        if record.get("method") != "lora" or not run.step:
            return None
        moved = layer_movements(record)
        if not moved:
            return None
        dead = {layer for layer, ratio in moved.items() if ratio <= self.threshold}
        # Every update stays at zero through the first step of a warm-up.
        again = dead & self._before if self._before is not None else set[int]()
        self._before = dead
        self._dead, self._layers = sorted(again), len(moved)
        return True if again else None if dead else False

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
    """Movement over weight norm of every numbered layer that is trained.

    Where the weight norm is not known, the movement itself: above zero or not is all that is asked of it.
    """
    moved: dict[int, float] = {}
    listed: Any = record.get("rows")
    for item in cast("list[Any]", listed) if isinstance(listed, list) else []:
        if not isinstance(item, dict):
            continue
        row = cast("dict[str, Any]", item)
        layer, relative = row.get("layer"), number(row, "relative")
        movement = number(row, "movement") if relative is None else relative
        if isinstance(layer, int) and movement is not None:
            moved[layer] = movement
    return moved
