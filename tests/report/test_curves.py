"""Training curves: what is drawn, what is marked, what is left out; the PNG itself."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fettle.errors import RunError
from fettle.report import plot_curves
from fettle.runs import RunReader
from fettle.runs.records import FixedEval


def train(steps: int = 200, **columns: np.ndarray) -> dict[str, np.ndarray]:
    step = np.arange(10.0, 10 * steps + 1, 10)
    loss = 0.5 + 2 * np.exp(-step / 400)
    return {
        "step": step,
        "epoch": step / 800,
        "loss": loss,
        "tokens_per_sec": np.full(steps, 900.0),
        **columns,
    }


def evals(losses: list[float], match: bool = True) -> list[FixedEval]:
    return [
        FixedEval(
            step=200 * (i + 1),
            cross_entropy=loss,
            exact_match=0.1 * i if match else None,
            exact_match_low=max(0.0, 0.1 * i - 0.05) if match else None,
            exact_match_high=0.1 * i + 0.05 if match else None,
        )
        for i, loss in enumerate(losses)
    ]


LOSSES = [1.8, 1.2, 0.9, 0.8, 0.75, 0.77, 0.8]


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were drawn: what is in them is read off, not guessed from pixels."""
    from matplotlib.figure import Figure

    drawn: list[Any] = []
    save = Figure.savefig

    def keep(self: Figure, *args: Any, **kwargs: Any) -> None:
        drawn.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return drawn


def texts(figure: Any) -> list[str]:
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text) if t.get_text() and t.get_visible()]


def lines(axis: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axis.get_lines()}


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def test_writes_a_png_at_the_asked_resolution(tmp_path: Path) -> None:
    small = plot_curves(train(), evals(LOSSES), output=tmp_path / "plots" / "a.png", dpi=50)
    large = plot_curves(train(), evals(LOSSES), output=tmp_path / "plots" / "b.png", dpi=100)
    assert small == tmp_path / "plots" / "a.png"
    width, height = png_size(small)
    assert width == 475
    assert png_size(large) == pytest.approx((2 * width, 2 * height), abs=2)
    assert sorted(p.name for p in small.parent.iterdir()) == ["a.png", "b.png"]  # nothing left aside


def test_draws_raw_smoothed_validation_and_marks(tmp_path: Path, figure: list[Any]) -> None:
    plot_curves(
        train(), evals(LOSSES), output=tmp_path / "a.png", dpi=50, ema_alpha=0.2, title="my run",
        early_stop={"step": 1400, "best_step": 1000},
    )  # fmt: skip
    loss, match, speed = figure[0].axes
    drawn = lines(loss)
    assert drawn["train"].get_ydata() == pytest.approx(train()["loss"])
    assert drawn["train, EMA (α = 0.2)"].get_ydata()[0] == pytest.approx(train()["loss"][0])
    assert drawn["validation"].get_xdata().tolist() == [200 * (i + 1) for i in range(7)]
    stars = [line for line in loss.get_lines() if line.get_marker() == "*"]
    assert [(s.get_xdata()[0], s.get_ydata()[0]) for s in stars] == [(1000, 0.75)]
    written = texts(figure[0])
    assert {"my run", "best 0.7500, step 1,000", "best 60.0 %, step 1,400", "epoch 1", "epoch 2"} <= set(
        written
    )
    assert "early stop, step 1,400" in written
    for axis in (loss, match, speed):
        assert 1400 in [line.get_xdata()[0] for line in axis.get_lines()]
    assert match.get_ylabel().startswith("exact match")
    assert speed.get_ylabel() == "tokens / s"


def test_what_was_not_measured_has_no_panel(tmp_path: Path, figure: list[Any]) -> None:
    columns = train()
    del columns["tokens_per_sec"]
    plot_curves(columns, evals(LOSSES, match=False), output=tmp_path / "a.png", dpi=50)
    plot_curves(train(), [], output=tmp_path / "b.png", dpi=50)
    plot_curves({}, evals(LOSSES), output=tmp_path / "c.png", dpi=50)
    assert [len(f.axes) for f in figure] == [1, 2, 2]
    assert "validation" not in lines(figure[1].axes[0])
    assert "train" not in lines(figure[2].axes[0])


def test_points_that_are_not_finite_are_marked(tmp_path: Path, figure: list[Any]) -> None:
    loss = train()["loss"].copy()
    loss[[50, 51]] = np.nan, np.inf
    rows = [*evals(LOSSES), FixedEval(step=1600, extra={"cross_entropy_nonfinite": "nan"})]
    plot_curves(train(loss=loss), rows, output=tmp_path / "a.png", dpi=50)
    drawn = lines(figure[0].axes[0])
    assert drawn["train loss not finite (2)"].get_xdata().tolist() == [510.0, 520.0]
    assert drawn["validation loss not finite (1)"].get_xdata().tolist() == [1600.0]


def test_train_loss_of_another_scale_gets_its_own_axis(tmp_path: Path, figure: list[Any]) -> None:
    rows = evals([float(np.interp(200 * (i + 1), train()["step"], train()["loss"])) for i in range(7)])
    plot_curves(train(loss=16 * train()["loss"]), rows, output=tmp_path / "a.png", dpi=50)
    plot_curves(train(), rows, output=tmp_path / "b.png", dpi=50)
    summed, plain = figure
    own = next(axis for axis in summed.axes if "as logged" in axis.get_ylabel())
    assert "about 16 × validation" in own.get_ylabel()
    assert "train" in lines(own)
    assert "train" not in lines(summed.axes[0])
    assert not any("as logged" in axis.get_ylabel() for axis in plain.axes)


@pytest.mark.real_data
def test_law_llm(tmp_path: Path, real_data: Path, figure: list[Any]) -> None:
    run = RunReader(real_data / "hf_runs" / "law-llm.trainer_state.json")
    plot_curves(run.columns("train"), run.evals(), output=tmp_path / "a.png", title=run.name)
    assert any("not comparable" in axis.get_ylabel() for axis in figure[0].axes)
    assert "best 0.3038, step 600" in texts(figure[0])


def test_logarithmic_only_where_a_linear_axis_would_hide_the_end(tmp_path: Path, figure: list[Any]) -> None:
    wide = 0.3 + 20 * np.exp(-train()["step"] / 100)
    plot_curves(train(loss=wide), evals(LOSSES), output=tmp_path / "a.png", dpi=50)
    plot_curves(train(), evals(LOSSES), output=tmp_path / "b.png", dpi=50)
    assert [f.axes[0].get_yscale() for f in figure] == ["log", "linear"]
    assert figure[1].axes[0].get_ylim()[0] >= 0


def test_short_run_is_not_smoothed(tmp_path: Path, figure: list[Any]) -> None:
    # An average of ten rows over five would only lag behind them.
    plot_curves(train(5), [], output=tmp_path / "a.png", dpi=50)
    assert [label for label in lines(figure[0].axes[0]) if not label.startswith("_")] == ["train"]


def test_every_spike_of_a_long_run_is_drawn(tmp_path: Path, figure: list[Any]) -> None:
    steps = np.arange(1.0, 100_001)
    loss = np.ones(steps.size)
    spikes = np.random.default_rng(0).choice(steps.size, 20, replace=False)
    loss[spikes] = 5 + np.arange(20)
    plot_curves({"step": steps, "loss": loss}, [], output=tmp_path / "a.png", dpi=50)
    drawn = lines(figure[0].axes[0])["train"]
    assert len(drawn.get_xdata()) <= 4_000
    # Two spikes may share a bucket of 50 steps; the higher one stays.
    expected = {loss[b : b + 50].max() for b in range(0, steps.size, 50)} - {1.0}
    assert expected <= set(drawn.get_ydata().tolist())


@pytest.mark.parametrize("many", [2, 40])
def test_epoch_labels_do_not_crowd(tmp_path: Path, figure: list[Any], many: int) -> None:
    columns = train(400)
    columns["epoch"] = columns["step"] / (4000 / many)
    plot_curves(columns, [], output=tmp_path / "a.png", dpi=50)
    labels = [t for t in texts(figure[0]) if t.startswith("epoch ")]
    assert len(labels) == min(many, 10)


def test_one_eval_and_nothing_else(tmp_path: Path) -> None:
    assert png_size(plot_curves({}, evals([0.5]), output=tmp_path / "a.png", dpi=50))


def test_exact_match_of_zero_is_drawn_without_a_star(tmp_path: Path, figure: list[Any]) -> None:
    rows = [FixedEval(step=s, cross_entropy=1.0, exact_match=0.0) for s in (100, 200)]
    plot_curves({}, rows, output=tmp_path / "a.png", dpi=50)
    assert [line.get_marker() for line in figure[0].axes[1].get_lines()] == ["o"]


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"empty: no train loss and no evaluation"):
        plot_curves({}, [], output=tmp_path / "a.png", title="empty")
    assert not (tmp_path / "a.png").exists()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        plot_curves(train(), [], output=tmp_path / "file" / "a.png", dpi=50)


def test_replaces_the_old_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    assert png_size(plot_curves(train(), [], output=tmp_path / "a.png", dpi=50))
