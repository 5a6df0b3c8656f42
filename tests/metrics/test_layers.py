"""Movement of groups joined by hand-worked sums, and what is wrong with a layer."""

from __future__ import annotations

from math import inf, nan, sqrt
from typing import Any

import orjson
import pytest

from fettle.metrics import ModuleNorms, group_movements, layer_activity_summary, layer_rows
from fettle.runs.layers import layer_activity
from fettle.runs.records import GroupMovement


def layer(number: int | None, movement: float, weight: float | None = 10.0, grad: float | None = 1.0) -> Any:
    return GroupMovement(number, "qkv", 3, movement, weight, grad)


def test_squares_add_up_within_a_group_and_a_layer() -> None:
    groups = group_movements(
        [
            ModuleNorms("model.layers.0.mlp.up_proj", 9.0, 100.0),
            ModuleNorms("model.layers.0.mlp.gate_proj", 16.0, 300.0),
            ModuleNorms("model.layers.0.self_attn.o_proj", 144.0, 225.0),
            ModuleNorms("lm_head", 4.0, None),
        ],
        {(0, "mlp"): 3.0, (0, "o"): 4.0},
    )
    assert [(g.layer, g.group, g.modules, g.movement, g.weight_norm, g.grad_norm) for g in groups] == [
        (0, "o", 1, 12.0, 15.0, 4.0),
        (0, "mlp", 2, 5.0, 20.0, 3.0),
        (None, "other", 1, 2.0, None, None),
    ]
    assert [g.relative for g in groups] == [12 / 15, 5 / 20, None]
    first, outside = layer_rows(groups)
    assert (first["movement"], first["weight_norm"], first["grad_norm"]) == (13.0, 25.0, 5.0)
    assert first["relative"] == 13 / 25
    assert (outside["layer"], outside["relative"]) == (None, None)


def test_five_layers_that_moved_most_come_first() -> None:
    summary = layer_activity_summary([layer(i, float((i * 3) % 7), 10.0) for i in range(7)])
    assert [row["layer"] for row in summary["top"]] == [2, 4, 6, 1, 3]
    assert summary["top"][0] == {"layer": 2, "relative": 0.6, "movement": 6.0}
    # Without the norm of one weight, shares cannot be compared: movement decides.
    groups = [layer(0, 1.0, 1.0), layer(1, 5.0, None), layer(2, 2.0, 100.0)]
    assert [row["layer"] for row in layer_activity_summary(groups)["top"]] == [1, 2, 0]


def test_a_layer_is_dead_below_the_threshold_and_alive_above_it() -> None:
    groups = [layer(0, 0.0), layer(1, 1e-8), layer(2, 1.1e-7), layer(3, 0.0, None), layer(4, 1e-9, None)]
    summary = layer_activity_summary([*groups, layer(None, 0.0)])
    assert summary["dead"] == [0, 1, 3]
    assert summary["layers"] == 5
    assert {row["layer"] for row in summary["top"]} == {2, 4}


def test_one_moving_group_keeps_a_layer_alive() -> None:
    still = GroupMovement(0, "o", 1, 0.0, 10.0)
    assert layer_activity_summary([still, GroupMovement(0, "mlp", 1, 0.1, 10.0)])["dead"] == []


@pytest.mark.parametrize(
    ("norms", "vanishing", "exploding", "spread"),
    [
        ([1.0, 2.0], [], [], 2.0),
        ([0.99e-5, 1e-5], [0], [], 1 / 0.99),
        ([100.0, 100.1], [], [1], 1.001),
        ([inf, nan, 1.0], [], [0, 1], inf),
        ([0.0, 1.0], [0], [], None),
        ([None, None], [], [], None),
        ([1e-2, 11.0], [], [], 1100.0),
    ],
)
def test_gradients_vanish_explode_and_differ(
    norms: list[float | None], vanishing: list[int], exploding: list[int], spread: float | None
) -> None:
    summary = layer_activity_summary([layer(i, 1.0, 10.0, norm) for i, norm in enumerate(norms)])
    assert (summary["vanishing"], summary["exploding"]) == (vanishing, exploding)
    assert summary["gradient_spread"] == (None if spread is None else pytest.approx(spread))
    assert summary["imbalanced"] == (None if spread is None else spread > 1000)


def test_a_record_reads_back_as_it_was_written() -> None:
    groups = [
        GroupMovement(0, "qkv", 3, 0.5, 10.0, 0.25),
        GroupMovement(0, "mlp", 3, sqrt(2), None, None),
        GroupMovement(None, "other", 1, 0.0, 3.0),
    ]
    record = {"step": 40, "method": "full", "since_step": 5, "seconds": 0.25, "rows": layer_rows(groups)}
    read = layer_activity(orjson.loads(orjson.dumps(record)))
    assert read.groups == groups
    assert (read.step, read.method, read.since_step, read.seconds) == (40, "full", 5, 0.25)


@pytest.mark.parametrize("rows", [None, "none", [], [3], [{"layer": 1}], [{"layer": 1, "groups": {"o": {}}}]])
def test_a_record_of_somebody_else_breaks_nothing(rows: Any) -> None:
    assert layer_activity({"type": "layers", "rows": rows}).groups == []
