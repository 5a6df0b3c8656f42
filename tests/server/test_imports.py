"""What routes import when they are asked is loaded before the first request.

Requests run in threads; two of them that begin to import the same packages from different ends are stopped by
Python with a deadlock error, and the first view of the page would fail now and then.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import fettle

SOURCE = Path(fettle.__file__).parent


def imported_in_functions(file: Path) -> set[str]:
    """Modules of fettle that functions of a file import."""
    found: set[str] = set()
    for function in ast.walk(ast.parse(file.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fettle"):
                    found.add(str(node.module))
    return found


def test_no_request_imports_what_another_may_be_importing(tmp_path: Path) -> None:
    files = [*(SOURCE / "server").glob("*.py"), SOURCE / "runs/summary.py"]
    wanted = {module for file in files for module in imported_in_functions(file)}
    assert len(wanted) > 8
    code = (
        "import sys; from pathlib import Path; from fettle.server.app import create_app; "
        "from fettle.server.settings import Settings; app = create_app(Settings(Path(sys.argv[1]))); "
        "from types import SimpleNamespace; from fettle.server.context import context; "
        "context(SimpleNamespace(app=app)); "
        "print('\\n'.join(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert wanted <= set(loaded)
    assert "torch" not in loaded
