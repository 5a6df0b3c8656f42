"""One process of a data-parallel training with FettleCallback; test_processes.py launches several."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import transformers

from fettle import FettleCallback
from fettle.train import shared_scoring
from tiny_models import tiny_model, tiny_tokenizer
from train.asking import Person, ask


class Asking(transformers.TrainerCallback):
    """Asks the first process for a pause in step 1, for its end once paused, and for a stop in step 4."""

    def __init__(self, run: Path) -> None:
        self.path = run

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.process_index == 0 and state.global_step == 0:
            Person(self.path, lambda: ask(self.path, "resume")).start()
            ask(self.path, "pause")
        if args.process_index == 0 and state.global_step == 3:
            ask(self.path, "stop")


def main(valid: str, out: str) -> None:
    torch.set_num_threads(1)
    tokenizer = tiny_tokenizer()
    rows = [
        {"input_ids": ids, "labels": ids}
        for ids in (tokenizer(f"{i} plus {i} is {2 * i}.").input_ids[:8] for i in range(10, 26))
    ]
    trainer = transformers.Trainer(
        model=tiny_model(hidden=32, vocab_size=len(tokenizer)),
        args=transformers.TrainingArguments(
            output_dir=out, per_device_train_batch_size=2, max_steps=6, learning_rate=1e-2, save_steps=2,
            report_to=[], use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False, logging_steps=1,
        ),
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=lambda batch: {key: torch.tensor([row[key] for row in batch]) for key in batch[0]},
    )  # fmt: skip
    scored: list[int] = []
    score = shared_scoring.score

    def counted(model: Any, sequences: Any, **options: Any) -> Any:
        scored.append(len(sequences))
        return score(model, sequences, **options)

    shared_scoring.score = counted
    trainer.add_callback(Asking(Path(out, "fettle")))
    trainer.add_callback(FettleCallback(valid, predictions={"samples": 2, "max_new_tokens": 4}))
    trainer.train()
    Path(out, f"scored-{trainer.args.process_index}").write_text(" ".join(map(str, scored)))


if __name__ == "__main__":
    main(*sys.argv[1:])
