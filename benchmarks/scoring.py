"""Scoring beside lm-evaluation-harness: CPU seconds, memory, agreement, share of the GEMM rate.

    python benchmarks/scoring.py [--quick] [--json] [--only tiny-32k ...]

Random weights and tokens: speed does not depend on them. Both sides score the same model
object and the same token pairs, on one thread, in turns; a ratio is taken within a round,
because the machine's speed drifts between rounds. Times are CPU seconds of the process.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from loguru import logger

from fettle import Scores, Sequence, score
from fettle.scoring.plan import shared_pieces


@dataclass(frozen=True)
class Case:
    """One row of the table: a shape, a set of samples, and the ratio to reach."""

    name: str
    hidden: int
    layers: int
    vocabulary: int
    samples: int
    target: float
    inner: int
    heads: tuple[int, int, int]
    """Query heads, key heads, width of a head."""
    prefix: int = 0
    prompt: tuple[int, int] = (50, 400)
    generates: bool = False
    memory: float | None = None
    """Peak over the loaded model to stay under, MB."""


TINY = {"hidden": 256, "layers": 4, "inner": 768, "heads": (4, 2, 64)}
CASES = [
    Case("tiny-32k", vocabulary=32_000, samples=300, target=2.2, memory=100, **TINY),
    Case("tiny-152k", vocabulary=151_936, samples=150, target=4.5, memory=100, **TINY),
    Case("prefix-200", vocabulary=32_000, samples=150, target=3.3, prefix=200, prompt=(50, 400), **TINY),
    Case("ce-and-em", vocabulary=32_000, samples=64, target=2.5, generates=True, **TINY),
    Case("qwen3-0.6b", 1024, 28, 151_936, 24, 1.25, 3072, (16, 8, 128)),
]


def build_model(case: Case) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    heads, key_heads, width = case.heads
    config = Qwen3Config(
        vocab_size=case.vocabulary,
        hidden_size=case.hidden,
        intermediate_size=case.inner,
        num_hidden_layers=case.layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=width,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=0,
    )
    return Qwen3ForCausalLM(config).eval()


def build_samples(case: Case, count: int) -> list[Sequence]:
    generator = np.random.default_rng(0)
    shared = generator.integers(2, case.vocabulary, case.prefix)
    samples: list[Sequence] = []
    for _ in range(count):
        prompt, completion = int(generator.integers(*case.prompt)), int(generator.integers(5, 61))
        own = generator.integers(2, case.vocabulary, prompt + completion)
        start = case.prefix + prompt
        samples.append(Sequence(np.concatenate([shared, own]), np.arange(start + completion) >= start))
    return samples


class Harness:
    """lm-evaluation-harness on the same model object, fed with token pairs."""

    def __init__(self, model: Any, vocabulary: int) -> None:
        from lm_eval.models.huggingface import HFLM
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(vocabulary)}, unk_token="t0"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="t1", pad_token="t0")
        self.lm: Any = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, max_length=2048)

    def log_likelihoods(self, samples: list[Sequence]) -> list[tuple[float, bool]]:
        requests: list[Any] = []
        for i, sample in enumerate(samples):
            start = int(sample.loss_mask.argmax())
            ids = sample.input_ids.tolist()
            requests.append(((str(i), ""), ids[:start], ids[start:]))
        return self.lm._loglikelihood_tokens(requests, disable_tqdm=True)

    def generate(self, samples: list[Sequence]) -> None:
        """Its generation, batches of 8 by length, stopped when a batch's longest completion is full."""
        prompts = [(s.input_ids[: int(s.loss_mask.argmax())], s.completion_tokens) for s in samples]
        prompts.sort(key=lambda prompt: -prompt[0].size)
        for start in range(0, len(prompts), 8):
            batch = prompts[start : start + 8]
            width = max(ids.size for ids, _ in batch)
            ids_BT = torch.zeros(len(batch), width, dtype=torch.long)
            mask_BT = torch.zeros_like(ids_BT)
            for row, (ids, _) in enumerate(batch):
                ids_BT[row, width - ids.size :] = torch.from_numpy(ids)
                mask_BT[row, width - ids.size :] = 1
            length = width + max(completion for _, completion in batch)
            self.lm._model_generate(
                ids_BT, max_length=length, stop=["t1"], attention_mask=mask_BT, do_sample=False
            )


class PeakMemory:
    """Highest resident memory inside the block over that at its start, MB, sampled every 2 ms."""

    def __enter__(self) -> PeakMemory:
        self.megabytes = 0.0
        self._start = self._resident()
        self._running = True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._running = False
        self._thread.join()

    def _watch(self) -> None:
        while self._running:
            self.megabytes = max(self.megabytes, self._resident() - self._start)
            time.sleep(0.002)

    @staticmethod
    def _resident() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def gemm_rate() -> float:
    """Floating-point operations a second of a large float32 matrix product, now: the median of 30."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return statistics.median(2 * 1024**3 / cpu_seconds(lambda: a @ b) for _ in range(30))


def operations(case: Case, model: Any, samples: list[Sequence]) -> float:
    """Floating-point operations of what must run: shared prefixes once, the head where it counts."""
    pieces = shared_pieces(samples, range(len(samples)))
    body = sum(p.numel() for p in model.model.layers.parameters())
    tokens = sum(piece.tokens for piece in pieces)
    seen = sum((piece.stop**2 - piece.reused**2) / 2 for piece in pieces)
    attention = 4 * seen * case.heads[0] * case.heads[2] * case.layers
    positions = sum(sample.completion_tokens for sample in samples)
    return 2 * body * tokens + attention + 2 * case.hidden * case.vocabulary * positions


def run_case(case: Case, rounds: int, quick: bool) -> dict[str, Any]:
    samples = build_samples(case, max(8, case.samples // 8) if quick else case.samples)
    model = build_model(case)
    # Memory first: what the peer has left behind could be used again unseen.
    with PeakMemory() as memory:
        scores = score(model, samples)
    harness = Harness(model, case.vocabulary)
    difference = disagreement(scores, harness.log_likelihoods(samples))

    def theirs() -> None:
        harness.log_likelihoods(samples)
        if case.generates:
            harness.generate(samples)

    ours_s, theirs_s, rates = [], [], []
    for _ in range(rounds):
        before = gemm_rate()
        ours_s.append(cpu_seconds(lambda: score(model, samples)))
        rates.append((before + gemm_rate()) / 2)
        theirs_s.append(cpu_seconds(theirs))
    ratios = [peer / own for peer, own in zip(theirs_s, ours_s, strict=True)]
    shares = [operations(case, model, samples) / s / r for s, r in zip(ours_s, rates, strict=True)]
    return {
        "case": case.name,
        "samples": len(samples),
        "fettle_cpu_s": statistics.median(ours_s),
        "lm_eval_cpu_s": statistics.median(theirs_s),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "target": case.target,
        "gemm_share": statistics.median(shares),
        "gemm_gflops": statistics.median(rates) / 1e9,
        "peak_mb": memory.megabytes,
        "peak_mb_limit": case.memory,
        "max_sample_difference": difference,
        "rounds": rounds,
    }


def disagreement(scores: Scores, theirs: list[tuple[float, bool]]) -> float:
    """Largest difference of a sample's log-likelihood, nats. Greedy answers must agree."""
    for ours, (_, greedy) in zip(scores.exact_match, theirs, strict=True):
        assert bool(ours) == greedy
    return max(abs(-ours - value) for ours, (value, _) in zip(scores.cross_entropy_sum, theirs, strict=True))


def print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "case", "n", "fettle s", "lm-eval s", "ratio (spread)", "target", "of GEMM", "peak MB", "max |Δ|"
    )
    for row in rows:
        table.add_row(
            row["case"],
            str(row["samples"]),
            f"{row['fettle_cpu_s']:.1f}",
            f"{row['lm_eval_cpu_s']:.1f}",
            f"{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})",
            f"{row['target']:.2f}",
            f"{row['gemm_share']:.0%}",
            f"{row['peak_mb']:.0f}",
            f"{row['max_sample_difference']:.1e}",
        )
    Console(width=120).print(table)


def run_alone(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row in a process of its own, where no earlier row has left memory to reuse."""
    command = [sys.executable, __file__, "--json", "--only", name, "--rounds", str(options.rounds)]
    done = subprocess.run([*command, "--quick"] if options.quick else command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr}")
    row: dict[str, Any] = json.loads(done.stdout)[0]
    print(f"{name}: {row['ratio']:.2f}x", file=sys.stderr)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="an eighth of the samples, one round")
    parser.add_argument("--json", action="store_true", help="print one JSON array instead of the table")
    parser.add_argument("--rounds", type=int, default=3, help="rounds to take turns in (default 3)")
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES], help="some rows only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logger.remove()
    logging.disable(logging.WARNING)
    rounds = 1 if options.quick else options.rounds
    names = options.only or [case.name for case in CASES]
    if len(names) == 1:
        rows = [run_case(case, rounds, options.quick) for case in CASES if case.name in names]
    else:
        rows = [run_alone(name, options) for name in names]
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
