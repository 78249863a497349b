"""Synthetic dataset: human bodies, distinct actions, files like a sensor's, complete or absent."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.clips.intervals import parse_intervals
from kinegraph.errors import ReadError
from kinegraph.readers.ntu import reader as ntu
from kinegraph.readers.ntu.skeleton_file import read_skeleton
from kinegraph.readers.synthetic import reader as synthetic
from kinegraph.readers.synthetic.actions import ACTIONS, perform
from kinegraph.readers.synthetic.body import LEFT, RIGHT, BodyProportions, Pose, mirror_joints
from kinegraph.readers.synthetic.performer import MAX_TAKE_FRAMES, MIN_TAKE_FRAMES, Performer
from kinegraph.readers.synthetic.reader import DESCRIPTION_FILE, READER, write_dataset
from kinegraph.readers.synthetic.recordings import MAX_REST_FRAMES, MIN_REST_FRAMES, PAIR
from kinegraph.readers.synthetic.sensor import SYNTHETIC_CAMERAS, record_scene
from kinegraph.skeleton.layouts import get_layout

NTU = get_layout("ntu25")
J = {name: i for i, name in enumerate(NTU.joints)}
PEOPLE = [Performer.draw(np.random.default_rng(seed)) for seed in range(6)]


def scene(name: str, seed: int = 0) -> np.ndarray:
    """(M, T, 25, 3) of an action without any sensor."""
    who, partner = PEOPLE[seed % 6], PEOPLE[(seed + 1) % 6]
    return perform(ACTIONS[name], who, partner, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three performers: the third is the first that xsub tests on."""
    path = tmp_path_factory.mktemp("synthetic") / "raw"
    write_dataset(path, performers=3)
    return path


# --------------------------------------------------------------------- bodies


@pytest.mark.parametrize("name", ACTIONS)
def test_bones_keep_their_lengths(name):
    children, parents = np.array(NTU.bones).T
    for seed in range(6):
        joints = scene(name, seed)
        assert MIN_TAKE_FRAMES <= joints.shape[1] <= MAX_TAKE_FRAMES
        lengths = np.linalg.norm(joints[:, :, children] - joints[:, :, parents], axis=-1)
        assert np.ptp(lengths, axis=1).max() < 1e-9
        assert lengths.min() > 0.02


@pytest.mark.parametrize("name", ACTIONS)
def test_bodies_are_human(name):
    for seed in range(6):
        for person in scene(name, seed):
            upright = person[:, J["head"], 1] - person[:, J["spine_base"], 1]
            assert upright.min() > 0.05
            assert person[..., 1].min() > -0.03, "below the floor"
            lowest = person[:, [J["left_ankle"], J["right_ankle"]], 1].min(axis=1)
            assert lowest.max() < 0.2, "both feet in the air"


@pytest.mark.parametrize("name", ACTIONS)
def test_knees_bend_forward(name):
    for seed in range(6):
        for person in scene(name, seed):
            right = person[:, J["right_hip"]] - person[:, J["left_hip"]]
            for side in ("left", "right"):
                hip, knee, ankle = (person[:, J[f"{side}_{j}"]] for j in ("hip", "knee", "ankle"))
                # turning from thigh to shin, forward knees turn about the axis to the left
                bend = np.einsum("ti,ti->t", np.cross(knee - hip, ankle - knee), right)
                assert bend.max() < 1e-3


def test_a_standing_body_has_its_joints_in_order():
    joints = Pose(BodyProportions(), 1).joints()[0]
    spine = [joints[J[j], 1] for j in ("spine_base", "spine_mid", "spine_shoulder", "neck", "head")]
    assert spine == sorted(spine)
    assert joints[J["right_shoulder"], 0] > 0 > joints[J["left_shoulder"], 0]
    assert joints[J["right_foot"], 2] < joints[J["right_ankle"], 2]  # forward is -z


def test_performers_differ():
    heights = [who.body.hip_height for who in PEOPLE]
    assert max(heights) / min(heights) > 1.05
    assert len({who.tempo for who in PEOPLE}) == len(PEOPLE)


def test_a_mirrored_body_acts_with_the_other_hand():
    pose = Pose(BodyProportions(), 3)
    pose.hands[RIGHT] = pose.mouth
    joints = pose.joints()
    other = mirror_joints(joints)
    assert np.allclose(other[:, J["left_hand"]], joints[:, J["right_hand"]] * [-1, 1, 1])
    assert np.allclose(mirror_joints(other), joints)
    assert not np.allclose(pose.hands[LEFT], pose.hands[RIGHT])


# --------------------------------------------------------------------- actions


def test_there_are_twelve_actions_one_of_them_by_two():
    persons = {name: len(scene(name)) for name in ACTIONS}
    assert len(persons) == 12
    assert {name for name, count in persons.items() if count == 2} == {"push"}


def test_all_actions_are_distinct():
    ends = {}
    for name in ACTIONS:
        person = perform(ACTIONS[name], Performer(), Performer(), np.random.default_rng(5))[0]
        steps = np.linspace(0, len(person) - 1, 20).astype(int)
        ends[name] = (person - person[:1, :1])[steps]
    names = list(ends)
    for i, first in enumerate(names):
        for second in names[:i]:
            apart = np.linalg.norm(ends[first] - ends[second], axis=-1)
            assert apart.max() > 0.15, (first, second)


def closest(name: str, a: str, b: str) -> list[float]:
    """Over several takes, how near the joints a and b of either side come to each other."""
    near = []
    for seed in range(6):
        person = scene(name, seed)[0]
        pairs = [(J[a.format(side)], J[b.format(side)]) for side in ("left", "right")]
        gaps = [np.linalg.norm(person[:, i] - person[:, k], axis=-1).min() for i, k in pairs]
        near.append(min(gaps))
    return near


def test_hands_reach_what_the_action_is_about():
    assert max(closest("drink", "{}_hand", "head")) < 0.25
    assert max(closest("answer phone", "{}_hand", "head")) < 0.25
    assert max(closest("clap", "left_hand", "right_hand")) < 0.15
    assert min(closest("bow", "{}_hand", "head")) > 0.25


def test_a_push_reaches_the_other_person():
    for seed in range(6):
        pusher, pushed = scene("push", seed)
        tips = pusher[:, [J["left_hand_tip"], J["right_hand_tip"]]]
        # over the floor: a short person pushes a tall one lower
        gap = (tips - pushed[:, [J["spine_shoulder"]]])[..., [0, 2]]
        assert np.linalg.norm(gap, axis=-1).min() < 0.15
        middle = (pusher[0, J["spine_base"]] + pushed[0, J["spine_base"]]) / 2
        way = pushed[0, J["spine_base"]] - middle
        moved = pushed[-1, J["spine_base"]] - pushed[0, J["spine_base"]]
        assert moved @ way > 0, "pushed away, not drawn near"


def test_standing_up_ends_where_sitting_down_begins():
    for seed in range(6):
        down, up = scene("sit down", seed)[0], scene("stand up", seed)[0]
        drop = down[0, J["spine_base"], 1] - down[-1, J["spine_base"], 1]
        rise = up[-1, J["spine_base"], 1] - up[0, J["spine_base"], 1]
        assert drop > 0.2
        assert rise > 0.2


# --------------------------------------------------------------------- sensor


def test_cameras_stand_two_to_four_metres_away_and_see_a_person_the_right_way_up():
    standing = Pose(BodyProportions(), 1).joints()
    for camera in SYNTHETIC_CAMERAS.values():
        seen = camera.transform(standing)[0]
        assert 2 < seen[:, 2].min() < seen[:, 2].max() < 4
        assert seen[J["head"], 1] > seen[J["spine_base"], 1] > seen[J["left_foot"], 1]
        assert seen[J["right_shoulder"], 0] > seen[J["left_shoulder"], 0]
        near = NTU.index("left_knee"), NTU.index("left_ankle")
        assert np.isclose(
            np.linalg.norm(seen[near[0]] - seen[near[1]]),
            np.linalg.norm(standing[0, near[0]] - standing[0, near[1]]),
        )


def test_a_lost_joint_is_written_as_the_sensor_writes_it():
    lost = 0
    for seed in range(8):
        recording = record_scene(
            scene("clap", 0), SYNTHETIC_CAMERAS[1], 2**56, np.random.default_rng(seed)
        )
        values = np.stack([body.values for bodies in recording.frames for body in bodies])
        state = values[..., -1]
        assert set(np.unique(state)) <= {0, 1, 2}
        assert (values[state == 0] == 0).all()
        assert values[state > 0][:, :3].any(axis=1).all()
        lost += int((state == 0).sum())
    assert lost > 0


def test_noise_is_of_a_sensors_size():
    clean = scene("squat", 1)
    recording = record_scene(clean, SYNTHETIC_CAMERAS[2], 2**56, np.random.default_rng(0))
    values = np.stack([bodies[0].values for bodies in recording.frames])
    error = np.linalg.norm(values[..., :3] - SYNTHETIC_CAMERAS[2].transform(clean)[0], axis=-1)
    assert 0.003 < np.median(error[values[..., -1] == 2]) < 0.03


# --------------------------------------------------------------------- files


def test_files_are_ntu_files(folder):
    paths = sorted(folder.glob("*.skeleton"))
    assert len(paths) == 12 * 3 * 3
    assert paths[0].name == "S001C001P001R001A001.skeleton"
    content = paths[0].read_bytes()
    assert content.count(b"\r\n") == content.count(b"\n")
    recording = read_skeleton(paths[0])
    assert len(recording.frames) == int(content.split()[0])
    assert {len(body.id) for bodies in recording.frames for body in bodies} == {17}
    assert ntu.READER.matches(paths[0])
    assert not READER.matches(paths[0])


def test_every_clip_reads(folder):
    plan = READER.scan(folder)
    assert plan.classes == tuple(ACTIONS)
    assert plan.refused == ()
    missing = 0
    for task in plan.tasks:
        (clip,) = READER.read(task)
        assert MIN_TAKE_FRAMES <= clip.num_frames <= MAX_TAKE_FRAMES
        assert clip.num_frames == int(task.path.read_bytes().split(maxsplit=1)[0])
        assert clip.num_persons == (2 if plan.classes[clip.label] == "push" else 1)
        assert (clip.fps, clip.layout.name) == (30.0, "ntu25")
        assert clip.meta["camera"] in SYNTHETIC_CAMERAS
        assert not (clip.joints == 0).all(axis=-1).any()
        missing += int((~clip.valid).sum())
    assert missing > 0


def test_subjects_are_performers(folder):
    tasks = READER.scan(folder).tasks
    assert {task.info["subject"] for task in tasks} == {1, 2, 3}
    labels = [task.info["label"] for task in tasks if task.info["subject"] == 3]
    assert sorted(labels) == sorted([*range(12)] * 3)


def digest(folder: Path) -> dict[str, str]:
    """File name -> hash of its bytes."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_the_same_seed_gives_the_same_bytes(tmp_path, folder):
    write_dataset(tmp_path / "again", performers=1)
    write_dataset(tmp_path / "other", performers=1, seed=1)
    again, other = digest(tmp_path / "again"), digest(tmp_path / "other")
    assert again.pop(DESCRIPTION_FILE) != other.pop(DESCRIPTION_FILE)
    # further performers change nothing in the files of the first
    assert len(again) == 36
    assert again.items() <= digest(folder).items()
    assert not set(again.values()) & set(other.values())


# --------------------------------------------------------------------- scan


def test_a_scan_fills_a_new_or_empty_folder_once(tmp_path):
    for name in ("new", "empty"):
        source = tmp_path / name
        if name == "empty":
            source.mkdir()
        plan = READER.scan(source, performers=1, seed=3)
        assert len(plan.tasks) == 36
        made = json.loads((source / DESCRIPTION_FILE).read_text())
        assert (made["performers"], made["seed"]) == (1, 3)
        before = digest(source)
        assert READER.scan(source).tasks == plan.tasks
        assert digest(source) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "new"]


def test_a_single_file_reads(folder):
    path = folder / "S001C002P002R001A012.skeleton"
    (task,) = READER.scan(path).tasks
    (clip,) = READER.read(task)
    assert (clip.id, clip.label, clip.num_persons) == (path.stem, 11, 2)


def test_another_data_set_is_not_read_as_if_it_were_this(tmp_path, folder):
    assert len(READER.scan(folder, performers=3, seed=0).tasks) == 108
    with pytest.raises(ReadError, match="created with seed=0, not 7; choose another folder"):
        READER.scan(folder, seed=7)
    raw = tmp_path / "ntu"
    raw.mkdir()
    content = (folder / "S001C001P001R001A001.skeleton").read_bytes()
    (raw / "S001C001P001R001A001.skeleton").write_bytes(content)
    (raw / "S001C001P001R001A050.skeleton").write_bytes(content)
    plan = READER.scan(raw)
    assert [task.path.stem for task in plan.tasks] == ["S001C001P001R001A001"]
    assert "not one of the 12 synthetic ones" in plan.refused[0][1]
    with pytest.raises(ReadError, match="cannot read the options of the recordings there"):
        READER.scan(raw, seed=0)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ReadError, match=r"expected \.skeleton or \.skeleton\.npy files"):
        READER.scan(tmp_path)
    with pytest.raises(ReadError, match="expected a new or an empty folder"):
        write_dataset(tmp_path)
    with pytest.raises(ReadError, match=r"expected \.skeleton or"):
        READER.scan(tmp_path / "S001C001P001R001A001.skeleton")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"performers": 0}, "expected performers to be a whole number from 1 to 999, got 0"),
        ({"performers": 1000}, "from 1 to 999, got 1000"),
        ({"performers": True}, "got True"),
        ({"performers": "many"}, "got 'many'"),
        ({"replications": 0}, "expected replications to be a whole number"),
        ({"seed": -1}, "expected seed to be a whole number from 0 to 4294967295, got -1"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, message):
    with pytest.raises(ReadError, match=message):
        READER.scan(tmp_path / "new", **options)
    assert not list(tmp_path.iterdir())


class Interrupted(BaseException):
    """An interrupt like Ctrl-C that the test itself raises."""


@pytest.mark.parametrize(
    ("failure", "seen"), [(Interrupted, Interrupted), (OSError("disk full"), ReadError)]
)
def test_an_interrupted_generation_leaves_nothing(tmp_path, monkeypatch, failure, seen):
    written = []

    def write_some(path, recording):
        if len(written) == 5:
            raise failure
        written.append(path)
        path.write_bytes(b"half")

    monkeypatch.setattr(synthetic, "write_skeleton", write_some)
    with pytest.raises(seen):
        write_dataset(tmp_path / "raw", performers=1)
    assert len(written) == 5
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReadError, match="cannot write the synthetic dataset"):
        write_dataset(tmp_path / "file" / "raw", performers=1)


def test_recordings_join_the_takes_of_a_performer_with_rests(tmp_path: Path) -> None:
    def clips(what: str) -> list[Clip]:
        plan = READER.scan(tmp_path / "raw", performers=1, what=what)
        return [clip for task in plan.tasks for clip in READER.read(task) if isinstance(clip, Clip)]

    recordings, takes = clips("recordings"), clips("takes")
    assert [clip.id for clip in recordings] == [f"S001C00{c}P001R001" for c in (1, 2, 3)]
    for recording in recordings:
        intervals = parse_intervals(recording.meta, recording.num_frames) or ()
        # all actions but the mutual one, which needs two persons
        assert sorted(i.label for i in intervals) == [*range(11)]
        own = {t.label: t for t in takes if t.meta["camera"] == recording.meta["camera"]}
        end = 0
        for label, start, stop in intervals:
            assert MIN_REST_FRAMES <= start - end <= MAX_REST_FRAMES
            np.testing.assert_array_equal(recording.joints[0, start:stop], own[label].joints[0])
            end = stop
        labels = [i.label for i in intervals]
        first, second = (list(ACTIONS).index(name) for name in PAIR)
        assert labels.index(second) == labels.index(first) + 1
