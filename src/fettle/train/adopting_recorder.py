"""A recorder for training that somebody else's loop does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from fettle.decide.alerts import restart_lower
from fettle.runs.checkpoints import INFO
from fettle.runs.folder import replace_file
from fettle.train.recorder import Recorder


class AdoptingRecorder(Recorder):
    """Scores checkpoints that another trainer wrote, where they lie; records steps whose loss is unknown."""

    def unmeasured_step(self, step: int, **fields: Any) -> None:
        """One optimizer step whose loss per token could not be measured."""
        self.last_step, self.finite = step, True
        self._append("train", {"step": step, "loss": None, **fields})
        self._train_seconds += fields.get("step_time") or 0.0
        self._update_status(step=step, epoch=fields.get("epoch"), learning_rate=fields.get("learning_rate"))
        self.stepped(step)

    def spent(self, seconds: float) -> None:
        """Time spent on measuring, beside what `step` takes itself."""
        self._monitor_seconds += seconds
        self._monitor_total += seconds

    def adopt(
        self,
        step: int,
        path: Path,
        *,
        epoch: float | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Score the checkpoint at `path` and write fettle.json into it, where that can be written."""
        scored, info = self._scored(step, epoch, provenance)
        options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        try:
            replace_file(path / INFO, orjson.dumps(info, option=options, default=str))
        except OSError as error:
            self.write_failed(step, f"{path}: fettle.json cannot be written", error)
        self._saved(step, path, epoch, scored)

    def description(self, step: int, *, epoch: float | None = None, **provenance: Any) -> dict[str, Any]:
        """What fettle.json says of a checkpoint of the weights after `step`, without the counters."""
        _, info = self._scored(step, epoch, provenance)
        return {key: value for key, value in info.items() if key != "state"}

    def not_a_number(self, what: str, learning_rate: float) -> str:
        """Why training ends, and how to go on."""
        last_good = self.last_checkpoint
        return f"{what}. {restart_lower(None if last_good is None else last_good.name, learning_rate)}"

    def other_tokens(self, step: int, share: float) -> None:
        """Train loss covers all tokens and eval loss only this share of them: their gap means nothing."""
        self.incomparable_because = "train loss covers prompts too, eval loss completions only"
        self._append("comparability", {"step": step, "comparable": False, "completion_share": share})
