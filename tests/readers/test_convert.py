"""Conversion: good clips are stored, bad ones are reported, and a store is complete or absent."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.splits import get_split_indices
from kinegraph.clips.store import ClipStore
from kinegraph.errors import ReadError, StoreError, UnknownNameError
from kinegraph.readers import convert as convert_module
from kinegraph.readers import nw_ucla
from kinegraph.readers.convert import convert
from kinegraph.readers.reader import ReadPlan
from line_reader import HINGE, READER


@pytest.fixture
def source(tmp_path):
    """A folder of raw files; call it with their contents by name."""
    folder = tmp_path / "raw"
    folder.mkdir()

    def fill(**files: str):
        for name, text in files.items():
            (folder / f"{name}.txt").write_text(text)
        return folder

    return fill


def test_good_clips_are_stored_in_the_order_of_the_plan(source, tmp_path):
    raw = source(b="1 5\n0 2", a="0 3")
    done = convert(READER, raw, tmp_path / "a.store")
    store = ClipStore(tmp_path / "a.store")
    assert store.ids == ["a-1", "b-1", "b-2"]
    assert store.sources == ["a.txt", "b.txt", "b.txt"]
    assert store.labels.tolist() == [0, 1, 0]
    assert store.layout == HINGE
    assert store.classes == ("open", "close")
    assert done.path == tmp_path / "a.store"
    assert (done.stored, done.persons, done.frames, done.refused) == (3, 3, 10, [])
    assert done.per_class == {"open": 2, "close": 1}


def test_what_is_refused_is_named_and_the_rest_is_stored(source, tmp_path):
    raw = source(
        a="0 3\nbad\n0 4", b="1 2\nstop\n1 2", c="bug", d="big 0 1", e="same 0 1\nsame 0 1", f=""
    )
    (raw / "sub").mkdir()
    (raw / "sub" / "g.bin").write_bytes(b"\0")
    done = convert(READER, raw, tmp_path / "a.store")
    assert ClipStore(tmp_path / "a.store").ids == ["a-1", "a-3", "b-1", "same"]
    assert done.stored == 4
    assert done.refused == [
        ("sub/g.bin", "not text"),
        ("a.txt", "a.txt:2: bad line"),
        ("b.txt", "b.txt:2: the rest is unreadable"),
        ("c.txt", "unexpected ZeroDivisionError: by zero"),
        ("d.txt", "clip 'd-1': joints have infinite coordinates"),
        ("same", "clip 'same': this id is already in the store; ids must be unique"),
        ("f.txt", "no clip in it"),
    ]


def test_labels_beyond_the_classes_are_refused_and_none_is_counted(source, tmp_path):
    done = convert(READER, source(a="0 1\n2 1\n-1 1"), tmp_path / "a.store")
    assert done.per_class == {"open": 1, "close": 0}
    assert done.unlabeled == 1
    assert [name for name, _ in done.refused] == ["a-2"]


def test_notes_of_clips_are_counted_once_each(source, tmp_path):
    done = convert(READER, source(a="note 0 1\nnote 1 2\n0 2\n"), tmp_path / "a.store")
    assert done.notes == {"angles are guessed": 2, "the base was moved": 1}
    notes = [clip.notes for clip in ClipStore(tmp_path / "a.store")]
    assert notes == [("angles are guessed",), ("angles are guessed", "the base was moved"), ()]


def test_processes_give_the_same_bytes_as_one(source, tmp_path):
    """The first files are the slowest to read, so they finish last."""
    files = {f"f{i:02}": f"{i % 2} {i + 1}\nbad" for i in range(40)}
    files["f00"] = "slow 0 1"
    raw = source(**files)
    one = convert(READER, raw, tmp_path / "one", workers=1)
    seen = []
    two = convert(READER, raw, tmp_path / "two", workers=2, progress=lambda *n: seen.append(n))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert replace(two, path=one.path) == one
    assert seen == [(i, 40) for i in range(1, 41)]


def test_only_few_tasks_are_prefetched(source, tmp_path, monkeypatch):
    """Memory is bounded: the pool never holds more than a few chunks of clips."""
    pending = []

    class Pool(convert_module.ProcessPoolExecutor):
        def submit(self, *args, **options):
            future = super().submit(*args, **options)
            pending.append(future)
            return future

    monkeypatch.setattr(convert_module, "ProcessPoolExecutor", Pool)
    ahead = []
    raw = source(**{f"f{i:02}": "0 1" for i in range(60)})

    def progress(done: int, total: int) -> None:
        ahead.append(len(pending) * 7 - done)

    convert(READER, raw, tmp_path / "a.store", workers=2, progress=progress)
    assert 7 * 6 - 1 == ahead[0] >= max(ahead)


def test_a_process_that_dies_is_reported(source, tmp_path):
    raw = source(a="0 1", b="die")
    with pytest.raises(ReadError, match=r"a reading process was killed .* workers=1"):
        convert(READER, raw, tmp_path / "a.store", workers=2)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_options_reach_the_reader_and_the_provenance(source, tmp_path):
    convert(READER, source(a="0 1"), tmp_path / "a.store", options={"scale": 2.0})
    store = ClipStore(tmp_path / "a.store")
    np.testing.assert_array_equal(store.joints(0).ravel(), [2, 4, 6, 8])
    facts = {"reader": "lines", "options": {"scale": 2.0}, "source": "raw"}
    assert {**store.provenance, **facts, "protocols": ["holdout"]} == store.provenance


def test_the_provenance_tells_sources_apart_but_not_their_places(source, tmp_path):
    raw = source(a="0 1", b="1 2")
    convert(READER, raw, tmp_path / "one")
    moved = raw.rename(tmp_path / "moved")
    convert(READER, moved, tmp_path / "two")
    (moved / "b.txt").write_text("1 22")
    convert(READER, moved, tmp_path / "three")
    hashes = [
        ClipStore(tmp_path / name).provenance["source_sha256"] for name in ("one", "two", "three")
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_an_unknown_option(source, tmp_path):
    with pytest.raises(UnknownNameError, match=r"option of reader 'lines': 'scales' .*'scale'"):
        convert(READER, source(a="0 1"), tmp_path / "a.store", options={"scales": 1})


def test_one_raw_file_is_a_source_too(source, tmp_path):
    raw = source(a="0 1\n1 1", b="0 1")
    assert convert(READER, raw / "a.txt", tmp_path / "a.store").stored == 2


def test_a_missing_source(tmp_path):
    with pytest.raises(
        ReadError, match=r"file or folder .* does not exist; expected files of lines"
    ):
        convert(READER, tmp_path / "nothing", tmp_path / "a.store")


def test_a_source_of_another_kind(source, tmp_path):
    with pytest.raises(ReadError, match=r"expected \.txt files"):
        convert(READER, source(), tmp_path / "a.store")


def test_a_source_without_usable_clips_is_an_error(source, tmp_path):
    raw = source(a="bad\nbad", b="bug", c="bad")
    with pytest.raises(ReadError, match=r"no usable clip in .*a.txt:1: bad line.*and 1 more$"):
        convert(READER, raw, tmp_path / "a.store")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_an_empty_plan_is_an_error(tmp_path):
    empty = replace(READER, scan=lambda source: ReadPlan([], HINGE))
    with pytest.raises(ReadError, match="nothing was stored: it holds no clip"):
        convert(empty, tmp_path, tmp_path / "a.store")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_leaves_the_older_store(source, tmp_path, workers):
    raw = source(a="0 1", b="0 1", c="0 1")
    convert(READER, raw, tmp_path / "a.store")
    before = (tmp_path / "a.store").read_bytes()
    (raw / "a.txt").write_text("1 9")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(READER, raw, tmp_path / "a.store", workers=workers, progress=interrupt)
    assert (tmp_path / "a.store").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.store", "raw"]


def test_a_file_that_is_not_a_store_is_never_overwritten(source, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="exists and is not a store"):
        convert(READER, source(a="0 2"), tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").touch()
    assert convert(READER, source(a="0 2"), tmp_path / "empty").stored == 1


def test_raw_files_are_never_overwritten(source, tmp_path):
    raw = source(a="0 1", b="0 2")
    for target in (raw / "b.txt", raw / ".." / "raw" / "b.txt"):
        with pytest.raises(StoreError, match="is a raw file of the source"):
            convert(READER, raw, target)
    assert (raw / "b.txt").read_text() == "0 2"


def test_the_pool_is_used_where_it_pays(monkeypatch):
    monkeypatch.setattr(convert_module, "_count_cores", lambda: 8)
    enough = convert_module.MIN_POOL_BYTES
    assert convert_module._count_workers(None, 3, 10) == 1
    assert convert_module._count_workers(None, 3, enough) == 3
    assert convert_module._count_workers(None, 30, enough) == 8
    assert convert_module._count_workers(2, 3, 0) == 2
    assert convert_module._count_workers(0, 3, 0) == 1


# --------------------------------------------------------------------- real files


def test_real_files_come_through_unchanged(tmp_path):
    raw = real_data("nw_ucla")
    done = convert(nw_ucla.READER, raw, tmp_path / "a.store")
    store = ClipStore(done.path)
    assert (done.stored, done.refused) == (1484, [])
    assert sum(done.per_class.values()) == 1484
    assert done.frames == store.frames.sum()
    assert [len(get_split_indices(store, "ucla-xview", split)) for split in ("train", "test")] == [
        1020,
        464,
    ]
    clip = store[store.find("a12_s03_e01_v02")]
    one = json.loads((raw / "all_sqe" / f"{clip.id}.json").read_bytes())
    np.testing.assert_array_equal(clip.joints[0], np.float32(one["skeletons"]))
    assert clip.label == one["label"] - 1 == 9
