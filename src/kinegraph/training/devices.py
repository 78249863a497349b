"""Where tensors live: the accelerator of this machine, whatever its make, or the CPU."""

from __future__ import annotations

import importlib
import platform
from importlib.util import find_spec

import torch


def default_device() -> torch.device:
    """The accelerator that PyTorch finds on this machine, else the CPU."""
    if find_spec("torch_npu") is not None:  # importing it makes PyTorch know Ascend's NPUs
        importlib.import_module("torch_npu")
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def device_count() -> int | None:
    """How many accelerators this machine has; None where the CPU does the work."""
    return None if default_device().type == "cpu" else torch.accelerator.device_count()


def device_name() -> str:
    """What the device calls itself, such as its model's name."""
    device = default_device()
    if device.type == "cpu":
        return platform.machine()
    named = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(named()) if named else device.type


def should_pin_memory() -> bool:
    """Whether batches reach the device faster from page-locked memory.

    Apple's GPUs share the CPU's memory, and PyTorch pins none for them.
    """
    return default_device().type not in ("cpu", "mps")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was not enough, the device's or the machine's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    told = ("out of memory", "can't allocate memory", "cannot allocate memory")
    return isinstance(error, RuntimeError | OSError) and any(words in text for words in told)
