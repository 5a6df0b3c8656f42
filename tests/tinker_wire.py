"""The protobuf messages of newer `tinker` SDKs, for servers of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tinker.proto import tinker_public_pb2 as wire


def decoded(datum: Any) -> tuple[list[int], list[int], list[float]]:
    """Input, target and weight of every token."""
    tokens = np.concatenate([np.frombuffer(c.encoded_text.tokens, dtype=np.int32) for c in datum.model_input])
    targets = np.frombuffer(datum.loss_fn_inputs["target_tokens"].dense, dtype=np.int64)
    weights = np.frombuffer(datum.loss_fn_inputs["weights"].dense, dtype=np.float32)
    return tokens.tolist(), targets.tolist(), weights.tolist()


def encoded(outputs: Sequence[Any], metrics: dict[str, float]) -> bytes:
    """The answer to a pass: log-probabilities of every datum, float32, and what was measured."""
    message = wire.ForwardBackwardOutput(loss_fn_output_type="ArrayRecord")
    record = message.loss_fn_outputs.add()
    record.num_datums = len(outputs)
    field = record.fields["logprobs"]
    field.dtype = wire.DTYPE_FLOAT32
    field.data = b"".join(values.tobytes() for values in outputs)
    field.offsets = np.cumsum([0, *(values.nbytes for values in outputs)], dtype=np.int64).tobytes()
    for name, value in metrics.items():
        message.metrics[name] = value
    return message.SerializeToString()


def sampled(sequences: Sequence[tuple[Sequence[int], bool]], top: tuple[Any, Any] | None = None) -> bytes:
    """The answer to a prompt: tokens of each continuation, and whether a stop ended it.

    `top` are the likeliest tokens at every place of the prompt and their log-probabilities, [T, K].
    """
    answer = wire.SampleResponse()
    for tokens, ended in sequences:
        sequence = answer.sequences.add()
        sequence.tokens = np.array(tokens, dtype=np.int32).tobytes()
        sequence.stop_reason = wire.STOP_REASON_STOP if ended else wire.STOP_REASON_LENGTH
    if top is not None:
        ids_TK, logprobs_TK = top
        told: Any = answer.topk_prompt_logprobs
        told.token_ids, told.logprobs = ids_TK.tobytes(), logprobs_TK.tobytes()
        length, told.k = ids_TK.shape
        # Series 0.25 of the SDK gives it another name.
        setattr(told, "length" if hasattr(told, "length") else "prompt_length", length)
    return answer.SerializeToString()
