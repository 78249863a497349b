"""Shift-GCN against an independent implementation, published facts, and its quirks by name."""

from __future__ import annotations

import pytest
import torch

from kinegraph.bench.reference.shiftgcn import ReferenceShiftGCN
from kinegraph.errors import ModelError, UnknownNameError
from kinegraph.models import create_model
from kinegraph.models.published_weights import load_shiftgcn

SMALL = {"channels": [8, 8, 16], "strides": [1, 1, 2]}


def small(layout="ntu25", classes=5, **options):
    return create_model("shiftgcn", layout=layout, num_classes=classes, **{**SMALL, **options})


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Weights, masks, shifts and running statistics that are not at their start values."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise)
            else:
                scale = 4.0 if name.endswith(("ypos", ".shift")) else 0.5
                tensor.add_(scale * (noise - 0.5))
    return model.eval()


@pytest.mark.parametrize(("classes", "parameters"), [(60, 690_291), (120, 705_711)])
def test_parameter_counts_are_the_published_ones_without_the_unused_shifts(classes, parameters):
    model = create_model("shiftgcn", layout="ntu25", num_classes=classes, faithful=True)
    assert sum(p.numel() for p in model.parameters()) == parameters
    plain = ReferenceShiftGCN(classes)
    assert len(plain.state_dict()) == 302
    learnt = sum(p.numel() for p in plain.parameters() if p.is_floating_point())
    assert learnt == parameters + 2816


@pytest.mark.parametrize(
    ("layout", "V", "persons", "T"), [("ntu25", 25, 2, 8), ("body25", 25, 1, 7)]
)
def test_an_original_state_dict_gives_the_same_function(layout, V, persons, T):
    plain = randomise(ReferenceShiftGCN(5, V, persons, **SMALL))
    model = small(layout, faithful=True, persons=persons).eval()
    load_shiftgcn(model, {f"module.{key}": value for key, value in plain.state_dict().items()})
    x = torch.randn(2, 3, T, V, persons)
    x[1, ..., -1] = 0
    with torch.inference_mode():
        torch.testing.assert_close(model(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("fc.bias"), "lacks 'fc.bias'$"),
        (lambda s: s.pop("l2.gcn1.shift_in"), "lacks 'l2.gcn1.shift_in'$"),
        (lambda s: s.update({"l1.gcn1.A": torch.ones(1)}), "holds 'l1.gcn1.A'"),
        (lambda s: s.update({"l4.tcn1.bn.bias": torch.ones(8)}), "holds 'l4.tcn1.bn.bias'"),
        (lambda s: s.update({"l0.tcn1.bn.bias": torch.ones(8)}), "holds 'l0.tcn1.bn.bias'"),
        (lambda s: s.update({"blocks.0.gcn.bias": torch.ones(8)}), "holds 'blocks.0.gcn.bias'"),
        (lambda s: s.update({"fc.bias": torch.ones(3)}), r"'fc.bias' has shape \(3,\)"),
        (
            lambda s: s.update({"l3.gcn1.Linear_weight": torch.ones(16, 8)}),
            r"'l3.gcn1.Linear_weight' has shape \(16, 8\)",
        ),
        (
            lambda s: s.update({"l3.gcn1.Linear_bias": torch.ones(16)}),
            r"'l3.gcn1.Linear_bias' has shape \(16,\), the model's .* is \(1, 1, 16\)",
        ),
        (
            lambda s: s.update({"l2.gcn1.Feature_Mask": torch.ones(1, 8, 25)}),
            r"'l2.gcn1.Feature_Mask' has shape \(1, 8, 25\)",
        ),
        (
            lambda s: s.update({"l2.gcn1.shift_out": s["l2.gcn1.shift_in"]}),
            "'l2.gcn1.shift_out' .* another order than the model .layout 'ntu25'",
        ),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused_by_name(change, message):
    state = dict(ReferenceShiftGCN(5, **SMALL).state_dict())
    change(state)
    with pytest.raises(ModelError, match=message):
        load_shiftgcn(small(faithful=True), state)


def test_shapes_of_the_ten_blocks_round_up():
    model = create_model("shiftgcn", layout="ntu25", num_classes=60).eval()
    shapes = []
    for block in model.blocks:
        block.register_forward_hook(lambda _m, _i, y: shapes.append((y.shape[1], y.shape[2])))
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 29, 25, 1)).shape == (1, 60)
        assert model(torch.randn(1, 3, 1, 25, 1)).shape == (1, 60)
    assert shapes[:10] == [(64, 29)] * 4 + [(128, 15)] * 3 + [(256, 8)] * 3


@pytest.mark.parametrize(
    "options",
    [
        {"spatial": "local"},
        {"temporal": "naive", "reach": 3},
        {"mask": False},
        {"pool": "joints"},
        {"grad_mode": "official", "shift_init": 3.0},
    ],
)
def test_every_variant_learns_all_its_parameters(options):
    model = small("jhmdb15", in_channels=2, **options)
    model(torch.randn(2, 2, 9, 15, 1)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    names = dict(model.named_parameters())
    assert ("blocks.1.tcn.shift_in.shift" in names) is (options.get("temporal") != "naive")
    assert ("blocks.1.gcn.mask" in names) is options.get("mask", True)


def test_initial_values_are_those_of_the_released_code():
    torch.manual_seed(0)
    model = create_model("shiftgcn", layout="ntu25", num_classes=60)
    spread = {
        key: float(value.float().std(correction=0)) for key, value in model.state_dict().items()
    }
    for name, expected in {
        "blocks.9.gcn.weight": 256**-0.5,
        "blocks.9.tcn.conv.weight": (2 / 256) ** 0.5,
        "blocks.9.tcn.conv.bias": 256**-0.5 / 3**0.5,
        "blocks.7.residual.conv.weight": (2 / 256) ** 0.5,
        "blocks.7.gcn.residual.conv.weight": (2 / 256) ** 0.5,
        "head.weight": (2 / 60) ** 0.5,
    }.items():
        assert spread[name] == pytest.approx(expected, rel=0.1), name
    for name in ("gcn.bias", "gcn.mask", "residual.conv.bias", "gcn.residual.conv.bias"):
        assert spread[f"blocks.7.{name}"] == 0
    shifts = torch.cat([block.tcn.shift_in.shift.detach() for block in model.blocks])
    assert 0.98 < float(shifts.abs().max()) <= 1
    assert float(shifts.mean()) == pytest.approx(0, abs=0.1)


def test_weights_that_mix_decay_ten_times_as_fast_and_masks_do_not():
    model = small()
    decay = {id(p): g["weight_decay"] for g in model.parameter_groups(1e-4) for p in g["params"]}
    for name, parameter in model.named_parameters():
        factor = {"gcn.weight": 10, "gcn.mask": 0}.get(".".join(name.split(".")[-2:]), 1)
        assert decay[id(parameter)] == pytest.approx(factor * 1e-4), name


def test_the_first_block_has_neither_residual_nor_dropout():
    model = small(dropout=0.5)
    assert model.blocks[0].residual is None
    assert [block.dropout.p for block in model.blocks] == [0.0, 0.5, 0.5]


def test_dropout_spares_the_residual():
    block = small(dropout=1.0).blocks[1].train()
    x = torch.rand(1, 8, 6, 25)
    assert torch.equal(block(x), x)


def test_an_absent_person_does_not_count_unless_faithful():
    x = torch.randn(2, 3, 12, 25, 1)
    with_ghost = torch.cat([x, torch.zeros_like(x)], dim=-1)
    model = randomise(small())
    with torch.inference_mode():
        torch.testing.assert_close(model(with_ghost), model(x))
        faithful = randomise(small(faithful=True))
        features = faithful.forward_features(with_ghost)
        assert features[:, 1].abs().sum() > 0
        alone = faithful.forward_head(features[:, :1])
        assert not torch.allclose(faithful(with_ghost), alone, atol=1e-3)


def test_absent_persons_leave_batch_statistics_alone():
    x = torch.randn(2, 3, 12, 25, 1)
    runs = []
    for batch in (x, torch.cat([x, torch.zeros_like(x)], dim=-1)):
        torch.manual_seed(0)
        model = small().train()
        model(batch)
        runs.append(model.blocks[2].gcn.bn.running_mean)
    torch.testing.assert_close(runs[0], runs[1])


def test_faithful_normalisation_has_a_place_for_every_persons_joint():
    model = small(faithful=True).eval()
    m, v, c = 1, 7, 2
    with torch.no_grad():
        model.data_bn.bias[(m * 25 + v) * 3 + c] = 5.0
        rows = model.data_bn(torch.zeros(2, 3, 4, 25))
    assert rows.nonzero().unique(dim=0)[:, [0, 1, 3]].unique(dim=0).tolist() == [[m, c, v]]


def test_published_weights_want_as_many_persons_as_they_were_trained_with():
    with pytest.raises(ModelError, match=r"takes 2 persons together .* clips have 1"):
        small(faithful=True)(torch.zeros(1, 3, 4, 25, 1))


def test_half_precision_keeps_the_answer():
    model = randomise(small())
    x = torch.randn(2, 3, 12, 25, 1)
    with torch.inference_mode():
        whole = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(x)
    torch.testing.assert_close(half.float(), whole, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": [8, 8], "strides": [1]}, "as long as each other"),
        ({"spatial": "nonlocale"}, "unknown spatial 'nonlocale' .did you mean 'nonlocal'"),
        ({"temporal": "naiv"}, "unknown temporal 'naiv' .did you mean 'naive'"),
        ({"grad_mode": "sign"}, "unknown grad_mode 'sign'"),
        ({"reach": 0}, "a reach of at least 1 .* reach=0"),
        ({"temporal": "naive", "reach": 32}, "32 frames .* needs at least 65 channels, got 64"),
        ({"persons": 0}, "persons of at least 1, got 0"),
        ({"shift_init": -1.0}, "shift_init=-1.0"),
        ({"shift_init": float("nan")}, "shift_init: .* got nan"),
        ({"pool": "joint"}, "unknown pool 'joint'"),
        ({"dropout": 1.5}, "does not accept"),
        ({"reach": "far"}, "reach: input should be a valid integer, got 'far'"),
    ],
)
def test_options_that_make_no_model(options, message):
    with pytest.raises((ModelError, UnknownNameError), match=message):
        create_model("shiftgcn", layout="ntu25", num_classes=5, **options)


def test_clips_of_another_layout_are_refused():
    with pytest.raises(ModelError, match=r"expected input \(N, 3, T, 25, M\)"):
        small()(torch.zeros(1, 3, 10, 20, 1))
