"""Preference training with TRL's DPOTrainer; fettle watches, stops and decides by one line.

    python examples/trl_dpo.py Qwen/Qwen3-0.6B preferences.jsonl valid.jsonl --output-dir out
    fettle verdict out/fettle

A line of preferences holds messages: {"prompt": [{"role": "user", ...}], "chosen": [...], "rejected": [...]}
A line of valid is a chat: {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}

What DPO minimises is no cross-entropy of labels, so the run shows no train loss per token; the
held-out chats tell whether the model still answers as it should.
"""

from __future__ import annotations

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

from fettle import FettleCallback


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("preferences")
    parser.add_argument("valid")
    parser.add_argument("--output-dir", default="out")
    parser.add_argument("--max-steps", type=int, default=-1)
    parser.add_argument("--save-steps", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=5e-6)
    arguments = parser.parse_args()

    trainer = DPOTrainer(
        model=arguments.model,
        train_dataset=load_dataset("json", data_files=arguments.preferences, split="train"),
        args=DPOConfig(
            output_dir=arguments.output_dir,
            max_steps=arguments.max_steps,
            learning_rate=arguments.learning_rate,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=4,
            save_steps=arguments.save_steps,
            logging_steps=10,
            bf16=torch.cuda.is_available(),
            report_to="none",
        ),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.add_callback(FettleCallback(fixed_eval=arguments.valid))
    trainer.train()


if __name__ == "__main__":
    main()
