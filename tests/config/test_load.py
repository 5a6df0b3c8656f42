"""YAML in: what is accepted, and what every mistake says."""

import random
import re
from pathlib import Path

import pytest

from fettle.config import (
    Config,
    check_files,
    config_differences,
    config_hash,
    config_warnings,
    dump_config,
    load_config,
    not_honoured,
)
from fettle.errors import ConfigError

FULL = """\
model: Qwen/Qwen3-8B
backend: local
data:
  train: train.jsonl
  fixed_eval: valid.jsonl
  max_samples: 2000
  train_on: all
lora:
  rank: 16
  alpha: 32
  dropout: 0.05
  target_modules: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]
training:
  epochs: 2
  batch_size: 4
  gradient_accumulation_steps: 1
  learning_rate: 2.0e-4
  lr_schedule: cosine
  warmup_ratio: 0.03
  max_seq_length: 2048
  log_interval_steps: 10
  checkpoint_interval_steps: 250
  eval_interval_steps: 250
  eval_at_epoch_end: true
  resume_from_checkpoint: true
  early_stopping_patience: 5
  early_stopping_threshold: 0.01
  seed: 42
"""
SMALL = "model: some/model\ndata: {train: t.jsonl}\n"


def load(folder: Path, text: str, *overrides: str) -> Config:
    path = folder / "train.yaml"
    path.write_text(text)
    return load_config(path, overrides)


def complaint(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    return str(caught.value).replace(f"{folder}/", "")


def test_the_documented_file_loads_and_its_values_are_the_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, FULL)
    assert config == load(
        tmp_path, "model: Qwen/Qwen3-8B\ndata: {train: train.jsonl, fixed_eval: valid.jsonl}\n"
    )
    assert config.training.early_stopping_patience == 5
    assert config.lora is not None
    assert config.lora.target_modules[0] == "q_proj"


def test_resolved_yaml_loads_to_the_same_configuration(tmp_path: Path) -> None:
    config = load(tmp_path, FULL, "lora.dora=true", "training.max_steps=7")
    again = load(tmp_path, dump_config(config))
    assert again == config
    assert config_hash(again) == config_hash(config)


@pytest.mark.parametrize("written", ["1e-4", "1E-4", "1.0e-4", "0.0001", "+1e-4"])
def test_numbers_are_numbers(tmp_path: Path, written: str) -> None:
    config = load(tmp_path, SMALL + f"training: {{learning_rate: {written}}}\n")
    assert config.training.learning_rate == 1e-4
    assert load(tmp_path, SMALL, f"training.learning_rate={written}") == config


def test_lora_null_is_full_fine_tuning(tmp_path: Path) -> None:
    assert load(tmp_path, SMALL + "lora: null\n").lora is None
    assert load(tmp_path, SMALL).lora is not None


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, SMALL).data.train == tmp_path / "t.jsonl"


def test_all_mistakes_are_told_at_once_with_lines_and_cures(tmp_path: Path) -> None:
    text = (
        "modle: x\ndata:\n  train: a.jsonl\n  alpha: 3\nlora: {rnak: 16, dropout: 2}\n"
        "training:\n  epochs: two\n  model: y\n  epochs: 3\n"
    )
    assert complaint(tmp_path, text).splitlines() == [
        "train.yaml:1: unknown key 'modle'. Did you mean 'model'?",
        "train.yaml:4 [data]: unknown key 'alpha'. 'alpha' belongs under 'lora'",
        "train.yaml:5 [lora]: dropout = 2: must be less than 1.0",
        "train.yaml:5 [lora]: unknown key 'rnak'. Did you mean 'rank'?",
        "train.yaml:8 [training]: unknown key 'model'. 'model' belongs at the top level, outside any section",
        "train.yaml:9 [training]: key 'epochs' stands here a second time (first in line 7). Keep one of them",
    ]


def misspell(word: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(word) - 1)
    return rng.choice(
        [word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:], word[:at] + "x" + word[at + 1 :]]
    )


def test_fifty_seeded_typos_are_caught_all_at_once(tmp_path: Path) -> None:
    rng = random.Random(0)
    keys = re.findall(r"^  (\w+):", FULL.split("training:")[1], re.M)
    rows, meant = [], []
    while len(rows) < 50:
        key = rng.choice(keys)
        wrong = misspell(key, rng)
        if wrong not in keys and wrong not in [row.split(":")[0].strip() for row in rows]:
            rows.append(f"  {wrong}: 1")
            meant.append(key)
    lines = complaint(tmp_path, SMALL + "training:\n" + "\n".join(rows) + "\n").splitlines()
    assert len(lines) == 50
    for number, (line, key) in enumerate(zip(lines, meant, strict=True), start=4):
        assert line.startswith(f"train.yaml:{number} [training]: unknown key")
        assert f"Did you mean '{key}'?" in line


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "model"),
        ("- a\n- b\n", "train.yaml"),
        ("model: [\n", r"train\.yaml:\d"),
        ("model: a\n\tdata: b\n", r"train\.yaml:2"),
        (SMALL + "training: {batch_size: 0}\n", "batch_size = 0: must be"),
        (SMALL + "training: {learning_rate: .nan}\n", "learning_rate"),
        (SMALL + "training: {seed: 1.5}\n", "seed = 1.5: must be a whole number"),
        (SMALL + "training: {eval_at_epoch_end: 1}\n", "eval_at_epoch_end = 1"),
        (SMALL + "lora: {target_modules: null}\n", "must be a list of module names"),
        (SMALL + "lora: {target_modules: []}\n", "must be a list of module names"),
        (SMALL + "training: {lr_schedule: cosin}\n", "cosine"),
        (
            SMALL + "training: {early_stopping_threshold: .1, early_stopping_relative: .1}\n",
            "exclude each other",
        ),
        (SMALL + "backend: tinkr\n", "tinker"),
        (SMALL + "backend: tinker\nlora: null\n", "LoRA only"),
    ],
)
def test_what_a_mistake_says(tmp_path: Path, text: str, problem: str) -> None:
    assert re.search(problem, complaint(tmp_path, text))


def test_overrides_are_checked_like_the_file_and_named(tmp_path: Path) -> None:
    told = complaint(tmp_path, SMALL, "training.learning_rte=1e-4", "lora.rank=x", "nonsense").splitlines()
    assert told == [
        "--set training.learning_rte=1e-4 [training]: unknown key 'learning_rte'. "
        "Did you mean 'learning_rate'?",
        "--set lora.rank=x [lora]: rank = 'x': must be a whole number",
        "--set nonsense: must be KEY=VALUE, for example --set training.learning_rate=1e-4",
    ]


def test_a_missing_file_is_told_before_anything_else(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)
    (tmp_path / "bad.yaml").write_bytes(b"model: \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "bad.yaml")


def test_missing_data_and_model_are_found_together(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    config = load(tmp_path, "model: ./nowhere\ndata: {train: none.jsonl, fixed_eval: empty.jsonl}\n")
    with pytest.raises(ConfigError) as caught:
        check_files(config)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["data.train", "data.fixed_eval", "model"]


def test_differences_name_key_and_both_values(tmp_path: Path) -> None:
    a = load(tmp_path, SMALL)
    b = load(tmp_path, SMALL, "training.learning_rate=1e-5", "lora=null")
    told = config_differences(a, b)
    assert any("training.learning_rate" in line and "0.0002" in line and "1e-05" in line for line in told)
    assert any(line.startswith("lora") for line in told)
    assert config_differences(a, a) == []


def test_every_key_is_honoured_or_named(tmp_path: Path) -> None:
    assert not_honoured(load(tmp_path, SMALL)) == {}
    ignored = not_honoured(load(tmp_path, SMALL + "backend: tinker\n"))
    assert {"lora.alpha", "lora.dropout"} <= set(ignored)
    told = config_warnings(load(tmp_path, SMALL + "backend: tinker\n"))
    assert any("lora.dropout is not honoured by backend 'tinker'" in line for line in told)


def test_training_without_held_out_chats_is_worth_a_word(tmp_path: Path) -> None:
    assert "nothing is evaluated" in config_warnings(load(tmp_path, SMALL))[0]
    assert config_warnings(load(tmp_path, FULL)) == []


def test_which_checkpoints_are_kept_is_no_part_of_what_a_run_is(tmp_path: Path) -> None:
    remote = SMALL + "backend: tinker\n"
    assert config_hash(load(tmp_path, remote)) == config_hash(load(tmp_path, remote, "tinker.ttl_days=3"))
    plain, kept = load(tmp_path, SMALL), load(tmp_path, SMALL, "checkpoints.keep_best=3")
    assert kept.checkpoints.keep_best == 3
    assert plain.checkpoints.keeps_all
    assert not kept.checkpoints.keeps_all
    assert config_hash(plain) == config_hash(kept)
    assert config_differences(plain, kept) == []
    assert "keep_best: 3" in dump_config(kept)
    assert "must be" in complaint(tmp_path, SMALL, "checkpoints.keep_best=0")


def test_when_to_alert_whom_is_no_part_of_what_a_run_is(tmp_path: Path) -> None:
    a = load(tmp_path, SMALL)
    b = load(tmp_path, SMALL, "alerts.plateau=null", "notify.webhook=$SECRET", "notify.min_level=info")
    assert (b.alerts.plateau, b.notify.webhook) == (None, "$SECRET")
    assert config_hash(a) == config_hash(b)
    assert config_differences(a, b) == []


def test_a_webhook_is_an_address(tmp_path: Path) -> None:
    assert "http(s)://" in complaint(tmp_path, SMALL, "notify.webhook=hooks.example.org")
