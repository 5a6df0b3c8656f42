"""What became of each held-out sample."""

import numpy as np
import pytest

from decide.fixed_evals import fixed_eval
from fettle.decide.history import sample_fates, sample_history

FATES = {
    "1111": "always",
    "0011": "learned",
    "0001": "learned",
    "1011": "learned",  # once lost and back: two changes
    "1100": "forgotten",
    "0110": "forgotten",
    "0000": "never",
    "0101": "flipping",
    "1010": "flipping",
}


def evals_of(rows: list[str]) -> list:
    columns = np.array([[c == "1" for c in row] for row in rows]).T
    return [fixed_eval(100 * (k + 1), right=column) for k, column in enumerate(columns)]


@pytest.mark.parametrize(("row", "fate"), FATES.items())
def test_each_sample_has_one_fate(row: str, fate: str) -> None:
    history = sample_history(evals_of([row, "1111"]))
    assert history is not None
    counts = {
        name: getattr(history, name) for name in ("always", "learned", "forgotten", "never", "flipping")
    }
    expected = dict.fromkeys(counts, 0)
    expected["always"] += 1
    expected[fate] += 1
    assert counts == expected


def test_forgotten_samples_are_listed_latest_first() -> None:
    history = sample_history(evals_of(["1100", "1110", "0011", "0110"]))
    assert history is not None
    found = [(s.sample_id, s.last_right_step) for s in history.forgotten_samples]
    assert found == [("s1", 300), ("s3", 300), ("s0", 200)]
    assert history.text == "learned 1, forgotten 3, never learned 0, flip-flopping 0 (of 4 samples, 4 evals)"


def test_every_sample_is_counted_once() -> None:
    rng = np.random.default_rng(0)
    evals = [fixed_eval(step, right=rng.random(500) < 0.5) for step in range(7)]
    history = sample_history(evals)
    assert history is not None
    total = history.always + history.learned + history.forgotten + history.never + history.flipping
    assert total == history.samples == 500


def test_one_eval_has_no_history() -> None:
    assert sample_history(evals_of(["1"])) is None
    assert sample_history([]) is None


def test_every_sample_has_one_fate_and_its_steps() -> None:
    rights = {
        "always": [1, 1, 1, 1], "learned": [0, 1, 1, 1], "forgotten": [0, 1, 0, 0], "never": [0, 0, 0, 0],
        "flipping": [0, 1, 0, 1],
    }  # fmt: skip
    table = np.array(list(rights.values()), dtype=bool)
    evals = [fixed_eval(step, right=table[:, k]) for k, step in enumerate((10, 20, 30, 40))]
    fates = sample_fates(evals)
    assert fates is not None
    assert fates.fate.tolist() == list(rights)
    assert [fates.right_steps(row) for row in range(5)] == [
        [10, 20, 30, 40], [20, 30, 40], [20], [], [20, 40],
    ]  # fmt: skip
    assert sample_fates(evals[:1]) is None
