"""The command line: one file a command; each parses, calls and prints."""

from __future__ import annotations

import sys

import click

from fettle import __version__
from fettle.cli.lazy_group import LazyGroup
from fettle.errors import FettleError

COMMANDS = {
    "train": "Fine-tune from one YAML file; the same command goes on after a stop.",
    "verdict": "Stop or go on, which checkpoint, and why.",
    "eval": "Evaluate all checkpoints of a run, or any models, on held-out chats; nothing is run twice.",
    "compare": "Better, worse, the same, or undecided: results on the same samples, by paired tests.",
    "cache": "See or prune what evaluations keep.",
    "checkpoints": "Rank the checkpoints of a run, with what their scores are made of.",
    "watch": "Follow one run live in the terminal; P pauses, C saves a checkpoint, S stops.",
    "serve": "Open a folder of runs in the browser: curves, evals, checkpoints and the verdict, live.",
    "plot": "Draw the training curves as a PNG.",
    "report": "Write a run as one HTML file that opens anywhere.",
    "lens": "Concept lenses: classifiers that read concepts off a model's activations.",
    "demo": "Build a small model, fine-tune it past its best step, and judge the run.",
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fettle")
def cli() -> None:
    """Fine-tune a language model, and know when to stop, which checkpoint to ship, and what data to add next.

    \b
    Example:
      fettle demo
      fettle train train.yaml && fettle verdict runs/<run>
    """


def main() -> None:
    """Entry point: an error a user can fix is printed as it stands and exits with 1."""
    try:
        cli.main(standalone_mode=False)
    except FettleError as error:
        click.echo(f"fettle: {error}", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("fettle: aborted", err=True)
        sys.exit(130)
