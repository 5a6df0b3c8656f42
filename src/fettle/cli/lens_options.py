"""Options that commands of `fettle lens` share: a model, and how activations are taken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from fettle.evaluation.subject import Subject
    from fettle.lens.lens_pack import LensPack
    from fettle.lens.spec import ExtractionSpec

F = TypeVar("F", bound=Callable[..., Any])
SPEC_KEYS = ("layers", "pooling", "source", "template", "dtype", "attention", "max_tokens", "exclude_sinks",
             "exclude_special", "max_new_tokens")  # fmt: skip


def model_option(function: F) -> F:
    """The model that lenses look into."""
    text = "A model or adapter folder, or a hub id."
    return click.option("--model", required=True, metavar="MODEL", help=text)(function)


def spec_options(function: F) -> F:
    """The keys of an extraction spec, as `given_spec` takes them."""
    options = (
        click.option("--layers", metavar="A,B",
                     help="Layers to read: 0 are the embeddings, k follows block k. "
                     "Default: at a quarter, half and three quarters of the depth."),
        click.option("--pooling", type=click.Choice(["mean", "last", "max"]), help="Default: mean."),
        click.option("--source", type=click.Choice(["prompt", "generated"]),
                     help="Read the text, or the model's answer to it. Default: prompt."),
        click.option("--max-new-tokens", type=click.IntRange(1), help="Of an answer. Default: 32."),
        click.option("--template", type=click.Choice(["plain", "chat"]), help="Default: plain."),
        click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="Default: float32."),
        click.option("--attention", type=click.Choice(["sdpa", "eager"]), help="Default: sdpa."),
        click.option("--max-tokens", type=click.IntRange(1), help="Longer texts are cut. Default: 512."),
        click.option("--exclude-sinks", type=click.IntRange(0), metavar="N",
                     help="So many first positions are never pooled. Default: 1."),
        click.option("--exclude-special/--include-special", default=None,
                     help="Whether tokens that mark beginnings, ends and turns are pooled. Default: not."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def given_spec(model: str, options: dict[str, Any]) -> ExtractionSpec:
    """The spec that the options ask for. Raises ModelError or ConfigError."""
    from fettle.config import SamplingConfig
    from fettle.errors import ConfigError
    from fettle.evaluation.subject import find_subjects
    from fettle.lens.backbone import default_layers
    from fettle.lens.spec import read_spec

    given = {key: options[key] for key in SPEC_KEYS if options.get(key) is not None}
    layers: str | None = given.pop("layers", None)
    if layers is None:
        given["layers"] = default_layers(find_subjects(model)[0][0].model)
    elif all(part.strip().isdecimal() for part in layers.split(",")):
        given["layers"] = [int(part) for part in layers.split(",")]
    else:
        raise ConfigError(f"--layers {layers}: must be whole numbers such as 8,16,24")
    new_tokens = given.pop("max_new_tokens", None)
    if given.get("source") == "generated":
        given["generation"] = SamplingConfig(max_new_tokens=new_tokens or 32).model_dump()
    return read_spec(given, "options")


_RUN = {
    "bank": click.option("--bank", type=click.Path(path_type=Path), default=Path("lens_bank"),
                         show_default=True, help="Folder of banks; each model and spec has its own in it."),
    "device": click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto",
                           show_default=True),
    "batch_tokens": click.option("--batch-tokens", type=click.IntRange(1),
                                 help="Tokens of one forward pass. Default: found from the memory."),
    "as_json": click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    "quiet": click.option("--quiet", is_flag=True, help="No progress bar."),
}  # fmt: skip


def run_options(*names: str) -> Callable[[F], F]:
    """Where and how the model runs, and what is printed; all of it, or what is named."""

    def decorate(function: F) -> F:
        for name in reversed(_RUN):
            if not names or name in names:
                function = _RUN[name](function)
        return function

    return decorate


def moved_model_option(function: F) -> F:
    """The model of a pack, where it lies elsewhere now; see `subject_of`."""
    text = "Where its model lies now. Default: where it lay."
    return click.option("--model", metavar="MODEL", help=text)(function)


def subject_of(pack: LensPack, model: str | None) -> Subject:
    """The model of a pack. Raises ModelError where `model` is none."""
    from fettle.evaluation.subject import find_subjects

    return pack.subject if model is None else find_subjects(model)[0][0]


def extraction_bar(*, quiet: bool) -> AbstractContextManager[Callable[[int, int], None]]:
    """Progress in tokens, on a terminal."""
    from fettle.scoring.progress import progress_bar

    return progress_bar("extracting", "tokens", enabled=not quiet and sys.stderr.isatty())


def concepts_options(function: F) -> F:
    """The pack of concepts, and which texts of them are used."""
    text = "A HatCat pack (folder or layerN.json), or JSONL of concept, text, label."
    function = click.option(
        "--texts", "texts_from", type=click.Choice(["auto", "examples", "all"]), default="auto",
        help="Given examples alone, or all: also texts made from names, definitions and relations. "
        "Default: examples for JSONL, all for other packs.",
    )(function)  # fmt: skip
    return click.option("--concepts", required=True, type=click.Path(path_type=Path), help=text)(function)
