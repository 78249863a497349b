"""The commands `live` of the pages, with real videos and the bundled model."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest

from cli.test_cli import run
from conftest import real_data
from kinegraph.video.decode import VideoFile
from test_docs import PAGES, blocks

pytestmark = pytest.mark.slow
#: Second words of the commands in the blocks `bash live`.
RUN_HERE = {"watch"}
RUN_ELSEWHERE = {"install", "teach", "train"}  # with other files: see the marks `files`


@pytest.fixture
def videos(tmp_path, monkeypatch):
    """A folder with ``lifting.mp4``, where commands run; the folder of all videos."""
    pytest.importorskip("mediapipe", reason="NOT TESTED: the extra `video` is not installed")
    folder = real_data("videos")
    shutil.copyfile(folder / "clean_and_jerk.mp4", tmp_path / "lifting.mp4")
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_commands_of_the_pages(capsys, tmp_path, videos):
    shown = [block for page in PAGES for mark, block in blocks(page) if mark == "bash live"]
    lines = {tuple(shlex.split(line)) for block in shown for line in block.splitlines()}
    watches = [words for words in lines if words[:2] == ("kinegraph", "watch")]
    assert watches and not {words[1] for words in lines} - RUN_HERE - RUN_ELSEWHERE
    for words in watches:
        code, out, _ = run(capsys, *words[1:])
        assert code == 0 and "clean_and_jerk" in out.splitlines()[-1]
    made, given = VideoFile("annotated.mp4"), VideoFile("lifting.mp4")
    assert made.duration == pytest.approx(given.duration, abs=0.05)
    assert "clean_and_jerk" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_an_action_that_it_knows_and_one_that_it_does_not(capsys, videos):
    messages = {}
    for name in ("clean_and_jerk", "ta_chi"):
        code, out, _ = run(capsys, "watch", videos / f"{name}.mp4", "--json")
        assert code == 0
        messages[name] = json.loads(out.splitlines()[-1])
    main = messages["clean_and_jerk"]["main"]
    assert main["name"] == "clean_and_jerk" and main["probability"] >= 0.5
    segments = messages["ta_chi"]["segments"]
    unknown = sum(s["end"] - s["start"] for s in segments if s["label"] is None)
    assert unknown > 0.5 * sum(s["end"] - s["start"] for s in segments)
    assert messages["ta_chi"]["main"]["label"] is None
