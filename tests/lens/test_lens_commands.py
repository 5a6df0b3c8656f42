"""`fettle lens`: what a user types and reads."""

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from fettle.cli import cli
from lens.models_on_disk import save_tiny

ROWS = [
    {"concept": name, "text": f"{name} number {i} and the words {i}"}
    for name in ("Joy", "Fear")
    for i in range(8)
]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FETTLE_CACHE", str(tmp_path / "cache"))
    save_tiny(tmp_path / "model")
    (tmp_path / "pack.jsonl").write_bytes(b"\n".join(map(orjson.dumps, ROWS)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lens(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["lens", *arguments], catch_exceptions=True)


def test_extraction_runs_each_text_once(world: Path) -> None:
    given = ["extract", "--model", "model", "--concepts", "pack.jsonl", "--json"]
    first = orjson.loads(lens(*given).stdout)
    assert (first["texts"], first["extracted"], first["layers"]) == (16, 16, [1, 2])
    again = orjson.loads(lens(*given).stdout)
    assert again["extracted"] == 0
    assert again["bank"] == first["bank"]
    other = orjson.loads(lens(*given, "--layers", "3", "--pooling", "last").stdout)
    assert other["bank"] != first["bank"]
    assert other["spec"]["pooling"] == "last"
    made = orjson.loads(lens(*given, "--texts", "all").stdout)
    assert made["texts"] > 30
    assert made["extracted"] == made["texts"] - 16
    shown = lens(*given[:-1])
    assert "0 of 16 texts were run, layers [1, 2]" in shown.stdout


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--layers", "1,9"], "layer 9: model has layers 0 to 3"),
        (["--layers", "x"], "--layers x: must be whole numbers"),
        (["--layers", "2,1"], "rising"),
        (["--concepts", "none.jsonl"], "none.jsonl: there is no such file"),
        (["--model", "nowhere"], "nowhere: no such run or model"),
    ],
)
def test_what_is_wrong_is_one_line(world: Path, change: list[str], told: str) -> None:
    given = ["extract", "--model", "model", "--concepts", "pack.jsonl"]
    result = lens(*given, *change)
    assert result.exception is not None
    assert told in str(result.exception)
    assert "\n" not in str(result.exception)


def test_every_command_tells_what_it_does() -> None:
    shown = lens("--help").stdout
    from fettle.cli.lens import COMMANDS

    for name in COMMANDS:
        assert name in shown
        assert "Example:" in lens(name, "--help").stdout
