"""`fettle lens extract`: activations into a bank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fettle.cli.lens_options import (
    concepts_options,
    extraction_bar,
    given_spec,
    model_option,
    run_options,
    spec_options,
)
from fettle.cli.output import print_json


@click.command("extract")
@model_option
@concepts_options
@run_options()
@spec_options
def command(
    model: str,
    concepts: Path,
    texts_from: Any,
    bank: Path,
    device: str,
    batch_tokens: int | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Read the activations of every text of a pack, all layers in one pass.

    What is in the bank already is not run again; after Ctrl-C the same command goes on.

    \b
    Example:
      fettle lens extract --model Qwen/Qwen3-0.6B --concepts concepts.jsonl --layers 14,21
    """
    from fettle.evaluation.subject import find_subjects
    from fettle.lens.extract import Extractor
    from fettle.lens.pack_texts import pack_corpus
    from fettle.runs import configure_logging

    configure_logging(None, level="WARNING")
    spec = given_spec(model, options)
    texts = pack_corpus(concepts, texts_from)[1].texts
    extractor = Extractor(find_subjects(model)[0][0], spec, bank, device=device, batch_tokens=batch_tokens)
    missing = len(extractor.bank.missing(texts))
    with extraction_bar(quiet=quiet) as show:
        found = extractor.extract(texts, show)
    told = {
        "bank": str(found.folder), "texts": len(texts), "extracted": missing - len(found.skipped),
        "skipped": len(found.skipped), "layers": found.layers, "spec": found.identity["spec"],
    }  # fmt: skip
    if as_json:
        print_json(told)
    else:
        click.echo(
            f"{told['extracted']} of {told['texts']} texts were run, layers {told['layers']}\n{found.folder}"
        )
