"""Small work, so that measuring takes no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from kinegraph.bench import baselines, infer, machine, stream, train
from kinegraph.bench import roofline as floors
from kinegraph.bench.fixtures import made_up_store


def small(name: str, **options: Any) -> nn.Module:
    """A released model of two blocks."""
    return baselines.released(name, channels=[16, 16], strides=[1, 2], **options)


@pytest.fixture(autouse=True)
def small_work(monkeypatch):
    """Small networks, short clips, and a roof that is found at once."""
    for module in (infer, stream, train):
        monkeypatch.setattr(module, "FRAMES", 32)
    for module in (infer, stream, train, floors):
        monkeypatch.setattr(module, "released", small)
    floors._work.cache_clear()
    monkeypatch.setattr(machine, "_gemm", lambda _: 1e11)
    monkeypatch.setattr(machine, "_copy", lambda: 1e10)


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 30 made-up clips."""
    return made_up_store(tmp_path_factory.mktemp("made-up") / "made-up.arrow", 30)
