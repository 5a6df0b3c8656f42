"""A recorder for training that somebody else's loop does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from fettle.runs.checkpoints import INFO
from fettle.runs.folder import replace_file
from fettle.train.recorder import Recorder


class AdoptingRecorder(Recorder):
    """Scores checkpoints that another trainer wrote, where they lie; records steps whose loss is unknown."""

    def unmeasured_step(self, step: int, **fields: Any) -> None:
        """One optimizer step whose loss per token could not be measured."""
        self._log.append("train", {"step": step, "loss": None, **fields})
        self._train_seconds += fields.get("step_time") or 0.0
        self._update_status(step=step, epoch=fields.get("epoch"), learning_rate=fields.get("learning_rate"))

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
        """Score the checkpoint at `path` and write fettle.json into it. Raises OSError where it cannot."""
        scored, info = self._scored(step, epoch, provenance)
        self._saved(step, path, epoch, scored)
        options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        replace_file(path / INFO, orjson.dumps(info, option=options, default=str))

    # -- what a person should know ------------------------------------------------

    def not_a_number(self, step: int, what: str, learning_rate: float) -> str:
        """The critical alert of a step whose loss or gradient is NaN or Inf; its text."""
        last_good, lower = self.last_checkpoint, f"learning_rate {learning_rate / 10:.1e}"
        cure = (
            f"No checkpoint was saved yet: start again with {lower}."
            if last_good is None
            else f"Restart from {last_good.name} with {lower}, a tenth."
        )
        self.alert(
            step,
            severity="critical",
            category="nan_loss",
            message=f"{what}; the weights were not changed by it.",
            recommendation=cure,
            last_good_checkpoint=None if last_good is None else last_good.name,
        )
        return f"{what}. {cure}"

    def unmeasured(self, step: int, *, no_labels: bool) -> None:
        """Loss could not be measured: the model sees no `labels`, or none of them carries loss."""
        if no_labels:
            self.alert(
                step,
                severity="warning",
                category="loss_not_measured",
                message="The model computes no loss from labels here, so train loss is not measured.",
                recommendation="Judge by the fixed eval.",
            )
            return
        self.alert(
            step,
            severity="critical",
            category="no_label_tokens",
            message=f"No token of the batch of step {step} carries loss: it teaches nothing.",
            recommendation="Check that the trainer's data has labels, and raise its maximal length.",
        )

    def other_tokens(self, step: int, share: float) -> None:
        """Train loss covers all tokens and eval loss only this share of them: their gap means nothing."""
        self.incomparable_because = "train loss covers prompts too, eval loss completions only"
        self.alert(
            step,
            severity="warning",
            category="loss_tokens_differ",
            message=f"The trainer's loss covers every token, the fixed eval completions only ({share:.0%}).",
            recommendation="Train on completions (TRL: completion_only_loss or assistant_only_loss), "
            "or leave the gap between the two losses out of account.",
        )

    def disk_refuses(self, step: int, what: str, error: OSError) -> None:
        """Something could not be written; training goes on."""
        self.alert(
            step,
            severity="warning",
            category="disk",
            message=f"{what}: {error.strerror or error}.",
            recommendation="Make room on the disk; training goes on.",
        )
