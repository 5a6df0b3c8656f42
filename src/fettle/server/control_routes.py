"""What a person asks of a running trainer."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict

from fettle.runs.control import Action, ask_trainer
from fettle.runs.discover import is_inside
from fettle.server.answer import Json
from fettle.server.context import CHANGES, NamedRun, Server, require_control
from fettle.server.shapes import Controlled, Problem

router = APIRouter(prefix="/api/runs/{id}")


class Control(BaseModel):
    """A request to the trainer of a run."""

    model_config = ConfigDict(extra="forbid")

    action: Action


@router.post(
    "/control",
    response_model=Controlled,
    status_code=202,
    responses={**CHANGES, 409: {"model": Problem, "description": "No trainer runs that could be asked."}},
)
def control(server: Server, named: NamedRun, asked: Control) -> Json:
    """Ask the trainer to stop, pause, resume or save a checkpoint: it reads control.json after each step."""
    require_control(server)
    with named.reading() as run:
        folder, refusal = run.folder, run.refusal()
        if folder is None or refusal is not None:
            raise HTTPException(409, refusal)
        if not is_inside(folder.path, server.listing.root):
            raise HTTPException(409, "the run lies outside the served folder")
        return Json(ask_trainer(folder.control_path, asked.action).to_json(), 202)
