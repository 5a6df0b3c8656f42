"""The order of the rooms, and what may be imported before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "fettle"
# A room imports only rooms above it in this list, and itself.
ROOMS = [
    "errors",
    "config",
    "runs",
    "data",
    "metrics",
    "decide",
    "scoring",
    "train",
    "evaluation",
    "lens",
    "report",
    "api",
    "jobs",
    "watch",
    "server",
    "demo",
    "cli",
]


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imported_rooms(file: Path) -> set[str]:
    """Rooms that a file imports, anywhere in it: a late import is an import too."""
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            rooms |= {room_of(alias.name) for alias in node.names if alias.name.startswith("fettle.")}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "fettle":
            rooms.add(room_of(node.module))
    return rooms - {""}


FILES = [file for file in sorted(SOURCE.rglob("*.py")) if file.parent != SOURCE or file.stem in ROOMS]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_a_room_imports_only_rooms_above_it(file: Path) -> None:
    room = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    above = set(ROOMS[: ROOMS.index(room) + 1])
    assert imported_rooms(file) <= above


def test_every_folder_is_a_known_room() -> None:
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= set(ROOMS)


def loaded_by(*stages: str) -> list[set[str]]:
    """Modules that are loaded after each piece of code, run one after the other in a process of its own."""
    told = "print('MODULES', *sys.modules)"
    program = "\n".join(["import sys", *(f"{stage}\n{told}" for stage in stages)])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in done.stdout.splitlines() if line.startswith("MODULES")]


def test_help_loads_nothing_heavy() -> None:
    commands = [
        ["--help"],
        ["train", "--help"],
        ["lens", "extract", "--help"],
        ["verdict", "--help"],
        ["watch", "--help"],
        ["serve", "--help"],
    ]
    heavy = {
        "torch",
        "transformers",
        "peft",
        "accelerate",
        "fastapi",
        "uvicorn",
        "matplotlib",
        "scipy",
        "pydantic",
        "textual",
    }
    stages = [
        f"from fettle.cli import cli\ncli.main({command}, standalone_mode=False)" for command in commands
    ]
    for command, modules in zip(commands, loaded_by(*stages), strict=True):
        assert not modules & heavy, command


def test_libraries_are_loaded_once_they_are_needed() -> None:
    started, reading, core = loaded_by(
        "from pathlib import Path\nfrom fettle.server.app import create_app\n"
        "from fettle.server.settings import Settings\ncreate_app(Settings(Path()))",
        "from fettle.server.context import load_rooms\nload_rooms()",
        "import fettle.config, fettle.runs, fettle.data, fettle.metrics, fettle.decide\n"
        "import fettle.report, fettle.api",
    )
    # A server starts without what only numbers need.
    assert not started & {"numpy", "scipy", "matplotlib", "torch", "fettle.decide"}
    # Runs are listed and read without scipy, a third of a second and 17 MB.
    assert "scipy" not in reading
    assert not core & {"torch", "transformers"}


def test_every_public_name_is_there() -> None:
    import fettle

    for name in fettle.__all__:
        assert getattr(fettle, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'skore'"):
        _ = fettle.skore
