"""`fettle lens train`, `show` and `grade`: a real encoder on twenty concepts, and all that can go wrong."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from click.testing import CliRunner, Result

from fettle.cli import cli
from fettle.errors import DataError
from fettle.evaluation.subject import Subject
from fettle.lens.growth import Growth
from fettle.lens.lens_pack import read_pack
from fettle.lens.spec import ExtractionSpec
from fettle.lens.train import TrainSettings, train_lenses
from lens.models_on_disk import minilm, save_tiny

CONCEPTS = Path(__file__).parent / "packs" / "feelings_and_pursuits.jsonl"
WORDS = "river stone lamp quiet green winter market seven letter glass wolf paper engine salt".split()


def lens(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["lens", *arguments])


@dataclass
class World:
    folder: Path
    command: list[str]
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A pack trained from nothing."""
    folder = tmp_path_factory.mktemp("lenses")
    command = [
        "train", "--model", minilm().model, "--concepts", str(CONCEPTS), "--layers", "3,6",
        "--out", str(folder / "pack"), "--bank", str(folder / "bank"), "--json",
    ]  # fmt: skip
    done = lens(*command)
    assert done.exception is None, done.exception
    return World(folder, command, orjson.loads(done.stdout))


def test_twenty_concepts_are_read_off_a_real_encoder(world: World) -> None:
    told = world.summary
    assert told["lenses"] == 20
    assert told["layer"] == 6
    assert told["layers"]["6"] > told["layers"]["3"]
    assert told["mean_test_auroc"] > 0.9
    assert told["mean_test_f1"] > 0.8
    # No sentence names its concept: its words alone say little, chance says nothing.
    assert told["baselines"]["bag_of_words"] < 0.75
    assert told["mean_selectivity"] > 0.15
    for control in ("shuffled_labels", "random_direction"):
        assert abs(told["baselines"][control] - 0.5) < 0.1
    assert told["grades"]["U"] == 0
    assert told["grades"]["A"] >= 5
    assert told["grades"]["A"] + told["grades"]["B"] >= 14
    assert 1 <= told["graduated"] < 20
    assert told["test"] == {"hash": told["test"]["hash"], "texts": 410, "opened": 1}


def test_every_lens_says_how_it_was_judged(world: World) -> None:
    pack = read_pack(world.folder / "pack")
    assert pack.identity["spec"]["layers"] == [3, 6]
    for name, record in zip(pack.concepts, pack.records, strict=True):
        assert record["branches"] in (["Feeling"], ["Pursuit"])
        assert record["reason"]
        assert record["test"]["f1"]["low"] < record["test"]["f1"]["value"] < record["test"]["f1"]["high"]
        assert record["test"]["positives"] in (20, 21), name
        assert set(record["baselines"]) == {"bag_of_words", "template", "shuffled_labels", "random_direction"}
        assert record["discriminability"]["texts"] >= 20
        assert 0 <= record["brier"] <= 1
        assert len(record["strongest_texts"]) == 3


def test_a_finished_pack_is_not_trained_again(world: World) -> None:
    before = (world.folder / "pack" / "lenses.json").stat().st_mtime_ns
    assert orjson.loads(lens(*world.command).stdout) == world.summary
    assert (world.folder / "pack" / "lenses.json").stat().st_mtime_ns == before


def test_another_spec_is_refused_and_other_settings_say_that_the_test_is_known(world: World) -> None:
    refused = lens(*world.command, "--pooling", "last")
    assert "was made with spec" in str(refused.exception)
    copy = world.folder / "copy"
    shutil.copytree(world.folder / "pack", copy)
    again = orjson.loads(lens(*world.command, "--out", str(copy), "--cap", "10").stdout)
    assert again["test"]["opened"] == 2
    assert again["texts"]["trained_on"] < world.summary["texts"]["trained_on"]
    # Another folder is no other test; the same training once more is no other look.
    elsewhere = ["--out", str(world.folder / "elsewhere"), "--cap", "12"]
    assert orjson.loads(lens(*world.command, *elsewhere).stdout)["test"]["opened"] == 3
    shutil.rmtree(world.folder / "elsewhere")
    assert orjson.loads(lens(*world.command, *elsewhere).stdout)["test"]["opened"] == 3


def test_lenses_are_shown_by_grade_branch_and_name(world: World) -> None:
    pack = str(world.folder / "pack")
    shown = lens("show", pack, "--branch", "Pursuit", "--sort", "auroc").stdout
    assert "20 lenses on layer 6" in shown
    assert "Chess" in shown
    assert "Grief" not in shown
    rows = orjson.loads(lens("show", pack, "--grade", "a", "--sort", "auroc", "--json").stdout)["records"]
    assert {row["grade"] for row in rows} == {"A"}
    areas = [row["test"]["auroc"]["value"] for row in rows]
    assert areas == sorted(areas, reverse=True)
    one = lens("show", pack, "--concept", "Chess").stdout
    assert "texts it answers to most" in one
    assert "holds no lens 'Ches'" in str(lens("show", pack, "--concept", "Ches").exception)
    assert "holds no lenses.json" in str(lens("show", str(world.folder)).exception)


def test_a_pack_is_graded_again_on_its_test_and_on_other_texts(world: World, tmp_path: Path) -> None:
    given = ["grade", str(world.folder / "pack"), "--bank", str(world.folder / "bank"), "--json"]
    told = orjson.loads(lens(*given).stdout)
    records = read_pack(world.folder / "pack").records
    assert told["sealed"]
    assert [row["grade"] for row in told["lenses"]] == [record["grade"] for record in records]
    # Weights of a pack are bfloat16, those just trained float32.
    for row, record in zip(told["lenses"], records, strict=True):
        for key in ("f1", "auroc"):
            assert row["test"][key]["value"] == pytest.approx(record["test"][key]["value"], abs=0.03)
        assert 0.2 < row["rank_v1"] < 0.8
    other = tmp_path / "other.jsonl"
    said = [
        ("Chess", "He offered his rook for two pawns."),
        ("Joy", "They cheered and danced all night long."),
    ]
    other.write_bytes(b"\n".join(orjson.dumps({"concept": c, "text": t}) for c, t in said))
    told = orjson.loads(lens(*given, "--concepts", str(other)).stdout)
    assert (told["sealed"], told["texts"]) == (False, 2)
    by_name = {row["concept"]: row for row in told["lenses"]}
    assert by_name["Chess"]["grade"] == "U"
    assert by_name["Chess"]["test"]["auroc"]["value"] == 1.0
    assert by_name["Grief"]["test"] is None


# -- small packs on a small model ---------------------------------------------------------------------


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.setenv("FETTLE_CACHE", str(tmp_path / "cache"))
    return save_tiny(tmp_path / "model")


def sentences(concept: str, count: int, *own: str, **more: str) -> list[dict[str, Any]]:
    """Random words, of which those of the concept's own are many."""
    rng = np.random.default_rng(len(concept) + sum(map(ord, concept)))
    said = [[*rng.choice(WORDS, 6), *rng.choice(own or WORDS, 4)] for _ in range(count)]
    return [{"concept": concept, "text": " ".join(rng.permutation(words)), **more} for words in said]


def write(path: Path, *parts: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"\n".join(orjson.dumps(row) for part in parts for row in part))
    return path


def train(subject: Subject, concepts: Path, name: str, **more: Any) -> Any:
    root = concepts.parent
    settings = TrainSettings(growth=Growth(start=5, steps=(5,), cap=20))
    spec = ExtractionSpec(layers=(1, 2))
    return train_lenses(
        subject, concepts, root / name, spec=spec, banks=root / f"bank {name}", settings=settings, **more
    )


class StoppedByTestError(Exception):
    pass


def test_an_interrupted_training_goes_on_to_the_same_lenses(subject: Subject, tmp_path: Path) -> None:
    concepts = write(
        tmp_path / "pack.jsonl",
        sentences("Fruit", 40, "apple", "plum"),
        sentences("Metal", 40, "iron", "tin"),
    )
    whole = train(subject, concepts, "whole", batch_tokens=64)
    calls = 0

    def stop(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise StoppedByTestError

    with pytest.raises(StoppedByTestError):
        train(subject, concepts, "cut", batch_tokens=64, on_tokens=stop)
    assert not (tmp_path / "cut").exists()
    ran: list[int] = []
    again = train(subject, concepts, "cut", batch_tokens=64, on_tokens=lambda done, total: ran.append(done))
    assert ran
    assert again.layer == whole.layer
    assert np.allclose(again.lenses.weights, whole.lenses.weights, atol=1e-4)
    assert [r["state"] for r in again.records] == [r["state"] for r in whole.records]
    assert again.about["test"]["hash"] == whole.about["test"]["hash"]


def test_a_pack_that_its_template_gives_away_is_refused(subject: Subject, tmp_path: Path) -> None:
    made: list[list[dict[str, Any]]] = []
    for concept, template in (("A", "Tell me:"), ("B", "They wrote"), ("C", "Once upon a time")):
        rows = sentences(concept, 40)
        made.append([{**row, "text": f"{template} {row['text']}", "template": template, "lexeme": str(i)}
                     for i, row in enumerate(rows)])  # fmt: skip
    with pytest.raises(DataError, match="the template alone reaches AUROC 1"):
        train(subject, write(tmp_path / "pack.jsonl", *made), "pack")
    assert not (tmp_path / "pack").exists()


def test_concepts_with_too_few_texts_are_left_out_and_told(subject: Subject, tmp_path: Path) -> None:
    enough = [sentences("Fruit", 30, "apple", "plum"), sentences("Metal", 30, "iron", "tin")]
    pack = train(subject, write(tmp_path / "pack.jsonl", *enough, sentences("Rare", 2)), "pack")
    assert pack.concepts == ["Fruit", "Metal"]
    assert "too few samples" in pack.about["untrained"]["Rare"]
    with pytest.raises(DataError, match="no concept"):
        train(subject, write(tmp_path / "few.jsonl", sentences("Rare", 2), sentences("Scarce", 2)), "few")


def test_options_reach_the_training(subject: Subject, tmp_path: Path) -> None:
    concepts = write(
        tmp_path / "pack.jsonl",
        sentences("Fruit", 40, "apple", "plum"),
        sentences("Metal", 40, "iron", "tin"),
    )
    given = ["train", "--model", subject.model, "--concepts", str(concepts), "--layers", "2", "--json"]
    places = ["--out", str(tmp_path / "pack"), "--bank", str(tmp_path / "bank")]
    asked = ["--start", "4", "--steps", "2,3", "--cap", "9", "--f1", "1", "--max-gap", "-1", "--seed", "3"]
    done = lens(*given, *places, *asked, "--validation-blocking", "--prevalence", "0.2")
    assert done.exception is None, done.exception
    settings = read_pack(tmp_path / "pack").about["settings"]
    assert settings["growth"] == {"start": 4, "steps": [2, 3], "cap": 9}
    assert (settings["graduation"]["f1"], settings["graduation"]["max_gap"]) == (1.0, None)
    assert (settings["seed"], settings["validation_blocking"], settings["prevalence"]) == (3, True, 0.2)
    assert "layer 2: 8 training texts" in done.stderr
    bad = lens(*given, *places, "--steps", "a")
    assert "--steps a: must be whole numbers" in str(bad.exception)
