"""Layers, alerts, evaluations and predictions of a run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from fettle.runs.json_object import mapping, string
from fettle.runs.numbers import LARGEST_EXACT, integer, number
from fettle.runs.records import LayerActivity
from fettle.server.answer import Json
from fettle.server.context import NamedRun
from fettle.server.shapes_detail import Alerts, Concepts, Evaluations, Layers, Predictions

router = APIRouter(prefix="/api/runs/{id}")


@router.get("/layers", response_model=Layers)
def layers(named: NamedRun) -> Json:
    """How far each layer moved since training began, group by group, and over time as a whole."""
    with named.reading() as run:
        key = (run.segment, run.counts().get("layers"))
        return Json(named.open.derived("layers", key, lambda: _layers(run.layers())))


@router.get("/alerts", response_model=Alerts)
def alerts(named: NamedRun) -> Json:
    """Every alert, the open ones first."""
    from fettle.decide.alerts import alert_episodes, told_alert

    with named.reading() as run:
        told = alert_episodes(run.records("alert"))
        return Json({"alerts": [told_alert(alert) for alert in (*run.alerts_found(), *told)]})


@router.get("/evaluations", response_model=Evaluations)
def evaluations(named: NamedRun) -> Json:
    """Checkpoints that `fettle eval --watch` evaluated, the newest result of each."""
    with named.reading() as run:
        return Json({"evaluations": [_evaluation(row) for row in run.evaluations()]})


@router.get("/concepts", response_model=Concepts)
def concepts(named: NamedRun) -> Json:
    """Which concepts the run moved, by `fettle lens drift`: all lenses, the largest effect first."""
    with named.reading() as run:
        drift = run.drift()
    return Json({"drift": None if drift is None else asdict(drift)})


@router.get("/predictions", response_model=Predictions)
def predictions(
    named: NamedRun,
    step: Annotated[
        int | None, Query(description="Only of this step.", ge=-LARGEST_EXACT, le=LARGEST_EXACT)
    ] = None,
) -> Json:
    """Answers to the fixed prompts over time."""
    with named.reading() as run:
        rows = run.predictions()
    prompts: dict[str, dict[str, Any]] = {}
    shared = ("prompt", "ground_truth", "pattern")
    for row in rows:
        if step is not None and row.get("step") != step:
            continue
        id = str(row.get("prompt_id"))
        prompt = prompts.setdefault(
            id, {"prompt_id": id, **{key: row.get(key) for key in shared}, "predictions": []}
        )
        prompt["predictions"].append({k: v for k, v in row.items() if k not in (*shared, "type")})
    steps = sorted({at for row in rows if (at := integer(row.get("step"))) is not None})
    return Json({"steps": steps, "prompts": list(prompts.values())})


def _evaluation(row: dict[str, Any]) -> dict[str, Any]:
    numbers = {key: found for key, value in row.items() if (found := number(value)) is not None}
    texts = {key: string(row.get(key)) for key in ("name", "data", "folder")}
    trends = {
        metric: {key: string(mapping(trend).get(key)) for key in ("state", "text")}
        for metric, trend in mapping(row.get("trend")).items()
    }
    return {**numbers, **texts, "step": integer(row.get("step")), "trend": trends}


def _layers(measured: list[LayerActivity]) -> dict[str, Any]:
    from fettle.metrics.layers import layer_activity_summary, layer_totals

    last = measured[-1] if measured else None
    totals = [{total.layer: total for total in layer_totals(activity.groups)} for activity in measured]
    places = sorted({layer for total in totals for layer in total}, key=lambda at: (at is None, at or 0))
    return {
        "steps": [activity.step for activity in measured],
        "step": last.step if last else None,
        "method": last.method if last else None,
        "layers": _rows(last) if last else [],
        "top": layer_activity_summary(last.groups)["top"] if last else [],
        "history": [
            {
                "layer": layer,
                "relative_movement": [t[layer].relative if layer in t else None for t in totals],
                "gradient_norm": [t[layer].grad_norm if layer in t else None for t in totals],
            }
            for layer in places
        ],
    }


def _rows(activity: LayerActivity) -> list[dict[str, Any]]:
    from fettle.metrics.layers import layer_state, layer_totals

    parts = [(g.group, g) for g in activity.groups] + [("all", t) for t in layer_totals(activity.groups)]
    return [
        {
            "layer": part.layer,
            "group": group,
            "relative_movement": part.relative,
            "movement": part.movement,
            "gradient_norm": part.grad_norm,
            "state": layer_state(part.relative, part.movement, part.grad_norm),
        }
        for group, part in parts
    ]
