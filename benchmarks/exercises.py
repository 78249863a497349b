"""The bundled model ui-prmd, and the tables of docs/assess.md: `make exercises`.

    python benchmarks/exercises.py DATA [--seeds 3] [--out runs/exercises] [--only measure]

DATA is the folder of the raw datasets, by name. The network is one block of ST-GCN with random
weights; only its last layer is fitted, by ridge regression, in closed form. So all ten folds that
leave one subject out take minutes on one core. Features are kept, so that an interrupted run goes
on. Nothing but the last layer depends on UI-PRMD: the
normalization has the statistics of synthetic squats and raised arms. With `--only measure` the
bundled weights and the model card stay as they are.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accuracy import mean_and_spread, write_table
from counting import synthetic_recordings
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.special import logsumexp, softmax
from torch import nn

from kinegraph.clips.clip import Clip
from kinegraph.files import atomic_path
from kinegraph.inference.assess import Assessor
from kinegraph.inference.explain import METHODS, explain
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.trained_model import TrainedModel
from kinegraph.inference.views import list_views
from kinegraph.models.unknown import UnknownLogit
from kinegraph.readers import read_clips
from kinegraph.readers.class_names import class_names
from kinegraph.readers.ui_prmd import READER
from kinegraph.skeleton.layouts import get_layout
from kinegraph.training.batch import collate
from kinegraph.training.checkpoint import CheckpointHeader, collect_versions, save_checkpoint
from kinegraph.training.model_zoo import PRETRAINED_FOLDER, model_card
from kinegraph.training.recipe import load_recipe
from kinegraph.transforms.temporal_sampling import take_frames

NAME = "ui-prmd"
RECIPE = Path(__file__).with_suffix(".yaml")
PAGE = Path(__file__).parents[1] / "docs" / "assess.md"
CARD = Path(__file__).with_name("ui_prmd_card.md")
COPIES = 3  # changed copies of each clip, beside the clip and its mirror image
PENALTY = 0.01  # of the ridge regression, for features of variance 1
KNOWN_SHARE = 0.98  # of the clips of held-out subjects that are nearer than the radius
SLOPE = 20.0  # of the logit of "unknown", per radius
UNKNOWN = "unknown"
EXPLAINED = 8  # clips of each quality whose deletion curves are measured
OTHERS = ("utkinect", "utd_mhad", "nw_ucla", "florence3d", "sbu")


Features = NDArray[np.float32]  # (copies, N, P)


# --------------------------------------------------------------------- network and features


def make_header(classes: Sequence[str]) -> CheckpointHeader:
    """Return the header of the model, without the facts of its training."""
    recipe = load_recipe(RECIPE)
    pipeline = recipe.pipeline()
    return CheckpointHeader(
        model=recipe.model_spec(),
        layout=pipeline.output_layout(get_layout("ui_prmd22")).to_dict(),
        num_classes=len(classes),
        in_channels=pipeline.output_channels(3),
        classes=list(classes),
        persons=1,
        confidence=False,
        stream=recipe.stream,
        transforms=pipeline.to_list(),
        reader={"name": "ui_prmd", "options": {"label": "both"}},
        recipe=recipe.model_dump(),
        training={"coordinates": 3},
        versions=collect_versions(),
        fps=30.0,
        space=READER.space.to_dict() if READER.space else None,
    )


def make_network(header: CheckpointHeader, seed: int) -> nn.Module:
    """Return the network with random weights, in evaluation mode.

    A channel of a joint mixes a few coordinates of a few joints, and then 4 of these mixtures over
    1, 3, 5 or 9 frames, as the random kernels of ROCKET (Dempster et al. 2020) do. The first ReLU
    gets a bias of 3 standard deviations, so that it changes little.
    """
    torch.manual_seed(seed)
    network = header.build_model()
    block = network.blocks[0]  # type: ignore[index,union-attr]
    with torch.no_grad():
        _sparsify(block.gcn.weight.normal_(), 0.4)
        block.gcn.free_edges.normal_()
        _sparsify(block.gcn.free_edges, 2.5 / block.gcn.A.shape[1])
        block.bn.bias.fill_(3.0)
        _draw_kernels(block.tcn.weight)
        block.tcn.bias.zero_()
        block.tcn_bn.bias.normal_()
    _fit_statistics(network, header)
    return network.eval()


def _sparsify(weight: torch.Tensor, share: float) -> None:
    """Keep a random share of the weights."""
    weight.mul_(torch.rand_like(weight) < share)


def _draw_kernels(weight: torch.Tensor) -> None:
    """Draw temporal kernels (K, K, 9, 1) over 4 of the channels; most ignore the mean position."""
    K, _, frames, _ = weight.shape
    weight.normal_()
    chosen = torch.zeros(K, K).scatter_(1, torch.rand(K, K).argsort(1)[:, :4], 1.0)
    weight.mul_(chosen[:, :, None, None])
    for kernel in weight:
        length = (1, 3, 5, 9)[int(torch.randint(0, 4, ()))]
        start = (frames - length) // 2
        kernel[:, :start] = kernel[:, start + length :] = 0
        if length > 1 and torch.rand(()) < 0.6:
            inside = kernel[:, start : start + length]
            inside -= inside.mean(dim=1, keepdim=True)


def _fit_statistics(network: nn.Module, header: CheckpointHeader) -> None:
    """Set the statistics of the batch norms by synthetic movements; joints are not rescaled."""
    clips = (take_frames(c, np.arange(min(90, c.num_frames))) for *_, c in synthetic_recordings())
    model = TrainedModel(network, header)
    x = torch.cat([model.batch(clip).x for clip in clips])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        network.train()(x)
    network.data_bn.running_var.fill_(1.0)  # type: ignore[union-attr]


@torch.inference_mode()
def extract_features(model: TrainedModel, clips: Sequence[Clip], seed: int) -> Features:
    """Return pooled features of each clip, its mirror image and `COPIES` changed copies."""
    views, pipeline = list_views(model.header), model.header.pipeline()
    preprocessor = replace(model.preprocessor, pipeline=pipeline)
    rows = []
    for number, clip in enumerate(clips):
        samples = [preprocessor(clip, view=view) for view in views]
        for change in range(COPIES):
            samples.append(preprocessor(clip, np.random.default_rng([seed, change, number])))
        rows.append(model.model.forward_pooled(collate(samples).x).numpy())  # type: ignore[operator]
    return np.stack(rows, axis=1)


# --------------------------------------------------------------------- last layer


@dataclass(frozen=True)
class Head:
    """A last layer of 20 classes: weight (20, P) and bias (20,)."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def logits(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """(..., P) -> (..., 20)."""
        return np.asarray(features @ self.weight.T + self.bias)


class Regression:
    """Ridge regression of one-hot labels on features, for any subset of the subjects.

    Args:
        features: of all clips.
        labels, subjects: (N,).
    """

    def __init__(
        self, features: Features, labels: NDArray[np.int64], subjects: NDArray[np.int64]
    ) -> None:
        self.sums = {}
        targets = np.eye(labels.max() + 1)
        for subject in np.unique(subjects):
            own = subjects == subject
            x = features[:, own].reshape(-1, features.shape[2]).astype(np.float64)
            x = np.hstack([x, np.ones((len(x), 1))])
            y = np.tile(targets[labels[own]], (len(features), 1))
            self.sums[int(subject)] = (x.T @ x, x.T @ y)

    def fit(self, subjects: Iterable[int]) -> Head:
        """Return the head of some subjects, for features of mean 0 and variance 1."""
        chosen = [self.sums[subject] for subject in subjects]
        gram, moment = (sum(parts) for parts in zip(*chosen, strict=True))
        count = gram[-1, -1]
        mean, target = gram[-1, :-1] / count, moment[-1] / count
        spread = np.sqrt(np.maximum(np.diag(gram)[:-1] / count - mean**2, 0)) + 1e-2
        covariance = (gram[:-1, :-1] / count - np.outer(mean, mean)) / np.outer(spread, spread)
        slope = (moment[:-1] / count - np.outer(mean, target)) / spread[:, None]
        np.fill_diagonal(covariance, covariance.diagonal() + PENALTY)
        weight = np.linalg.solve(covariance, slope) / spread[:, None]
        return Head(weight.T, target - mean @ weight)


@dataclass(frozen=True)
class Trial:
    """The folds of one seed.

    Attributes:
        model: the network, whose head is not fitted.
        features: of all clips.
        regression: of them.
        logits: (2, N, 20) of each clip and of its mirror image, by the head of the other subjects.
        distances: (N,) from the nearest exercise, by the centers of the other subjects.
    """

    model: TrainedModel
    features: Features
    regression: Regression
    logits: NDArray[np.float64]
    distances: NDArray[np.float64]


def find_centers(features: Features, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (10, P), the mean features of the clips of each exercise and their mirror images."""
    return np.stack([features[:2, labels // 2 == k].mean(axis=(0, 1)) for k in range(10)])


def run_folds(clips: Sequence[Clip], header: CheckpointHeader, seed: int, out: Path) -> Trial:
    """Compute features, and the answers for each subject from the head of the other ones."""
    labels, subjects = get_facts(clips)
    model = TrainedModel(make_network(header, seed), header)
    kept = out / f"features-{seed}.npy"
    if not kept.exists():
        with atomic_path(kept) as partial, partial.open("wb") as file:
            np.save(file, extract_features(model, clips, seed))
    features = np.load(kept)
    regression = Regression(features, labels, subjects)
    logits = np.zeros((2, len(clips), 20))
    distances = np.zeros(len(clips))
    for subject in regression.sums:
        own = subjects == subject
        head = regression.fit(other for other in regression.sums if other != subject)
        logits[:, own] = head.logits(features[:2, own])
        centers = find_centers(features[:, ~own], labels[~own])
        # both views must be far, as their probabilities are averaged
        distances[own] = np.stack([cdist(f, centers).min(axis=1) for f in features[:2, own]]).mean(
            0
        )
    return Trial(model, features, regression, logits, distances)


def get_facts(clips: Sequence[Clip]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return labels and subjects (N,)."""
    return (
        np.array([clip.label for clip in clips]),
        np.array([int(str(clip.meta["subject"])) for clip in clips]),
    )


@dataclass(frozen=True)
class Link:
    """From the regression's values to logits.

    Attributes:
        mean: factor of the mean of a pair of classes, which is that of an exercise.
        difference: factor of their differences from the mean.
        shift: what is added to the logit of "correct" and subtracted from that of "incorrect".
    """

    mean: float
    difference: float
    shift: float

    def __call__(self, values: NDArray[np.float64], *, shift: bool = True) -> NDArray[np.float64]:
        """(..., 20) -> (..., 20)."""
        pairs = values.reshape(*values.shape[:-1], 10, 2)
        mean = pairs.mean(axis=-1, keepdims=True)
        linked = self.mean * mean + self.difference * (pairs - mean)
        if shift:
            linked = linked + np.array([self.shift, -self.shift])
        return np.asarray(linked.reshape(values.shape))


def fit_link(values: NDArray[np.float64], labels: NDArray[np.int64]) -> Link:
    """Return the link of the largest likelihood, by values (2, N, 20) of held-out subjects."""
    rows = np.arange(len(labels))

    def make(numbers: NDArray[np.float64]) -> Link:
        return Link(float(np.exp(numbers[0])), float(np.exp(numbers[1])), float(numbers[2]))

    def loss(numbers: NDArray[np.float64]) -> float:
        return -float(average(make(numbers)(values))[rows, labels].mean())

    found = minimize(loss, (3.0, 1.7, 0.0), method="Nelder-Mead", options={"xatol": 1e-2})
    return make(found.x)


def average(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, N, 20) -> (N, 20): logits of the mean probabilities of a clip and its mirror image."""
    shares = logits - logsumexp(logits, axis=2, keepdims=True)
    return np.asarray(logsumexp(shares, axis=0) - np.log(2))


# --------------------------------------------------------------------- figures


@dataclass(frozen=True)
class Answers:
    """What held-out clips were taken for; arrays (N,)."""

    exercise: NDArray[np.bool_]  # whether it is named correctly
    quality: NDArray[np.bool_]  # whether the verdict is right
    score: NDArray[np.float64]

    @classmethod
    def of(cls, logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Answers:
        """Return the answers of calibrated logits (N, 20)."""
        shares = softmax(logits, axis=1).reshape(-1, 10, 2)
        best = shares.sum(axis=2).argmax(axis=1)
        chosen = shares[np.arange(len(shares)), best]
        score = chosen[:, 0] / chosen.sum(axis=1)
        return cls(best == labels // 2, (score >= 0.5) == (labels % 2 == 0), score)


def calibrate_folds(
    trial: Trial, labels: NDArray[np.int64], subjects: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return logits (N, 20) of each subject, scaled by the answers for the other subjects."""
    made = np.zeros((len(labels), 20))
    for subject in np.unique(subjects):
        own = subjects == subject
        made[own] = average(fit_link(trial.logits[:, ~own], labels[~own])(trial.logits[:, own]))
    return made


def calibration_error(answers: Answers, labels: NDArray[np.int64]) -> float:
    """Return the expected calibration error of the score, in ten equal bins."""
    correct = labels % 2 == 0
    bins = np.minimum((answers.score * 10).astype(int), 9)
    gaps = [
        abs(answers.score[own].mean() - correct[own].mean()) * own.sum()
        for own in (bins == k for k in range(10))
        if own.any()
    ]
    return float(sum(gaps) / len(labels))


def write_accuracy(
    logits: Sequence[NDArray[np.float64]], labels: NDArray[np.int64], subjects: NDArray[np.int64]
) -> None:
    """Write the tables of accuracy: over seeds, by exercise and by subject."""
    found = [Answers.of(one, labels) for one in logits]
    subsets = {"all ten subjects": subjects > 0, "subjects 6 to 10": subjects > 5}
    lines = []
    for title, own in subsets.items():
        figures = [[100 * a.exercise[own].mean(), 100 * a.quality[own].mean()] for a in found]
        errors = [100 * calibration_error(a, labels) for a in found]
        cells = [mean_and_spread(column) for column in zip(*figures, strict=True)]
        cells.append(mean_and_spread(errors) if own.all() else "–")
        lines.append(f"| {title} | {' | '.join(cells)} | {len(found)} |")
    together = Answers.of(logsumexp(np.stack(logits), axis=0), labels)
    shares = 100 * together.exercise.mean(), 100 * together.quality.mean()
    lines.append(f"| all ten, mean of the seeds | {shares[0]:.1f} | {shares[1]:.1f} | – | – |")
    header = ("held-out subjects", "exercise (%)", "quality (%)", "calibration error (%)", "seeds")
    write_table("exercises", header, lines, PAGE)
    masks = {
        "exercise m01 to m10": [labels // 2 == k for k in range(10)],
        "subject s01 to s10": [subjects == k for k in range(1, 11)],
    }
    lines = []
    for title, parts in masks.items():
        cells = [f"{100 * np.mean([a.quality[own].mean() for a in found]):.1f}" for own in parts]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    write_table("exercise-parts", ("quality (%)", *map(str, range(1, 11))), lines, PAGE)


def make_recognizer(
    trial: Trial,
    labels: NDArray[np.int64],
    subjects: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    link: Link,
) -> Recognizer:
    """Return the model of the subjects of some clips, with the link of all folds."""
    head = trial.regression.fit(int(subject) for subject in np.unique(subjects[chosen]))
    radius = float(np.quantile(trial.distances, KNOWN_SHARE))
    network = copy.deepcopy(trial.model.model)
    weight = link(head.weight.T, shift=False).T.astype(np.float32)
    bias = link(head.bias).astype(np.float32)
    network.set_classifier(torch.from_numpy(weight), torch.from_numpy(bias))  # type: ignore[operator]
    centers = find_centers(trial.features[:, chosen], labels[chosen]).astype(np.float32)
    network.unknown_head = UnknownLogit(torch.from_numpy(centers), SLOPE / radius, radius)
    header = replace(
        trial.model.header,
        num_classes=21,
        classes=[*(trial.model.header.classes or ()), UNKNOWN],
        unknown_centers=10,
        calibration={"threshold": 0.5, "background": 20},
        training={"coordinates": 3, "clips": int(chosen.sum())},
    )
    return Recognizer(network, header)


def write_unknown(recognizer: Recognizer, data: Path) -> dict[str, tuple[int, float]]:
    """Write the share of clips of other datasets that are unknown."""
    assessor = Assessor(recognizer)
    found = {}
    for name in OTHERS:
        clips = read_clips(data / name)
        rows = assessor.decode(recognizer.score(clips).logits)
        threshold = recognizer.calibration.threshold
        found[name] = len(clips), 100 * float(np.mean([row[1] < threshold for row in rows]))
    lines = [f"| {name} | {number} | {share:.1f} |" for name, (number, share) in found.items()]
    write_table("exercise-unknown", ("dataset", "clips", "unknown (%)"), lines, PAGE)
    return found


def write_deletion(
    trial: Trial,
    clips: Sequence[Clip],
    labels: NDArray[np.int64],
    subjects: NDArray[np.int64],
    link: Link,
) -> None:
    """Write the mean areas under the deletion curves of held-out clips, by method."""
    rng = np.random.default_rng(0)
    chosen = [rng.choice(np.flatnonzero(labels % 2 == q), EXPLAINED, replace=False) for q in (0, 1)]
    areas: dict[str, list[float]] = {name: [] for name in (*METHODS, "random")}
    for i in np.concatenate(chosen):
        model = make_recognizer(trial, labels, subjects, subjects != subjects[i], link)
        pair = [model.header.class_name(int(k)) for k in (labels[i], labels[i] ^ 1)]
        found = explain(model, clips[i], pair[0], against=pair[1])
        for name in METHODS:
            areas[name].append(found.curves[name].area)
        areas["random"].append(found.random.area)
    lines = []
    for name, own in areas.items():
        better = f"{100 * np.mean(np.array(own) < np.array(areas['random'])):.0f}"
        lines.append(f"| {name} | {np.mean(own):.3f} | {better if name in METHODS else '–'} |")
    header = ("order", "mean area under the curve", "clips with a smaller area than at random (%)")
    write_table("exercise-deletion", header, lines, PAGE)


def main() -> None:
    """Run all folds, write the tables, and with them the weights and the model card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/exercises"))
    parser.add_argument("--only", choices=["measure"])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    clips = read_clips(options.data / "ui_prmd", "ui_prmd", label="both")
    plan = READER.plan(options.data / "ui_prmd", {"label": "both"})
    header = make_header(plan.classes or ())
    labels, subjects = get_facts(clips)
    logits = []
    for seed in reversed(range(options.seeds)):  # the first seed remains
        trial = run_folds(clips, header, seed, options.out)
        logits.append(calibrate_folds(trial, labels, subjects))
        answers = Answers.of(logits[-1], labels)
        print(seed, answers.exercise.mean(), answers.quality.mean(), file=sys.stderr, flush=True)
    write_accuracy(logits, labels, subjects)
    link = fit_link(trial.logits, labels)
    recognizer = make_recognizer(trial, labels, subjects, subjects > 0, link)
    if not options.only:
        PRETRAINED_FOLDER.mkdir(exist_ok=True)
        path = PRETRAINED_FOLDER / f"{NAME}.safetensors"
        save_checkpoint(path, recognizer.model.state_dict(), recognizer.header)
        recognizer = Recognizer.load(path)
    unknown = write_unknown(recognizer, options.data)
    write_deletion(trial, clips, labels, subjects, link)
    if not options.only:
        text = render_card(path, trial, logits, labels, unknown)
        model_card(NAME).write_text(text, encoding="utf-8")


def render_card(
    path: Path,
    trial: Trial,
    logits: Sequence[NDArray[np.float64]],
    labels: NDArray[np.int64],
    unknown: dict[str, tuple[int, float]],
) -> str:
    """Return the text of the model card of a checkpoint."""
    found = [Answers.of(one, labels) for one in logits]
    return CARD.read_text(encoding="utf-8").format(
        exercises=", ".join(class_names("ui_prmd")),
        parameters=sum(p.numel() for p in trial.model.model.parameters()),
        kilobytes=path.stat().st_size // 1024,
        clips=len(labels),
        seeds=f"{len(found)} seeds" if len(found) > 1 else "one seed",
        exercise=mean_and_spread([100 * a.exercise.mean() for a in found]),
        quality=mean_and_spread([100 * a.quality.mean() for a in found]),
        error=mean_and_spread([100 * calibration_error(a, labels) for a in found]),
        unknown=", ".join(f"{name} {share:.0f} %" for name, (_, share) in unknown.items()),
        refused=round(100 * (1 - KNOWN_SHARE)),
        wrong=round(100 - 100 * float(np.mean([a.quality.mean() for a in found]))),
    )


if __name__ == "__main__":
    main()
