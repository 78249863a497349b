"""Alter files of every kind that kinegraph reads, and count what becomes of them (`make fuzz`).

    python tests/fuzz.py SECONDS [SEED]

Each case runs in a process of its own with a limit of memory and time. The seed and the number of a
case determine it: equal arguments give equal cases, as far as the time goes.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from reader_samples import ONE_FILE_EACH, OPTIONS, SOURCES, UNITS, has_package
from renewed_checksums import alter

MIB = 1 << 20
MEMORY_LIMIT_BYTES, MEMORY_RATIO = 300 * MIB, 4  # beside what the process has at its start
CASE_SECONDS = 60
OUTCOMES = ("refused", "read", "silent", "crashed", "too much memory", "too slow")
PEAK = "most memory"
#: Values that programs check for too late: signs, sizes, lengths.
NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0")
TEXTS = (
    *(b"-1", b"1e999", b"9" * 400, b"nan", b"[" * 500, b"{}", b"null"),
    *(b'"', b"\n", b"\0", b"&a [*a]"),
)


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Return the content of a file after one to four alterations."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        if not changed:
            break
        at = draw.randrange(len(changed))
        kind = draw.randrange(6)
        if kind == 0:
            changed[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            changed[at : at + 4] = draw.choice(NUMBERS)
        elif kind == 2:
            changed[at : at + draw.randint(0, 8)] = draw.choice(TEXTS)
        elif kind == 3:
            del changed[at : at + draw.randint(1, 200)]
        elif kind == 4:
            changed[at:at] = changed[at : at + draw.randint(1, 200)]
        else:
            del changed[at:]
    return bytes(changed)


class Outcome(NamedTuple):
    """What became of a case.

    Attributes:
        kind: refused, read, silent, crashed, too much memory or too slow.
        message: the reason.
        memory: bytes that the process took beside those at its start.
    """

    kind: str
    message: str
    memory: int = 0


# --------------------------------------------------------------------- what reads the files


def read_source(reader: str) -> Callable[[Path], str]:
    """Return a function that converts a source, and checks that no unit disappears."""

    def read(folder: Path) -> str:
        from kinegraph.readers import READERS
        from kinegraph.readers.convert import convert

        out, options = folder.parent / "out.arrow", OPTIONS.get(reader, {})
        done = convert(READERS[reader], folder, out, options=options, workers=1)
        # a container may state fewer units after an alteration; files may not disappear
        units = UNITS if SOURCES[reader] in ONE_FILE_EACH else 1
        return "read" if done.stored + len(done.refused) >= units else "silent"

    return read


def read_run(expected: str = "") -> Callable[[Path], str]:
    """Return a function that predicts with a checkpoint or an exported file.

    Args:
        expected: digest of the logits; any other answer is a silent change.
    """

    def read(folder: Path) -> str:
        return compare(compute_logits(folder), expected)

    return read


def compute_logits(folder: Path) -> str:
    """Return a digest of the logits that the model in a folder gives for a fixed input."""
    import torch

    from kinegraph.inference.recognizer import Recognizer

    (path,) = (file for file in folder.iterdir() if file.suffix != ".bin")
    recognizer = Recognizer.load(path)
    shape = 1, recognizer.header.in_channels, 8, len(recognizer.header.layout["joints"]), 1
    x = torch.linspace(-1, 1, math.prod(shape)).reshape(shape)
    with torch.no_grad():
        logits = recognizer.model(x)
    return hashlib.sha256(logits.float().numpy().tobytes()).hexdigest()


def compare(found: str, expected: str) -> str:
    """Return the outcome of a file that was read."""
    return "read" if found == expected or not expected else "silent"


def read_store(expected: str = "") -> Callable[[Path], str]:
    """Return a function that reads all clips of a store; see `read_run`."""

    def read(folder: Path) -> str:
        return compare(compute_joints(folder), expected)

    return read


def compute_joints(folder: Path) -> str:
    """Return a digest of all clips of the store in a folder."""
    from kinegraph.clips.store import ClipStore

    (path,) = folder.iterdir()
    store = ClipStore(path)
    clips = [(store[i].joints.tobytes(), store[i].id, store[i].label) for i in range(len(store))]
    return hashlib.sha256(repr(clips).encode()).hexdigest()


def read_message(kind: str, checkpoint: Path) -> Callable[[Path], str]:
    """Return a function that answers a message or a request body as the server does."""
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.inference.session import SessionPool
    from kinegraph.server.limits import Limits
    from kinegraph.server.protocol import decode_binary, decode_json
    from kinegraph.server.schemas import JSON, NPZ, parse_clip

    recognizer = Recognizer.load(checkpoint)

    def read(folder: Path) -> str:
        data = (folder / "message").read_bytes()
        if kind.endswith("body"):
            clip = parse_clip(data, JSON if kind == "json body" else NPZ, recognizer, Limits())
            recognizer(clip)
            return "read"
        if kind == "json message":
            messages = decode_json(data.decode(errors="replace"))
        else:
            messages = decode_binary(data, 25, 3)
        pool = SessionPool(recognizer)
        for message in messages:
            if message.frame is not None:
                pool.push_many({pool.open(): message.frame})
        return "read"

    return read


def read_recipe(folder: Path) -> str:
    """Read a recipe."""
    from kinegraph.training.recipe import load_recipe

    load_recipe(next(folder.iterdir()))
    return "read"


def read_layout_file(folder: Path) -> str:
    """Read a layout."""
    from kinegraph.skeleton.layouts import read_layout

    read_layout(next(folder.iterdir()))
    return "read"


def read_weights(folder: Path) -> str:
    """Import weights of another code."""
    from kinegraph.inference.torch_file import load_torch

    load_torch(next(folder.iterdir()))
    return "read"


# --------------------------------------------------------------------- the files


def write_samples(root: Path, *, exports: bool = True) -> dict[str, Callable[[Path], str]]:
    """Write a folder of good files of each kind; return what reads them."""
    readers: dict[str, Callable[[Path], str]] = {}
    for name, write in SOURCES.items():
        if has_package(name):
            (root / name).mkdir()
            write(root / name, False)
            readers[name] = read_source(name)
    write_models(root, readers)
    write_messages(root, readers)
    if exports:
        write_exports(root, readers)
    from kinegraph.skeleton.layouts import get_layout
    from kinegraph.training.recipe import RECIPE_FOLDER

    for kind, read in (("recipe", read_recipe), ("layout", read_layout_file)):
        (root / kind).mkdir()
        readers[kind] = read
    shutil.copy(RECIPE_FOLDER / "nw_ucla.yaml", root / "recipe")
    (root / "layout" / "mine.yaml").write_text(yaml.safe_dump(get_layout("ntu25").to_dict()))
    return readers


def write_models(root: Path, readers: dict[str, Callable[[Path], str]]) -> None:
    """Write a store, a checkpoint, and weights as torch saves them."""
    import torch

    from kinegraph.skeleton.layouts import get_layout
    from kinegraph.skeleton.space import KINECT
    from kinegraph.training.checkpoint import CheckpointHeader, save_checkpoint
    from reader_samples import stores

    for kind in ("store", "checkpoint", "weights"):
        (root / kind).mkdir()
    stores(root / "store", False)
    for path in sorted((root / "store").iterdir())[1:]:
        path.unlink()
    header = CheckpointHeader(
        {"name": "stgcn", "options": {"channels": [8, 8], "strides": [1, 2]}},
        get_layout("ntu25").to_dict(), 3, 3, ["a", "b", "c"], 1, False, "joint",
        [{"resize": {"frames": 8}}, "stream"], {"name": "ntu", "options": {}},
        {"name": "fuzz", "store": "absent.arrow", "protocol": "xsub"}, {"coordinates": 3}, {},
        space=KINECT.to_dict(),
    )  # fmt: skip
    model = header.build_model().eval()
    save_checkpoint(root / "checkpoint" / "a.safetensors", model.state_dict(), header)
    torch.save(model.state_dict(), root / "weights" / "a.pt")
    readers |= {
        "store": read_store(compute_joints(root / "store")),
        "store, renewed": read_store(),
        "checkpoint": read_run(compute_logits(root / "checkpoint")),
        "checkpoint, renewed": read_run(),
        "weights": read_weights,
        "weights, renewed": read_weights,
        "rtmlib, renewed": read_source("rtmlib"),
    }


def write_exports(root: Path, readers: dict[str, Callable[[Path], str]]) -> None:
    """Write exported files of the formats whose packages are installed."""
    from kinegraph.inference.export.export_run import export_run

    for kind, name in (("pt2", "a.pt2"), ("onnx", "a.onnx"), ("openvino", "a.xml")):
        (root / kind).mkdir()
        try:
            export_run(root / "checkpoint" / "a.safetensors", root / kind / name)
        except Exception as error:  # a package is absent
            print(f"{kind}: left out: {error}", file=sys.stderr)
            shutil.rmtree(root / kind)
        else:
            readers[kind] = read_run(compute_logits(root / kind))
            readers[f"{kind}, renewed"] = read_run()


def write_messages(root: Path, readers: dict[str, Callable[[Path], str]]) -> None:
    """Write messages and request bodies, as clients send them to the server."""
    frame = {"person": "anna", "joints": [[0.1, 0.2, 0.3]] * 25, "time": 0.5}
    frames = [frame, {**frame, "time": None, "flush": True}, {"person": "anna", "end": True}]
    head = struct.pack("<4sBBH", b"KGF1", 0, 1, 2)
    person = struct.pack("<Id", 7, 0.25) + np.linspace(0, 1, 75, dtype="<f4").tobytes()
    clip = {"joints": [[[0.1, 0.2, None]] * 25] * 12, "fps": 30, "meta": {"width": 10}}
    content = {"json message": json.dumps(frames).encode(), "binary message": head + 2 * person}
    content |= {"json body": json.dumps(clip).encode(), "npz body": pack_clip()}
    for kind, data in content.items():
        (root / kind).mkdir()
        (root / kind / "message").write_bytes(data)
        readers[kind] = read_message(kind, root / "checkpoint" / "a.safetensors")


def pack_clip() -> bytes:
    """Return the .npz body of a clip."""
    content = BytesIO()
    np.savez(content, joints=np.full((12, 25, 3), 0.5, np.float32), fps=30.0)
    return content.getvalue()


# --------------------------------------------------------------------- cases


def run_case(read: Callable[[Path], str], folder: Path, result: Any) -> None:
    """Read an altered source in this process; send the outcome and its message."""
    from kinegraph.errors import KinegraphError

    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    start = resident_bytes()
    output = StringIO()
    try:
        with redirect_stdout(output), redirect_stderr(output):
            outcome, message = read(folder), ""
    except (KinegraphError, OSError) as error:
        message = str(error)
        outcome = "refused" if len(message.splitlines()) == 1 else "crashed"
    except BaseException:
        outcome, message = "crashed", traceback.format_exc()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if peak - start > MEMORY_LIMIT_BYTES + MEMORY_RATIO * size:
        outcome, message = "too much memory", f"{(peak - start) / MIB:.0f} MiB for {size} bytes"
    result.send(Outcome(outcome, message, max(0, peak - start)))


def resident_bytes() -> int:
    """Return the memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def try_case(read: Callable[[Path], str], folder: Path) -> Outcome:
    """Return the outcome of a case: refused, read, silent, crashed, too much memory or too slow."""
    context = multiprocessing.get_context("fork")  # with all packages imported
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_case, args=(read, folder, sender))
    process.start()
    sender.close()
    if not receiver.poll(CASE_SECONDS):
        process.kill()
        process.join()
        return Outcome("too slow", f"not done after {CASE_SECONDS} s")
    try:
        outcome = receiver.recv()
    except EOFError:
        process.join()
        name = signal.Signals(-process.exitcode).name if process.exitcode < 0 else process.exitcode
        return Outcome("crashed", f"the process ended with {name}")
    process.join()
    return outcome


def write_case(root: Path, kind: str, target: Path, draw: random.Random) -> None:
    """Copy the source of a kind with one file altered; renew its checksums if the kind says so."""
    source, _, renewed = kind.partition(", ")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root / source, target)
    if renewed:
        alter(source, target, draw, mutate)
        return
    files = sorted(path for path in target.rglob("*") if path.is_file())
    path = draw.choice(files)
    path.write_bytes(mutate(path.read_bytes(), draw))


def iterate_cases(readers: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield (kind, number of the case) without end, kinds in turn."""
    number = 0
    while True:
        for kind in sorted(readers):
            yield kind, number
            number += 1


def fuzz(
    seconds: float, seed: int = 0, *, max_cases: int | None = None, exports: bool = True
) -> dict[str, Counter[str]]:
    """Return how often each outcome came, by kind; faults are printed with their case.

    A source of which some units are refused, and counted, is "read".
    """
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "good").mkdir()
        readers = write_samples(root / "good", exports=exports)
        work = root / "work"
        work.mkdir()
        end = time.monotonic() + seconds
        for kind, number in iterate_cases(readers):
            if time.monotonic() > end or number == max_cases:
                return counts
            write_case(root / "good", kind, work / "case", random.Random(f"{seed} {number}"))
            outcome = try_case(readers[kind], work / "case")
            row = counts.setdefault(kind, Counter())
            row[outcome.kind] += 1
            row[PEAK] = max(row[PEAK], outcome.memory)
            if outcome.kind not in ("refused", "read"):
                text = f"seed {seed}, case {number}: {outcome.message}"
                print(f"{outcome.kind}: {kind}, {text}", flush=True)
    return counts


def print_counts(counts: dict[str, Counter[str]]) -> None:
    """Print a Markdown table of the outcomes, and the most memory that a case took."""
    print("| kind | cases | " + " | ".join(OUTCOMES) + " | MiB |")
    print("|---" * (len(OUTCOMES) + 3) + "|")
    for kind, row in [*sorted(counts.items()), ("all", sum_counts(counts))]:
        numbers = [row[outcome] for outcome in OUTCOMES]
        cells = (kind, sum(numbers), *numbers, f"{row[PEAK] / MIB:.0f}")
        print(f"| {' | '.join(map(str, cells))} |")


def sum_counts(counts: dict[str, Counter[str]]) -> Counter[str]:
    """Return the counts of all kinds together, and the most memory of all."""
    total = sum(counts.values(), Counter())
    total[PEAK] = max((row[PEAK] for row in counts.values()), default=0)
    return total


def main() -> None:
    """Run for so many seconds; exit with 1 if a case was neither refused nor read."""
    seconds = float(sys.argv[1])
    counts = fuzz(seconds, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print_counts(counts)
    total = sum_counts(counts)
    sys.exit(int(any(total[outcome] for outcome in OUTCOMES[2:])))


if __name__ == "__main__":
    main()
