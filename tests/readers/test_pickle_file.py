"""Pickles: only arrays and plain containers are loaded, and nothing is executed."""

from __future__ import annotations

import collections
import os
import pickle
import struct
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest

from conftest import real_data
from kinegraph.errors import ReadError
from kinegraph.readers.formats import pickle_file
from kinegraph.readers.formats.pickle_file import load_pickle
from kinegraph.readers.formats.raw_file import describe
from readers.pickle_attacks import attacks

F8 = "cnumpy\ndtype\n(X\x02\x00\x00\x00f8I00\nI01\ntR(I3\nX\x01\x00\x00\x00<NNNI-1\nI-1\nI0\ntb"
RECONSTRUCT = "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntc_codecs\nencode\n"


@pytest.fixture
def pickled(tmp_path):
    def write(content, protocol=4):
        path = tmp_path / "some.pkl"
        data = content if isinstance(content, bytes) else pickle.dumps(content, protocol)
        path.write_bytes(data)
        return path

    return write


class Evil:
    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


def test_tensors_of_paddle_are_pairs_of_a_name_and_an_array(pickled):
    pair = Evil(tuple, ("conv_0.w_0", np.arange(3.0)))
    content = load_pickle(pickled({"conv.weight": pair}))
    name, array = content["conv.weight"]
    assert (name, array.tolist()) == ("conv_0.w_0", [0, 1, 2])


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_containers_survive(pickled, protocol):
    content = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.arange(6.0).reshape(2, 3).T,
        "turned": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        "big": np.arange(3, dtype=">i4"),
        "half": np.ones((2, 0, 3), dtype=np.float16),
        "flags": np.array([True, False]),
        "names": np.array(["a", "bcd"]),
        "scalar": np.float64(1.5),
        "plain": [1, 2.5, None, True, "x", b"y", (1, (2,)), {3, 4}, b"", {}],
        "ordered": collections.OrderedDict(z=1, a=2),
    }
    loaded = load_pickle(pickled(content, protocol))
    assert list(loaded) == list(content)
    for key in ("a", "columns", "turned", "big", "half", "flags", "names"):
        np.testing.assert_array_equal(loaded[key], content[key])
        assert loaded[key].shape == content[key].shape
        assert loaded[key].dtype == content[key].dtype
        assert type(loaded[key]) is np.ndarray
    assert loaded["scalar"] == 1.5
    assert type(loaded["scalar"]) is np.float64
    assert loaded["plain"] == content["plain"]
    assert list(loaded["ordered"].items()) == [("z", 1), ("a", 2)]


@pytest.mark.parametrize("protocol", range(6))
def test_object_arrays_of_arrays(pickled, protocol):
    poses = np.empty(2, dtype=object)
    poses[0], poses[1] = np.zeros((3, 2)), np.ones((4, 2))
    loaded = load_pickle(pickled([poses, poses], protocol))
    assert loaded[0].dtype == object
    assert [p.shape for p in loaded[0]] == [(3, 2), (4, 2)]
    assert loaded[0][1].sum() == 8


def test_python_2_pickle(pickled):
    raw = np.array([1.5, -2.0]).tobytes()
    text = (
        b"}U\x01aq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02(cnumpy\nndarray\nq\x03"
        b"(K\x00tU\x01btR(K\x01(K\x02tcnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10" + raw + b"tbs."
    )
    assert load_pickle(pickled(text))["a"].tolist() == [1.5, -2.0]


def test_old_and_new_numpy_names(pickled):
    data = pickle.dumps(np.arange(3), 2)
    assert b"numpy._core" in data or b"numpy.core" in data
    other = data.replace(b"numpy._core", b"numpy.core")
    assert load_pickle(pickled(other)).tolist() == [0, 1, 2]
    other = other.replace(b"numpy.core", b"numpy._core")
    assert load_pickle(pickled(other)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", range(6))
def test_malicious_pickle_is_refused_by_name_and_not_executed(pickled, tmp_path, protocol):
    target = tmp_path / "executed"
    path = pickled([np.zeros(3), Evil(os.system, f"touch {target}")], protocol)
    with pytest.raises(ReadError, match=r"some\.pkl: .* names (posix|nt)\.system; only numpy"):
        load_pickle(path)
    assert not target.exists()


@pytest.mark.parametrize(
    "call",
    [eval, exec, getattr, compile, open, bytearray, np.load, np.frombuffer, np.zeros, np.memmap],
)
def test_other_names_are_refused(pickled, call):
    with pytest.raises(ReadError, match="names"):
        load_pickle(pickled([Evil(call, "1")]))


def test_objects_are_refused(pickled):
    for content in (Evil(Evil, 1), collections.Counter("ab"), 1j, range(3), np.datetime64("2020")):
        with pytest.raises(ReadError, match=r"names|holds"):
            load_pickle(pickled(content))


def test_structured_arrays_are_refused(pickled):
    with pytest.raises(ReadError, match="of type 'V12'"):
        load_pickle(pickled(np.zeros(2, dtype=[("a", "f8"), ("b", "i4")])))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "expected a pickle of 1 to"),
        (b"not a pickle", "not a pickle instruction"),
        (b"\x00\xff" * 40, "not a pickle instruction"),
        (b"\x80\x04N", "ends in the middle"),
        (b"\x80\x04]\x94(K\x01", "ends in the middle"),
        (b"\x8e" + struct.pack("<Q", 10**12) + b"abc.", "ends in the middle"),
        (b"\x96" + struct.pack("<Q", 10**12) + b"abc.", "ends in the middle"),
        (b"T" + struct.pack("<i", -5) + b"abc.", "ends in the middle"),
        (b"Nr" + struct.pack("<I", 2**32 - 1) + b".", "memo does not count up"),
        (b"Np4294967295\n.", "memo does not count up"),
        (b"\x82\x01.", "instruction EXT1"),
        (b"Psome id\n.", "instruction PERSID"),
        (b"(icollections\nOrderedDict\n.", "instruction INST"),
        (b"cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.", "arrays of any shape"),
        (b"cnumpy\nndarray\n.", "holds a method"),
        (b"0.", "pickle of arrays"),
        (b"].extra", None),
    ],
)
def test_damaged_pickles(pickled, data, reason):
    path = pickled(data)
    if reason is None:
        assert load_pickle(path) == []
        return
    with pytest.raises(ReadError, match=reason) as caught:
        load_pickle(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("shape", [b"(I1000000000000\nt", b"(I4\nI4\nt", b"(I-1\nt", b"N"])
def test_arrays_must_have_the_data_that_their_shape_claims(pickled, shape):
    state = b"(I1\n" + shape + F8.encode("latin1") + b"I00\nC\x08" + bytes(8) + b"tb."
    start = RECONSTRUCT.encode() + b"(X\x01\x00\x00\x00bX\x06\x00\x00\x00latin1tRtR"
    with pytest.raises(ReadError, match="shape"):
        load_pickle(pickled(start + state))


def test_object_arrays_must_come_with_their_items(pickled):
    poses = np.empty(2, dtype=object)
    data = pickle.dumps(poses, 3).replace(b"K\x02\x85", b"J\xff\xff\xff\x7f\x85")
    with pytest.raises(ReadError, match="does not come with its items"):
        load_pickle(pickled(data))


def test_array_without_data(pickled):
    start = RECONSTRUCT.encode() + b"(X\x01\x00\x00\x00bX\x06\x00\x00\x00latin1tRtR."
    with pytest.raises(ReadError, match="comes without its data"):
        load_pickle(pickled(start))


def test_small_pickle_cannot_stand_for_much_data(pickled):
    array = np.zeros(10**5)
    with pytest.raises(ReadError, match="far more than the file's size"):
        load_pickle(pickled([array] * 1000))
    laughs = ["ha"] * 100
    for _ in range(20):
        laughs = [laughs] * 100
    with pytest.raises(ReadError, match="far more than the file's size"):
        load_pickle(pickled(laughs))


def test_endless_nesting(pickled):
    content = []
    content.append(content)
    with pytest.raises(ReadError, match="contains itself"):
        load_pickle(pickled(content))
    with pytest.raises(ReadError, match="nested deeper"):
        load_pickle(pickled(b"]" * 100_000 + b"a" * 99_999 + b"."))


ATTACKS = dict(attacks(40_000))


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_take_memory_in_proportion_to_their_size(name, pickled, monkeypatch):
    monkeypatch.setattr(pickle_file, "FREE_BYTES", 2**15)
    path = pickled(ATTACKS[name])
    tracemalloc.start()
    try:
        with suppress(ReadError):
            load_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * path.stat().st_size + 2**18
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("key", [(1, 2), ((),), frozenset([1]), 2**64, 1.5j, b"ok", "ok", 2**63])
def test_keys_are_plain_values(pickled, key):
    allowed = key in (b"ok", "ok", 2**63)
    for content in ({key: 1}, {key}):
        if allowed:
            assert load_pickle(pickled(content)) == content
        else:
            with pytest.raises(ReadError, match=r"key of the type|names"):
                load_pickle(pickled(content))


def test_an_error_does_not_quote_a_large_value(pickled):
    for value in ("x" * 10**6, b"x" * 10**6, ["x" * 10**6] * 3, 10**4000, np.zeros(10**5)):
        assert len(describe(value)) < 80


def test_missing_file(tmp_path):
    with pytest.raises(ReadError, match="No such file"):
        load_pickle(tmp_path / "none.pkl")


def test_truncated_anywhere(pickled):
    data = pickle.dumps({"keypoint": np.zeros((2, 3, 4, 2)), "label": 3, "name": "x"}, 4)
    for end in range(1, len(data)):
        with pytest.raises(ReadError):
            load_pickle(pickled(data[:end]))


def test_flipped_bytes_give_a_value_or_a_read_error(pickled):
    data = bytearray(pickle.dumps({"keypoint": np.zeros((2, 3)), "label": 3}, 2))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        broken = data.copy()
        broken[rng.integers(len(data))] = rng.integers(256)
        try:
            load_pickle(pickled(bytes(broken)))
        except ReadError:
            refused += 1
    assert refused > 100


def test_real_pickles_equal_what_pickle_gives():
    for path in sorted(real_data("jhmdb14").glob("*.pkl"))[:1]:
        ours = load_pickle(path)
        theirs = pickle.loads(path.read_bytes())
        assert ours["label"] == theirs["label"]
        assert all(np.array_equal(a, b) for a, b in zip(ours["pose"], theirs["pose"], strict=True))
