"""The verdict in every situation a run can be in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from decide.fixed_evals import calibrated, fixed_eval, loss_only
from fettle.decide import VERDICT_SCHEMA_VERSION, Evidence, Verdict, verdict
from fettle.decide.verdict import schema_text
from fettle.runs import RunReader
from fettle.runs.records import Checkpoint, FixedEval

N = 1000
SCHEMA = jsonschema.Draft202012Validator(json.loads(schema_text()))


def evals_of(
    match: Sequence[float] | None,
    loss: Sequence[float] | None,
    *,
    pattern: Sequence[str] | None = None,
    seed: int = 0,
) -> list[FixedEval]:
    """Evals of the same 1,000 samples at these levels of exact match and cross-entropy."""
    rng = np.random.default_rng(seed)
    ease, base = rng.permutation(N) / N, 1 + rng.gamma(2, 0.2, N)
    count = len(match or loss or ())
    return [
        fixed_eval(
            100 * (k + 1),
            base + (loss[k] if loss else 0) + rng.normal(0, 0.02, N),
            None if match is None else (ease < match[k]) ^ (rng.random(N) < 0.001),
            pattern=pattern,
        )
        for k in range(count)
    ]


def run(evals: Sequence[FixedEval], state: Any = "completed", **more: Any) -> Evidence:
    checkpoints = [Checkpoint(step=e.step, path=Path(f"checkpoints/checkpoint-{e.step}")) for e in evals]
    steps = np.arange(10.0, 100 * len(evals) + 1, 10)
    train = {"step": steps, "loss": 1 + np.exp(-steps / 100), "tokens_per_sec": np.full(steps.size, 900.0)}
    fields: dict[str, Any] = {"checkpoints": checkpoints, "train": train, **more}
    return Evidence("run", state, evals, **fields)


def judge(evals: Sequence[FixedEval], state: Any = "completed", **more: Any) -> Verdict:
    result = verdict(run(evals, state, **more))
    text = json.dumps(result.to_json(), allow_nan=False)  # every verdict is plain, finite JSON
    assert json.loads(text) == result.to_json()
    SCHEMA.validate(result.to_json())
    assert result.reasons
    assert all(r.endswith((".", ")")) for r in result.reasons), result.reasons
    return result


RISING = [0.2, 0.4, 0.6, 0.7, 0.8]
LEVEL = [0.3, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]
FALLING_LOSS = [0.8, 0.6, 0.4, 0.3, 0.2]
OVERFIT = [0.6, 0.3, 0.2, 0.21, 0.23, 0.26, 0.3, 0.34, 0.38, 0.42]


# -- by exact match ----------------------------------------------------------------


def test_improving_run_goes_on() -> None:
    result = judge(evals_of(RISING, FALLING_LOSS), "running")
    assert result.action == "continue"
    assert result.reasons[0] == "Exact match is still improving."
    assert result.recommendation.startswith("Go on training.")


def test_finished_while_still_improving_should_train_longer() -> None:
    result = judge(evals_of(RISING, FALLING_LOSS), "completed")
    assert result.action == "continue"
    assert "train longer" in result.reasons[0]
    assert result.recommendation == "Train longer. So far the best is checkpoint-500."


def test_interrupted_run_that_improves_goes_on() -> None:
    result = judge(evals_of(RISING, FALLING_LOSS), "interrupted")
    assert (result.action, result.reasons[0]) == ("continue", "Exact match is still improving.")
    assert result.recommendation.startswith("Go on training.")


def test_plateau_of_exact_match_while_cross_entropy_worsens() -> None:
    result = judge(evals_of(LEVEL, OVERFIT), "running")
    assert result.action == "stop"
    assert result.reasons[0] == "Exact match has levelled off while cross-entropy worsens."
    assert result.checkpoint == {"step": 300, "path": "checkpoints/checkpoint-300"}
    assert result.recommendation == "Stop training. Use checkpoint-300."
    overfitting = result.evidence["overfitting"]
    assert overfitting["since_step"] == 300
    assert overfitting["cross_entropy_rise"] == pytest.approx(0.22, abs=0.01)
    assert any(line.startswith("Overfitting since step 300") for line in result.reasons)


def test_plateau_of_exact_match_while_cross_entropy_improves_goes_on() -> None:
    loss = [0.8 - 0.05 * k for k in range(10)]
    assert judge(evals_of(LEVEL, loss), "running").action == "continue"


def test_falling_exact_match_stops() -> None:
    result = judge(evals_of([0.3, 0.8, 0.75, 0.7, 0.6], [0.5, 0.2, 0.3, 0.4, 0.5]), "running")
    assert result.action == "stop"
    assert result.checkpoint is not None
    assert result.checkpoint["step"] == 200


def test_falling_exact_match_with_improving_loss_is_odd() -> None:
    result = judge(evals_of([0.3, 0.8, 0.75, 0.7, 0.6], FALLING_LOSS), "running")
    assert result.action == "investigate"


def test_improving_match_with_rising_loss_goes_on_with_a_warning() -> None:
    result = judge(evals_of(RISING, [0.4, 0.2, 0.25, 0.3, 0.4]), "running")
    assert result.action == "continue"
    assert any("Cross-entropy rises" in w for w in result.warnings)


# -- by cross-entropy ----------------------------------------------------------------


def test_without_exact_match_cross_entropy_decides() -> None:
    assert judge(evals_of(None, FALLING_LOSS), "running").action == "continue"
    result = judge(evals_of(None, OVERFIT), "running")
    assert result.action == "stop"
    assert result.reasons[0] == "Cross-entropy is rising from its best: the model overfits."
    assert "exact match" in result.not_measured
    assert result.checkpoint is not None
    assert result.checkpoint["step"] == 300


def test_exact_match_zero_throughout_says_nothing() -> None:
    evals = [
        fixed_eval(e.step, e.per_sample.cross_entropy_sum / 10, np.zeros(N)) for e in evals_of(None, OVERFIT)
    ]
    result = judge(evals, "running")
    assert result.action == "stop"
    assert result.evidence["judged_eval"]["exact_match"] == 0.0  # measured, and zero
    assert "exact match" not in result.not_measured


def test_levelled_cross_entropy_stops() -> None:
    result = judge(evals_of(None, [0.5, 0.3, *[0.2] * 8]))
    assert result.action == "stop"
    assert result.recommendation.startswith("Do not train further on this data.")


def test_noise_is_insufficient_and_says_how_many_samples() -> None:
    rng = np.random.default_rng(0)
    evals = [fixed_eval(100 * k, 1 + rng.normal(0, 0.3, 40)) for k in range(1, 6)]
    result = judge(evals)
    assert result.action == "insufficient"
    assert "40 samples cannot tell" in result.reasons[0]
    assert result.recommendation.startswith("Evaluate on more held-out examples.")
    assert result.checkpoint is not None


# -- how the run stands ----------------------------------------------------------------


def test_no_evals() -> None:
    result = judge([])
    assert (result.action, result.checkpoint) == ("insufficient", None)
    assert "data.fixed_eval" in result.recommendation
    assert "evaluation on held-out examples" in result.not_measured
    assert result.evidence["judged_eval"] is None


def test_empty_run() -> None:
    result = verdict(Evidence("empty", "unknown", [], [], {}))
    assert result.action == "insufficient"
    assert {"train loss", "tokens per second"} <= set(result.not_measured)


@pytest.mark.parametrize(("count", "words"), [(1, "1 eval so far"), (2, "2 evals so far")])
def test_one_or_two_evals_are_too_few(count: int, words: str) -> None:
    result = judge(evals_of(RISING, FALLING_LOSS)[:count], "running")
    assert result.action == "insufficient"
    assert result.reasons[0] == f"{words}; a trend needs 3."
    assert result.checkpoint is not None
    assert result.checkpoint["step"] == 100 * count


def test_nan_stop_is_investigated() -> None:
    alert = {
        "level": "critical",
        "category": "nan_loss",
        "step": 520,
        "message": "loss is NaN at step 520",
        "action": "Restart from checkpoint-400 with a tenth of the learning rate.",
    }
    result = judge(evals_of(RISING, FALLING_LOSS), "failed", alerts=[alert])
    assert result.action == "investigate"
    assert result.reasons[0] == "loss is NaN at step 520."
    assert result.recommendation.startswith("Restart from checkpoint-400")
    assert judge(evals_of(RISING, FALLING_LOSS), alerts=[{**alert, "level": "warning"}]).action == "continue"


def test_eval_that_was_nan_is_investigated() -> None:
    broken = FixedEval(step=600, extra={"cross_entropy_nonfinite": "nan"})
    result = judge([*evals_of(RISING, FALLING_LOSS), broken], "running")
    assert result.action == "investigate"
    assert "step 600" in result.reasons[0]


def test_failed_run_is_investigated() -> None:
    assert judge(evals_of(RISING, FALLING_LOSS), "failed").action == "investigate"


def test_crashed_run() -> None:
    result = judge(evals_of(RISING, FALLING_LOSS), "crashed")
    assert result.action == "investigate"
    assert "checkpoint-500" in result.recommendation
    # What it had already shown still counts.
    result = judge(evals_of(LEVEL, OVERFIT), "crashed")
    assert result.action == "stop"
    assert any("crashed" in w for w in result.warnings)


def test_early_stopped_run_stops() -> None:
    record = {"step": 1000, "best_step": 300, "best": 0.2, "evals_without_improvement": 5}
    result = judge(evals_of(LEVEL, OVERFIT), "early_stopped", early_stop=record)
    assert result.action == "stop"
    assert result.reasons[0] == (
        "Early stopping ended the run after 5 evals without enough improvement (best step 300)."
    )
    assert result.evidence["early_stop"]["evals_without_improvement"] == 5


def test_early_stop_with_too_coarse_a_threshold() -> None:
    # 0.006 an eval, never 0.01: a run was once ended one eval after its true minimum.
    loss = [0.5 - 0.006 * k for k in range(8)]
    record = {"step": 800, "best_step": 300, "evals_without_improvement": 5}
    result = judge(evals_of(None, loss), "early_stopped", early_stop=record)
    assert result.action == "continue"
    assert "threshold is too coarse" in result.reasons[0]


def test_a_run_that_its_budget_ended_is_judged_by_its_numbers() -> None:
    end = {"state": "early_stopped", "cause": "budget", "budget_usd": 5.0, "spent_usd": 4.981}
    told = "The budget of $5.00 ended the run, with $4.98 spent. "
    result = judge(evals_of(RISING, FALLING_LOSS), "early_stopped", end=end)
    assert result.action == "continue"
    assert result.reasons[0].startswith(told + "The run ended while exact match was still improving")
    result = judge(evals_of(LEVEL, OVERFIT), "early_stopped", end=end)
    assert result.action == "stop"
    assert result.reasons[0].startswith(told + "Exact match has levelled off")
    result = judge(evals_of(RISING[:1], FALLING_LOSS[:1]), "early_stopped", end=end)
    assert result.action == "insufficient"
    # A run that went on with a higher one, and completed, has another last record.
    result = judge(evals_of(LEVEL, OVERFIT), end={"state": "completed", "spent_usd": 7.0})
    assert "budget" not in result.reasons[0]


def test_critical_alert_comes_before_everything() -> None:
    alert = {"level": "critical", "message": "the gradient exploded", "step": 7}
    result = judge(evals_of(LEVEL, OVERFIT), "early_stopped", alerts=[alert])
    assert result.action == "investigate"
    assert result.reasons[0] == "the gradient exploded at step 7."


def test_alerts_of_the_run_are_part_of_its_evidence() -> None:
    alert = {
        "level": "warning",
        "category": "leakage",
        "message": "12 evaluation examples stand in training",
    }
    result = judge(evals_of(RISING, FALLING_LOSS), alerts=[alert])
    assert result.evidence["alerts"] == [alert]
    assert result.to_json()["evidence"]["alerts"] == [alert]
    assert result.action == "continue"


def test_what_became_of_the_samples_is_told() -> None:
    result = judge(evals_of(RISING, FALLING_LOSS))
    samples = result.evidence["samples"]
    assert f"Samples: {samples['text']}." in result.reasons
    counted = (samples[key] for key in ("always", "learned", "forgotten", "never", "flipping"))
    assert sum(counted) == samples["samples"] == N


def test_a_drift_of_calibration_is_a_warning() -> None:
    evals = [calibrated(100 * (k + 1), gap) for k, gap in enumerate((0.02, 0.05, 0.2))]
    result = judge(evals)
    assert result.evidence["calibration_drift"]["best_step"] == 100
    assert any(line.startswith("Calibration drifts: ECE 0.2") for line in result.warnings)
    level = [calibrated(100 * (k + 1), 0.05) for k in range(3)]
    assert judge(level).evidence["calibration_drift"] is None


# -- checkpoints, patterns, what comes next ------------------------------------------------


def test_no_checkpoint_on_disk() -> None:
    evals = evals_of(LEVEL, OVERFIT)
    result = judge(evals, checkpoints=[Checkpoint(step=e.step, path=None) for e in evals])
    assert (result.action, result.checkpoint) == ("stop", None)
    assert "No evaluated step has a checkpoint on disk." in result.warnings
    assert "No evaluated checkpoint is on disk." in result.recommendation


def test_best_eval_without_a_checkpoint_is_named() -> None:
    evals = evals_of(None, OVERFIT)
    kept = [Checkpoint(step=s, path=Path(f"c-{s}")) for s in (200, 600)]
    result = judge(evals, checkpoints=kept)
    assert result.checkpoint == {"step": 600, "path": "c-600"}
    assert "The best eval, step 300, has no checkpoint on disk." in result.warnings


def test_patterns_weakest_too_few_and_next_data() -> None:
    pattern = ["reasoning"] * 214 + ["rare"] * 7 + ["factual"] * (N - 221)
    level = []
    for k in range(10):
        right = np.ones(N, dtype=bool)
        right[:70] = right[214:218] = False
        right[221 : 221 + max(0, 100 - 50 * k)] = False
        level.append(fixed_eval(100 * (k + 1), np.full(N, OVERFIT[k]), right, pattern=pattern))
    counts = {("reasoning", "0-100"): 30, ("factual", "0-100"): 960, ("rare", "100-300"): 10}
    cells = [{"pattern": p, "length": length, "seen": n} for (p, length), n in counts.items()]
    metadata = {"patterns": {"length_bins": [100, 300], "train": cells}}
    result = judge(level, "running", metadata=metadata)
    assert result.action == "stop"
    assert result.evidence["weakest_pattern"] == "reasoning"
    assert (
        "Patterns: reasoning 67 % EM (n = 214, weakest), factual 100 % EM (n = 779), rare: too few (n = 7)."
    ) in result.reasons
    assert result.recommendation.endswith(
        "Next run: add 'reasoning' examples (67 % EM, n = 214; now 3.0 % of the training data)."
    )
    row = result.to_json()["evidence"]["patterns"][0]
    assert (row["pattern"], row["n"], row["correct"]) == ("reasoning", 214, 144)
    assert row["low"] < row["exact_match"] < row["high"]
    matrix = result.to_json()["evidence"]["pattern_matrix"]
    assert matrix["lengths"] == ["0-100", "100-300", "300+"]
    shares = {(c["pattern"], c["length"]): (c["seen"], c["train_share"]) for c in matrix["cells"]}
    assert shares == {
        ("factual", "0-100"): (779, 0.96), ("rare", "0-100"): (7, 0.0), ("reasoning", "0-100"): (214, 0.03)
    }  # fmt: skip
    assert {c["pattern"]: c["train_share"] for c in matrix["patterns"]}["rare"] == 0.01
    assert [c["pattern"] for c in matrix["weakest"]] == ["reasoning", "factual"]  # 7 are too few to judge
    assert [c["length"] for c in matrix["columns"]] == ["0-100"]
    assert matrix["seen"] == N
    assert all(c["exact_match_low"] <= c["exact_match"] <= c["exact_match_high"] for c in matrix["cells"])


# -- runs of other tools ------------------------------------------------------------------


def test_foreign_run_with_only_eval_loss() -> None:
    result = judge(loss_only([2.0, 1.0, 0.5, 0.55, 0.6, 0.65]))
    assert result.action == "stop"
    assert result.reasons[0].endswith("(Read from the numbers, not tested.)")
    assert result.checkpoint is not None
    assert result.checkpoint["step"] == 300
    assert {"exact match", "calibration (ECE)", "per-sample results (paired tests, intervals)"} <= set(
        result.not_measured
    )
    assert any("Nothing here was tested" in w for w in result.warnings)


def test_foreign_run_without_direction_is_insufficient() -> None:
    result = judge(loss_only([0.5, 0.7, 0.4, 0.6, 0.5]))
    assert result.action == "insufficient"
    assert result.recommendation.startswith("Evaluate more often.")


@pytest.mark.real_data
def test_law_llm(real_data: Path) -> None:
    reader = RunReader(real_data / "hf_runs" / "law-llm.trainer_state.json")
    evidence = Evidence(
        reader.name, reader.state(), reader.evals(), reader.checkpoints(), reader.columns("train")
    )
    result = verdict(evidence)
    assert result.evidence["train_and_eval_loss"]["comparable"] is False
    assert "not comparable" in result.warnings[0]
    assert "gap between train and eval loss (not comparable)" in result.not_measured
    assert result.checkpoint is None
    assert result.evidence["overfitting"] is None
    # Eval loss was still falling: 0.3185, 0.3077, 0.3038.
    assert result.action == "continue"
    assert "5.0" not in " ".join(result.reasons)  # the train loss is no evidence


# -- the shape of it ------------------------------------------------------------------------


def test_json_keys_are_stable() -> None:
    fields = judge(evals_of(RISING, FALLING_LOSS)).to_json()
    assert {
        "action", "checkpoint", "reasons", "evidence", "not_measured", "warnings", "schema_version",
    } <= set(fields)  # fmt: skip
    assert fields["schema_version"] == VERDICT_SCHEMA_VERSION
    assert set(fields["checkpoint"]) == {"step", "path"}
    trend = fields["evidence"]["trend"]["exact_match"]
    assert {"state", "since_step", "p_value", "effect", "interval", "evals", "explanation", "tested"} <= set(
        trend
    )


def test_same_evidence_same_verdict() -> None:
    evals = evals_of(LEVEL, OVERFIT)
    assert judge(evals).to_json() == judge(evals).to_json()
