"""`fettle lens train`: from a model and a file of concepts to a pack of lenses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from fettle.lens.generated_texts import GeneratedFrom, Writer
    from fettle.lens.growth import Round
    from fettle.lens.train import TrainSettings


@click.command("train")
@model_option
@concepts_options
@click.option("--out", type=click.Path(path_type=Path), default=Path("lenses"), show_default=True,
              help="Folder of the pack.")  # fmt: skip
@click.option("--generate", type=click.IntRange(1), metavar="N",
              help="Have N example texts of each concept written by --generator, once: they are kept "
              "beside the banks.")  # fmt: skip
@click.option("--generator", metavar="MODEL",
              help="Who writes them: a model folder or hub id, or with --endpoint a name there.")  # fmt: skip
@click.option("--endpoint", metavar="URL", help="An OpenAI-compatible API, up to and with /v1.")
@click.option("--api-key-env", metavar="NAME", help="Environment variable that holds its key.")
@click.option("--f1", type=click.FloatRange(0, 1), help="From which a lens graduates. Default: 0.95.")
@click.option(
    "--max-gap", type=float, help="Of F1 in training over F1 held out; below 0: none. Default: 0.1."
)
@click.option("--start", type=click.IntRange(1), help="Training texts a concept begins with. Default: 10.")
@click.option("--steps", metavar="A,B", help="Texts more a round, the last again and again. Default: 20,30.")
@click.option("--cap", type=click.IntRange(1), help="Training texts of a concept at most. Default: 200.")
@click.option("--prevalence", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.01,
              show_default=True,
              help="Share of texts that show a concept, for which precision is stated.")  # fmt: skip
@click.option("--validation-blocking", is_flag=True, help="Lenses graded C or U grow on, up to a bound.")
@click.option("--mlp", is_flag=True,
              help="Try a small network in the place of each lens that leaves room for one; those stay that "
              "win on texts neither saw. Takes many times as long.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of sets, order and controls.")
@run_options()
@spec_options
def command(
    model: str,
    concepts: Path,
    texts_from: Any,
    out: Path,
    bank: Path,
    device: str,
    batch_tokens: int | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a lens for every concept: texts, activations, sets, growth, grades, the sealed test, baselines.

    Of the layers the one is taken that does best on texts put aside for choosing. After Ctrl-C the same
    command goes on; nothing that was extracted is run again.

    \b
    Example:
      fettle lens train --model Qwen/Qwen3-0.6B --concepts concepts.jsonl --out lenses
      fettle lens train --model ./encoder --concepts hierarchy/layer2.json --layers 6 --cap 90 --json
      fettle lens train --model ./encoder --concepts names.jsonl --generate 60 --generator Qwen/Qwen3-4B
    """
    from fettle.cli.lens_output import print_pack
    from fettle.evaluation.subject import find_subjects
    from fettle.lens.report import summary
    from fettle.lens.train import train_lenses
    from fettle.runs import configure_logging

    configure_logging(None, level="WARNING")
    generated = _generated(concepts, bank, device, options)
    with extraction_bar(quiet=quiet) as show:
        pack = train_lenses(
            find_subjects(model)[0][0], concepts, out, spec=given_spec(model, options), banks=bank,
            settings=_settings(texts_from, generated, options), device=device, batch_tokens=batch_tokens,
            on_tokens=show, on_round=_say if not quiet else None,
        )  # fmt: skip
    if as_json:
        print_json({"pack": str(out), **summary(pack)})
    else:
        print_pack(pack)
        click.echo(f"\nLook closer:  fettle lens show {out} --concept NAME")


def _say(layer: int, found: Round) -> None:
    click.echo(
        f"layer {layer}: {found.texts} training texts, {found.graduated} lenses graduated, "
        f"{found.growing} growing, {found.stopped} stopped",
        err=True,
    )


def _generated(concepts: Path, bank: Path, device: str, options: dict[str, Any]) -> GeneratedFrom | None:
    """Texts of a generator, those that are missing written now; None where none are asked for."""
    from fettle.config import EndpointConfig, check_section
    from fettle.errors import ConfigError
    from fettle.lens.generated_texts import FILE, GeneratedFrom, generate_texts
    from fettle.lens.read_concepts import read_concepts

    many, name, url = options["generate"], options["generator"], options["endpoint"]
    if many is None:
        if name or url:
            raise ConfigError("--generator and --endpoint: say with --generate how many texts they write")
        return None
    if name is None:
        raise ConfigError("--generate: name with --generator the model that writes")

    def writer() -> Writer:
        from fettle.evaluation.subject import find_subjects
        from fettle.lens.writers import EndpointWriter, LocalWriter

        if url is None:
            return LocalWriter(find_subjects(name)[0][0], name, device=device)
        asked = {"base_url": url, "model": name, "api_key_env": options["api_key_env"]}
        return EndpointWriter(check_section(EndpointConfig, asked, "--endpoint"))

    source = GeneratedFrom(str(bank / FILE), name, many)
    written = generate_texts(read_concepts(concepts)[0], source, writer)
    if written:
        click.echo(f"{name} wrote {written} texts into {source.file}", err=True)
    return source


def _settings(texts_from: Any, generated: GeneratedFrom | None, options: dict[str, Any]) -> TrainSettings:
    """Those given, over the defaults. Raises ConfigError."""
    from fettle.errors import ConfigError
    from fettle.lens.graduation import Graduation
    from fettle.lens.growth import Growth
    from fettle.lens.train import TrainSettings

    growth = {key: options[key] for key in ("start", "cap") if options[key] is not None}
    if options["steps"] is not None:
        if not all(part.strip().isdecimal() for part in options["steps"].split(",")):
            raise ConfigError(f"--steps {options['steps']}: must be whole numbers such as 20,30")
        growth["steps"] = tuple(int(part) for part in options["steps"].split(","))
    graduation: dict[str, Any] = {} if options["f1"] is None else {"f1": options["f1"]}
    if options["max_gap"] is not None:
        graduation["max_gap"] = options["max_gap"] if options["max_gap"] >= 0 else None
    return TrainSettings(
        texts_from=texts_from,
        generated=generated,
        growth=Growth(**growth),
        graduation=Graduation(**graduation),
        validation_blocking=options["validation_blocking"],
        mlp=options["mlp"],
        prevalence=options["prevalence"],
        seed=options["seed"],
    )
