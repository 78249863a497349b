"""Files crafted to crash, or to take much memory or time: read, or refused in one sentence."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from fuzz import MIB, try_case, write_samples
from readers.pickle_attacks import attacks

DEPTH = 100_000
JSON_KINDS = ("kinetics", "openpose", "alphapose", "mmpose", "nw_ucla")
TEXT_KINDS = (
    *("ntu", "sbu", "florence3d", "utkinect", "ui_prmd", "ultralytics", "deeplabcut", "bvh"),
)
ARRAY_KINDS = ("rtmlib", "utd_mhad", "arrays", "pyskl", "stacked", "ddnet", "stores")
MODEL_KINDS = ("store", "checkpoint", "weights", "recipe", "layout")
VALUES = ("nan", "inf", "-Infinity", "1e999", "9" * 400, "0x1p5000", "1_0", "", "١", "1e", "--1")
Write = Callable[[Path], None]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Write good files of every kind; return their folder and what reads them."""
    root = tmp_path_factory.mktemp("good")
    return root, write_samples(root, exports=False)


def put(content: bytes) -> Write:
    """Return a function that replaces a file by this content."""
    return lambda path: path.write_bytes(content) and None


def sparse(path: Path) -> None:
    """Make a file of one GiB that takes no place on the disk."""
    with path.open("ab") as file:
        file.truncate(1 << 30)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zip_bomb(path: Path) -> None:
    """Write an .npz file whose arrays unpack to a thousand times its size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": (100, 1, 17, 200_000)}
        )
        for name in ("keypoints", "scores"):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                file.write(header.getvalue())
                for _ in range(400):
                    file.write(bytes(MIB))


def zip_in_zip(path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("keypoints.npy", bytes(64 * MIB))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("keypoints.npz", inner.getvalue())


def overlapping(path: Path) -> None:
    """Write an .npz file whose directory names the same bytes a thousand times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("keypoints.npy", bytes(MIB))
    data = buffer.getvalue()
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entries = data[start:end] * 1000
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1000, 1000, len(entries), start, 0)
    path.write_bytes(data[:start] + entries + tail)


def npy(shape: str, descr: str = "'<f4'") -> bytes:
    """Return an .npy file of 64 bytes of numbers that states a shape."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    text = text.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)


def compressed_store(path: Path) -> None:
    """Write a store again, compressed, whose joints unpack to many times its size."""
    import pyarrow as pa

    from kinegraph.clips.checksums import BatchChecksums
    from kinegraph.clips.schema import HEADER_KEY

    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        schema, batch = reader.schema, reader.get_batch(0)
    count = 1 << 27
    joints = pa.LargeListArray.from_arrays([0, count], pa.array(np.zeros(count, np.float32)))
    columns = [joints if n == "joints" else batch.column(n) for n in schema.names]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    checksums = BatchChecksums.of(batch, 0, True, schema.metadata[HEADER_KEY])
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema, options=options) as out:
        out.write_batch(batch, checksums.to_metadata())


def safetensors(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(64)


def mat_bomb(path: Path) -> None:
    savemat(path, {"d_skel": np.zeros((20, 3, 2_000_000))}, do_compression=True)


def crafted() -> Iterator[tuple[str, str, Write]]:
    """Yield (kind, name, what makes of a good file a crafted one)."""
    nested = {"lists": b"[" * DEPTH, "closed lists": b"[" * DEPTH + b"]" * DEPTH}
    nested |= {"maps": b'{"data":' * DEPTH, "lists of lists": b"[" + b"[]," * 2_000_000 + b"0]"}
    nested |= {
        "digits": b"[" + b"9" * DEPTH + b"]",
        "surrogates": b'{"data": "\\ud800\\udc00\\ud8"}',
    }
    nested |= {
        "UTF-16": "[1]".encode("utf-16"),
        "null": b"null",
        "nothing": b"",
        "zeros": bytes(99),
    }
    for kind in JSON_KINDS:
        yield from ((kind, name, put(content)) for name, content in nested.items())
    for kind in (*JSON_KINDS, *TEXT_KINDS):
        for number, value in enumerate(VALUES):
            yield kind, f"the value {value[:9]!r}", replace_number(value, number)
    for kind in (*JSON_KINDS, *TEXT_KINDS, *ARRAY_KINDS):
        yield kind, "cut", cut
    for kind in MODEL_KINDS:
        yield kind, "cut", cut
    yield "rtmlib", "zip bomb", zip_bomb
    yield "rtmlib", "zip in zip", zip_in_zip
    yield "rtmlib", "overlapping entries", overlapping
    yield "weights", "overlapping entries", overlapping
    yield "utd_mhad", "compressed zeros", mat_bomb
    yield "store", "compressed zeros", compressed_store
    shapes = ("(2**62,)", "(4611686018427387904, 17, 2)", "(1099511627776, 17, 2)", "(-1, 17, 2)")
    for shape in (*shapes, "(0, 17, 2)", "()", "(2, 17, 10000000000)", "(" * 60 + "1" + ",)" * 60):
        yield "arrays", f"shape {shape[:30]}", put(npy(shape))
    for descr in ("'|O'", "'<f16'", "'<M8[s]'", "[('a', '<f4')]", "'|S1000000000'", "'|V0'"):
        yield "arrays", f"type {descr}", put(npy("(2, 4, 2)", descr))
    headers = {"deep": b"[" * DEPTH, "deep map": b'{"a":' * DEPTH, "empty": b"{}", "list": b"[]"}
    tensor = b'{"a":{"dtype":"F32","shape":[%d,%d],"data_offsets":[0,64]}}'
    headers |= {"huge shape": tensor % (2**40, 2**40), "product of zero": tensor % (0, 2**62)}
    for name, header in headers.items():
        yield "checkpoint", name, put(safetensors(header))
    for length in (2**63, 2**64 - 1, 99_000_000, 0):
        yield "checkpoint", f"header of {length}", put(safetensors(b"{}", length))
    yaml = {
        "deep": b"[" * 50_000,
        "bomb": b"a: &a [x,x]\n" + b"b: &b [*a,*a,*a,*a,*a,*a,*a]\n" * 30,
    }
    yaml |= {"tag": b"!!python/object/apply:os.system [id]", "digits": b"name: " + b"9" * 60_000}
    yaml |= {
        "itself": b"&a [*a]",
        "merge": b"<<: &a {<<: *a}",
        "binary": b"!!binary aGk=",
        "date": b"2001-01-01",
    }
    for kind in ("recipe", "layout"):
        yield from ((kind, name, put(content)) for name, content in yaml.items())
    for name, content in attacks(400_000):
        yield "pyskl", name, put(content)
        yield "weights", name, put(content)
    yield "pyskl", "a call", put(pickle.dumps(_Call()))
    yield "weights", "a call", put(pickle.dumps(_Call()))


class _Call:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def replace_number(value: str, number: int) -> Write:
    """Return a function that replaces one of the last numbers of a text file."""

    def write(path: Path) -> None:
        import re

        text = path.read_text()
        found = list(re.finditer(r"(?<![\w.])-?\d+\.\d+(?![\w.])", text)) or list(
            re.finditer(r"(?<![\w.])\d+(?![\w.])", text)
        )
        place = found[-1 - number % min(3, len(found))]
        path.write_text(text[: place.start()] + value + text[place.end() :], encoding="utf-8")

    return write


def pick(folder: Path) -> Path:
    """Return the file of a source that is altered: the last one, but not a list of labels."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if "abel" not in path.name][-1]


def find_faults(samples, tmp_path: Path, cases: Iterable[tuple[str, str, Write]]) -> str:
    """Return a line for each case that is neither read nor refused in one sentence."""
    root, readers = samples
    faults = []
    for kind, name, write in cases:
        case = tmp_path / "case"
        shutil.rmtree(case, ignore_errors=True)
        shutil.copytree(root / kind, case)
        write(pick(case))
        outcome = try_case(readers[kind], case)
        if outcome.kind not in ("read", "refused"):
            faults.append(f"{outcome.kind}: {kind}, {name}: {outcome.message[-500:]}")
    return "\n".join(faults)


@pytest.mark.slow
def test_crafted_files_are_read_or_refused_in_one_sentence(samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not (faults := find_faults(samples, tmp_path, crafted())), faults
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
def test_files_of_one_gib_without_content_are_refused(samples, tmp_path):
    kinds = (*JSON_KINDS, *TEXT_KINDS, *ARRAY_KINDS, *MODEL_KINDS)
    cases = ((kind, "one GiB", sparse) for kind in kinds)
    assert not (faults := find_faults(samples, tmp_path, cases)), faults


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("kind", ["ntu", "kinetics", "arrays", "rtmlib", "utd_mhad", "bvh", "sbu"])
def test_odd_entries_of_a_folder_are_read_or_refused(kind, samples, tmp_path):
    root, readers = samples
    case = tmp_path / "case"
    shutil.copytree(root / kind, case)
    path = pick(case)
    suffix, folder = path.suffix, path.parent
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / f"itself{suffix}").symlink_to(folder / f"itself{suffix}")
    (folder / f"nowhere{suffix}").symlink_to("absent")
    (folder / f"folder{suffix}").mkdir()
    os.mkfifo(folder / f"pipe{suffix}")
    for name in ("a\nb", "a\x1b[2Jb", "\udcff\udcfe", "\u202e"):
        shutil.copy(path, folder / f"{name}{suffix}")
    outcome = try_case(readers[kind], case)
    assert outcome.kind in ("read", "refused"), outcome


def test_a_gz_bomb_is_refused(samples, tmp_path):
    root, readers = samples
    case = tmp_path / "case"
    shutil.copytree(root / "ui_prmd", case)
    path = next(case.rglob("*_positions.txt"))
    with gzip.open(path.with_name(f"{path.name}.gz"), "wb") as file:
        for _ in range(600):
            file.write(b"1,2,3\n" * (MIB // 6))
    path.unlink()
    outcome = try_case(readers["ui_prmd"], case)
    assert outcome.kind in ("read", "refused"), outcome
