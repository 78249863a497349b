"""Ascend NPUs as an accelerator of Lightning; imported only if `torch_npu` is installed.

Written from the interfaces of both; not yet tested on the hardware.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from kinegraph.training.devices import default_device
from kinegraph.training.distributed import DDP_OPTIONS

DEVICE_TYPE = "npu"


class NPUAccelerator(Accelerator):
    """The NPUs of a machine."""

    def setup_device(self, device: torch.device) -> None:
        torch.get_device_module(device).set_device(device)

    def teardown(self) -> None:
        torch.get_device_module(DEVICE_TYPE).empty_cache()

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        return devices if isinstance(devices, list) else list(range(int(devices)))

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        return [torch.device(DEVICE_TYPE, index) for index in devices]

    @staticmethod
    def auto_device_count() -> int:
        return int(torch.get_device_module(DEVICE_TYPE).device_count())

    @staticmethod
    def is_available() -> bool:
        return default_device().type == DEVICE_TYPE

    @staticmethod
    def name() -> str:
        return DEVICE_TYPE

    @classmethod
    def register_accelerators(cls, accelerator_registry: Any) -> None:
        accelerator_registry.register(DEVICE_TYPE, cls, description="Ascend NPUs", override=True)


class NPUDDPStrategy(DDPStrategy):
    """Data parallel training without device ids: with ids, Lightning would open a CUDA stream."""

    def determine_ddp_device_ids(self) -> None:
        """Return None; the module is on its device already."""


def adapt_trainer_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return a Trainer's options with the settings that Lightning lacks for NPUs."""
    NPUAccelerator.register_accelerators(AcceleratorRegistry)
    changed = {**options, "accelerator": NPUAccelerator()}
    if isinstance(options["strategy"], DDPStrategy):
        changed["strategy"] = NPUDDPStrategy(**DDP_OPTIONS)
    else:
        devices = options["devices"]
        index = devices[0] if isinstance(devices, list) else 0
        changed["strategy"] = SingleDeviceStrategy(torch.device(DEVICE_TYPE, index))
    if options["precision"] != "32-true":
        scaler = torch.amp.GradScaler(DEVICE_TYPE) if options["precision"] == "16-mixed" else None
        mixed = MixedPrecision(options["precision"], DEVICE_TYPE, scaler)
        changed |= {"precision": None, "plugins": [*options["plugins"], mixed]}
    return changed
