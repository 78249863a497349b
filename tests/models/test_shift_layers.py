"""The two shifts: hand examples, equations, gradients."""

from __future__ import annotations

import pytest
import torch

from kinegraph.bench.reference.shiftgcn import shift_frames_by_gather
from kinegraph.models.shift_layers import (
    SpatialShift,
    TemporalShift,
    local_sources,
    naive_shifts,
    nonlocal_sources,
    temporal_sample,
)
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout

TOY = SkeletonLayout(
    name="toy",
    joints=tuple("abcdefg"),
    bones=((0, 1), (2, 1), (3, 1), (4, 3), (5, 4), (6, 3)),
    center=1,
)


def givers(sources: torch.Tensor, channels: int, joint: int) -> list[int]:
    """Per channel of a joint, the joint it is read from."""
    row = sources.view(-1, channels)[joint]
    assert torch.equal(row % channels, torch.arange(channels))
    return (row // channels).tolist()


@pytest.mark.parametrize(("V", "C"), [(25, 3), (25, 64), (7, 20), (20, 256), (1, 5)])
def test_shifting_out_undoes_shifting_in(V, C):
    flat = torch.arange(V * C)
    c = flat % C
    there, back = nonlocal_sources(V, C, 1), nonlocal_sources(V, C, -1)
    assert torch.equal(there, (flat + c * C) % (V * C))
    assert torch.equal(back, (flat - c * C) % (V * C))
    assert torch.equal(there[back], flat)


def test_the_papers_figure_of_seven_joints_and_twenty_channels():
    sources = nonlocal_sources(7, 20, 1)
    assert givers(sources, 20, 0) == [*range(7), *range(7), *range(6)]
    assert givers(sources, 20, 2)[:6] == [2, 3, 4, 5, 6, 0]


def test_the_papers_figure_of_the_local_shift():
    sources = local_sources(TOY, 20)
    assert givers(sources, 20, 0) == [0] * 10 + [1] * 10
    assert givers(sources, 20, 1) == [1] * 5 + [0] * 5 + [2] * 5 + [3] * 5


def test_the_last_neighbor_gives_what_the_division_leaves_over():
    sources = local_sources(get_layout("ntu25"), 64)
    assert givers(sources, 64, 20) == [20] * 12 + [1] * 12 + [2] * 12 + [4] * 12 + [8] * 16


def test_fewer_channels_than_neighbors_come_from_the_last_one():
    assert givers(local_sources(get_layout("ntu25"), 3), 3, 20) == [8, 8, 8]


@pytest.mark.parametrize("spatial", ["nonlocal", "local"])
def test_a_spatial_shift_moves_features_and_its_gradient_moves_them_back(spatial):
    layout = get_layout("kinect20")
    shift = SpatialShift(layout, 6, spatial, direction=1)
    rows = torch.randn(3, 120, dtype=torch.float64, requires_grad=True)

    def shift_rows(rows: torch.Tensor) -> torch.Tensor:
        x = rows.view(1, 3, 20, 6).permute(0, 3, 1, 2)
        return shift(x).permute(0, 2, 3, 1).reshape(3, 120)

    assert torch.equal(shift_rows(rows), rows[:, shift.index])
    assert torch.autograd.gradcheck(shift_rows, rows)


def test_a_local_shift_reaches_neighbors_only_and_a_nonlocal_one_all_joints():
    hand, wrist, thumb = 7, 6, 22
    x = torch.zeros(1, 64, 1, 25)
    x[..., hand] = 1.0
    reached = {}
    for spatial in ("local", "nonlocal"):
        moved = SpatialShift(get_layout("ntu25"), 64, spatial, direction=1)(x)
        reached[spatial] = moved[0, :, 0].any(dim=0).nonzero().flatten().tolist()
    assert reached == {"local": [wrist, hand, thumb], "nonlocal": list(range(25))}


def test_indices_are_no_part_of_the_state():
    assert not SpatialShift(get_layout("ntu25"), 8, "nonlocal", 1).state_dict()
    assert not TemporalShift(naive_shifts(8, 1), 1, None).state_dict()


def one_channel(shift: float, stride: int, frames: int = 6) -> list[float]:
    ramp = torch.arange(float(frames)).view(1, 1, frames, 1)
    return TemporalShift(torch.tensor([shift]), stride, "exact")(ramp).flatten().tolist()


@pytest.mark.parametrize(
    ("shift", "stride", "expected"),
    [
        (0.25, 1, [0.25, 1.25, 2.25, 3.25, 4.25, 3.75]),
        (-1.5, 1, [0, 0, 0.5, 1.5, 2.5, 3.5]),
        (0.0, 2, [0.5, 2.5, 4.5]),
        (-0.5, 2, [0, 2, 4]),
        (2.0, 1, [2, 3, 4, 5, 0, 0]),
        (-40.0, 1, [0, 0, 0, 0, 0, 0]),
    ],
)
def test_hand_examples_of_the_temporal_shift(shift, stride, expected):
    assert one_channel(shift, stride) == pytest.approx(expected)


def test_an_odd_number_of_frames_is_rounded_up():
    assert one_channel(0.0, 2, frames=5) == pytest.approx([0.5, 2.5, 2.0])
    assert one_channel(0.0, 2, frames=1) == pytest.approx([0.0])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("T", [1, 8, 9])
def test_moments_are_those_of_the_equation(stride, T):
    generator = torch.Generator().manual_seed(T)
    x = torch.randn(2, 12, T, 3, generator=generator)
    near = 6 * torch.rand(6, generator=generator) - 3
    far = 180 * torch.rand(6, generator=generator) - 90
    position = torch.cat([near, far])
    expected = shift_frames_by_gather(x, position, stride)
    torch.testing.assert_close(temporal_sample(x, position, stride), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_exact_gradient_is_the_derivative(stride):
    x = torch.randn(2, 4, 7, 3, dtype=torch.float64, requires_grad=True)
    shift = torch.tensor([-2.3, -0.4, 0.7, 9.1], dtype=torch.float64, requires_grad=True)
    middle = (stride - 1) / 2
    assert torch.autograd.gradcheck(lambda a, b: temporal_sample(a, b + middle, stride), (x, shift))


def test_at_a_whole_shift_the_derivative_is_the_one_from_the_right():
    x = torch.tensor([1.0, 4.0, 9.0, 16.0]).view(1, 1, 4, 1)
    shift = TemporalShift(torch.tensor([1.0]), 1, "exact")
    shift(x)[:, :, 0].sum().backward()
    assert shift.shift.grad.tolist() == [5.0]


@pytest.mark.parametrize("stride", [1, 2])
def test_the_official_gradient_keeps_only_the_sign(stride):
    start = torch.tensor([-1.2, 0.3, 0.8, 50.0])
    x, weight = torch.randn(2, 4, 8, 3), torch.randn(2, 4, 8 // stride, 3)
    grads = []
    for mode in ("exact", "official"):
        shift, given = TemporalShift(start.clone(), stride, mode), x.clone().requires_grad_()
        y = shift(given)
        (y * weight).sum().backward()
        grads.append((shift.shift.grad, given.grad, y))
    (exact, exact_x, exact_y), (official, official_x, official_y) = grads
    assert torch.equal(official_y, exact_y)
    assert torch.equal(official_x, exact_x)
    assert exact[3] == 0
    assert torch.equal(official[:3], 0.01 * exact[:3].sign())
    assert float(official[3]) == pytest.approx(1e-4)


@pytest.mark.parametrize(("C", "fold", "rest"), [(64, 7, 8), (128, 14, 16), (256, 28, 32)])
def test_folds_of_the_naive_shift(C, fold, rest):
    shifts = naive_shifts(C, 4).tolist()
    moved = [frames for step in (1, 2, 3, 4, -1, -2, -3, -4) for frames in [step] * fold]
    assert shifts == [*moved, *[0] * rest]


def test_the_naive_shift_reads_whole_frames_and_a_stride_slices_them():
    x = torch.arange(1.0, 8.0).view(1, 1, 7, 1).expand(1, 3, 7, 1)
    later, earlier, same = TemporalShift(naive_shifts(3, 1), 2, None)(x)[0, :, :, 0].tolist()
    assert (later, earlier, same) == ([2, 4, 6, 0], [0, 2, 4, 6], [1, 3, 5, 7])
