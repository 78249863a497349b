"""A store returns what was written, and only complete stores exist."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import resource

import numpy as np
import pyarrow as pa
import pytest

from kinegraph import files
from kinegraph.clips.checksums import CHECKSUM_KEY
from kinegraph.clips.clip import Clip
from kinegraph.clips.schema import HEADER_KEY, SCHEMAS
from kinegraph.clips.store import ClipStore
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import LockedError, StoreError, UnknownNameError
from kinegraph.skeleton import SkeletonLayout, get_layout

LAYOUT = get_layout("coco17")


def make_clip(name: str, **changes) -> Clip:
    """Return a clip whose size and values follow from its name."""
    rng = np.random.default_rng(sum(name.encode()))
    persons, frames = int(rng.integers(1, 3)), int(rng.integers(1, 9))
    joints = rng.normal(size=(persons, frames, 17, 2)).astype(np.float32)
    joints[0, 0, 3] = np.nan
    fields = {
        "confidence": rng.random((persons, frames, 17), np.float32),
        "label": int(rng.integers(0, 3)),
        "id": name,
        "fps": 25.0,
        "meta": {"subject": 7, "split": "train", "höhe": None, "x": 0.1, "ok": True},
    }
    return Clip(joints, LAYOUT, **{**fields, **changes})


def bare_clip(name: str) -> Clip:
    """Return a clip without confidence and meta."""
    return Clip(np.ones((1, 4, 17, 2)), LAYOUT, id=name)


def write(path, clips, **options) -> ClipStore:
    with StoreWriter(path, options.pop("layout", LAYOUT), **options) as writer:
        for clip in clips:
            writer.write(clip, f"{clip.id}.txt")
    return ClipStore(path)


def assert_equal(got: Clip, expected: Clip) -> None:
    np.testing.assert_array_equal(got.joints, expected.joints)
    assert got.layout == expected.layout
    assert (got.confidence is None) == (expected.confidence is None)
    if expected.confidence is not None:
        np.testing.assert_array_equal(got.confidence, expected.confidence)
    for name in ("label", "id", "fps", "digest"):
        assert getattr(got, name) == getattr(expected, name)
    assert dict(got.meta) == dict(expected.meta)


def test_clips_come_back_as_they_were(tmp_path):
    clips = [make_clip(f"clip{i}") for i in range(600)]  # three record batches
    clips[300:303] = [bare_clip("x"), bare_clip("y"), make_clip("z", confidence=None)]
    store = write(tmp_path / "a.store", clips)
    assert len(store) == 600
    for got, expected in zip(store, clips, strict=True):
        assert_equal(got, expected)
    assert_equal(store[-1], clips[-1])
    assert_equal(store[np.int64(301)], clips[301])


def test_the_facts_that_hold_for_all_clips(tmp_path):
    clips = [make_clip("a", label=2), bare_clip("b"), make_clip("c", label=0)]
    store = write(tmp_path / "a.store", clips, provenance={"reader": "test"})
    assert store.ids == ["a", "b", "c"]
    assert store.labels.tolist() == [2, -1, 0]
    assert store.labels.dtype == np.int64
    assert store.frames.tolist() == [clip.num_frames for clip in clips]
    assert store.persons.tolist() == [clip.num_persons for clip in clips]
    assert store.digests == [clip.digest for clip in clips]
    assert store.sources == ["a.txt", "b.txt", "c.txt"]
    assert store.metas[0]["höhe"] is None
    assert store.metas[1] == {}
    assert (store.num_channels, store.num_classes, store.classes) == (2, 3, None)
    assert store.provenance["reader"] == "test"
    assert set(store.provenance) == {"reader", "kinegraph", "numpy", "pyarrow"}
    assert "3 clips" in repr(store)


def test_classes_travel_with_the_store(tmp_path):
    store = write(tmp_path / "a.store", [bare_clip("a")], classes=["sit", "stand", "fall"])
    assert store.classes == ("sit", "stand", "fall")
    assert store.num_classes == 3
    assert write(tmp_path / "b.store", [bare_clip("a")]).num_classes == 0


def test_a_layout_of_ones_own_travels_with_the_store(tmp_path):
    own = SkeletonLayout("hinge", ("base", "arm"), ((1, 0),), center=0, source="me")
    store = write(tmp_path / "a.store", [Clip(np.ones((1, 3, 2, 3)), own, id="a")], layout=own)
    assert store.layout == own
    assert store.layout.source == "me"
    assert store[0].layout == own


def test_arrays_are_views_into_the_file(tmp_path):
    store = write(tmp_path / "a.store", [make_clip("a"), make_clip("b")])
    first, again = store.joints(1), store[1].joints
    assert np.shares_memory(first, again)
    assert np.shares_memory(store.confidence(1), store[1].confidence)
    with pytest.raises(ValueError, match="read-only"):
        first[...] = 0


def test_find_by_id(tmp_path):
    store = write(tmp_path / "a.store", [make_clip("walk_01"), make_clip("sit_02")])
    assert store.find("sit_02") == 1
    with pytest.raises(UnknownNameError, match=r"'walk_1' .did you mean 'walk_01'.*has 2"):
        store.find("walk_1")


@pytest.mark.parametrize("index", [2, -3])
def test_an_index_out_of_range(tmp_path, index):
    store = write(tmp_path / "a.store", [make_clip("a"), make_clip("b")])
    with pytest.raises(IndexError, match=f"has 2 clips, there is no clip {index}"):
        store[index]


def test_a_store_can_be_pickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = write("a.store", [make_clip("a")])
    pickled = pickle.dumps(store)
    assert len(pickled) < 500
    monkeypatch.chdir("/")
    assert_equal(pickle.loads(pickled)[0], store[0])


def test_a_store_can_be_read_in_forked_processes(tmp_path):
    store = write(tmp_path / "a.store", [make_clip("a"), make_clip("b")])
    reading, writing = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=lambda: writing.send(store[1].digest)
    )
    process.start()
    assert reading.recv() == store.digests[1]
    process.join()


def test_equal_clips_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, [make_clip("x"), bare_clip("y")], provenance={"k": 1, "j": [2]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_long_clips_are_written_before_the_batch_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr("kinegraph.clips.writer.BYTES_PER_BATCH", 1)
    clips = [make_clip("a"), make_clip("b")]
    store = write(tmp_path / "a.store", clips)
    assert pa.ipc.open_file(str(tmp_path / "a.store")).num_record_batches == 2
    assert_equal(store[1], clips[1])


# --------------------------------------------------------------------- refused clips


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (make_clip("first"), "'first': this id is already in the store"),
        (make_clip("other", id=""), "without an id"),
        (make_clip("other", id="\udcff"), "not Unicode text"),
        (make_clip("other", label=3), "expected a label below 3, .* got 3"),
        (make_clip("other", meta={"x": float("nan")}), "expected meta of texts, finite numbers"),
        (make_clip("other", meta={"x": object()}), "expected meta of texts, finite numbers"),
        (Clip(np.ones((1, 1, 17, 3)), LAYOUT, id="o"), "expected 2 coordinates .* got 3"),
        (Clip(np.ones((2**15, 1, 17, 2)), LAYOUT, id="o"), "at most 32767 persons"),
        (
            Clip(np.ones((1, 1, 25, 2)), get_layout("ntu25"), id="o"),
            "expected layout 'coco17' .* got 'ntu25'",
        ),
    ],
)
def test_a_refused_clip_is_left_out_and_the_writer_goes_on(tmp_path, clip, message):
    path = tmp_path / "a.store"
    with StoreWriter(path, LAYOUT, classes=["a", "b", "c"]) as writer:
        writer.write(make_clip("first"))
        with pytest.raises(StoreError, match=message):
            writer.check(clip)
        with pytest.raises(StoreError, match=message):
            writer.write(clip)
        writer.write(make_clip("last"))
        assert len(writer) == 2
    assert ClipStore(path).ids == ["first", "last"]


# --------------------------------------------------------------------- all or nothing


def test_an_error_leaves_no_store_and_no_partial_file(tmp_path):
    with pytest.raises(RuntimeError), StoreWriter(tmp_path / "a.store", LAYOUT) as writer:
        writer.write(make_clip("a"))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_older_store(tmp_path):
    path = tmp_path / "a.store"
    old = write(path, [make_clip("old")])
    with pytest.raises(KeyboardInterrupt), StoreWriter(path, LAYOUT) as writer:
        writer.write(make_clip("new"))
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["a.store"]
    assert ClipStore(path).ids == old.ids == ["old"]


def test_no_clip_makes_no_store(tmp_path):
    with (
        pytest.raises(StoreError, match="no clip was written"),
        StoreWriter(tmp_path / "a", LAYOUT),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_replaced_while_it_is_read(tmp_path):
    path = tmp_path / "a.store"
    old = write(path, [make_clip("old")])
    new = write(path, [make_clip("new")])
    assert (old.ids, new.ids) == (["old"], ["new"])
    assert_equal(old[0], make_clip("old"))


def test_parent_folders_are_made(tmp_path):
    assert len(write(tmp_path / "deep" / "er" / "a.store", [make_clip("a")])) == 1


@pytest.mark.parametrize(
    ("name", "message"), [("", "is a folder"), ("file/a.store", "cannot write")]
)
def test_a_place_that_cannot_be_written(tmp_path, name, message):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=message), StoreWriter(tmp_path / name, LAYOUT):
        pass


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr("kinegraph.clips.writer.BYTES_PER_BATCH", 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot write the store .*a\.store: File too large"):
            write(tmp_path / "a.store", [make_clip(f"clip{i}") for i in range(100)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_is_refused_and_the_first_one_finishes(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LOCK_TIMEOUT_S", 0.1)
    path = tmp_path / "a.store"
    with StoreWriter(path, LAYOUT) as first:
        first.write(make_clip("a"))
        with (
            pytest.raises(LockedError, match=r"another process is writing .*a\.store: wait"),
            StoreWriter(path, LAYOUT),
        ):
            pass
        write(tmp_path / "b.store", [make_clip("other store")])
    assert ClipStore(path).ids == ["a"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.store", "b.store"]


def _write_slowly(path, number: int, begin, outcomes) -> None:
    begin.wait()
    try:
        write(path, [make_clip(f"{number} {i}") for i in range(30)])
        outcomes.put(number)
    except LockedError:
        outcomes.put(None)


def test_of_writers_at_the_same_time_those_that_report_success_were_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LOCK_TIMEOUT_S", 0)
    fork = multiprocessing.get_context("fork")
    begin, outcomes = fork.Event(), fork.Queue()
    path = tmp_path / "a.store"
    writers = [
        fork.Process(target=_write_slowly, args=(path, i, begin, outcomes)) for i in range(6)
    ]
    for writer in writers:
        writer.start()
    begin.set()
    won = {outcomes.get() for _ in writers} - {None}
    for writer in writers:
        writer.join()
    store = ClipStore(path)
    (winner,) = {int(name.split()[0]) for name in store.ids}
    assert winner in won
    assert len(store) == len(list(store)) == 30
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_at_the_place_of_a_partial_file_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / ".a.store.0.partial").symlink_to(tmp_path / "mine")
    write(tmp_path / "a.store", [make_clip("a")])
    assert (tmp_path / "mine").read_text() == "precious"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.store", "mine"]


def test_writing_outside_the_with_block(tmp_path):
    with pytest.raises(StoreError, match="inside `with StoreWriter"):
        StoreWriter(tmp_path / "a.store", LAYOUT).write(make_clip("a"))


# --------------------------------------------------------------------- damaged stores


def test_a_missing_store(tmp_path):
    with pytest.raises(StoreError, match=r"there is no clip store .*kinegraph convert"):
        ClipStore(tmp_path / "a.store")
    with pytest.raises(StoreError, match="is a folder"):
        ClipStore(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"text\n" * 100, b"ARROW1\0\0" + b"\xff" * 64 + b"ARROW1", bytes(5000)],
    ids=["empty", "byte", "text", "footer", "zeros"],
)
def test_files_of_another_kind(tmp_path, content):
    path = tmp_path / "a.store"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.store is not a clip store, or is cut short"):
        ClipStore(path)


def test_a_store_cut_short_anywhere(tmp_path):
    path = tmp_path / "a.store"
    write(path, [make_clip("a"), make_clip("b")])
    whole = path.read_bytes()
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        with pytest.raises(StoreError, match="cut short"):
            ClipStore(path)


def contents(path) -> list:
    """Return all that a store states and holds, with the bits of its numbers."""
    store = ClipStore(path)
    facts = [store.layout, store.space, store.classes, store.provenance, store.ids, store.metas]
    facts += [store.sources, store.digests, store.labels.tolist(), store.rates.tobytes()]
    clips = [(store.joints(i), store.confidence(i)) for i in range(len(store))]
    return facts + [None if a is None else (a.shape, a.tobytes()) for c in clips for a in c]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_no_flipped_bit_changes_what_is_read(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr("kinegraph.clips.writer.CLIPS_PER_BATCH", 2)
    path = tmp_path / "a.store"
    clips = [make_clip("a", confidence=None), *map(make_clip, "bcd"), bare_clip("e")]
    write(path, clips, dtype=dtype, classes=["x", "y", "z"])
    whole, expected = path.read_bytes(), contents(path)
    refused = 0
    for bit in np.random.default_rng(0).integers(0, 8 * len(whole), 250).tolist():
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert contents(path) == expected, bit
        except StoreError:
            refused += 1
    assert refused > 125  # the others are padding


def rewrite(path, change) -> None:
    """Write a store again with ``change`` applied to its [(batch, metadata)]."""
    file = pa.ipc.open_file(str(path))
    batches = [file.get_batch_with_custom_metadata(i) for i in range(file.num_record_batches)]
    with pa.ipc.new_file(str(path.with_name("copy")), file.schema) as writer:
        for batch, metadata in change(batches):
            writer.write_batch(batch, metadata)
    path.with_name("copy").replace(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda all: all[:-1], "batches are missing or in another order"),
        (lambda all: all[1:], "batches are missing or in another order"),
        (lambda all: all[::-1], "batches are missing or in another order"),
        (lambda all: [(batch, None) for batch, _ in all], "checksums .* are missing"),
        (lambda all: [(batch, {b"kinegraph.crc33": b"{}"}) for batch, _ in all], "are missing"),
        (lambda all: [(batch, {CHECKSUM_KEY: b"[]"}) for batch, _ in all], "are missing"),
        (lambda all: [(batch, {CHECKSUM_KEY: b"{}"}) for batch, _ in all], "are missing"),
        (lambda all: [(all[1][0], all[0][1]), *all[1:]], "'id' does not match its checksum"),
    ],
)
def test_batches_that_are_not_those_that_were_written(tmp_path, monkeypatch, change, message):
    monkeypatch.setattr("kinegraph.clips.writer.CLIPS_PER_BATCH", 1)
    path = tmp_path / "a.store"
    write(path, [make_clip("a"), make_clip("b"), make_clip("c")])
    rewrite(path, change)
    with pytest.raises(StoreError, match=f"is damaged .*{message}"):
        ClipStore(path)


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.joints(1),
        lambda store: store.confidence(1),
        lambda store: store[1],
        lambda store: store.read_crops([1], [0], 1),
    ],
    ids=["joints", "confidence", "clip", "crops"],
)
def test_altered_joints_are_found_when_a_clip_of_their_batch_is_read(tmp_path, monkeypatch, read):
    monkeypatch.setattr("kinegraph.clips.writer.CLIPS_PER_BATCH", 1)
    path = tmp_path / "a.store"
    write(path, [make_clip("a"), make_clip("b")])
    altered = make_clip("b").joints.tobytes()
    path.write_bytes(path.read_bytes().replace(altered, altered[::-1]))
    store = ClipStore(path)
    assert_equal(store[0], make_clip("a"))
    for _ in range(2):
        with pytest.raises(StoreError, match="'joints' does not match its checksum"):
            read(store)


def write_table(path, columns: dict, header: bytes | None, schema=SCHEMAS["float32"]) -> None:
    schema = schema.with_metadata(None if header is None else {HEADER_KEY: header})
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_table(pa.table(columns, schema=schema))


def row(**changes) -> dict:
    cells = {
        "id": "a",
        "label": 0,
        "persons": 1,
        "frames": 2,
        "joints": [0.0] * 68,
        "confidence": None,
        "fps": None,
        "meta": "{}",
        "digest": "d",
        "source": "s",
    }
    return {name: [value] for name, value in {**cells, **changes}.items()}


def header(**changes) -> bytes:
    data = {
        "format": 1,
        "layout": LAYOUT.to_dict(),
        "coordinates": 2,
        "classes": None,
        "provenance": {},
    }
    return json.dumps({**data, **changes}).encode()


def test_a_store_by_hand_is_a_store(tmp_path):
    write_table(tmp_path / "a", row(), header())
    assert ClipStore(tmp_path / "a")[0].joints.shape == (1, 2, 17, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no kinegraph header"),
        (b"{", "header is damaged"),
        (b"\xff", "header is damaged"),
        (b"[" * 100_000, "header is damaged"),
        (b"[]", "header is damaged"),
        (b"{}", "expected format 1 or 2, got None"),
        (header(format=3), "expected format 1 or 2, got 3"),
        (header(format=True), "expected format 1 or 2, got True"),
        (header(format=2), "checksums of a batch are missing"),
        (header(coordinates=0), "expected 1 or more coordinates"),
        (header(coordinates="2"), "expected 1 or more coordinates"),
        (header(classes="ab"), "expected classes to be a list of names"),
        (header(classes=[1]), "expected classes to be a list of names"),
        (header(provenance=3), "header is damaged"),
        (header(layout=None), "header is damaged"),
        (header(layout={"name": "x"}), "header is damaged"),
    ],
)
def test_headers_of_another_kind(tmp_path, text, message):
    write_table(tmp_path / "a", row(), text)
    with pytest.raises(StoreError, match=message):
        ClipStore(tmp_path / "a")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"persons": 2}, "joints do not fill"),
        ({"frames": 0, "joints": []}, "joints do not fill"),
        ({"persons": -1, "frames": -2}, "joints do not fill"),
        ({"confidence": [1.0]}, "joints do not fill"),
        ({"label": -2}, "labels are out of range"),
    ],
)
def test_columns_that_contradict_each_other(tmp_path, changes, message):
    write_table(tmp_path / "a", row(**changes), header())
    with pytest.raises(StoreError, match=message):
        ClipStore(tmp_path / "a")


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_meta_of_another_kind(tmp_path, text):
    write_table(tmp_path / "a", row(meta=text), header())
    with pytest.raises(StoreError, match="meta"):
        ClipStore(tmp_path / "a").metas[0]


def test_an_arrow_file_without_clips(tmp_path):
    write_table(tmp_path / "a", {name: [] for name in SCHEMAS["float32"].names}, header())
    with pytest.raises(StoreError, match="holds no clip"):
        ClipStore(tmp_path / "a")


def test_ids_that_repeat(tmp_path):
    write_table(tmp_path / "a", {name: cell * 2 for name, cell in row().items()}, header())
    with pytest.raises(StoreError, match="ids repeat"):
        ClipStore(tmp_path / "a")


def test_other_columns(tmp_path):
    schema = pa.schema([("x", pa.int32())])
    write_table(tmp_path / "a", {"x": [1]}, header(), schema)
    with pytest.raises(StoreError, match=r"expected the columns id \(string\), .* has others"):
        ClipStore(tmp_path / "a")


# --------------------------------------------------------------------- float16


def test_float16_halves_the_bytes_and_reports_its_error(tmp_path):
    clips = [make_clip(f"clip{i}", confidence=None) for i in range(300)] + [make_clip("with")]
    whole = write(tmp_path / "whole", clips)
    half = write(tmp_path / "half", clips, dtype="float16")
    assert (whole.dtype, whole.rounding, half.dtype) == ("float32", 0, "float16")
    sizes = [sum(store._joints.lengths) * store._joints.dtype.itemsize for store in (whole, half)]
    assert sizes[0] == 2 * sizes[1]
    errors = [np.nanmax(np.abs(a.joints - b.joints)) for a, b in zip(whole, half, strict=True)]
    assert half.rounding == pytest.approx(max(errors))
    assert 0 < half.rounding < 4 / 2048
    for got, clip in zip(half, clips, strict=True):
        np.testing.assert_array_equal(got.joints, clip.joints.astype(np.float16).astype(np.float32))
        assert got.joints.dtype == np.float32
        assert got.digest == half.digests[half.find(clip.id)]
        assert dict(got.meta) == dict(clip.meta)
    assert np.abs(half[-1].confidence - clips[-1].confidence).max() < 1 / 2048
    with pytest.raises(ValueError, match="read-only"):
        half.joints(0)[...] = 0


def test_float16_written_again_is_the_same(tmp_path):
    first = write(tmp_path / "first", [make_clip("a"), make_clip("b")], dtype="float16")
    second = write(tmp_path / "second", list(first), dtype="float16")
    assert first.digests == second.digests
    assert second.rounding == 0
    for got, clip in zip(second, first, strict=True):
        assert_equal(got, clip)


def test_float16_refuses_what_it_cannot_hold(tmp_path):
    far = Clip(np.full((1, 2, 17, 2), 65504.0), LAYOUT, id="far")
    too_far = Clip(np.full((1, 2, 17, 2), -70000.0), LAYOUT, id="too far")
    with StoreWriter(tmp_path / "a", LAYOUT, dtype="float16") as writer:
        writer.write(far)
        with pytest.raises(StoreError, match=r"'too far': a coordinate of 70000 .* ends at 65504;"):
            writer.write(too_far)
        assert writer.rounding == 0
    assert ClipStore(tmp_path / "a").ids == ["far"]
    unseen = Clip(np.full((1, 2, 17, 2), np.nan), LAYOUT, id="unseen")
    assert np.isnan(write(tmp_path / "b", [unseen], dtype="float16").joints(0)).all()
    with pytest.raises(UnknownNameError, match=r"unknown dtype of a store 'float61'.*'float16'"):
        StoreWriter(tmp_path / "a", LAYOUT, dtype="float61")


# --------------------------------------------------------------------- crops


def cut(store: ClipStore, indices, starts, frames: int, persons: int | None = None):
    """Compute crops one clip at a time."""
    joints, rows, who = [], [], []
    for row, (i, start) in enumerate(zip(indices, starts, strict=True)):
        for m, person in enumerate(store[i].joints[:persons]):
            piece = np.full((frames, *person.shape[1:]), np.nan, np.float32)
            seen = person[start : start + frames]
            piece[: len(seen)] = seen
            joints.append(piece)
            rows.append(row)
            who.append(m)
    return np.stack(joints), rows, who


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("frames", "persons"), [(1, None), (4, 1), (4, 2), (9, None), (5000, 1)])
def test_crops_are_pieces_of_clips(tmp_path, dtype, frames, persons):
    store = write(tmp_path / "a", [make_clip(f"clip{i}") for i in range(600)], dtype=dtype)
    rng = np.random.default_rng(0)
    indices = [*rng.integers(0, 600, 60), 599, 0, 599]
    starts = [int(rng.integers(0, store.frames[i])) for i in indices]
    crops = store.read_crops(indices, starts, frames, persons)
    joints, rows, who = cut(store, indices, starts, frames, persons)
    assert crops.joints.dtype == np.float32
    np.testing.assert_array_equal(crops.joints, joints)
    assert crops.rows.tolist() == rows
    assert crops.persons.tolist() == who
    crops.joints[...] = 0  # the caller's own


def test_crops_out_of_range_are_rejected(tmp_path):
    store = write(tmp_path / "a", [bare_clip("x"), bare_clip("y")])
    with pytest.raises(IndexError, match="has 2 clips, there is no clip 2"):
        store.read_crops([0, 2], [0, 0], 3)
    for start in (4, -1):
        with pytest.raises(StoreError, match=f"'y' has 4 frames, no crop can begin at {start}"):
            store.read_crops([0, 1], [0, start], 3)
    for frames, persons in ((0, None), (3, 0)):
        with pytest.raises(StoreError, match="expected crops of 1 or more frames and persons"):
            store.read_crops([0], [0], frames, persons)
    for indices, starts in (([0, 1], [0]), ([0.5], [0]), ([0], [0.5]), ([True], [0])):
        with pytest.raises(StoreError, match="as many whole-numbered clips as starts"):
            store.read_crops(indices, starts, 3)
    assert store.read_crops(np.zeros(0, int), np.zeros(0, int), 3).joints.shape == (0, 3, 17, 2)


def test_a_store_that_was_compressed_elsewhere_is_read_too(tmp_path):
    write(tmp_path / "a", [make_clip("a")])
    file = pa.ipc.open_file(str(tmp_path / "a"))
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_file(str(tmp_path / "b"), file.schema, options=options) as writer:
        writer.write_batch(*file.get_batch_with_custom_metadata(0))
    store = ClipStore(tmp_path / "b")
    assert_equal(store[0], make_clip("a"))
    np.testing.assert_array_equal(store.read_crops([0], [0], 1).joints[0, 0], store[0].joints[0, 0])
