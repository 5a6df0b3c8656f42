"""The files of an evaluation: the only place that knows their names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from fettle.errors import RunError
from fettle.runs.folder import RESULTS, read_json, replace_file

METADATA = "metadata.json"
CONFIG = "config.yaml"
CONSOLIDATED = "consolidated_metrics.csv"
JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class ResultsFolder:
    """`run_<time>_<data>`: config.yaml, metadata.json, results by checkpoint, logs, report.

    Every file is written whole or not at all. Raises RunError where the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, root: Path, data: str, config_yaml: str) -> ResultsFolder:
        """A fresh folder below `root`, named by time and data."""
        stem = f"run_{datetime.now():%Y-%m-%d_%H-%M-%S}_{data}"
        path, count = root / stem, 2
        while path.exists():
            path, count = root / f"{stem}-{count}", count + 1
        folder = cls(path)
        # Before the files that a run has as well: what finds runs leaves this folder out by it.
        folder._write(f"{RESULTS}/{CONSOLIDATED}", b"")
        folder._write(CONFIG, config_yaml.encode())
        return folder

    @classmethod
    def unfinished(cls, root: Path, config_yaml: str) -> ResultsFolder | None:
        """The newest folder of the same configuration whose evaluation was cut short."""
        for path in sorted(root.glob("run_*"), reverse=True):
            metadata = read_json(path / METADATA)
            if metadata is None or metadata.get("state") == "completed":
                continue
            try:
                if (path / CONFIG).read_text(encoding="utf-8") == config_yaml:
                    return cls(path)
            except OSError:
                continue
        return None

    @classmethod
    def is_one(cls, path: Path) -> bool:
        """Whether a folder holds results of `fettle eval`."""
        return next(path.glob(f"{RESULTS}/**/summary.json"), None) is not None

    def write_metadata(self, values: Mapping[str, Any]) -> None:
        """What was evaluated, on what, and what it took."""
        self._write(METADATA, orjson.dumps(values, option=JSON_OPTIONS | orjson.OPT_INDENT_2, default=str))

    def write_result(
        self, name: str, summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]],
        predictions: Iterable[Mapping[str, Any]],
    ) -> None:  # fmt: skip
        """What came out for one checkpoint; `summary.json` last, so that it says the others are there."""
        lines = b"".join(orjson.dumps(row, option=JSON_OPTIONS) + b"\n" for row in predictions)
        self._write(f"{RESULTS}/{name}/predictions.jsonl", lines)
        self._write(f"{RESULTS}/{name}/metrics.csv", _csv(rows))
        text = orjson.dumps(summary, option=JSON_OPTIONS | orjson.OPT_INDENT_2)
        self._write(f"{RESULTS}/{name}/summary.json", text)

    def write_tasks(self, name: str, results: Mapping[str, Any]) -> None:
        """What lm-evaluation-harness gave for one checkpoint, as it gave it."""
        options = JSON_OPTIONS | orjson.OPT_INDENT_2
        self._write(f"{RESULTS}/{name}/tasks.json", orjson.dumps(results, option=options, default=str))

    def write_consolidated(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """One row a checkpoint."""
        self._write(f"{RESULTS}/{CONSOLIDATED}", _csv(rows))

    def read_summaries(self) -> dict[str, dict[str, Any]]:
        """`summary.json` of each result by its name, `step_10` or `step_10/<data>`."""
        root = self.path / RESULTS
        files = sorted(root.glob("**/summary.json"))
        return {str(file.parent.relative_to(root)): read_json(file) or {} for file in files}

    def read_metadata(self) -> dict[str, Any]:
        """What was evaluated, on what, and what it took; {} where it is not there."""
        return read_json(self.path / METADATA) or {}

    def write_report(self, page: str, picture: bytes | None = None) -> Path:
        """report.html, and its picture as plots/evaluation.png; returns the page's path."""
        if picture is not None:
            self._write("plots/evaluation.png", picture)
        self._write("report.html", page.encode())
        return self.path / "report.html"

    def log_path(self, name: str) -> Path:
        """Where the log of a checkpoint, or of the whole evaluation, is written."""
        return self.path / "logs" / f"{name}.log"

    def _write(self, name: str, data: bytes) -> None:
        path = self.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, data)
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
