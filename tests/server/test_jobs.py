"""Launching trainings over the API: what is refused, and the life of real ones across servers."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from fettle.runs import RunReader
from server.launchable import YAML, launchable
from server.live_server import serving
from train.asking import obeyed, until

HEADERS = {"X-Fettle": "1"}
JOBS = "/api/training/jobs"


@pytest.fixture
def root(tmp_path: Path) -> Generator[Path]:
    """A served folder; whatever still trains there in the end is killed."""
    root = launchable(tmp_path / "runs")
    yield root
    from fettle.jobs.store import JobStore

    for job in JobStore(root).all():
        if job.pid is not None and not job.ended:
            with suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)


def post(client: httpx.Client, address: str = JOBS, **body: Any) -> httpx.Response:
    return client.post(address, json=body, headers=HEADERS)


def state(client: httpx.Client, id: str) -> str:
    return client.get(f"{JOBS}/{id}").json()["state"]


def becomes(client: httpx.Client, id: str, wanted: str) -> dict[str, Any]:
    """The job, once it stands so."""
    until(lambda: state(client, id) == wanted, seconds=100)
    return client.get(f"{JOBS}/{id}").json()


def control(client: httpx.Client, id: str, action: str) -> None:
    assert post(client, f"/api/runs/{id}/control", action=action).status_code == 202


def test_what_cannot_be_launched_is_told(root: Path) -> None:
    (root.parent / "outside.yaml").write_text(YAML)
    (root / "link.yaml").symlink_to(root.parent / "outside.yaml")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"config": YAML.replace("rank", "rnak")}, "unknown key 'rnak'. Did you mean 'rank'?"),
        ({"config": "model: ["}, "config:1: not valid YAML"),
        ({"config": YAML.replace("rank: 2", "rank: two")}, "lora"),
        ({"config": YAML.replace("train.jsonl", "none.jsonl")}, "data.train: no file"),
        ({"config": f"{YAML}notify: {{command: [rm]}}\n"}, "'command' is taken from a file only"),
        ({"config": "\udc80"}, "config"),
        ({}, "give either"),
        ({"config": YAML, "path": "a.yaml"}, "give either"),
        ({"path": "../outside.yaml"}, "path: ../outside.yaml is no file below the served folder"),
        ({"path": str(root.parent / "outside.yaml")}, "below the served folder"),
        ({"path": "link.yaml"}, "below the served folder"),
        ({"path": "base"}, "below the served folder"),
        ({"path": "a\0"}, "below the served folder"),
        ({"path": "x" * 900}, "below the served folder"),
        ({"config": YAML, "device": -1}, "device"),
        ({"config": YAML, "command": "rm"}, "command"),
        ({"config": "a" * 8_001}, "config"),
    ]
    with serving(root, "--control") as client:
        for body, told in wrong:
            answer = client.post(
                JOBS, content=_json(body), headers={**HEADERS, "Content-Type": "application/json"}
            )
            assert answer.status_code == 422, body
            detail = answer.json()["detail"]
            assert told in detail, detail
            assert "\n" not in detail
        assert client.post(JOBS, content=b"config: 1", headers=HEADERS).status_code == 415
        assert client.post(JOBS, json={"config": YAML}).status_code == 403  # As another site's page would.
        assert client.get(f"{JOBS}/none").status_code == 404
        assert post(client, f"{JOBS}/none/cancel").status_code == 404
        assert post(client, f"{JOBS}/..%2Fx/restart").status_code == 404
        assert client.get("/api/training/checkpoints/none").status_code == 404
        assert client.get(JOBS).json() == {"jobs": []}
    with serving(root) as client:
        for address, body in ((JOBS, {"config": YAML}), (f"{JOBS}/a/cancel", {}), (f"{JOBS}/a/restart", {})):
            answer = post(client, address, **body)
            assert answer.status_code == 403
            assert "--control" in answer.json()["detail"]
    assert not list((root / ".fettle").rglob("*.json"))


def _json(body: dict[str, Any]) -> bytes:
    import json

    return json.dumps(body).encode()


def served(root: Path) -> AbstractContextManager[httpx.Client]:
    """A server that looks at its jobs often."""
    return serving(root, "--control", constants={"fettle.server.job_runner.INTERVAL_SECONDS": 0.05})


def test_a_job_is_paused_over_one_server_and_goes_on_over_the_next(root: Path) -> None:
    (root / "configs").mkdir()
    (root / "configs" / "b.yaml").write_text(
        YAML.replace("./base", "../base").replace("train.jsonl", "../train.jsonl")
    )
    with served(root) as client:
        a = post(client, config=YAML).json()
        assert (a["state"], a["queue_position"], a["has_run"]) == ("queued", 1, False)
        b, c = (
            post(client, path="configs/b.yaml").json()["job_id"],
            post(client, config=YAML).json()["job_id"],
        )
        a = a["job_id"]
        assert client.get(f"/api/training/checkpoints/{a}").json()["message"] == "no checkpoint was saved yet"
        assert post(client, f"{JOBS}/{c}/cancel").json()["state"] == "cancelled"
        becomes(client, a, "running")
        control(client, a, "pause")
        assert becomes(client, a, "paused")["step"] >= 1
        assert client.get(f"/api/runs/{a}").json()["state"] == "paused"
        listed = client.get(JOBS).json()["jobs"]
        assert [(job["job_id"], job["queue_position"]) for job in listed] == [(c, None), (b, 1), (a, None)]
        assert client.get(f"{JOBS}/{b}").json()["config"].startswith(f"model: {root / 'base'}")
        assert post(client, f"{JOBS}/{b}/cancel").json()["state"] == "cancelled"

    with served(root) as client:
        assert state(client, a) == "paused"
        control(client, a, "resume")
        becomes(client, a, "running")
        assert post(client, f"{JOBS}/{a}/cancel").json()["cancelling"]
        ended = becomes(client, a, "cancelled")
        assert ended["error"] is None
        assert RunReader(root / a).state() == "interrupted"
        saved = client.get(f"/api/training/checkpoints/{a}").json()["checkpoints"]
        assert [checkpoint["step"] for checkpoint in saved] == [ended["step"]]
    assert [action for action, _ in obeyed(root / a)] == ["pause", "resume"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_job_has_failed_and_a_cancelled_one_goes_on_where_it_was_saved(root: Path) -> None:
    with served(root) as client:
        a, b = (post(client, config=YAML).json()["job_id"] for _ in range(2))
        becomes(client, a, "running")
        post(client, f"{JOBS}/{a}/cancel")
        ended = becomes(client, a, "cancelled")

        becomes(client, b, "running")
        pid = client.get(f"/api/runs/{b}").json()["status"]["pid"]
        os.kill(pid, signal.SIGKILL)
        failed = becomes(client, b, "failed")
        assert (failed["error"], failed["exit_code"]) == ("The process was killed by SIGKILL.", -9)
        assert isinstance(failed["log"], list)

        # Again: it goes on where it was saved, and is stopped from its run.
        assert post(client, f"{JOBS}/{a}/restart").json()["state"] == "queued"
        becomes(client, a, "running")
        until(lambda: client.get(f"{JOBS}/{a}").json()["step"] > ended["step"])
        control(client, a, "stop")
        becomes(client, a, "cancelled")
    assert [record["step"] for record in RunReader(root / a).records("resume")] == [ended["step"]]
    assert [action for action, _ in obeyed(root / a)] == ["stop"]
