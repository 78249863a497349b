"""A .pt2 file is data: nothing that it names is imported, compiled, unpickled or executed."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import random
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from kinegraph.errors import ExportError
from kinegraph.inference.backends import pt2_program
from kinegraph.inference.backends.runtimes import FORMATS

PROGRAM, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
SAMPLES = "data/sample_inputs/model.pt"
X = torch.linspace(-1, 1, 12).reshape(4, 3)
open_torch = FORMATS["torch"].open


class Net(torch.nn.Module):
    """A network with weights, sizes, lists of tensors, and operations."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3) -> (2 N, 2)."""
        first, *rest = torch.cat([x, x]).unbind(1)
        y = self.layer(torch.stack([first, *rest], 1)).view(2 * x.shape[0], 2)
        return y + torch.arange(y.shape[0], dtype=torch.float32)[:, None]


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def exported(net, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "it.pt2"
    program = torch.export.export(net, (X,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, path, extra_files={"kinegraph.json": '{"the": "manifest"}'})
    return path


@pytest.fixture(scope="module")
def entries(exported) -> dict[str, bytes]:
    """The content of the file by the names within."""
    with zipfile.ZipFile(exported) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(entries: dict[str, bytes], path: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write the entries as an archive."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(f"it/{name}", data)
    return path


def run(path: Path) -> list[torch.Tensor]:
    """Open a file and run it."""
    return open_torch(path, "fp32")([X])


@pytest.mark.parametrize("N", [1, 4, 7])
def test_it_computes_what_the_network_computes(N, net, exported):
    x = torch.randn(N, 3)
    with torch.inference_mode():
        assert torch.equal(open_torch(exported, "fp32")([x])[0], net(x))
    assert FORMATS["torch"].read(exported) == '{"the": "manifest"}'


def test_the_loader_of_torch_is_not_used(exported, monkeypatch):
    for place in (torch, torch.export, pickle):
        monkeypatch.setattr(place, "load", None)
    monkeypatch.setattr(pickle, "Unpickler", None)
    assert len(run(exported)) == 1


class Acting:
    """An object that leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("executed", "w")


def torch_pickle() -> bytes:
    file = io.BytesIO()
    torch.save(((Acting(),), {}), file, pickle_module=pickle)
    return file.getvalue()


TEXTS = [
    "__import__('os').system('touch executed')",
    "executed;open('executed','w')",
    "x):\n  open('executed','w')\n  return (x",
    '{"type": "collections.defaultdict", "context": ["evil", "evil"]}',
    '[1, {"type": "builtins.dict", "context": "[\\"a\\"]", "children_spec": []}]',
    "torch.ops.aten.from_file.default",
    "torch.hub.load",
    "os.system",
    "builtins.exec",
    "__class__",
    "../../executed",
]


def strings(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of every text of a document; the texts of keys too."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(pairs):
        if isinstance(value, str):
            yield node, key
        elif isinstance(value, dict | list):
            yield from strings(value)


def mutated_texts(document: Any, count: int) -> Iterator[Any]:
    """Yield copies of a document with one of its texts replaced by one of `TEXTS`."""
    places = range(sum(1 for _ in strings(document)))
    pairs = list(itertools.product(places, TEXTS))
    for place, text in random.Random(0).sample(pairs, min(count, len(pairs))):
        copy = json.loads(json.dumps(document))
        container, key = next(itertools.islice(strings(copy), place, None))
        container[key] = text
        yield copy


@pytest.mark.parametrize("entry", [PROGRAM, WEIGHTS])
def test_no_text_of_a_program_is_executed_or_imported(entry, entries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('executed', 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    for document in mutated_texts(json.loads(entries[entry]), 150):
        path = write({**entries, entry: json.dumps(document).encode()}, tmp_path / "it.pt2")
        with suppress(ExportError):
            run(path)
        assert not (tmp_path / "executed").exists()
        assert "evil" not in sys.modules


def test_pickles_in_it_are_not_opened(entries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    acting = torch_pickle()
    path = write({**entries, SAMPLES: acting, "data/weights/model.pt": acting}, tmp_path / "a.pt2")
    assert len(run(path)) == 1
    changed = entries[WEIGHTS].replace(b'"use_pickle": false', b'"use_pickle": true')
    with pytest.raises(ExportError, match="stored as a pickled object"):
        run(
            write(
                {**entries, WEIGHTS: changed, "data/weights/weight_0": acting}, tmp_path / "b.pt2"
            )
        )
    assert not (tmp_path / "executed").exists()


WRONG_VALUES = [None, True, -1, 0, 3, 2**31, 2**62, 2**63, 10**30, 1e308, "x", [], {}, [[]]]


def scalars(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of every value of a document."""
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, dict | list):
            yield from scalars(value)


def changed_values(document: Any, draw: random.Random) -> Any:
    """Return a copy of a document with one value replaced."""
    copy = json.loads(json.dumps(document))
    container, key = draw.choice(list(scalars(copy)))
    container[key] = draw.choice(WRONG_VALUES)
    return copy


@pytest.mark.parametrize("entry", [PROGRAM, WEIGHTS])
def test_a_wrong_value_is_one_error(entry, entries, tmp_path):
    draw, document = random.Random(1), json.loads(entries[entry])
    outcomes = set()
    for _ in range(200):
        changed = json.dumps(changed_values(document, draw)).encode()
        try:
            run(write({**entries, entry: changed}, tmp_path / "it.pt2"))
            outcomes.add("ran")
        except ExportError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 600
            outcomes.add("refused")
    assert outcomes == {"ran", "refused"}  # values that nothing depends on, and others


def edit(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """Return a function that changes a JSON text."""

    def changed(content: bytes) -> bytes:
        document = json.loads(content)
        change(document["graph_module"]["graph"])
        return json.dumps(document).encode()

    return changed


def node(target: str, output: str, *inputs: Any) -> dict[str, Any]:
    """Return a node of a graph."""
    arguments = [{"name": "a", "arg": arg, "kind": 1} for arg in inputs]
    kind = "as_sym_int" if target.startswith("_operator") else "as_tensor"
    name = {"as_name": output} if kind == "as_sym_int" else {"name": output}
    return {"target": target, "inputs": arguments, "outputs": [{kind: name}], "metadata": {}}


def tensor(name: str) -> Any:
    return {"as_tensor": {"name": name}}


HUGE = [
    [node("torch.ops.aten.zeros.default", "y", {"as_ints": [2**16, 2**16]})],
    [node("torch.ops.aten.arange.default", "y", {"as_int": 2**40})],
    [node("torch.ops.aten.eye.default", "y", {"as_int": 2**20})],
    [
        node("torch.ops.aten.expand.default", "w", tensor("x"), {"as_ints": [2**20, 2**12, 4, 3]}),
        node("torch.ops.aten.clone.default", "y", tensor("w")),
    ],
    # every product of two matrices is small; the matrices repeated for all of them are not
    [
        node("torch.ops.aten.zeros.default", "a", {"as_ints": [2000, 1, 1, 2000]}),
        node("torch.ops.aten.zeros.default", "b", {"as_ints": [1, 2000, 2000, 1]}),
        node("torch.ops.aten.matmul.default", "y", tensor("a"), tensor("b")),
    ],
]


@pytest.mark.parametrize("nodes", HUGE)
def test_a_program_that_needs_much_memory_is_not_run(nodes, entries, tmp_path):
    def change(graph: Any) -> None:
        graph["nodes"] = nodes
        graph["outputs"] = [tensor("y")]

    path = write({**entries, PROGRAM: edit(change)(entries[PROGRAM])}, tmp_path / "it.pt2")
    with pytest.raises(ExportError, match="bytes of memory"):
        run(path)


def test_sizes_do_not_grow_without_limit(entries, tmp_path):
    def change(graph: Any) -> None:
        size = {"as_sym_int": {"as_name": "s0"}}
        graph["nodes"] = [node("torch.ops.aten.sym_size.int", "s0", tensor("x"), {"as_int": 0})]
        graph["nodes"][0]["outputs"] = [{"as_sym_int": {"as_name": "s0"}}]
        graph["nodes"] += [node("_operator.mul", "s0", size, size) for _ in range(40)]
        graph["outputs"] = [tensor("x")]

    path = write({**entries, PROGRAM: edit(change)(entries[PROGRAM])}, tmp_path / "it.pt2")
    with pytest.raises(ExportError, match="a size is out of range"):
        run(path)


def test_two_archives_in_one_file_are_read_by_one_reader(entries, tmp_path):
    # a second end record: what the reader lists is what it reads, so that either content is safe
    evil = {**entries, SAMPLES: torch_pickle()}
    first, second = write(evil, tmp_path / "first"), write(entries, tmp_path / "second")
    both = tmp_path / "it.pt2"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    assert len(run(both)) == 1


@pytest.mark.parametrize("gone", [PROGRAM, WEIGHTS, "data/weights/weight_0"])
def test_what_is_incomplete_is_refused(gone, entries, tmp_path):
    left = {name: content for name, content in entries.items() if name != gone}
    with pytest.raises(ExportError, match="damaged or of another kind"):
        run(write(left, tmp_path / "it.pt2"))


def test_entries_of_one_name_and_compressed_entries_are_refused(entries, tmp_path):
    path = write(entries, tmp_path / "it.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/models/model.json", "{}")
    with pytest.raises(ExportError, match="same name"):
        run(path)
    with pytest.raises(ExportError, match="compressed"):
        run(write(entries, tmp_path / "packed.pt2", zipfile.ZIP_DEFLATED))


def test_no_operation_opens_files_or_writes_to_foreign_memory():
    for name in pt2_program.OPERATIONS:
        packet, _, overload = name.partition(".")
        schema = getattr(getattr(torch.ops.aten, packet), overload)._schema
        kinds = {str(argument.type) for argument in schema.arguments}
        assert not kinds & {"Storage", "Stream", "Generator", "QScheme"}, name
        texts = {argument.name for argument in schema.arguments if "str" in str(argument.type)}
        assert texts <= {"mode", "approximate", "equation", "rounding_mode"}, name
