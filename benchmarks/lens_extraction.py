"""Extraction beside a text at a time, and beside other libraries at their best: CPU seconds and agreement.

    python benchmarks/lens_extraction.py [--quick] [--json]

A Qwen3 of random weights, 512 wide, 8 blocks, 32,000 tokens; 200 texts, mixed (5-200 tokens) or short (5-40);
the mean over block 4. All ways read the same model object on one thread, in turns; a ratio is taken within a
round, because the machine's speed drifts between rounds. `one at a time` is what the earlier system and most
examples do: the whole model, all hidden states kept. nnsight and TransformerLens are measured where they are
installed, in fettle's batches and stopped behind the same block.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from numpy.typing import NDArray

from fettle.demo.model import build_tokenizer
from fettle.lens.activations import pad, pool, pooled_activations
from fettle.lens.spec import ExtractionSpec
from fettle.lens.tokens import Tokens
from fettle.scoring.budget import default_batch_tokens
from fettle.scoring.plan import Piece, by_length, take

BLOCK, DEPTH, WIDTH, VOCABULARY = 4, 8, 512, 32_000
LENGTHS = {"mixed": (5, 201), "short": (5, 41)}
SPEC = ExtractionSpec(layers=(BLOCK,))
Vectors = NDArray[np.float32]


def build_model() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=3 * WIDTH, num_hidden_layers=DEPTH,
        num_attention_heads=8, num_key_value_heads=4, head_dim=64, max_position_embeddings=1024,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).eval()


def build_texts(kind: str, count: int) -> list[Tokens]:
    rng = np.random.default_rng(0)
    ids = [rng.integers(2, VOCABULARY, int(rng.integers(*LENGTHS[kind]))) for _ in range(count)]
    return [Tokens(text, np.arange(len(text)) > 0) for text in ids]


def fettle_extract(model: Any, texts: list[Tokens], spec: ExtractionSpec = SPEC) -> Vectors:
    found = np.zeros((len(texts), len(spec.layers), WIDTH), dtype=np.float32)
    for indices, vectors in pooled_activations(model, texts, spec):
        found[indices] = vectors
    return found


def in_batches(model: Any, texts: list[Tokens], groups: list[list[int]]) -> Vectors:
    """All hidden states of padded batches, one of them pooled; `model` may be the stack without its head."""
    found = np.zeros((len(texts), 1, WIDTH), dtype=np.float32)
    for group in groups:
        batch = pad([texts[i] for i in group])
        with torch.no_grad():
            states = model(
                batch.ids, attention_mask=batch.mask, output_hidden_states=True, use_cache=False
            ).hidden_states
        found[group, 0] = pool(states[BLOCK], batch.counted, "mean").numpy()
    return found


def budget_groups(model: Any, texts: list[Tokens]) -> list[list[int]]:
    """The batches that fettle makes."""
    waiting = by_length([Piece(i, 0, len(text)) for i, text in enumerate(texts)])
    groups: list[list[int]] = []
    while waiting:
        some = waiting[: take(waiting, 0, default_batch_tokens(model), padded=True)]
        groups.append([piece.sequence for piece in some])
        waiting = waiting[len(some) :]
    return groups


class Nnsight:
    """nnsight at its best: fettle's batches, stopped behind the block."""

    def __init__(self, model: Any) -> None:
        from nnsight import NNsight

        self.model: Any = NNsight(model)

    def extract(self, texts: list[Tokens], groups: list[list[int]]) -> Vectors:
        found = np.zeros((len(texts), 1, WIDTH), dtype=np.float32)
        for group in groups:
            batch = pad([texts[i] for i in group])
            with (
                torch.no_grad(),
                self.model.trace(batch.ids, attention_mask=batch.mask, use_cache=False) as tracer,
            ):
                hidden = self.model.model.layers[BLOCK - 1].output.save()
                tracer.stop()
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
            found[group, 0] = pool(hidden, batch.counted, "mean").numpy()
        return found


class TransformerLens:
    """TransformerLens at its best: fettle's batches, stopped at the same block."""

    def __init__(self, model: Any) -> None:
        from transformer_lens.model_bridge import TransformerBridge

        tokenizer = build_tokenizer(["a b c"])
        with TemporaryDirectory() as folder:
            model.config.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            # It puts parts of its own into the model: a copy.
            self.model: Any = TransformerBridge.boot_transformers(
                folder, hf_model=copy.deepcopy(model), tokenizer=tokenizer
            )

    def extract(self, texts: list[Tokens], groups: list[list[int]]) -> Vectors:
        found = np.zeros((len(texts), 1, WIDTH), dtype=np.float32)
        for group in groups:
            batch = pad([texts[i] for i in group])
            with torch.no_grad():
                hidden = self.model(
                    batch.ids,
                    attention_mask=batch.mask,
                    stop_at_layer=BLOCK,
                    return_type=None,
                    prepend_bos=False,
                )
            found[group, 0] = pool(hidden, batch.counted, "mean").numpy()
        return found


def ways(model: Any, texts: list[Tokens]) -> Iterator[tuple[str, Callable[[], Vectors]]]:
    everything = list(range(len(texts)))
    fours = [everything[i : i + 4] for i in range(0, len(texts), 4)]
    groups = budget_groups(model, texts)
    alone = [[i] for i in everything]
    yield "one at a time", lambda: in_batches(model, texts, alone)
    yield "one at a time, no head", lambda: in_batches(model.model, texts, alone)
    yield "batches of 4, unsorted", lambda: in_batches(model, texts, fours)
    yield "fettle's batches, whole stack", lambda: in_batches(model.model, texts, groups)
    for name, peer in (("nnsight", Nnsight), ("transformer_lens", TransformerLens)):
        if find_spec(name) is not None:
            yield f"{name}, fettle's batches, stopped", partial(peer(model).extract, texts, groups)
    yield "fettle", lambda: fettle_extract(model, texts)


def all_layers(model: Any, texts: list[Tokens]) -> float:
    """CPU seconds of all layers in one pass over those of the deepest alone."""
    every = ExtractionSpec(layers=tuple(range(DEPTH + 1)))
    last = ExtractionSpec(layers=(DEPTH,))
    return cpu_seconds(lambda: fettle_extract(model, texts, every)) / cpu_seconds(
        lambda: fettle_extract(model, texts, last)
    )


def cpu_seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def run_case(model: Any, kind: str, count: int, rounds: int) -> list[dict[str, Any]]:
    texts = build_texts(kind, count)
    known = dict(ways(model, texts))
    reference = known["one at a time"]()
    scale = float(np.abs(reference).max())
    differences = {name: float(np.abs(way() - reference).max()) for name, way in known.items()}
    seconds: dict[str, list[float]] = {name: [] for name in known}
    layers: list[float] = []
    for _ in range(rounds):
        for name, way in known.items():
            seconds[name].append(cpu_seconds(way))
        layers.append(all_layers(model, texts))
    rows: list[dict[str, Any]] = []
    for name in known:
        ratios = [alone / own for alone, own in zip(seconds["one at a time"], seconds[name], strict=True)]
        rows.append(
            {
                "texts": kind, "way": name, "cpu_s": statistics.median(seconds[name]),
                "ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios),
                "max_difference": differences[name], "largest_activation": scale, "rounds": rounds,
                "all_layers_over_deepest": statistics.median(layers) if name == "fettle" else None,
            }
        )  # fmt: skip
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "texts", "way", "CPU s", "times as fast (spread)", "max |Δ| / largest", "all layers / deepest"
    )
    for row in rows:
        layers, relative = row["all_layers_over_deepest"], row["max_difference"] / row["largest_activation"]
        table.add_row(
            row["texts"], row["way"], f"{row['cpu_s']:.2f}",
            f"{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})",
            f"{relative:.1e}", "" if layers is None else f"{layers:.2f}",
        )  # fmt: skip
    Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="50 texts, one round")
    parser.add_argument("--json", action="store_true", help="print one JSON array instead of the table")
    parser.add_argument("--rounds", type=int, default=3, help="rounds to take turns in (default 3)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = build_model()
    count, rounds = (50, 1) if options.quick else (200, options.rounds)
    rows = [row for kind in LENGTHS for row in run_case(model, kind, count, rounds)]
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
