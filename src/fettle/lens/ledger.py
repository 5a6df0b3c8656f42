"""How often a sealed test was looked at: what is tried again and again is not tested by it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from loguru import logger

from fettle.errors import RunError
from fettle.runs.json_object import parse_object

FILE = "sealed_tests.jsonl"


class Ledger:
    """Openings of all sealed tests, in a file beside the banks: whatever folder a pack goes into."""

    def __init__(self, banks: Path) -> None:
        self._path = banks / FILE

    def open(self, test: str, weights: str, key: str, out: Path, known: int = 0) -> int:
        """Note that lenses of a model are about to be judged on a test, by hash; how often they were.

        The same training again (`key`) is no other look, and another model's lenses are no rivals of these.
        `known` is how often the pack in `out` says it was, which may come from another machine.
        Raises RunError where it cannot be noted: a test that nobody counts is none.
        """
        before = {
            row.get("key") for row in self._rows() if (row.get("test"), row.get("weights")) == (test, weights)
        }
        if key not in before:
            row = {
                "test": test,
                "weights": weights,
                "key": key,
                "out": str(out.absolute()),
                "opened_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("ab") as stream:
                    # Begins a line: a row that was cut off must not swallow this one.
                    stream.write(b"\n" + orjson.dumps(row) + b"\n")
            except OSError as error:
                raise RunError(f"{self._path}: cannot be written: {error.strerror or error}") from error
        opened = max(len(before | {key}), known + 1)
        if opened > 1:
            logger.warning("the sealed test was opened {} times by now: what it chose looks too good", opened)
        return opened

    def _rows(self) -> list[dict[str, Any]]:
        """What stands there; of a line that was cut off, nothing."""
        lines = self._path.read_bytes().splitlines() if self._path.is_file() else []
        return [row for line in lines if (row := parse_object(line)) is not None]
