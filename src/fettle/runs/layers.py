"""The `layers` records of a run as typed values."""

from __future__ import annotations

from typing import Any, Literal, cast

from fettle.runs.json_object import mapping
from fettle.runs.numbers import integer, number
from fettle.runs.records import GroupMovement, LayerActivity


def layer_activity(record: dict[str, Any]) -> LayerActivity:
    """One record; what is no number in it was not measured, and a group without movement is left out."""
    method: Literal["lora", "full"] = "full" if record.get("method") == "full" else "lora"
    return LayerActivity(
        step=integer(record.get("step")) or 0,
        method=method,
        groups=[group for row in _mappings(record.get("rows")) for group in _groups(row)],
        since_step=integer(record.get("since_step")) or 0,
        seconds=number(record.get("seconds")),
    )


def _groups(row: dict[str, Any]) -> list[GroupMovement]:
    layer = integer(row.get("layer"))
    found: list[GroupMovement] = []
    groups = mapping(row.get("groups"))
    for name in groups:
        fields = mapping(groups[name])
        movement = number(fields.get("movement"))
        if movement is not None:
            found.append(
                GroupMovement(
                    layer=layer,
                    group=name,
                    modules=integer(fields.get("modules")) or 0,
                    movement=movement,
                    weight_norm=number(fields.get("weight_norm")),
                    grad_norm=number(fields.get("grad_norm")),
                )
            )
    return found


def _mappings(value: Any) -> list[dict[str, Any]]:
    listed = cast("list[Any]", value) if isinstance(value, list) else []
    return [mapping(item) for item in listed if isinstance(item, dict)]
