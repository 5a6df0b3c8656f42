"""Training lenses from a bank: fettle, scikit-learn one by one, and the adaptive loop of the earlier system.

python benchmarks/lenses.py [--json] [--concepts 400 2000 8000] [--peers 20]

CPU seconds of one core. Peers train `--peers` lenses, and their time is multiplied to all. Every concept
has 20 training texts in groups of 4; each text stands once in the bank and is a negative of all others.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fettle.lens.judge import judge_held_out, judge_rows
from fettle.lens.lens_pack import LensPack, read_pack, write_pack
from fettle.lens.linear import LinearLenses
from fettle.lens.logistic import fit_logistic
from fettle.lens.penalty import choose_penalty
from fettle.lens.problem import LensProblem
from fettle.lens.ridge import RidgeFit, SharedBank
from fettle.metrics.binary import f1_at

FEATURES, TRAIN, SELECT, TEST, GROUP = 512, 20, 4, 12, 4
SIGNAL = 0.2
"""Length of a concept's centre per feature, in deviations of the texts around it."""
CYCLES = (10, 30, 60, 90, 120)
TRIES, EPOCHS = 3, 50


class Concepts:
    """Texts of C concepts as activations: a centre each, and noise."""

    def __init__(self, concepts: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.centres = SIGNAL * self.rng.standard_normal((concepts, FEATURES), dtype=np.float32)

    def texts(self, concept_N: np.ndarray) -> np.ndarray:
        return self.centres[concept_N] + self.rng.standard_normal(
            (concept_N.size, FEATURES), dtype=np.float32
        )

    def problem(self) -> LensProblem:
        concepts, each = len(self.centres), TRAIN + SELECT + TEST
        owner = np.arange(concepts).repeat(each)
        place = np.arange(owner.size) % each
        ones = np.ones(owner.size, dtype=bool)
        return LensProblem(
            concepts=[str(c) for c in range(concepts)],
            features=self.texts(owner),
            positive=sparse.csr_array((ones, (np.arange(owner.size), owner)), shape=(owner.size, concepts)),
            excluded=sparse.csr_array((owner.size, concepts), dtype=bool),
            groups=np.arange(owner.size) // GROUP,
            sets={
                "train": np.flatnonzero(place < TRAIN),
                "select": np.flatnonzero((place >= TRAIN) & (place < TRAIN + SELECT)),
                "calibrate": np.array([], dtype=np.int64),
                "test": np.flatnonzero(place >= TRAIN + SELECT),
            },
        )


def fettle_lenses(problem: LensProblem) -> tuple[dict[str, float], Any, list[float]]:
    """Choose the penalty, fit all lenses, judge each on groups it did not see; seconds of each."""
    marks = [time.process_time()]
    bank = SharedBank.of(problem.rows("train"))
    marks.append(time.process_time())
    penalty = choose_penalty(problem, bank=bank)[0]
    marks.append(time.process_time())
    fit = RidgeFit(bank, penalty)
    marks.append(time.process_time())
    held_out = judge_held_out(fit, bank.rows)
    marks.append(time.process_time())
    parts = dict(zip(("bank", "penalty", "fit", "held_out"), np.diff(marks).tolist(), strict=True))
    return {"total": marks[-1] - marks[0], **parts}, fit, [h.threshold for h in held_out]


def one_by_one(problem: LensProblem, lenses: list[int]) -> tuple[float, float]:
    """Seconds a lens and mean AUROC of scikit-learn's logistic regression against the whole bank."""
    train, test = problem.rows("train"), problem.rows("test")
    started, areas = time.process_time(), []
    for c in lenses:
        model = LogisticRegression(C=0.01, max_iter=200).fit(train.features, ~train.negative(c))
        areas.append(roc_auc_score(~test.negative(c), model.decision_function(test.features)))
    return (time.process_time() - started) / len(lenses), float(np.mean(areas))


def earlier_loop(concepts: Concepts, lenses: list[int]) -> tuple[float, float]:
    """Seconds a lens and mean AUROC of the adaptive loop: an MLP trained anew on every size, up to 15 times.

    Sampled negatives, 50 full-batch epochs of AdamW, judged on 20 + 20 texts; it ends at F1 0.95 with a gap
    of at most 0.10 after three tries of any size, or with the largest size.
    """
    everyone = np.arange(len(concepts.centres))
    seconds, areas = 0.0, []
    for c in lenses:
        others = everyone[everyone != c]
        draw = lambda n, c=c, others=others: (  # noqa: E731
            torch.from_numpy(concepts.texts(np.append(np.full(n, c), concepts.rng.choice(others, n)))),
            torch.arange(2 * n) < n,
        )
        judged, tested = draw(20), draw(200)
        pools = [draw(n) for n in CYCLES]
        started = time.process_time()
        model = _adapt(pools, judged)
        seconds += time.process_time() - started
        with torch.no_grad():
            areas.append(roc_auc_score(tested[1], model(tested[0])[:, 0]))
    return seconds / len(lenses), float(np.mean(areas))


def _adapt(pools: list[Any], judged: Any) -> torch.nn.Module:
    tries = 0
    model = _mlp(*pools[0])
    for features, shown in pools:
        for _ in range(TRIES):
            model = _mlp(features, shown)
            tries += 1
            f1, train_f1 = (_f1(model, *part) for part in (judged, (features, shown)))
            if f1 >= 0.95 and train_f1 - f1 <= 0.10 and tries >= TRIES:
                return model
    return model


def _mlp(features: torch.Tensor, shown: torch.Tensor) -> torch.nn.Module:
    layers = torch.nn
    model = layers.Sequential(
        layers.Linear(FEATURES, 128), layers.ReLU(), layers.Dropout(0.2),
        layers.Linear(128, 64), layers.ReLU(), layers.Dropout(0.2), layers.Linear(64, 1),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        logits = model(features)[:, 0]
        layers.functional.binary_cross_entropy_with_logits(logits, shown.float()).backward()
        optimizer.step()
    return model.eval()


def _f1(model: torch.nn.Module, features: torch.Tensor, shown: torch.Tensor) -> float:
    with torch.no_grad():
        found = model(features)[:, 0] > 0
    return float(f1_at(float(found[shown].float().mean()), float(found[~shown].float().mean()), 0.5))


def compare(concepts: int, peers: int) -> dict[str, Any]:
    """fettle on all concepts; peers on a few of them."""
    world = Concepts(concepts)
    problem = world.problem()
    best: Any = None
    for _ in range(3 if concepts <= 2000 else 1):
        run = fettle_lenses(problem)
        best = run if best is None or run[0]["total"] < best[0]["total"] else best
    seconds, fit, thresholds = best
    started = time.process_time()
    tested = judge_rows(fit.lenses, problem.rows("test"), thresholds, prevalence=0.01)
    found: dict[str, Any] = {
        "concepts": concepts,
        "rows": len(problem.sets["train"]),
        "seconds": seconds,
        "test_seconds": time.process_time() - started,
        "auroc": float(np.mean([r.auroc.value for r in tested if r])),
        "f1": float(np.mean([r.f1.value for r in tested if r])),
    }
    if peers:
        some = np.linspace(0, concepts - 1, peers).astype(int).tolist()
        each, area = one_by_one(problem, some)
        found["scikit_learn"] = {"seconds": each * concepts, "auroc": area}
        each, area = earlier_loop(world, some[: max(3, peers // 4)])
        found["earlier_loop"] = {"seconds": each * concepts, "auroc": area}
        for peer in ("scikit_learn", "earlier_loop"):
            found[peer]["ratio"] = found[peer]["seconds"] / seconds["total"]
    return found


def logistic(concepts: int = 100) -> dict[str, float]:
    """The logistic path beside scikit-learn's, same penalty: balanced F1 on the test at best thresholds."""
    problem = Concepts(concepts, seed=1).problem()
    train, test = problem.rows("train"), problem.rows("test")
    started = time.process_time()
    fit = fit_logistic(train, 0.1)
    ours_s = time.process_time() - started
    scores = fit.lenses.scores(test.features)
    spread = train.features.std(0)
    started, gaps = time.process_time(), []
    for c in range(20):
        model = LogisticRegression(C=1 / (0.1 * len(train)), max_iter=500)
        model.fit(train.features / spread, ~train.negative(c))
        theirs = model.decision_function(test.features / spread)
        gaps.append(_best_f1(scores[:, c], test, c) - _best_f1(theirs, test, c))
    theirs_s = (time.process_time() - started) / 20 * concepts
    return {"largest_f1_difference": float(np.abs(gaps).max()), "seconds": ours_s, "scikit_learn": theirs_s}


def _best_f1(scores: np.ndarray, rows: Any, lens: int) -> float:
    from fettle.metrics import best_threshold

    return best_threshold(scores[rows.positive[lens]], scores[rows.negative(lens)])[1]


def serving(lenses: int = 8000, width: int = 2560, tokens: int = 256) -> dict[str, float]:
    """Size of a pack, time to load it, and time to score a token."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((lenses, width), dtype=np.float32)
    zeros = np.zeros(lenses, dtype=np.float32)
    estimate = {"value": 0.9, "low": 0.8, "high": 0.95, "standard_error": None}
    measured = ("f1", "auroc", "average_precision", "recall_at_1_percent", "precision")
    record = {
        "grade": "A", "branches": ["branch"], "state": "graduated", "reason": "F1 0.951, gap 0.012",
        "test": dict.fromkeys(measured, estimate), "baselines": dict.fromkeys("abcd", 0.5),
        "strongest_texts": ["A sentence about nothing in particular."] * 3,
    }  # fmt: skip
    pack = LensPack(
        [f"concept {c}" for c in range(lenses)], 12, {}, LinearLenses(weights[0], weights, zeros),
        zeros, zeros, zeros + 1, [None] * lenses, [record] * lenses,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_pack(Path(folder), pack)
        size = (Path(folder) / "lenses.safetensors").stat().st_size
        load = min(_timed(lambda: read_pack(Path(folder))) for _ in range(5))
        read = read_pack(Path(folder))
    states = rng.standard_normal((tokens, width), dtype=np.float32)
    each = min(_timed(lambda: read.lenses.scores(states)) for _ in range(5)) / tokens
    return {"megabytes": size / 1e6, "load_ms": 1e3 * load, "token_ms": 1e3 * each}


def _timed(call: Any) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--concepts", type=int, nargs="+", default=[400, 2000, 8000])
    parser.add_argument("--peers", type=int, default=20, help="lenses that each peer trains; 0 for none")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    runs = [compare(n, options.peers if n <= 2000 else 0) for n in options.concepts]
    found = {"training": runs, "logistic": logistic(), "serving": serving()}
    if options.json:
        print(json.dumps(found))
        return
    for run in runs:
        parts = ", ".join(f"{k} {v:.2f}" for k, v in run["seconds"].items() if k != "total")
        print(f"{run['concepts']:,} lenses, {run['rows']:,} texts: {run['seconds']['total']:.2f} s ({parts})")
        print(f"  sealed test in {run['test_seconds']:.2f} s: AUROC {run['auroc']:.3f}, F1 {run['f1']:.3f}")
        for peer in ("scikit_learn", "earlier_loop"):
            if peer in run:
                of = run[peer]
                print(f"  {peer}: {of['seconds']:.0f} s, {of['ratio']:.0f} times, AUROC {of['auroc']:.3f}")
    of = found["logistic"]
    print(f"logistic, 100 lenses: {of['seconds']:.1f} s, scikit-learn {of['scikit_learn']:.1f} s, "
          f"F1 within {of['largest_f1_difference']:.4f}")  # fmt: skip
    of = found["serving"]
    print(f"8,000 lenses of 2,560: {of['megabytes']:.1f} MB, loaded in {of['load_ms']:.0f} ms, "
          f"{of['token_ms']:.2f} ms a token")  # fmt: skip


if __name__ == "__main__":
    main()
