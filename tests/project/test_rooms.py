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


def loaded_by(arguments: list[str]) -> set[str]:
    """Top-level modules that `fettle ARGUMENTS` loads, in a process of its own."""
    program = (
        "import sys\n"
        f"sys.argv = ['fettle', *{arguments!r}]\n"
        "from fettle.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('MODULES', *{name.split('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.rsplit("MODULES", 1)[1].split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["lens", "extract", "--help"],
        ["verdict", "--help"],
        ["watch", "--help"],
        ["serve", "--help"],
    ],
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
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
    assert not loaded_by(arguments) & heavy


def test_the_core_needs_no_torch() -> None:
    program = (
        "import sys, fettle, fettle.config, fettle.runs, fettle.data, fettle.metrics, fettle.decide\n"
        "import fettle.report, fettle.api, fettle.server.app\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_public_name_is_there() -> None:
    import fettle

    for name in fettle.__all__:
        assert getattr(fettle, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'skore'"):
        _ = fettle.skore


def test_a_server_starts_without_the_libraries_that_only_numbers_need() -> None:
    code = (
        "import sys; from pathlib import Path; from fettle.server.app import create_app; "
        "from fettle.server.settings import Settings; create_app(Settings(Path())); "
        "print({'numpy', 'scipy', 'matplotlib', 'torch', 'fettle.decide'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"


def test_runs_are_listed_and_read_without_scipy() -> None:
    """It takes a third of a second and 17 MB: what computes with it loads it."""
    code = (
        "import sys; from fettle.server.context import load_rooms; load_rooms(); "
        "print('scipy' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
