"""Export of a run: traced, verified against the model, and only then written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore
from kinegraph.errors import CheckpointError, ExportError, ProtocolError, StoreError, unknown_name
from kinegraph.files import PARTIAL_SUFFIX, exclusive_lock, find_partial, replace_durably
from kinegraph.inference.backends.exported_model import Manifest, is_exported, load_exported
from kinegraph.inference.backends.runtimes import FORMATS, format_of
from kinegraph.inference.evaluate import select_clips
from kinegraph.inference.export.opset import OPSET, check_opset
from kinegraph.inference.export.parity import BOUNDS, check, check_sizes, compare
from kinegraph.inference.export.quantize import Feeds, iterate_inputs
from kinegraph.inference.export.trace import TracedNetwork, trace_clips, trace_steps
from kinegraph.inference.export.writers import Writer, writer
from kinegraph.inference.segment import load_action_model
from kinegraph.inference.trained_model import TrainedModel
from kinegraph.runtime.fuse import optimize_for_inference
from kinegraph.runtime.network import PersonNetwork
from kinegraph.training.batch import Batch

#: Number of clips to compare a file on, to calibrate int8, and to calibrate it in steps.
COMPARED_CLIPS, CALIBRATION_CLIPS, CALIBRATION_STREAMS = 64, 64, 8
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
PACKAGES = {"torch": ("torch",), "onnx": ("torch", "onnx"), "openvino": ("torch", "openvino")}


def export_run(
    run: Path | str,
    out: Path | str,
    *,
    format: str | None = None,
    precision: str = "fp32",
    streaming: bool = False,
    store: ClipStore | None = None,
    opset: int | None = None,
) -> Manifest:
    """Export a run; the exported model is verified against the original before it is written.

    A temporary file is written, opened by its runtime and compared with the model on clips of the
    test split (on synthetic clips if the store is missing), and then renamed to ``out``. A run that
    segments recordings is exported for whole recordings; its logits are (N, K, T).

    Args:
        run: the run's folder, or a checkpoint file.
        out: the file, which ends in .onnx, .xml (with a .bin beside it) or .pt2.
        format: onnx, openvino or torch; None: by the extension of ``out``.
        precision: fp32, fp16, bf16 or int8.
        streaming: a step network, which takes a few frames at a time and returns its state.
        store: the clips to compare on and to calibrate with; default the recipe's.
        opset: of an ONNX file, from `MIN_OPSET` to `MAX_OPSET`; default `OPSET`.

    Raises:
        ExportError: a format and precision that do not go together, a package that is missing,
            a file that exists already, or one that differs too much from the model.
        CheckpointError, ModelError: the run is missing, or names no actions.
    """
    run, out = Path(run), Path(out)
    name = _format(out, format, precision)
    if opset is not None:
        check_opset(opset, name)
    if is_exported(run):
        raise ExportError(f"{run} is an exported file: export from the run that it came from")
    taken = [path for path in _files(out, name) if path.exists()]
    if taken and (out.exists() or not find_partial(out)):
        raise ExportError(f"{taken[0]} exists: choose another name")
    trained = _load_on_cpu(run)
    traced = _traced(trained, name, precision, streaming=streaming)
    feeds = _feeds(trained, traced, store) if precision == "int8" else None
    write = writer(traced, name, precision, feeds, opset or OPSET)
    packages = {package: version(package) for package in ("kinegraph", *PACKAGES[name])}
    manifest = Manifest(trained.header, name, precision, traced.interface, None, packages)
    return _write(out, manifest, write, trained, store)


def _load_on_cpu(run: Path) -> TrainedModel:
    """Return a run that names actions, of clips or of frames, on the CPU."""
    trained = load_action_model(run)
    trained.device = torch.device("cpu")
    trained.model.cpu()
    return trained


def _format(out: Path, format: str | None, precision: str) -> str:
    """Return the name of the format, if it has files of this name and precision."""
    if precision not in BOUNDS:
        raise unknown_name("precision", precision, BOUNDS)
    if format is not None and format not in FORMATS:
        raise unknown_name("export format", format, FORMATS)
    name = format or format_of(out)
    endings = ", ".join(f"{form.suffix} ({known})" for known, form in FORMATS.items())
    if name is None:
        raise ExportError(
            f"{out}: unknown file extension {out.suffix!r}; expected one of {endings}"
        )
    if out.suffix != FORMATS[name].suffix:
        raise ExportError(f"{out}: format {name!r} needs the file extension {FORMATS[name].suffix}")
    if precision not in FORMATS[name].precisions:
        others = [known for known, form in FORMATS.items() if precision in form.precisions]
        raise ExportError(
            f"format {name!r} does not support {precision} (supported: "
            f"{', '.join(FORMATS[name].precisions)}); {precision} is supported by "
            f"{', '.join(others)}"
        )
    return name


def _files(out: Path, name: str) -> list[Path]:
    """Return all files of an export; the last is the one that users name."""
    return [*([out.with_suffix(".bin")] if name == "openvino" else []), out]


def _traced(trained: TrainedModel, name: str, precision: str, *, streaming: bool) -> TracedNetwork:
    if streaming and trained.objective.names_frames:
        raise ExportError(
            "a segmentation has no step network: export it without --streaming; `kinegraph stream` "
            "takes a run with a causal head frame by frame"
        )
    # OpenVINO stores half precision by itself, and computes in what the processor has
    dtype = torch.float32 if name == "openvino" else DTYPES.get(precision, torch.float32)
    network = optimize_for_inference(trained.model, dtype)
    if name == "openvino" and precision == "int8" and not isinstance(network, PersonNetwork):
        # 2026.4: a quantized convolution behind a product of two activations is wrong
        raise ExportError(
            "format 'openvino' does not support int8 for models that are not local in time: export "
            "to onnx, or in another precision"
        )
    return trace_steps(network, trained.header.persons) if streaming else trace_clips(network)


def _feeds(trained: TrainedModel, traced: TracedNetwork, store: ClipStore | None) -> Feeds:
    """Return inputs of the network for clips of the training split."""
    try:
        store, indices = select_clips(trained.header, store, split="train")
    except (StoreError, CheckpointError) as error:
        raise ExportError(
            f"int8 is calibrated on clips of the training split, but {error}; or name the "
            "store with --store"
        ) from error
    count = CALIBRATION_STREAMS if traced.interface.hop else CALIBRATION_CLIPS
    clips = trained.batches(store, _evenly(indices, count), batch_size=1)
    return iterate_inputs(traced, clips)


def _evenly(indices: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return ``count`` evenly spaced indices, or all if there are fewer."""
    places = np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)
    return indices[places]


def _write(
    out: Path, manifest: Manifest, write: Writer, trained: TrainedModel, store: ClipStore | None
) -> Manifest:
    clips, source = _clips(trained, store)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            exclusive_lock(out),
            tempfile.TemporaryDirectory(
                prefix=f".{out.name}.", suffix=PARTIAL_SUFFIX, dir=out.parent
            ) as folder,
        ):
            draft, final = Path(folder) / "draft" / out.name, Path(folder) / out.name
            draft.parent.mkdir()
            write(draft, manifest.to_json())
            size = sum(path.stat().st_size for path in _files(draft, manifest.format))
            exported, _ = load_exported(draft)
            parity = compare(trained.model, exported, clips, source, size)
            check(parity, manifest.precision)
            check_sizes(trained.model, exported, manifest.precision)
            manifest = replace(manifest, parity=asdict(parity))
            write(final, manifest.to_json())
            load_exported(final)  # raises if it is incomplete, as on a full disk
            for path in _files(out, manifest.format):
                _check_free(path, final.with_name(path.name))
                replace_durably(final.with_name(path.name), path)
    except OSError as error:
        raise ExportError(f"cannot write {out}: {error.strerror or error}") from error
    return manifest


def _check_free(path: Path, new: Path) -> None:
    """Refuse to replace a file, unless it is the equal .bin that a killed export left alone."""
    if path.exists() and path.read_bytes() != new.read_bytes():
        raise ExportError(f"{path} exists: choose another name")


def _clips(trained: TrainedModel, store: ClipStore | None) -> tuple[Iterator[Batch], str]:
    """Return clips to compare on, one a batch, and where they are from."""
    try:
        found, indices = select_clips(trained.header, store)
    except (StoreError, ProtocolError, CheckpointError):
        if store is not None:
            raise
        clips = (trained.batch(clip) for clip in synthetic_clips(trained, COMPARED_CLIPS))
        return clips, "synthetic clips (the store of the run is not available)"
    chosen = _evenly(indices, COMPARED_CLIPS)
    return trained.batches(found, chosen, batch_size=1), f"test clips of {found.path.name}"


def synthetic_clips(trained: TrainedModel, count: int) -> Iterator[Clip]:
    """Yield clips of joints on random walks, 32 to 95 frames long."""
    header, rng = trained.header, np.random.default_rng(0)
    D = int(header.training.get("coordinates", 3))
    places = rng.normal(0, 0.4, (trained.persons, 1, trained.layout.num_joints, D))
    for number in range(count):
        frames = int(rng.integers(32, 96))
        steps = rng.normal(0, 0.03, (*places.shape[:1], frames, *places.shape[2:]))
        joints = (places + steps.cumsum(axis=1)).astype(np.float32)
        name, space = f"synthetic {number}", trained.space
        yield Clip(joints, trained.layout, id=name, fps=30.0, space=space)
