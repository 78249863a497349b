"""Devices: the accelerator of this machine, of any maker, or the CPU."""

from __future__ import annotations

import importlib
import platform
from importlib.util import find_spec

import torch


def default_device() -> torch.device:
    """Return the accelerator that PyTorch finds on this machine, else the CPU."""
    if find_spec("torch_npu") is not None:  # its import registers Ascend NPUs with PyTorch
        importlib.import_module("torch_npu")
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def device_count() -> int | None:
    """Return the number of accelerators of this machine, None if the CPU computes."""
    return None if default_device().type == "cpu" else torch.accelerator.device_count()


def device_name() -> str:
    """Return the name of the device, such as its model."""
    device = default_device()
    if device.type == "cpu":
        return platform.machine()
    get_name = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(get_name()) if get_name else device.type


def fastest_dtype(device: torch.device) -> torch.dtype:
    """Return the precision in which a device multiplies fastest: bfloat16 if it has units."""
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        has_units = bool(able.get("amx_bf16") or able.get("avx512_bf16"))
    else:
        supported = getattr(torch.get_device_module(device), "is_bf16_supported", lambda: False)
        has_units = bool(supported())
    return torch.bfloat16 if has_units else torch.float32


def should_pin_memory() -> bool:
    """Return whether copies to the device are faster from page-locked memory.

    Apple GPUs share the memory of the CPU, and PyTorch does not pin memory for them.
    """
    return default_device().type not in ("cpu", "mps")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the device or the machine ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    phrases = ("out of memory", "can't allocate memory", "cannot allocate memory")
    return isinstance(error, RuntimeError | OSError) and any(phrase in text for phrase in phrases)
