"""The files of a model for the browser: its network, its preprocessing and its pose estimator."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from kinegraph.errors import ExportError
from kinegraph.files import atomic_write
from kinegraph.inference import counting
from kinegraph.inference.backends.exported_model import ExportedModel, StateSpec
from kinegraph.inference.backends.runtimes import FORMATS
from kinegraph.inference.export.parity import BOUNDS
from kinegraph.inference.export.trace import TracedNetwork, trace_steps
from kinegraph.inference.export.writers import writer
from kinegraph.inference.frame_converter import open_converter
from kinegraph.inference.online_preprocessing import OnlinePreprocessor
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import window_frames
from kinegraph.runtime.fuse import relative_error
from kinegraph.runtime.network import PersonNetwork
from kinegraph.runtime.streams import open_streams
from kinegraph.skeleton.joint_mapping import map_joints
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import Space
from kinegraph.transforms.input_streams import parse_stream
from kinegraph.transforms.normalize import limb_ends, trunk_joints
from kinegraph.video.estimators import movenet
from kinegraph.video.motion import MIN_PRESENCE, SETTLING_FRAMES, STILL_MOTION
from kinegraph.video.pipeline import (
    MAX_FRAME_SECONDS,
    MIN_VISIBLE_SECONDS,
    PREDICTION_INTERVAL_FRAMES,
    ActionPipeline,
)
from kinegraph.video.resample import MAX_GAP_S
from kinegraph.video.segmentation import HYSTERESIS, MAIN_NAMED_SHARE, MAIN_SHARE, MIN_DURATION
from kinegraph.video.sources import FPS
from kinegraph.video.tracking import (
    DISTANCE_GROWTH,
    MATCH_DISTANCE,
    MAX_EXTRAPOLATION_S,
    MIN_LEAD,
    SIZE_DECAY,
    VELOCITY_MEMORY_S,
    Tracker,
)

SETTINGS_FILE, ACTIONS_FILE, POSES_FILE = "recognition.json", "actions.onnx", "poses.onnx"
MODEL_FILES = (SETTINGS_FILE, ACTIONS_FILE, POSES_FILE)
POSE_LAYOUT = "coco17"
"""Layout of the poses of MoveNet, which the page runs."""

StepSettings = Callable[[Mapping[str, Any], SkeletonLayout], dict[str, Any]]

#: The transforms that the page's JavaScript computes: their options, and what it needs of a layout.
_STEP_SETTINGS: dict[str, StepSettings] = {
    "forget_confidence": lambda options, _: {"threshold": options.get("threshold", 0.0)},
    "body_normalize": lambda options, layout: {
        "lead": options.get("lead", 0.0),
        "trunk": trunk_joints(layout.joints),
        "limbs": list(zip(*limb_ends(layout.joints), strict=True)),
    },
    "hold_missing": lambda _, __: {},
}
_STREAM_PARTS = {"joint", "bone"}


def write_web_model(recognizer: Recognizer, poses: Path, folder: Path) -> None:
    """Write the files that the page needs to recognize actions without a server.

    The network is compared with the model before it is written.

    Args:
        recognizer: a model that runs frame by frame.
        poses: the ONNX file of MoveNet.
        folder: an existing folder.

    Raises:
        ExportError: the page cannot run the model, a package is missing, or the exported network
            differs from the model.
        KinegraphError: the model cannot recognize persons of a video, see `ActionPipeline`.
    """
    network = _require_network(recognizer)
    window = window_frames(recognizer.header, "auto", FPS)
    traced = trace_steps(network, recognizer.header.persons, window)
    settings = describe_model(recognizer, traced.interface.kept)
    try:
        with tempfile.TemporaryDirectory(prefix=".web.", dir=folder) as draft:
            actions = Path(draft) / ACTIONS_FILE
            writer(traced, "onnx", "fp32", None)(actions, "{}")
            _verify(traced, network, actions)
            actions.replace(folder / ACTIONS_FILE)
            shutil.copyfile(poses, Path(draft) / POSES_FILE)
            (Path(draft) / POSES_FILE).replace(folder / POSES_FILE)
    except OSError as error:
        raise ExportError(f"cannot write {folder}: {error.strerror or error}") from error
    atomic_write(folder / SETTINGS_FILE, json.dumps(settings))


def skeleton_payload(layout: SkeletonLayout, people: int) -> dict[str, Any]:
    """Return the layout of skeletons, what the page needs to draw them, and how many there are."""
    sides = [
        joint.partition("_")[0] if joint.startswith(("left_", "right_")) else "trunk"
        for joint in layout.joints
    ]
    bones = [[a, b] for a, b in layout.bones]
    return {
        "layout": layout.name,
        "joints": list(layout.joints),
        "bones": bones,
        "sides": sides,
        "people": people,
    }


def _require_network(recognizer: Recognizer) -> PersonNetwork:
    """Return the step network, if the page can run the model and its preprocessing.

    Raises:
        ExportError: it cannot.
    """
    if isinstance(recognizer.model, ExportedModel):
        raise ExportError("an exported file cannot be exported again: name the run that it is from")
    ActionPipeline(recognizer, get_layout(POSE_LAYOUT))  # raises if it cannot take persons alone
    OnlinePreprocessor(recognizer)  # raises if a transform needs the whole clip
    network = recognizer.step_network
    if network is None:
        open_streams(recognizer.model, "step")  # raises an error that gives the reason
        raise ExportError("the model does not run frame by frame")
    names = [name for name, _ in recognizer.pipeline.without_length_steps().steps]
    unknown = [name for name in names if name not in {*_STEP_SETTINGS, "layout", "stream"}]
    parts = set(parse_stream(recognizer.pipeline.stream)) - _STREAM_PARTS
    unknown += [f"stream {part}" for part in sorted(parts)]
    if unknown or (names and names[-1] != "stream"):
        raise ExportError(
            f"the page does not compute the transforms {', '.join(unknown or names)} of this run "
            f"(it computes {', '.join(_STEP_SETTINGS)}, then the streams joint and bone): serve "
            "the model with poses on the server"
        )
    pixels = Space("image", unit="pixel")
    meta = {"width": 2, "height": 2}
    if open_converter(recognizer, None, pixels, meta, in_steps=True) is not None:
        raise ExportError(
            f"the page gives joints in pixels, the model was trained on "
            f"{recognizer.frame_space.describe()}: serve it with poses on the server"
        )
    return network


def describe_model(recognizer: Recognizer, state: Sequence[StateSpec]) -> dict[str, Any]:
    """Return what the page's scripts need to know; page/recognition/types.js states its types.

    Args:
        recognizer: the model.
        state: the state of the exported step network.

    Raises:
        ExportError: the page cannot run the model.
        KinegraphError: the model cannot recognize persons of a video, see `ActionPipeline`.
    """
    network = _require_network(recognizer)
    header, layout, poses = recognizer.header, recognizer.layout, get_layout(POSE_LAYOUT)
    return {
        "classes": [header.class_name(i) for i in range(header.num_classes)],
        "calibration": asdict(recognizer.calibration),
        "skeleton": skeleton_payload(poses, movenet.MODEL_PERSONS),
        "poses": {
            "input_pixels": movenet.INPUT_PIXELS,
            "input_step": movenet.INPUT_STEP,
            "min_person_score": movenet.MIN_PERSON_SCORE,
            "min_joint_score": movenet.MIN_JOINT_SCORE,
        },
        "mapping": map_joints(poses, layout),
        "tracker": describe_tracker(Tracker()),
        "resampler": {"fps": FPS, "max_gap": MAX_GAP_S},
        "segmenter": {
            "min_duration": MIN_DURATION,
            "hysteresis": HYSTERESIS,
            "main_share": MAIN_SHARE,
            "main_named_share": MAIN_NAMED_SHARE,
        },
        "pipeline": {
            "window": header.stream_window_seconds,
            "interval": PREDICTION_INTERVAL_FRAMES,
            "max_frame": MAX_FRAME_SECONDS,
            "min_visible": MIN_VISIBLE_SECONDS,
        },
        "motion": {
            "still": STILL_MOTION,
            "settling": SETTLING_FRAMES,
            "min_presence": MIN_PRESENCE,
        },
        "counter": describe_counter(),
        "steps": list(_step_settings(recognizer)),
        "network": {
            "hop": network.hop,
            "delay": network.delay,
            "channels": header.in_channels,
            "joints": layout.num_joints,
            "persons": header.persons,
            "confidence": header.confidence,
            "state": [_state_settings(spec) for spec in state],
        },
    }


def describe_counter() -> dict[str, float]:
    """Return the constants of counting for the page's scripts."""
    return {
        "min_size": counting.MIN_SIZE,
        "turn_share": counting.TURN_SHARE,
        "leave_share": counting.LEAVE_SHARE,
        "close_share": counting.CLOSE_SHARE,
        "max_travel": counting.MAX_TRAVEL,
        "full_share": counting.FULL_SHARE,
        "min_likeness": counting.MIN_LIKENESS,
        "smoothing": counting.SMOOTHING_S,
        "max_absence": counting.MAX_ABSENCE_S,
        "max_way": counting.MAX_WAY_S,
        "min_way": counting.MIN_WAY_S,
        "max_way_cycles": counting.MAX_WAY_CYCLES,
        "max_kinds": counting.MAX_KINDS,
        "size_memory": counting.SIZE_MEMORY_S,
    }


def describe_tracker(tracker: Tracker) -> dict[str, float]:
    """Return the options of a tracker for the page's scripts."""
    return {
        "persons": tracker.persons,
        "gap": tracker.gap,
        "match_distance": MATCH_DISTANCE,
        "distance_growth": DISTANCE_GROWTH,
        "min_lead": MIN_LEAD,
        "velocity_memory": VELOCITY_MEMORY_S,
        "size_decay": SIZE_DECAY,
        "max_extrapolation": MAX_EXTRAPOLATION_S,
        "max_gap": MAX_GAP_S,
    }


def _step_settings(recognizer: Recognizer) -> Iterator[dict[str, Any]]:
    """Yield the transforms of each frame, with what they need of the layout."""
    pipeline, layout = recognizer.pipeline.without_length_steps(), recognizer.layout
    for name, options in pipeline.steps:
        if name in _STEP_SETTINGS:
            yield {"name": name, **_STEP_SETTINGS[name](options, layout)}
    parts = parse_stream(pipeline.stream)
    yield {"name": "stream", "parts": parts, "parents": layout.parents}


def _state_settings(spec: StateSpec) -> dict[str, Any]:
    """Return the initial state for JSON, which has no infinite numbers."""
    fill = spec.fill if math.isfinite(spec.fill) else f"{spec.fill}inity"
    return {"shape": spec.shape, "dtype": spec.dtype, "fill": fill}


def _verify(traced: TracedNetwork, network: PersonNetwork, path: Path) -> None:
    """Compare the exported network with the original on random clips, shorter than the window.

    Raises:
        ExportError: the logits differ, or onnxruntime is not installed.
    """
    run = FORMATS["onnx"].open(path, "fp32")
    shape = 4, network.in_channels, 40, network.layout.num_joints, traced.interface.persons or 1
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        error = relative_error(traced.interface.compute(run, x), network(x))
    if not error <= BOUNDS["fp32"].relative:
        raise ExportError(f"the exported network differs from the model by {error:.1e}")
