"""The public names of kinegraph, and the packages that importing it does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

import kinegraph as kg

NAMES = [
    "Clip",
    "ClipStore",
    "KinegraphError",
    "Recognizer",
    "RepetitionCounter",
    "SkeletonLayout",
    "adjacency",
    "assess",
    "convert",
    "convert_layout",
    "count_repetitions",
    "create_model",
    "evaluate_run",
    "from_movement",
    "get_layout",
    "list_layouts",
    "list_models",
    "load_pretrained",
    "load_recipe",
    "open_session",
    "read_clip",
    "read_clips",
    "register_layout",
    "register_model",
    "teach",
    "to_movement",
    "train",
]


def test_the_public_names_are_these_and_all_resolve():
    assert kg.__all__ == NAMES == sorted(NAMES)
    for name in NAMES:
        assert getattr(kg, name) is not None
    assert {*NAMES, "__version__"} == set(dir(kg))


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(kg, "create_modle")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("kinegraph", {"numpy", "torch", "matplotlib", "pyarrow", "pydantic"}),
        ("kinegraph.cli", {"numpy", "torch", "matplotlib", "pyarrow", "pydantic", "scipy"}),
        ("kinegraph.transforms", {"torch", "pyarrow", "pydantic", "scipy"}),
    ],
)
def test_importing_it_does_not_load_heavy_packages(module: str, absent: set[str]):
    code = f"import sys, {module}; print(*({absent!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "")
