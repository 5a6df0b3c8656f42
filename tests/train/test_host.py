"""What the machine does, as a run records it."""
# ruff: noqa: N802, for the names are those of NVML.

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from fettle.train.host import Gpu, HostMeter


def test_host_and_process_memory_are_those_of_the_system() -> None:
    told = HostMeter().sample()
    assert told["host_memory_total"] == psutil.virtual_memory().total
    assert 0 < told["host_memory_used"] < told["host_memory_total"]
    assert told["process_memory"] == pytest.approx(psutil.Process(os.getpid()).memory_info().rss, rel=0.2)
    assert 0 <= told["host_cpu"] <= 1


def test_without_a_gpu_nothing_is_said_of_one() -> None:
    assert not [name for name in HostMeter().sample() if name.startswith("gpu")]
    assert Gpu.of("GPU-00000000-0000-0000-0000-000000000000") is None


def test_a_sample_is_due_once_in_an_interval() -> None:
    now = 0.0
    meter = HostMeter(interval=10, clock=lambda: now)
    assert meter.due()
    now = 9.9
    assert meter.due() is None
    now = 10.0
    assert meter.due()


class NVMLError(Exception):
    pass


class Nvml:
    """The calls of NVML on a machine of two GPUs, the second of which tells no power."""

    NVML_TEMPERATURE_GPU = 0
    NVMLError = NVMLError

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> int:
        known = {b"GPU-a": 0, b"GPU-b": 1}
        if uuid not in known:
            raise NVMLError
        return known[uuid]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=(5, 7)[handle] * 2**30, total=80 * 2**30)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=(10, 93)[handle], memory=50)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return (40, 71)[handle]

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if handle:
            raise NVMLError
        return 312_500


def test_the_gpu_is_found_by_uuid_and_tells_what_it_can() -> None:
    first, second = Gpu.of("GPU-a", Nvml()), Gpu.of("GPU-b", Nvml())
    assert first is not None
    assert second is not None
    assert first.sample()["gpu_power"] == 312.5
    assert second.sample() == {
        "gpu_memory_used": 7 * 2**30,
        "gpu_memory_total": 80 * 2**30,
        "gpu_utilization": 0.93,
        "gpu_temperature": 71,
    }
    assert Gpu.of("GPU-c", Nvml()) is None
