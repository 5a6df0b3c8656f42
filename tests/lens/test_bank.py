"""The bank: what is in it is whole, of one model and one spec, and stands there once."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from fettle.errors import DataError, ModelError, RunError
from fettle.lens import bank as module
from fettle.lens.bank import Bank
from fettle.lens.spec import ExtractionSpec

IDENTITY: dict[str, Any] = {"weights": "w", "tokenizer": "t", "spec": {"layers": [1, 3], "dtype": "float32"}}
RNG = np.random.default_rng(0)


def vectors(count: int) -> Any:
    return RNG.normal(size=(count, 2, 4)).astype(np.float32)


def filled(folder: Path, texts: list[str], values: Any) -> Bank:
    bank = Bank(folder, IDENTITY)
    with bank.writing():
        bank.add(texts, values)
    return bank


def test_what_was_added_is_read_again_by_another_process_in_any_order(tmp_path: Path) -> None:
    texts, values = ["a", "b", "c"], vectors(3)
    filled(tmp_path, texts, values)
    again = Bank(tmp_path, IDENTITY)
    assert again.missing(["c", "d", "a", "d"]) == [1]
    assert np.array_equal(again.read(["c", "a", "c"], 3), values[[2, 0, 2], 1])
    assert np.array_equal(again.read(["b"], 1), values[[1], 0])
    assert "b" in again
    assert "d" not in again
    with pytest.raises(DataError, match="no vector of 'd': it was not extracted"):
        again.read(["a", "d"], 1)
    with pytest.raises(DataError, match=r"holds layers \[1, 3\], not 2"):
        again.read(["a"], 2)


def test_a_shard_is_written_at_least_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = Bank(tmp_path, IDENTITY)
    with bank.writing():
        bank.add(["a"], vectors(1))
        assert Bank(tmp_path, IDENTITY).missing(["a"]) == [0]
        monkeypatch.setattr(module, "FLUSH_SECONDS", 0.0)
        bank.add(["b"], vectors(1))
        assert Bank(tmp_path, IDENTITY).missing(["a", "b"]) == []


def test_shards_are_written_as_they_fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD_BYTES", 64)
    values = vectors(6)
    bank = Bank(tmp_path, IDENTITY)
    with bank.writing():
        for i in range(6):
            bank.add([str(i)], values[i : i + 1])
            assert np.array_equal(bank.read([str(i), "0"], 1), values[[i, 0], 0])
    assert len(list(tmp_path.glob("shard-*.safetensors"))) == 3
    assert np.array_equal(Bank(tmp_path, IDENTITY).read([str(i) for i in range(6)], 1), values[:, 0])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"weights": "v"}, "weights 'w', not 'v'"),
        ({"tokenizer": "s"}, "tokenizer 't', not 's'"),
        ({"spec": {"layers": [1, 3], "dtype": "bfloat16"}}, "spec.dtype .float32., not .bfloat16."),
    ],
)
def test_another_model_or_spec_never_reads_a_bank(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    filled(tmp_path, ["a"], vectors(1))
    with pytest.raises(ModelError, match=told):
        Bank(tmp_path, {**IDENTITY, **changed})
    one = Bank.below(tmp_path / "banks", IDENTITY)
    with one.writing():
        one.add(["a"], vectors(1))
    assert "a" in Bank.below(tmp_path / "banks", IDENTITY)
    assert "a" not in Bank.below(tmp_path / "banks", {**IDENTITY, **changed})


def test_every_key_of_a_spec_makes_another_bank(tmp_path: Path) -> None:
    first = ExtractionSpec(layers=(1,))
    changes: list[dict[str, Any]] = [
        {"layers": (1, 2)}, {"pooling": "last"}, {"template": "chat"}, {"dtype": "bfloat16"},
        {"max_tokens": 9}, {"attention": "eager"}, {"exclude_special": False}, {"exclude_sinks": 0},
    ]  # fmt: skip
    specs = [first, *(ExtractionSpec.model_validate({**first.model_dump(), **change}) for change in changes)]
    banks = [Bank.below(tmp_path, {**IDENTITY, "spec": spec.model_dump(mode="json")}) for spec in specs]
    assert len({bank.folder for bank in banks}) == len(specs)
    untested = ExtractionSpec.model_fields.keys() - {key for change in changes for key in change}
    assert untested == {"source", "generation"}


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_nan_is_refused_by_layer_and_text_and_the_others_are_kept(tmp_path: Path, poison: float) -> None:
    values = vectors(3)
    values[1, 1, 2] = poison
    bank = Bank(tmp_path, IDENTITY)
    with (
        pytest.raises(DataError, match="layer 3: the activation of 'b' holds NaN or infinity"),
        bank.writing(),
    ):
        bank.add(["a", "b", "c"], values)
    again = Bank(tmp_path, IDENTITY)
    assert again.missing(["a", "b", "c"]) == [1]


def test_a_damaged_shard_is_extracted_again_and_a_damaged_index_told(tmp_path: Path) -> None:
    filled(tmp_path, ["a", "b"], vectors(2))
    filled(tmp_path, ["c"], vectors(1))
    shard = tmp_path / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-4])
    bank = Bank(tmp_path, IDENTITY)
    assert bank.missing(["a", "b", "c"]) == [0, 1]
    values = vectors(2)
    with bank.writing():
        bank.add(["a", "b"], values)
    again = Bank(tmp_path, IDENTITY)
    assert again.missing(["a", "b", "c"]) == []
    assert np.array_equal(again.read(["b"], 3), values[1:, 1])
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        Bank(tmp_path, IDENTITY)


def test_two_processes_do_not_write_at_once(tmp_path: Path) -> None:
    other = FileLock(tmp_path / ".lock")
    with (
        other,
        pytest.raises(RunError, match="another process extracts into this bank"),
        Bank(tmp_path, IDENTITY).writing(),
    ):
        pass


KILLED = """
import os, signal, sys
import numpy as np
from pathlib import Path
from fettle.lens import bank as module
from fettle.lens.bank import Bank
module.SHARD_BYTES = 1
bank = Bank(Path(sys.argv[1]), {identity!r})
replace, written = module.replace_file, 0
def dying(path, content):
    global written
    written += 1
    if written == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(path, content)
module.replace_file = dying
with bank.writing():
    for i in range(4):
        bank.add([str(i)], np.full((1, 2, 4), i, dtype=np.float32))
"""


@pytest.mark.parametrize("write", [1, 2, 3, 6, 8])
def test_a_kill_at_any_write_leaves_a_bank_that_goes_on(tmp_path: Path, write: int) -> None:
    program = KILLED.replace("{identity!r}", repr(IDENTITY))
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path), str(write)], env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    bank = Bank(tmp_path, IDENTITY)
    missing = bank.missing([str(i) for i in range(4)])
    # Each vector is two writes: its shard, then the index.
    assert missing == list(range((write - 1) // 2, 4))
    with bank.writing():
        for i in missing:
            bank.add([str(i)], np.full((1, 2, 4), i, dtype=np.float32))
    found = Bank(tmp_path, IDENTITY).read([str(i) for i in range(4)], 3)
    assert found[:, 0].tolist() == [0, 1, 2, 3]
