"""Networks in a pack: kept where they win, stored beside the linear lenses, read by all that reads those."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from fettle.cli import cli
from fettle.lens import mlp, networks
from fettle.lens.direction import lens_direction
from fettle.lens.drift import drift, readings
from fettle.lens.grades import grade_lenses
from fettle.lens.graduation import Graduation
from fettle.lens.growth import Grown, Growth, grow, try_networks
from fettle.lens.judge import judge_rows, negative_moments
from fettle.lens.lens_pack import LensPack, read_pack, write_pack
from fettle.lens.precision import mix
from fettle.lens.problem import LensProblem
from fettle.lens.spec import ExtractionSpec
from fettle.lens.train import TrainSettings, train_lenses
from lens.models_on_disk import save_tiny, write_examples
from lens.test_mlp import bent
from lens_problems import clusters


def grown(problem: LensProblem) -> Grown:
    """Linear lenses on all its training texts."""
    available = np.full(len(problem.concepts), 60)
    return grow(lambda sizes: problem, available, Growth(start=60, cap=60), Graduation())


def pack_of(found: Grown) -> LensPack:
    mean, deviation = negative_moments(found.held_out)
    return LensPack(
        concepts=found.problem.concepts,
        layer=3,
        identity={},
        lenses=found.fit.lenses,
        thresholds=np.array([h.threshold for h in found.held_out], dtype=np.float32),
        negative_mean=mean,
        negative_deviation=deviation,
        platts=[None] * 4,
        records=[{"grade": "A"}] * 4,
        networks=found.networks,
    )


@pytest.fixture(scope="module")
def linear() -> Grown:
    return grown(bent())


@pytest.fixture(scope="module")
def tried(linear: Grown) -> Grown:
    return try_networks(linear, Graduation())


def test_networks_take_the_place_of_the_lenses_they_beat_and_of_no_other(linear: Grown, tried: Grown) -> None:
    # Concepts 1 and 2 lie where concept 0 does, but for the feature that no line can use.
    assert tried.networks is not None
    assert tried.networks.at.tolist() == [0, 1, 2]
    assert tried.held_out[0].auroc.value > linear.held_out[0].auroc.value + 0.2
    assert tried.held_out[0].f1 > 0.8
    assert tried.held_out[3] == linear.held_out[3]
    assert tried.standings[0].reason != linear.standings[0].reason
    test = bent().rows("test")
    thresholds = [h.threshold for h in tried.held_out]
    bad, good = (
        judge_rows(lenses, test, thresholds, prevalence=0.1) for lenses in (linear.fit.lenses, tried.lenses)
    )
    for c, (worse, better) in enumerate(zip(bad[:3], good[:3], strict=True)):
        assert worse is not None
        assert better is not None
        assert better.auroc.value > worse.auroc.value + 0.01
        # What the threshold of training says holds on texts put aside.
        assert better.f1.value == pytest.approx(tried.held_out[c].f1, abs=0.08)
    assert good[3] == bad[3]


def test_noise_keeps_no_network() -> None:
    """Two Gaussian clouds of one shape: nothing parts them better than a line."""
    for seed in range(6):
        problem = clusters(concepts=2, texts=100, per_group=2, distance=1.5, seed=seed)
        found = try_networks(grown(problem), Graduation())
        assert len(found.compared) == 2
        assert found.networks is None


def test_a_lens_that_cannot_be_beaten_is_not_tried(linear: Grown) -> None:
    clear = [c for c, result in enumerate(linear.held_out) if result.auroc.value > 0.99]
    assert 3 in clear
    found = networks.compare_networks(linear.fit.bank.rows, linear.fit, linear.held_out)
    assert not {comparison.lens for comparison in found} & set(clear)


def test_grades_count_what_the_network_says(linear: Grown, tried: Grown) -> None:
    test = bent().rows("test")
    grades = [
        grade_lenses(found.lenses, *negative_moments(found.held_out), test)[0] for found in (linear, tried)
    ]
    areas = [grade.discriminability for grade in grades]
    assert areas[0] is not None
    assert areas[1] is not None
    assert areas[1].value > areas[0].value + 0.1
    assert [grade.p_direction for grade in grades][1] < grades[0].p_direction


def test_both_kinds_come_back_from_one_file(tried: Grown, tmp_path: Path) -> None:
    pack, features = pack_of(tried), bent().features
    write_pack(tmp_path, pack)
    found = read_pack(tmp_path)
    assert found.networks is not None
    np.testing.assert_allclose(found.evidence(features), pack.evidence(features), atol=0.1)
    assert np.corrcoef(found.evidence(features)[:, 0], tried.lenses.scores(features)[:, 0])[0, 1] > 0.999
    np.testing.assert_array_equal(found.networks.projections, tried.networks.projections)  # pyright: ignore[reportOptionalMemberAccess]
    # A text alone and among others.
    np.testing.assert_allclose(found.evidence(features[:1])[0], found.evidence(features)[0], atol=1e-4)


def test_drift_of_a_network_is_the_change_of_its_logits(tried: Grown) -> None:
    pack, base = pack_of(tried), bent().features[:40]
    later = base + np.random.default_rng(0).normal(0, 0.3, base.shape).astype(np.float32)
    found = drift(pack, base, later)
    expected = pack.evidence(later) - pack.evidence(base)
    np.testing.assert_allclose(found.changes, expected, atol=1e-4)
    frozen = readings(pack.scoring, 0.1, bent())[0]
    assert frozen.frozen_auroc > 0.9 > 0.8 > frozen.refit_auroc
    assert frozen.cosine > 0.9


def test_steering_goes_where_the_logit_rises(tried: Grown) -> None:
    pack = pack_of(tried)
    own = lens_direction(pack, "concept 0")
    rows = bent().rows("train")
    negatives = rows.features[rows.negative(0)]
    assert np.linalg.norm(own.unit) == pytest.approx(1, abs=1e-5)
    # Evidence along the direction has mean 0 and deviation 1 over texts without the concept.
    assert own.evidence(negatives).mean() == pytest.approx(0, abs=1e-3)
    assert own.evidence(negatives).std() == pytest.approx(1, abs=1e-3)
    far = negatives + 0.3 * own.deviation * own.unit
    assert pack.evidence(far)[:, 0].mean() > pack.evidence(negatives)[:, 0].mean()
    assert lens_direction(pack, "concept 3").unit == pytest.approx(
        pack.lenses.weights[3] / np.linalg.norm(pack.lenses.weights[3]), abs=1e-5
    )


def test_a_mix_of_dtypes_is_measured_on_networks_too() -> None:
    problem = bent()
    same = mix(problem, problem.features, 0.1, [0])
    assert {(d.f1, d.auroc) for d in same.lenses} == {(0.0, 0.0)}
    flipped = problem.features.copy()
    flipped[:, 0] = 0  # All that tells concept 0, and only to a network.
    broken = mix(problem, flipped, 0.1, [0]).lenses
    assert broken[0].auroc < -0.2
    assert abs(broken[3].auroc) < 0.05


@dataclass
class World:
    folder: Path
    pack: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Lenses of a small decoder, all of them networks, whether they are better or not."""
    folder = tmp_path_factory.mktemp("networks")
    subject = save_tiny(folder / "base")
    write_examples(folder / "concepts.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "BETTER_BY", -1.0)
        patch.setattr(mlp.Comparison, "kept", property(lambda self: True))
        train_lenses(
            subject, folder / "concepts.jsonl", folder / "pack", spec=ExtractionSpec(layers=(2,)),
            banks=folder / "bank", settings=TrainSettings(growth=Growth(cap=30), mlp=True),
        )  # fmt: skip
    return World(folder, str(folder / "pack"))


def lens(*arguments: str) -> Any:
    done = CliRunner().invoke(cli, ["lens", *arguments])
    assert done.exception is None, done.exception
    return done


def test_every_command_reads_a_pack_of_networks(world: World) -> None:
    pack = read_pack(Path(world.pack))
    assert pack.networks is not None
    assert pack.networks.at.tolist() == [0, 1, 2]
    told = orjson.loads(lens("show", world.pack, "--json").stdout)
    assert told["networks"] == 3
    assert {record["kind"] for record in told["records"]} == {"mlp"}
    assert told["mean_test_auroc"] > 0.85
    assert "a network: AUROC" in lens("show", world.pack, "--concept", "river").stdout
    assert "3 as networks" in lens("show", world.pack).stdout

    common = ["--lenses", world.pack, "--json"]
    steered = lens("steer", "river", *common, "--any-grade", "--strengths", "0,1,3", "--device", "cpu")
    moved = [row["moved"]["value"] for row in orjson.loads(steered.stdout)]
    assert moved[0] == 0 < moved[1] < moved[2]

    bank = ["--bank", str(world.folder / "bank")]
    still = orjson.loads(lens("drift", str(world.folder / "base"), *common, *bank).stdout)
    assert [row["shifts"] for row in still["lenses"]] == [[0], [0], [0]]
    regraded = lens("grade", world.pack, "--concepts", str(world.folder / "concepts.jsonl"), *bank, "--json")
    rows = {row["concept"]: row for row in orjson.loads(regraded.stdout)["lenses"]}
    for name, record in zip(pack.concepts, pack.records, strict=True):
        assert rows[name]["test"]["auroc"]["value"] == pytest.approx(
            record["test"]["auroc"]["value"], abs=0.01
        )
    mixes = orjson.loads(lens("verify", world.pack, *bank, "--device", "cpu", "--json").stdout)
    assert mixes["batches to one at a time"]["safe"]


def test_trying_networks_is_asked_for_and_told(world: World, tmp_path: Path) -> None:
    command = [
        "train", "--model", str(world.folder / "base"), "--concepts", str(world.folder / "concepts.jsonl"),
        "--layers", "2", "--bank", str(world.folder / "bank"), "--cap", "30", "--json",
    ]  # fmt: skip
    plain = orjson.loads(lens(*command, "--out", str(tmp_path / "plain")).stdout)
    assert plain["networks"] == 0
    assert {record["kind"] for record in read_pack(tmp_path / "plain").records} == {"linear"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "BETTER_BY", -1.0)
        lens(*command, "--out", str(tmp_path / "tried"), "--mlp")
    records = read_pack(tmp_path / "tried").records
    assert all(record["mlp"]["mlp_auroc"] > 0.5 for record in records)


def test_an_older_pack_without_networks_is_read(tried: Grown, tmp_path: Path) -> None:
    write_pack(tmp_path, replace(pack_of(tried), networks=None))
    assert read_pack(tmp_path).networks is None
