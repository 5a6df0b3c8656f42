"""Builds the page while fettle is built or installed in place; `python hatch_build.py` builds it again.

Two packages come from the npm registry, are checked against the hashes below, and are never committed: uPlot,
which draws the curves, and esbuild, which bundles the page's modules (and stays out of the package).
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STATIC = Path("src/fettle/server/static")
VENDOR, BUILT = "vendor", "built"
STAMP = "stamp.txt"


class Package(NamedTuple):
    """One package of the npm registry, as it was reviewed."""

    name: str
    version: str
    sha512: str
    files: dict[str, str]
    """Path in the package -> name here."""


UPLOT = Package(
    "uplot",
    "1.6.32",
    "KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
    {
        "package/dist/uPlot.iife.min.js": "uPlot.iife.min.js",
        "package/dist/uPlot.min.css": "uPlot.min.css",
        "package/LICENSE": "uPlot.LICENSE",
    },
)
ESBUILD = "0.28.2"
ESBUILD_SHA512 = {
    "linux-x64":
        "4xTZr1FUmSoQW4XIWmit3tzQrUTZM+N3P0XV8xROKYF50XfI7xeO90+1bZvNwxIufQ9hDQVRJH5YhgPVF8A/HQ==",
    "linux-arm64":
        "pW4AC0P3it8c7do9MVM4p51FzHzdM/TZrerurgRcHJ2WTa1VQ1CIq18xncfpBJw4ojkiZZrKW2yIBWBP92j6Ug==",
    "darwin-x64":
        "uq6suIWYP37qzGddBKPw5QEQPi6HiLGsO7UmkpfyaYNQ3D+rN6w6WfwH+nuqcGXWvawGwxOEroO4YGnFh95azw==",
    "darwin-arm64":
        "n4KqkOQrraxHJcgjM1RvwbigfQKIKJVpM7xp+KsxiyUSrRdIXnt73VhrPAx0fV44hgfmIVKjxMN9J1t5jySVkw==",
    "win32-x64":
        "5ebpxr3nWMzrL/rnUI755Jkuee0bHL/Gq0WTF9lvcpv73wAp5eu8MfBUgWK9bhWvZjj7yX8etf/8tI8Ney695g==",
    "win32-arm64":
        "PIhhEkE9uPBleRBrQEJpUn7MBnibZzbGzYWPmY3x+YoVg/95zbjB4CxPPOQ8l5tYYM4mMaCthF8/1DIfBQQyWQ==",
}  # fmt: skip

# Name in `built` -> modules that are bundled into it, in their order.
STYLES = ("vendor/uPlot.min.css", "base.css", "layout.css", "panels.css")
SCRIPTS = {"app.js": "main.js", "held.js": "report/held.js"}
WITH_UPLOT = {"app.js"}


class PageBuild(BuildHookInterface[Any]):
    """Called by hatch before a wheel, an sdist, or an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make sure that the page is there."""
        build_page(Path(self.root))


def build_page(root: Path) -> None:
    """Bundle the page's modules into `built`; nothing is done where they have not changed."""
    static = root / STATIC
    bring(UPLOT, static / VENDOR)
    built, stamp = static / BUILT, stamp_of(static)
    names = (*SCRIPTS, "app.css", STAMP)
    if all((built / name).is_file() for name in names) and (built / STAMP).read_text() == stamp:
        return
    esbuild = _esbuild(root / "build" / f"esbuild-{ESBUILD}")
    built.mkdir(exist_ok=True)
    for name, entry in SCRIPTS.items():
        before = _uplot(esbuild, static) if name in WITH_UPLOT else ""
        bundled = _run(esbuild, static, entry, "--bundle", "--format=iife")
        (built / name).write_text(before + bundled, encoding="utf-8")
    style = "".join((static / name).read_text(encoding="utf-8").rstrip() + "\n" for name in STYLES)
    (built / "app.css").write_text(_run(esbuild, static, "--loader=css", text=style), encoding="utf-8")
    (built / STAMP).write_text(stamp)


def stamp_of(static: Path) -> str:
    """Changes with every source of the page."""
    digest = hashlib.sha256(f"{ESBUILD} {UPLOT.sha512} {SCRIPTS} {STYLES}".encode())
    for path in sorted(static.rglob("*.js")) + sorted(static.rglob("*.css")):
        if not {VENDOR, BUILT} & set(path.relative_to(static).parts):
            digest.update(f"{path.relative_to(static).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def bring(package: Package, folder: Path) -> None:
    """Fetch, check and unpack a package; nothing is asked where this version lies already."""
    stamp = folder / f"{package.name.rpartition('/')[2]}-{package.version}.txt"
    if stamp.is_file() and all((folder / name).is_file() for name in package.files.values()):
        return
    archive = _download(package)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for source, target in package.files.items():
            member = tar.extractfile(source)
            if member is None:
                raise RuntimeError(f"{package.name} {package.version} holds no {source}")
            (folder / target).write_bytes(member.read())
    stamp.write_text(f"{package.sha512}\n", encoding="utf-8")


def _esbuild(folder: Path) -> Path:
    """The program for this machine."""
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(platform.machine().lower())
    kind = f"{sys.platform}-{machine or platform.machine().lower()}"
    if kind not in ESBUILD_SHA512:
        raise RuntimeError(f"the page cannot be built on {kind}: install fettle's wheel, which holds it")
    inside = "package/esbuild.exe" if sys.platform == "win32" else "package/bin/esbuild"
    name = Path(inside).name
    bring(Package(f"@esbuild/{kind}", ESBUILD, ESBUILD_SHA512[kind], {inside: name}), folder)
    (folder / name).chmod(0o755)
    return folder / name


def _uplot(esbuild: Path, static: Path) -> str:
    """uPlot, which takes 0.1 s of every load of the page to build formats of numbers that it never uses."""
    shipped = (static / VENDOR / "uPlot.iife.min.js").read_text(encoding="utf-8").rstrip()
    if shipped.count("new Intl.") != 2:
        raise RuntimeError("uPlot no longer builds a number and a date format as it loads: see lazy_intl.js")
    return _run(esbuild, static, "lazy_intl.js") + shipped.replace("new Intl.", "new lazyIntl.") + "\n"


def _run(esbuild: Path, static: Path, *arguments: str, text: str | None = None) -> str:
    command = [str(esbuild), *arguments, "--minify", "--charset=utf8", "--log-level=error"]
    done = subprocess.run(
        command, cwd=static, input=text, capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the page cannot be bundled: {done.stderr.strip()}")
    return done.stdout


def _download(package: Package) -> bytes:
    file = f"{package.name.rpartition('/')[2]}-{package.version}.tgz"
    url = f"{_registry()}/{package.name}/-/{file}"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            archive: bytes = answer.read()
    except (urllib.error.URLError, TimeoutError) as error:
        raise RuntimeError(
            f"{url} cannot be fetched ({error}). The page needs it once, while fettle is built; "
            "NPM_CONFIG_REGISTRY names another registry."
        ) from error
    found = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != package.sha512:
        raise RuntimeError(
            f"{url} is not the {package.name} {package.version} that was reviewed: its hash is {found}"
        )
    return archive


def _registry() -> str:
    """What npm is configured to use, where it is installed; the public registry otherwise."""
    named = os.environ.get("NPM_CONFIG_REGISTRY")
    npm = shutil.which("npm")
    if not named and npm:
        asked = [npm, "config", "get", "registry"]
        named = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False).stdout.strip()
    return (named if named and named.startswith("https://") else "https://registry.npmjs.org").rstrip("/")


if __name__ == "__main__":
    build_page(Path(__file__).parent)
