"""LightningCallback inside a real Lightning trainer, on a tiny model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
lightning: Any = pytest.importorskip("lightning.pytorch")

import fettle  # noqa: E402
from fettle.errors import ModelError  # noqa: E402
from tiny_models import tiny_model, tiny_tokenizer  # noqa: E402
from train.sums import FEW, write_sums  # noqa: E402

pytestmark = [
    # What Lightning says of itself and of small data.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Found .* in eval mode"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists"),
]
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    return write_sums(tmp_path / "valid.jsonl", range(60, 66))


class Module(lightning.LightningModule):
    def __init__(self, rate: float = 1e-2, nan_at: int | None = None) -> None:
        super().__init__()
        self.tokenizer = tiny_tokenizer()
        self.language = tiny_model(vocab_size=len(self.tokenizer))  # in eval mode, as it is loaded
        self.rate, self.nan_at = rate, nan_at
        self.seen: list[tuple[float, int]] = []

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss = self.language(**batch).loss
        self.seen.append((float(loss.detach()), int((batch["labels"][:, 1:] != -100).sum())))
        return loss * torch.nan if index == self.nan_at else loss

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=self.rate)


def loader(module: Module, batches: int = 8) -> Any:
    rows = []
    for i in range(2 * batches):
        ids = module.tokenizer(f"{i + 10} plus {i + 11} is {2 * i + 21} and more").input_ids[:12]
        rows.append(
            {"input_ids": torch.tensor(ids), "labels": torch.tensor([-100] * (2 + i % 5) + ids[2 + i % 5 :])}
        )
    return torch.utils.data.DataLoader(rows, 2)


def fit(
    folder: Path, module: Module, callback: Any, *, more: Any = (), ckpt: Any = None, **changes: Any
) -> Any:
    settings: dict[str, Any] = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": bool(more),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": str(folder),
    }
    trainer = lightning.Trainer(**{**settings, **changes}, callbacks=[callback, *more])
    trainer.fit(module, loader(module), ckpt_path=ckpt, **({"weights_only": False} if ckpt else {}))
    return trainer


def test_steps_evals_and_the_best_are_recorded_and_training_is_unchanged(tmp_path: Path, valid: Path) -> None:
    plain, module = Module(), Module()
    fit(tmp_path / "plain", plain, lightning.Callback(), accumulate_grad_batches=2, gradient_clip_val=1e-3)
    watch = fettle.LightningCallback(
        valid, eval_interval_steps=2, predictions={"samples": 2, "max_new_tokens": 3}
    )
    fit(tmp_path, module, watch, accumulate_grad_batches=2, gradient_clip_val=1e-3)
    theirs = plain.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in module.state_dict().items())
    run = fettle.open_run(tmp_path / "fettle")
    assert run.state() == "completed"
    train = run.columns("train")
    assert train["step"].tolist() == [1, 2, 3, 4]
    pairs = list(zip(module.seen[::2], module.seen[1::2], strict=True))
    assert train["loss"] == pytest.approx([(a * m + b * n) / (m + n) for (a, m), (b, n) in pairs], rel=1e-5)
    assert (train["grad_norm"] > 0.1).all()  # before clipping
    assert train["epoch"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert [e.step for e in run.evals()] == [2, 4]
    assert {row["step"] for row in run.predictions()} == {2, 4}
    saved = run.checkpoints()[-1]
    assert saved.path is not None
    assert saved.score is not None
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(saved.path)
    held_out = fettle.HeldOut(valid, module.tokenizer)
    expected = fettle.score(model, held_out.eval_set.sequences).cross_entropy
    assert saved.cross_entropy == pytest.approx(expected, rel=1e-6)
    assert run.metadata()["backend"] == "lightning"
    assert not module.language._forward_hooks


def test_early_stopping_ends_training(tmp_path: Path, valid: Path) -> None:
    watch = fettle.LightningCallback(valid, eval_interval_steps=2, early_stopping_patience=2, predictions=FEW)
    trainer = fit(tmp_path, Module(rate=0.0), watch, max_epochs=9)
    assert trainer.global_step == 6
    assert fettle.open_run(tmp_path / "fettle").state() == "early_stopped"


def test_a_nan_stops_within_the_step_and_leaves_the_weights_alone(tmp_path: Path, valid: Path) -> None:
    module = Module(nan_at=2)
    before: dict[str, torch.Tensor] = {}

    class Remember(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                before.update({name: value.clone() for name, value in pl_module.state_dict().items()})

    watch = fettle.LightningCallback(valid, eval_interval_steps=2, predictions=FEW)
    trainer = fit(tmp_path, module, watch, more=[Remember()], enable_checkpointing=False)
    assert trainer.global_step == 3
    run = fettle.open_run(tmp_path / "fettle")
    assert run.state() == "failed"
    assert "checkpoint-2" in run.records("end")[-1]["reason"]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_lightning_checkpoints_carry_score_and_counters(tmp_path: Path, valid: Path) -> None:
    def trained(folder: str, ckpt: Path | None = None) -> Any:
        saver = lightning.callbacks.ModelCheckpoint(
            dirpath=tmp_path / folder / "ckpt", filename="{step}", every_n_epochs=1, save_top_k=-1
        )
        watch = fettle.LightningCallback(
            valid, eval_interval_steps=2, early_stopping_patience=0, early_stopping_threshold=9.0,
            predictions=FEW,
        )  # fmt: skip
        fit(tmp_path / folder, Module(), watch, more=[saver], ckpt=ckpt, max_epochs=2)
        return fettle.open_run(tmp_path / folder / "fettle")

    whole = trained("whole")
    stored = torch.load(tmp_path / "whole" / "ckpt" / "step=8.ckpt", weights_only=False)["fettle"]
    [scored] = [c for c in whole.checkpoints() if c.step == 8]
    assert (stored["step"], stored["score"]) == (8, scored.score)
    assert stored["cross_entropy"] == whole.evals()[3].cross_entropy
    cut = trained("cut")
    cut = trained("cut", tmp_path / "cut" / "ckpt" / "step=8.ckpt")
    assert [r["step"] for r in cut.records("resume")] == [8]
    assert cut.columns("train")["step"].tolist() == list(range(1, 17))
    name = "ckpt/step=16.ckpt"
    states = [
        torch.load(tmp_path / folder / name, weights_only=False)["callbacks"]["LightningCallback"]
        for folder in ("whole", "cut")
    ]
    assert states[0] == states[1]
    assert states[0]["early_stopping"]["evals_without_improvement"] == 7


def test_an_exception_fails_the_run(tmp_path: Path) -> None:
    class Breaks(Module):
        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            if index == 1:
                raise ValueError("bad batch")
            return super().training_step(batch, index)

    with pytest.raises(ValueError, match="bad batch"):
        fit(tmp_path, Breaks(), fettle.LightningCallback())
    run = fettle.open_run(tmp_path / "fettle")
    assert (run.state(), run.records("end")[-1]["reason"]) == ("failed", "ValueError: bad batch")


def test_what_cannot_be_watched_is_refused(tmp_path: Path, valid: Path) -> None:
    class Nameless(Module):
        def on_train_start(self) -> None:
            raise AssertionError("training began")

        def on_fit_start(self) -> None:
            self.tokenizer = None

    with pytest.raises(ModelError, match=r"self\.tokenizer"):
        fit(tmp_path, Nameless(), fettle.LightningCallback(valid))


@pytest.mark.slow
def test_the_lightning_example_trains_and_is_judged(tmp_path: Path, valid: Path) -> None:
    pytest.importorskip("peft")
    tokenizer = tiny_tokenizer()
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    train = write_sums(tmp_path / "train.jsonl", range(24))
    done = subprocess.run(
        [
            *(sys.executable, str(EXAMPLES / "lightning_module.py"), str(tmp_path / "model")),
            *(str(train), str(valid), "--output-dir", str(tmp_path / "out")),
            *("--max-steps", "6", "--eval-steps", "3", "--learning-rate", "1e-2"),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    run = fettle.open_run(tmp_path / "out" / "fettle")
    assert run.state() == "completed"
    assert [e.step for e in run.evals()] == [3, 6]  # 3 is also the end of an epoch
    assert run.columns("train")["loss"][-1] < run.columns("train")["loss"][0]
    best = run.verdict().checkpoint
    assert best is not None
