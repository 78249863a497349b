"""Few examples per action: `kinegraph teach` beside nearest neighbors; a table of docs/numbers.md.

    python benchmarks/teach.py DATA [--out runs/teach] [--model penn-action] [--draws 100]

DATA is the folder of the raw datasets, by name. Each draw takes some actions, some examples of each
from the training split, and clips of these and of the other actions from the test split. The
features of all clips are computed once and kept in --out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accuracy import get_store, write_table
from numpy.typing import NDArray

from kinegraph.clips.splits import get_split_indices
from kinegraph.clips.store import ClipStore
from kinegraph.inference.few_shot import CONFIDENCE, fit_few_shot
from kinegraph.inference.teach import pool_example
from kinegraph.inference.trained_model import TrainedModel
from kinegraph.transforms import Pipeline

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

HEADER = (
    "dataset", "actions", "examples of each", "taught: top-1 (%)", "named right", "named wrong",
    "others unknown", "top-1 in a stream", "nearest neighbor, 32 frames (%)",
    "nearest neighbor, DTW (%)",
)  # fmt: skip
#: (folder and reader, title, protocol)
DATASETS = (
    ("florence3d", "Florence 3D", "odd-even-subjects"),
    ("utkinect", "UTKinect", "odd-even-subjects"),
    ("utd_mhad", "UTD-MHAD", "odd-even-subjects"),
    ("nw_ucla", "NW-UCLA, clean", "ucla-xview-clean"),
)
WAYS = (5, 10)
SHOTS = (1, 3, 5)
MAX_CLIPS = 30  # of a class and split
MAX_QUERIES = 5  # of a class and draw
FRAMES = 32
#: Joints of the nearest neighbors: turned to the front, of one size, with a fixed number of frames.
RAW_STEPS = Pipeline(
    [
        ("fill_missing", {"max_gap": 1000}),
        ("center", {"frame": "first"}),
        ("prenormalize", {}),
        ("scale", {"by": "torso"}),
        ("resize", {"frames": FRAMES}),
    ]
)


class Split(NamedTuple):
    """Features (n, 2, P), raw joints (n, FRAMES, V * 3) and labels (n,) of a split.

    The features are those of the whole clip, and those of the clip as a stream.
    """

    features: Floats
    joints: Floats
    labels: Labels


def compute_split(model: TrainedModel, store: ClipStore, indices: Labels, path: Path) -> Split:
    """Return a split with at most MAX_CLIPS of each class, kept at a path."""
    if not path.exists():
        rng = np.random.default_rng(0)
        labels = store.labels[indices]
        kept = np.concatenate(
            [rng.permutation(indices[labels == label])[:MAX_CLIPS] for label in np.unique(labels)]
        )
        clips = [store[int(i)] for i in kept]
        raw = [np.nan_to_num(RAW_STEPS(clip).joints[0].reshape(FRAMES, -1)) for clip in clips]
        features = [pool_example(model, clip)[:2] for clip in clips]
        np.savez(path, features=features, joints=raw, labels=store.labels[kept])
    arrays = np.load(path)
    return Split(
        arrays["features"].astype(np.float64), arrays["joints"].astype(np.float64), arrays["labels"]
    )


def measure_distances(queries: Floats, examples: Floats) -> tuple[Floats, Floats]:
    """Return distances (queries, examples) of clips frame by frame, and by dynamic time warping."""
    fixed, warped = (np.zeros((len(queries), len(examples))) for _ in range(2))
    squares = np.square(examples).sum(axis=2)
    for i, query in enumerate(queries):
        cost = np.square(query).sum(axis=1)[:, None] + squares[:, None]
        cost = np.sqrt(np.maximum(cost - 2 * query @ examples.transpose(0, 2, 1), 0))
        fixed[i] = cost.trace(axis1=1, axis2=2)
        warped[i] = warp(cost)
    return fixed, warped


def warp(cost: Floats) -> Floats:
    """Return the cost (n,) of the cheapest monotonous path through each matrix (n, T, T)."""
    total = np.full((len(cost), FRAMES + 1, FRAMES + 1), np.inf)
    total[:, 0, 0] = 0
    for a in range(FRAMES):
        for b in range(FRAMES):
            before = np.minimum(total[:, a, b], np.minimum(total[:, a, b + 1], total[:, a + 1, b]))
            total[:, a + 1, b + 1] = cost[:, a, b] + before
    return total[:, -1, -1]


def draw(
    labels: Labels, actions: Labels, count: int, rng: np.random.Generator
) -> tuple[Labels, Labels]:
    """Return the places of up to ``count`` clips of each action, and the action's number."""
    places = [rng.permutation(np.flatnonzero(labels == action))[:count] for action in actions]
    return np.concatenate(places), np.repeat(np.arange(len(places)), list(map(len, places)))


def measure(
    train: Split, test: Split, raw: tuple[Floats, Floats], ways: int, shots: int, draws: int
) -> Floats:
    """Return the figures of each draw (draws, 7), NaN where there are no other actions.

    ``raw`` are the distances (test, train) of `measure_distances`.
    """
    rows = []
    for seed in range(draws):
        rng = np.random.default_rng([seed, ways, shots])
        order = rng.permutation(np.unique(test.labels))
        examples, taught = draw(train.labels, order[:ways], shots, rng)
        queries, truth = draw(test.labels, order[:ways], MAX_QUERIES, rng)
        forms = train.features[examples]
        head, _ = fit_few_shot(
            forms.reshape(-1, forms.shape[2]),
            np.repeat(taught, 2),
            np.repeat(np.arange(len(examples)), 2),
        )
        shares, streamed = (head.probabilities(test.features[queries, form]) for form in (0, 1))
        named, right = shares.max(axis=1) >= CONFIDENCE, shares.argmax(axis=1) == truth
        unknown = np.nan
        if len(order) > ways:
            others = draw(test.labels, order[ways:], MAX_QUERIES, rng)[0]
            unknown = (head.probabilities(test.features[others, 0]).max(axis=1) < CONFIDENCE).mean()
        nearest = [
            taught[distances[np.ix_(queries, examples)].argmin(axis=1)] == truth
            for distances in raw
        ]
        named_right, named_wrong = (named & right).mean(), (named & ~right).mean()
        streamed_right = (streamed.argmax(axis=1) == truth).mean()
        figures = [right.mean(), named_right, named_wrong, unknown, streamed_right]
        rows.append([*figures, *(found.mean() for found in nearest)])
    return np.array(rows)


def main() -> None:
    """Convert, compute features, measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/teach"))
    parser.add_argument("--model", default="penn-action")
    parser.add_argument("--draws", type=int, default=100)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model = TrainedModel.load(options.model)
    lines = []
    for source, title, protocol in DATASETS:
        store = ClipStore(get_store(source, options.data, options.out))
        train, test = (
            compute_split(
                model, store, get_split_indices(store, protocol, split),
                options.out / f"{Path(options.model).name}-{source}-{split}.npz",
            )
            for split in ("train", "test")
        )  # fmt: skip
        raw = measure_distances(test.joints, train.joints)
        classes = len(np.unique(test.labels))
        for ways in sorted({min(ways, classes) for ways in WAYS}):
            for shots in SHOTS:
                figures = 100 * measure(train, test, raw, ways, shots, options.draws)
                mean, spread = figures.mean(axis=0), figures.std(axis=0, ddof=1)
                cells = [
                    "–" if np.isnan(m) else f"{m:.1f} ± {s:.1f}"
                    for m, s in zip(mean, spread, strict=True)
                ]
                lines.append(f"| {' | '.join([title, str(ways), str(shots), *cells])} |")
                print(lines[-1], flush=True)
    if options.model == "penn-action":
        write_table("teach", HEADER, lines)


if __name__ == "__main__":
    main()
