"""Lenses that read a model while it is trained: by `fettle train` and inside a trainer of Transformers."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
import transformers
from safetensors.torch import load_file

from fettle import FettleCallback, LiveDrift, open_run
from fettle.config import load_config
from fettle.errors import ConfigError, ModelError, RunError
from fettle.evaluation.subject import find_subjects
from fettle.lens.growth import Growth
from fettle.lens.lens_pack import read_pack
from fettle.lens.neutral_texts import NEUTRAL
from fettle.lens.run_drift import run_drift
from fettle.lens.spec import ExtractionSpec
from fettle.lens.train import TrainSettings, train_lenses
from fettle.runs import RunFolder
from fettle.train.job import train
from fettle.train.pipeline import DoneStep
from forked import KilledError, forked
from lens.models_on_disk import save_tiny, write_examples

YAML = """\
model: ./base
data: {train: train.jsonl}
lora: {rank: 4, alpha: 8, dropout: 0.1}
training:
  max_steps: 7
  batch_size: 2
  learning_rate: 1.0e-2
  max_seq_length: 64
  checkpoint_interval_steps: 3
  layer_interval_steps: null
lenses: {pack: pack, every_steps: 2}
"""


@dataclass
class World:
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "train.yaml"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A base, lenses of three concepts over its second layer, and chats to train it on."""
    folder = tmp_path_factory.mktemp("live")
    subject = save_tiny(folder / "base")
    texts = write_examples(folder / "concepts.jsonl")
    train_lenses(
        subject, folder / "concepts.jsonl", folder / "pack", spec=ExtractionSpec(layers=(1, 2)),
        banks=folder / "bank", settings=TrainSettings(growth=Growth(cap=30)),
    )  # fmt: skip
    chats = [
        {"messages": [{"role": "user", "content": f"say {k}"}, {"role": "assistant", "content": text}]}
        for k, text in enumerate(texts[:24])
    ]
    (folder / "train.jsonl").write_bytes(b"\n".join(map(orjson.dumps, chats)))
    (folder / "train.yaml").write_text(YAML)
    return World(folder)


def trained(world: World, out: Path, *changes: str, **more: Any) -> None:
    config = load_config(world.config, changes)
    lenses = None if config.lenses is None else LiveDrift.of(config.lenses)
    assert train(config, out=out, log_level="ERROR", lenses=lenses, **more).state == "completed"


@pytest.fixture(scope="module")
def reference(world: World) -> Path:
    trained(world, world.folder / "reference")
    return world.folder / "reference"


def test_readings_are_those_of_lens_drift_and_change_no_bit_of_the_training(
    world: World, reference: Path, tmp_path: Path
) -> None:
    live = open_run(reference).drift()
    assert live is not None
    assert (live.steps, live.texts, len(live.lenses)) == ([2, 4, 6, 7], len(NEUTRAL), 3)
    pack = read_pack(world.folder / "pack")
    subjects, _ = find_subjects(str(reference), "last", base=False)
    after = run_drift(pack, pack.subject, subjects, NEUTRAL, world.folder / "bank")
    row = {lens.concept: lens for lens in live.lenses}
    for c, concept in enumerate(pack.concepts):
        found = row[concept]
        assert found.shifts[-1] == pytest.approx(after.drifts[0].shift[c], abs=1e-4)
        assert found.shifts[0] != found.shifts[-1]
        assert (found.low, found.high) == pytest.approx(
            (after.drifts[0].low[c], after.drifts[0].high[c]), abs=1e-4
        )
    trained(world, tmp_path / "plain", "lenses=null")
    name = "checkpoints/checkpoint-7/adapter_model.safetensors"
    mine, theirs = load_file(reference / name), load_file(tmp_path / "plain" / name)
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    # The log tells the page that there is news, and the verdict has it.
    assert [row["step"] for row in open_run(reference).records("lenses")] == [2, 4, 6, 7]
    evidence = open_run(reference).verdict().evidence["concepts"]
    assert (evidence["step"], evidence["lenses"]) == (7, 3)


def test_what_was_asked_later_is_shown(reference: Path, world: World) -> None:
    """`fettle lens drift` after the training takes its place."""
    folder = RunFolder(reference)
    live = orjson.loads(folder.live_drift_path.read_bytes())
    for created, texts in (("2000-01-01T00:00:00+00:00", len(NEUTRAL)), ("2999-01-01T00:00:00+00:00", 5)):
        folder.drift_path.write_bytes(orjson.dumps({**live, "created_at": created, "texts": 5}))
        found = open_run(reference).drift()
        assert found is not None
        assert found.texts == texts
    folder.drift_path.unlink()


def test_a_killed_run_goes_on_with_its_readings(world: World, reference: Path, tmp_path: Path) -> None:
    def kill(done: DoneStep) -> None:
        if done.step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(KilledError):
        forked(lambda: trained(world, tmp_path / "run", on_step=kill))
    trained(world, tmp_path / "run")
    contents = [
        orjson.loads(RunFolder(run).live_drift_path.read_bytes()) for run in (tmp_path / "run", reference)
    ]
    for content in contents:
        del content["created_at"]
    assert contents[0] == contents[1]


def test_a_run_that_no_lens_read_as_it_began_is_refused_when_it_goes_on(
    world: World, reference: Path, tmp_path: Path
) -> None:
    lenses = LiveDrift(world.folder / "pack")
    lenses.check(str(world.folder / "base"))
    with pytest.raises(RunError, match="no lens read the run as it began"):
        lenses.begin(None, RunFolder(tmp_path), 4)
    (tmp_path / "own.txt").write_text("another text\n")
    other = LiveDrift(world.folder / "pack", neutral=tmp_path / "own.txt")
    other.check(str(world.folder / "base"))
    with pytest.raises(RunError, match="other texts"):
        other.begin(None, RunFolder(reference), 4)


def test_lenses_of_another_model_are_refused_before_anything_is_written(world: World, tmp_path: Path) -> None:
    save_tiny(world.folder / "other", seed=7)
    with pytest.raises(ModelError, match=r"lenses of another model than .*other \(its weights differ\)"):
        trained(world, tmp_path / "run", "model=./other")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"lenses: give train\(\.\.\., lenses=LiveDrift"):
        train(load_config(world.config), out=tmp_path / "run")
    config = load_config(world.config, ["lenses.pack=nowhere", "lenses.neutral=nothing.txt"])
    with pytest.raises(ConfigError, match=r"(?s)lenses\.pack: no folder .*lenses\.neutral: no file"):
        train(config, out=tmp_path / "run")


def test_the_callback_reads_and_leaves_the_training_as_it_was(world: World, tmp_path: Path) -> None:
    def trainer(name: str, *callbacks: Any) -> Any:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            world.folder / "base", attention_dropout=0.1
        )
        rows = [{"input_ids": [5 + k, 9, 17 + k], "labels": [5 + k, 9, 17 + k]} for k in range(8)]
        arguments = transformers.TrainingArguments(
            str(tmp_path / name), max_steps=5, per_device_train_batch_size=2, save_strategy="no",
            report_to=[], use_cpu=True, disable_tqdm=True, learning_rate=1e-3, dataloader_pin_memory=False,
        )  # fmt: skip
        made = transformers.Trainer(model, arguments, train_dataset=rows, callbacks=list(callbacks))  # pyright: ignore[reportArgumentType]
        made.train()
        return made.model

    lenses = LiveDrift(world.folder / "pack", every_steps=2)
    watched = trainer("watched", FettleCallback(layer_interval_steps=None, lenses=lenses))
    plain = trainer("plain")
    run = open_run(tmp_path / "watched" / "fettle")
    found = run.drift()
    assert found is not None
    assert found.steps == [2, 4, 5]
    assert (run.config() or {})["fettle"]["lenses"]["every_steps"] == 2
    theirs = plain.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in watched.state_dict().items())


def test_a_callback_wants_the_reader_itself(world: World) -> None:
    settings = LiveDrift(world.folder / "pack").settings()
    with pytest.raises(ConfigError, match="must be a LiveDrift"):
        FettleCallback(lenses=settings)  # pyright: ignore[reportArgumentType]


def test_weights_that_cannot_be_read_stop_nothing_and_old_readings_thin_out(
    world: World, tmp_path: Path
) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(world.folder / "base")
    lenses = LiveDrift(world.folder / "pack", every_steps=1)
    lenses.check(str(world.folder / "base"))
    folder = RunFolder(tmp_path)
    lenses.begin(model, folder, 0)
    for step in range(1, 52):
        assert lenses.read(model, step) is not None
    steps = [row["step"] for row in orjson.loads(folder.live_drift_path.read_bytes())["checkpoints"]]
    assert steps == [*range(4, 49, 4), 51]
    torch.nn.init.constant_(model.model.layers[0].mlp.down_proj.weight, float("nan"))
    assert lenses.read(model, 52) is None
    assert orjson.loads(folder.live_drift_path.read_bytes())["checkpoints"][-1]["step"] == 51
