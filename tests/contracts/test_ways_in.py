"""Every way in gives the same answer to a recording, whatever its layout and space."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest
import torch
from websockets.sync.client import connect

from cli.test_cli import run
from kinegraph.clips.clip import Clip
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import ClipError, ModelError
from kinegraph.inference.answer import accepted_action
from kinegraph.inference.predict import Predictor, predict_files
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import open_session
from kinegraph.models import create_model
from kinegraph.server.protocol import HEADER, MAGIC, PERSON_HEADER
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import IMAGE_SHARES, Space
from kinegraph.training.checkpoint import CheckpointHeader, save_checkpoint
from kinegraph.transforms.convert_layout import convert_layout
from server.serving import running

FRAMES = 40
FAST = {"frame_rate": 1000.0, "max_queued_frames": 100}
PIXELS = Space("image", unit="pixel")
MODEL = "penn-action"


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer.load(MODEL)


def body(layout: str, coordinates: int) -> np.ndarray:
    """Return (1, T, V, D) of a person who raises both arms, in pixels, y and z of an image."""
    points = {
        "head": (0, -150), "nose": (0, -150), "shoulder": (30, -100), "elbow": (45, -50),
        "wrist": (50, 0), "hip": (20, 0), "knee": (22, 80), "ankle": (24, 150),
    }  # fmt: skip
    joints = get_layout("penn13").joints
    base = np.zeros((1, FRAMES, 13, 3), np.float32)
    for index, name in enumerate(joints):
        x, y = points[name.split("_")[-1]]
        side = 1 if name.startswith("left") else -1
        lift = np.linspace(0, 150, FRAMES) * ("wrist" in name) + np.linspace(0, 60, FRAMES) * (
            "elbow" in name
        )
        base[0, :, index] = np.stack(
            [np.full(FRAMES, 320 + side * x), 240 + y - lift, np.full(FRAMES, 5.0)], axis=-1
        )
    clip = Clip(base[..., :coordinates], get_layout("penn13"), space=PIXELS)
    return convert_layout(clip, layout).joints


def recordings() -> dict[str, Clip]:
    """Return the same movement as sensors and pose estimators give it."""
    solid = body("mediapipe33", 3)
    clips = {
        "coco17 pixels": Clip(body("coco17", 2), get_layout("coco17"), space=PIXELS),
        "mediapipe33 x, y, z": Clip(solid, get_layout("mediapipe33"), space=PIXELS),
    }
    axes = {"y up": ("y", 1, -1), "y down": ("-y", 1, 1)}
    for name, (up, x, y) in axes.items():
        world = solid * np.array([x, y, 1], np.float32)
        if up == "y":  # right-handed: x to the sensor's left
            world = world * np.array([-1, 1, 1], np.float32)
        space = Space("world", up, handedness="right", unit="mm")
        clips[f"mm, {name}"] = Clip(world, get_layout("mediapipe33"), space=space)
    return {name: replace(clip, id="one", fps=30.0) for name, clip in clips.items()}


CLIPS = recordings()


def push(recognizer, clip: Clip, mode: str, layout=None, space=None) -> np.ndarray:
    """Return the logits of a session that was given the clip frame by frame."""
    layout, space = layout or clip.layout, space or clip.space
    session = open_session(recognizer, mode, None, 1000, layout=layout, space=space)
    for t in range(clip.num_frames):
        session.push(clip.joints[:, t])
    prediction = session.flush()
    return prediction.logits


@pytest.mark.parametrize("name", CLIPS)
def test_recordings_of_one_movement_get_one_answer(recognizer, name):
    wanted = recognizer(CLIPS["coco17 pixels"]).logits
    np.testing.assert_allclose(recognizer(CLIPS[name]).logits, wanted, atol=1e-3)


@pytest.mark.parametrize("name", CLIPS)
def test_sessions_answer_as_predict(recognizer, name):
    clip = CLIPS[name]
    logits = push(recognizer, clip, "window")
    np.testing.assert_allclose(logits, recognizer(clip).logits, atol=1e-5)
    plain = recognizer.pipeline.convert_layout(recognizer.preprocessor.fit(clip))
    steps = push(recognizer, plain, "step", recognizer.layout, recognizer.frame_space)
    np.testing.assert_allclose(push(recognizer, clip, "step"), steps, atol=1e-5)


@pytest.mark.parametrize("name", ["coco17 pixels", "mm, y down"])
def test_files_stores_and_streams_answer_alike(capsys, monkeypatch, tmp_path, recognizer, name):
    clip = CLIPS[name]
    np.save(tmp_path / "one.npy", clip.joints)
    options = {
        "coco17 pixels": ["--layout", "coco17"],
        "mm, y down": ["--layout", "mediapipe33", "--space", "world", "--up=-y", "--unit", "mm"],
    }[name]
    with StoreWriter(tmp_path / "one.arrow", clip.layout) as writer:
        writer.write(clip)
    wanted = recognizer(clip)
    for command in (
        ("predict", MODEL, tmp_path / "one.npy", *options),
        ("predict", MODEL, tmp_path / "one.arrow"),
    ):
        code, out, _ = run(capsys, *command, "--json")
        assert code == 0
        np.testing.assert_allclose(json.loads(out)["logits"], wanted.logits, atol=1e-5)
    lines = "\n".join(json.dumps(lists(clip.joints[:, t])) for t in range(FRAMES))
    told = []
    for source in ("-", tmp_path / "one.npy"):
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        more = ("--json", "--mode", "window", "--window", "all", "--every", 1000)
        code, out, err = run(capsys, "stream", MODEL, source, *options, *more)
        assert code == 0 and (("[guess]" in err) == ("mm" not in name))
        told.append(json.loads(out.splitlines()[-1])["probability"])
    assert told == pytest.approx([accepted_action(wanted)["probability"]] * 2, abs=1e-5)


@pytest.fixture(scope="module")
def server(recognizer):
    with running(recognizer=recognizer, mode="window", window=None, every=FRAMES, **FAST) as one:
        yield one


def lists(joints: np.ndarray) -> list:
    """Return joints for JSON, with null where a joint is absent."""
    return json.loads(json.dumps(joints.tolist()).replace("NaN", "null"))


def stated(clip: Clip) -> dict:
    """Return layout and space of a clip as clients state them."""
    space = clip.space
    fields = {"kind": space.kind, "up": space.up, "unit": space.unit}
    kept = {key: value for key, value in fields.items() if value is not None}
    return {"layout": clip.layout.name, "space": kept}


@pytest.mark.parametrize("name", CLIPS)
def test_the_server_answers_as_predict(server, recognizer, name):
    clip = CLIPS[name]
    wanted = recognizer(clip).logits
    body = {"joints": lists(clip.joints), **stated(clip)}
    told = httpx.post(f"{server.url}/v1/predict", json=body)
    assert told.status_code == 200 and "read_as" not in told.json()
    np.testing.assert_allclose(told.json()["logits"], wanted, atol=1e-5)
    archive = io.BytesIO()
    np.savez(archive, joints=clip.joints)
    address = {"layout": clip.layout.name, "space": json.dumps(stated(clip)["space"])}
    headers = {"content-type": "application/x-npz"}
    told = httpx.post(
        f"{server.url}/v1/predict", params=address, content=archive.getvalue(), headers=headers
    )
    np.testing.assert_allclose(told.json()["logits"], wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["coco17 pixels", "mm, y down"])
@pytest.mark.parametrize("form", ["json", "binary"])
def test_a_websocket_answers_as_predict(server, recognizer, name, form):
    clip = CLIPS[name]
    query = urlencode(
        {"layout": clip.layout.name, "space": json.dumps(stated(clip)["space"]), "logits": True}
    )
    address = server.stream + ("?logits=true" if form == "json" else f"?{query}")
    with connect(address) as socket:
        for t, joints in enumerate(clip.joints[0]):
            if form == "binary":
                head = HEADER.pack(MAGIC, 0, 1, 1) + PERSON_HEADER.pack(1, t / 30)
                socket.send(head + joints.astype("<f4").tobytes())
            else:
                more = stated(clip) if t == 0 else {}
                socket.send(json.dumps({"person": 1, "joints": lists(joints), **more}))
            assert "error" not in json.loads(socket.recv(5))
        socket.send(json.dumps({"person": 1, "flush": True}))
        logits = json.loads(socket.recv(5))["logits"]
    np.testing.assert_allclose(logits, recognizer(clip).logits, atol=1e-5)


def test_the_server_states_its_space_and_refuses_what_is_not_stated(server):
    space = httpx.get(f"{server.url}/v1/model").json()["space"]
    assert (space["kind"], space["unit"]) == ("image", "pixel")
    assert space["description"].startswith("image (y down), pixel")
    body = {"joints": [[[1.0, 2.0, 0.5]] * 17] * 3, "layout": "coco17"}
    told = httpx.post(f"{server.url}/v1/predict", json=body)
    assert told.status_code == 400 and "'coco17' is a layout of images" in told.json()["error"]
    body["space"] = {"kind": "world", "upp": "y"}
    told = httpx.post(f"{server.url}/v1/predict", json=body)
    assert told.status_code == 400 and '"space" to be image, world' in told.json()["error"]
    told = httpx.post(f"{server.url}/v1/predict?layout=coco71", json=body)
    assert told.status_code == 400 and "did you mean 'coco17'" in told.json()["error"]


def test_a_guess_of_the_server_is_in_its_answer(server, recognizer):
    clip = CLIPS["mediapipe33 x, y, z"]
    body = {"joints": lists(clip.joints), "layout": "mediapipe33"}
    told = httpx.post(f"{server.url}/v1/predict", json=body).json()
    assert "image (y down), pixel, as recorded [guess]" in told["read_as"]
    np.testing.assert_allclose(told["logits"], recognizer(clip).logits, atol=1e-5)


def test_a_person_whose_frames_cannot_be_converted_is_not_admitted(server):
    with connect(server.stream) as socket:
        for more, message in (
            ({"layout": "hand21"}, "no joint in common"),
            ({"layout": "coco17", "space": "image"}, "state the unit"),
            ({"space": {"kind": "world"}}, "needs the axis that points up"),
        ):
            socket.send(json.dumps({"person": 1, "joints": [[1, 2]] * 17, **more}))
            assert message in json.loads(socket.recv(5))["error"]
    assert server.service.persons == 0


def test_a_reader_says_what_its_coordinates_mean(capsys):
    code, out, _ = run(capsys, "list", "readers", "florence3d")
    assert code == 0 and "world (y up, z away, right-handed), mm" in out
    code, out, _ = run(capsys, "list", "readers", "arrays")
    assert code == 0 and "printed as a guess" in " ".join(out.split()) and "--up" in out
    code, _, err = run(capsys, "list", "readers", "florence")
    assert code == 2 and "did you mean 'florence3d'" in err


@pytest.mark.parametrize("way", ["predict", "stream", "watch"])
def test_a_model_of_shares_needs_the_size_of_the_image(capsys, tmp_path, way):
    """As in the demo of ST-GCN: an OpenPose folder and a model of Kinetics-skeleton."""
    torch.manual_seed(0)
    layout = get_layout("openpose18")
    options = {"channels": [8], "strides": [1], "faithful": True}
    model = create_model("stgcn", layout=layout, num_classes=3, in_channels=3, **options)
    header = CheckpointHeader(
        model={"name": "stgcn", "options": options},
        layout=layout.to_dict(),
        num_classes=3,
        in_channels=3,
        classes=["a", "b", "c"],
        persons=2,
        confidence=True,
        transforms=["kinetics_normalize"],
        space=IMAGE_SHARES.to_dict(),
        stream="joint",
        reader={"name": "kinetics", "options": {}},
        recipe={},
        training={"coordinates": 2},
        versions={},
    )
    path = tmp_path / "kinetics.safetensors"
    save_checkpoint(path, model.state_dict(), header)
    folder = tmp_path / "clip"
    folder.mkdir()
    body25 = np.concatenate([body("body25", 2)[0], np.ones((FRAMES, 25, 1))], axis=-1)
    for t, pose in enumerate(np.nan_to_num(body25)):
        people = [{"pose_keypoints_2d": pose.ravel().tolist()}]
        (folder / f"v_{t:012d}_keypoints.json").write_text(json.dumps({"people": people}))
    command = (way, folder, "--model", path) if way == "watch" else (way, path, folder)
    code, out, err = run(capsys, *command)
    assert code == 2 and "state the size of the image (width and height" in err
    code, out, _ = run(capsys, *command, "--width", 640, "--height", 480)
    assert code == 0 and out


def test_a_guess_is_printed_once_and_never_between_the_answers(capsys, tmp_path):
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", CLIPS["coco17 pixels"].joints)
    code, out, err = run(capsys, "predict", MODEL, tmp_path, "--layout", "coco17", "--json")
    assert code == 0 and err.count("[guess]") == 1
    assert all(json.loads(line)["id"] for line in out.splitlines())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "of 17 joints are coco17"),
        (("--layout", "coco17", "--width", "640"), "both or none"),
        (("--layout", "coco17", "--unit", "share"), "state the size of the image"),
        (("--layout", "coco17", "--unit", "mile"), "have no unit 'mile'"),
        (("--layout", "coco17", "--prepared", "x"), "unknown preparation 'x'"),
        (("--layout", "hand21"), "layout 'hand21' has 21 joints"),
        (("--reader", "ntu", "--up=-y"), "unknown option of reader 'ntu': 'up'"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(capsys, tmp_path, options, message):
    np.save(tmp_path / "one.npy", CLIPS["coco17 pixels"].joints)
    code, out, err = run(capsys, "predict", MODEL, tmp_path / "one.npy", *options)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_a_store_states_its_own_space(capsys, tmp_path, tiny_store, tiny_run):
    code, out, err = run(capsys, "predict", tiny_run, tiny_store, "--up", "y")
    assert (code, out) == (2, "") and "is a store, which states the up of its clips" in err


def test_shares_become_pixels_by_the_size_that_is_stated(tmp_path, recognizer):
    clip = CLIPS["coco17 pixels"]
    np.save(tmp_path / "one.npy", clip.joints / np.array([640, 480], np.float32))
    stated = {"layout": "coco17", "unit": "share", "width": 640, "height": 480}
    (told,) = predict_files(Predictor(recognizer, None, 1), [tmp_path / "one.npy"], None, stated)
    np.testing.assert_allclose(told["logits"], recognizer(clip).logits, atol=1e-3)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"layout": "coco17", "space": "image"}, "state the unit"),
        ({"layout": "coco17", "space": {"kind": "image", "unit": "share"}}, "size of the image"),
        ({"layout": "hand21"}, "no joint in common"),
        (
            {"space": {"kind": "image", "unit": "pixel", "prepared": "agcn"}},
            "prepared as by 'agcn'",
        ),
    ],
)
def test_a_session_is_refused_when_it_opens(recognizer, stated, message):
    with pytest.raises(ModelError, match=message):
        open_session(recognizer, **stated)


def test_a_third_number_is_not_taken_for_a_depth(recognizer):
    session = open_session(recognizer, layout="coco17")
    with pytest.raises(ClipError, match="does not state what they mean"):
        session.push(np.zeros((17, 3)))
    session.push(np.ones((17, 2)))
    assert session.frames == 1


def test_frames_as_those_of_the_model_are_not_converted(recognizer):
    session = open_session(recognizer, layout=recognizer.layout, space=recognizer.space)
    assert session._pool._streams[0].converter is None
