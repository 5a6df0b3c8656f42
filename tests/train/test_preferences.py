"""FettleCallback in TRL's DPOTrainer, whose loss is no cross-entropy of labels."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    # Names that TRL and PEFT still use.
    pytest.mark.filterwarnings("ignore:`.*gradient_checkpointing.*` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true"),
]
trl: Any = pytest.importorskip("trl")
pytest.importorskip("datasets")
pytest.importorskip("peft")

import fettle  # noqa: E402
from tiny_models import tiny_model, tiny_tokenizer  # noqa: E402

EXAMPLE = Path(__file__).parents[2] / "examples" / "trl_dpo.py"


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.slow
def test_the_dpo_example_shows_no_false_train_loss_and_scores_held_out_chats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny_tokenizer()
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")

    def user(i: int) -> dict[str, str]:
        return {"role": "user", "content": f"{i} plus {i + 1}"}

    def assistant(text: str) -> dict[str, str]:
        return {"role": "assistant", "content": text}

    preferences = [
        {"prompt": [user(i)], "chosen": [assistant(f"is {2 * i + 1}")], "rejected": [assistant("no idea")]}
        for i in range(32)
    ]
    valid = [{"messages": [user(i), assistant(f"is {2 * i + 1}")]} for i in range(60, 66)]
    files = [written(tmp_path / "p.jsonl", preferences), written(tmp_path / "valid.jsonl", valid)]
    arguments = [str(tmp_path / "model"), *map(str, files), "--output-dir", str(tmp_path / "out")]
    more = ["--max-steps", "4", "--save-steps", "2", "--learning-rate", "1e-2"]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *arguments, *more])
    runpy.run_path(str(EXAMPLE), run_name="__main__")

    run = fettle.open_run(tmp_path / "out" / "fettle")
    assert run.state() == "completed"
    rows = run.records("train")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert [(row.get("loss"), row.get("completion_tokens")) for row in rows] == [(None, None)] * 4
    # Chosen and rejected answers of 16 prompts, with their prompts.
    assert all(row["tokens"] > 2 * 16 * 8 for row in rows)
    assert all(row["grad_norm"] > 0 for row in rows)
    assert "loss_not_measured" in {alert["category"] for alert in run.records("alert")}

    assert [e.step for e in run.evals()] == [2, 4]
    assert run.evals()[0].cross_entropy != run.evals()[1].cross_entropy
    checkpoints = run.checkpoints()
    assert [c.step for c in checkpoints if c.path is not None] == [2, 4]
    assert [(c.score, c.train_loss) for c in checkpoints] == [(None, None)] * 2
    assert all(c.cross_entropy == e.cross_entropy for c, e in zip(checkpoints, run.evals(), strict=True))
    import peft
    import transformers

    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    saved = peft.PeftModel.from_pretrained(base, tmp_path / "out" / "checkpoint-4")
    sequences = fettle.HeldOut(files[1], tokenizer).eval_set.sequences
    expected = fettle.score(saved, sequences).cross_entropy
    assert run.evals()[1].cross_entropy == pytest.approx(expected, rel=1e-5)
