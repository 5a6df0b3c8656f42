"""Asking a trainer for something: only where the server was told to, and only one that lives."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from fettle.runs import RunFolder
from fettle.runs.control import read_requests
from server.live_server import serving
from server.runs_on_disk import begin, finished

HEADERS = {"X-Fettle": "1"}


def ask(client: httpx.Client, run: str, action: object) -> httpx.Response:
    return client.post(f"/api/runs/{run}/control", json={"action": action}, headers=HEADERS)


def test_control_is_off_unless_the_server_was_told(tmp_path: Path) -> None:
    folder, _ = begin(tmp_path / "runs" / "a")
    with folder.lock(), serving(tmp_path / "runs") as client:
        answer = ask(client, "a", "stop")
        assert answer.status_code == 403
        assert "--control" in answer.json()["detail"]
        assert client.get("/api/health").json()["control"] is False
    assert not folder.control_path.exists()


@pytest.mark.parametrize("action", ["stop", "pause", "resume", "checkpoint"])
def test_what_is_asked_stands_in_control_json(tmp_path: Path, action: str) -> None:
    folder, _ = begin(tmp_path / "runs" / "a")
    with folder.lock(), serving(tmp_path / "runs", "--control") as client:
        assert client.get("/api/health").json()["control"] is True
        answer = ask(client, "a", action)
        assert answer.status_code == 202
        assert [one.to_json() for one in read_requests(folder.control_path)] == [answer.json()]
        assert answer.json()["action"] == action
        assert abs(answer.json()["requested_at"] - time.time()) < 60


def test_a_run_that_nobody_trains_is_asked_for_nothing(tmp_path: Path) -> None:
    folder = finished(tmp_path / "runs" / "a", steps=6)
    (tmp_path / "runs" / "plain").mkdir()
    (tmp_path / "runs" / "plain" / "metrics.jsonl").write_text('{"type":"train","step":1,"loss":1.0}\n')
    with serving(tmp_path / "runs", "--control") as client:
        for run in ("a", "plain"):
            assert ask(client, run, "stop").status_code == 409
        assert ask(client, "none", "stop").status_code == 404
    assert not folder.control_path.exists()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"action":"rm"}', b'{"action":"stop","x":1}', b'{"action":["stop"]}']
)
def test_nothing_but_the_known_actions_is_taken(tmp_path: Path, body: bytes) -> None:
    folder, _ = begin(tmp_path / "runs" / "a")
    headers = {**HEADERS, "Content-Type": "application/json"}
    with folder.lock(), serving(tmp_path / "runs", "--control") as client:
        answer = client.post("/api/runs/a/control", content=body, headers=headers)
        assert answer.status_code == 422
        assert isinstance(answer.json()["detail"], str)
    assert not folder.control_path.exists()


def test_a_control_file_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    folder, _ = begin(tmp_path / "runs" / "a")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    with folder.lock(), serving(tmp_path / "runs", "--control") as client:
        folder.control_path.symlink_to(victim)
        assert ask(client, "a", "stop").status_code in (202, 422)
    assert victim.read_text() == "mine"
    assert RunFolder(folder.path).metrics_path.exists()
