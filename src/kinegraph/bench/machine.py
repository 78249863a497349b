"""What this machine can do at best, and what it is: the roof over every measurement."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from kinegraph.bench.timing import timed

#: By the name that the command line gives them.
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}

_SIDE = 1024  # of the square matrices that are multiplied
_COPIED = 1 << 28  # bytes
_BEST_OF = 2
_SECONDS = 0.5  # of trying, at least


@dataclass(frozen=True)
class Roof:
    """What was measured on this machine, with as many threads as the benchmark has.

    Attributes:
        gemm: floating-point operations a second of a large matrix product.
        copy: bytes a second of a large copy, those read and those written counted.
    """

    gemm: float
    copy: float


def roof(dtype: torch.dtype = torch.float32) -> Roof:
    """Measured once for a type and a number of threads; takes a second or two."""
    return _roof(dtype, torch.get_num_threads())


@cache
def _roof(dtype: torch.dtype, _threads: int) -> Roof:
    return Roof(_gemm(dtype), _copy())


def _gemm(dtype: torch.dtype) -> float:
    """The best of several large products: what a network could reach if it were nothing else."""
    left, right = (torch.ones(_SIDE, _SIDE, dtype=dtype) for _ in range(2))
    out = torch.empty(_SIDE, _SIDE, dtype=dtype)
    # some libraries are much quicker with rows against rows
    ways = (lambda: torch.mm(left, right, out=out), lambda: torch.mm(left, right.T, out=out))
    return 2 * _SIDE**3 / min(_best(way) for way in ways)


def _copy() -> float:
    source, target = (torch.zeros(_COPIED // 4) for _ in range(2))
    return 2 * _COPIED / _best(lambda: target.copy_(source))


def _best(call: Callable[[], object]) -> float:
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < _BEST_OF or time.perf_counter() - begin < _SECONDS:
        times.append(timed(call))
    return min(times)


def has_bf16() -> bool:
    """Whether the CPU multiplies bf16 itself (AVX512-BF16, AMX, or ARM's), not by way of fp32."""
    flags = _cpu_info("flags", "Features").split()
    return bool({"avx512_bf16", "amx_bf16", "bf16", "avx_ne_convert"} & set(flags))


def in_words() -> str:
    """The kind of machine a figure was measured on, without naming anybody's."""
    cpu = _cpu_info("model name") or platform.processor() or platform.machine()
    simd = torch.backends.cpu.get_cpu_capability()
    units = "bf16 units" if has_bf16() else "no bf16 units"
    return (
        f"{cpu}, {os.cpu_count()} cores, {simd}, {units}, {torch.get_num_threads()} threads, "
        f"PyTorch {torch.__version__}, {platform.system()}"
    )


def _cpu_info(*names: str) -> str:
    """The first entry of that name in Linux's list of processors, empty where there is none."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""
