"""The event log: nothing acknowledged is lost, nothing odd breaks it."""

import json
import math
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fettle.runs import EventLog, LogFollower


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]


def test_what_json_cannot_hold_is_made_explicit(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "m.jsonl")
    values = {
        "nan": math.nan, "inf": np.float32("inf"), "low": -math.inf, "none": None, "big": 10**30,
        "flag": True, "scalar": np.array(3), "half": np.float64(0.5), 7: "key", "text": "\ud800",
    }  # fmt: skip
    log.append("train", values)  # type: ignore[arg-type]
    log.close()
    (row,) = rows(tmp_path / "m.jsonl")
    assert [row["nan"], row["inf"], row["low"], row["none"]] == [None] * 4
    assert [row["nan_nonfinite"], row["inf_nonfinite"], row["low_nonfinite"]] == ["nan", "inf", "-inf"]
    assert "none_nonfinite" not in row
    assert (row["big"], row["flag"], row["scalar"], row["half"], row["7"]) == (1e30, True, 3, 0.5, "key")


def test_a_torn_last_line_is_closed_before_the_next_record(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"type":"train","step":1}\n{"type":"tra')
    log = EventLog(path)
    log.append("train", {"step": 2})
    log.close()
    follower = LogFollower(path)
    assert [r["step"] for r in follower.poll()] == [1, 2]
    assert follower.skipped == 1


def test_no_acknowledged_row_is_lost_on_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        log = EventLog(path)
        for step in range(100_000):
            log.append("train", {"step": step})
            os.write(write, step.to_bytes(4, "little"))
    seen = b"".join(os.read(read, 4) for _ in range(500))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(write)
    rest = b"".join(iter(lambda: os.read(read, 1 << 16), b""))
    acknowledged = (len(seen) + len(rest)) // 4
    assert acknowledged >= 500
    assert [r["step"] for r in LogFollower(path).poll()][:acknowledged] == list(range(acknowledged))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True)
    if done.returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_raises_nothing_and_loses_nothing_once_there_is_room(small_disk: Path) -> None:
    log = EventLog(small_disk / "m.jsonl")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 40_000)
    for step in range(1000):
        log.append("train", {"step": step, "text": "y" * 100})
    assert log.dropped > 500
    ballast.unlink()
    (small_disk / "m.jsonl").stat()
    for step in range(1000, 1010):
        log.append("train", {"step": step})
    written = len(LogFollower(small_disk / "m.jsonl").poll())
    assert written + log.dropped == 1010
    log.close()
    steps = [r["step"] for r in LogFollower(small_disk / "m.jsonl").poll()]
    assert steps == sorted(steps)


def test_after_close_records_are_counted_as_dropped(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "m.jsonl")
    log.close()
    log.append("train", {})
    assert log.dropped == 1


def test_a_follower_reads_only_what_is_new_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    follower = LogFollower(path)
    assert follower.poll() == []
    path.write_bytes(b'{"step":1}\n{"st')
    assert follower.poll() == [{"step": 1}]
    with path.open("ab") as stream:
        stream.write(b'ep":2}\n')
    assert follower.poll() == [{"step": 2}]
    assert follower.poll() == []


@pytest.mark.parametrize("how", ["truncated", "replaced"])
def test_a_follower_notices_another_file(tmp_path: Path, how: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step":1}\n{"step":2}\n')
    follower = LogFollower(path)
    follower.poll()
    if how == "replaced":
        (tmp_path / "other").write_bytes(b'{"step":7}\n')
        (tmp_path / "other").replace(path)
    else:
        path.write_bytes(b'{"step":7}\n')
    assert follower.poll() == [{"step": 7}]
    assert follower.generation == 1


def test_odd_lines_are_counted_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    deep = b"[" * 200_000 + b"]" * 200_000
    long = json.dumps({"step": 3, "text": "x" * 10_000_000}).encode()
    path.write_bytes(b"\xff\xfe\n[1]\n" + deep + b'\n{"step":}\n' + long + b'\n{"step":4}\n')
    follower = LogFollower(path)
    assert [r["step"] for r in follower.poll()] == [3, 4]
    assert follower.skipped == 4


def test_numbers_that_json_does_not_know_are_none_and_say_what_they_were(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(
        json.dumps({"step": 1, "loss": math.nan, "norm": -math.inf}) + '\n{"big": 1e400, "a": 1}\n'
    )
    assert LogFollower(path).poll() == [
        {"step": 1, "loss": None, "loss_nonfinite": "nan", "norm": None, "norm_nonfinite": "-inf"},
        {"big": None, "big_nonfinite": "inf", "a": 1},
    ]


def test_a_file_without_line_ends_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fettle.runs.follow.READ_BYTES", 100)
    monkeypatch.setattr("fettle.runs.follow.LONGEST_LINE_BYTES", 1000)
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step":1}\n{"x":"' + b"x" * 5000)
    follower = LogFollower(path)
    assert follower.poll() == [{"step": 1}]
    assert (follower.skipped, follower.torn) == (1, True)
    with path.open("ab") as stream:
        stream.write(b"x" * 5000 + b'"}\n{"step":2}\n')
    assert follower.poll() == [{"step": 2}]
    assert (follower.skipped, follower.torn) == (1, False)


def test_a_last_line_that_lacks_only_its_end_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step":1}\n{"step":2}')
    follower = LogFollower(path)
    assert [r["step"] for r in follower.poll()] == [1, 2]
    with path.open("ab") as stream:
        stream.write(b'\n{"step":3}\n')
    assert [r["step"] for r in follower.poll()] == [3]
