"""Validation finds the defects of a store, and none in a healthy one."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.clips.schema import HEADER_KEY
from kinegraph.clips.store import ClipStore
from kinegraph.clips.validate import validate_store
from kinegraph.clips.writer import StoreWriter
from kinegraph.readers import nw_ucla
from kinegraph.readers.convert import convert
from kinegraph.skeleton import get_layout

LAYOUT = get_layout("coco17")
RNG = np.random.default_rng(0)
BODY = RNG.normal(size=(17, 2))


def joints(frames: int = 10, persons: int = 1) -> np.ndarray:
    """Return a body with small random motion."""
    return (BODY + RNG.normal(scale=0.01, size=(persons, frames, 17, 2))).astype(np.float32)


def clip(name: str, array: np.ndarray | None = None, **fields) -> Clip:
    return Clip(joints() if array is None else array, LAYOUT, id=name, **{"label": 0, **fields})


@pytest.fixture
def report(tmp_path):
    """Return a function that writes clips to a store and validates it."""

    def examined(*clips: Clip, **header):
        with StoreWriter(tmp_path / "a.store", LAYOUT, **header) as writer:
            for one in clips:
                writer.write(one)
        return validate_store(ClipStore(tmp_path / "a.store"))

    return examined


def healthy(count: int = 4) -> list[Clip]:
    return [clip(f"good{i}", label=i % 2) for i in range(count)]


def only_finding(report):
    assert len(report.findings) == 1, report.findings
    return report.findings[0]


def test_a_healthy_store_has_no_findings(report):
    found = report(*healthy(), classes=["sit", "stand"])
    assert found.findings == ()
    assert (found.clips, found.layout, found.unlabeled) == (4, "coco17", 0)
    assert found.classes == {"sit": 2, "stand": 2}
    assert found.frames == {"min": 10, "median": 10.0, "max": 10}
    assert found.persons == {1: 4}
    assert found.missing["all"] == found.empty_frames == 0
    assert found.protocols == {}


def test_rounding_is_reported(report):
    finding = only_finding(report(*healthy(), dtype="float16"))
    assert finding.severity == "note"
    assert re.fullmatch(
        r"coordinates are stored as float16, rounded by at most 0\.000\d+", finding.text
    )


def test_the_report_is_plain(report):
    found = report(*healthy(), clip("same", label=1), clip("two", joints(persons=2)))
    data = json.loads(json.dumps(asdict(found)))
    assert data["persons"] == {"1": 5, "2": 1}
    assert set(data) == set(type(found).__dataclass_fields__)


@pytest.mark.parametrize(
    ("array", "severity", "text"),
    [
        (np.full((1, 9, 17, 2), np.nan), "error", "1 clip without any present joint"),
        (np.zeros((1, 9, 17, 2)), "error", "1 clip with all joints at zero"),
        (np.broadcast_to(BODY, (1, 9, 17, 2)), "warning", "1 clip frozen: all frames are equal"),
        (joints(2), "warning", "1 clip of at most 2 frames"),
        (joints() * 11, "warning", "1 clip with a body larger than 10 times the median"),
        (joints() / 11, "warning", "1 clip with a body smaller than 1/10 of the median"),
        (
            joints() + np.where(np.arange(10) < 5, 0, 5)[:, None, None],
            "warning",
            "1 clip in which a body jumps",
        ),
    ],
    ids=["absent", "zero", "frozen", "short", "large", "small", "jump"],
)
def test_a_clip_with_bad_joints_is_named(report, array, severity, text):
    found = report(*healthy(), clip("bad", array))
    finding = next(finding for finding in found.findings if finding.text.startswith(text))
    assert (finding.severity, finding.clips) == (severity, ("bad",))
    others = {name for finding in found.findings for name in finding.clips} - {"bad"}
    assert others == set()


def test_a_body_that_walks_does_not_jump(report):
    walk = joints() + np.arange(10)[:, None, None] * 0.3
    assert report(*healthy(), clip("walk", walk)).findings == ()


def test_absent_joints_are_counted_by_name(report):
    gaps = joints()
    gaps[:, :, LAYOUT.index("nose")] = np.nan
    gaps[:, 3] = np.nan
    found = report(clip("a", gaps), clip("b"))
    assert found.missing["joints"]["nose"] == pytest.approx(10 / 20)
    assert found.missing["joints"]["left_eye"] == pytest.approx(1 / 20)
    assert found.missing["all"] == pytest.approx((10 + 16) / (20 * 17))
    assert found.empty_frames == pytest.approx(1 / 20)
    assert only_finding(found).severity == "note"
    assert only_finding(found).text.startswith("7.6% of joints are absent (most: nose 50.0%")


def test_a_joint_that_comes_and_goes_does_not_jump(report):
    gaps = joints() + 100
    gaps[:, ::2] = np.nan
    found = report(clip("a", gaps), clip("b"))
    assert [finding.severity for finding in found.findings] == ["warning"]
    assert "joints are absent" in only_finding(found).text


def test_classes_without_clips(report):
    finding = only_finding(report(*healthy(), classes=["sit", "stand", "fall", "run"]))
    assert finding.text == "2 of 4 classes have no clip: fall, run"


def test_clips_without_a_label(report):
    finding = only_finding(report(*healthy(), clip("x", label=None)))
    assert (finding.text, finding.clips) == ("1 clip without a label", ("x",))


def test_a_store_without_any_label(report):
    found = report(clip("x", label=None))
    assert found.classes == {}
    assert only_finding(found).text == "1 clip without a label"


def test_uneven_classes(report):
    finding = only_finding(report(clip("x", label=0), *[clip(f"{i}", label=1) for i in range(10)]))
    assert finding.severity == "note"
    assert finding.text.startswith("classes are imbalanced: '1' has 10 clips, '0' has 1")


def test_classes_of_one_name_are_not_added_up(report):
    found = report(*healthy(), classes=["sit", "sit"])
    assert found.classes == {"0: sit": 2, "1: sit": 2}


def test_equal_clips_and_equal_clips_of_two_labels(report):
    same, torn = joints(), joints()
    found = report(
        clip("a", same), clip("b", torn), clip("c", same), clip("d", torn, label=1), clip("e")
    )
    assert found.duplicates == (("a", "c"), ("b", "d"))
    error, warning = found.findings
    assert (error.severity, error.clips) == ("error", ("b", "d"))
    assert "equal to a clip of another label" in error.text
    assert warning.text == "4 clips in 2 groups of equal joints"


def test_a_damaged_clip_of_a_store_without_checksums_is_found_by_its_digest(report, tmp_path):
    report(*healthy())
    path = tmp_path / "a.store"
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    header = table.schema.metadata[HEADER_KEY].replace(b'"format": 2', b'"format": 1')
    with pa.ipc.new_file(str(path), table.schema.with_metadata({HEADER_KEY: header})) as file:
        file.write_table(table)
    content = bytearray(path.read_bytes())
    value = ClipStore(path).joints(2)[0, 4].tobytes()
    place = bytes(content).index(value)
    content[place] ^= 1
    path.write_bytes(content)
    finding = only_finding(validate_store(ClipStore(path)))
    assert (finding.severity, finding.clips) == ("error", ("good2",))
    assert "do not match their digest" in finding.text


def test_protocols_that_the_meta_supports(report):
    same = joints()
    facts = [{"camera": c, "subject": s} for c, s in ((1, 1), (2, 2), (3, 1), (3, 2))]
    clips = [clip(f"c{i}", meta=meta) for i, meta in enumerate(facts)]
    clips[0], clips[2] = clip("c0", same, meta=facts[0]), clip("c2", same, meta=facts[2])
    found = report(*clips)
    assert {"ucla-xview", "xview", "odd-even-subjects"} == set(found.protocols)
    protocol = found.protocols["ucla-xview"]
    assert (protocol.train, protocol.test, protocol.leaked) == (2, 2, 1)
    assert protocol.leaked_ids == ("c2",)
    finding = next(finding for finding in found.findings if "'ucla-xview'" in finding.text)
    assert "1 of 2 test clips equal a training clip; 'ucla-xview-clean' leaves" in finding.text


def test_the_reader_s_own_protocols_come_before_others_that_would_fit(report):
    facts = [{"camera": c} for c in (1, 2, 3)]
    clips = [clip(f"c{i}", meta=meta) for i, meta in enumerate(facts)]
    named = {"protocols": ["ucla-xview", "holdout", "of another version"]}
    assert set(report(*clips, provenance=named).protocols) == {"ucla-xview"}
    assert set(report(*clips, provenance={"protocols": ["xset"]}).protocols) == {
        "ucla-xview",
        "xview",
    }


@pytest.mark.slow
def test_the_leak_in_nw_ucla_is_found(tmp_path):
    raw = real_data("nw_ucla")
    listed = (raw / "test_clips_identical_to_a_train_clip.txt").read_text().split()
    convert(nw_ucla.READER, raw, tmp_path / "a.store")
    protocol = validate_store(ClipStore(tmp_path / "a.store")).protocols["ucla-xview"]
    assert (protocol.train, protocol.test, protocol.leaked) == (1020, 464, 95)
    assert sorted(protocol.leaked_ids) == sorted(listed)


def test_a_split_that_misses_the_published_count_is_reported(report):
    subjects = (1, 3, 7)
    clips = [clip(f"S018C001P{n:03d}R001A061", meta={"subject": n}) for n in subjects]
    provenance = {"reader": "ntu", "protocols": ["xsub"]}
    found = report(*clips, classes=["a"], provenance=provenance)
    assert found.protocols["xsub"].published == (63026, 50919)
    (finding,) = [f for f in found.findings if "published" in f.text]
    assert finding.severity == "warning"
    assert finding.text.startswith(
        "protocol 'xsub': 2 of 50,919 test clips and 1 of 63,026 training clips of NTU RGB+D 120"
    )
