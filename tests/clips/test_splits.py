"""Published sizes of published splits, and mistakes that a split reports."""

from __future__ import annotations

from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from conftest import real_data
from kinegraph.clips.splits import (
    PROTOCOLS,
    PUBLISHED_SPLITS,
    find_published_split,
    get_protocol,
    get_split_indices,
    split_by_protocol,
    validation_split,
)
from kinegraph.errors import ProtocolError, UnknownNameError
from kinegraph.readers.ntu.reader import parse_recording_name


def clip_set(metas, labels=None, digests=None, ids=None):
    """Return the part of a store that a split needs."""
    ids = ids or [f"clip{i}" for i in range(len(metas))]
    labels = np.zeros(len(metas), np.int64) if labels is None else np.asarray(labels)
    return SimpleNamespace(
        ids=ids, metas=metas, labels=labels, digests=digests or ids, provenance={}
    )


def sizes(clips, protocol):
    train, test = split_by_protocol(clips, protocol)
    return len(train), len(test)


# --------------------------------------------------------------------- NTU RGB+D


def names(file: str) -> list[str]:
    return (real_data("ntu_names") / file).read_text().split()


def ntu(found: list[str]):
    return clip_set([parse_recording_name(name) for name in found], ids=found)


def test_several_pairs_of_splits_and_none_chosen():
    clips = clip_set([{"split:xsub_train": True}, {"split:xsub_val": True}])
    with pytest.raises(ProtocolError, match=r"several pairs of splits: .* choose one with --split"):
        split_by_protocol(clips, "official")


def test_ntu60_has_its_published_sizes():
    available = ntu(names("ntu_available.txt"))
    assert sizes(available, "xsub") == (40091, 16487)
    assert sizes(available, "xview") == (37646, 18932)


def test_ntu60_before_the_bad_clips_are_removed():
    missing = names("ntu_missing.txt")
    assert len(missing) == 302
    whole = ntu(names("ntu_available.txt") + missing)
    assert sizes(whole, "xsub") == (40320, 16560)
    assert sizes(whole, "xview") == (37920, 18960)


def test_ntu120_has_its_published_sizes():
    assert len(names("ntu120_missing.txt")) == 535
    available = ntu(names("ntu120_available.txt"))
    assert sizes(available, "xsub") == (63026, 50919)
    assert sizes(available, "xset") == (54468, 59477)


def test_the_new_classes_of_ntu120_alone():
    new = [
        name for name in names("ntu120_available.txt") if parse_recording_name(name)["label"] >= 60
    ]
    assert len(new) == 57367
    assert sizes(ntu(new), "xsub") == (22935, 34432)


@pytest.mark.parametrize(
    ("file", "protocol"),
    [
        ("ntu_available.txt", "xsub"),
        ("ntu_available.txt", "xview"),
        ("ntu120_available.txt", "xset"),
    ],
)
def test_the_published_counts_are_those_of_the_published_names(file, protocol):
    clips = ntu(names(file))
    published = find_published_split(clips, protocol)
    assert (published.train, published.test) == sizes(clips, protocol)


def test_known_counts_have_their_reason():
    new = [n for n in names("ntu120_available.txt") if parse_recording_name(n)["label"] >= 60]
    published = find_published_split(ntu(new), "xsub")
    assert (published.data, published.train, published.test) == ("NTU RGB+D 120", 63026, 50919)
    assert "setups 18 to 32" in published.known[sizes(ntu(new), "xsub")]
    whole = ntu(names("ntu_available.txt") + names("ntu_missing.txt"))
    for protocol in ("xsub", "xview"):
        known = find_published_split(whole, protocol).known
        assert "missing skeletons are included" in known[sizes(whole, protocol)]


def test_other_clips_have_no_published_counts():
    assert find_published_split(clip_set([{}]), "xsub") is None
    made = ntu(["S001C001P001R001A001"])
    made.provenance["reader"] = "synthetic"
    assert find_published_split(made, "xsub") is None
    assert {published.protocol for published in PUBLISHED_SPLITS} <= set(PROTOCOLS)


# --------------------------------------------------------------------- other sets


@pytest.mark.parametrize(
    ("protocol", "metas", "expected"),
    [
        ("ucla-xview", [{"camera": c} for c in (1, 2, 3, 4)], ([0, 1], [2])),
        ("xview", [{"camera": c} for c in (1, 2, 3, 4)], ([1, 2], [0])),
        ("xset", [{"setup": s} for s in (1, 2, 17, 32)], ([1, 3], [0, 2])),
        ("odd-even-subjects", [{"subject": s} for s in (1, "2", 3.0, 4)], ([0, 2], [1, 3])),
        ("loso-2", [{"subject": s} for s in (1, "2", 10, 2.0)], ([0, 2], [1, 3])),
        ("official", [{"split": s} for s in ("train", "test", "val")], ([0], [1])),
        ("official", [{"split": s} for s in ("val", "train", "val", "none")], ([1], [0, 2])),
        (
            "ddnet-split2",
            [{"fold": f, "split": s} for f in (1, 2) for s in ("train", "test")],
            ([2], [3]),
        ),
        ("sbu-fold1", [{"pair": p} for p in ("s01s02", "s02s03", "s09s09")], ([1], [0])),
        ("sbu-fold2", [{"pair": p} for p in ("s01s02", "s02s03", "s09s09")], ([0], [1])),
    ],
)
def test_which_clip_goes_where(protocol, metas, expected):
    train, test = split_by_protocol(clip_set(metas), protocol)
    assert (train.tolist(), test.tolist()) == expected


def test_every_sbu_pair_is_tested_once():
    pairs = sorted(path.name for path in real_data("sbu").iterdir())
    clips = clip_set([{"pair": pair} for pair in pairs])
    tested = [i for fold in range(1, 6) for i in split_by_protocol(clips, f"sbu-fold{fold}")[1]]
    assert sorted(tested) == list(range(21))
    folds = yaml.safe_load(
        resources.files("kinegraph.clips").joinpath("protocols.yaml").read_text()
    )
    assert sorted(pair for fold in folds["sbu_folds"] for pair in fold) == pairs


def test_a_holdout_is_a_fifth_and_depends_on_the_id_alone():
    ids = [f"clip{i}" for i in range(2000)]
    train, test = split_by_protocol(clip_set([{}] * 2000, ids=ids), "holdout")
    assert len(train) + len(test) == 2000
    assert 360 < len(test) < 440
    backwards, _ = split_by_protocol(clip_set([{}] * 2000, ids=ids[::-1]), "holdout")
    assert {ids[i] for i in train} == {ids[::-1][i] for i in backwards}
    # frozen: another hash would move clips from training to test in existing recipes
    assert test[:5].tolist() == [1, 2, 12, 22, 24]


def test_clean_leaves_out_test_clips_seen_in_training():
    metas = [{"split": s} for s in ("train", "train", "test", "test", "test")]
    clips = clip_set(metas, digests=["a", "b", "b", "c", "c"])
    assert get_split_indices(clips, "official", "test").tolist() == [2, 3, 4]
    assert get_split_indices(clips, "official-clean", "test").tolist() == [3, 4]
    assert get_split_indices(clips, "official-clean", "train").tolist() == [0, 1]
    assert get_split_indices(clips, "official-clean", "all").tolist() == [0, 1, 3, 4]


# --------------------------------------------------------------------- the registry


def test_every_protocol_is_found_by_its_name():
    assert len(PROTOCOLS) == 27
    for name in PROTOCOLS:
        assert get_protocol(name).name == name
        clean = get_protocol(f"{name}-clean")
        assert (clean.name, clean.clean) == (f"{name}-clean", True)
        assert get_protocol(name).summary in clean.summary


@pytest.mark.parametrize("name", ["xsubs", "xsubs-clean"])
def test_an_unknown_protocol(name):
    with pytest.raises(UnknownNameError, match=f"unknown protocol '{name}' .did you mean 'xsub"):
        get_protocol(name)


# --------------------------------------------------------------------- what is refused


def test_a_clip_without_the_meta_key():
    clips = clip_set([{"camera": 1}, {"subject": 3, "camera": None, "replication": 1}])
    with pytest.raises(
        ProtocolError,
        match="protocol 'xview' needs the meta key 'camera', which clip 'clip1' lacks; "
        "it has replication, subject",
    ):
        get_split_indices(clips, "xview", "train")
    with pytest.raises(ProtocolError, match=r"'official' .* it has no meta at all"):
        get_split_indices(clip_set([{}]), "official", "train")


@pytest.mark.parametrize(
    ("protocol", "meta", "message"),
    [
        ("xsub", {"subject": "Ann"}, "'subject' to be a whole number, got 'Ann'"),
        ("xsub", {"subject": 1.5}, "'subject' to be a whole number, got 1.5"),
        ("xsub", {"subject": float("inf")}, "'subject' to be a whole number, got inf"),
        ("official", {"split": "training"}, "to be train, test, val or none, got 'training'"),
    ],
)
def test_invalid_values(protocol, meta, message):
    with pytest.raises(ProtocolError, match=f"clip 'clip0': expected meta .*{message}"):
        split_by_protocol(clip_set([meta]), protocol)


def test_an_empty_split():
    clips = clip_set([{"camera": 2}, {"camera": 3}])
    with pytest.raises(ProtocolError, match="leaves the split 'test' empty: of 2 clips 2 are in"):
        get_split_indices(clips, "xview", "test")


def test_an_unknown_split():
    with pytest.raises(ProtocolError, match="expected the split train, test or all, got 'tset'"):
        get_split_indices(clip_set([{"camera": 1}]), "xview", "tset")


# --------------------------------------------------------------------- validation


def labelled(*counts: int):
    labels = np.repeat(np.arange(len(counts)), counts)
    return clip_set([{"subject": i % 5} for i in range(len(labels))], labels)


def test_validation_takes_the_same_share_of_every_class():
    clips = labelled(100, 50, 10)
    train, held = validation_split(range(160), clips, 0.2, seed=0)
    assert np.bincount(clips.labels[held]).tolist() == [20, 10, 2]
    assert sorted([*train, *held]) == list(range(160))


def test_small_classes_do_not_shrink_the_validation():
    clips = labelled(*[3] * 20)
    train, held = validation_split(range(60), clips, 0.1, seed=0)
    assert len(held) == 6
    assert np.bincount(clips.labels[held]).max() == 1
    assert set(clips.labels[train]) == set(range(20))


def test_validation_depends_on_the_seed_and_not_on_the_order():
    clips = labelled(100, 50, 10)
    one = validation_split(range(160), clips, 0.2, seed=1)
    same = validation_split(range(159, -1, -1), clips, 0.2, seed=1)
    other = validation_split(range(160), clips, 0.2, seed=2)
    np.testing.assert_array_equal(one[1], same[1])
    assert one[1].tolist() != other[1].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_on_one_side(seed):
    clips = labelled(100, 50, 10)
    train, held = validation_split(range(160), clips, 0.2, seed, by="subject")
    subjects = [{clips.metas[i]["subject"] for i in side} for side in (train, held)]
    assert subjects[0] & subjects[1] == set()
    assert len(subjects[1]) == 1
    assert sorted([*train, *held]) == list(range(160))


def test_one_group_is_held_even_if_all_are_too_large():
    clips = labelled(50)
    _, held = validation_split(range(50), clips, 0.01, seed=0, by="subject")
    assert len(held) == 10
    _, held = validation_split(range(50), clips, 0.99, seed=0, by="subject")
    assert len(held) == 40


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_out_of_range(fraction):
    with pytest.raises(ProtocolError, match="fraction between 0 and 1"):
        validation_split(range(10), labelled(10), fraction, seed=0)


def test_too_little_to_validate_on():
    with pytest.raises(ProtocolError, match=r"at least two clips .* got 1"):
        validation_split([3], labelled(10), 0.5, seed=0)
    with pytest.raises(ProtocolError, match=r"at least two groups of 'subject' .* got 1"):
        validation_split([0, 5], labelled(10), 0.5, seed=0, by="subject")
    with pytest.raises(ProtocolError, match="a validation split needs the meta key 'actor'"):
        validation_split([0, 5], labelled(10), 0.5, seed=0, by="actor")
