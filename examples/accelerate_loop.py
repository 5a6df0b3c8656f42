"""Fine-tune with a loop of your own (Accelerate, LoRA); fettle records, scores and decides.

    accelerate launch examples/accelerate_loop.py Qwen/Qwen3-0.6B train.jsonl valid.jsonl --output-dir out
    fettle verdict out

Both files hold one chat a line: {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from peft import LoraConfig, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

import fettle


def encode(messages, tokenizer):
    """Token ids, and labels of the last answer."""
    ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=True)
    start = len(prompt["input_ids"])
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor([-100] * start + ids[start:])}


def collate(rows):
    """A batch, padded on the right."""
    ids = pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    labels = pad_sequence([row["labels"] for row in rows], batch_first=True, padding_value=-100)
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    return {
        "input_ids": ids,
        "labels": labels,
        "attention_mask": torch.arange(ids.shape[1]) < lengths[:, None],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("model", "train", "valid"):
        parser.add_argument(name)
    parser.add_argument("--output-dir", default="out")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--eval-steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    arguments = parser.parse_args()

    accelerator = Accelerator()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(arguments.model), lora)
    chats = [json.loads(line)["messages"] for line in Path(arguments.train).read_text().splitlines()]
    loader = torch.utils.data.DataLoader(
        [encode(chat, tokenizer) for chat in chats], arguments.batch_size, shuffle=True, collate_fn=collate
    )
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=arguments.learning_rate
    )
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    plain = accelerator.unwrap_model(model)
    held_out = fettle.HeldOut(arguments.valid, tokenizer, train_on="last")

    run = fettle.record(
        arguments.output_dir, config=vars(arguments), held_out=held_out, total_steps=arguments.steps
    )
    step, stop = 0, False
    with run if accelerator.is_main_process else nullcontext() as recorder:
        while not stop and step < arguments.steps:
            for batch in loader:
                began, step = time.perf_counter(), step + 1
                loss = model.train()(**batch).loss
                accelerator.backward(loss)
                norm = accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()

                labelled = (batch["labels"][:, 1:] != -100).sum()
                sums = torch.stack([loss.detach() * labelled, labelled, batch["attention_mask"].sum()])
                loss_sum, labels, tokens = accelerator.reduce(sums).tolist()
                if recorder:
                    seconds = time.perf_counter() - began
                    recorder.step(
                        step, loss_sum=loss_sum, completion_tokens=int(labels), tokens=int(tokens),
                        learning_rate=arguments.learning_rate, grad_norm=float(norm), seconds=seconds,
                    )  # fmt: skip
                best = False
                if step % arguments.eval_steps == 0 or step == arguments.steps:
                    samples = held_out.evaluate(plain)  # each process scores its share
                    best = recorder.evaluation(step, samples).new_best if recorder else False
                if recorder:
                    # The page may ask for a checkpoint or the end; recorder.step sleeps through a pause.
                    if best or recorder.should_save:
                        recorder.checkpoint(step, plain.save_pretrained)
                    stop = recorder.should_stop
                [stop] = broadcast_object_list([stop])
                if stop or step == arguments.steps:
                    break


if __name__ == "__main__":
    main()
