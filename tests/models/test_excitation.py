"""The excitation blocks against their equations, their values at the start and their reach."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from kinegraph.errors import ModelError
from kinegraph.models.excitation import (
    Action,
    ChannelExcitation,
    GraphMean,
    MotionExcitation,
    MultipleTemporalAggregation,
    SpatioTemporalExcitation,
    depthwise_separable,
)
from kinegraph.skeleton.graph import normalized_adjacency

V = 20
LAYOUT = "kinect20"
KERNELS = ("graph", "v3", "point", "tv3")


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same first weights in every run."""
    torch.manual_seed(0)


def rows(n: int = 2, C: int = 16, T: int = 9) -> torch.Tensor:
    """(n, C, T, V) made of noise."""
    return torch.randn(n, C, T, V, generator=torch.Generator().manual_seed(0))


def randomise(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights and running statistics that are not at their start values, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not name.endswith("A"):
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(0.5 + noise if name.endswith("running_var") else tensor + noise - 0.5)
    return module.eval()


def test_tea_leaves_what_stands_still_as_it_is():
    x = rows(T=1).expand(-1, -1, 9, -1)
    block = MotionExcitation(16, "tea", "point")
    assert torch.equal(block.eval()(x), x)
    # the normalization of a batch rounds, on some processors and not on others
    torch.testing.assert_close(block.train()(x), x, rtol=0, atol=1e-4)
    assert not torch.equal(block(rows()), rows())


def test_action_multiplies_the_last_frame_and_what_stands_still_by_one_and_a_half():
    x = rows()
    block = randomise(MotionExcitation(16, reduction=4, layout=LAYOUT))
    with torch.inference_mode():
        assert torch.equal(block(x)[:, :, -1], x[:, :, -1] * 1.5)
        gain = block(x) / x
        assert (gain[:, :, :-1] - 1.5).abs().amax(dim=(0, 1, 3)).min() > 0.01
        assert gain.min() > 1
        assert gain.max() < 2
        assert torch.equal(block(x[:, :, :1]), x[:, :, :1] * 1.5)
        still = x[:, :, :1].expand(-1, -1, 9, -1)
        assert torch.equal(randomise(MotionExcitation(16, kernel="point"))(still), still * 1.5)


@pytest.mark.parametrize("variant", ["action", "tea"])
def test_motion_excitation_is_its_equation(variant):
    block = randomise(MotionExcitation(16, variant, reduction=8, layout=LAYOUT))
    x, A = rows(), torch.from_numpy(normalized_adjacency(LAYOUT))
    with torch.inference_mode():
        z = torch.einsum("nctv,rc->nrtv", x, block.squeeze.weight[:, :, 0, 0])
        z = block.squeeze_bn(z)
        u = torch.einsum("nrtv,vw->nrtw", z, A)
        d = torch.zeros_like(z)
        d[:, :, :-1] = u[:, :, 1:] - z[:, :, :-1]
        a = torch.einsum("nrt,cr->nct", d.mean(dim=3), block.expand.weight[:, :, 0, 0])
        if variant == "tea":
            a = torch.sigmoid(block.expand_bn(a[..., None])[..., 0]) - 0.5
        else:
            a = torch.sigmoid(a)
        torch.testing.assert_close(block(x), x + x * a[..., None], rtol=1e-4, atol=1e-5)


def test_channel_excitation_is_its_equation():
    block = randomise(ChannelExcitation(16, reduction=4))
    x = rows()
    with torch.inference_mode():
        y = functional.conv1d(x.mean(dim=3), block.squeeze.weight[..., 0])
        y = functional.conv1d(y, block.temporal.weight[..., 0], padding=1).relu()
        a = torch.sigmoid(functional.conv1d(y, block.expand.weight[..., 0]))
        torch.testing.assert_close(block(x), x + x * a[..., None], rtol=1e-4, atol=1e-5)
    block.expand.weight.data.zero_()
    assert torch.equal(block(x), x * 1.5)


def test_spatio_temporal_excitation_is_its_equation():
    block = randomise(SpatioTemporalExcitation())
    x = rows()
    with torch.inference_mode():
        a = torch.sigmoid(
            functional.conv2d(x.mean(dim=1, keepdim=True), block.conv.weight, padding=1)
        )
        torch.testing.assert_close(block(x), x + x * a, rtol=1e-4, atol=1e-5)


def test_action_sums_its_paths_after_a_part_of_the_channels_has_moved():
    x = rows()
    block = Action(16, [torch.nn.Identity(), torch.nn.Identity()])
    moved = functional.pad(x, (0, 0, 1, 1))
    with torch.inference_mode():
        out = block(x)
    assert torch.equal(out[:, :2], 2 * moved[:, :2, 2:])  # read t + 1
    assert torch.equal(out[:, 2:4], 2 * moved[:, 2:4, :-2])  # read t - 1
    assert torch.equal(out[:, 4:], 2 * x[:, 4:])
    assert block.shift.weight.shape == (16, 1, 3, 1)
    assert block.shift.weight.requires_grad


def test_mta_reads_the_neighboring_frames_in_its_last_group_at_the_start():
    x = rows()
    block = MultipleTemporalAggregation(16, kernel="point")
    with torch.inference_mode():
        y = block.neighbours(x[:, 12:])
        assert torch.equal(y[:, :2, :-1], x[:, 12:14, 1:])
        assert torch.equal(y[:, 2:, 1:], x[:, 14:, :-1])
        assert not y[:, :2, -1].any()
        assert not y[:, 2:, 0].any()


@pytest.mark.parametrize("stride", [1, 2])
def test_mta_is_its_equation(stride):
    block = randomise(MultipleTemporalAggregation(16, stride, layout=LAYOUT))
    x, A = rows(), torch.from_numpy(normalized_adjacency(LAYOUT))
    groups, done = list(x.split(4, dim=1)), []
    with torch.inference_mode():
        for group, (time, _, point, bn, _) in zip(groups[:3], block.steps, strict=True):
            if done and stride == 1:
                group = group + done[-1]
            y = functional.conv2d(group, time.weight, padding=(1, 0), groups=4) @ A
            done.append(bn(point(y))[:, :, ::stride].relu())
        last = functional.conv2d(groups[3], block.neighbours.weight, padding=(1, 0), groups=4)
        if stride > 1:
            summed = (
                last
                + functional.pad(last, (0, 0, 1, 0))[:, :, :-1]
                + functional.pad(last, (0, 0, 0, 1))[:, :, 1:]
            )
            last = summed[:, :, ::stride] / 3
        expected = block.bn(block.mix(torch.cat([*done, last], dim=1)))
        torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


BLOCKS = {
    "me": (lambda: MotionExcitation(16, reduction=4, layout=LAYOUT), (-1, 0)),
    "me_tea": (lambda: MotionExcitation(16, "tea", reduction=4, layout=LAYOUT), (-1, 0)),
    "me_tv3": (lambda: MotionExcitation(16, kernel="tv3", reduction=4), (-2, 0)),
    "ce": (lambda: ChannelExcitation(16, reduction=4), (-1, 1)),
    "ste": (SpatioTemporalExcitation, (-1, 1)),
    "mta": (lambda: MultipleTemporalAggregation(16, layout=LAYOUT), (-3, 3)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_an_impulse_reaches_only_so_many_frames_and_no_other_person(name):
    make, (before, after) = BLOCKS[name]
    block = randomise(make())
    t, x = 7, rows(n=2, T=15)
    touched = x.clone()
    touched[1, :, t] += 5 * torch.randn(16, V, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        changed = (block(touched) - block(x)).abs().amax(dim=(1, 3)) > 0
    assert not changed[0].any()
    assert changed[1].nonzero().flatten().tolist() == list(range(t + before, t + after + 1))


@pytest.mark.parametrize("group", [0, 1, 2])
def test_the_groups_of_mta_see_three_five_and_seven_frames(group):
    block = randomise(MultipleTemporalAggregation(16, layout=LAYOUT))
    block.mix.weight.data.copy_(torch.eye(16)[..., None, None])
    x = rows(n=1, T=15)
    touched = x.clone()
    touched[:, :, 7] += 20 * torch.randn(16, V, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        changed = (block(touched) - block(x))[:, 4 * group : 4 * group + 4].abs().amax(
            (0, 1, 3)
        ) > 0
    reach = group + 1
    assert changed.nonzero().flatten().tolist() == list(range(7 - reach, 7 + reach + 1))


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_keeps_the_shape_and_learns(kernel):
    x = rows(T=5)
    for block in (
        MotionExcitation(16, kernel=kernel, reduction=4, layout=LAYOUT),
        MultipleTemporalAggregation(16, kernel=kernel, layout=LAYOUT),
    ):
        y = block(x)
        assert y.shape == x.shape
        y.square().sum().backward()
        assert all(p.grad is not None for p in block.parameters())


@pytest.mark.parametrize(("T", "stride"), [(1, 2), (7, 2), (8, 2), (8, 3)])
def test_mta_with_a_stride_has_the_length_of_a_convolution_with_it(T, stride):
    block = MultipleTemporalAggregation(16, stride, layout=LAYOUT).eval()
    assert block(rows(T=T)).shape == (2, 16, -(-T // stride), V)


def test_the_graph_kernel_does_not_depend_on_the_order_of_joints():
    A = torch.from_numpy(normalized_adjacency(LAYOUT))
    order = torch.randperm(V, generator=torch.Generator().manual_seed(2))
    mean, x = GraphMean(LAYOUT), rows()
    torch.testing.assert_close(mean(x), x @ A)
    y = mean(x)[..., order]
    mean.A.copy_(A[order][:, order])
    torch.testing.assert_close(mean(x[..., order]), y)


@pytest.mark.parametrize(("nin", "nout"), [(4, 4), (16, 64), (3, 7)])
def test_a_depthwise_separable_convolution_has_the_published_count(nin, nout):
    parameters = sum(p.numel() for p in depthwise_separable(nin, nout).parameters())
    assert parameters == 10 * nin + nin * nout + nout


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: MotionExcitation(3, layout=LAYOUT),
            "reduction 16 needs at least 16 channels, got 3",
        ),
        (lambda: ChannelExcitation(15), "needs at least 16 channels, got 15"),
        (lambda: MotionExcitation(16), "kernel 'graph' needs the layout"),
        (lambda: MotionExcitation(16, kernel="v4"), "unknown excitation kernel 'v4' .did you mean"),
        (lambda: MotionExcitation(16, "aktion"), "unknown ME variant 'aktion' .did you mean 'act"),
        (lambda: MultipleTemporalAggregation(18), "needs a multiple of 4 channels, got 18"),
    ],
)
def test_blocks_that_cannot_be(make, message):
    with pytest.raises(ModelError, match=message):
        make()
