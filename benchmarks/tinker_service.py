"""Training through the Tinker protocol on SkyRL's server: steps a second, and whose losses come out.

    python benchmarks/tinker_service.py [--steps 24] [--rounds 3] [--latency 0.2] [--curve 100] [--json]

Speed: `fettle train` beside the same calls, each awaited before the next is made, with `latency` seconds
added to every round trip by a relay; steps a second of the wall clock, in turns. Loss: `curve` steps there
and on the local backend, with the same model, data and seed. Once as they come; once with what SkyRL does
otherwise done here too: the LoRA weights that it draws, one A for q, k and v and one for gate and up, and
answers of one length, so that its mean over chats is that over tokens.

Needs SkyRL in ~/.cache/fettle-tests (or FETTLE_SKYRL), where `make test-tinker` builds it; says so, and ends,
where it is not there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from skyrl_server import FOLDER, is_built, sdk_folder, skyrl_server
from tiny_models import tiny_model, tiny_tokenizer

YAML = """\
model: ./base
backend: tinker
data: {train: train.jsonl}
lora: {rank: 4, alpha: 32, dropout: 0.0}
training:
  batch_size: 4
  learning_rate: 3.0e-3
  max_grad_norm: null      # SkyRL clips none
  layer_interval_steps: null
  checkpoint_interval_steps: 100000
"""
CHATS, BATCH = 64, 4
# The first steps find the service idle, the last has none after it.
WARM_UP = 4


def write_project(folder: Path) -> Path:
    """A tiny base model and chats; in `even.jsonl` all answers have as many tokens."""
    tokenizer = tiny_tokenizer()
    tiny_model("qwen3", vocab_size=len(tokenizer), hidden=32, layers=1).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    rng = random.Random(0)
    # No two of the letters of the second make one token.
    for name, letters, shortest, longest in (("train", "abcdefgh", 2, 9), ("even", "bcdfgh", 6, 6)):
        with (folder / f"{name}.jsonl").open("w") as stream:
            for _ in range(CHATS):
                word = "".join(rng.choices(letters, k=rng.randint(shortest, longest)))
                turns = [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}]
                stream.write(json.dumps({"messages": turns}) + "\n")
    (folder / "train.yaml").write_text(YAML)
    return folder


# -- in the child -------------------------------------------------------------------


class Awaited:
    """A client of which every call is over before the next is made."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def awaited(*arguments: Any, **options: Any) -> Any:
            future = call(*arguments, **options)
            future.result()
            return future

        return awaited


def run_one(contender: str, project: Path, steps: int, overrides: list[str]) -> None:
    """Train and print the loss of every step and when it was known."""
    from fettle.config import load_config
    from fettle.train import local
    from fettle.train.job import train
    from fettle.train.tinker.backend import TinkerBackend
    from fettle.train.tinker.service import Service

    epochs = -(-steps * BATCH // CHATS)
    settings = [f"training.epochs={epochs}", f"training.max_steps={steps}", *overrides]
    if contender.startswith("local"):
        settings += ["backend=local", "device=cpu"]
    config = load_config(project / "train.yaml", settings)
    if contender == "awaited":
        TinkerBackend.lookahead = 0
        new_model = Service.new_model
        Service.new_model = lambda self: Awaited(new_model(self))
    if contender == "local-same":
        tinker = load_config(project / "train.yaml", overrides)
        local.load_model = as_skyrl_trains(local.load_model, drawn_weights(Service(tinker)))
    times: list[float] = []
    losses: list[float] = []

    def on_step(done: Any) -> None:
        times.append(time.perf_counter())
        losses.append(done.result.loss)

    with tempfile.TemporaryDirectory() as folder:
        train(config, out=Path(folder) / "run", log_level="CRITICAL", on_step=on_step)
    per_step = (times[-2] - times[WARM_UP - 1]) / (len(times) - 1 - WARM_UP)
    print("RESULT", json.dumps({"seconds": per_step, "losses": losses}))


def drawn_weights(service: Any) -> dict[str, Any]:
    """LoRA weights that the service draws with the seed of the configuration, by PEFT's names."""
    from safetensors.torch import load

    from fettle.train.tinker.download import ADAPTER_WEIGHTS
    from fettle.train.tinker.sdk import exported_files

    client = service.new_model()
    files = {name: b"".join(blocks) for name, blocks in exported_files(client, service.rest())}
    return load(files[ADAPTER_WEIGHTS])


def as_skyrl_trains(load_model: Any, weights: dict[str, Any]) -> Any:
    """`load_model` of the local backend with these LoRA weights, and one A where SkyRL has one projection."""
    from peft import set_peft_model_state_dict

    def loaded(config: Any, device: Any) -> Any:
        model = load_model(config, device)
        told: Any = set_peft_model_state_dict(model, weights)
        assert not told.unexpected_keys, told.unexpected_keys
        for layer in model.base_model.model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            for first, *others in (
                (attention.q_proj, attention.k_proj, attention.v_proj),
                (mlp.gate_proj, mlp.up_proj),
            ):
                for other in others:
                    assert first.lora_A.default.weight.equal(other.lora_A.default.weight)
                    other.lora_A.default.weight = first.lora_A.default.weight
        return model

    return loaded


# -- in the parent ------------------------------------------------------------------


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Pass on what comes, each piece `seconds` after it came; a later one does not wait for an earlier."""
    loop = asyncio.get_running_loop()
    data = b"first"
    while data:
        try:
            data = await reader.read(1 << 16)
        except ConnectionError:
            data = b""
        loop.call_later(seconds, writer.write if data else writer.close, *([data] if data else []))


async def serve_relay(port: int, latency: float) -> None:
    """Print the address of a relay to `port`: what passes takes half of `latency` seconds each way."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, back, latency / 2), carry(there, writer, latency / 2))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextmanager
def relay(port: int, latency: float) -> Iterator[str]:
    command = [sys.executable, str(Path(__file__)), "--relay", str(port), "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def measure(contender: str, project: Path, url: str, steps: int, *overrides: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__)), "--child", contender, str(project), "--steps", str(steps)]
    source = str(Path(__file__).parents[1] / "src")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(sdk_folder()), source]),
        "TINKER_BASE_URL": url,
        "TINKER_API_KEY": "tml-any",
    }
    done = subprocess.run(
        [*command, *(f"--set={override}" for override in overrides)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if "RESULT" not in done.stdout:
        raise SystemExit(f"{contender} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.rsplit("RESULT", 1)[1])


def speed(project: Path, port: int, steps: int, rounds: int, latency: float) -> dict[str, Any]:
    """Steps a second of both, and how many times those of the awaited calls ours are."""
    # Every shape is compiled once, before anything is measured.
    measure("fettle", project, f"http://127.0.0.1:{port}", steps)
    with relay(port, latency) as url:
        rows = [
            {c: measure(c, project, url, steps)["seconds"] for c in ("fettle", "awaited")}
            for _ in range(rounds)
        ]
    ratios = sorted(row["awaited"] / row["fettle"] for row in rows)
    return {
        "latency": latency,
        "steps_per_second": {c: 1 / statistics.median(row[c] for row in rows) for c in rows[0]},
        "times_awaited": [ratios[0], statistics.median(ratios), ratios[-1]],
    }


def curve(project: Path, port: int, steps: int) -> list[dict[str, Any]]:
    """How far the losses of the service lie from those of the local backend, in nats per token."""
    url = f"http://127.0.0.1:{port}"
    table: list[dict[str, Any]] = []
    for what, contender, data in (
        ("as they come", "local", "train"),
        ("LoRA and lengths as SkyRL has them", "local-same", "even"),
    ):
        override = f"data.train={data}.jsonl"
        there = measure("fettle", project, url, steps, override)["losses"]
        here = measure(contender, project, url, steps, override)["losses"]
        differences = [abs(a - b) for a, b in zip(there, here, strict=True)]
        table.append(
            {
                "what": what,
                "steps": steps,
                "first": differences[0],
                "mean": statistics.mean(differences),
                "largest": max(differences),
                "loss": [there[0], there[-1]],
            }
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--curve", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--relay", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--set", action="append", default=[], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.relay:
        asyncio.run(serve_relay(arguments.relay, arguments.latency))
        return
    if arguments.child:
        run_one(arguments.child[0], Path(arguments.child[1]), arguments.steps, arguments.set)
        return
    if not is_built():
        print(f"skipped: SkyRL is not in {FOLDER}; `make test-tinker` builds it there (FETTLE_SKYRL)")
        return
    with tempfile.TemporaryDirectory() as folder:
        project = write_project(Path(folder))
        with skyrl_server(project / "base", project / "server") as server:
            fast = speed(project, server.port, arguments.steps, arguments.rounds, arguments.latency)
            table = curve(project, server.port, arguments.curve)
    if arguments.json:
        print(json.dumps({"speed": fast, "loss": table}, indent=2))
        return
    ours, awaited = fast["steps_per_second"]["fettle"], fast["steps_per_second"]["awaited"]
    low, middle, high = fast["times_awaited"]
    print(
        f"steps a second, {1000 * fast['latency']:.0f} ms added: {ours:.2f} fettle, {awaited:.2f} awaited; "
    )
    print(f"times awaited (range): {middle:.2f} ({low:.2f} to {high:.2f})\n")
    print(f"{'loss there - here, nats a token':34} {'steps':>5} {'step 1':>9} {'mean':>9} {'largest':>9}")
    for row in table:
        print(
            f"{row['what']:34} {row['steps']:5d} {row['first']:9.1e} {row['mean']:9.1e} {row['largest']:9.1e}"
        )


if __name__ == "__main__":
    main()
