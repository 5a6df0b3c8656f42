"""Packs on disk: what is written comes back, and what does not belong is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from fettle.errors import ModelError, RunError
from fettle.lens.judge import judge_held_out, judge_rows
from fettle.lens.lens_pack import LensPack, read_pack, write_pack
from fettle.lens.linear import LinearLenses
from fettle.lens.probability import fit_probabilities
from fettle.lens.ridge import fit_ridge
from fettle.metrics import Platt
from lens_problems import clusters, pack_of

IDENTITY = {"weights": "abc", "tokenizer": "def", "spec": {"layers": [3], "pooling": "mean"}}


def trained() -> LensPack:
    problem = clusters()
    pack = pack_of(problem)
    return replace(
        pack,
        identity=IDENTITY,
        platts=fit_probabilities(pack.lenses, problem.rows("calibrate")),
        records=[{"grade": "A", "f1": np.float64(0.5)} for _ in problem.concepts],
        about={"penalty": 0.1},
    )


def test_a_pack_comes_back_as_it_was(tmp_path: Path) -> None:
    pack = replace(trained(), platts=[None, *trained().platts[1:]])
    write_pack(tmp_path / "pack", pack)
    assert sorted(p.name for p in (tmp_path / "pack").iterdir()) == ["lenses.json", "lenses.safetensors"]
    found = read_pack(tmp_path / "pack", IDENTITY)
    assert (found.concepts, found.layer, found.identity) == (pack.concepts, 3, IDENTITY)
    assert found.platts[0] is None
    assert [p for p in found.platts if p] == [p for p in pack.platts if p]
    assert found.records == [{"grade": "A", "f1": 0.5}] * 6
    assert found.about == {"penalty": 0.1}
    for name in ("thresholds", "negative_mean", "negative_deviation"):
        np.testing.assert_array_equal(getattr(found, name), getattr(pack, name))
    np.testing.assert_allclose(found.lenses.weights, pack.lenses.weights, rtol=2**-8)


def test_bfloat16_weights_say_the_same(tmp_path: Path) -> None:
    problem = clusters(features=200, distance=2.0)
    # One massive dimension: without centring its weight's rounding would drown all others.
    features = problem.features.copy()
    features[:, 7] = 5e4 + 300 * features[:, 7]
    problem = problem.with_features(features)
    rows, test = problem.rows("train"), problem.rows("test")
    fit = fit_ridge(rows, 0.1)
    held_out = judge_held_out(fit, rows)
    pack = replace(trained(), lenses=fit.lenses, concepts=problem.concepts)
    write_pack(tmp_path, pack)
    thresholds = [h.threshold for h in held_out]
    before = judge_rows(fit.lenses, test, thresholds, prevalence=0.1)
    after = judge_rows(read_pack(tmp_path).lenses, test, thresholds, prevalence=0.1)
    for one, other in zip(before, after, strict=True):
        assert other.f1.value == pytest.approx(one.f1.value, abs=0.01)
        assert other.auroc.value == pytest.approx(one.auroc.value, abs=0.002)


def test_evidence_is_in_deviations_of_the_negatives() -> None:
    pack = trained()
    rows = clusters().rows("train")
    evidence = pack.evidence(rows.features)
    held_out_mean = [evidence[rows.negative(c), c].mean() for c in range(6)]
    assert held_out_mean == pytest.approx([0] * 6, abs=0.3)
    assert all(evidence[rows.positive[c], c].mean() > 1 for c in range(6))


def test_a_pack_of_another_model_is_refused(tmp_path: Path) -> None:
    write_pack(tmp_path, trained())
    other = {**IDENTITY, "weights": "xyz"}
    with pytest.raises(ModelError, match="weights 'abc', not 'xyz'"):
        read_pack(tmp_path, other)
    with pytest.raises(ModelError, match="weights 'abc', not 'xyz'"):
        write_pack(tmp_path, replace(trained(), identity=other))
    write_pack(tmp_path, trained())


def test_what_is_no_whole_pack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no lenses\.json"):
        read_pack(tmp_path)
    write_pack(tmp_path, trained())
    content = (tmp_path / "lenses.safetensors").read_bytes()
    (tmp_path / "lenses.safetensors").write_bytes(content[:-4] + b"\x00\x00\x80\x3f")
    with pytest.raises(RunError, match="is not the file"):
        read_pack(tmp_path)
    (tmp_path / "lenses.safetensors").write_bytes(content[:-8])
    with pytest.raises(RunError, match="cannot be read"):
        read_pack(tmp_path)
    (tmp_path / "lenses.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        read_pack(tmp_path)


def test_eight_thousand_lenses_are_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    many, width = 800, 2560
    weights = rng.standard_normal((many, width)).astype(np.float32)
    zeros = np.zeros(many, dtype=np.float32)
    pack = LensPack(
        [str(c) for c in range(many)], 3, IDENTITY, LinearLenses(weights[0], weights, zeros),
        zeros, zeros, zeros + 1, [Platt(1.0, 0.0, 0.5)] * many, [{}] * many,
    )  # fmt: skip
    write_pack(tmp_path, pack)
    assert (tmp_path / "lenses.safetensors").stat().st_size < 4.5e6


def test_records_are_read_when_the_first_is_asked_for(tmp_path: Path) -> None:
    pack = replace(trained(), records=[{"grade": "A", "reason": 'says\n  "lenses": [ itself'}] * 6)
    write_pack(tmp_path, pack)
    found = read_pack(tmp_path)
    assert (found.concepts, len(found.records)) == (pack.concepts, 6)
    assert "_all" not in vars(found.records)
    assert found.records[5]["reason"] == pack.records[5]["reason"]
    assert "concept" not in found.records[0]
    # What is known of all is known although the records are not: they may be damaged.
    path = tmp_path / "lenses.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"grade": "A"', b'"grade": A', 1))
    damaged = read_pack(tmp_path)
    assert damaged.concepts == pack.concepts
    with pytest.raises(RunError, match="damaged"):
        _ = damaged.records[0]
    path.write_bytes(content[:-20])
    with pytest.raises(RunError, match="damaged"):
        read_pack(tmp_path)


def test_an_index_that_another_hand_wrote_is_read_whole(tmp_path: Path) -> None:
    write_pack(tmp_path, trained())
    path = tmp_path / "lenses.json"
    content = orjson.loads(path.read_bytes())
    del content["concepts"]  # As packs were before.
    path.write_bytes(orjson.dumps(content))
    found = read_pack(tmp_path)
    assert found.concepts == trained().concepts
    assert found.records == [{"grade": "A", "f1": 0.5}] * 6
