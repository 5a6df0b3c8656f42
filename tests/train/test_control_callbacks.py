"""control.json is obeyed by loops that are not fettle's: Hugging Face, Lightning, and one by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

import transformers
from transformers.trainer_callback import TrainerCallback

import fettle
from fettle.runs import RunReader
from fettle.runs.control import Action
from tiny_models import tiny_model, tiny_tokenizer
from train.asking import Person, ask, obeyed, until

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Found .* in eval mode"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists"),
    # A plain DataLoader begins its epoch again, which Lightning says.
    pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint that ended before the epoch"),
]
ASKED: dict[int, tuple[Action, ...]] = {2: ("checkpoint",), 3: ("pause",), 5: ("stop",)}
OBEYED = [("checkpoint", 2), ("pause", 3), ("checkpoint", 3), ("resume", 3), ("stop", 5)]
STEPS = 8
STOPPED = ("interrupted", "stopped on request at step 5 of 8")


def rows(tokenizer: Any) -> list[dict[str, Any]]:
    texts = (tokenizer(f"{i} plus {i} is {2 * i}.").input_ids[:8] for i in range(10, 26))
    return [{"input_ids": torch.tensor(ids), "labels": torch.tensor(ids)} for ids in texts]


def hf_trainer(out: Path, *callbacks: Any) -> Any:
    tokenizer = tiny_tokenizer()
    trainer = transformers.Trainer(
        model=tiny_model(hidden=32, vocab_size=len(tokenizer)),
        args=transformers.TrainingArguments(
            output_dir=str(out), per_device_train_batch_size=2, max_steps=STEPS, learning_rate=1e-2,
            save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False,
        ),
        train_dataset=rows(tokenizer),
        processing_class=tokenizer,
        data_collator=lambda batch: {key: torch.stack([row[key] for row in batch]) for key in batch[0]},
    )  # fmt: skip
    for callback in callbacks:
        trainer.add_callback(callback)
    return trainer


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


class Asking(TrainerCallback):
    """Asks while the step that is named is done."""

    def __init__(self, run: Path, person: Person) -> None:
        self.path, self.person = run, person

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step + 1
        if step == 1:
            self.person.start()
        ask(self.path, *ASKED.get(step, ()))


def test_the_hugging_face_trainer_saves_pauses_stops_and_goes_on(tmp_path: Path) -> None:
    whole = hf_trainer(tmp_path / "whole", fettle.FettleCallback())
    whole.train()

    out = tmp_path / "out"

    def beside() -> None:
        ask(out / "fettle", "checkpoint")
        until(lambda: (out / "checkpoint-3" / "fettle.json").exists())
        assert RunReader(out).state() == "paused"
        ask(out / "fettle", "resume")

    person = Person(out / "fettle", beside)
    # Before fettle's callback: what is asked during the step is obeyed at its end.
    hf_trainer(out, Asking(out / "fettle", person), fettle.FettleCallback()).train()
    person.join()
    run = fettle.open_run(out)
    assert obeyed(out) == OBEYED
    assert run.columns("train")["step"].tolist() == [1, 2, 3, 4, 5]
    assert (run.state(), run.records("end")[-1]["reason"]) == (
        "interrupted",
        "stopped on request at step 5 of 8",
    )
    assert [c.step for c in run.checkpoints() if c.path] == [2, 3, 5]

    again = hf_trainer(out, fettle.FettleCallback())
    again.train(resume_from_checkpoint=True)
    run = fettle.open_run(out)
    assert (run.state(), obeyed(out)) == ("completed", OBEYED)
    assert run.columns("train")["step"].tolist() == list(range(1, STEPS + 1))
    theirs = weights(whole.model)
    assert all(torch.equal(value, theirs[name]) for name, value in weights(again.model).items())


def test_lightning_saves_pauses_stops_and_goes_on(tmp_path: Path) -> None:
    lightning: Any = pytest.importorskip("lightning.pytorch")
    out = tmp_path / "fettle"

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.language = tiny_model(hidden=32, vocab_size=len(tiny_tokenizer()))

        def training_step(self, batch: Any, index: int) -> Any:
            return self.language(**batch).loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    class AskingLightning(lightning.Callback):
        def __init__(self, person: Person | None) -> None:
            self.person = person

        def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
            if self.person is None:
                return
            if trainer.global_step == 0:
                self.person.start()
            ask(out, *ASKED.get(trainer.global_step + 1, ()))

    def fit(person: Person | None, ckpt: Path | None = None) -> Any:
        trainer = lightning.Trainer(
            max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=str(tmp_path),
            callbacks=[AskingLightning(person), fettle.LightningCallback()],
        )  # fmt: skip
        loader = torch.utils.data.DataLoader(rows(tiny_tokenizer()), 2)
        trainer.fit(Module(), loader, ckpt_path=ckpt, **({"weights_only": False} if ckpt else {}))
        return trainer

    def beside() -> None:
        ask(out, "checkpoint")
        until(lambda: (out / "checkpoints" / "step-3.ckpt").exists())
        assert RunReader(out).state() == "paused"
        ask(out, "resume")

    person = Person(out, beside)
    fit(person)
    person.join()
    run = fettle.open_run(out)
    assert obeyed(out) == OBEYED
    assert run.columns("train")["step"].tolist() == [1, 2, 3, 4, 5]
    assert run.state() == "interrupted"
    assert [c.step for c in run.checkpoints() if c.path] == [2, 3, 5]

    fit(None, out / "checkpoints" / "step-5.ckpt")
    run = fettle.open_run(out)
    assert (run.state(), obeyed(out)) == ("completed", OBEYED)
    assert run.columns("train")["step"].tolist() == list(range(1, STEPS + 1))


def train_by_hand(recorder: Any, asked: dict[int, tuple[Action, ...]]) -> list[int]:
    """The steps at which the loop was told to save."""
    saved = []
    for step in range(recorder.last_step + 1, STEPS + 1):
        ask(recorder.folder.path, *asked.get(step, ()))
        recorder.step(step, loss_sum=1.0, completion_tokens=1, tokens=3, seconds=0.1)
        if recorder.should_save:
            recorder.checkpoint(step, lambda path: (path / "weights").touch())
            saved.append(step)
        if recorder.should_stop:
            break
    return saved


def test_a_loop_by_hand_is_told_to_save_and_to_stop_and_sleeps_through_a_pause(tmp_path: Path) -> None:
    out = tmp_path / "run"
    person = Person(out, lambda: ask(out, "checkpoint", "resume"))
    with fettle.record(out, total_steps=STEPS) as recorder:
        person.start()
        assert train_by_hand(recorder, ASKED) == [2, 3, 5]
    person.join()
    assert obeyed(out) == OBEYED
    run = fettle.open_run(out)
    assert (run.state(), run.records("end")[-1]["reason"]) == (
        "interrupted",
        "stopped on request at step 5 of 8",
    )
    with fettle.record(out, total_steps=STEPS, resume_from=out / "checkpoints" / "checkpoint-5") as recorder:
        assert train_by_hand(recorder, {}) == []
    assert (fettle.open_run(out).state(), obeyed(out)) == ("completed", OBEYED)
    assert json.loads((out / "status.json").read_text())["state"] == "completed"


def test_a_loop_of_unknown_length_was_interrupted_by_a_stop(tmp_path: Path) -> None:
    with fettle.record(tmp_path / "run") as recorder:
        train_by_hand(recorder, {2: ("stop",)})
    run = fettle.open_run(tmp_path / "run")
    assert (run.state(), run.records("end")[-1]["step"]) == ("interrupted", 2)
