"""The data of CTR-GCN and PYSKL from raw recordings, against figures of the released arrays."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.readers import get_reader, iterate_clips
from kinegraph.transforms import Pipeline, to_array
from kinegraph.transforms.registry import View

CENTER = {"center": {"joint": "spine_mid", "frame": "first"}}
ZEROS = {"zero_missing": {"persons": 2}}
STREAMS = {"j": "joint", "b": "bone", "jm": "joint_motion", "bm": "bone_motion"}
UPRIGHT = {"prenormalize_pyskl": {"half": True}}
CENTERED = {"prenormalize_pyskl": {"half": True, "align_spine": False}}


@cache
def expected(name: str) -> dict[str, Any]:
    return json.loads(real_data(f"weights/reference/pipelines/{name}.json").read_text())


def recordings() -> dict[str, Path]:
    folders = [real_data("ntu_samples_more"), real_data("ntu_samples")]
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.skeleton"))}


def read(path: Path, **options: Any) -> Clip:
    reader = get_reader("ntu")
    (clip,) = iterate_clips(reader, reader.plan(path, options).tasks)
    return clip


def size(array: np.ndarray) -> float:
    return float(np.abs(array.astype(np.float64)).sum())


def test_ctrgcn_on_ntu() -> None:
    steps = [CENTER, ZEROS, {"crop_resize": {"frames": 64}}]
    for name, path in recordings().items():
        facts = expected("ctrgcn_ntu")[name]
        clip = read(path, persons="ctrgcn", faithful=True)
        assert clip.num_frames == facts["frames"]
        aligned = Pipeline.from_list([CENTER, ZEROS])(clip)
        assert size(aligned.joints) == pytest.approx(facts["aligned_abs"], rel=1e-7)
        x = to_array(Pipeline.from_list(steps)(clip), 2)
        assert list(x.shape) == facts["test_input"]["shape"]
        assert size(x) == pytest.approx(facts["test_input"]["abs"], rel=1e-7)
        assert float(x.sum(dtype=np.float64)) == pytest.approx(facts["test_input"]["sum"], rel=1e-6)
        for place, values in facts["test_input"]["v"].items():
            t, v, m = map(int, place.strip("[]:,").split(","))
            np.testing.assert_allclose(x[:, t, v, m], values, atol=1e-6)
        bones = Pipeline.from_list([*steps, {"stream": {"bones": "ntu25"}}], "bone")(clip)
        assert size(bones.joints) == pytest.approx(facts["bone_abs"], rel=1e-7)
        copied = Pipeline.from_list([CENTER, "copy_single_person", ZEROS])(clip)
        second = facts.get("ntu120_second_person_abs")
        if facts["bodies"] == 1 and second is not None:
            assert size(copied.joints[1]) == pytest.approx(second, rel=1e-7)


UCLA_STEPS = [
    {"center": {"joint": "spine", "frame": "first"}}, {"random_view": {"faithful": True}}, "minmax",
    {"random_frames": {"frames": 52, "copies": 100}}, "stream",
]  # fmt: skip


def ucla_clips(names: set[str] | None = None) -> list[Clip]:
    """Return the test clips of these names, default all."""
    reader = get_reader("nw_ucla")
    tasks = reader.plan(real_data("nw_ucla"), {}).tasks
    wanted = [t for t in tasks if "v03" in t.path.stem and (not names or t.path.stem in names)]
    return list(iterate_clips(reader, wanted))


def test_ctrgcn_on_test_clips_of_nw_ucla() -> None:
    facts = expected("ctrgcn_ucla")
    clips = ucla_clips({name for name in facts["j"] if name.startswith("a")})
    assert len(clips) == 5
    for short, stream in STREAMS.items():
        pipeline = Pipeline.from_list(UCLA_STEPS, stream)
        for clip in clips:
            found = facts[short][clip.id]
            joints = pipeline(clip).joints
            assert size(joints) == pytest.approx(found["abs"], rel=1e-6)
            assert abs(float(joints.sum(dtype=np.float64)) - found["sum"]) < 1e-6 * found["abs"]


@pytest.mark.slow
def test_ctrgcn_on_all_test_clips_of_nw_ucla() -> None:
    facts, clips = expected("ctrgcn_ucla"), ucla_clips()
    assert len(clips) == 464
    for short, stream in STREAMS.items():
        pipeline = Pipeline.from_list(UCLA_STEPS, stream)
        total = sum(size(pipeline(clip).joints) for clip in clips)
        assert total == pytest.approx(facts[short]["_all_464"]["abs"], rel=1e-7)


@pytest.mark.parametrize(
    ("family", "first", "decode", "tolerance"),
    [("stgcn++", UPRIGHT, False, 1e-6), ("dgstgcn", CENTERED, True, 1e-4)],
)
def test_pyskl_on_ntu(family: str, first: dict, decode: bool, tolerance: float) -> None:
    for name, path in recordings().items():
        facts = expected("pyskl_ntu")[name]
        clip = read(path, persons="pyskl")
        stored = np.nan_to_num(clip.joints).astype(np.float16)
        assert list(stored.shape) == facts["annotation"]["shape"]
        assert size(stored) == facts["annotation"]["abs"]
        normal = Pipeline.from_list([first, ZEROS])(clip)
        assert size(normal.joints) == pytest.approx(facts[f"{family}_prenorm"]["abs"], rel=1e-6)
        joints = normal.joints[0, 0, [0, 1, 4, 8]]
        listed = facts[f"{family}_prenorm"]["first_frame_joints_0_1_4_8"]
        np.testing.assert_allclose(joints, listed, atol=1e-6)
        sampler = {"uniform_sample": {"frames": 100, "decode": decode}}
        for short, stream in STREAMS.items():
            steps = [first, ZEROS, {"stream": {"bones": "ntu25"}}, sampler]
            pipeline = Pipeline.from_list(steps, stream)
            x = np.stack([to_array(pipeline(clip, view=View(i, 10)), 2) for i in range(10)])
            found = facts[f"{family}_{short}_input"]
            rel = 1e-7 if short == "j" and family == "dgstgcn" else tolerance
            assert size(x) == pytest.approx(found["abs"], rel=rel)
            assert abs(float(x.sum(dtype=np.float64)) - found["sum"]) < rel * found["abs"]
