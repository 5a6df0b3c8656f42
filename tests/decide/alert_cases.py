"""For every alert: the records that fire it, and those that clear it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan
from typing import Any

Row = dict[str, Any]


def train(step: int, **fields: Any) -> Row:
    """An ordinary step, but for `fields`."""
    ordinary = {"loss": 1.0, "grad_norm": 1.0, "learning_rate": 2e-4, "completion_tokens": 100}
    return {"type": "train", "step": step, **ordinary, **fields}


def steps(first: int, count: int, **fields: Any) -> list[Row]:
    return [train(step, **fields) for step in range(first, first + count)]


def losses(first: int, *values: float) -> list[Row]:
    return [train(first + i, loss=value) for i, value in enumerate(values)]


def fixed_eval(step: int, **fields: Any) -> Row:
    return {"type": "fixed_eval", "step": step, **fields}


def checkpoint(step: int, **fields: Any) -> Row:
    return {"type": "checkpoint", "step": step, "path": f"checkpoints/checkpoint-{step}", **fields}


def start(**fields: Any) -> Row:
    return {"type": "start", "step": 0, **fields}


def layers(step: int, *movements: float) -> Row:
    rows = [
        {"layer": i, "relative": moved / 10, "movement": moved, "weight_norm": 10.0, "groups": {}}
        for i, moved in enumerate(movements)
    ]
    return {"type": "layers", "step": step, "method": "lora", "since_step": 0, "rows": rows}


def judged(step: int, train_loss: float, cross_entropy: float) -> list[Row]:
    """Ten steps with a loss per token, and the eval after them."""
    rows = steps(step - 9, 10, loss=train_loss, loss_sum=100 * train_loss)
    return [*rows, fixed_eval(step, cross_entropy=cross_entropy)]


def drift(step: int, error: float | None) -> Row:
    """An eval whose samples say that calibration drifted from 0.05 at step 100 to `error`."""
    found = {"best_step": 100, "best": 0.05, "step": step, "last": error, "text": f"ECE {error}"}
    return fixed_eval(step, expected_calibration_error=error, calibration_drift=found)


def evaluation(step: int, data: str, **regressed: float) -> Row:
    """A watched evaluation; metrics that got worse, and by how much."""
    trend = {
        metric: {
            "state": "regressing",
            "effect": effect,
            "since_step": 100,
            "text": "regressing since step 100",
        }
        for metric, effect in regressed.items()
    }
    return {"type": "evaluation", "step": step, "data": data, "trend": trend}


@dataclass(frozen=True)
class Case:
    """`fire` fires with its last record and not before, `clear` resolves with its last and not before."""

    fire: list[Row]
    clear: list[Row]
    level: str
    says: str
    """Part of the message."""
    does: str
    """Part of the action."""
    evidence: dict[str, Any] = field(default_factory=dict)
    first_step: int | None = None
    """Where it is not the step of the last record."""


GOOD = checkpoint(1, cross_entropy=0.9, exact_match=0.4)
NO_LOSS: dict[str, Any] = {"loss": None, "completion_tokens": None}
ALTERNATING = [0.2 if i % 2 else 1.8 for i in range(50)]
SPEED = {"tokens_per_sec": 1000.0}


def memory(step: int, share: float) -> Row:
    return {"type": "system", "step": step, "gpu_memory_used": share * 80e9, "gpu_memory_total": 80e9}


CASES: dict[str, Case] = {
    "nan_loss": Case(
        [train(1), GOOD, train(2, loss=nan)],
        [train(3)],
        "critical",
        "Loss is nan at step 2",
        "Stop. Restart from checkpoint-1 with learning_rate 2.0e-05",
        {"loss": "nan", "last_good_checkpoint": "checkpoint-1"},
    ),
    "exploding_gradients": Case(
        [train(1, grad_norm=100.0), GOOD, train(2, grad_norm=101.0)],
        [train(3, grad_norm=95.0), train(4, grad_norm=90.0)],
        "critical",
        "Gradient norm 101",
        "Stop. Restart from checkpoint-1 with learning_rate 2.0e-05",
        {"grad_norm": 101.0},
    ),
    "no_label_tokens": Case(
        [train(1), train(2, loss=None, completion_tokens=0)],
        [train(3)],
        "critical",
        "No token of the batch of step 2",
        "labels",
    ),
    "vanishing_gradients": Case(
        [train(1, grad_norm=1e-7), train(2, grad_norm=9e-8)],
        [train(3, grad_norm=1.05e-7), train(4, grad_norm=1.2e-7)],
        "warning",
        "Gradient norm 9.0e-08",
        "require gradients",
        {"grad_norm": 9e-8},
    ),
    "loss_spike": Case(
        [*steps(1, 10), GOOD, train(11, loss=2.01)],
        [train(12, loss=1.9), train(13)],
        "warning",
        "Loss 2.010 at step 11 is 2.0 times its mean of 1.000",
        "Restart from checkpoint-1 with learning_rate 2.0e-05",
        {"loss": 2.01, "mean": 1.0, "ratio": 2.01, "steps": 10},
    ),
    "plateau": Case(
        [GOOD, *steps(1, 50)],
        losses(51, 0.9, 0.9, 0.9),
        "warning",
        "fell by 0.0 % within the last 50 steps",
        "Stop. Use checkpoint-1",
        {"older_mean": 1.0, "newer_mean": 1.0, "improvement": 0.0, "steps": 50},
        first_step=1,
    ),
    "loss_variance": Case(
        losses(1, *ALTERNATING),
        # 0.64·(50 - k)/50 is 10 % below 0.25 from k = 33 on.
        steps(51, 33),
        "info",
        "Loss varies by 0.800 around 1.000",
        "batch_size",
        {"variance": 0.64, "mean": 1.0, "ratio": 0.64},
    ),
    "loss_not_measured": Case(
        [train(1), train(2, **NO_LOSS)],
        [train(3)],
        "warning",
        "Train loss of step 2 was not measured",
        "fixed eval",
        {"steps": 1},
    ),
    "high_learning_rate": Case(
        [train(1, learning_rate=1e-2), train(2, learning_rate=1.1e-2)],
        [train(3, learning_rate=9.5e-3), train(4, learning_rate=8.9e-3)],
        "warning",
        "Learning rate 1.1e-02",
        "learning_rate 5e-4",
        {"learning_rate": 1.1e-2},
    ),
    "low_learning_rate": Case(
        [train(1000, learning_rate=5e-7), train(1001, learning_rate=5e-7)],
        [train(1002, learning_rate=1.05e-6), train(1003, learning_rate=1.2e-6)],
        "info",
        "Learning rate 5.0e-07 at step 1001",
        "schedule",
        {"learning_rate": 5e-7},
    ),
    "poor_calibration": Case(
        [
            fixed_eval(100, expected_calibration_error=0.3),
            fixed_eval(200, expected_calibration_error=0.31, cross_entropy=2.0, entropy=0.5),
        ],
        [
            fixed_eval(300, expected_calibration_error=0.28),
            fixed_eval(400, expected_calibration_error=0.26),
        ],
        "warning",
        "0.310 at step 200: the model is surer than it is right",
        "probabilities",
        {"expected_calibration_error": 0.31},
    ),
    "calibration_drift": Case(
        [fixed_eval(100, expected_calibration_error=0.05), train(101), drift(200, 0.07)],
        # 1.2 times the best is 0.06, and 10 % below that 0.054.
        [
            fixed_eval(300, expected_calibration_error=0.07, calibration_drift=None),
            fixed_eval(400, expected_calibration_error=0.055, calibration_drift=None),
            fixed_eval(500, expected_calibration_error=0.053, calibration_drift=None),
        ],
        "warning",
        "ECE 0.07",
        "learning_rate 1.0e-04, a half, or use a checkpoint near step 100",
        {"best": 0.05, "last": 0.07},
        first_step=100,
    ),
    "evaluation_regression": Case(
        [
            evaluation(100, "hard.jsonl"),
            evaluation(200, "hard.jsonl", exact_match=-0.005),
            evaluation(300, "hard.jsonl", exact_match=-0.02, cross_entropy=0.1),
        ],
        # Another file tells nothing of this one.
        [evaluation(400, "easy.jsonl"), evaluation(400, "hard.jsonl")],
        "warning",
        "step 300 is worse on hard.jsonl: exact match is regressing since step 100",
        "The checkpoint to use is that of step 100",
        {"data": "hard.jsonl", "metric": "exact match", "effect": -0.02, "best_step": 100.0},
        first_step=100,
    ),
    "em_plateau": Case(
        [
            checkpoint(100, exact_match=0.5, cross_entropy=0.7),
            *(fixed_eval(100 * i, exact_match=0.5, cross_entropy=0.7) for i in (1, 2, 3)),
        ],
        [fixed_eval(400, exact_match=0.6, cross_entropy=0.7)],
        "warning",
        "Exact match 50.0 % no longer improves",
        "Stop. Use checkpoint-100",
        {"exact_match": 0.5, "best_checkpoint": "checkpoint-100"},
        first_step=100,
    ),
    "overfitting": Case(
        [
            *judged(100, 1.0, 1.0),
            *judged(200, 0.9, 0.8),
            checkpoint(200, cross_entropy=0.8),
            *judged(300, 0.8, 0.9),
            *judged(400, 0.7, 0.95),
            *judged(500, 0.6, 1.0),
        ],
        judged(600, 0.5, 0.7),
        "warning",
        "Overfitting since step 200: held-out cross-entropy rose by 0.200 nats while train loss fell by 0.3",
        "Stop. Use checkpoint-200",
        {"since_step": 200, "cross_entropy_rise": 0.2, "train_loss_fall": 0.3},
        first_step=200,
    ),
    "val_gap": Case(
        [*judged(100, 0.5, 0.79), *judged(200, 0.5, 0.85)],
        [*judged(300, 0.5, 0.78), *judged(400, 0.5, 0.76)],
        "warning",
        "Held-out cross-entropy 0.850 is 0.350 nats above train loss 0.500",
        "fewer epochs",
        {"train_loss": 0.5, "cross_entropy": 0.85, "gap": 0.35},
    ),
    # A trainer that logs the sum over 8 accumulation steps.
    "not_comparable": Case(
        [
            *steps(91, 10, loss=4.0),
            fixed_eval(100, cross_entropy=0.5),
            *steps(191, 10, loss=4.0),
            fixed_eval(200, cross_entropy=0.5),
        ],
        [*steps(291, 10, loss=0.5), fixed_eval(300, cross_entropy=0.5)],
        "warning",
        "summed over 8 gradient accumulation steps",
        "Divide it by 8",
        {"ratio": 8.0, "factor": 8},
    ),
    "leakage": Case(
        [
            start(leakage={"exact": 0, "near": 0, "samples": 200}),
            start(leakage={"exact": 3, "near": 1, "samples": 200}),
        ],
        [start(), start(leakage={"exact": 0, "near": 0, "samples": 196})],
        "warning",
        "3 of 200 held-out examples stand in the training data and 1 more nearly do",
        "Take them out",
        {"exact": 3, "near": 1, "samples": 200, "share": 0.02},
    ),
    "dead_lora_layers": Case(
        [layers(1, 0.0, 0.0, 0.0, 0.0), layers(10, 0.1, 2e-7, 0.1, 0.1), layers(20, 0.1, 1e-7, 0.1, 0.1)],
        [layers(30, 0.1, 0.2, 0.1, 0.2)],
        "warning",
        "1 of 4 layers have not moved by step 20: 1.",
        "target_modules",
        {"layers": [1], "of": 4},
    ),
    "checkpoint_without_evaluation": Case(
        [fixed_eval(1, cross_entropy=1.0), checkpoint(1, cross_entropy=1.0), checkpoint(2)],
        [checkpoint(3, exact_match=0.5)],
        "info",
        "checkpoint-2 was saved without a fixed eval",
        "multiple of eval_interval_steps",
        {"checkpoint": "checkpoint-2"},
    ),
    "throughput_drop": Case(
        # 100 + 900·0.9^n falls below 600 with n = 6.
        [start(), *steps(1, 20, **SPEED), *steps(21, 6, tokens_per_sec=100.0)],
        # 1000 - 422·0.9^n is 10 % above 600 with n = 3.
        steps(27, 3, **SPEED),
        "warning",
        "578 tokens/s at step 26, 58% of the 1000",
        "what else runs on the machine",
        {"baseline": 1000.0, "tokens_per_sec": 578.297},
    ),
    "low_vram_utilization": Case(
        [memory(1, 0.55), memory(15, 0.55), memory(16, 0.55)],
        [memory(20, 0.62), memory(30, 0.67)],
        "info",
        "Only 55% of the GPU's memory is used, for 15 steps",
        "batch_size",
        {"share": 0.55, "steps": 15},
    ),
    "evaluation_overhead": Case(
        [*steps(1, 60, step_time=1.0), fixed_eval(60, seconds=6.0), fixed_eval(61, seconds=2.0)],
        [
            *steps(62, 15, step_time=1.0),
            fixed_eval(76, seconds=0.0),
            *steps(77, 10, step_time=1.0),
            fixed_eval(86, seconds=0.0),
        ],
        "info",
        "Fixed evals took 12% of the time",
        "eval_interval_steps 1.2 times",
        {"eval_seconds": 8.0, "step_seconds": 60.0, "share": 8 / 68},
    ),
    "monitor_overhead": Case(
        steps(1, 60, step_time=1.0, monitor_time=0.06),
        # 0.06·0.98^n is 10 % below 0.05 with n = 15.
        steps(61, 15, step_time=1.0, monitor_time=0.0),
        "warning",
        "Recording takes 6% of a step",
        "faster disk",
        {"share": 0.06},
    ),
    "write_failed": Case(
        [{"type": "write_failed", "step": 5, "what": "fettle.json", "error": "No space left on device"}],
        [fixed_eval(5), fixed_eval(10)],
        "warning",
        "fettle.json: No space left on device",
        "Make room",
        {"error": "No space left on device"},
    ),
    "disk_nearly_full": Case(
        [GOOD | {"disk_free_bytes": 2_000_000_000}, checkpoint(2, disk_free_bytes=1_900_000_000)],
        [fixed_eval(3, disk_free_bytes=2_100_000_000), fixed_eval(4, disk_free_bytes=2_300_000_000)],
        "warning",
        "1.90 GB are left",
        "keep checkpoint-1 and checkpoint-2",
        {"disk_free_bytes": 1.9e9},
    ),
}
