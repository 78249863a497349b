"""Exports: every model in every format, refused when it does not agree, used in place of a run."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from altered_run import altered_run
from kinegraph.clips.store import ClipStore
from kinegraph.errors import ExportError, KinegraphError, ModelError, UnknownNameError
from kinegraph.inference.backends.exported_model import ExportedModel, read_manifest
from kinegraph.inference.backends.runtimes import FORMATS
from kinegraph.inference.evaluate import evaluate_run
from kinegraph.inference.export import export_run as export
from kinegraph.inference.export.export_run import export_run
from kinegraph.inference.export.opset import OPSET
from kinegraph.inference.export.parity import BOUNDS, Parity, check
from kinegraph.inference.export.quantize import iterate_inputs
from kinegraph.inference.export.trace import TracedNetwork, trace_clips, trace_steps
from kinegraph.inference.export.writers import writer
from kinegraph.inference.recognizer import Recognizer
from kinegraph.models import create_model
from kinegraph.runtime.fuse import optimize_for_inference, relative_error
from kinegraph.training.batch import Batch
from kinegraph.training.checkpoint import BEST_FILE, load_model, save_checkpoint

ROOT = Path(__file__).parents[2]
JOINTS = {"layout": "jhmdb15", "num_classes": 5, "in_channels": 2}
SMALL: dict[str, Any] = {"channels": [8], "strides": [2]}
MODELS: dict[str, dict[str, Any]] = {
    "stgcn": {},
    "shiftgcn": {},
    "stgcn_twostream": {},
    "asgcn": {"link_frames": 4, "future": 3},
}
VARIANTS: dict[str, dict[str, Any]] = MODELS | {
    "stgcn faithful": {"faithful": True},
    "shiftgcn faithful": {"faithful": True},
    "asgcn faithful": {"faithful": True, "link_frames": 4, "future": 3},
    "stgcn joints": {"pool": "joints"},
    "stgcn me": {"excitation": "me_parallel"},
    "shiftgcn mta": {"excitation": "mta"},
}
#: (N, T, M), none of them as traced; one person of the last clip is absent where there are two.
SIZES = [(1, 24, 1), (2, 33, 3), (4, 17, 2)]


@cache
def model_of(variant: str) -> torch.nn.Module:
    """A small random model, whose batch norms have seen something."""
    torch.manual_seed(0)
    name = variant.split()[0]
    model = create_model(name, **JOINTS, **SMALL, **VARIANTS[variant])
    for _ in range(3):
        model.train()(torch.randn(4, 2, 24, 15, 2))
    return model.eval()


@cache
def traced_of(variant: str, precision: str = "fp32", *, streaming: bool = False) -> TracedNetwork:
    """The model as a program."""
    network = optimize_for_inference(model_of(variant), export.DTYPES.get(precision, torch.float32))
    return trace_steps(network, 2) if streaming else trace_clips(network)


def written(
    traced: TracedNetwork, name: str, precision: str, folder: Path, opset: int = OPSET
) -> ExportedModel:
    """A program as a file of a format, loaded by its runtime."""
    path = folder / f"it{FORMATS[name].suffix}"
    feeds = None
    if precision == "int8":
        batch = Batch(clips(2, 24, 2), torch.zeros(2), torch.full((2,), 24))
        feeds = iterate_inputs(traced, [batch] * 4)
    writer(traced, name, precision, feeds, opset)(path, "{}")
    assert FORMATS[name].read(path) == "{}"
    return ExportedModel(traced.interface, (2, 15), FORMATS[name].open(path, precision))


def clips(N: int, T: int, M: int) -> torch.Tensor:
    """Random clips in which a person is missing."""
    x = torch.randn(N, 2, T, 15, M, generator=torch.Generator().manual_seed(T))
    x[-1, ..., 1:] = 0
    return x


@torch.inference_mode()
def agrees(model: torch.nn.Module, exported: torch.nn.Module, bound: float) -> None:
    """The exported network gives the model's logits for clips of several sizes."""
    persons = exported.interface.persons
    for N, T, M in SIZES:
        x = clips(N, T, persons or M)
        error = relative_error(exported(x), model(x))
        assert error <= bound, (tuple(x.shape), error)


def test_links_of_clips_travel_in_the_file(tmp_path):
    exported = written(traced_of("asgcn"), "torch", "fp32", tmp_path)
    agrees(model_of("asgcn"), exported, 1e-4)
    x, lengths = clips(2, 30, 2), torch.tensor([30, 11])
    model = model_of("asgcn")
    assert relative_error(exported(x, lengths), model(x, lengths).detach()) <= 1e-4
    assert relative_error(exported(x), model(x, lengths).detach()) > 1e-3


def test_a_network_that_normalises_two_persons_together_takes_two(tmp_path):
    exported = written(traced_of("shiftgcn faithful"), "torch", "fp32", tmp_path)
    agrees(model_of("shiftgcn faithful"), exported, 1e-4)
    with pytest.raises(ModelError, match="T, 15, 2"):
        exported(clips(1, 24, 3))


@pytest.mark.parametrize(
    "variant", ["shiftgcn", pytest.param("stgcn_twostream", marks=pytest.mark.slow)]
)
def test_steps_end_with_the_answer_of_the_clip(variant, tmp_path):
    exported = written(traced_of(variant, streaming=True), "torch", "fp32", tmp_path)
    agrees(model_of(variant), exported, 1e-4)


OLD_OPSETS = [("stgcn", 11, False), ("shiftgcn", 11, True), ("shiftgcn mta", 11, False)]
OLD_OPSETS += [("asgcn", 13, False), ("stgcn_twostream", 17, False)]


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "opset", "streaming"), OLD_OPSETS)
def test_old_opsets_hold_the_same_network(variant, opset, streaming, tmp_path):
    traced = traced_of(variant, streaming=streaming)
    agrees(model_of(variant), written(traced, "onnx", "fp32", tmp_path, opset), 1e-4)


def test_what_is_not_local_in_time_has_no_step_network():
    with pytest.raises(ExportError, match="the model is not local in time"):
        trace_steps(optimize_for_inference(model_of("asgcn")), 2)


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True], ids=["clips", "steps"])
@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize(
    ("name", "precision"), [(n, p) for n, form in FORMATS.items() for p in form.precisions]
)
def test_every_model_in_every_format_and_precision(name, precision, variant, streaming, tmp_path):
    if variant.startswith("asgcn") and (streaming or (name, precision) == ("openvino", "int8")):
        pytest.skip("cannot be had")
    of_torch = precision if name != "openvino" else "fp32"
    exported = written(traced_of(variant, of_torch, streaming=streaming), name, precision, tmp_path)
    # random weights and clips have no clear answers, by which int8 is judged otherwise
    bound = {"fp32": 1e-4, "int8": 0.5}.get(precision, 5e-2)
    agrees(model_of(variant), exported, bound)


# --------------------------------------------------------------------- from a run


SLOW_EXPORTS = ["action.onnx", "action.xml", "step.onnx"]
EXPORTS = ["action.pt2", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_EXPORTS)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> Callable[[str], Path]:
    """Return a function that exports the run to a file of this name, at its first call."""
    folder = tmp_path_factory.mktemp("exports")

    @cache
    def export_to(name: str) -> Path:
        export_run(tiny_run, folder / name, streaming=name.startswith("step"))
        return folder / name

    return export_to


@pytest.mark.parametrize("name", EXPORTS)
def test_a_file_answers_in_place_of_its_run(name, exported, tiny_run, tiny_store):
    theirs, _ = evaluate_run(tiny_run)
    ours, _ = evaluate_run(exported(name))
    assert ours.ids == theirs.ids
    np.testing.assert_allclose(ours.logits, theirs.logits, rtol=1e-4, atol=1e-4)
    clip = ClipStore(tiny_store)[3]
    assert Recognizer.load(exported(name))(clip).name == Recognizer.load(tiny_run)(clip).name


@pytest.mark.parametrize("name", EXPORTS)
def test_clips_of_other_sizes_than_the_traced_ones(name, exported, tiny_run):
    network = Recognizer.load(exported(name)).model
    agrees(Recognizer.load(tiny_run).model, network, 1e-4)
    with pytest.raises(ModelError, match=r"expected clips \(N, 2, T, 15, .\), .* got \(1, 3, 24"):
        network(torch.zeros(1, 3, 24, 15, 2))


@pytest.mark.parametrize("name", EXPORTS)
def test_a_file_carries_the_header_and_its_parity(name, exported, tiny_run):
    manifest = read_manifest(exported(name))
    assert manifest.header == Recognizer.load(tiny_run).header
    parity = Parity(**manifest.parity)
    assert (parity.clips, parity.source) == (12, "test clips of tiny.arrow")
    assert parity.relative <= 1e-4
    assert parity.agreement == 1
    path = exported(name)
    paths = [path, *([path.with_suffix(".bin")] if name == "action.xml" else [])]
    # the figures themselves were written after the size was taken
    assert parity.size == pytest.approx(sum(p.stat().st_size for p in paths), abs=1000)


@pytest.mark.parametrize("name", EXPORTS)
def test_files_name_no_place_on_this_machine(name, exported):
    for path in exported(name).parent.iterdir():
        assert str(ROOT).encode() not in path.read_bytes(), path.name


@pytest.mark.slow
def test_int8_is_calibrated_on_the_training_split(tiny_run, tmp_path, monkeypatch):
    splits = []

    def chosen(*given: Any, split: str = "test") -> Any:
        splits.append(split)
        return real(*given, split=split)

    real = export.select_clips
    monkeypatch.setattr(export, "select_clips", chosen)
    manifest = export_run(tiny_run, tmp_path / "it.onnx", precision="int8")
    assert splits == ["train", "test"]
    assert Parity(**manifest.parity).agreement >= 0.95
    assert Parity(**manifest.parity).relative > 1e-4


def test_an_export_that_does_not_agree_leaves_no_file(tiny_run, tmp_path, monkeypatch):
    def sabotaged(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
        network = optimize_for_inference(model, dtype)
        network.classifier.model.head.weight.mul_(1.5)
        return network

    monkeypatch.setattr(export, "optimize_for_inference", sabotaged)
    with pytest.raises(
        ExportError, match=r"does not agree .* 0\.\d+ of the largest \(at most 0.00"
    ):
        export_run(tiny_run, tmp_path / "it.pt2")
    assert not list(tmp_path.iterdir())


def test_a_kill_while_comparing_leaves_no_file_of_that_name(tiny_run, tmp_path, monkeypatch):
    seen = []

    def killed(*_: Any) -> None:
        seen.extend(tmp_path.rglob("it.pt2"))
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "compare", killed)
    with pytest.raises(KeyboardInterrupt):
        export_run(tiny_run, tmp_path / "it.pt2")
    assert [path.parent.parent.suffix for path in seen] == [".partial"]
    assert not list(tmp_path.iterdir())


def test_a_file_that_holds_for_one_length_alone_is_refused(tiny_run, tmp_path, monkeypatch):
    def short_sighted(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
        network = optimize_for_inference(model, dtype)
        forward = network.forward
        network.forward = lambda x: forward(x[:, :, : x.shape[2] // 4 * 4])
        return network

    monkeypatch.setattr(export, "optimize_for_inference", short_sighted)
    with pytest.raises(ExportError, match=r"random clips of the size \(2, 2, 37, 15, 3\)"):
        export_run(tiny_run, tmp_path / "it.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("figures", "precision", "passes"),
    [
        ((9e-5, 0.5), "fp32", True),
        ((2e-4, 1.0), "fp32", False),
        ((float("nan"), 1.0), "fp32", False),
        ((4e-2, 1.0), "fp16", True),
        ((4e-2, 0.98), "bf16", False),
        ((3e-1, 0.96), "int8", True),
        ((1e-3, 0.94), "int8", False),
        ((float("nan"), 1.0), "int8", False),
    ],
)
def test_the_bounds_of_each_precision(figures, precision, passes):
    parity = Parity(100, "clips", 0.1, *figures, 1.0, 1000)
    if passes:
        check(parity, precision)
    else:
        with pytest.raises(ExportError, match="no file is left"):
            check(parity, precision)


def test_the_page_states_the_bounds():
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    for precision, bounds in BOUNDS.items():
        (row,) = re.findall(rf"^\| `{precision}` \|.*$", page, re.MULTILINE)
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[-2] == ("–" if bounds.relative == float("inf") else f"{bounds.relative:g}")
        assert cells[-1] == (f"{bounds.agreement:.0%}" if bounds.agreement else "–")
        listed = [name for name, form in FORMATS.items() if precision in form.precisions]
        assert cells[1] == ", ".join(listed)


@pytest.mark.slow
def test_the_pages_examples_run(exported, monkeypatch, capsys):
    monkeypatch.chdir(exported("action.onnx").parent)
    exported("step.onnx")
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    codes = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(codes) == 2
    for code in codes:
        exec(compile(code, "export.md", "exec"), {})
        assert capsys.readouterr().out.strip() in ("here", "there", "away")


def test_synthetic_clips_where_the_store_is_out_of_reach(tiny_run, tmp_path):
    lost = altered_run(tiny_run, tmp_path / "lost", recipe={"store": "nowhere.arrow"})
    manifest = export_run(str(lost), str(tmp_path / "it.pt2"))
    assert Parity(**manifest.parity).source.startswith("synthetic clips")
    with pytest.raises(
        ExportError, match="calibrated on clips of the training split, but there is no clip store"
    ):
        export_run(lost, tmp_path / "it.onnx", precision="int8")


@pytest.mark.parametrize(
    ("out", "options", "error", "told"),
    [
        ("it.bin", {}, ExportError, r"extension '\.bin'; expected one of .onnx \(onnx\)"),
        ("it.onnx", {"format": "torch"}, ExportError, "'torch' needs the file extension .pt2"),
        ("it.onnx", {"format": "onx"}, UnknownNameError, "did you mean 'onnx'"),
        ("it.onnx", {"precision": "int4"}, UnknownNameError, "did you mean 'int8'"),
        (
            "it.onnx",
            {"precision": "bf16"},
            ExportError,
            r"bf16 \(supported: fp32, fp16, int8\); bf16 is supported by openv",
        ),
        ("it.pt2", {"precision": "int8"}, ExportError, "int8 is supported by onnx, openvino"),
        ("there.onnx", {}, ExportError, "there.onnx exists: choose another name"),
        ("there.xml", {}, ExportError, "there.bin exists: choose another name"),
    ],
)
def test_what_cannot_be_had_is_told_at_once(out, options, error, told, tiny_run, tmp_path):
    for name in ("there.onnx", "there.bin"):
        (tmp_path / name).write_text("")
    with pytest.raises(error, match=told):
        export_run(tiny_run, tmp_path / out, **options)


def test_links_in_int8_are_not_for_openvino(tiny_run, tmp_path):
    options = SMALL | MODELS["asgcn"]
    header = replace(load_model(tiny_run)[1], model={"name": "asgcn", "options": options})
    save_checkpoint(tmp_path / BEST_FILE, header.build_model().state_dict(), header)
    with pytest.raises(ExportError, match="does not support int8 for models that"):
        export_run(tmp_path, tmp_path / "it.xml", precision="int8")


def test_an_exported_file_is_not_exported_again(exported, tmp_path):
    with pytest.raises(ExportError, match="export from the run that it came from"):
        export_run(exported("action.pt2"), tmp_path / "it.pt2")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "name"), [("onnxruntime", "action.onnx"), ("openvino", "action.xml")]
)
def test_a_missing_package_is_named(package, name, exported, monkeypatch):
    path = exported(name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError, match=rf"{package} is needed .*pip install '.*\[export"):
        Recognizer.load(path)


@pytest.mark.parametrize("name", EXPORTS)
def test_damaged_files_are_refused(name, exported, tmp_path):
    whole = (exported(name)).read_bytes()
    for i, content in enumerate((b"", b"hello\n", whole[: len(whole) // 2])):
        path = tmp_path / f"{i}{Path(name).suffix}"
        path.write_bytes(content)
        with pytest.raises(ExportError, match=re.escape(str(path))):
            Recognizer.load(path)
    with pytest.raises(ExportError, match="does not exist: expected a file of `kinegraph export`"):
        Recognizer.load(tmp_path / f"none{Path(name).suffix}")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 0}', '{"version": 1}'])
def test_files_of_others_are_refused(text, tmp_path):
    import onnx

    one = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    two = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [one], [two])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    model.ir_version = 10
    if text:
        onnx.helper.set_model_props(model, {"kinegraph": text})
    onnx.save(model, tmp_path / "it.onnx")
    with pytest.raises(ExportError, match="was not written by `kinegraph export`"):
        Recognizer.load(tmp_path / "it.onnx")


@pytest.mark.slow
def test_an_openvino_file_without_its_weights_is_refused(exported, tmp_path):
    (tmp_path / "it.xml").write_bytes(exported("action.xml").read_bytes())
    with pytest.raises(KinegraphError, match=r"it\.xml"):
        Recognizer.load(tmp_path / "it.xml")


def test_the_command_prints_the_parity_table(tiny_run, tmp_path, capsys):
    from kinegraph.cli import main

    with pytest.raises(SystemExit) as end:
        main(["export", str(tiny_run), str(tmp_path / "it.pt2"), "--precision", "bf16"])
    assert not end.value.code
    out = capsys.readouterr().out
    for part in ("torch bf16", "12 test clips of tiny.arrow", "top-1 agreement", "100.0%", " MB"):
        assert part in out
