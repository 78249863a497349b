"""From a run to a file that other runtimes answer with: traced, compared, and only then written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore
from kinegraph.errors import (
    CheckpointError,
    ExportError,
    ProtocolError,
    StoreError,
    unknown_name,
)
from kinegraph.files import replace_durably
from kinegraph.inference.backends.exported_model import Manifest, is_exported, load_exported
from kinegraph.inference.backends.runtimes import FORMATS, format_of
from kinegraph.inference.evaluate import select_clips
from kinegraph.inference.export.parity import BOUNDS, check, check_sizes, compare
from kinegraph.inference.export.quantize import Feeds, feeds_of
from kinegraph.inference.export.trace import Traced, trace_clips, trace_steps
from kinegraph.inference.export.writers import Writer, writer
from kinegraph.inference.recognizer import Recognizer
from kinegraph.runtime.fuse import fast
from kinegraph.runtime.network import FastNetwork
from kinegraph.training.batch import Batch

#: Clips that a file is compared on, that int8 is calibrated with, and the same in steps.
COMPARED, CALIBRATED, CALIBRATED_IN_STEPS = 64, 64, 8
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
PACKAGES = {"torch": ("torch",), "onnx": ("torch", "onnx"), "openvino": ("torch", "openvino")}


def export_run(
    run: Path,
    out: Path,
    *,
    format: str | None = None,
    precision: str = "fp32",
    streaming: bool = False,
    store: ClipStore | None = None,
) -> Manifest:
    """Write a run's network as a file for another runtime.

    The file is written beside, opened by its own runtime and compared with the module on clips
    of the test split (made-up ones where the store is out of reach), before it gets its name.

    Args:
        run: the run's folder, or a checkpoint file.
        out: the file, which ends in .onnx, .xml (with a .bin beside it) or .pt2.
        format: onnx, openvino or torch; None: by the ending of ``out``.
        precision: fp32, fp16, bf16 or int8.
        streaming: a step network, which takes a few frames at a time and returns what it keeps.
        store: the clips to compare on and to calibrate with; default the recipe's.

    Raises:
        ExportError: a format and precision that do not go together, a package that is missing,
            a file that is there already, or one that does not answer as the module does.
        CheckpointError, ModelError: there is no run, or one without a recogniser.
    """
    name = _format(out, format, precision)
    if is_exported(run):
        raise ExportError(f"{run} is an exported file: export from the run that it came from")
    taken = [path for path in _files(out, name) if path.exists()]
    if taken:
        raise ExportError(f"{taken[0]} exists: give another name")
    recognizer = Recognizer.load(run)
    recognizer.device = torch.device("cpu")
    recognizer.model.cpu()
    feeds, traced = None, _traced(recognizer, name, precision, streaming=streaming)
    if precision == "int8":
        feeds = _feeds(recognizer, traced, store)
    write = writer(traced, name, precision, feeds)
    packages = {package: version(package) for package in ("kinegraph", *PACKAGES[name])}
    manifest = Manifest(recognizer.header, name, precision, traced.interface, None, packages)
    return _write(out, manifest, write, recognizer, store)


def _format(out: Path, format: str | None, precision: str) -> str:
    """The format's name, if there is such a file."""
    if precision not in BOUNDS:
        raise unknown_name("precision", precision, BOUNDS)
    if format is not None and format not in FORMATS:
        raise unknown_name("export format", format, FORMATS)
    name = format or format_of(out)
    endings = ", ".join(f"{form.suffix} ({known})" for known, form in FORMATS.items())
    if name is None:
        raise ExportError(f"{out}: the ending says the format, expected one of {endings}")
    if out.suffix != FORMATS[name].suffix:
        raise ExportError(f"{out}: a file for {name} ends in {FORMATS[name].suffix}")
    if precision not in FORMATS[name].precisions:
        others = [known for known, form in FORMATS.items() if precision in form.precisions]
        raise ExportError(
            f"{name} cannot be had in {precision}, but in {', '.join(FORMATS[name].precisions)}; "
            f"{precision} can be had for {', '.join(others)}"
        )
    return name


def _files(out: Path, name: str) -> list[Path]:
    """All files of an export; the one that the others belong to is the last."""
    return [*([out.with_suffix(".bin")] if name == "openvino" else []), out]


def _traced(recognizer: Recognizer, name: str, precision: str, *, streaming: bool) -> Traced:
    # OpenVINO stores half precision by itself, and computes in what the processor has
    dtype = torch.float32 if name == "openvino" else DTYPES.get(precision, torch.float32)
    network = fast(recognizer.model, dtype)
    if name == "openvino" and precision == "int8" and not isinstance(network, FastNetwork):
        # seen with 2026.4: a quantized convolution behind links of each clip gives other numbers
        raise ExportError(
            f"OpenVINO does not compute {type(network).__name__} in int8 as it is written: export "
            "it for onnx, or in another precision"
        )
    return trace_steps(network, recognizer.header.persons) if streaming else trace_clips(network)


def _feeds(recognizer: Recognizer, traced: Traced, store: ClipStore | None) -> Feeds:
    """Calls of the network for clips of the training split."""
    try:
        store, indices = select_clips(recognizer.header, store, split="train")
    except (StoreError, CheckpointError) as error:
        raise ExportError(
            f"int8 is calibrated on clips of the training split, but {error}; or name the "
            "store with --store"
        ) from error
    count = CALIBRATED_IN_STEPS if traced.interface.hop else CALIBRATED
    chosen = _evenly(indices, count)

    def feeds() -> Iterator[Sequence[torch.Tensor]]:
        clips = recognizer.batches(store, chosen, batch_size=1)
        talks = (traced.interface.talk(clip.x, clip.lengths) for clip in clips)
        return feeds_of(talks, traced.network)

    return feeds


def _evenly(indices: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """``count`` of the indices, or all if there are fewer, spread over them."""
    places = np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)
    return indices[places]


def _write(
    out: Path, manifest: Manifest, write: Writer, recognizer: Recognizer, store: ClipStore | None
) -> Manifest:
    clips, source = _clips(recognizer, store)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{out.name}.", suffix=".partial", dir=out.parent
        ) as folder:
            draft, final = Path(folder) / "draft" / out.name, Path(folder) / out.name
            draft.parent.mkdir()
            write(draft, manifest.to_json())
            size = sum(path.stat().st_size for path in _files(draft, manifest.format))
            exported, _ = load_exported(draft)
            parity = compare(recognizer.model, exported, clips, source, size)
            check(parity, manifest.precision)
            check_sizes(recognizer.model, exported, manifest.precision)
            manifest = replace(manifest, parity=asdict(parity))
            write(final, manifest.to_json())
            for made, path in zip(
                _files(final, manifest.format), _files(out, manifest.format), strict=True
            ):
                replace_durably(made, path)
    except OSError as error:
        raise ExportError(f"cannot write {out}: {error.strerror or error}") from error
    return manifest


def _clips(recognizer: Recognizer, store: ClipStore | None) -> tuple[Iterator[Batch], str]:
    """Clips to compare on, one a batch, and where they are from."""
    try:
        found, indices = select_clips(recognizer.header, store)
    except (StoreError, ProtocolError, CheckpointError):
        if store is not None:
            raise
        clips = (recognizer.batch(clip) for clip in made_up_clips(recognizer, COMPARED))
        return clips, "made-up clips (the run's store is out of reach)"
    chosen = _evenly(indices, COMPARED)
    return recognizer.batches(found, chosen, batch_size=1), f"test clips of {found.path.name}"


def made_up_clips(recognizer: Recognizer, count: int) -> Iterator[Clip]:
    """Bodies that wander: joints around their places, of lengths from 32 to 95 frames."""
    header, rng = recognizer.header, np.random.default_rng(0)
    D = int(header.training.get("coordinates", 3))
    places = rng.normal(0, 0.4, (header.persons, 1, recognizer.layout.num_joints, D))
    for number in range(count):
        frames = int(rng.integers(32, 96))
        steps = rng.normal(0, 0.03, (*places.shape[:1], frames, *places.shape[2:]))
        joints = (places + steps.cumsum(axis=1)).astype(np.float32)
        yield Clip(joints, recognizer.layout, id=f"made-up {number}", fps=30.0)
