"""The `lenses` section: which concepts the training moves, read while it runs."""

from __future__ import annotations

from pydantic import Field

from fettle.config.data import DataPath
from fettle.config.strict import Strict


class LensesConfig(Strict):
    pack: DataPath
    """Folder of lenses of the model that is trained, by `fettle lens train`."""
    neutral: DataPath | None = None
    """Plain texts that the lenses read, one a line. null: sentences about nothing in particular."""
    every_steps: int = Field(default=50, ge=1)
    """Steps between two readings. The last step is always read."""
