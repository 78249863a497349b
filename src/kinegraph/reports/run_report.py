"""The report of a run, collected from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from kinegraph.clips.clip import Clip
from kinegraph.clips.scores import Scores
from kinegraph.clips.store import ClipStore
from kinegraph.inference.evaluate import Evaluation
from kinegraph.inference.evaluate_segmentation import LabeledSegmentation
from kinegraph.inference.explain import explain
from kinegraph.inference.pose_errors import PoseErrors
from kinegraph.inference.recognizer import Recognizer
from kinegraph.reports.draw_explanation import draw_heat_map
from kinegraph.reports.draw_run import draw_training_curves
from kinegraph.reports.model_figures import clip_figures, model_figures
from kinegraph.reports.page import RunReport, write_report
from kinegraph.training.checkpoint import CheckpointHeader, load_model, training_seconds
from kinegraph.training.history import read_history
from kinegraph.training.recipe import SELECTION_FOLDER

MAX_CORRECT_CLIPS, MAX_WRONG_CLIPS = 3, 5
MAX_EXPLAINED_CLIPS = 2


def write_run_report(
    run: Path,
    scores: Scores | None,
    evaluation: Evaluation | None,
    poses: PoseErrors | None = None,
    recordings: Sequence[LabeledSegmentation] = (),
) -> Path:
    """Write report.html into the folder of a run that was evaluated on its test split.

    Args:
        scores: of the test split, if the run classifies.
        evaluation: of the same scores.
        poses: errors on the test split, if the run predicts poses.
        recordings: of the test split, if the run names the actions of frames.

    Returns:
        The report's path.
    """
    model, header = load_model(run)
    history = _read_curves(run)
    clips = _shown_clips(header, scores) if scores else []
    parameters = sum(p.numel() for p in model.parameters())
    recipe, training = header.recipe, header.training
    selection = training.get("selection")
    epochs = f"{training['epoch'] + 1} of {recipe['train']['epochs']}"
    if selection:
        epochs = (
            f"{selection['epochs']} of {selection['of']}, selected with {selection['held_out']} "
            f"held-out clips (curves below); then trained anew on all clips"
        )
    report = RunReport(
        title=recipe["name"],
        facts={
            "data": f"{recipe['store']}, protocol {recipe['protocol']}",
            "model": f"{header.model['name']}, {parameters:,} parameters",
            "input": f"{header.stream}, persons: {header.persons}, layout {header.layout['name']}",
            "training clips": f"{training['clips']}, held out for validation: "
            f"{training['held_out']}",
            "epoch": epochs,
            "training time": f"{training_seconds(run) / 60:.1f} minutes",
            **_speed_fact(history),
        },
        history=history,
        evaluations={"test": evaluation} if evaluation else {},
        poses={"test": poses} if poses else {},
        recordings={"test": recordings} if recordings else {},
        clips=clips,
        explanations=_explain_mistakes(run, clips),
        recipe_text=(run / "recipe.yaml").read_text(encoding="utf-8"),
        environment=json.loads((run / "environment.json").read_text(encoding="utf-8")),
        model=model_figures(model) | clip_figures(run),
    )
    return write_report(report, run / "report.html")


def _explain_mistakes(
    run: Path, clips: Sequence[tuple[Clip, list[tuple[str, float]], str]]
) -> dict[str, Figure]:
    """Return the importance of joints in the most confident mistakes, by clip id."""
    wrong = [clip for clip, candidates, truth in clips if candidates[0][0] != truth]
    if not wrong:
        return {}
    recognizer = Recognizer.load(run)
    return {
        clip.id: draw_heat_map(explain(recognizer, clip)) for clip in wrong[:MAX_EXPLAINED_CLIPS]
    }


def run_figures(run: Path, clip_id: str | None = None) -> dict[str, Figure]:
    """Return the training curves of a run and the figures of its model, by file name."""
    model, _ = load_model(run)
    figures = model_figures(model) | clip_figures(run, clip_id)
    named = {name.lower().replace(",", "").replace(" ", "-"): f for name, f in figures.items()}
    return {"curves": draw_training_curves(_read_curves(run)), **named}


def _read_curves(run: Path) -> list[dict[str, float]]:
    """Return the history of the training with held-out clips, if there was one beside the last."""
    selection = run / SELECTION_FOLDER
    return read_history(selection if selection.is_dir() else run)


def _speed_fact(history: Sequence[Mapping[str, float]]) -> dict[str, str]:
    rates = [row["clips_per_second"] for row in history if "clips_per_second" in row]
    return {"training speed": f"{np.median(rates):.0f} clips/s"} if rates else {}


def _shown_clips(
    header: CheckpointHeader, scores: Scores
) -> list[tuple[Clip, list[tuple[str, float]], str]]:
    """Return correct clips of different classes, then the most confident errors."""
    store = ClipStore(Path(header.recipe["store"]))
    probabilities = scores.probabilities
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != scores.labels)
    wrong = wrong[np.argsort(-probabilities[wrong].max(axis=1))][:MAX_WRONG_CLIPS]
    _, first_of_class = np.unique(scores.labels, return_index=True)
    correct = first_of_class[predicted[first_of_class] == scores.labels[first_of_class]]
    count = min(MAX_CORRECT_CLIPS, len(correct))
    correct = correct[np.linspace(0, len(correct) - 1, count, dtype=int)]
    shown = []
    for i in [*correct, *wrong]:
        order = np.argsort(-probabilities[i])[:3]
        candidates = [(header.class_name(int(k)), float(probabilities[i, k])) for k in order]
        truth = header.class_name(int(scores.labels[i]))
        shown.append((store[store.find(scores.ids[i])], candidates, truth))
    return shown
