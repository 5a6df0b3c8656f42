"""The queue of jobs over real processes that do not train: devices, ends, other servers, damaged files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fettle.config import Config
from fettle.errors import RunError
from fettle.jobs import queue as queue_module
from fettle.jobs.failure import failure
from fettle.jobs.job import Job
from fettle.jobs.process import is_alive, process_start
from fettle.jobs.queue import JobQueue
from fettle.jobs.store import JobStore
from fettle.runs import RunFolder
from train.asking import until

CONFIG = Config.model_validate({"model": "tiny/model", "data": {"train": "train.jsonl"}}, strict=False)
SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is run in place of trainings, a program each, and the processes that were started."""

    class Started(list[subprocess.Popen[bytes]]):
        program = SLEEP

    processes = Started()

    def start(config: Path, run: Path, log: Path, device: int | None) -> subprocess.Popen[bytes]:
        assert config.read_text().startswith("model: tiny/model")
        with log.open("wb") as stream:
            command = [sys.executable, "-c", processes.program]
            processes.append(subprocess.Popen(command, stderr=stream, start_new_session=True))
        return processes[-1]

    monkeypatch.setattr(queue_module, "start_training", start)
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def states(queue: JobQueue) -> list[str]:
    return [job.state for job in queue.store.all()]


def ticked(queue: JobQueue, condition: Callable[[], bool]) -> None:
    until(lambda: queue.tick() or condition())


def test_jobs_of_one_device_wait_for_each_other(tmp_path: Path, started: Any) -> None:
    queue = JobQueue(JobStore(tmp_path))
    for device in (0, 0, 1, None, 1):
        queue.submit(CONFIG, device)
    queue.tick()
    # The fourth wants the whole machine; nobody who came later goes before it.
    assert states(queue) == ["pending", "queued", "pending", "queued", "queued"]
    started[0].kill()
    ticked(queue, lambda: states(queue)[1] == "pending")
    assert states(queue) == ["failed", "pending", "pending", "queued", "queued"]
    for process in started:
        process.kill()
    ticked(queue, lambda: states(queue)[3] == "pending")
    assert states(queue)[4] == "queued"
    assert len({job.id for job in queue.store.all()}) == 5


def test_another_server_finds_the_process_and_goes_on_with_the_queue(tmp_path: Path, started: Any) -> None:
    first = JobQueue(JobStore(tmp_path))
    first.submit(CONFIG)
    first.submit(CONFIG)
    first.tick()
    second = JobQueue(JobStore(tmp_path))
    second.tick()
    assert states(second) == ["pending", "queued"]
    started[0].kill()
    started[0].wait()
    ticked(second, lambda: states(second) == ["failed", "pending"])
    job = second.store.all()[0]
    assert "is gone and did not say why" in str(job.error)
    assert job.exit_code is None


def test_the_end_of_a_process_is_the_end_of_its_job(tmp_path: Path, started: Any) -> None:
    queue = JobQueue(JobStore(tmp_path))
    ends = [
        ("raise SystemExit(0)", "completed", None),
        ("raise SystemExit(75)", "cancelled", None),
        ("import sys; sys.exit('fettle: no file x')", "failed", "no file x"),
        ("1 / 0", "failed", "ZeroDivisionError: division by zero"),
        ("import os; os._exit(3)", "failed", "The process ended with exit code 3 and did not say why."),
        ("import os; os.kill(os.getpid(), 9)", "failed", "The process was killed by SIGKILL."),
    ]
    for program, state, error in ends:
        started.program = program
        job = queue.submit(CONFIG)
        ticked(queue, lambda id=job.id: queue.store.find(id).ended)  # type: ignore[union-attr]
        found = queue.store.find(job.id)
        assert found is not None
        assert (found.state, found.error) == (state, error), program
        assert (found.traceback is not None) == (program == "1 / 0")
    assert len(started) == len(ends)


def test_cancelling_takes_from_the_queue_or_ends_and_then_kills(tmp_path: Path, started: Any) -> None:
    queue = JobQueue(JobStore(tmp_path))
    started.program = (
        "import signal, sys, time; signal.signal(15, lambda *_: None); "
        "print('ready', file=sys.stderr, flush=True); time.sleep(600)"
    )
    running, waiting = queue.submit(CONFIG), queue.submit(CONFIG)
    queue.tick()
    assert queue.cancel(waiting.id).state == "cancelled"  # type: ignore[union-attr]
    until(lambda: b"ready" in queue.store.log_path(running).read_bytes())
    assert queue.cancel(running.id).state == "pending"  # type: ignore[union-attr]
    queue.tick()
    assert states(queue) == ["pending", "cancelled"]
    queue.cancel(running.id)
    ticked(queue, lambda: states(queue) == ["cancelled", "cancelled"])
    assert started[0].wait() == -signal.SIGKILL
    assert queue.cancel("none") is None

    assert queue.restart(running.id).state == "queued"  # type: ignore[union-attr]
    ticked(queue, lambda: states(queue) == ["cancelled", "pending"])  # It went to the end of the queue.
    assert queue.store.find(running.id).cancelled_at is None  # type: ignore[union-attr]


def test_a_number_of_a_process_that_was_given_to_another_is_not_the_job(tmp_path: Path) -> None:
    begun = process_start(os.getpid())
    assert begun is not None
    assert is_alive(os.getpid(), begun)
    assert not is_alive(os.getpid(), f"{begun}0")
    child = subprocess.Popen([sys.executable, "-c", ""])
    until(lambda: process_start(child.pid) is None)  # A zombie is no process that trains.
    child.wait()
    store = JobStore(tmp_path)
    store.write(Job("a", "running", 1.0, started_at=1.0, pid=os.getpid(), process_start="another"))
    assert JobQueue(store).look(store.all()[0]).state == "failed"


def test_what_an_earlier_start_left_says_nothing_of_the_later_one(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    folder = RunFolder.create(tmp_path / "a", config_yaml="model: tiny\n", metadata={})
    gone = Job("a", "running", 1.0, started_at=100.0, pid=1, process_start="another")
    for state, seen in (("completed", "completed"), ("interrupted", "cancelled"), ("failed", "failed")):
        folder.write_status({"state": state, "updated_at": 101.0, "reason": "loss is NaN"})
        assert JobQueue(store).look(gone).state == seen
        assert JobQueue(store).look(replace(gone, started_at=102.0)).state == "failed"
    assert JobQueue(store).look(gone).error == "loss is NaN"


def test_files_that_are_no_jobs_are_left_out(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    store.write(Job("good", "queued", 1.0))
    folder = tmp_path / ".fettle" / "jobs"
    for name, content in {
        "torn": "{", "list": "[]", "other": json.dumps(Job("../x", "queued", 1.0).to_json()),
        "state": '{"id": "state", "state": "odd", "created_at": 1}', "empty": "",
    }.items():  # fmt: skip
        (folder / f"{name}.json").write_text(content)
    assert [job.id for job in store.all()] == ["good"]
    assert store.find("../x") is None


def test_no_job_is_written_through_a_link_or_into_a_run(tmp_path: Path) -> None:
    root, outside = tmp_path / "runs", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / ".fettle").symlink_to(outside)
    with pytest.raises(RunError, match="leads out of the served folder"):
        JobQueue(JobStore(root)).submit(CONFIG)
    run = RunFolder.create(tmp_path / "run", config_yaml="model: tiny\n", metadata={}).path
    with pytest.raises(RunError, match="is a run itself"):
        JobQueue(JobStore(run)).submit(CONFIG)


def test_the_error_is_the_last_that_was_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("step\nTraceback (most recent call last):\n  File x\nOSError: \x1b[31mone\nfettle: two\n")
    error, traceback = failure(log, 1)
    assert error == "two"
    assert traceback == "Traceback (most recent call last):\n  File x\nOSError: one\nfettle: two"
    assert failure(tmp_path / "none", None)[1] is None
