"""Stores of different layouts, spaces and splits, read as one set."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.clips.splits import split_by_protocol, validation_clips
from kinegraph.clips.store import ClipStore
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import ReadError
from kinegraph.readers import READERS, guess_reader
from kinegraph.readers.convert import convert
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import Space

READER = READERS["stores"]


def write(path, layout, coordinates, metas, *, classes=None, space=None, protocols=("official",)):
    """Write a store of two frames a clip, whose labels are 0 and 1 in turn."""
    rng = np.random.default_rng(0)
    clips = [
        Clip(
            rng.normal(size=(1, 2, get_layout(layout).num_joints, coordinates)),
            get_layout(layout),
            label=i % 2,
            id=f"clip{i}",
            meta=meta,
            **({} if space is None else {"space": space}),
        )
        for i, meta in enumerate(metas)
    ]
    provenance = {"protocols": list(protocols)}
    with StoreWriter(path, clips[0].layout, classes, provenance) as writer:
        for clip in clips:
            writer.write(clip)
    return clips


@pytest.fixture
def folder(tmp_path):
    """A folder of a store in millimeters, split by subjects, and one of images."""
    splits = ("train", "test", "val", "none")
    subjects = [{"subject": i} for i in range(4)]
    write(
        tmp_path / "solid.arrow",
        "sbu15",
        3,
        subjects,
        classes=("kick", "wave"),
        space=Space("world", "y", "z", unit="mm"),
        protocols=("odd-even-subjects", "holdout"),
    )
    flat = [{"split": split} for split in splits]
    write(tmp_path / "flat.arrow", "penn13", 2, flat, classes=("wave", "jump"))
    return tmp_path


def combine(folder, name="all.arrow", **options):
    result = convert(READER, folder, folder / name, options=options)
    assert not result.refused
    return ClipStore(folder / name)


def test_clips_of_all_stores_are_in_one_layout_and_one_space(folder):
    store = combine(folder)
    assert len(store) == 8
    assert (store.layout.name, store.num_channels) == ("kinect20", 3)
    assert store.space == Space("world", "y", "z")
    flat, solid = ClipStore(folder / "flat.arrow")[0], ClipStore(folder / "solid.arrow")[0]
    wrist = store.layout.index("left_wrist")
    mine = {clip.id: clip.joints[0, :, wrist] for clip in store}
    theirs = flat.joints[0, :, flat.layout.index("left_wrist")]
    # in an image x grows to the right and y downwards; Kinect's x grows to the left, its y upwards
    np.testing.assert_allclose(mine["flat/clip0"][:, :2], -theirs)
    assert not mine["flat/clip0"][:, 2].any()
    hand = solid.joints[0, :, solid.layout.index("left_hand")]
    np.testing.assert_allclose(mine["solid/clip0"], hand / 1000, rtol=1e-6)
    spine = store.layout.index("spine")
    assert np.isnan(next(c for c in store if c.id == "flat/clip0").joints[:, :, spine]).all()


def test_each_store_keeps_its_split_and_its_classes(folder):
    store = combine(folder)
    assert store.classes == ("flat: wave", "flat: jump", "solid: kick", "solid: wave")
    assert list(store.labels) == [0, 1, 0, 1, 2, 3, 2, 3]
    train, test = split_by_protocol(store, "official")
    assert [store.ids[i] for i in train] == ["flat/clip0", "solid/clip1", "solid/clip3"]
    assert [store.ids[i] for i in test] == ["flat/clip1", "solid/clip0", "solid/clip2"]
    assert [store.ids[i] for i in validation_clips(store, "official")] == ["flat/clip2"]
    assert store.metas[0]["store"] == "flat"
    assert store.metas[4]["subject"] == 0


def test_protocols_and_layout_can_be_stated_and_a_result_is_not_read_again(folder):
    combine(folder)
    stated = {"solid": "all"}
    store = combine(folder, "again.arrow", layout="penn13", protocols=stated)
    assert len(store) == 8
    assert store.layout.name == "penn13"
    assert {m["split"] for m in store.metas if m["store"] == "solid"} == {"train"}
    assert guess_reader(folder / "again.arrow").name == "stores"


def test_what_cannot_be_combined_is_refused_with_its_reason(folder, tmp_path):
    write(folder / "aside.arrow", "penn13", 2, [{}], protocols=())
    write(folder / "broken.arrow", "penn13", 2, [{}])
    fish = SkeletonLayout(name="fish", joints=("fin", "tail"), bones=((1, 0),), center=0)
    write(folder / "fish.arrow", fish, 2, [{"split": "train"}])
    (folder / "more").mkdir()
    write(folder / "more" / "flat.arrow", "penn13", 2, [{"split": "train"}])
    (folder / "zero.arrow").write_bytes(b"ARROW1 and no more")
    result = convert(READER, folder, folder / "all.arrow")
    reasons = dict(result.refused)
    assert 'states no protocol: give one, as "{aside: holdout}"' in reasons["aside.arrow"]
    assert "needs the meta key 'split'" in reasons["broken.arrow"]
    assert "zero.arrow" in reasons["zero.arrow"]
    assert "have no joint in common" in reasons["fish.arrow"]
    assert "another store has this name" in reasons["more/flat.arrow"]
    assert result.stored == 8
    for wrong in ("sbu-fold1", {"solid": 1}, ["all"]):
        with pytest.raises(ReadError, match="expected protocols as"):
            convert(READER, folder, folder / "all.arrow", options={"protocols": wrong})
    with pytest.raises(ReadError, match="'solids' is not a store in"):
        convert(READER, folder, folder / "all.arrow", options={"protocols": {"solids": "all"}})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match="expected stores"):
        convert(READER, tmp_path / "empty", tmp_path / "all.arrow")
