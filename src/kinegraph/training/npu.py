"""Ascend NPUs as an accelerator of Lightning, where `torch_npu` is installed.

Written from the interfaces of both; not yet tried on the hardware.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from kinegraph.training.devices import default_device
from kinegraph.training.distributed import DDP_OPTIONS

NAME = "npu"


class NPUAccelerator(Accelerator):
    """The NPUs of a machine."""

    def setup_device(self, device: torch.device) -> None:
        """Make ``device`` the current one."""
        torch.get_device_module(device).set_device(device)

    def teardown(self) -> None:
        """Free what PyTorch's allocator keeps."""
        torch.get_device_module(NAME).empty_cache()

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        """Indices of the devices meant."""
        if isinstance(devices, list):
            return devices
        return list(range(int(devices)))

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        """The devices of these indices."""
        return [torch.device(NAME, index) for index in devices]

    @staticmethod
    def auto_device_count() -> int:
        """How many there are."""
        return int(torch.get_device_module(NAME).device_count())

    @staticmethod
    def is_available() -> bool:
        """Whether `torch_npu` is installed and finds a device."""
        return default_device().type == NAME

    @staticmethod
    def name() -> str:
        """What Lightning calls it."""
        return NAME

    @classmethod
    def register_accelerators(cls, accelerator_registry: Any) -> None:
        """Part of the interface."""
        accelerator_registry.register(NAME, cls, description="Ascend NPUs", override=True)


class NPUDDPStrategy(DDPStrategy):
    """Data parallel training whose wrapper is given the device by the module alone."""

    def determine_ddp_device_ids(self) -> None:
        """None: with ids, Lightning would open a CUDA stream."""


def adapt_trainer_options(options: dict[str, Any]) -> dict[str, Any]:
    """A Trainer's options, changed to what Lightning cannot find out about NPUs by itself.

    Where there are none, the options stay as they are.
    """
    if not NPUAccelerator.is_available():
        return options
    NPUAccelerator.register_accelerators(AcceleratorRegistry)
    changed = {**options, "accelerator": NPUAccelerator()}
    if isinstance(options["strategy"], DDPStrategy):
        changed["strategy"] = NPUDDPStrategy(**DDP_OPTIONS)
    else:
        changed["strategy"] = SingleDeviceStrategy(torch.device(NAME, 0))
    if options["precision"] != "32-true":
        scaler = torch.amp.GradScaler(NAME) if options["precision"] == "16-mixed" else None
        mixed = MixedPrecision(options["precision"], NAME, scaler)
        changed |= {"precision": None, "plugins": [*options["plugins"], mixed]}
    return changed
