"""Messages of errors: how to install what is missing."""

from __future__ import annotations

import importlib.metadata
from types import SimpleNamespace

import pytest

from kinegraph.errors import install_command


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'kinegraph[export]'"),
        (
            '{"dir_info": {"editable": true}, "url": "file:///home/me/kinegraph"}',
            "pip install '.[export]' in the clone of kinegraph",
        ),
        (
            '{"url": "https://git.example/kinegraph", "vcs_info": {"vcs": "git"}}',
            "pip install 'kinegraph[export] @ git+https://git.example/kinegraph'",
        ),
    ],
)
def test_an_extra_is_installed_as_kinegraph_is(monkeypatch, origin, command):
    found = SimpleNamespace(read_text=lambda name: origin)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: found)
    assert install_command("export") == command


def test_sources_that_are_not_installed_are_a_clone(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    assert install_command("video") == "pip install '.[video]' in the clone of kinegraph"
