"""Lens packs, without a run that they looked at."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path

from fettle.server.answer import Json
from fettle.server.context import Server
from fettle.server.shapes_packs import PackList, PackShape

router = APIRouter(prefix="/api/packs")


@router.get("", response_model=PackList)
def packs(server: Server) -> Json:
    """The packs of lenses below the served folder."""
    return Json({"packs": [pack.row for pack in server.packs.all()]})


@router.get("/{id}", response_model=PackShape)
def pack(server: Server, id: Annotated[str, Path(description="Id of a pack")]) -> Json:
    """The lenses of a pack: grade, results on the sealed test, and the texts that score highest."""
    found = server.packs.lenses(id)
    if found is None:
        raise HTTPException(404, "there is no such pack; GET /api/packs lists them")
    return Json(found)
