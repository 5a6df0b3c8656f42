"""Texts that a model writes: by an endpoint or here, once, in groups of template, word and generator."""

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from click.testing import CliRunner, Result
from fastapi import FastAPI, HTTPException, Request

from fettle.cli import cli
from fettle.errors import ConfigError, DataError, ModelError
from fettle.lens.concept import Concept
from fettle.lens.concept_pack import ConceptPack
from fettle.lens.generated_texts import (
    TEMPLATES,
    GeneratedFrom,
    asks,
    generate_texts,
    generated_texts,
    tidied,
)
from fettle.lens.lens_pack import read_pack
from fettle.lens.writers import LocalWriter
from lens.models_on_disk import WORDS, save_tiny, written
from openai_servers import serving

PACK = ConceptPack(
    [Concept("River", definition="water that flows.", lemmas=("stream",)), Concept("Music")], "names"
)


def test_texts_are_asked_for_in_groups_of_template_word_and_generator() -> None:
    wanted = asks(PACK, 30)
    river, music = wanted[:30], wanted[30:]
    assert {ask.concept for ask in river} == {"River"}
    assert [ask.template for ask in river[:12]] == list(TEMPLATES)
    assert [ask.lexeme for ask in river] == ["river"] * 12 + ["stream"] * 12 + ["river"] * 6
    assert [ask.number for ask in river] == [0] * 24 + [1] * 6
    assert "river (water that flows)" in river[0].prompt
    assert [ask.number for ask in music] == [0] * 12 + [1] * 12 + [2] * 6
    assert len({(ask.prompt, ask.number) for ask in wanted}) == 60


def test_what_a_model_says_is_brought_into_one_line() -> None:
    assert tidied('\n "The water\t rose." \n\nShall I write more?') == "The water rose."
    assert tidied("  \n") == ""


class Server:
    """Writes about what it is asked for, and counts."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.breaks_after: int | None = None
        self.app = FastAPI()

        @self.app.post("/v1/chat/completions")
        async def chat(request: Request) -> Any:
            body = await request.json()
            if body["model"] != "writer":
                raise HTTPException(404, "no such model")
            prompt = body["messages"][0]["content"]
            if self.breaks_after is not None and len(self.asked) >= self.breaks_after:
                raise HTTPException(401, "the key is no longer good")
            self.asked.append((prompt, body["seed"]))
            # Asked the same again, it says the same again.
            rng = np.random.default_rng([zlib.crc32(prompt.encode()), body["seed"]])
            name = next(name for name in WORDS if re.search(rf"\b{name}\b", prompt))
            return {"choices": [{"message": {"content": f'"{written(rng, WORDS[name])}"\n'}}]}


@pytest.fixture(scope="module")
def server() -> Server:
    return Server()


@pytest.fixture(scope="module")
def url(server: Server) -> Iterator[str]:
    with serving(server.app) as base:
        yield base


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small decoder, and three concepts of which nothing is known but their names."""
    folder = tmp_path_factory.mktemp("generated")
    save_tiny(folder / "base")
    (folder / "names.jsonl").write_bytes(b"\n".join(orjson.dumps({"concept": name}) for name in WORDS))
    return folder


def train(folder: Path, out: str, *more: str) -> Result:
    command = [
        "lens", "train", "--model", str(folder / "base"), "--concepts", str(folder / "names.jsonl"),
        "--layers", "2", "--bank", str(folder / "bank"), "--out", str(folder / out), "--json", *more,
    ]  # fmt: skip
    return CliRunner().invoke(cli, command)


def test_concepts_known_by_name_are_trained_on_what_an_endpoint_writes_once(
    folder: Path, server: Server, url: str
) -> None:
    by_server = ["--generate", "48", "--generator", "writer", "--endpoint", url]
    # The server gives up on the way: what it wrote is kept.
    server.breaks_after = 50
    done = train(folder, "pack", *by_server)
    assert isinstance(done.exception, ModelError)
    server.breaks_after = None
    done = train(folder, "pack", *by_server)
    assert done.exception is None, done.exception
    assert len(set(server.asked)) == 3 * 48
    # But for a few that were under way as it gave up.
    asked = len(server.asked)
    assert asked < 144 + 16
    told = orjson.loads(done.stdout)
    assert told["lenses"] == 3
    assert told["mean_test_auroc"] > 0.8
    rows = [orjson.loads(line) for line in (folder / "bank" / "generated.jsonl").read_bytes().splitlines()]
    assert len(rows) == 144
    assert {row["generator"] for row in rows} == {"writer"}
    assert not any('"' in row["text"] for row in rows)
    # Nothing is asked again, for another pack neither; a line that was cut off is.
    assert train(folder, "again", *by_server).exception is None
    assert len(server.asked) == asked
    path = folder / "bank" / "generated.jsonl"
    os.truncate(path, path.stat().st_size - 9)
    assert train(folder, "third", *by_server).exception is None
    assert len(server.asked) == asked + 1


def test_a_pack_is_judged_on_the_texts_that_were_written_for_it(
    folder: Path, server: Server, url: str
) -> None:
    if not (folder / "pack").exists():
        train(folder, "pack", "--generate", "48", "--generator", "writer", "--endpoint", url)
    pack = read_pack(folder / "pack")
    assert pack.about["settings"]["generated"]["generator"] == "writer"
    common = ["--concepts", str(folder / "names.jsonl"), "--bank", str(folder / "bank"), "--json"]
    asked = len(server.asked)
    graded = CliRunner().invoke(cli, ["lens", "grade", str(folder / "pack"), *common])
    assert graded.exception is None, graded.exception
    assert orjson.loads(graded.stdout)["sealed"]
    verified = CliRunner().invoke(
        cli, ["lens", "verify", str(folder / "pack"), "--device", "cpu", *common[2:]]
    )
    assert verified.exception is None, verified.exception
    assert len(server.asked) == asked
    gone = folder / "bank" / "gone.jsonl"
    (folder / "bank" / "generated.jsonl").rename(gone)
    try:
        graded = CliRunner().invoke(cli, ["lens", "grade", str(folder / "pack"), *common])
        assert isinstance(graded.exception, DataError)
        assert "generated.jsonl: is gone; it held the texts that writer wrote" in str(graded.exception)
    finally:
        gone.rename(folder / "bank" / "generated.jsonl")


def test_a_local_model_writes_the_same_whatever_stands_beside_it(folder: Path, tmp_path: Path) -> None:
    subject = save_tiny(tmp_path / "writer", seed=3)

    def texts(file: str, *counts: int) -> list[str]:
        source = GeneratedFrom(str(tmp_path / file), "here", counts[-1])
        for count in counts:
            part = GeneratedFrom(source.file, "here", count)
            generate_texts(PACK, part, lambda: LocalWriter(subject, "here", device="cpu"))
        found = generated_texts(PACK, source)
        assert {text.generator for text in found} == {"here"}
        assert all(text.group == (text.template, text.lexeme, "here") for text in found)
        return sorted(text.text for text in found)

    at_once = texts("one.jsonl", 6)
    assert len(at_once) >= 10
    assert texts("other.jsonl", 2, 6) == at_once
    # Another generator's texts in the same file are not its own.
    other = GeneratedFrom(str(tmp_path / "one.jsonl"), "there", 6)
    assert generated_texts(PACK, other) == []


def test_options_that_do_not_fit_are_refused(folder: Path, url: str) -> None:
    assert isinstance(train(folder, "x", "--generate", "5").exception, ConfigError)
    assert isinstance(train(folder, "x", "--endpoint", url).exception, ConfigError)
    wrong = train(folder, "x", "--generate", "5", "--generator", "nobody", "--endpoint", url).exception
    assert isinstance(wrong, ModelError)
    assert "status 404" in str(wrong)
