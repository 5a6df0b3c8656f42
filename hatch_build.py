"""Brings the page's one third-party library into the package while it is built or installed in place.

It comes from the npm registry, is checked against the hash below, and is never committed.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME, VERSION = "uplot", "1.6.32"
INTEGRITY = "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw=="
FILES = {
    "package/dist/uPlot.iife.min.js": "uPlot.iife.min.js",
    "package/dist/uPlot.min.css": "uPlot.min.css",
    "package/LICENSE": "uPlot.LICENSE",
}
FOLDER = Path("src/fettle/server/static/vendor")
STAMP = f"{NAME}-{VERSION}.txt"


class PageLibraries(BuildHookInterface[Any]):
    """Called by hatch before a wheel, an sdist, or an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make sure that the files are there."""
        bring_library(Path(self.root) / FOLDER)


def bring_library(folder: Path) -> None:
    """Fetch, check and unpack the library into `folder`; nothing is asked where this version lies already."""
    stamp = folder / STAMP
    if stamp.is_file() and all((folder / name).is_file() for name in FILES.values()):
        return
    archive = _download()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as package:
        for source, target in FILES.items():
            member = package.extractfile(source)
            if member is None:
                raise RuntimeError(f"{NAME} {VERSION} holds no {source}")
            (folder / target).write_bytes(member.read())
    stamp.write_text(f"{INTEGRITY}\n", encoding="utf-8")


def _download() -> bytes:
    url = f"{_registry()}/{NAME}/-/{NAME}-{VERSION}.tgz"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            archive: bytes = answer.read()
    except (urllib.error.URLError, TimeoutError) as error:
        raise RuntimeError(
            f"{url} cannot be fetched ({error}). The page needs it once, while fettle is built; "
            "NPM_CONFIG_REGISTRY names another registry."
        ) from error
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != INTEGRITY:
        raise RuntimeError(f"{url} is not the {NAME} {VERSION} that was reviewed: its hash is {found}")
    return archive


def _registry() -> str:
    """What npm is configured to use, where it is installed; the public registry otherwise."""
    named = os.environ.get("NPM_CONFIG_REGISTRY")
    npm = shutil.which("npm")
    if not named and npm:
        asked = [npm, "config", "get", "registry"]
        named = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False).stdout.strip()
    return (named if named and named.startswith("https://") else "https://registry.npmjs.org").rstrip("/")
