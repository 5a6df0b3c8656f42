"""Curves for drawing: few bytes, several runs at once, and still what the log says."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import httpx
import numpy as np
import pytest

from server.live_server import serving
from server.runs_on_disk import begin, finished, train

ALL = "x_first,x_last,min,max,mean,count,nonfinite_count,nan_count,inf_count,minus_inf_count"
OFFSET = 40_000_001


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Generator[httpx.Client]:
    root = tmp_path_factory.mktemp("curves") / "runs"
    for name in ("short", "other, with a comma"):
        finished(root / name, steps=30 if name == "short" else 60)
    _, log = begin(root / "late")
    train(log, range(OFFSET, OFFSET + 3000))
    log.append("train", {"step": OFFSET + 3000, "loss": float("nan")})
    log.close()
    _, log = begin(root / "wide")
    for step, loss in enumerate((1e300, 1e-200, 0.0, -2.5, 1.0), 1):
        log.append("train", {"step": step, "loss": loss})
    log.close()
    with serving(root) as client:
        yield client


def curve(client: httpx.Client, run: str, **query: object) -> tuple[dict[str, np.ndarray], httpx.Headers]:
    answer = client.get(f"/api/runs/{run}/series", params=query)
    assert answer.status_code == 200, answer.text
    told = answer.headers
    rows = np.frombuffer(answer.content, dtype="<f4" if told["X-Type"] == "float32" else "<f8")
    names = told["X-Fields"].split(",")
    table = rows.astype(np.float64).reshape(int(told["X-Rows"]), len(names))
    found = dict(zip(names, table.T, strict=True))
    for name in {"x_first", "x_last"} & found.keys():
        found[name] += float(told["X-Origin"])
    return found, told


def test_a_compact_curve_says_the_same_in_fewer_bytes(client: httpx.Client) -> None:
    for width in (200, 5000):
        full, _ = curve(client, "late", width=100 if width == 200 else width, fields=ALL)
        small, told = curve(client, "late", width=width, fields=ALL, compact=1)
        assert told["X-Type"] == "float32"
        assert "inf_count" not in small
        assert small["nan_count"].sum() == 1
        assert ("min" in small, "max" in small) == (width == 200,) * 2
        for name, values in small.items():
            exact = name.startswith("x_") or name.endswith("count")
            np.testing.assert_allclose(values, full[name], rtol=0 if exact else 1e-7)
    # Neighbouring steps of this size are one and the same float32.
    assert (np.diff(small["x_first"]) == 1).all()


def test_a_bucket_that_is_drawn_with_its_extremes_is_two_points(client: httpx.Client) -> None:
    for fields, buckets in (("x_first,mean,min,max", 500), ("x_first,mean", 1000)):
        found, told = curve(client, "late", width=1000, fields=fields, compact=1)
        assert (found["mean"].size, told["X-Raw"]) == (buckets, "0")
        assert int(told["Content-Length"]) <= 8000
    found, told = curve(client, "other, with a comma", width=60, fields="x_first,mean,min,max", compact=1)
    assert (found["mean"].size, told["X-Raw"], told["X-Fields"]) == (60, "1", "x_first,mean")


def test_a_curve_that_float32_cannot_hold_stays_as_it_is(client: httpx.Client) -> None:
    found, told = curve(client, "wide", compact=1, fields="x_first,mean,nan_count")
    assert told["X-Type"] == "float64"
    assert found["mean"].tolist() == [1e300, 1e-200, 0.0, -2.5, 1.0]
    assert "nan_count" not in found


def test_a_compact_curve_of_nothing_is_empty(client: httpx.Client) -> None:
    found, told = curve(client, "wide", compact=1, y="absent")
    assert told["X-Rows"] == "0"
    assert found["x_first"].size == 0


def test_curves_of_several_runs_come_in_one_answer(client: httpx.Client) -> None:
    ids = ["other, with a comma", "gone", "late", "short"]
    query = {"y": "loss", "width": 50, "fields": "x_first,max"}
    answer = client.get("/api/series", params={"ids": ids, **query})
    rows = [int(count) for count in answer.headers["X-Rows"].split(",")]
    assert rows == [50, 0, 50, 30]
    assert answer.headers["X-Raw"] == "0,1,0,1"
    alone = [client.get(f"/api/runs/{id}/series", params=query).content for id in ids if id != "gone"]
    assert answer.content == b"".join(alone)


@pytest.mark.parametrize("query", [{}, {"ids": ["short"], "fields": "x_first,nothing"}, {"ids": ["a"] * 101}])
def test_a_request_that_cannot_be_answered_is_refused(client: httpx.Client, query: dict[str, object]) -> None:
    answer = client.get("/api/series", params=query)
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_curves_are_not_of_folders_outside(client: httpx.Client, tmp_path: Path) -> None:
    finished(tmp_path / "outside", steps=6)
    answer = client.get("/api/series", params={"ids": [str(tmp_path / "outside"), "../outside"]})
    assert answer.headers["X-Rows"] == "0,0"
