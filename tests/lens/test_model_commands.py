"""`fettle lens steer`, `drift` and `verify` on a small decoder, from its lenses on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from click.testing import CliRunner, Result

from fettle.api import open_run
from fettle.cli import cli
from fettle.errors import ConfigError, DataError, ModelError
from fettle.lens.growth import Growth
from fettle.lens.spec import ExtractionSpec
from fettle.lens.train import TrainSettings, train_lenses
from fettle.runs import RunFolder
from lens.models_on_disk import PLAIN, WORDS, save_tiny, write_examples
from tiny_models import tiny_model, tiny_tokenizer


def lens(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["lens", *arguments])


@dataclass
class World:
    folder: Path
    pack: str
    common: list[str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Lenses of three concepts over layer 2 of a small decoder."""
    folder = tmp_path_factory.mktemp("decoder")
    subject = save_tiny(folder / "base")
    write_examples(folder / "concepts.jsonl")
    train_lenses(
        subject, folder / "concepts.jsonl", folder / "pack", spec=ExtractionSpec(layers=(2,)),
        banks=folder / "bank", settings=TrainSettings(growth=Growth(cap=30)),
    )  # fmt: skip
    return World(folder, str(folder / "pack"), ["--lenses", str(folder / "pack"), "--json"])


def index(world: World) -> list[dict[str, Any]]:
    """What is known of each lens of the pack."""
    return orjson.loads(Path(world.pack, "lenses.json").read_bytes())["lenses"]


def steer(world: World, *arguments: str) -> list[dict[str, Any]]:
    done = lens("steer", "river", *world.common, "--any-grade", *arguments)
    assert done.exception is None, done.exception
    return orjson.loads(done.stdout)


def moved(rows: Sequence[dict[str, Any]]) -> list[float]:
    return [row["moved"]["value"] for row in rows]


def test_steer_sweeps_strength_and_shows_gain_and_price(world: World) -> None:
    rows = steer(world, "--strengths", "0,1,3")
    assert [row["strength"] for row in rows] == [0, 1, 3]
    assert moved(rows) == pytest.approx([0, 1, 3], abs=1e-3)
    assert rows[0]["perplexity_ratio"] == pytest.approx(1)
    assert rows[2]["perplexity_ratio"] != pytest.approx(1, abs=1e-6)


def test_each_way_of_steering_has_its_effect(world: World) -> None:
    nudged = steer(world, "--by", "nudge", "--strengths", "0.5,1", "--target", "3")
    assert nudged[1]["evidence"]["value"] == pytest.approx(3, abs=1e-3)
    assert moved(nudged)[0] == pytest.approx(moved(nudged)[1] / 2, abs=1e-3)
    removed = steer(world, "--by", "remove", "--strengths", "0,0.5,1")
    assert moved(removed)[2] == pytest.approx(2 * moved(removed)[1], abs=1e-3)
    share = steer(world, "--by", "add-norm", "--strengths", "0.1,0.2")
    assert moved(share)[1] == pytest.approx(2 * moved(share)[0], rel=1e-3)
    earlier = steer(world, "--strengths", "1", "--at", "1")
    assert moved(earlier)[0] != pytest.approx(1, abs=1e-3)


def test_steer_prints_a_table(world: World) -> None:
    done = lens("steer", "river", "--lenses", world.pack, "--any-grade", "--strengths", "0,2")
    assert done.exit_code == 0
    assert "1.00 times" in done.stdout


def test_steer_refuses_what_it_cannot_do(world: World) -> None:
    wrong = lens("steer", "rivers", *world.common)
    assert isinstance(wrong.exception, DataError)
    wrong = lens("steer", "river", *world.common, "--any-grade", "--strengths", "a")
    assert isinstance(wrong.exception, ConfigError)
    other = save_tiny(world.folder / "other", seed=9)
    wrong = lens("steer", "river", *world.common, "--any-grade", "--model", other.model)
    assert isinstance(wrong.exception, ModelError)
    assert "weights" in str(wrong.exception)


def tuned(folder: Path, seed: int, words: Sequence[str], steps: int) -> str:
    """The base trained on texts of some words."""
    model, tokenizer = tiny_model(layers=3), tiny_tokenizer()
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        texts = [" ".join(rng.choice(words, 6)) for _ in range(8)]
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def drift(world: World, run: str, *arguments: str) -> dict[str, Any]:
    done = lens("drift", run, *world.common, "--bank", str(world.folder / "bank"), *arguments)
    assert done.exception is None, done.exception
    return orjson.loads(done.stdout)


def test_drift_reads_the_same_texts_with_base_and_checkpoint(world: World) -> None:
    everything = [word for own in WORDS.values() for word in own]
    run = tuned(world.folder / "tuned", 1, WORDS["music"], 20)
    controls = [tuned(world.folder / f"control-{k}", 20 + k, everything + PLAIN, 20) for k in range(2)]
    told = drift(world, run, "--control", controls[0], "--control", controls[1])
    assert (told["texts"], told["controls"], len(told["checkpoints"])) == (48, 2, 1)
    assert {row["concept"] for row in told["lenses"]} == set(WORDS)
    sizes = [abs(row["effect"]) for row in told["lenses"]]
    assert sizes == sorted(sizes, reverse=True)
    for row in told["lenses"]:
        (shift,) = row["shifts"]
        assert row["low"] <= shift <= row["high"]
        assert len(row["examples"]) == 3
        assert row["grade"] in "ABCU"
        assert row["strongest"]
    still = drift(world, str(world.folder / "base"))["lenses"]
    assert [row["shifts"] for row in still] == [[0], [0], [0]]
    assert not any(row["moved"] for row in still)
    assert [row["effect"] for row in still] == [None] * 3  # Nothing to judge three lenses beside.


def test_drift_tells_whether_concepts_became_harder_to_read(world: World) -> None:
    concepts = str(world.folder / "concepts.jsonl")
    known = {record["concept"]: record["test"] for record in index(world)}
    for row in drift(world, str(world.folder / "base"), "--concepts", concepts)["lenses"]:
        [frozen], [refit], [cosine] = row["frozen_auroc"], row["refit_auroc"], row["cosine"]
        assert frozen == pytest.approx(known[row["concept"]]["auroc"]["value"], abs=1e-3)
        assert refit == pytest.approx(frozen, abs=0.02)
        assert cosine > 0.9
    # Weights of another draw: what the frozen lens reads off them is chance, one trained anew is not.
    other = save_tiny(world.folder / "another-draw", seed=5)
    rows = drift(world, other.model, "--concepts", concepts)["lenses"]
    assert np.mean([abs(row["frozen_auroc"][0] - 0.5) for row in rows]) < 0.35
    assert min(row["refit_auroc"][0] for row in rows) > 0.8
    assert max(abs(row["cosine"][0]) for row in rows) < 0.5
    other_texts = world.folder / "fewer.jsonl"
    other_texts.write_text("\n".join(Path(concepts).read_text().splitlines()[1:]))
    done = lens("drift", other.model, *world.common, "--bank", str(world.folder / "bank"),
                "--concepts", str(other_texts))  # fmt: skip
    assert isinstance(done.exception, DataError)
    assert "fewer.jsonl: its texts are not those that the lenses were trained on" in str(done.exception)


def test_drift_of_a_run_is_left_in_its_folder(world: World) -> None:
    trained = Path(tuned(world.folder / "of-run", 4, WORDS["river"], 5))
    metadata = {"model": {"name": str(world.folder / "base")}}
    run = RunFolder.create(world.folder / "run", config_yaml="model: x\n", metadata=metadata)
    trained.rename(run.checkpoints_path / "checkpoint-5")
    (run.checkpoints_path / "checkpoint-5" / "fettle.json").write_text('{"step": 5}')
    told = drift(world, str(run.path), "--concepts", str(world.folder / "concepts.jsonl"))
    left = open_run(run.path).drift()
    assert left is not None
    assert (left.pack, left.steps, left.names) == (world.pack, [5], [told["checkpoints"][0]["name"]])
    values = ("concept", "shifts", "frozen_auroc", "refit_auroc", "cosine")
    assert [tuple(getattr(lens, name) for name in values) for lens in left.lenses] == [
        tuple(row[name] for name in values) for row in told["lenses"]
    ]


def test_drift_prints_the_movers(world: World) -> None:
    run = tuned(world.folder / "shown", 2, WORDS["river"], 5)
    (world.folder / "own.txt").write_text("one text\n\nand another\n")
    done = lens("drift", run, "--lenses", world.pack, "--bank", str(world.folder / "bank"),
                "--texts", str(world.folder / "own.txt"), "--quiet",
                "--concepts", str(world.folder / "concepts.jsonl"))  # fmt: skip
    assert done.exit_code == 0, done.exception
    assert "AUROC" in done.stdout
    assert "2 texts; shown" in done.stdout
    assert "river" in done.stdout


def test_drift_of_a_model_that_reads_otherwise_is_refused(world: World) -> None:
    other = tiny_tokenizer(300)
    folder = Path(tuned(world.folder / "otherwise", 3, WORDS["river"], 1))
    other.save_pretrained(folder)
    done = lens("drift", str(folder), *world.common, "--bank", str(world.folder / "bank"))
    assert isinstance(done.exception, ModelError)
    assert "tokenizer" in str(done.exception)
    empty = world.folder / "empty.txt"
    empty.write_text("\n")
    done = lens("drift", str(world.folder / "base"), *world.common, "--texts", str(empty))
    assert isinstance(done.exception, DataError)


def test_verify_measures_dtypes_and_batches_on_the_texts_of_a_pack(world: World) -> None:
    command = ["verify", world.pack, "--bank", str(world.folder / "verified"), "--device", "cpu"]
    done = lens(*command, "--json")
    assert done.exception is None, done.exception
    told = orjson.loads(done.stdout)
    assert set(told) == {"float32 to bfloat16", "bfloat16 to float32", "batches to one at a time"}
    assert told["batches to one at a time"]["safe"]
    assert told["batches to one at a time"]["score"] < 1e-3
    assert told["float32 to bfloat16"]["score"] > told["batches to one at a time"]["score"]
    assert len(told["bfloat16 to float32"]["lenses"]) == 3
    shown = lens(*command)
    assert shown.exit_code == 0
    assert "safe" in shown.stdout
