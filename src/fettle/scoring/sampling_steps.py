"""What happens to a batch of answers at every new token, from inside of Transformers' `generate`."""

from __future__ import annotations

from collections.abc import Sequence as List
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from fettle.config import SamplingConfig
from fettle.scoring.next_token import draw, entropies, uniform_stream
from fettle.scoring.stop_text import StopText


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One answer to be generated."""

    prompt: int
    number: int
    ids: List[int]
    room: int
    """Tokens that may follow."""


class AnswerSteps:
    """Hooks of one batch: `choose` is a logits processor, `finished` a stopping criterion."""

    def __init__(
        self,
        batch: list[AnswerRow],
        width: int,
        settings: SamplingConfig,
        tokenizer: Any,
        device: torch.device,
    ) -> None:
        room = batch[0].room
        self._width = width
        self._settings = settings
        self.entropy = torch.full((len(batch), room), torch.nan, device=device)
        """[B, room]; NaN where logits were not finite."""
        self.stopped_after: list[int | None] = [None] * len(batch)
        """Tokens after which a stop text was complete."""
        self._texts = [StopText(tokenizer, settings.stop) for _ in batch] if settings.stop else []
        if settings.temperature > 0:
            streams = [uniform_stream(settings.seed, row.ids, row.number, room) for row in batch]
            uniform_BT = torch.from_numpy(np.stack(streams))
            self._uniform = uniform_BT.to(device, torch.float32 if device.type == "mps" else torch.float64)

    def choose(self, ids_BT: Tensor, logits_BV: Tensor) -> Tensor:
        """The logits; where a token is drawn, such that it is their argmax."""
        step = ids_BT.shape[1] - self._width
        self.entropy[:, step] = entropies(logits_BV)
        if self._settings.temperature == 0:
            return logits_BV
        token_B = draw(logits_BV, self._uniform[:, step], self._settings.temperature, self._settings.top_p)
        return torch.full_like(logits_BV, -torch.inf).scatter_(1, token_B.unsqueeze(1), 0.0)

    def finished(self, ids_BT: Tensor, scores: Any, **_: Any) -> Tensor:
        """Rows that need no further token, [B]; the tokens of a step leave the device at once."""
        step = ids_BT.shape[1] - self._width - 1
        done_B = self.entropy[:, step].isnan()
        if self._texts:
            for row, token in enumerate(cast("list[int]", ids_BT[:, -1].tolist())):
                if self.stopped_after[row] is None and self._texts[row].add(token):
                    self.stopped_after[row] = step + 1
            stopped = [after is not None for after in self.stopped_after]
            done_B = done_B | torch.tensor(stopped, device=done_B.device)
        return done_B
