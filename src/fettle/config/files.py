"""Files that a configuration names and that are not there: found before a model is loaded."""

from __future__ import annotations

from pathlib import Path

from fettle.config.config import Config, is_local_model
from fettle.config.lenses import LensesConfig
from fettle.errors import ConfigError


def check_files(config: Config) -> None:
    """Raises ConfigError with one line for every file the configuration names that cannot be used."""
    problems = [
        problem
        for problem in (
            _data_problem("data.train", config.data.train),
            _data_problem("data.fixed_eval", config.data.fixed_eval) if config.data.fixed_eval else None,
            _model_problem(config.model),
            *_lens_problems(config.lenses),
        )
        if problem
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def _data_problem(key: str, path: Path) -> str | None:
    if path.is_dir():
        return f"{key}: {path} is a folder. Name the JSONL file in it"
    if not path.is_file():
        return f"{key}: no file {path}. Paths are relative to the folder of the configuration file"
    if path.stat().st_size == 0:
        return f"{key}: {path} is empty. It needs one chat a line"
    return None


def _lens_problems(lenses: LensesConfig | None) -> list[str]:
    if lenses is None:
        return []
    problems: list[str] = []
    if not lenses.pack.is_dir():
        problems.append(f"lenses.pack: no folder {lenses.pack}. Make one with: fettle lens train")
    if lenses.neutral is not None and not lenses.neutral.is_file():
        problems.append(f"lenses.neutral: no file {lenses.neutral}. It needs one text a line")
    return problems


def _model_problem(model: str) -> str | None:
    """What is wrong with a local model folder; a hub id is looked up only when the model is loaded."""
    if not is_local_model(model):
        return None
    folder = Path(model)
    if not folder.is_dir():
        return f"model: no folder {folder}. Name a hub id such as Qwen/Qwen3-0.6B, or the folder of a model"
    if not (folder / "config.json").is_file():
        return f"model: {folder} holds no config.json, so it is no Hugging Face model folder"
    return None
