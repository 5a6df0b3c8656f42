"""The `layers` records of a run as typed values."""

from __future__ import annotations

from typing import Any, Literal, cast

from fettle.runs.records import GroupMovement, LayerActivity


def layer_activity(record: dict[str, Any]) -> LayerActivity:
    """One record; what is no number in it was not measured, and a group without movement is left out."""
    method: Literal["lora", "full"] = "full" if record.get("method") == "full" else "lora"
    return LayerActivity(
        step=int(_number(record.get("step")) or 0),
        method=method,
        groups=[group for row in _mappings(record.get("rows")) for group in _groups(row)],
        since_step=int(_number(record.get("since_step")) or 0),
        seconds=_number(record.get("seconds")),
    )


def _groups(row: dict[str, Any]) -> list[GroupMovement]:
    layer = _number(row.get("layer"))
    named: Any = row.get("groups")
    found: list[GroupMovement] = []
    groups = cast("dict[str, Any]", named) if isinstance(named, dict) else {}
    for name in groups:
        fields = _mapping(groups[name])
        movement = _number(fields.get("movement"))
        if movement is not None:
            found.append(
                GroupMovement(
                    layer=None if layer is None else int(layer),
                    group=name,
                    modules=int(_number(fields.get("modules")) or 0),
                    movement=movement,
                    weight_norm=_number(fields.get("weight_norm")),
                    grad_norm=_number(fields.get("grad_norm")),
                )
            )
    return found


def _mapping(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _mappings(value: Any) -> list[dict[str, Any]]:
    listed = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in listed if isinstance(item, dict)]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
