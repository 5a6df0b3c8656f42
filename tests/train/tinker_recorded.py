"""The training of the recording: three steps, Ctrl-C, and three more from the state that was saved.

python tests/train/tinker_recorded.py PROJECT RUN    (TINKER_BASE_URL, TINKER_API_KEY)
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

STEPS, INTERRUPTED = 6, 3
SETTINGS = [
    f"training.max_steps={STEPS}",
    "training.eval_interval_steps=3",
    "training.checkpoint_interval_steps=2",
    "tinker.ttl_days=null",
]


def recorded_training(project: Path, out: Path, *overrides: str) -> None:
    """Also the process that trains must see Ctrl-C as its own."""
    from fettle.config import load_config
    from fettle.train.job import train

    def interrupt(done: Any) -> None:
        if done.step == INTERRUPTED:
            os.kill(os.getpid(), signal.SIGINT)

    config = load_config(project / "train.yaml", [*SETTINGS, *overrides])
    stopped = train(config, out=out, log_level="CRITICAL", on_step=interrupt)
    assert (stopped.state, stopped.step) == ("interrupted", INTERRUPTED), stopped
    done = train(config, out=out, log_level="CRITICAL")
    assert (done.state, done.step) == ("completed", STEPS), done


if __name__ == "__main__":
    recorded_training(Path(sys.argv[1]), Path(sys.argv[2]))
