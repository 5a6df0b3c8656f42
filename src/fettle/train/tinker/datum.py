"""Token sequences as the service takes them, and what it says of each of their tokens."""

from __future__ import annotations

from collections.abc import Sequence as Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tinker import types

from fettle.data.sequence import Sequence


def datum(sequence: Sequence, per_token: float = 1.0) -> types.Datum:
    """Input, targets shifted by one, and the weight `per_token` where a target carries loss."""
    ids_T = sequence.input_ids
    weights_T = sequence.loss_mask[1:].astype(np.float32) * np.float32(per_token)
    return types.Datum(
        model_input=types.ModelInput.from_ints(ids_T[:-1].tolist()),
        loss_fn_inputs={
            "target_tokens": types.TensorData.from_numpy(ids_T[1:]),
            "weights": types.TensorData.from_numpy(weights_T),
        },
    )


def completion_logprobs(sequences: Collection[Sequence], output: Any) -> list[NDArray[np.float64]]:
    """Log-probabilities in nats of the completion tokens of each sequence, from a forward pass."""
    return [
        np.asarray(told["logprobs"].data, dtype=np.float64)[sequence.loss_mask[1:]]
        for sequence, told in zip(sequences, output.loss_fn_outputs, strict=True)
    ]
