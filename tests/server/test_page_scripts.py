"""The scripts of the page compute what the Python code computes, on the same numbers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

import kinegraph as kg
from kinegraph.inference.answer import Candidate, Prediction
from kinegraph.inference.counting import RepetitionCounter
from kinegraph.inference.online_preprocessing import FrameValidator, OnlinePreprocessor
from kinegraph.server.web_model import (
    describe_counter,
    describe_model,
    describe_tracker,
    write_web_model,
)
from kinegraph.skeleton.joint_mapping import convert_joints
from kinegraph.skeleton.space import Space
from kinegraph.video.estimators.base import PoseFrame
from kinegraph.video.estimators.movenet import MovenetPoses
from kinegraph.video.motion import MIN_PRESENCE, STILL_MOTION, measure_motion
from kinegraph.video.pipeline import ActionPipeline
from kinegraph.video.resample import MAX_GAP_S, FrameResampler
from kinegraph.video.segmentation import ActionSegmenter, dominant_action
from kinegraph.video.sources import FPS
from kinegraph.video.tracking import Tracker
from server.node import PAGE, frame_payload, pose_payload, run_node, runtime_folder, to_array

COCO = kg.get_layout("coco17")
WIDTH, HEIGHT = 640, 480


@pytest.fixture(scope="module")
def recognizer():
    return kg.load_pretrained("penn-action")


@pytest.fixture(scope="module")
def settings(recognizer):
    return json.loads(json.dumps(describe_model(recognizer, ())))


def walkers(seed: int, seconds: float, persons: int = 3, swing: float = 18.0) -> list[PoseFrame]:
    """Return persons who swing their limbs, cross, leave for a while, and lose joints."""
    rng = np.random.default_rng(seed)
    body = rng.normal(0, 1, (persons, 17, 2)) * (25, 60)
    speed, phase = rng.normal(0, 40, (persons, 1, 2)), rng.uniform(0, 6, (persons, 17, 1))
    start = rng.uniform(0.2, 0.8, (persons, 1, 2)) * (WIDTH, HEIGHT)
    times = np.cumsum(rng.choice([1 / 30, 1 / 25, 0.08, 0.3], int(seconds * 15)))
    frames = []
    for time in times[times < seconds].tolist():
        limbs = swing * np.sin(4 * time + phase)
        noise = rng.normal(0, 1, body.shape) * min(1.0, swing)
        joints = start + speed * time + body + limbs + noise
        shown = [m for m in rng.permutation(persons) if not 3 + m < time < 4.5 + m]
        shown = [m for m in shown if rng.random() > 0.06]
        confidence = rng.uniform(0.2, 1, (persons, 17))
        hidden = rng.random((persons, 17)) < 0.15
        joints[hidden], confidence[hidden] = np.nan, 0
        shown = [m for m in shown if not hidden[m].all()]
        frames.append(
            PoseFrame(
                time,
                joints[shown].astype(np.float32),
                confidence[shown].astype(np.float32),
                WIDTH,
                HEIGHT,
            )
        )
    return frames


@pytest.mark.parametrize("seed", range(4))
def test_tracks_are_numbered_alike(seed):
    frames = walkers(seed, 12, persons=2 + seed)
    tracker = Tracker(persons=3)
    expected = [[pose.person for pose in tracker(frame)] for frame in frames]
    assert max(n for numbers in expected for n in numbers) > 2  # some are new
    code = """
        const { Tracker } = await load("recognition/tracking.js");
        const tracker = new Tracker(data.settings);
        const track = (frame) => tracker.update(toFrame(frame)).map(({ person }) => person);
        print(data.frames.map(track));
    """
    data = {"settings": describe_tracker(tracker), "frames": [frame_payload(f) for f in frames]}
    assert run_node(code, data) == expected


def test_assignments_are_of_minimal_cost():
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(0)
    shapes = [(1, 1), (1, 4), (4, 1), (3, 3), (5, 8), (8, 5), (10, 10)]
    costs = [rng.uniform(0, 9, shape) for shape in shapes for _ in range(5)]
    code = """
        const { assign } = await load("recognition/assignment.js");
        print(data.map(assign));
    """
    found = run_node(code, [cost.tolist() for cost in costs])
    for cost, pairs in zip(costs, found, strict=True):
        assert pairs == np.transpose(linear_sum_assignment(cost)).tolist()
    assert run_node(code, [[], [[]]]) == [[], []]


def test_poses_are_resampled_alike():
    frames = [frame for frame in walkers(5, 9, persons=1) if len(frame.joints)]
    resampler, code = (
        FrameResampler(FPS),
        """
        const { FrameResampler } = await load("recognition/resampling.js");
        const resampler = new FrameResampler(data.fps, data.gap);
        const update = ({ time, poses }) => [...resampler.update(time, toPose(poses[0]))];
        print(data.frames.flatMap(update));
    """,
    )
    data = {"fps": FPS, "gap": MAX_GAP_S, "frames": [frame_payload(frame) for frame in frames]}
    found = run_node(code, data)
    made = [one for f in frames for one in resampler(f.time, f.joints[0], f.confidence[0])]
    assert len(found) == len(made) > 200
    for got, (joints, confidence) in zip(found, made, strict=True):
        np.testing.assert_allclose(to_array(got["joints"]), joints, rtol=1e-5)
        np.testing.assert_allclose(got["confidence"], confidence, atol=1e-6)


def test_frames_are_prepared_alike(recognizer, settings):
    frames = [frame for frame in walkers(6, 20, persons=1) if len(frame.joints)]
    preprocess, history = OnlinePreprocessor(recognizer), None
    validate, expected = FrameValidator(recognizer), []
    for frame in frames:
        joints, confidence = convert_joints(frame.joints, COCO, recognizer.layout, frame.confidence)
        valid = validate(joints, confidence, "frame", {}, Space("image", unit="pixel"))
        arrays, history = preprocess([valid], history or [preprocess.initial_history()])
        expected.append(arrays[0][..., 0])
    code = """
        const { Preprocessor } = await load("recognition/preprocessing.js");
        const { convertJoints } = await load("recognition/joint_mapping.js");
        const { mapping, network, steps } = data.settings;
        const preprocessor = new Preprocessor(steps, network);
        const convert = (frame) => convertJoints(toPose(frame.poses[0]), mapping);
        print(data.frames.map((frame) => preprocessor.update(convert(frame))));
    """
    data = {"settings": settings, "frames": [frame_payload(frame) for frame in frames]}
    found = np.array(run_node(code, data)).reshape(np.shape(expected))
    assert np.abs(np.array(expected)).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_predictions_are_segmented_alike(recognizer, settings):
    rng = np.random.default_rng(7)
    header, threshold = recognizer.header, recognizer.calibration.threshold
    predictions, shares = [], rng.dirichlet(np.full(15, 0.1))
    for _ in range(300):
        if rng.random() < 0.15:
            shares = rng.dirichlet(np.full(15, 0.1))
        noisy = 0.9 * shares + 0.1 * rng.dirichlet(np.full(15, 0.3))
        order = np.argsort(-noisy)
        made = tuple(Candidate(int(i), header.class_name(int(i)), float(noisy[i])) for i in order)
        predictions.append(
            Prediction("", made, np.zeros(16, np.float32), made[0].probability >= threshold)
        )
    segmenter, ended = ActionSegmenter(2, recognizer), []
    for t, prediction in enumerate(predictions):
        ended += segmenter(t / 4, (t + 1) / 4, prediction, is_still=t % 50 < 6)
    ended += segmenter.finish()
    assert len({segment.label for segment in ended}) > 3
    code = """
        const { ActionSegmenter, dominantAction } = await load("recognition/segmentation.js");
        const segmenter = new ActionSegmenter(2, data.settings);
        const add = (one, t) => segmenter.update(t / 4, (t + 1) / 4, one, t % 50 < 6);
        const ended = data.predictions.flatMap(add);
        ended.push(...segmenter.finish());
        const { segmenter: settings } = data.settings;
        const firsts = ended.map((_, i) => dominantAction(ended.slice(0, i), settings));
        print({ ended, firsts });
    """
    payload = [
        {
            "candidates": [vars(candidate) for candidate in one.candidates],
            "accepted": one.accepted and vars(one.accepted),
        }
        for one in predictions
    ]
    found = run_node(code, {"settings": settings, "predictions": payload})
    assert_same_segments(found["ended"], ended)
    for count, main in enumerate(found["firsts"]):
        expected = dominant_action(ended[:count])
        assert (main["label"], main["name"]) == (expected.label, expected.name)
        assert main["probability"] == pytest.approx(expected.probability)


@pytest.mark.parametrize("swing", [0.0, 3.0, 18.0])
def test_motion_is_measured_alike(swing):
    shown = [frame for frame in walkers(9, 4, persons=1, swing=swing) if len(frame.joints)]
    frames = [frame.joints[0] for frame in shown]
    frames += [np.full((17, 2), np.nan, np.float32)]
    code = """
        const { measureMotion } = await load("recognition/motion.js");
        const joints = data.frames.map((one) => toPose(one).joints);
        print([measureMotion(joints, data.presence), measureMotion(joints.slice(-1), 0.5)]);
    """
    poses = [pose_payload(joints, np.ones(17)) for joints in frames]
    found, none = run_node(code, {"frames": poses, "presence": MIN_PRESENCE})
    assert found == pytest.approx(measure_motion(frames), rel=1e-6) and none == 0
    assert (found < STILL_MOTION) == (swing == 0)


def exercises(seed: int) -> list[np.ndarray]:
    """Return joints of squats, a pause, raised arms, absences and a walk, with noise."""
    rng = np.random.default_rng(seed)
    body = rng.uniform(0, 1, (17, 2)) * (60, 200) + (300, 150)
    period, n = rng.uniform(1.2, 2.5), rng.integers(3, 7)
    frames = []
    for part in ("squat", "still", "raise", "absent", "raise", "walk", "small"):
        seconds = {"still": 2.0, "absent": 1.5, "walk": 3.0}.get(part, n * period)
        t = np.arange(int(seconds * FPS)) / FPS
        share = (0.5 - 0.5 * np.cos(2 * np.pi * t / period))[:, None]
        joints = np.tile(body, (len(t), 1, 1))
        moved = slice(0, 11) if part == "squat" else slice(5, 8)
        size = {"squat": 70, "raise": 90, "small": 25}.get(part, 0)
        joints[:, moved, 1] += share * (size if part == "squat" else -size)
        joints[..., 0] += 40 * t[:, None] * (part == "walk")
        joints += rng.normal(0, 1.5, joints.shape)
        joints[rng.random(joints.shape[:2]) < 0.05] = np.nan
        frames += [*np.where(part == "absent", np.nan, joints)]
    return frames


@pytest.mark.parametrize("seed", range(6))
def test_repetitions_are_counted_alike(seed):
    frames = exercises(seed)
    seconds = len(frames) / FPS
    counter, expected = RepetitionCounter(FPS, 0.5), []
    for frame in frames:
        since = counter.push(frame) and counter.count_since(seconds / 3)
        expected.append([counter.count, since])
    result = counter.result()
    spans = [(0, 99), (0, seconds / 2), (seconds / 2, 99)]
    assert counter.count > 6
    code = """
        const { RepetitionCounter } = await load("recognition/counting.js");
        const counter = new RepetitionCounter(data.fps, 0.5, data.settings);
        const counts = data.frames.map((frame) => {
          counter.push(toPose(frame).joints);
          return [counter.countSince(0), counter.countSince(data.third)];
        });
        print({ counts, between: data.spans.map(([from, to]) => counter.countBetween(from, to)) });
    """
    data = {
        "fps": FPS,
        "settings": describe_counter(),
        "frames": [pose_payload(frame, np.ones(17)) for frame in frames],
        "third": seconds / 3,
        "spans": spans,
    }
    found = run_node(code, data)
    assert found["counts"] == expected
    assert found["between"] == [result.between(*span) for span in spans]
    # a single movement counts at the end only
    single = {**data, "frames": data["frames"][: int(len(frames) / 40)]}
    assert run_node(code, single)["counts"][-1] == [0, 0]


def assert_same_segments(found, expected, seconds: float = 1e-9) -> None:
    assert len(found) == len(expected)
    for got, segment in zip(found, expected, strict=True):
        assert (got["person"], got["label"], got["name"]) == (
            segment.person,
            segment.label,
            segment.name,
        )
        assert got["start"] == pytest.approx(segment.start, abs=seconds)
        assert got["end"] == pytest.approx(segment.end, abs=seconds)
        assert got["probability"] == pytest.approx(segment.probability, abs=1e-4)
        assert got["repetitions"] == segment.repetitions


def test_every_text_on_a_color_has_enough_contrast():
    code = """
        const { contrast, labelColor, personColor, textOn } = await load("colors.js");
        const labels = [...Array(300).keys()], persons = [...Array(12).keys()];
        const themes = [true, false];
        const colors = labels.flatMap((label) => themes.map((dark) => labelColor(label, dark)));
        const onBlack = (person) => contrast(personColor(person + 1), [0, 0, 0]);
        print({
          segments: Math.min(...colors.map((color) => contrast(color, textOn(color)))),
          labels: Math.min(...persons.map(onBlack)),
          known: contrast([1, 1, 1], [0, 0, 0]),
        });
    """
    found = run_node(code, None)
    assert found["known"] == pytest.approx(21)
    assert found["segments"] >= 4.5 and found["labels"] >= 4.5


def test_results_are_exported_like_those_of_watch():
    code = """
        const { Results } = await load("results.js");
        const results = new Results(), joints = [];
        const person = { person: 1, joints, label: 2, name: "a_b", probability: 0.75 };
        person.repetitions = 3;
        results.add({ time: 0.1, persons: [person], segments: [] });
        const segment = { ...person, start: 0, end: 2.00049, probability: 0.87654321 };
        segment.repetitions = 4;
        segment.name = '=a "b", c';
        results.add({ time: 3, persons: [person], segments: [segment] });
        results.startConnection();
        results.finish({ segments: [], main: { label: 2, name: "a_b", probability: 0.5 } });
        print({ offset: results.offset, json: results.toJson(), csv: results.toCsv() });
    """
    found = run_node(code, None)
    assert found["offset"] == 1
    first, second = found["json"]["segments"]
    assert first == {
        "person": 1, "start": 0, "end": 2, "label": 2, "name": '=a "b", c', "probability": 0.8765,
        "repetitions": 4,
    }  # fmt: skip
    assert (second["start"], second["end"], second["name"]) == (2, 3, "a_b")  # was still open
    assert second["repetitions"] == 3
    assert found["csv"].splitlines()[:2] == [
        "person,start,end,name,probability,repetitions",
        '1,0,2,"\'=a ""b"", c",0.8765,4',
    ]


def test_open_segments_share_the_repetitions_of_a_person():
    code = """
        const { Results } = await load("results.js");
        const results = new Results();
        const add = (time, name, repetitions, segments = []) => {
          const person = { person: 1, joints: [], label: 0, name, probability: 1, repetitions };
          results.add({ time, persons: [person], segments });
        };
        add(1, "squat", 2);
        add(2, "squat", 3);
        add(3, "wave", 3);
        add(4, "wave", 5);
        const toPair = ({ name, repetitions }) => [name, repetitions];
        const counts = () => results.open.get(1).map(toPair);
        const before = counts();
        const squat = { person: 1, label: 0, name: "squat", probability: 1, repetitions: 3 };
        add(5, "wave", 2, [{ ...squat, start: 0, end: 2 }]);
        print([before, counts()]);
    """
    assert run_node(code, None) == [[["squat", 3], ["wave", 2]], [["wave", 2]]]


def test_a_take_is_the_person_who_is_visible_longest():
    code = """
        const { Takes } = await load("takes.js");
        const takes = new Takes(), errors = [];
        const person = (number, x) => ({ person: number, joints: [[x, 1.26], null] });
        takes.add(0, [person(1, 5)]);
        takes.start();
        for (let t = 0; t < 21; t++) {
          takes.add(1 + t / 20, t < 5 ? [person(1, 5), person(2, t)] : [person(2, t)]);
        }
        errors.push(takes.stop("jump", "coco17"));
        takes.start();
        errors.push(takes.stop("jump", "coco17"));
        print({ errors, body: JSON.parse(takes.toJson()) });
    """
    found = run_node(code, None)
    assert found["errors"] == ["", "The take is too short, or no person is visible in it."]
    (take,) = found["body"]["examples"]["jump"]
    assert take["joints"] == [[[t, 1.3], None] for t in range(21)]
    assert (take["fps"], take["layout"]) == (pytest.approx(20), "coco17")
    assert take["space"] == {"kind": "image", "unit": "pixel"}


@pytest.mark.slow
def test_the_whole_pipeline_answers_alike(recognizer, tmp_path):
    folder = runtime_folder()
    pytest.importorskip("onnxscript", reason="THE EXTRA export IS ABSENT")
    (tmp_path / "poses.onnx").touch()
    write_web_model(recognizer, tmp_path / "poses.onnx", tmp_path)
    frames = walkers(8, 9, persons=2)
    pipeline = ActionPipeline(recognizer, COCO)
    ended, logits = [], []
    for frame in frames:
        ended += pipeline(frame)[1]
        logits.append([one.logits for _, one in sorted(pipeline.latest().items())])
    ended += pipeline.finish()
    code = """
        const ort = await import("RUNTIME/ort.wasm.min.mjs");
        const { ActionPipeline } = await load("recognition/pipeline.js");
        const { StreamingSession } = await load("recognition/session.js");
        ort.env.wasm.numThreads = 1;
        const folder = process.argv[1];
        const settings = JSON.parse(readFileSync(folder + "/recognition.json", "utf8"));
        const bytes = readFileSync(folder + "/actions.onnx");
        const network = await ort.InferenceSession.create(bytes, { logSeverityLevel: 3 });
        const open = () => new StreamingSession(settings, network, ort.Tensor);
        const pipeline = new ActionPipeline(settings, open);
        const ended = [], logits = [];
        for (const frame of data) {
          ended.push(...(await pipeline.update(toFrame(frame))).segments);
          const known = [...pipeline.persons.values()].sort((a, b) => a.number - b.number);
          logits.push(known.flatMap(({ prediction }) => (prediction ? [prediction.logits] : [])));
        }
        ended.push(...(await pipeline.finish()));
        print({ ended, logits });
    """
    code = code.replace("RUNTIME", folder.as_uri())
    found = run_node(code, [frame_payload(frame) for frame in frames], str(tmp_path))
    assert_same_segments(found["ended"], ended, 1e-6)
    counts = [len(known) for known in logits]
    assert [len(known) for known in found["logits"]] == counts and max(counts) > 1
    for got, expected in zip(found["logits"], logits, strict=True):
        if expected:
            scale = np.abs(expected).max()
            np.testing.assert_allclose(got, expected, atol=1e-4 * scale)


def test_types_of_the_scripts_are_consistent(tmp_path):
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip(
            "TSC IS ABSENT: the types of the page's scripts are not checked (npm i -g typescript)"
        )
    options = {
        "allowJs": True, "checkJs": True, "noEmit": True, "strict": True, "skipLibCheck": True,
        "target": "ES2023", "module": "ESNext", "moduleResolution": "bundler", "types": [],
        "lib": ["ES2023", "DOM", "DOM.Iterable"],
    }  # fmt: skip
    config = {"compilerOptions": options, "include": [f"{PAGE}/**/*.js"]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(config))
    done = subprocess.run([tsc, "-p", str(tmp_path)], capture_output=True, text=True, check=False)
    own = [
        line
        for line in done.stdout.splitlines()
        if "error TS" in line and "/vendor/" not in line and "onnxruntime" not in line
    ]
    assert not own, "\n".join(own)


def test_rows_of_movenet_become_the_same_poses(settings):
    rng = np.random.default_rng(10)
    rows = np.concatenate([rng.uniform(-0.1, 1.2, (6, 51)), rng.uniform(0, 1, (6, 5))], axis=1)
    rows[:, 2:51:3] = rng.uniform(0, 1.05, (6, 17))
    rows[4, -1], rows[5, 2:51:3] = 0.1, 0.0
    rows = rows.astype(np.float32)
    estimator = MovenetPoses.__new__(MovenetPoses)
    estimator.layout, estimator.people = COCO, 6
    estimator._session = SimpleNamespace(run=lambda *_: [rows[None]])
    expected = estimator(np.zeros((300, 500, 3), np.uint8), 0.0)
    code = """
        const { decodePoses } = await load("recognition/movenet.js");
        const rows = Float32Array.from(data.rows.flat());
        print(decodePoses(rows, data.settings, data.extent, [500, 300]));
    """
    scale = np.array([256 / 500, 154 / 300])  # 300 pixels become 153.6
    extent = (np.array([256, 160]) / scale).tolist()
    data = {"rows": rows.tolist(), "settings": settings["poses"], "extent": extent}
    found = run_node(code, data)
    assert 3 <= len(found) == len(expected.joints)
    for got, joints, confidence in zip(found, expected.joints, expected.confidence, strict=True):
        np.testing.assert_allclose(to_array(got["joints"]), joints, rtol=1e-5)
        np.testing.assert_allclose(got["confidence"], confidence, rtol=1e-6)


@pytest.mark.parametrize("theme", [0, 1])
def test_colors_of_the_page_have_enough_contrast(theme):
    css = (PAGE / "page.css").read_text()
    colors: dict[str, str] = {}
    for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)[: theme + 1]:
        colors |= dict(re.findall(r"--(\w+): (#\w+);", block))
    pairs = [(text, ground) for text in ("ink", "muted", "blue") for ground in ("paper", "soft")]
    code = """
        const { contrast } = await load("colors.js");
        const toNumbers = (color) => {
          const short = color.length === 4;
          const digits = color.slice(1).replace(/./g, short ? "$&$&" : "$&");
          return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16) / 255);
        };
        print(data.map((pair) => contrast(...pair.map(toNumbers))));
    """
    found = run_node(code, [[colors[text], colors[ground]] for text, ground in pairs])
    assert not [pair for pair, ratio in zip(pairs, found, strict=True) if ratio < 4.5]
