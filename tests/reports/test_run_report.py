"""The report of a run explains its mistakes."""

from __future__ import annotations

from conftest import made_up_clips
from kinegraph.reports.page import RunReport, render_report
from kinegraph.reports.run_report import MAX_EXPLAINED_CLIPS, _explain_mistakes


def test_the_first_mistakes_are_explained(tiny_run):
    clips = made_up_clips()[: MAX_EXPLAINED_CLIPS + 2]
    shown = [(clip, [("here", 0.9), ("there", 0.1)], "there") for clip in clips]
    shown[0] = (clips[0], [("here", 0.9)], "here")
    figures = _explain_mistakes(tiny_run, shown)
    assert list(figures) == [clip.id for clip in clips[1 : MAX_EXPLAINED_CLIPS + 1]]
    text = render_report(RunReport("mistakes", clips=shown, explanations=figures))
    assert text.count("Importance of joints in clip") == MAX_EXPLAINED_CLIPS
    assert _explain_mistakes(tiny_run, shown[:1]) == {}
