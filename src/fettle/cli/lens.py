"""`fettle lens`: concept lenses."""

from __future__ import annotations

import click

from fettle.cli.lazy_group import LazyGroup

COMMANDS = {
    "train": "Train, grade and calibrate a lens for every concept of a pack, from nothing.",
    "show": "The lenses of a pack: results, grades, and the texts that they answer to most.",
    "grade": "Judge and grade a pack on its sealed test, or on other texts.",
    "verify": "Whether lenses may cross dtypes, batch sizes and devices.",
    "steer": "Steer a model by a lens: how far its evidence moves, and what that costs.",
    "drift": "Which concepts a fine-tune moved: lenses of its base model over its checkpoints.",
    "extract": "Activations of texts into a bank, each text once.",
}


@click.group("lens", cls=LazyGroup, lazy=COMMANDS, module="fettle.cli.lens_{}")
def command() -> None:
    """Concept lenses: classifiers that read concepts off a model's activations.

    \b
    Example:
      fettle lens train --model Qwen/Qwen3-0.6B --concepts concepts.jsonl --out lenses
      fettle lens show lenses --grade A,B
    """
