"""Checkpoints are complete or absent, and a damaged one is skipped with one line."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from fettle.errors import RunError
from fettle.runs import latest_checkpoint, verify_checkpoint, write_checkpoint


def fill(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(os.urandom(1 << 18))
    (folder / "nested").mkdir()
    (folder / "nested" / "optimizer.pt").write_bytes(b"state")


def test_a_checkpoint_is_whole_and_says_what_it_is(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 250, fill, {"step": 250, "score": 0.5})
    assert path.name == "checkpoint-250"
    assert verify_checkpoint(path) is None
    assert latest_checkpoint(tmp_path) == (path, [])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda p: (p / "nested" / "optimizer.pt").unlink(), "nested/optimizer.pt is missing"),
        (lambda p: (p / "weights.safetensors").write_bytes(b"short"), "has 5 bytes"),
        (lambda p: (p / "nested" / "optimizer.pt").write_bytes(b"stale"), "does not match its hash"),
        (lambda p: (p / "manifest.json").write_bytes(b"{"), "manifest.json is missing or unreadable"),
    ],
)
def test_a_damaged_newest_one_is_skipped_with_one_line(tmp_path: Path, damage: object, reason: str) -> None:
    older = write_checkpoint(tmp_path, 100, fill, {})
    newest = write_checkpoint(tmp_path, 200, fill, {})
    damage(newest)  # type: ignore[operator]
    found, lines = latest_checkpoint(tmp_path)
    assert found == older
    assert len(lines) == 1
    assert "checkpoint-200 is damaged" in lines[0]
    assert reason in lines[0]


def test_a_step_saved_again_replaces_the_old_one(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, fill, {"n": 1})
    path = write_checkpoint(tmp_path, 1, lambda folder: (folder / "a").write_text("new") and None, {"n": 2})
    assert verify_checkpoint(path) is None
    assert {p.name for p in path.iterdir()} == {"a", "fettle.json", "manifest.json"}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-1"]


def test_a_disk_that_refuses_is_an_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "a").write_text("x")
        raise OSError(28, "No space left on device")

    older = write_checkpoint(tmp_path, 1, fill, {})
    with pytest.raises(RunError, match=r"checkpoint-2.*No space left"):
        write_checkpoint(tmp_path, 2, fails, {})
    assert latest_checkpoint(tmp_path) == (older, [])


def kill_while_saving(folder: Path, seconds: float) -> None:
    child = os.fork()
    if child == 0:
        for step in range(2, 10_000):
            write_checkpoint(folder, 2 + step % 3, fill, {"step": step})
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("kills", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_a_kill_while_saving_never_leaves_an_unusable_run(tmp_path: Path, kills: int) -> None:
    write_checkpoint(tmp_path, 1, fill, {})
    rng = random.Random(0)
    for _ in range(kills):
        kill_while_saving(tmp_path, rng.uniform(0.002, 0.06))
        found, damaged = latest_checkpoint(tmp_path)
        assert found is not None
        assert damaged == []
