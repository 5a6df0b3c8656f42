"""Which concepts a training moves, read while it runs: frozen lenses of the base every so many steps."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import xxhash
from loguru import logger
from numpy.typing import NDArray

from fettle.config import LensesConfig, check_section
from fettle.errors import DataError, FettleError, ModelError, RunError
from fettle.evaluation.cache import ScoreCache
from fettle.evaluation.subject import Subject
from fettle.lens.activations import pooled_activations
from fettle.lens.drift import Drift, drift
from fettle.lens.drift_rows import drift_content, drift_row
from fettle.lens.extract import identity_of, text_tokenizer
from fettle.lens.lens_pack import read_pack
from fettle.lens.neutral_texts import NEUTRAL, read_texts
from fettle.lens.problem import Floats
from fettle.lens.spec import read_spec
from fettle.lens.tokens import Tokens
from fettle.runs import RunFolder
from fettle.runs.folder import read_json, replace_file

MOST_READINGS = 24
"""Kept over a run; from there on every second, fourth, ... one."""
MOST_NAMED = 5


class LiveDrift:
    """Reads a pack's lenses off the model that is trained, on the same plain texts every so many steps.

    >>> trainer.add_callback(FettleCallback("valid.jsonl", lenses=LiveDrift("lenses", every_steps=50)))

    The forward pass ends behind the layer of the lenses; the mode and random state of all stay. What is found
    lies in the run folder as `fettle lens drift` writes it (`lenses/live.json`). One object, one training.
    """

    def __init__(self, pack: str | Path, *, neutral: str | Path | None = None, every_steps: int = 50) -> None:
        """`pack` is a folder of lenses of the model that is trained, `neutral` a file of one text a line.

        Raises RunError for what is no pack, DataError for a file without texts, ConfigError for wrong values.
        """
        values = {"pack": pack, "neutral": neutral, "every_steps": every_steps}
        self._open(check_section(LensesConfig, values, "LiveDrift(...)"))

    @classmethod
    def of(cls, config: LensesConfig) -> LiveDrift:
        """What the section `lenses` of a configuration asks for."""
        return cls(config.pack, neutral=config.neutral, every_steps=config.every_steps)

    def _open(self, config: LensesConfig) -> None:
        self._config = config
        self._pack = read_pack(config.pack)
        self._texts = list(NEUTRAL) if config.neutral is None else read_texts(config.neutral)
        whole = read_spec(self._pack.identity["spec"], str(config.pack))
        if whole.generation is not None:
            raise ModelError(
                f"{config.pack}: its lenses read answers, which training does not wait for. "
                "Read its checkpoints with: fettle lens drift RUN"
            )
        self._whole_spec = whole
        self._spec = whole.model_copy(update={"layers": (self._pack.layer,)})
        self._tokens: list[Tokens] = []
        self._steps: list[int] = []
        self._shifts: list[NDArray[np.float64]] = []

    def settings(self) -> dict[str, Any]:
        """Arguments that make the same again."""
        return self._config.model_dump(mode="json")

    def check(self, model: str) -> None:
        """Raises ModelError where the lenses are of another model than this folder or hub id."""
        subject = Subject("model", None, model)
        tokenizer, reader = text_tokenizer(subject, self._spec)
        identity = identity_of(subject, self._whole_spec, tokenizer, ScoreCache())
        differing = [key for key, value in identity.items() if self._pack.identity.get(key) != value]
        if differing:
            raise ModelError(
                f"lenses: {self._config.pack} holds lenses of another model than {model} (its "
                f"{' and '.join(differing)} differ). Train some of it: fettle lens train --model {model}"
            )
        self._tokens = reader.tokens(self._texts)

    def begin(self, model: Any, folder: RunFolder, step: int) -> None:
        """Read the model before its first step, or go on after `step` with what was read then.

        Raises RunError where a run goes on that these lenses did not read, on these texts, as it began.
        """
        self._folder = folder
        self._steps, self._shifts = [], []
        if step:
            self._before = _read_before(folder.before_path, self._key())
            self._go_on(step)
            return
        self._before = self._read(model)
        try:
            folder.before_path.parent.mkdir(parents=True, exist_ok=True)
            folder.live_drift_path.unlink(missing_ok=True)
            _write_before(folder.before_path, self._before, self._key())
        except OSError as error:
            raise RunError(f"{folder.before_path}: cannot be written: {error.strerror or error}") from error

    def due(self, step: int, *, last: bool) -> bool:
        """Whether the weights after this step are read."""
        return last or step % self._config.every_steps == 0

    def read(self, model: Any, step: int) -> dict[str, Any] | None:
        """Read the weights after `step` and write down what moved; training goes on where that fails."""
        began = time.perf_counter()
        try:
            found = drift(self._pack, self._before, self._read(model))
            self._keep(step, found)
        except (FettleError, OSError) as error:
            logger.warning("lenses at step {}: not read: {}", step, error)
            return None
        moved: list[int] = [c for c in found.order.tolist() if found.moved[c]]
        named = [
            {"concept": self._pack.concepts[c], "shift": float(found.shift[c])} for c in moved[:MOST_NAMED]
        ]
        return {
            "lenses": len(self._pack.concepts),
            "moved": len(moved),
            "top": named,
            "seconds": time.perf_counter() - began,
        }

    def _read(self, model: Any) -> Floats:
        """Activations of the texts, [T, D]. Raises DataError where one is not a number."""
        found: dict[int, Floats] = {}
        for indices, vectors_NLD in pooled_activations(model, self._tokens, self._spec):
            found |= {i: vectors_NLD[row, 0] for row, i in enumerate(indices)}
        vectors_TD = np.stack([found[i] for i in range(len(self._tokens))])
        if not np.isfinite(vectors_TD).all():
            raise DataError("activations are not finite")
        return vectors_TD

    def _keep(self, step: int, found: Drift) -> None:
        stride = self._config.every_steps
        while step > MOST_READINGS * stride:
            stride *= 2
        kept = [k for k, before in enumerate(self._steps) if before < step and before % stride == 0]
        self._steps = [*(self._steps[k] for k in kept), step]
        self._shifts = [*(self._shifts[k] for k in kept), found.shift]
        content = drift_content(
            self._pack,
            texts=len(self._texts),
            controls=0,
            checkpoints=[(f"step {s}", s) for s in self._steps],
            rows=[drift_row(self._pack, c, self._shifts, found, self._texts) for c in found.order.tolist()],
        )
        replace_file(
            self._folder.live_drift_path,
            orjson.dumps({"pack": str(self._config.pack), **content}),
            sync=False,
        )

    def _go_on(self, step: int) -> None:
        """With the readings up to this step, where they are of the same lenses."""
        content = read_json(self._folder.live_drift_path) or {}
        steps = [checkpoint["step"] for checkpoint in content.get("checkpoints", [])]
        shifts = {row["concept"]: row["shifts"] for row in content.get("lenses", [])}
        if set(shifts) != set(self._pack.concepts):
            return
        kept = [k for k, before in enumerate(steps) if before <= step]
        self._steps = [steps[k] for k in kept]
        self._shifts = [np.array([shifts[name][k] for name in self._pack.concepts]) for k in kept]

    def _key(self) -> str:
        """Names what the reading before the first step depends on beside the weights' dtype."""
        content = orjson.dumps([self._pack.identity, self._pack.layer, self._texts])
        return xxhash.xxh3_128_hexdigest(content)


def _write_before(path: Path, before_TD: Floats, key: str) -> None:
    from safetensors.numpy import save

    replace_file(path, save({"before": before_TD}, {"key": key}))


def _read_before(path: Path, key: str) -> Floats:
    safetensors: Any = import_module("safetensors")
    cure = "leave `lenses` out, or start a new run; fettle lens drift reads its checkpoints"
    try:
        with safetensors.safe_open(path, framework="numpy") as tensors:
            if (tensors.metadata() or {}).get("key") != key:
                raise RunError(f"{path}: the run began with lenses of another layer, or other texts: {cure}")
            return tensors.get_tensor("before")
    except (OSError, safetensors.SafetensorError) as error:
        raise RunError(f"{path}: no lens read the run as it began, so drift is unknown: {cure}") from error
