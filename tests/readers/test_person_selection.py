"""Links of poses over time, against loops written from the definition."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kinegraph.readers.person_selection import PoseSelection, match_persons, sort_by_score

V = 18


def poses(places: list[float | None], scores: list[float]) -> NDArray[np.float32]:
    """(M, V, 3): bodies at x = place, or no bodies."""
    result = np.full((len(places), V, 3), np.nan, dtype=np.float32)
    result[..., 2] = 0
    for m, (place, score) in enumerate(zip(places, scores, strict=True)):
        if place is not None:
            result[m] = [place, 0.5, score]
    return result


def by_definition(data: NDArray[np.float32]) -> NDArray[np.float32]:
    """openpose_match in loops: T frames of M persons who are all seen."""
    num_frames, num_persons = data.shape[:2]
    now = list(range(num_persons))  # place in this frame of each person of the first frame
    linked = [data[0]]
    for t in range(num_frames - 1):
        taken: set[int] = set()
        following = {}
        for m in sorted(range(num_persons), key=lambda m: -data[t, m, :, 2].sum()):
            free = [n for n in range(num_persons) if n not in taken]
            cost = [((data[t + 1, n, :, :2] - data[t, m, :, :2]) ** 2).sum() for n in free]
            following[m] = free[int(np.argmin(cost))]
            taken.add(following[m])
        now = [following[m] for m in now]
        linked.append(data[t + 1, now])
    result = np.stack(linked)
    order = sorted(range(num_persons), key=lambda m: -result[:, m, :, 2].sum())
    return result[:, order]


def test_match_is_the_definition_where_all_are_seen() -> None:
    rng = np.random.default_rng(0)
    data = rng.uniform(size=(20, 4, V, 3)).astype(np.float32)
    np.testing.assert_array_equal(match_persons(data), by_definition(data))


def test_match_follows_walkers_through_any_order() -> None:
    rng = np.random.default_rng(1)
    walkers = np.stack([poses([0.1 + t / 50, 0.9 - t / 90], [0.9, 0.8]) for t in range(20)])
    shuffled = np.stack([frame[rng.permutation(2)] for frame in walkers])
    np.testing.assert_array_equal(match_persons(shuffled), walkers)


def test_unseen_joints_do_not_pull_to_the_origin() -> None:
    near = poses([0.5, 0.1], [0.9, 0.5])
    then = poses([0.1, 0.5], [0.5, 0.9])
    then[1, 1:, :2], then[1, 1:, 2] = np.nan, 0  # only one joint is seen again
    matched = match_persons(np.stack([near, then]))
    np.testing.assert_array_equal(matched[0, :, 0, 0], matched[1, :, 0, 0])


def test_who_is_away_leaves_the_others_in_place() -> None:
    frames = [
        poses([0.2, 0.8], [0.9, 0.5]),
        poses([0.8, None], [0.5, 0]),
        poses([0.8, 0.2], [0.5, 0.9]),
    ]
    matched = match_persons(np.stack(frames))
    # the better-scored person chooses first, takes the only pose, and comes back later
    assert matched[1, 0, 0, 0] == np.float32(0.8)
    assert (matched[..., 2] > 0).all(axis=-1).sum() == 5


def test_sort_by_score_is_per_frame() -> None:
    data = np.stack([poses([0.2, 0.8], [0.3, 0.6]), poses([0.2, 0.8], [0.6, 0.3])])
    ordered = sort_by_score(data)
    np.testing.assert_allclose(ordered[:, 0, 0, 0], [0.8, 0.2])
    np.testing.assert_allclose(ordered[:, 1, 0, 0], [0.2, 0.8])


def test_shapes_of_selected_persons() -> None:
    frames = {0: list(poses([0.1, 0.2, 0.3], [0.5] * 3)), 4: []}
    selection = PoseSelection(max_persons=2, tracking="none", candidates=5)
    assert selection.select(frames, 5, V).shape == (2, 5, V, 3)
    assert selection.select({}, 5, V).shape == (0, 5, V, 3)
    assert selection.select({0: []}, 1, V).shape == (0, 1, V, 3)
