"""Small networks and clips, so that benchmarks take no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from kinegraph.bench import baselines, machine, roofline
from kinegraph.bench.baselines import create_released_model
from kinegraph.bench.fixtures import write_synthetic_store


def small(name: str, **options: Any) -> nn.Module:
    """Create a released model of two blocks."""
    return create_released_model(name, channels=[16, 16], strides=[1, 2], **options)


@pytest.fixture(autouse=True)
def small_work(monkeypatch):
    """Use small networks, short clips, and constant peak rates."""
    monkeypatch.setattr(baselines, "CLIP_FRAMES", 32)
    monkeypatch.setattr(baselines, "create_released_model", small)
    roofline._count_model.cache_clear()
    monkeypatch.setattr(machine, "_cached_peak_rates", lambda *_: machine.PeakRates(1e11, 1e10))


@pytest.fixture(scope="session")
def synthetic_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 30 synthetic clips."""
    return write_synthetic_store(tmp_path_factory.mktemp("synthetic") / "synthetic.arrow", 30)
