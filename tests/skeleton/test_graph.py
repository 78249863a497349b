"""Adjacency matrices against the published counts, values and identities."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.errors import ModelError, UnknownNameError
from kinegraph.skeleton import (
    LAYOUTS,
    SkeletonLayout,
    adjacency,
    directed_adjacency,
    get_layout,
    hop_distance,
    hop_scales,
    identify_adjacency,
    normalized_adjacency,
    partition_names,
)

# Non-zero entries of the three spatial partitions: as released (truncated), and corrected (full).
COUNTS = {
    "openpose18": ([18, 25, 9], [18, 17, 17]),
    "fsd10": ([25, 40, 8], [25, 24, 24]),
    "ntu25": ([25, 40, 8], [25, 24, 24]),
    "ntu_edge24": ([24, 41, 5], [24, 23, 23]),
    "coco17_paddle": ([17, 26, 8], [17, 18, 16]),
    "coco17": ([17, 22, 10], [17, 16, 16]),
    "coco17_mmskeleton": ([17, 34, 4], [17, 22, 16]),
    "kinect20": ([20, 31, 7], [20, 19, 19]),
    "utd_mhad20": ([20, 31, 7], [20, 19, 19]),
    "msr20": ([20, 31, 7], [20, 19, 19]),
    "jhmdb15": ([15, 20, 8], [15, 14, 14]),
    "shrec22": ([22, 32, 10], [22, 21, 21]),
}
NTU_COUNTS_BY_HOP = {
    2: ([25, 36, 12, 42, 12], [25, 24, 24, 34, 20]),
    3: ([25, 32, 16, 38, 16, 30, 30], [25, 24, 24, 34, 20, 30, 30]),
    4: ([25, 28, 20, 34, 20, 30, 30, 40, 26], [25, 24, 24, 34, 20, 30, 30, 40, 26]),
}
TRUNCATED_FURTHER = {
    "ntu25": [(1, 0, 4), (2, 3, 2), (4, 5, 3), (8, 9, 3), (20, 1, 3),
              (20, 2, 3), (20, 4, 3), (20, 8, 3)],
    "fsd10": [(1, 0, 4), (1, 2, 3), (1, 5, 3), (8, 1, 5), (8, 9, 3),
              (8, 12, 3), (9, 10, 3), (12, 13, 3)],
}  # fmt: skip
STRATEGIES = [
    (strategy, max_hop, dilation)
    for strategy in ("uniform", "distance", "spatial")
    for max_hop, dilation in ((1, 1), (2, 1), (4, 1), (4, 2))
]


def nonzero(A: np.ndarray) -> list[int]:
    return [int(count) for count in (A != 0).sum(axis=(1, 2))]


@pytest.mark.parametrize("name", COUNTS)
def test_spatial_partitions_have_the_published_counts(name: str) -> None:
    truncated, full = COUNTS[name]
    assert nonzero(adjacency(name, center_distance="truncated")) == truncated
    assert nonzero(adjacency(name)) == full


@pytest.mark.parametrize("max_hop", NTU_COUNTS_BY_HOP)
def test_more_hops_have_the_published_counts(max_hop: int) -> None:
    truncated, full = NTU_COUNTS_BY_HOP[max_hop]
    assert nonzero(adjacency("ntu25", max_hop=max_hop, center_distance="truncated")) == truncated
    assert nonzero(adjacency("ntu25", max_hop=max_hop)) == full


@pytest.mark.parametrize("name", TRUNCATED_FURTHER)
def test_truncated_further_partition_entry_by_entry(name: str) -> None:
    """Where the released code leaves only eight entries; this also fixes the orientation."""
    expected = np.zeros((25, 25), dtype=np.float32)
    for source, target, degree in TRUNCATED_FURTHER[name]:
        expected[source, target] = np.float32(1 / degree)
    np.testing.assert_array_equal(adjacency(name, center_distance="truncated")[2], expected)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize(("strategy", "max_hop", "dilation"), STRATEGIES)
def test_partitions_sum_to_the_whole_exactly(
    name: str, strategy: str, max_hop: int, dilation: int
) -> None:
    hops = {"max_hop": max_hop, "dilation": dilation}
    for normalization in ("column", "symmetric"):
        whole = normalized_adjacency(name, normalization=normalization, **hops)
        for center_distance in ("full", "truncated"):
            A = adjacency(
                name,
                strategy=strategy,
                normalization=normalization,
                center_distance=center_distance,
                **hops,
            )
            assert A.dtype == np.float32
            assert A.shape == (len(partition_names(strategy, **hops)), *whole.shape)
            np.testing.assert_array_equal(A.sum(axis=0), whole)
            assert ((A != 0).sum(axis=0) <= 1).all()


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("max_hop", [1, 2, 4])
def test_columns_sum_to_one(name: str, max_hop: int) -> None:
    whole = normalized_adjacency(name, max_hop=max_hop)
    np.testing.assert_allclose(whole.sum(axis=0), 1, rtol=1e-6)


def test_symmetric_normalization_follows_the_papers_formula() -> None:
    whole = normalized_adjacency("jhmdb15", normalization="symmetric")
    linked = (normalized_adjacency("jhmdb15") != 0).astype(float)
    root = np.diag(linked.sum(axis=0) ** -0.5)
    np.testing.assert_allclose(whole, root @ linked @ root, rtol=1e-6)
    np.testing.assert_array_equal(whole, whole.T)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "coco17_paddle"])
@pytest.mark.parametrize("center_distance", ["full", "truncated"])
def test_left_and_right_are_alike(name: str, center_distance: str) -> None:
    mirror = list(get_layout(name).mirror)
    for max_hop in (1, 2, 4):
        A = adjacency(name, max_hop=max_hop, center_distance=center_distance)
        np.testing.assert_array_equal(A[:, mirror][:, :, mirror], A)


# The others have bones across the middle (hip to hip), which must point one way or the other.
@pytest.mark.parametrize(
    "name", [name for name in LAYOUTS if name not in ("coco17_mmskeleton", "mediapipe33")]
)
def test_directed_left_and_right_are_alike(name: str) -> None:
    mirror = list(get_layout(name).mirror)
    A = directed_adjacency(name)
    assert np.array_equal(A[:, mirror][:, :, mirror], A) == (name != "coco17_paddle")


def test_paddle_coco_is_lopsided_because_its_center_is_the_left_hip() -> None:
    mirror = list(get_layout("coco17_paddle").mirror)
    A = adjacency("coco17_paddle", center_distance="truncated")
    assert (A[:, mirror][:, :, mirror] != A).any()
    whole = A.sum(axis=0)
    np.testing.assert_array_equal(whole[mirror][:, mirror], whole)


@pytest.mark.parametrize(
    ("strategy", "max_hop", "dilation", "names"),
    [
        ("uniform", 3, 1, ("all",)),
        ("distance", 2, 1, ("hop 0", "hop 1", "hop 2")),
        ("distance", 4, 2, ("hop 0", "hop 2", "hop 4")),
        ("spatial", 1, 1, ("root", "close 1", "further 1")),
        ("spatial", 4, 2, ("root", "close 2", "further 2", "close 4", "further 4")),
        ("spatial", 3, 2, ("root", "close 2", "further 2")),
        ("agcn", 1, 1, ("self", "inward", "outward")),
    ],
)
def test_partition_names(strategy: str, max_hop: int, dilation: int, names: tuple) -> None:
    hops = {"max_hop": max_hop, "dilation": dilation}
    assert partition_names(strategy, **hops) == names
    assert len(adjacency("body25", strategy=strategy, **hops)) == len(names)


def test_spatial_has_two_partitions_a_hop_and_one() -> None:
    sizes = [len(adjacency("ntu25", max_hop=max_hop)) for max_hop in (1, 2, 3, 4)]
    assert sizes == [3, 5, 7, 9]


def test_close_holds_sources_farther_from_the_center_than_the_target() -> None:
    """The naming of the released code, opposite to the paper's words."""
    layout = get_layout("ntu25")
    A = adjacency(layout)
    elbow, shoulder = layout.index("left_elbow"), layout.index("left_shoulder")
    assert A[1, elbow, shoulder] > 0 and A[2, elbow, shoulder] == 0
    assert A[2, shoulder, elbow] > 0 and A[1, shoulder, elbow] == 0


@pytest.mark.parametrize("name", LAYOUTS)
def test_hop_distances_equal_the_first_matrix_power_that_connects(name: str) -> None:
    layout = get_layout(name)
    V = layout.num_joints
    linked = np.eye(V, dtype=np.int64)
    for a, b in layout.bones:
        linked[a, b] = linked[b, a] = 1
    expected, power = np.full((V, V), -1), np.eye(V, dtype=np.int64)
    for distance in range(V):
        expected[(power > 0) & (expected < 0)] = distance
        power = np.minimum(power @ linked, 1)
    hop = hop_distance(layout)
    assert np.issubdtype(hop.dtype, np.integer)
    np.testing.assert_array_equal(hop, expected)


def test_hop_distances_are_not_bounded() -> None:
    """Hand tip to foot of the other side: 6 bones to the spine's top, then 6 down."""
    layout = get_layout("ntu25")
    assert hop_distance(layout)[layout.index("left_hand_tip"), layout.index("right_foot")] == 12


def test_agcn_partitions_are_the_ntu_spatial_ones_normalized_one_by_one() -> None:
    self_link, inward, outward = directed_adjacency("ntu25") != 0
    root, close, further = adjacency("ntu25") != 0
    np.testing.assert_array_equal(self_link, root)
    np.testing.assert_array_equal(inward, further)
    np.testing.assert_array_equal(outward, close)
    np.testing.assert_array_equal(inward, outward.T)


def test_agcn_values_entry_by_entry() -> None:
    layout = get_layout("ntu25")
    A = adjacency(layout, strategy="agcn")
    np.testing.assert_array_equal(A, directed_adjacency(layout))
    np.testing.assert_array_equal(A[0], np.eye(25, dtype=np.float32))
    children = np.bincount([parent for _, parent in layout.bones], minlength=25)
    for child, parent in layout.bones:
        assert A[1, parent, child] == 1
        assert A[2, child, parent] == np.float32(1 / children[parent])
    assert not A[1, :, layout.center].any()
    assert [int(count) for count in (A != 0).sum(axis=(1, 2))] == [25, 24, 24]


def test_agcn_directs_bones_that_are_listed_parent_first() -> None:
    """shrec22 lists wrist-palm inwards and the fingers outwards."""
    inward = directed_adjacency("shrec22")[1]
    palm, wrist, thumb, finger = (
        get_layout("shrec22").index(j) for j in ("palm", "wrist", "thumb_cmc", "index_mcp")
    )
    assert inward[palm, wrist] == inward[wrist, thumb] == inward[palm, finger] == 1


CHAIN = SkeletonLayout(name="chain", joints=("a", "b", "c"), bones=((1, 0), (2, 1)), center=1)


def test_scales_of_a_chain_entry_by_entry() -> None:
    A = hop_scales(CHAIN, 4)
    b, near = 1 / 3, 1 / np.sqrt(6)
    np.testing.assert_allclose(A[1], [[0.5, near, 0], [near, b, near], [0, near, 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(A[2], [[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]])
    for beyond in (A[0], A[3]):
        np.testing.assert_array_equal(beyond, np.eye(3))


def test_scales_of_a_window_entry_by_entry() -> None:
    """Two frames: a joint is one hop from itself in the other frame; so are its neighbors."""
    A = hop_scales(CHAIN, 3, window=2)
    near = 1 / np.sqrt(24)
    np.testing.assert_array_equal(A[0], np.eye(6))
    np.testing.assert_allclose(A[1, 0], [0.25, near, 0, 0.25, near, 0], rtol=1e-6)
    np.testing.assert_allclose(A[1, 4], [near, 1 / 6, near, near, 1 / 6, near], rtol=1e-6)
    third = 1 / 3
    np.testing.assert_allclose(A[2, 0], [third, 0, third, 0, 0, third], rtol=1e-6)
    np.testing.assert_array_equal(A[2, 4], [0, 0, 0, 0, 1, 0])


@pytest.mark.parametrize("window", [1, 3])
def test_scales_are_the_pairs_that_a_matrix_power_adds(window: int) -> None:
    linked = np.tile(hop_distance("ntu25") <= 1, (window, window)).astype(float)
    itself = np.eye(len(linked))
    A = hop_scales("ntu25", 6, window=window)
    reached = np.linalg.matrix_power(linked, 0)
    for k in range(1, 6):
        power = np.minimum(np.linalg.matrix_power(linked, k), 1)
        np.testing.assert_array_equal(A[k] > 0, np.maximum(power - reached, itself) > 0)
        reached = power


def test_scales_are_normalized_by_both_degrees_or_by_column() -> None:
    degree = (hop_scales("ntu25", 5) > 0).sum(axis=1, keepdims=True)
    symmetric = (degree * degree.transpose(0, 2, 1)) ** -0.5
    A = hop_scales("ntu25", 5)
    np.testing.assert_allclose(A[A > 0], np.broadcast_to(symmetric, A.shape)[A > 0], rtol=1e-6)
    by_column = hop_scales("ntu25", 5, normalization="column")
    np.testing.assert_allclose(by_column.sum(axis=1), 1, rtol=1e-6)
    assert not np.allclose(by_column, by_column.transpose(0, 2, 1))


@pytest.mark.parametrize("options", [{"scales": 0}, {"scales": 2, "window": 0}])
def test_scales_without_nodes_or_hops_are_rejected(options: dict) -> None:
    with pytest.raises(ModelError, match="at least one scale and one frame, got"):
        hop_scales("ntu25", **options)


def test_a_layout_object_serves_as_well_as_its_name() -> None:
    layout = SkeletonLayout("stick", ("a", "b", "c"), ((0, 1), (2, 1)), 1)
    assert hop_distance(layout).tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]
    np.testing.assert_array_equal(adjacency(get_layout("ntu")), adjacency("ntu25"))


def test_a_single_joint_has_a_graph() -> None:
    layout = SkeletonLayout("dot", ("dot",), (), 0)
    np.testing.assert_array_equal(adjacency(layout), [[[1]], [[0]], [[0]]])


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"strategy": "spacial"}, UnknownNameError, "unknown partition strategy 'spacial'"),
        ({"normalization": "row"}, UnknownNameError, "unknown normalization 'row'"),
        ({"normalization": "row", "strategy": "agcn"}, UnknownNameError, "unknown normalization"),
        ({"center_distance": "none"}, UnknownNameError, "unknown center distance 'none'"),
        ({"max_hop": 0}, ModelError, "max_hop: expected a whole number .* got 0"),
        ({"max_hop": 1.5}, ModelError, "max_hop: expected a whole number .* got 1.5"),
        ({"max_hop": True}, ModelError, "max_hop: expected a whole number .* got True"),
        ({"max_hop": 10**9}, ModelError, "no two of the 25 joints .* at most 24"),
        ({"dilation": 0}, ModelError, "dilation: expected a whole number .* got 0"),
        ({"strategy": "agcn", "max_hop": 2}, ModelError, "'agcn' supports one hop"),
        ({"strategy": "agcn", "normalization": "symmetric"}, ModelError, "column-normalized"),
    ],
)  # fmt: skip
def test_invalid_options_are_rejected(options: dict, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        adjacency("ntu25", **options)


def test_unknown_layout_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown layout 'ntu-25'.*mean 'ntu25'"):
        adjacency("ntu-25")


@pytest.mark.parametrize("layout", ["ntu25", "coco17_paddle"])
def test_a_matrix_is_identified_by_its_options(layout):
    for strategy, max_hop in (("uniform", 2), ("distance", 3), ("spatial", 4), ("agcn", 1)):
        A = adjacency(layout, strategy=strategy, max_hop=max_hop)
        assert identify_adjacency(layout, A) == (strategy, max_hop, "full")
    A = adjacency(layout, max_hop=2, center_distance="truncated")
    assert identify_adjacency(layout, A) == ("spatial", 2, "truncated")


def test_another_matrix_is_not_identified():
    A = adjacency("ntu25")
    assert identify_adjacency("ntu25", A * 2) is None
    assert identify_adjacency("ntu25", A[:, :20, :20]) is None
    assert identify_adjacency("ntu25", np.ones((1, 25, 25))) is None
