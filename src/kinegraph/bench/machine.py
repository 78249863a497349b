"""Peak rates and description of this machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from kinegraph.bench.timing import time_call

#: By the name of the command line's option.
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}

_MATRIX_SIZE = 1024
_COPY_BYTES = 1 << 28
_MIN_TRIALS = 2
_MIN_SECONDS = 0.5


@dataclass(frozen=True)
class PeakRates:
    """What this machine reaches, with as many threads as the benchmark has.

    Attributes:
        gemm: floating-point operations a second of a large matrix product.
        copy: bytes a second of a large copy, both read and written ones counted.
    """

    gemm: float
    copy: float


def measure_peak_rates(dtype: torch.dtype = torch.float32) -> PeakRates:
    """Measure the peak rates, once for a type and a number of threads, in a second or two."""
    return _cached_peak_rates(dtype, torch.get_num_threads())


@cache
def _cached_peak_rates(dtype: torch.dtype, _threads: int) -> PeakRates:
    return PeakRates(_measure_gemm(dtype), _measure_copy())


def _measure_gemm(dtype: torch.dtype) -> float:
    left, right = (torch.ones(_MATRIX_SIZE, _MATRIX_SIZE, dtype=dtype) for _ in range(2))
    out = torch.empty(_MATRIX_SIZE, _MATRIX_SIZE, dtype=dtype)
    # some libraries are much faster with the second matrix transposed
    products = (lambda: torch.mm(left, right, out=out), lambda: torch.mm(left, right.T, out=out))
    return 2 * _MATRIX_SIZE**3 / min(map(_best_time, products))


def _measure_copy() -> float:
    source, target = (torch.zeros(_COPY_BYTES // 4) for _ in range(2))
    return 2 * _COPY_BYTES / _best_time(lambda: target.copy_(source))


def _best_time(call: Callable[[], object]) -> float:
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < _MIN_TRIALS or time.perf_counter() - begin < _MIN_SECONDS:
        times.append(time_call(call))
    return min(times)


def has_bf16() -> bool:
    """Return whether the CPU has bf16 instructions (AVX512-BF16, AMX or ARM's)."""
    flags = _read_cpu_info("flags", "Features").split()
    return bool({"avx512_bf16", "amx_bf16", "bf16", "avx_ne_convert"} & set(flags))


def describe_machine() -> str:
    """Describe the machine that figures are measured on, without its host name."""
    cpu = _read_cpu_info("model name") or platform.processor() or platform.machine()
    simd = torch.backends.cpu.get_cpu_capability()
    units = "bf16 units" if has_bf16() else "no bf16 units"
    return (
        f"{cpu}, {os.cpu_count()} cores, {simd}, {units}, {torch.get_num_threads()} threads, "
        f"PyTorch {torch.__version__}, {platform.system()}"
    )


def _read_cpu_info(*names: str) -> str:
    """Return the first of these entries of Linux's list of processors, empty elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""
