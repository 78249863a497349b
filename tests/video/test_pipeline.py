"""`kinegraph watch` from the file to the last line, the film and the page."""

from __future__ import annotations

import gc
import json
import re

import numpy as np
import pytest

from cli.test_cli import run
from kinegraph.inference.recognizer import Recognizer
from kinegraph.skeleton import get_layout
from kinegraph.video import sources
from kinegraph.video.decode import VideoFile, VideoFrame
from kinegraph.video.estimators.base import PoseFrame
from kinegraph.video.pipeline import ActionPipeline
from video.synthetic_videos import GrayLevelEstimator, gray_level, picture, require_av, write_video
from video.test_events import receiving
from video.test_sources import openpose


@pytest.fixture(autouse=True)
def poses(monkeypatch):
    """Poses without a network, whatever the name."""
    monkeypatch.setattr(sources, "load_estimator", lambda _, people: GrayLevelEstimator(people))


def film(path, *parts, fps=10):
    """A film of (label, seconds)."""
    require_av()
    images = [picture(gray_level(label)) for label, s in parts for _ in range(round(s * fps))]
    return write_video(path, images, fps=fps)


def watched(capsys, *words):
    """(exit code, the object on the last line, standard error)."""
    code, out, err = run(capsys, "watch", *words, "--json")
    return code, json.loads(out.splitlines()[-1]) if out else None, err


def test_the_last_line_says_who_did_what_and_what_filled_the_video(capsys, tmp_path, tiny_run):
    path = film(tmp_path / "a.mp4", (0, 8), (2, 14))
    code, told, err = watched(capsys, path, "--model", tiny_run)
    assert (code, err) == (0, "")
    assert set(told) == {"main", "segments"}
    assert set(told["main"]) == {"label", "name", "probability"}
    assert (told["main"]["label"], told["main"]["name"]) == (2, "away")
    assert 0.3 < told["main"]["probability"] <= 1
    names = [segment["name"] for segment in told["segments"]]
    assert (names[0], names[-1]) == ("here", "away") and len(names) <= 3
    first, last = told["segments"][0], told["segments"][-1]
    assert set(first) == {
        "person", "start", "end", "label", "name", "probability", "repetitions",
    }  # fmt: skip
    assert (first["person"], first["start"]) == (1, 0)
    assert last["start"] == pytest.approx(8, abs=2)
    assert last["end"] == pytest.approx(22, abs=0.1)


def test_segments_are_events_of_a_file_and_a_webhook(capsys, tmp_path, tiny_run):
    path, file = film(tmp_path / "a.mp4", (0, 8), (2, 14)), tmp_path / "events.jsonl"
    with receiving(503) as (url, receiver):
        words = ("--model", tiny_run, "--events", file, "--webhook", url)
        code, told, err = watched(capsys, path, *words)
    assert (code, err) == (0, "")
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [json.loads(body) for status, _, body in receiver.posts if status == 204] == events
    assert events and {event.pop("source") for event in events} == {"a.mp4"}
    assert all(event.pop("id") for event in events) and events == told["segments"]
    code, _, err = run(capsys, "watch", path, "--model", tiny_run, "--webhook", "example.org")
    assert code == 2 and "expected a webhook such as" in err


def test_lines_for_people(capsys, tmp_path, tiny_run):
    code, out, _ = run(capsys, "watch", film(tmp_path / "a.mp4", (1, 5)), "--model", tiny_run)
    assert code == 0
    first, last = out.splitlines()
    assert re.fullmatch(r" +0\.0 s - +5\.0 s  person 1  there \d+%", first)
    assert re.fullmatch(r"dominant action: there \d+%, 5\.0 s of 5\.0 s", last)


def test_an_estimator_of_one_person_is_reported(capsys, tmp_path, tiny_run):
    path = film(tmp_path / "a.mp4", (1, 2))
    for people, reported in ((1, True), (2, False)):
        code, told, err = watched(capsys, path, "--model", tiny_run, "--people", people)
        assert code == 0 and told["segments"] and ("one person at a time" in err) == reported


def test_the_film_is_as_long_and_large_as_the_video(capsys, tmp_path, tiny_run):
    path = film(tmp_path / "a.mp4", (0, 3), (-1, 1), (0, 3))
    out = tmp_path / "new" / "folder" / "b.mp4"
    code, _, _ = run(capsys, "watch", path, "--model", tiny_run, "--out", out)
    assert code == 0
    given, made = VideoFile(path), VideoFile(out)
    assert (made.width, made.height) == (given.width, given.height)
    assert made.duration == pytest.approx(given.duration, abs=0.01)
    before, after = list(given), list(made)
    assert [p.time for p in before] == pytest.approx([p.time for p in after], abs=1e-3)
    changed = [
        np.abs(a.image.astype(int) - b.image).mean() for a, b in zip(before, after, strict=True)
    ]
    assert changed[10] > 2 * changed[35]  # nobody is drawn where nobody is


def test_the_page_needs_nothing_else(capsys, tmp_path, tiny_run):
    path = film(tmp_path / "a&b.mp4", (0, 4), (1, 4))
    page = tmp_path / "p.html"
    code, _, _ = run(capsys, "watch", path, "--model", tiny_run, "--page", page)
    text = page.read_text()
    assert code == 0 and "a&amp;b.mp4" in text
    assert text.count("data:image/jpeg;base64,") >= 2 and "data:image/svg+xml" in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text) and "<script" not in text
    assert "here" in text and "there" in text


def test_a_video_without_persons(capsys, tmp_path, tiny_run):
    path = film(tmp_path / "a.mp4", (-1, 2))
    page, out = tmp_path / "p.html", tmp_path / "b.mp4"
    code, told, err = watched(capsys, path, "--model", tiny_run, "--page", page, "--out", out)
    assert code == 0
    assert told == {"main": {"label": None, "name": "unknown", "probability": 0}, "segments": []}
    assert err.startswith("kinegraph: no person is visible in a.mp4")
    assert page.is_file() and VideoFile(out).frame_count == 20


def test_several_persons_of_openpose_have_numbers(capsys, tmp_path, tiny_run):
    places = {n: [(0, 0), (300 - n, 0)] for n in range(90) if n not in range(40, 50)}
    folder = openpose(tmp_path / "v", places | {45: None})
    out = tmp_path / "b.mp4"
    code, told, err = watched(capsys, folder, "--model", tiny_run, "--out", out)
    assert code == 0 and "1 of 81 files were skipped" in err
    assert {segment["person"] for segment in told["segments"]} == {1, 2}
    assert max(s["end"] for s in told["segments"]) == pytest.approx(3, abs=0.05)
    assert VideoFile(out).frame_count == 81


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{tmp}/nothing.mp4"], "found no such file"),
        (["{film}", "--out", "{tmp}"], "expected an output file that ends in .mp4"),
        (["{film}", "--page", "{tmp}/x.pdf"], "expected an output file that ends in .html"),
        (["{film}", "--out", "{film}"], "write to another file"),
        (["{film}", "--out", "{film}/in/b.mp4"], "cannot create the folder"),
        (["{film}", "--model", "{tmp}/none"], "does not exist"),
        (["{tmp}"], "expected frames named like"),
    ],
)
def test_what_cannot_be_is_one_sentence(capsys, tmp_path, tiny_run, words, said):
    path = film(tmp_path / "a.mp4", (0, 1))
    filled = [word.format(tmp=tmp_path, film=path) for word in words]
    model = [] if "--model" in words else ["--model", tiny_run]
    code, out, err = run(capsys, "watch", *filled, *model)
    assert (code, out) == (2, "")
    assert err.startswith("kinegraph: ") and said in err and err.count("\n") == 1


def test_ctrl_c_writes_what_there_is(capsys, tmp_path, tiny_run, monkeypatch):
    path = film(tmp_path / "a.mp4", (1, 12))

    class Impatient(GrayLevelEstimator):
        def __call__(self, image, time):
            if time > 6:
                raise KeyboardInterrupt
            return super().__call__(image, time)

    monkeypatch.setattr(sources, "load_estimator", lambda _, people: Impatient(people))
    out = tmp_path / "b.mp4"
    code, told, err = watched(capsys, path, "--model", tiny_run, "--out", out)
    assert code == 130 and "interrupted after 6.1 s" in err
    assert told["main"]["name"] == "there"
    assert told["segments"][-1]["end"] == pytest.approx(6, abs=0.1)
    assert VideoFile(out).duration == pytest.approx(6.1, abs=0.15)


class FakeCamera(sources.Camera):
    """Gives half a minute at once."""

    def __init__(self, index=0):
        self.name, self.width, self.height = f"camera {index}", 64, 48

    def __iter__(self):
        for n in range(300):
            yield VideoFrame(n / 10, picture(gray_level(n // 200)))


def test_a_camera_is_watched_until_it_ends_and_drawn_afterwards(
    capsys, tmp_path, tiny_run, monkeypatch
):
    require_av()
    monkeypatch.setattr(sources, "Camera", FakeCamera)
    out, page = tmp_path / "b.mp4", tmp_path / "p.html"
    code, told, _ = watched(
        capsys, "0", "--model", tiny_run, "--out", out, "--page", page, "--seconds", 25
    )
    assert code == 0
    assert [s["name"] for s in told["segments"]] == ["here", "there"]
    assert VideoFile(out).duration == pytest.approx(25.1, abs=0.2)
    assert page.read_text().count("data:image/jpeg") == 2


def test_skeletons_of_another_layout_are_converted(tiny_run):
    recognizer = Recognizer.load(tiny_run)
    pipeline = ActionPipeline(recognizer, get_layout("mediapipe33"))
    rng = np.random.default_rng(0)
    segments = []
    for n in range(150):
        joints = rng.uniform(0, 100, (1, 33, 2)).astype(np.float32)
        frame = PoseFrame(n / 30, joints, np.ones((1, 33), np.float32), 640, 480)
        segments += pipeline(frame)[1]
    segments += pipeline.finish()
    assert segments and segments[-1].end == pytest.approx(5, abs=0.05)


def test_a_still_body_has_no_action(tiny_run):
    recognizer = Recognizer.load(tiny_run)
    for moves in (True, False):
        estimator = GrayLevelEstimator(moves=moves)
        pipeline = ActionPipeline(recognizer, estimator.layout)
        for n in range(150):
            pipeline(estimator(picture(gray_level(1)), n / 30))
        (shown,) = pipeline.latest().values()
        (segment,) = pipeline.finish()
        names = {shown.accepted and shown.accepted.name, segment.label and segment.name}
        assert names == ({"there"} if moves else {None})


def test_what_is_kept_does_not_grow_with_the_time(tiny_run):
    recognizer = Recognizer.load(tiny_run)
    estimator = GrayLevelEstimator()
    pipeline = ActionPipeline(recognizer, estimator.layout)

    def kept(start, stop):
        for n in range(start, stop):
            # another person every two seconds
            frame = estimator(picture(gray_level(0)), n / 30 + 2 * (n // 60))
            pipeline(frame)
        gc.collect()
        return len(gc.get_objects())

    first = kept(0, 120)
    assert kept(120, 360) < first + 200
