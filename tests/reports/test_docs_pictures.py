"""The script that draws the pictures of the pages: it runs, and pages show what it draws."""

from __future__ import annotations

import io
import re
import runpy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kinegraph.clips.clip import Clip
from kinegraph.models import create_model
from kinegraph.readers.synthetic.actions import ACTIONS, perform
from kinegraph.readers.synthetic.performer import Performer
from kinegraph.skeleton.layouts import get_layout
from test_docs import DOCS, PAGES, text_of

FOLDER = DOCS / "pictures"
SCRIPT = runpy.run_path(str(FOLDER / "draw.py"), run_name="script")


def performed(action):
    """A made-up performer without a sensor's noise."""
    joints = perform(ACTIONS[action], Performer(), Performer(), np.random.default_rng(0))
    return Clip(joints.astype(np.float32), get_layout("ntu25"), id=action)


@pytest.mark.parametrize("name", ["stgcn", "fusion", "efficientgcn"])
def test_pictures_that_need_no_network_are_drawn(name):
    figure = SCRIPT["PICTURES"][name](SimpleNamespace(clip=performed))
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert any(ax.collections or ax.patches for ax in figure.axes)


def test_the_factors_of_the_three_paths_are_those_of_the_block():
    torch.manual_seed(0)
    block = {"kind": "ste+ce+me", "units": [2]}
    sizes = {"channels": [16, 16], "strides": [1, 2], "num_classes": 3}
    model = create_model("shiftgcn", layout="ntu25", excitation=block, **sizes).eval()
    x = torch.randn(1, 3, 6, 25, 1)
    factors = SCRIPT["_gains"](model, x)
    assert [f.shape for f in factors] == [(25, 6), (16, 6), (16, 6)]
    assert all((f > 1).all() and (f < 2).all() for f in factors)
    assert np.allclose(factors[2][:, -1], 1.5)


def test_every_picture_is_small_and_shown_on_a_page():
    shown = {name for page in PAGES for name in re.findall(r"pictures/(\w+\.png)\)", text_of(page))}
    files = list(FOLDER.glob("*.png"))
    assert {path.name for path in files} == shown
    assert {f"{name}.png" for name in SCRIPT["PICTURES"]} <= shown
    assert max(path.stat().st_size for path in files) < 150_000
