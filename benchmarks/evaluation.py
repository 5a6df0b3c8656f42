"""Ten LoRA checkpoints evaluated: `fettle eval` beside ten separate runs of lm-evaluation-harness.

    python benchmarks/evaluation.py [--case tiny-32k] [--samples 300] [--checkpoints 10] [--rounds 2] [--json]

The same tokens on both sides, one thread, in turns; CPU seconds of the process, from the folders on disk to
the numbers. Then the same evaluation again with nothing changed, and with 5 % of the samples changed. The
harness is spared the tokenizer and gets the token pairs; fettle reads and encodes its JSONL.

The harness does 2.57 times the floating-point operations at a vocabulary of 32,000, and 5.3 times at 151,936
(`--case tiny-152k`): what is gained beyond comes from memory and from loading once.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loguru import logger

from fettle.config import EvaluationConfig
from fettle.data import ChatEncoder, read_examples
from fettle.evaluation.cache import ScoreCache
from fettle.evaluation.evaluate import evaluate
from fettle.evaluation.loaded_model import LoadedModel
from fettle.evaluation.results import Evaluation
from fettle.evaluation.subject import Subject
from scoring import CASES, Case, Harness, build_model, cpu_seconds

SMALL = {case.name: case for case in CASES if case.name.startswith("tiny")}
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }} {% if m['role'] == 'assistant' %}t1 {% endif %}{% endfor %}"
)


def write_model(folder: Path, case: Case, checkpoints: int) -> list[Subject]:
    """A base model, its tokenizer, and LoRA adapters of random weights on it."""
    import peft

    model = build_model(case)
    model.save_pretrained(folder / "base")
    tokenizer = Harness(model, case.vocabulary).lm.tokenizer
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder / "base")
    config = peft.LoraConfig(
        r=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], init_lora_weights=False
    )
    wrapped: Any = peft.get_peft_model(model, config)
    subjects: list[Subject] = []
    for step in range(1, checkpoints + 1):
        torch.manual_seed(step)
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        path = folder / f"checkpoint-{step}"
        wrapped.save_pretrained(path, save_embedding_layers=False)
        subjects.append(Subject(f"step_{step}", step, str(folder / "base"), path))
    return subjects


def write_data(path: Path, case: Case, samples: int, changed: int = 0) -> None:
    """Chats of random words, as long as those of the scoring benchmark; the first `changed` of them anew."""
    rng, fresh = np.random.default_rng(0), np.random.default_rng(1)
    lines: list[str] = []
    for i in range(samples):
        words = rng.integers(2, case.vocabulary, int(rng.integers(*case.prompt)) + 60)
        answer = int(rng.integers(5, 61))
        words[0] = fresh.integers(2, case.vocabulary) if i < changed else words[0]
        prompt, completion = (" ".join(f"t{w}" for w in part) for part in (words[:-60], words[-answer:]))
        lines.append(json.dumps({"prompt": prompt, "completion": completion}))
    path.write_text("\n".join(lines) + "\n")


class Contest:
    """Both sides on the same files."""

    def __init__(self, folder: Path, case: Case, samples: int, checkpoints: int) -> None:
        self.folder, self.case, self.samples = folder, case, samples
        self.subjects = write_model(folder, case, checkpoints)
        self.data = folder / "valid.jsonl"
        write_data(self.data, case, samples)
        tokenizer: Any = Harness(build_model(case), case.vocabulary).lm.tokenizer
        tokenizer.chat_template = TEMPLATE
        self.sequences = ChatEncoder(tokenizer).encode_all(read_examples(self.data)).sequences
        self.found: Evaluation | None = None

    def ours(self, cache: Path, data: Path | None = None) -> None:
        self.found = evaluate(
            self.subjects,
            [data or self.data],
            EvaluationConfig(),
            out=self.folder / "out",
            cache=ScoreCache(cache),
        )

    def theirs(self) -> list[float]:
        """Cross-entropy sum of each checkpoint; the model is loaded for each, as separate runs do."""
        import peft
        from transformers import AutoModelForCausalLM

        totals: list[float] = []
        for subject in self.subjects:
            base: Any = AutoModelForCausalLM.from_pretrained(subject.model, dtype=torch.float32)
            model = peft.PeftModel.from_pretrained(base, str(subject.adapter)).eval()
            found = Harness(model, self.case.vocabulary).log_likelihoods(self.sequences)
            totals.append(-sum(value for value, _ in found))
        return totals


def measure(contest: Contest, rounds: int) -> list[dict[str, Any]]:
    columns: dict[str, list[float]] = {"cold": [], "lm_eval": [], "unchanged": [], "changed": []}
    changed = contest.folder / "changed.jsonl"
    write_data(changed, contest.case, contest.samples, changed=contest.samples // 20)
    for number in range(rounds):
        totals: list[float] = []
        cache = contest.folder / f"cache-{number}.sqlite"
        columns["cold"].append(cpu_seconds(lambda at=cache: contest.ours(at)))
        assert contest.found is not None
        sums = [float(r.samples.cross_entropy_sum.sum()) for r in contest.found.results]
        columns["lm_eval"].append(cpu_seconds(lambda found=totals: found.extend(contest.theirs())))
        np.testing.assert_allclose(sums, totals, rtol=1e-4)
        columns["unchanged"].append(cpu_seconds(lambda at=cache: contest.ours(at)))
        columns["changed"].append(cpu_seconds(lambda at=cache: contest.ours(at, changed)))
        print(
            f"round {number + 1}: " + "  ".join(f"{k} {v[-1]:.2f} s" for k, v in columns.items()),
            file=sys.stderr,
        )
    rows = [
        ("ten lm-eval runs / fettle eval", "lm_eval", "cold", 5.0),
        ("first run / unchanged run", "cold", "unchanged", 50.0),
        ("first run / 5 % changed", "cold", "changed", 10.0),
    ]
    return [_row(name, columns[over], columns[under], target) for name, over, under, target in rows]


def _row(name: str, over: list[float], under: list[float], target: float) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return {
        "what": name, "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios),
        "target": target, "seconds": [statistics.median(over), statistics.median(under)],
    }  # fmt: skip


def swap_seconds(contest: Contest) -> float:
    """CPU seconds to put an adapter in the place of another, the median."""
    model = LoadedModel("float32", "cpu")
    model.use(contest.subjects[0])
    return statistics.median(cpu_seconds(lambda s=s: model.use(s)) for s in contest.subjects[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=list(SMALL), default="tiny-32k")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--checkpoints", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logger.remove()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        contest = Contest(Path(folder), SMALL[options.case], options.samples, options.checkpoints)
        swap = swap_seconds(contest)  # First: libraries are loaded before anything is timed.
        rows = measure(contest, options.rounds)
    if options.json:
        print(json.dumps({"rows": rows, "swap_seconds": swap}, indent=2))
        return
    for row in rows:
        seconds = " / ".join(f"{s:.2f}" for s in row["seconds"])
        spread = f"({row['low']:.1f} to {row['high']:.1f})"
        print(
            f"{row['what']:32} {row['ratio']:7.1f}x {spread:18} at least {row['target']:g}x   {seconds} CPU s"
        )
    print(f"putting one adapter in the place of another: {1000 * swap:.1f} ms")


if __name__ == "__main__":
    main()
