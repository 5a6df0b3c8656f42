"""Free memory: that of the machine, or of the container where it is less."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from fettle.scoring.memory import free_host_bytes


def test_without_a_limit_it_is_that_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("123\n")
    for root in (tmp_path, tmp_path / "none"):
        assert free_host_bytes(root) == pytest.approx(psutil.virtual_memory().available, rel=0.2)


@pytest.mark.parametrize(
    ("names", "field"),
    [
        (("memory.max", "memory.current", "memory.stat"), "inactive_file"),
        (
            ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
            "total_inactive_file",
        ),
    ],
)
def test_a_container_has_what_its_limit_leaves(
    tmp_path: Path, names: tuple[str, str, str], field: str
) -> None:
    (tmp_path / "memory").mkdir()
    contents = ("5000000\n", "4000000\n", f"anon 1\n{field} 300000\nfile 9\n")
    for name, text in zip(names, contents, strict=True):
        (tmp_path / name).write_text(text)
    assert free_host_bytes(tmp_path) == 1_300_000
    (tmp_path / names[1]).write_text("9000000\n")
    assert free_host_bytes(tmp_path) == 0
