"""What other tools call the numbers of a run: names that are known, and names that a file gives."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from fettle.errors import RunError

COLUMNS_FILE = "fettle-columns.yaml"

STEP_NAMES = ("step", "global_step", "train/global_step", "_step", "iteration", "iter", "current_steps")
TRAIN_NAMES: Mapping[str, tuple[str, ...]] = {
    "loss": (
        "loss",
        "train/loss",
        "train_loss",
        "loss/train",
        "Loss/train",
        "training/loss",
        "training_loss",
    ),
    "learning_rate": (
        "learning_rate",
        "train/learning_rate",
        "lr",
        "train/lr",
        "train/learning_rate_g0",
        "optim/lr",
    ),
    "grad_norm": ("grad_norm", "train/grad_norm", "train/global_grad_norm", "gradient_norm"),
    "epoch": ("epoch", "train/epoch"),
    "tokens": ("tokens", "num_tokens"),
    "completion_tokens": ("completion_tokens",),
    "tokens_per_sec": ("tokens_per_sec", "tokens_per_second", "train/tokens_per_sec", "throughput"),
    "completion_tokens_per_sec": ("completion_tokens_per_sec",),
    "step_time": ("step_time",),
    "timestamp": ("timestamp", "_timestamp", "time"),
}
EVAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "cross_entropy": (
        "cross_entropy",
        "eval_loss",
        "eval/loss",
        "val_loss",
        "val/loss",
        "valid_loss",
        "valid/loss",
        "validation_loss",
        "validation/loss",
        "loss/val",
        "Loss/val",
        "loss/validation",
        "Loss/validation",
    ),
    "exact_match": ("exact_match", "eval_exact_match", "eval/exact_match", "val_exact_match"),
    "expected_calibration_error": ("expected_calibration_error",),
    "entropy": (),
    "epoch": ("epoch", "eval/epoch", "train/epoch"),
    "samples": ("samples",),
    "tokens": (),
    "timestamp": ("timestamp", "_timestamp", "time"),
}
SECTIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "train": {"step": STEP_NAMES, **TRAIN_NAMES},
    "fixed_eval": {"step": STEP_NAMES, **EVAL_NAMES},
}
FLAG = "_nonfinite"
NONFINITE = {"nan": 1.0, "inf": 2.0, "-inf": 3.0}
"""What `<key>_nonfinite` says, as numbers (see `fettle.metrics.buckets`)."""
Layout = tuple[str, str, list[tuple[str, str]]]
"""Record type, the key of its step, and for each of its fields the key in the row."""
# A row is of a type where it holds one of these; everything else only accompanies them.
TELLING = {"train": ("loss",), "fixed_eval": ("cross_entropy", "exact_match")}


# Rows of a log share a few layouts; one whose every row is new must not fill the memory.
LAYOUTS = 1000


class ColumnNames:
    """For each record type and field of fettle, the names under which a row may hold it, best first."""

    def __init__(self, sections: Mapping[str, Mapping[str, tuple[str, ...]]]) -> None:
        self.sections = sections
        self._taken = {name for names in sections.values() for given in names.values() for name in given}
        self._layouts: dict[tuple[str, ...], list[Layout]] = {}

    def records(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The train and the fixed_eval record that a row of another tool holds; none of a row without.

        A row without a whole number as its step is no record. A key that nobody named stays, unless
        it would pass for a field of fettle's.
        """
        keys = tuple(row)
        layouts = self._layouts.get(keys)
        if layouts is None:
            if len(self._layouts) >= LAYOUTS:
                self._layouts.clear()
            layouts = self._layouts[keys] = list(self._find_layouts(row))
        return [
            {"type": type, **{ours: row[theirs] for ours, theirs in names}}
            for type, step, names in layouts
            if _is_whole(row[step])
        ]

    def _find_layouts(self, row: Mapping[str, Any]) -> Iterator[Layout]:
        for type, fields in self.sections.items():
            named = {ours: name for ours, names in fields.items() if (name := _first(names, row)) is not None}
            if "step" not in named or not any(field in named for field in TELLING[type]):
                continue
            rest = [(key, key) for key in row if key not in self._taken and key not in fields]
            flags = [(f"{o}{FLAG}", f"{name}{FLAG}") for o, name in named.items() if f"{name}{FLAG}" in row]
            yield type, named["step"], [pair for pair in (*rest, *named.items(), *flags) if pair[0] != "type"]


KNOWN = ColumnNames(SECTIONS)


def load_column_names(path: Path) -> ColumnNames:
    """The mapping of a YAML file such as `train: {step: global_step, loss: train/loss}`.

    What it does not name is looked for under the usual names. Raises RunError naming what is wrong.
    """
    import yaml

    try:
        value: Any = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        first = str(error).splitlines()[0]
        raise RunError(f"{path}: is no YAML ({first})") from error
    if not isinstance(value, dict) or not value:
        raise RunError(f"{path}: must hold `train` or `fixed_eval`, such as train: {{loss: train/loss}}")
    sections = {type: dict(fields) for type, fields in SECTIONS.items()}
    for type, given in cast("dict[Any, Any]", value).items():
        if type not in sections:
            raise RunError(f"{path}: {_unknown('section', type, sections)}")
        if not isinstance(given, dict):
            raise RunError(f"{path} [{type}]: must be a mapping, such as {{loss: train/loss}}")
        for ours, theirs in cast("dict[Any, Any]", given).items():
            if ours not in sections[type]:
                raise RunError(f"{path} [{type}]: {_unknown('key', ours, sections[type])}")
            if not isinstance(theirs, str) or not theirs:
                raise RunError(f"{path} [{type}]: {ours} must be the name of a column, not {theirs!r}")
            sections[type][ours] = (theirs,)
    return ColumnNames(sections)


def _is_whole(step: Any) -> bool:
    return isinstance(step, (int, float)) and not isinstance(step, bool) and step == step // 1


def _first(names: tuple[str, ...], row: Mapping[str, Any]) -> str | None:
    return next((name for name in names if name in row), None)


def _unknown(what: str, name: object, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    hint = f"Did you mean '{near[0]}'?" if near else f"Choose one of {', '.join(known)}."
    return f"unknown {what} '{name}'. {hint}"
