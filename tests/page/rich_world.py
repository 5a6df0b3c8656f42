"""The samples of a generated run: what the model gets right as it learns, and what it moves and saves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from fettle.decide.score import checkpoint_score
from fettle.metrics import calibration_bins, summarise_samples
from fettle.runs import RunFolder, save_samples
from fettle.runs.records import SampleResults

if TYPE_CHECKING:
    from page.rich_run import RichRun

DIFFICULTY = (0.25, 0.45, 0.05, 0.4, 0.7)
GROUPS = ("qkv", "o", "mlp")


class World:
    """Samples with a skill each: what the model gets right as it learns, and forgets."""

    def __init__(self, run: RichRun) -> None:
        # The same samples in every run: that is what a fixed eval is.
        rng = np.random.default_rng(1)
        n = run.samples
        self.run = run
        kind = rng.choice(len(run.patterns), n, p=_shares(len(run.patterns)))
        self.pattern = np.array(run.patterns)[kind]
        self.tokens = np.clip(rng.lognormal(5.2, 0.9, n), 8, 2400).astype(np.int64)
        hardness = np.array(DIFFICULTY + (0.3,) * len(run.patterns))[kind]
        self.threshold = hardness + 0.00025 * self.tokens + 0.18 * rng.standard_normal(n)
        self.forgets = rng.random(n) < 0.04
        self.ids = np.array([f"{rng.integers(1 << 62):016x}" for _ in range(n)])
        self.best: float | None = None
        self.last: dict[str, Any] = {}

    def evaluate(self, step: int, folder: RunFolder) -> dict[str, Any]:
        samples = self._samples(step)
        save_samples(folder.fixed_eval_path, step, samples)
        self.last = dict(summarise_samples(samples))
        return {
            "type": "fixed_eval", "timestamp": self.run.time(step), "step": step,
            "epoch": self.run.epoch(step), "eval_id": f"fixed_eval:{step}", "seconds": 21.4, **self.last,
        }  # fmt: skip

    def _samples(self, step: int) -> SampleResults:
        run, n = self.run, self.run.samples
        rng = np.random.default_rng([run.seed, step])
        skill = 1.0 - np.exp(-step / 450)
        right = skill - self.threshold + 0.05 * rng.standard_normal(n) > 0.1
        right &= ~(self.forgets & (step > 0.7 * run.steps))
        overfit = max(0.0, (step - 0.6 * run.steps) / run.steps)
        nats = 0.35 + 0.9 * np.exp(-step / 380) + 0.5 * np.clip(self.threshold, 0, 2) * (1 - 0.5 * skill)
        nats = nats + 0.25 * overfit + 0.05 * rng.standard_normal(n)
        nats = np.maximum(nats, 0.02)
        bins = self._bins(step, rng)
        return SampleResults(
            sample_id=self.ids, pattern=self.pattern, tokens=self.tokens, exact_match=right,
            cross_entropy_sum=nats * self.tokens, entropy_sum=(nats - 0.05 - 0.3 * overfit) * self.tokens,
            bin_tokens=bins[0], bin_confidence=bins[1], bin_correct=bins[2],
        )  # fmt: skip

    def _bins(self, step: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], ...]:
        n, per = self.run.samples, 20
        confidence = rng.uniform(0.4, 0.99, n * per)
        gap = 0.05 + 0.12 * max(0.0, step / self.run.steps - 0.45)
        return calibration_bins(
            confidence, rng.random(n * per) < confidence - gap, np.arange(n + 1, dtype=np.int64) * per
        )

    def layers(self, step: int, rng: np.random.Generator) -> dict[str, Any]:
        rows = []
        for layer in range(28):
            pull = 0.0055 * (1 - np.exp(-step / 700)) * np.exp(-(((layer - 20) / 7) ** 2)) + 0.0004
            pull = 0.0 if layer == 27 else pull
            groups = {
                name: {
                    "relative": float(pull * factor), "movement": float(40 * pull * factor),
                    "weight_norm": 40.0, "modules": modules,
                    "grad_norm": float(0.02 * factor * (0.8 + 0.4 * rng.random())),
                }
                for name, factor, modules in zip(GROUPS, (1.0, 0.6, 1.3), (3, 1, 3), strict=True)
            }  # fmt: skip
            rows.append({"layer": layer, **_together(list(groups.values())), "groups": groups})
        return {
            "type": "layers", "timestamp": self.run.time(step), "step": step, "method": "lora",
            "since_step": 0, "seconds": 0.4, "rows": rows,
        }  # fmt: skip

    def save(self, step: int, folder: RunFolder, train_loss: float | None) -> dict[str, Any]:
        loss = self.last["cross_entropy"]
        score = checkpoint_score(loss, train_loss, None if self.best is None else loss < self.best)
        self.best = loss if self.best is None else min(self.best, loss)
        scored = {
            "score": score.score, "components": score.components, "inputs": score.inputs,
            "score_version": score.version, "score_reason": score.reason, "cross_entropy": loss,
            "exact_match": self.last["exact_match"], "train_loss": train_loss,
        }  # fmt: skip
        epoch = self.run.epoch(step)
        if step % (2 * self.run.eval_every) == 0:
            path = folder.checkpoints_path / f"checkpoint-{step}"
            path.mkdir()
            (path / "fettle.json").write_bytes(orjson.dumps({"step": step, "epoch": epoch, **scored}))
            (path / "adapter_model.safetensors").write_bytes(bytes(50_000))
        return {
            "type": "checkpoint", "timestamp": self.run.time(step), "step": step, "epoch": epoch,
            "path": f"checkpoints/checkpoint-{step}", **scored,
        }  # fmt: skip


def _shares(kinds: int) -> NDArray[np.float64]:
    weights = np.array([0.18, 0.08, 0.3, 0.2, 0.24] + [0.02] * max(0, kinds - 5))[:kinds]
    return weights / weights.sum()


def _together(groups: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Norms of a whole layer: squares add up."""
    norms = {
        key: float(np.sqrt(sum(group[key] ** 2 for group in groups)))
        for key in ("movement", "weight_norm", "grad_norm")
    }
    return {"relative": norms["movement"] / norms["weight_norm"], **norms}
