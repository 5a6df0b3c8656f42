"""The table of kinds and lengths as a terminal of 80 columns prints it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from decide.fixed_evals import fixed_eval
from fettle.cli.pattern_table import has_table, weakest_lines
from fettle.cli.verdict import print_verdict
from fettle.decide import Evidence, verdict
from fettle.runs import EventLog, RunFolder, save_samples
from fettle.runs.records import FixedEval


def eval_of(cells: dict[tuple[str, int], tuple[int, int]]) -> FixedEval:
    """{(kind, tokens): (n, correct)}."""
    keys = [key for key, (n, _) in cells.items() for _ in range(n)]
    right = [i < c for n, c in cells.values() for i in range(n)]
    kinds, tokens = [kind for kind, _ in keys], [length for _, length in keys]
    return fixed_eval(100, np.full(len(keys), 0.5), right, pattern=kinds, tokens=tokens)


def evidence_of(evaluated: FixedEval) -> dict[str, Any]:
    return verdict(Evidence("run", "completed", [evaluated], [], {})).evidence


LENGTHS = (50, 200, 400, 700, 1500, 3000)
KINDS = ("reasoning", "factual", "coding", "math", "creative", "other")


def printed(evaluated: FixedEval, path: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `fettle verdict` prints of a run that holds this eval."""
    folder = RunFolder.create(path, config_yaml="{}\n", metadata={})
    log = EventLog(folder.metrics_path)
    log.append("fixed_eval", {"step": 100, "cross_entropy": evaluated.cross_entropy, "exact_match": 0.5})
    log.close()
    assert evaluated.per_sample is not None
    save_samples(folder.fixed_eval_path, 100, evaluated.per_sample)
    monkeypatch.setenv("COLUMNS", "80")
    print_verdict(path, as_json=False)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_every_cell_of_the_widest_default_table_fits_80_columns(
    tmp_path: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = {(k, t): (40, 30) for k in KINDS for t in LENGTHS} | {("reasoning", 400): (214, 90)}
    del cells["math", 3000]
    lines = printed(eval_of({**cells, ("coding", 700): (7, 1)}), tmp_path / "run", capsys, monkeypatch)
    at = next(i for i, line in enumerate(lines) if line.startswith("Patterns"))
    assert lines[at] == "Patterns      weakest: reasoning 58 % EM (n = 414)"
    assert lines[at + 1].strip() == "reasoning, 300-500 tokens 42 % EM (n = 214)"
    assert lines[at + 2].split() == "tokens all 0-100 100-300 300-500 500-1k 1k-2k 2k+".split()
    rows = {line.split()[0]: line.split()[1:] for line in lines[at + 3 : at + 9]}
    assert set(rows) == set(KINDS)
    assert rows["reasoning"] == "58% 414 75% 40 75% 40 42% 214 75% 40 75% 40 75% 40".split()
    assert "(14% 7)" in " ".join(rows["coding"])
    assert len(rows["math"]) == 2 * 6  # the sixth length was not seen: empty, not 0
    assert max(map(len, lines)) <= 80


def test_a_table_needs_two_kinds_and_two_lengths() -> None:
    assert has_table(evidence_of(eval_of({("a", 50): (30, 20), ("b", 200): (30, 20)})))
    assert not has_table(evidence_of(eval_of({("a", 50): (30, 20), ("b", 50): (30, 20)})))
    assert not has_table(evidence_of(eval_of({("a", 50): (30, 20), ("a", 200): (30, 20)})))


def test_nothing_is_called_weakest_by_chance() -> None:
    even = evidence_of(eval_of({("a", 50): (30, 20), ("b", 200): (30, 21)}))
    assert weakest_lines(even) == ["none is weaker than the rest beyond chance"]
