"""Checkpoints leave by way of the trash: cut short at any instant, nothing else is lost."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fettle.errors import RunError
from fettle.runs import (
    discard_checkpoints,
    discarded,
    list_checkpoints,
    pin_checkpoint,
    unpin_checkpoint,
    verify_checkpoint,
    write_checkpoint,
)


def save(folder: Path, *steps: int) -> list[Path]:
    def fill(path: Path) -> None:
        for name in ("adapter", "optimizer"):
            (path / f"{name}.safetensors").write_bytes(os.urandom(1 << 12))

    return [write_checkpoint(folder, step, fill, {"step": step, "run": "r"}) for step in steps]


def steps_in(folder: Path) -> list[int]:
    return [step for step, _ in list_checkpoints(folder)]


def test_what_is_discarded_is_gone_and_the_rest_is_whole(tmp_path: Path) -> None:
    paths = save(tmp_path, 100, 200, 300)
    discard_checkpoints(paths[:2])
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-300"]
    assert verify_checkpoint(paths[2]) is None


def test_all_are_in_the_trash_before_the_first_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = save(tmp_path, 100, 200, 300)

    def power_cut(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("fettle.runs.trash.shutil.rmtree", power_cut)
    with pytest.raises(RunError, match="cannot be emptied: Input/output error"):
        discard_checkpoints(paths[:2])
    assert steps_in(tmp_path) == [300]
    assert [verify_checkpoint(path) for path in discarded(tmp_path)] == [None, None]


def test_the_trash_of_a_removal_that_was_cut_short_is_emptied_by_the_next(tmp_path: Path) -> None:
    trash = tmp_path / ".trash"
    save(trash, 100)
    (trash / "notes.txt").write_text("not ours")
    paths = save(tmp_path, 100, 200)
    discard_checkpoints(paths[:1])  # A later checkpoint of a step that is in the trash already.
    assert steps_in(tmp_path) == [200]
    assert [p.name for p in trash.iterdir()] == ["notes.txt"]


def test_nothing_but_a_checkpoint_folder_is_ever_moved(tmp_path: Path) -> None:
    other = tmp_path / "model"
    other.mkdir()
    file = tmp_path / "checkpoint-1"
    file.write_text("x")
    paths = save(tmp_path, 100)
    for path in (other, file, tmp_path):
        with pytest.raises(RunError, match="is no checkpoint folder"):
            discard_checkpoints([paths[0], path])
    assert other.is_dir()
    assert paths[0].is_dir()
    discard_checkpoints([tmp_path / "checkpoint-7"])  # Removed by somebody else.


def test_a_link_is_removed_and_what_it_points_to_stays(tmp_path: Path) -> None:
    kept = save(tmp_path / "elsewhere", 100)[0]
    link = tmp_path / "checkpoint-100"
    link.symlink_to(kept)
    discard_checkpoints([link])
    assert not link.exists()
    assert verify_checkpoint(kept) is None


def test_a_trash_that_cannot_be_made_is_an_error_and_nothing_is_moved(tmp_path: Path) -> None:
    paths = save(tmp_path, 100)
    (tmp_path / ".trash").write_text("in the way")
    with pytest.raises(RunError, match=r"checkpoint-100: cannot be moved to .*\.trash"):
        discard_checkpoints(paths)
    assert verify_checkpoint(paths[0]) is None


PRUNE = """
import sys
from pathlib import Path
from fettle.runs import discard_checkpoints
paths = [Path(p) for p in sys.argv[1:]]
print("go", flush=True)
discard_checkpoints(paths)
"""


@pytest.mark.parametrize("kills", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_a_kill_while_removing_loses_nothing_that_was_to_stay(tmp_path: Path, kills: int) -> None:
    rng = random.Random(0)
    (saved,) = save(tmp_path, 1)
    for round_ in range(kills):
        folder = tmp_path / str(round_)
        paths = [Path(shutil.copytree(saved, folder / f"checkpoint-{step}")) for step in range(1, 31)]
        going, staying = paths[:-2], paths[-2:]
        child = subprocess.Popen(
            [sys.executable, "-c", PRUNE, *map(str, going)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.uniform(0, 0.01))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert [verify_checkpoint(path) for path in staying] == [None, None]
        still = {step for step, _ in list_checkpoints(folder)} - {29, 30}
        # Before the last was renamed, nothing was deleted: each is whole, in its place or in the trash.
        assert all(verify_checkpoint(folder / f"checkpoint-{step}") is None for step in still)
        if still:
            in_trash = discarded(folder)
            assert len(in_trash) + len(still) == len(going)
            assert all(verify_checkpoint(path) is None for path in in_trash)
        discard_checkpoints([path for path in going if path.exists()])
        assert steps_in(folder) == [29, 30]


def test_a_pin_outlives_a_step_that_is_saved_again(tmp_path: Path) -> None:
    (path,) = save(tmp_path, 100)
    pin_checkpoint(path)
    save(tmp_path, 100)
    assert (path / "PINNED").exists()
    assert verify_checkpoint(path) is None
    unpin_checkpoint(path)
    unpin_checkpoint(path)
    assert not (path / "PINNED").exists()
    with pytest.raises(RunError, match="cannot be pinned"):
        pin_checkpoint(tmp_path / "checkpoint-1")
