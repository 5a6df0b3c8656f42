"""The live stream: nothing lost, nothing told twice, and nobody who can hold it up."""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from fettle.runs import EventLog, RunFolder
from fettle.runs.folder import hold
from fettle.runs.row_stream import RowLog
from fettle.server.feed import INTERVAL_SECONDS
from server.live_server import serving
from server.runs_on_disk import begin, evaluate, finished, train, write_status

WAIT = 30.0


@dataclass
class Event:
    """One event as a browser sees it."""

    name: str
    data: Any
    id: str | None


def events_of(answer: httpx.Response) -> Iterator[Event]:
    """Parse server-sent events as the specification says."""
    name, data, id = "message", "", None
    for line in answer.iter_lines():
        if not line:
            if data:
                yield Event(name, json.loads(data), id)
            name, data = "message", ""
        elif line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            data += line[6:]
        elif line.startswith("id: "):
            id = line[4:]


class Watcher:
    """Reads a stream in a thread of its own, as a page does."""

    def __init__(
        self, client: httpx.Client, run: str, headers: dict[str, Any] | None = None, **query: str
    ) -> None:
        self.events: list[Event] = []
        self.ended = threading.Event()
        self._answer: httpx.Response | None = None
        self._url = client.base_url.join(
            f"/api/stream?run={run}" + "".join(f"&{k}={v}" for k, v in query.items())
        )
        self._headers = {**dict(client.headers), **(headers or {})}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with (
            suppress(httpx.HTTPError),
            httpx.Client(timeout=WAIT) as client,
            client.stream("GET", self._url, headers=self._headers) as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            for event in events_of(answer):
                self.events.append(event)
        self.ended.set()

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    def until(self, true: Any) -> None:
        """Wait until a condition holds."""
        for _ in range(int(WAIT / 0.02)):
            if true():
                return
            time.sleep(0.02)
        raise AssertionError(f"not in time; seen {[e.name for e in self.events]}")

    def steps(self) -> list[Any]:
        """Steps of the train rows so far."""
        columns: list[str] = []
        found = []
        for event in self.events:
            if event.name == "columns":
                columns = event.data["train"]
            elif event.name == "rows":
                found += [row[columns.index("step")] for row in event.data.get("train", [])]
        return found


@dataclass
class Live:
    """A run that is being trained, and its server."""

    folder: RunFolder
    log: EventLog
    client: httpx.Client

    def cursor(self) -> str:
        return str(self.client.get("/api/runs/live").json()["cursor"])


FEED = "fettle.server.feed"
QUICK: dict[str, float] = {f"{FEED}.INTERVAL_SECONDS": 0.01, f"{FEED}.STATUS_SECONDS": 0.1}


@contextmanager
def training(path: Path, **constants: float) -> Generator[Live]:
    """A run that begins, watched by a quick server; `constants` are those of the feed."""
    folder, log = begin(path / "runs" / "live")
    told = {**QUICK, **{f"{FEED}.{name}": value for name, value in constants.items()}}
    with folder.lock(), serving(path / "runs", constants=told) as client:
        yield Live(folder, log, client)


def test_what_is_logged_arrives_once_and_in_order(tmp_path: Path) -> None:
    with training(tmp_path) as live:
        train(live.log, range(1, 4))
        watcher = Watcher(live.client, "live", since=live.cursor())
        watcher.until(lambda: watcher.named("columns"))
        for step in range(4, 40):
            train(live.log, range(step, step + 1))
            time.sleep(0.005)
        evaluate(live.folder, live.log, 39, 100)
        watcher.until(lambda: any("fixed_eval" in e.data for e in watcher.named("rows")))
        assert watcher.steps() == list(range(4, 40))
        told = next(e for e in watcher.named("rows") if "fixed_eval" in e.data).data["fixed_eval"][0]
        assert (
            told
            == live.client.get("/api/runs/live/export?type=fixed_eval").json()["records"]["fixed_eval"][0]
        )


def test_batches_come_at_most_ten_times_a_second(tmp_path: Path) -> None:
    with training(tmp_path, INTERVAL_SECONDS=INTERVAL_SECONDS) as live:
        watcher = Watcher(live.client, "live")
        watcher.until(lambda: watcher.named("status"))
        started = time.monotonic()
        for step in range(1, 301):
            train(live.log, range(step, step + 1))
            time.sleep(0.001)
        watcher.until(lambda: len(watcher.steps()) == 300)
        seconds = time.monotonic() - started
        assert 1 <= len(watcher.named("rows")) <= 10 * seconds + 2


def test_values_are_those_of_the_log_to_nine_digits_and_nan_is_said(tmp_path: Path) -> None:
    with training(tmp_path) as live:
        watcher = Watcher(live.client, "live")
        watcher.until(lambda: watcher.named("status"))
        train(live.log, range(1, 5), {1: 1 / 3, 2: math.nan, 3: math.inf, 4: 2e-12 / 3})
        watcher.until(lambda: len(watcher.steps()) == 4)
        columns = watcher.named("columns")[-1].data["train"]
        rows = [row for event in watcher.named("rows") for row in event.data["train"]]
        loss = [row[columns.index("loss")] for row in rows]
        assert loss == [0.333333333, "nan", "inf", 6.66666667e-13]
        assert [row[columns.index("epoch")] for row in rows] == [0.02, 0.04, 0.06, 0.08]
        times = [row[columns.index("timestamp")] for row in rows]
        assert all(abs(at - time.time()) < 60 and round(at, 3) == at for at in times)


def test_a_reader_that_comes_back_goes_on_where_it_was(tmp_path: Path) -> None:
    with training(tmp_path) as live:
        watcher = Watcher(live.client, "live")
        watcher.until(lambda: watcher.named("status"))
        train(live.log, range(1, 6))
        watcher.until(lambda: len(watcher.steps()) == 5)
        last = watcher.events[-1].id
        assert last is not None
        train(live.log, range(6, 9))
        again = Watcher(live.client, "live", headers={"Last-Event-ID": last}, since="old.0-0:1")
        again.until(lambda: again.steps() == [6, 7, 8])
        assert not again.named("rewind")
        train(live.log, range(9, 10))
        again.until(lambda: again.steps() == [6, 7, 8, 9])


def test_a_reader_goes_on_after_the_server_was_started_again(tmp_path: Path) -> None:
    with training(tmp_path) as live:
        train(live.log, range(1, 6))
        last = live.cursor()
        log = live.log
    train(log, range(6, 8))
    with RunFolder(tmp_path / "runs" / "live").lock(), serving(tmp_path / "runs") as client:
        watcher = Watcher(client, "live", headers={"Last-Event-ID": last})
        watcher.until(lambda: watcher.steps() == [6, 7])
        assert not watcher.named("rewind")


@pytest.mark.parametrize(
    "garbage", ["x", ":", "a.0-0:-1", "9" * 400, "%00", "ü:1", "85.0-0:1e9", "{seg}:99999"]
)
def test_a_garbage_event_id_gets_a_rewind(tmp_path: Path, garbage: str) -> None:
    with training(tmp_path) as live:
        train(live.log, range(1, 6))
        garbage = garbage.replace("{seg}", live.cursor().rpartition(":")[0])
        watcher = Watcher(live.client, "live", headers={"Last-Event-ID": garbage.encode()})
        watcher.until(lambda: watcher.named("rewind"))
        assert watcher.named("rewind")[0].data == {"reason": "unknown"}
        train(live.log, range(6, 8))
        watcher.until(lambda: watcher.steps() == [6, 7])


def test_a_resume_and_a_replaced_file_rewind(tmp_path: Path) -> None:
    with training(tmp_path) as live:
        train(live.log, range(1, 9))
        watcher = Watcher(live.client, "live")
        watcher.until(lambda: watcher.named("status"))
        live.log.append("resume", {"step": 4})
        watcher.until(lambda: len(watcher.named("rewind")) == 1)
        train(live.log, range(5, 7))
        watcher.until(lambda: watcher.steps() == [5, 6])
        aside = tmp_path / "aside"
        log = EventLog(aside)
        log.append("start", {"step": 0})
        train(log, range(1, 3))
        log.close()
        aside.replace(live.folder.metrics_path)
        watcher.until(lambda: len(watcher.named("rewind")) == 2)
        answer = live.client.get("/api/runs/live/metrics?columns=step").json()
        assert answer["columns"]["step"] == [1, 2]


def test_a_truncated_and_a_deleted_run_do_not_end_the_server(tmp_path: Path) -> None:
    with training(tmp_path) as live:
        train(live.log, range(1, 9))
        watcher = Watcher(live.client, "live")
        watcher.until(lambda: watcher.named("status"))
        os.truncate(live.folder.metrics_path, 10)
        watcher.until(lambda: watcher.named("rewind"))
        live.folder.path.rename(tmp_path / "away")
        watcher.until(lambda: watcher.named("end"))
        assert watcher.named("end")[0].data["state"] == "gone"
        assert live.client.get("/api/runs/live").status_code == 404
        assert live.client.get("/api/health").status_code == 200


def test_the_status_is_told_when_it_changes(tmp_path: Path) -> None:
    with training(tmp_path) as live:
        watcher = Watcher(live.client, "live")
        watcher.until(lambda: watcher.named("status"))
        assert watcher.named("status")[0].data["state"] == "running"
        write_status(live.folder, state="running", step=77)
        watcher.until(lambda: watcher.named("status")[-1].data["step"] == 77)
        assert watcher.named("status")[-1].data["status"]["step"] == 77
        time.sleep(0.3)
        assert len(watcher.named("status")) == 2  # Only when it changed.


def test_a_stream_ends_with_the_run(tmp_path: Path) -> None:
    with training(tmp_path) as live:
        watcher = Watcher(live.client, "live")
        watcher.until(lambda: watcher.named("status"))
        train(live.log, range(1, 3))
        live.log.append("end", {"step": 2, "state": "completed"})
        write_status(live.folder, state="completed", step=2)
        time.sleep(0.3)
        assert not watcher.named("end")  # Its trainer still holds it.
        log, folder, client = live.log, live.folder, live.client
        log.close()
        live.folder.path.joinpath(".lock").unlink()
        watcher.until(watcher.ended.is_set)
        assert [e.name for e in watcher.events][-1] == "end"
        assert watcher.named("end")[0].data == {"state": "completed"}
        assert watcher.steps() == [1, 2]
        assert client.get("/api/health").json()["clients"] == 0
        assert folder.path.is_dir()


def test_a_run_that_has_ended_is_told_at_once(tmp_path: Path) -> None:
    finished(tmp_path / "runs" / "a", steps=6)
    with serving(tmp_path / "runs") as client:
        for _ in range(2):
            watcher = Watcher(client, "a")
            watcher.until(watcher.ended.is_set)
            assert [e.name for e in watcher.events] == ["status", "columns", "end"]


def test_a_stream_goes_on_while_checkpoints_of_an_ended_run_are_evaluated(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "runs" / "live")
    log.append("end", {"step": 2, "state": "completed"})
    log.close()
    rows = RowLog(folder.evaluations_path, "evaluation")
    with serving(tmp_path / "runs", constants=QUICK) as client:
        with hold(folder.evaluations_lock_path, "busy"):
            watcher = Watcher(client, "live")
            watcher.until(lambda: watcher.named("columns"))
            rows.append([{"step": 2, "data": "hard", "exact_match": 0.5}])
            watcher.until(lambda: watcher.named("rows"))
            assert list(watcher.named("rows")[0].data) == ["evaluation"]
            time.sleep(0.3)
            assert not watcher.named("end")
        watcher.until(watcher.ended.is_set)
        assert watcher.events[-1].name == "end"


def test_a_slow_reader_is_dropped_to_the_latest_and_slows_nobody(tmp_path: Path) -> None:
    with training(tmp_path, KEPT_BATCHES=8) as live:
        url = live.client.base_url
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect((url.host, url.port))
            slow.sendall(b"GET /api/stream?run=live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            watcher = Watcher(live.client, "live")
            watcher.until(lambda: watcher.named("status"))
            text = "x" * 300_000
            for i in range(36):  # 11 MB: more than any buffer between, in more batches than are kept.
                live.log.append("note", {"i": i, "text": text})
                watcher.until(
                    lambda i=i: [r["i"] for e in watcher.named("rows") for r in e.data["note"]][-1:] == [i]
                )
            slow.settimeout(WAIT)
            received = b""
            while b'"reason":"behind"' not in received[-200_000:]:
                block = slow.recv(1 << 16)
                assert block
                received += block
            live.log.append("note", {"i": 999})
            while b'"i":999' not in received[-200_000:]:
                received += slow.recv(1 << 16)
            assert len(received) < 7 / 8 * 36 * len(text)


def test_too_many_readers_are_turned_away_and_places_come_free(tmp_path: Path) -> None:
    from fettle.server.settings import Settings

    begin(tmp_path / "runs" / "live")
    folder = RunFolder(tmp_path / "runs" / "live")
    most = Settings(tmp_path).streams
    with folder.lock(), serving(tmp_path / "runs") as client:
        url = client.base_url
        lines = []
        refused = 0
        for _ in range(most + 20):
            line = socket.create_connection((url.host, url.port), timeout=WAIT)
            line.sendall(b"GET /api/stream?run=live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = line.recv(4096)
            refused += b" 503 " in head.split(b"\r\n")[0]
            if refused and b" 503 " in head:
                assert b"retry-after: 10" in head.lower()
            lines.append(line)
        assert refused == 20
        assert client.get("/api/health").json()["clients"] == most
        for line in lines:
            line.close()
        for _ in range(1500):
            if client.get("/api/health").json()["clients"] == 0:
                break
            time.sleep(0.02)
        assert client.get("/api/health").json()["clients"] == 0
        watcher = Watcher(client, "live")
        watcher.until(lambda: watcher.named("status"))


def test_a_run_that_is_not_there_has_no_stream(client: httpx.Client) -> None:
    assert client.get("/api/stream?run=nope").status_code == 404
    assert client.get("/api/stream").status_code == 422


def test_a_stream_is_packed_for_who_takes_it_and_flushed_at_once(tmp_path: Path) -> None:
    with training(tmp_path) as live:
        sizes: dict[str, int] = {}
        for encoding, first in (("gzip", 1), ("identity", 101)):
            headers = {"Accept-Encoding": encoding}
            with live.client.stream("GET", "/api/stream?run=live", headers=headers) as answer:
                assert answer.headers.get("content-encoding", "identity") == encoding
                parts = answer.iter_bytes()
                seen = next(parts)
                for step in range(first, first + 20):
                    before = seen.count(b"event: rows")
                    train(live.log, range(step, step + 1))
                    while seen.count(b"event: rows") == before:  # Each arrives before the next is logged.
                        seen += next(parts)
                sizes[encoding] = answer.num_bytes_downloaded
        assert sizes["gzip"] < 0.6 * sizes["identity"]
