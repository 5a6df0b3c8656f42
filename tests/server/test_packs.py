"""Lens packs below the served folder."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.live_server import serving
from server.runs_on_disk import finished

HOSTILE = "<img onerror=alert(1)>"


def record(concept: str, **keys: Any) -> dict[str, Any]:
    estimate = {"value": 0.9, "low": 0.8, "high": 0.95}
    return {
        "concept": concept, "branches": ["feelings"], "kind": "linear", "state": "graduated",
        "reason": "F1 0.980 on 10 texts", "test": {"f1": estimate, "auroc": {**estimate, "value": 0.97}},
        "baselines": {"bag_of_words": 0.7, "template": None}, "selectivity": 0.27, "grade": "A",
        "strongest_texts": [f"A text of {concept}."], **keys,
    }  # fmt: skip


def write_pack_index(folder: Path, records: list[Any], **keys: Any) -> None:
    """lenses.json as `fettle lens train` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    head = {"version": 1, "digest": "x", "identity": {}, "layer": 4, "about": {"model": "tiny/model"}, **keys}
    names = [row.get("concept") for row in records if isinstance(row, dict)]
    content = {**head, "concepts": names, "lenses": records}
    (folder / "lenses.json").write_text(json.dumps(content, indent=2))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packs") / "runs"
    finished(root / "run", steps=3)
    (root / "run/lenses").mkdir()
    write_pack_index(root / "run/lenses", [record("of a run")])
    untested = record(HOSTILE, test=None, grade="U", selectivity=None, kind="mlp", strongest_texts=[])
    write_pack_index(root / "deep/feelings", [record("Joy"), untested])
    write_pack_index(
        root / "odd", [{"concept": 5, "test": [1], "branches": "x", "grade": 7, "baselines": None}]
    )
    write_pack_index(root / "wrong", ["no record"])
    (root / "torn").mkdir()
    (root / "torn/lenses.json").write_text('{"version": 1, "concepts": [')
    (root / "out").mkdir()
    (root.parent / "elsewhere.json").write_text("{}")
    (root / "out/lenses.json").symlink_to(root.parent / "elsewhere.json")
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Generator[httpx.Client]:
    with serving(root) as client:
        yield client


def test_packs_are_listed_beside_the_runs(client: httpx.Client) -> None:
    packs = {row["id"]: row for row in client.get("/api/packs").json()["packs"]}
    assert list(packs) == ["deep~feelings", "odd", "out", "torn", "wrong"]  # None of a run, whose own it is.
    assert packs["deep~feelings"] == {
        "id": "deep~feelings", "name": "feelings", "model": "tiny/model", "layer": 4, "count": 2,
        "created_at": None, "problem": None,
    }  # fmt: skip
    assert "is damaged or of another version. Train the pack again" in packs["torn"]["problem"]
    assert "a link out of the served folder" in packs["out"]["problem"]
    assert [row["id"] for row in client.get("/api/runs").json()["runs"]] == ["run"]


def test_a_pack_tells_of_each_lens(client: httpx.Client) -> None:
    joy, untested = client.get("/api/packs/deep~feelings").json()["lenses"]
    assert joy == {
        "concept": "Joy", "grade": "A", "branches": ["feelings"], "kind": "linear", "state": "graduated",
        "reason": "F1 0.980 on 10 texts", "f1": 0.9, "auroc": 0.97, "selectivity": 0.27,
        "baselines": {"bag_of_words": 0.7, "template": None}, "strongest": ["A text of Joy."],
    }  # fmt: skip
    assert (untested["concept"], untested["f1"], untested["kind"]) == (HOSTILE, None, "mlp")


@pytest.mark.parametrize(
    ("id", "status", "said"),
    [
        ("torn", 422, "torn: is damaged"),
        ("wrong", 422, "is damaged"),
        ("out", 422, "a link out of the served folder"),
        ("run", 404, "no such pack"),
        ("deep", 404, "no such pack"),
        ("deep%2Ffeelings", 404, ""),
        ("..%2Fruns", 404, ""),
    ],
)
def test_what_is_no_pack_is_refused_in_one_line(
    client: httpx.Client, id: str, status: int, said: str
) -> None:
    answer = client.get(f"/api/packs/{id}")
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


def test_what_is_not_as_it_should_be_is_not_measured(client: httpx.Client) -> None:
    (lens,) = client.get("/api/packs/odd").json()["lenses"]
    assert lens == {
        "concept": "5", "grade": None, "branches": [], "kind": "linear", "state": None, "reason": None,
        "f1": None, "auroc": None, "selectivity": None, "baselines": {}, "strongest": [],
    }  # fmt: skip


def test_a_pack_that_was_trained_again_is_read_again(tmp_path: Path) -> None:
    write_pack_index(tmp_path / "runs/pack", [record("Joy")])
    with serving(tmp_path / "runs") as client:
        assert client.get("/api/packs").json()["packs"][0]["count"] == 1
        write_pack_index(tmp_path / "runs/pack", [record("Joy"), record("Grief")])
        assert client.get("/api/packs").json()["packs"][0]["count"] == 2
        assert len(client.get("/api/packs/pack").json()["lenses"]) == 2
