"""What the machine of a run does: memory, processor, and its GPU."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

INTERVAL_SECONDS = 10.0


class HostMeter:
    """Samples the machine at most every `interval` seconds; what it cannot measure is absent.

    Memory in bytes, shares from 0 to 1, power in watts, temperature in degrees Celsius. The GPU is
    the one this process trains on: NVML counts all of the machine's, whatever CUDA_VISIBLE_DEVICES
    says, so it is found by its UUID.
    """

    def __init__(
        self,
        gpu_uuid: str | None = None,
        *,
        interval: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._psutil: Any = _import("psutil")
        self._process: Any = None if self._psutil is None else self._psutil.Process(os.getpid())
        self._gpu = Gpu.of(gpu_uuid) if gpu_uuid else None
        self._interval = interval
        self._clock = clock
        self._next = float("-inf")
        if self._psutil is not None:
            self._psutil.cpu_percent()  # The first call only sets the mark that later ones measure from.

    def due(self) -> Mapping[str, float] | None:
        """A sample, or None where the last one is younger than the interval."""
        now = self._clock()
        if now < self._next:
            return None
        self._next = now + self._interval
        return self.sample()

    def sample(self) -> Mapping[str, float]:
        """All that can be measured now."""
        return {**self._host(), **(self._gpu.sample() if self._gpu is not None else {})}

    def _host(self) -> dict[str, float]:
        if self._psutil is None:
            return {}
        memory, swap = self._psutil.virtual_memory(), self._psutil.swap_memory()
        return {
            "host_memory_used": memory.total - memory.available,
            "host_memory_total": memory.total,
            "host_swap_used": swap.used,
            "host_cpu": self._psutil.cpu_percent() / 100,
            "process_memory": self._process.memory_info().rss,
        }


class Gpu:
    """One NVIDIA GPU, read through NVML."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    @classmethod
    def of(cls, uuid: str, nvml: Any = None) -> Gpu | None:
        """The GPU of this UUID; None where NVML, its driver or the GPU is not there."""
        nvml = nvml or _import("pynvml")
        if nvml is None:
            return None
        try:
            nvml.nvmlInit()
            return cls(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid.encode()))
        except nvml.NVMLError:
            return None

    def sample(self) -> dict[str, float]:
        """Memory, utilisation, temperature and power, as far as this GPU tells them."""
        nvml, handle = self._nvml, self._handle
        readings: dict[str, Callable[[], float]] = {
            "gpu_memory_used": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            "gpu_memory_total": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total,
            "gpu_utilization": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            "gpu_temperature": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "gpu_power": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        }
        told: dict[str, float] = {}
        for name, read in readings.items():
            try:
                told[name] = float(read())
            except nvml.NVMLError:
                continue  # A MIG slice has no utilisation, some cards no power: the rest still counts.
        return told


def training_gpu() -> str | None:
    """UUID of the GPU that torch trains on in this process, as NVML spells it; None without one."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None
