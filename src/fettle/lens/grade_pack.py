"""A trained pack judged once more: on its sealed test, or on texts of another file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fettle.errors import DataError
from fettle.evaluation.subject import Subject
from fettle.lens.dataset import UNUSED
from fettle.lens.extract import Extractor, OnTokens
from fettle.lens.grades import grade_lenses
from fettle.lens.judge import judge_rows
from fettle.lens.lens_pack import LensPack
from fettle.lens.negatives import excluded, judged_negatives
from fettle.lens.pack_texts import pack_corpus
from fettle.lens.probability import judge_probabilities
from fettle.lens.problem import LensProblem
from fettle.lens.spec import check_same, read_spec
from fettle.lens.splits import SETS, Splits, rows_hash, split
