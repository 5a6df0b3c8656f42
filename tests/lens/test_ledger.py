"""The ledger of sealed tests: one for all folders that packs go into."""

from pathlib import Path

import pytest

from fettle.errors import RunError
from fettle.lens.ledger import FILE, Ledger


def test_looks_are_counted_by_test_and_model_whatever_folder_they_go_into(tmp_path: Path) -> None:
    def opened(test: str, weights: str, key: str, out: str = "a", known: int = 0) -> int:
        return Ledger(tmp_path / "bank").open(test, weights, key, Path(out), known)

    assert opened("test", "model", "first") == 1
    assert opened("test", "model", "first") == 1
    assert opened("test", "model", "second", "b") == 2
    assert opened("test", "other model", "first") == 1
    assert opened("other test", "model", "first") == 1
    assert opened("test", "model", "third", "c") == 3
    # A pack that was brought here says how often it was judged elsewhere.
    assert opened("test", "model", "third", "c", known=7) == 8
    with (tmp_path / "bank" / FILE).open("ab") as stream:
        stream.write(b'{"test": "te')
    assert opened("test", "model", "third", "c") == 3
    assert opened("test", "model", "fourth") == 4
    assert opened("test", "model", "fourth") == 4


def test_a_look_that_cannot_be_noted_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bank").write_text("a file")
    with pytest.raises(RunError, match="cannot be written"):
        Ledger(tmp_path / "bank").open("test", "model", "key", tmp_path)
