"""The report of a run: whole, self-contained, escaped, and true to its numbers."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.reports.draw_graph import draw_graph
from kinegraph.reports.page import (
    RunReport,
    render_report,
    top_confusions,
    wilson_interval,
    write_report,
)
from kinegraph.skeleton import get_layout

VOID = {"meta", "link", "img", "br"}
NASTY = ["<html>", 'say "hi" & bye', "手を振る\x07 $x$"]


class Structure(HTMLParser):
    """Collects attributes and checks that every element is closed where it should be."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def evaluation(confusion: list[list[int]], names: list[str]) -> Any:
    counts = np.array(confusion)
    clips = counts.sum(axis=1)
    rows = [
        SimpleNamespace(
            label=i, name=name, clips=int(n), accuracy=float(counts[i, i] / n) if n else None
        )
        for i, (name, n) in enumerate(zip(names, clips, strict=True))
    ]
    return SimpleNamespace(
        clips=int(clips.sum()),
        top1=float(np.trace(counts) / clips.sum()),
        top5=1.0,
        mean_class=0.5,
        ece=0.04,
        per_class=rows,
        confusion=counts,
        bins=[SimpleNamespace(low=0.8, high=1.0, clips=3, accuracy=0.7, confidence=0.9)],
        clean=SimpleNamespace(leaked=11, clips=39, top1=0.8125),
        left_out={"dancing": 3, "<jumping>": 1},
    )


def full_report() -> RunReport:
    rng = np.random.default_rng(0)
    clip = Clip(rng.normal(size=(1, 4, 20, 3)), get_layout("kinect20"), id="a01<s>")
    found = evaluation([[33, 7, 0], [1, 9, 0], [0, 0, 0]], NASTY)
    return RunReport(
        title="run <1>",
        facts={"data set": "NW-UCLA", "top-1": "told twice", "model": "stgcn & co"},
        history=[{"epoch": e, "val_loss": 2 - e / 8, "train_loss": 1 / (e + 1)} for e in range(4)],
        evaluations={"test": found, "clean": found},
        clips=[
            (clip, [("<html>", 0.9), ("b", 0.1)], "<html>"),
            (clip, [("b", 0.6), ("<html>", 0.4)], "<html>"),
            (clip, [], ""),
        ],
        recipe_text="model: <stgcn>\n",
        environment={"torch": "2.13", "seed": 0},
        model={"The graph": draw_graph("kinect20")},
    )


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(full_report())


def test_the_page_states_the_accuracy_without_leaked_clips_and_what_was_left_out(page: str) -> None:
    text = " ".join(Structure(page).text.split())
    assert "clean top-181.2 %without 11 of 50 clips, which equal a training clip" in text
    assert "clips whose classes the model does not have: dancing (3), <jumping> (1)." in text


def test_the_page_is_well_formed_and_asks_for_nothing_outside(page: str) -> None:
    structure = Structure(page)
    for tag, key, value in structure.attributes:
        if key in ("src", "href"):
            assert value.startswith(("data:", "#")), (tag, key, value[:40])
        assert not key.startswith("on")
    bare = re.sub(r'"data:[^"]*"', '""', page)
    assert not re.search(r"https?:|<script|@import|url\(", bare)
    assert "default-src 'none'" in page


def test_every_picture_is_a_readable_svg_with_a_description(page: str) -> None:
    attributes = Structure(page).attributes
    pictures = [value for tag, key, value in attributes if (tag, key) == ("img", "src")]
    assert len(pictures) == 1 + 2 * 3 + 3 + 1
    for picture in pictures:
        svg = base64.b64decode(picture.removeprefix("data:image/svg+xml;base64,"))
        root = ElementTree.fromstring(svg)
        links = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href")]
        assert all(link.startswith(("#", "data:")) for link in links)
    assert all(value for tag, key, value in attributes if (tag, key) == ("img", "alt"))


def test_links_within_the_page_lead_somewhere(page: str) -> None:
    attributes = Structure(page).attributes
    ids = [value for _, key, value in attributes if key == "id"]
    links = [value[1:] for _, key, value in attributes if key == "href" and value[0] == "#"]
    assert len(ids) == len(set(ids))
    assert sorted(links) == sorted(ids)


def test_names_are_escaped(page: str) -> None:
    assert "<html>" not in page.removeprefix("<!doctype html>\n<html lang")
    assert "run &lt;1&gt;" in page
    assert "model: &lt;stgcn&gt;" in page
    assert "say &#34;hi&#34; &amp; bye" in page


def test_the_summary_has_the_numbers_of_the_first_split_once(page: str) -> None:
    text = Structure(page).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "84.0 %" in text
    assert "95 % interval 71.5 to 91.7, test" in text
    assert "told twice" not in text
    assert "stgcn & co" in text


def test_confusions_are_sentences(page: str) -> None:
    text = Structure(page).text
    assert '<html> was predicted as say "hi" & bye in 7 of 40 clips' in text


def test_clips_tell_right_from_wrong(page: str) -> None:
    text = Structure(page).text
    assert text.count("✓ correct") == 1
    assert text.count("✗ wrong") == 1
    assert "unknown class" in text


def test_an_empty_report_is_a_page_all_the_same() -> None:
    text = Structure(render_report(RunReport("nothing yet"))).text
    assert "This run was not evaluated." in text
    for section in ("Training", "Clips", "Recipe", "Environment", "Model"):
        assert section not in text


def test_a_perfect_split_has_no_confusions() -> None:
    found = evaluation([[2, 0], [0, 3]], ["a", "b"])
    assert top_confusions(found) == []
    page = render_report(RunReport("perfect", evaluations={"test": found}))
    assert "All clips were predicted correctly." in page


def test_worst_confusions_come_first() -> None:
    found = evaluation([[10, 2, 0], [5, 5, 1], [2, 0, 0]], ["a", "b", "c"])
    pairs = top_confusions(found, limit=3)
    assert pairs == [("b", "a", 5, 11), ("c", "a", 2, 2), ("a", "b", 2, 12)]


def test_the_interval_is_wilsons() -> None:
    assert wilson_interval(0.5, 100) == pytest.approx((0.40383, 0.59617), abs=1e-5)
    assert wilson_interval(1.0, 10) == pytest.approx((0.72247, 1.0), abs=1e-5)
    assert wilson_interval(0.0, 0) == (0.0, 1.0)


def test_writing_replaces_a_whole_file_with_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "run" / "report.html"
    assert write_report(RunReport("first"), path) == path
    write_report(RunReport("second"), path)
    assert "second" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]


def test_the_same_run_gives_the_same_page() -> None:
    report = RunReport("twice", history=[{"epoch": 0, "train_loss": 1.0}])
    assert render_report(report) == render_report(report)


def test_the_template_lies_in_the_package() -> None:
    assert files("kinegraph.reports").joinpath("page.html.jinja").is_file()
