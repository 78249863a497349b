"""The examples of docstrings run and give what they state."""

from __future__ import annotations

import doctest
import importlib

import pytest

from test_architecture import SOURCE

MODULES = [
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    for path in sorted(SOURCE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")))
    assert not result.failed
