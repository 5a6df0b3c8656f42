"""Fine-tune with PyTorch Lightning; fettle watches, stops and decides by one callback.

    python examples/lightning_module.py Qwen/Qwen3-0.6B train.jsonl valid.jsonl --output-dir out
    fettle verdict out/fettle

Both files hold one chat a line: {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from fettle import LightningCallback


class ChatModel(LightningModule):
    """A causal LM with LoRA that learns the last answer of each chat."""

    def __init__(self, name: str, learning_rate: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.tokenizer = AutoTokenizer.from_pretrained(name)
        lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        self.model = get_peft_model(AutoModelForCausalLM.from_pretrained(name), lora)

    def training_step(self, batch, batch_idx):
        return self.model(**batch).loss

    def configure_optimizers(self):
        trained = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=self.hparams["learning_rate"])

    def collate(self, chats):
        """Token ids padded on the right, and labels of the last answers."""
        rows = []
        for messages in chats:
            chat = self.tokenizer.apply_chat_template(messages, return_dict=True)
            prompt = self.tokenizer.apply_chat_template(
                messages[:-1], add_generation_prompt=True, return_dict=True
            )
            rows.append((chat["input_ids"], len(prompt["input_ids"])))
        width = max(len(ids) for ids, _ in rows)

        def padded(values, by):
            return torch.tensor([row + [by] * (width - len(row)) for row in values])

        return {
            "input_ids": padded([ids for ids, _ in rows], 0),
            "attention_mask": padded([[1] * len(ids) for ids, _ in rows], 0),
            "labels": padded([[-100] * start + ids[start:] for ids, start in rows], -100),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("model", "train", "valid"):
        parser.add_argument(name)
    parser.add_argument("--output-dir", default="out")
    parser.add_argument("--max-steps", type=int, default=1000)
    parser.add_argument("--eval-steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    arguments = parser.parse_args()

    module = ChatModel(arguments.model, arguments.learning_rate)
    chats = [json.loads(line)["messages"] for line in Path(arguments.train).read_text().splitlines()]
    loader = torch.utils.data.DataLoader(chats, arguments.batch_size, shuffle=True, collate_fn=module.collate)
    watch = LightningCallback(arguments.valid, train_on="last", eval_interval_steps=arguments.eval_steps)
    trainer = Trainer(
        max_steps=arguments.max_steps,
        default_root_dir=arguments.output_dir,
        gradient_clip_val=1.0,
        callbacks=[watch],
    )
    trainer.fit(module, loader)


if __name__ == "__main__":
    main()
