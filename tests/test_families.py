"""benchmarks/families.py: the small networks of its table, and which runs it counts."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from kinegraph.models import MODELS, create_model
from test_architecture import SOURCE

#: They classify by another family of the registry.
WRAPPERS = {"stgcn_autoencoder", "stgcn_twostream"}


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SOURCE.parents[1] / "benchmarks"))
    return importlib.import_module("families")


def test_every_classifying_family_has_a_small_network(families):
    assert set(families.FAMILIES) == set(MODELS) - WRAPPERS
    x = torch.randn(8, 9, 16, 15, 1)
    for name, (_, options) in families.FAMILIES.items():
        torch.manual_seed(0)
        model = create_model(
            name, layout="florence15", num_classes=9, in_channels=9,
            **options, **({"persons": 1} if name == "skateformer" else {}),
        )  # fmt: skip
        size = sum(parameter.numel() for parameter in model.parameters())
        assert size < 500_000, name
        # untrained, it prefers no class so much that its first steps would only unlearn that
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(model(x), torch.arange(8))
        assert loss < 15, name


def test_only_finished_runs_have_rows(families, tmp_path):
    done = families.run_folder("florence3d", "stgcn", 1, tmp_path)
    for folder in (done, families.run_folder("florence3d", "stgcn", 0, tmp_path)):
        folder.mkdir()
    (done / "report.html").touch()
    assert families.finished_runs("florence3d", "stgcn", tmp_path) == [Path(done)]
    assert families.finished_runs("utd_mhad", "stgcn", tmp_path) == []
