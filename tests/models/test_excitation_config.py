"""Excitation in the units of a network: the six wirings, and what a recipe may say."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml

from kinegraph.errors import ModelError
from kinegraph.models import create_model
from kinegraph.models.excitation import (
    Action,
    ChannelExcitation,
    MotionExcitation,
    MultipleTemporalAggregation,
    SpatioTemporalExcitation,
)
from kinegraph.models.excitation_config import WIRINGS, Excitation
from kinegraph.models.layers import Residual

MODELS = ("stgcn", "shiftgcn")
SMALL = {"channels": [16, 16, 32], "strides": [1, 1, 2]}


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same first weights in every run."""
    torch.manual_seed(0)


def small(name: str, excitation: object = None, layout: str = "kinect20", **options: object):
    """Three units: plain, of the same shape, and with a stride and more channels."""
    torch.manual_seed(0)
    options = {**SMALL, "excitation": excitation, **options}
    return create_model(name, layout=layout, num_classes=4, **options)


@pytest.mark.parametrize("layout", ["ntu25", "jhmdb15"])
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("name", MODELS)
def test_every_wiring_learns_on_any_layout_with_odd_lengths(name, wiring, layout):
    model = small(name, wiring, layout)
    x = torch.randn(2, 3, 7, model.layout.num_joints, 2)
    features = model.forward_features(x)
    assert features.shape == (2, 2, 32, 4, model.layout.num_joints)
    model(x).square().sum().backward()
    added = [key for key, p in model.named_parameters() if p.grad is None]
    assert added == []
    assert torch.isfinite(model.blocks[1].gcn.weight.grad).all()


@pytest.mark.parametrize("name", MODELS)
def test_nothing_changes_without_excitation(name):
    assert not [key for key in small(name).state_dict() if "before" in key or "beside" in key]


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("name", MODELS)
def test_the_rest_of_the_network_starts_from_the_same_weights(name, wiring):
    plain, excited = small(name).state_dict(), small(name, wiring).state_dict()
    shared = [key for key in plain if key in excited and plain[key].shape == excited[key].shape]
    assert "head.weight" in shared
    if wiring != "mta":
        assert shared == list(plain)
    assert all(torch.equal(plain[key], excited[key]) for key in shared if ".tcn" not in key)


def parts_of(unit: torch.nn.Module) -> list[object]:
    """before, what stands beside, and the temporal convolution, as types."""
    beside = [] if unit.beside is None else [type(part) for part in unit.beside]
    return [type(unit.before), *beside]


@pytest.mark.parametrize("name", MODELS)
def test_what_the_six_wirings_put_where(name):
    plain = torch.nn.Identity
    temporal = type(small(name, "me_parallel").blocks[2].beside[1])
    expected = {
        "me_series": [MotionExcitation],
        "me_parallel": [plain, MotionExcitation, temporal],
        "ce_parallel": [plain, ChannelExcitation, temporal],
        "ce_parallel_plain": [plain, ChannelExcitation, Residual],
        "me_ce_action": [Action],
        "mta": [plain],
    }
    assert list(WIRINGS) == list(expected)
    for wiring, parts in expected.items():
        first, *others = small(name, wiring).blocks
        assert parts_of(first) == [plain]
        assert not isinstance(first.tcn, MultipleTemporalAggregation)
        for unit in others:
            assert parts_of(unit) == parts
            assert isinstance(unit.tcn, MultipleTemporalAggregation) == (wiring == "mta")
    action = small(name, "me_ce_action").blocks[1].before
    assert [type(path) for path in action.paths] == [MotionExcitation, ChannelExcitation]
    assert temporal is not Residual


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("name", MODELS)
def test_a_unit_is_its_equation(name, wiring, number):
    unit = small(name, wiring).eval().blocks[number]
    x = torch.randn(3, 16, 9, 20).to(memory_format=torch.channels_last)

    def plain(x: torch.Tensor) -> torch.Tensor:
        if name == "stgcn":
            return unit.tcn_bn(unit.tcn(torch.relu(unit.bn(unit.gcn(x)))))
        return unit.tcn(unit.gcn(x))

    with torch.inference_mode():
        if wiring in ("me_series", "me_ce_action"):
            y = plain(unit.before(x))
        elif wiring == "mta":
            y = plain(x)
        else:
            excitation, bring = unit.beside
            y = plain(x) + bring(excitation(x))
        torch.testing.assert_close(unit(x), torch.relu(y + unit.residual(x)))


def test_the_plain_branch_of_an_unchanged_shape_is_the_excitation_alone():
    x = torch.randn(2, 16, 5, 20)
    same, changing = (unit.beside for unit in small("stgcn", "ce_parallel_plain").blocks[1:])
    torch.testing.assert_close(same(x), same[0](x))
    assert changing[1].conv is not None


def test_units_are_counted_from_one_and_the_first_is_left_out():
    chosen = {"kind": "ce", "units": [3], "reduction": 4}
    assert [parts_of(u)[0] is ChannelExcitation for u in small("stgcn", chosen).blocks] == [
        False,
        False,
        True,
    ]
    with pytest.raises(ModelError, match="reduction 4 needs at least 4 channels, got 3"):
        small("stgcn", {**chosen, "units": [1]})
    whole = create_model("stgcn", layout="ntu25", num_classes=60, excitation="me_series")
    assert [parts_of(u)[0] is MotionExcitation for u in whole.blocks] == [False] + [True] * 9


def test_kinds_can_be_joined_and_options_reach_the_block():
    option = {"kind": "ste+ce+me_tea", "reduction": 8, "kernel": "v3"}
    ste, ce, me = small("shiftgcn", option).blocks[1].before.paths
    assert isinstance(ste, SpatioTemporalExcitation)
    assert ce.squeeze.out_channels == 2
    assert (me.variant, me.spatial.kernel_size) == ("tea", (1, 3))


def test_an_absent_person_does_not_count():
    x = torch.randn(2, 3, 9, 20, 1)
    model = small("stgcn", "me_parallel").eval()
    with torch.inference_mode():
        ghost = model(torch.cat([x, torch.zeros_like(x)], dim=-1))
        torch.testing.assert_close(ghost, model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("me_paralel", "unknown excitation 'me_paralel' .did you mean 'me_parallel'"),
        ({"wiring": "series"}, "expected one of me_series, .* or keys with a kind"),
        (3, "excitation: input should be a valid string, got 3"),
        ({"kind": "mee"}, "unknown excitation kind 'mee' .did you mean 'me'"),
        ({"kind": None}, "unknown excitation kind 'None'"),
        ({"kind": "me+ca"}, "unknown excitation kind 'ca'"),
        ({"kind": "me+me"}, "each kind may stand once"),
        ({"kind": "ce+mta"}, "each kind may stand once, and 'mta' by itself"),
        ({"kind": "me", "wirring": "series"}, "unknown excitation key 'wirring' .did you .*wiring"),
        ({"kind": "me", "wiring": "paralel"}, "unknown excitation wiring 'paralel' .did you mean"),
        ({"kind": "me", "kernel": "grph"}, "unknown excitation kernel 'grph' .did you mean 'graph"),
        ({"kind": "ce", "kernel": "graph"}, "excitation kind 'ce' has no kernel"),
        ({"kind": "mta", "wiring": "series"}, "excitation kind 'mta' has no wiring"),
        ({"kind": "ce", "temporal_branch": True}, "only wiring 'parallel' has a branch"),
        ({"kind": "ce", "temporal_branch": 1}, "expected true or false, got 1"),
        ({"kind": "ce", "reduction": 0}, "expected 1 or more, got 0"),
        ({"kind": "ce", "units": []}, "different numbers counted from 1, got \\[\\]"),
        ({"kind": "ce", "units": [2, 2]}, "different numbers counted from 1"),
        ({"kind": "ce", "units": [0]}, "different numbers counted from 1"),
        ({"kind": "ce", "units": [2, 11]}, "the network has units 1 to 3, got \\[2, 11\\]"),
        (
            {"kind": "ce", "reduction": 17},
            "needs at least 17 channels, got 16: lower the reduction",
        ),
        ({"kind": "mta", "units": [2, 4]}, "the network has units 1 to 3"),
    ],
)
def test_options_that_make_no_excitation(option, message):
    with pytest.raises(ModelError, match=message):
        small("stgcn", option)


def test_mta_needs_four_groups():
    with pytest.raises(ModelError, match="multiple of 4 channels, got 18"):
        small("stgcn", "mta", channels=[16, 18, 32])


def test_the_page_shows_the_wirings_and_the_keys_with_their_defaults():
    page = (Path(__file__).parents[2] / "docs/excitation.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert yaml.safe_load(shown[1]) == WIRINGS
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| ", page.split("| key |")[1], re.MULTILINE))
    defaults = {field.name: field.default for field in fields(Excitation)}
    assert list(listed) == ["kind", "wiring", "temporal_branch", "units", "kernel", "reduction"]
    assert set(listed) == set(defaults)
    for key in ("wiring", "temporal_branch", "kernel", "reduction"):
        assert yaml.safe_load(listed[key].strip("`")) == defaults[key]


def test_every_named_wiring_is_an_option():
    assert [Excitation.from_option(name).kinds for name in WIRINGS] == [
        ["me"],
        ["me"],
        ["ce"],
        ["ce"],
        ["me", "ce"],
        ["mta"],
    ]


def test_a_network_of_one_unit_has_no_unit_to_excite_by_default():
    options = {"layout": "ntu25", "num_classes": 3, "channels": [16], "strides": [1]}
    model = create_model("stgcn", **options, excitation="ce_parallel")
    assert model.blocks[0].beside is None
    first = {"kind": "ce", "units": [1], "reduction": 1}
    named = create_model("stgcn", **options, excitation=first)
    assert not isinstance(named.blocks[0].before, torch.nn.Identity)
