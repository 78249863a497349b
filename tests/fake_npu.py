"""A made-up `torch_npu` for a process of its own: what kinegraph and Lightning make of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

MODULE = """
import torch
torch.utils.rename_privateuse1_backend("npu")


class npu:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 2)
    get_device_name = staticmethod(lambda: "Ascend910")


torch._register_device_module("npu", npu)
torch.accelerator.is_available = lambda: True
torch.accelerator.device_count = npu.device_count
torch.accelerator.current_accelerator = lambda: torch.device("npu")
"""


def tell(path: str) -> None:
    """Write to ``path`` what was found, as JSON."""
    folder = Path(path).parent
    (folder / "torch_npu.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    Path(path).write_text(json.dumps(_found()))


def _found() -> list[Any]:
    from lightning.pytorch import Trainer
    from lightning.pytorch.accelerators import AcceleratorRegistry
    from lightning.pytorch.strategies import DDPStrategy

    from kinegraph.training.devices import default_device, device_count, device_name
    from kinegraph.training.distributed import (
        DDP_OPTIONS,
        ExternalClusterEnvironment,
        ProcessLayout,
    )
    from kinegraph.training.npu import adapt_trainer_options

    found: list[Any] = [[default_device().type, device_count(), device_name()]]
    for layout, precision, devices in (
        (ProcessLayout(1, 1), "bf16-mixed", 1),
        (ProcessLayout(2, 1), "32-true", 2),
        (ProcessLayout(1, 1), "32-true", [1]),
    ):
        strategy = DDPStrategy(**DDP_OPTIONS) if layout.world_size > 1 else "auto"
        options = {"accelerator": "auto", "devices": devices, "strategy": strategy}
        options |= {"precision": precision, "plugins": [ExternalClusterEnvironment(layout)]}
        trainer = Trainer(
            **adapt_trainer_options(options), logger=False, enable_checkpointing=False
        )
        device = trainer.strategy.root_device
        kind = type(trainer.strategy).__name__
        precision = trainer.precision_plugin.precision
        found.append(
            [trainer.accelerator.name(), str(device), trainer.num_devices, kind, precision]
        )
    return [*found, "npu" in AcceleratorRegistry]
