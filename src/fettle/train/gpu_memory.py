"""How much of the GPU's memory this process holds."""

from __future__ import annotations

import sys
from typing import Any

GB = 1e9


def gpu_memory() -> dict[str, float]:
    """Gigabytes allocated, reserved and there at all, of the current CUDA device; {} without one.

    Torch's own counters: nothing waits for the device, and torch is not loaded for them.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    return {
        "gpu_memory_allocated_gb": torch.cuda.memory_allocated() / GB,
        "gpu_memory_reserved_gb": torch.cuda.memory_reserved() / GB,
        "gpu_memory_total_gb": torch.cuda.get_device_properties().total_memory / GB,
    }
