"""examples/tinker.yaml as it stands, on a real server and on real chats: killed, resumed, judged, drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("tinker")

from fettle.runs import RunReader
from skyrl_server import SkyRLServer, skyrl_server
from tiny_models import tiny_model, tiny_tokenizer
from train.skyrl_runs import command, killed_after, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skyrl,
    pytest.mark.real_data,
    # The first test may build the environment: 2.2 GB to download and unpack.
    pytest.mark.timeout(1800),
]
EXAMPLE = Path(__file__).parents[2] / "examples" / "tinker.yaml"
STEPS, KILLED, SAVED = 12, 8, 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SkyRLServer]:
    folder = tmp_path_factory.mktemp("example")
    tokenizer = tiny_tokenizer()
    sizes = {"hidden": 32, "layers": 1, "max_position_embeddings": 2048}
    tiny_model("qwen3", vocab_size=len(tokenizer), **sizes).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    with skyrl_server(folder / "base", folder / "server") as running:
        yield running


def test_a_killed_run_of_the_example_goes_on_and_is_judged(
    server: SkyRLServer, real_data: Path, tmp_path: Path
) -> None:
    chats = real_data / "compression"
    if not chats.is_dir():
        pytest.skip(f"{chats} is not there")
    changes = {
        "model": server.base,
        "data.train": chats / "train.jsonl",
        "data.fixed_eval": chats / "valid.jsonl",
        "data.max_samples": 6,
        # Byte by byte the chats are long, and few are longer than this.
        "training.max_seq_length": 1536,
        "training.max_steps": STEPS,
        "training.batch_size": 2,
        "training.learning_rate": 3e-3,
        "training.eval_interval_steps": SAVED,
        "training.checkpoint_interval_steps": SAVED,
        # SkyRL takes none above.
        "lora.rank": 8,
        "tinker.prices.train": 1,
        "tinker.prices.prefill": 0.3,
        "tinker.prices.sample": 1,
        "predictions.max_new_tokens": 8,
    }
    overrides = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    out = tmp_path / "run"
    training = command(server, "train", EXAMPLE, "--out", out, "--quiet", *overrides)
    killed_after(KILLED, training, out)
    assert RunReader(out).state() == "crashed"
    run(training)
    reader = RunReader(out)
    assert reader.state() == "completed"
    assert f"going on from checkpoint-{SAVED}" in (out / "logs" / "train.log").read_text()
    train = reader.columns("train")
    assert train["step"].tolist() == list(range(1, STEPS + 1))
    assert train["loss"][-1] < train["loss"][0]
    status = reader.status()
    assert status is not None
    # Steps that were done twice were paid for twice.
    assert status["billed_train_tokens"] > train["tokens"].sum()
    assert 0 < status["spent_usd"] < 5
    assert [e.step for e in reader.evals()] == [SAVED, STEPS]
    # Two evals are too few for a trend.
    told = run(command(server, "verdict", out), status=30)
    assert "ACTION" in told
    assert "calibration (ECE), entropy" in told
    run(command(server, "plot", out))
    assert (out / "plots" / "training_curves.png").stat().st_size > 10_000
