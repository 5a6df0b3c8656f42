"""`fettle lens`: concept lenses."""

from __future__ import annotations

import click

from fettle.cli.lazy_group import LazyGroup

COMMANDS = {
    "extract": "Activations of texts into a bank, each text once.",
}


@click.group("lens", cls=LazyGroup, lazy=COMMANDS, module="fettle.cli.lens_{}")
def command() -> None:
    """Concept lenses: classifiers that read concepts off a model's activations.

    \b
    Example:
      fettle lens extract --model Qwen/Qwen3-0.6B --concepts concepts.jsonl --bank bank
    """
