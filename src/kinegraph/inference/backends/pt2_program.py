"""Exported programs (.pt2) as data: known operations on named tensors, run one after another.

`torch.export.load` generates Python code from names in the file, imports modules for its types and
unpickles its sample inputs. Here every text of a program is either the name of a value, looked up
in a dictionary, or the name of an operation of `OPERATIONS`. An operation may still ask for much
memory, so each size of input is first run on torch's device "meta", which has shapes but no data.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kinegraph.errors import ExportError
from kinegraph.inference.backends.pt2_archive import ARCHIVE_DTYPES, Pt2Archive

#: Limits of the memory of a program at work: bytes, and bytes for each byte of its input.
MAX_WORK_BYTES, MAX_WORK_RATIO = 2**27, 512
MAX_STEPS = 100_000

_OPERATION_NAMES = """
__and__.Tensor __or__.Tensor __xor__.Tensor abs.default adaptive_avg_pool1d.default
adaptive_avg_pool2d.default add.Scalar add.Tensor add_.Tensor addcmul.default addmm.default
alias.default all.dim amax.default amin.default any.dim arange.default arange.start
arange.start_step argmax.default argmin.default avg_pool1d.default avg_pool2d.default
baddbmm.default batch_norm.default bitwise_and.Tensor bitwise_not.default bitwise_or.Tensor
bmm.default broadcast_tensors.default cat.default chunk.default clamp.default clamp_min.default
clone.default constant_pad_nd.default contiguous.default conv1d.default conv2d.default cos.default
cumsum.default detach.default detach_.default diff.default div.Scalar div.Tensor div.Tensor_mode
div_.Tensor dropout.default einsum.default elu.default embedding.default eq.Scalar eq.Tensor
exp.default expand.default expand_as.default eye.default eye.m feature_dropout.default
flatten.using_ints flip.default floor.default floor_divide.default full.default full_like.default
gather.default ge.Scalar ge.Tensor gelu.default glu.default group_norm.default gt.Scalar gt.Tensor
hardsigmoid.default hardswish.default hardtanh.default index.Tensor index_select.default
instance_norm.default isfinite.default isnan.default layer_norm.default le.Scalar le.Tensor
leaky_relu.default leaky_relu_.default lift_fresh_copy.default linalg_vector_norm.default
linear.default log.default log_softmax.int logical_and.default logical_not.default
logical_or.default lt.Scalar lt.Tensor mT.default masked_fill.Scalar masked_fill.Tensor
matmul.default max.default max.dim max_pool1d.default max_pool2d.default maximum.default
mean.default mean.dim min.default min.dim minimum.default mm.default movedim.int movedim.intlist
mul.Scalar mul.Tensor mul_.Tensor narrow.default ne.Scalar ne.Tensor neg.default new_full.default
new_ones.default new_zeros.default norm.ScalarOpt_dim numpy_T.default one_hot.default ones.default
ones_like.default pad.default permute.default pow.Scalar pow.Tensor_Scalar pow.Tensor_Tensor
prelu.default reciprocal.default relu.default relu6.default relu_.default remainder.Scalar
repeat.default repeat_interleave.self_int reshape.default roll.default round.default rsqrt.default
rsub.Scalar scaled_dot_product_attention.default select.int selu.default sigmoid.default
sign.default silu.default silu_.default sin.default slice.Tensor softmax.int softplus.default
split.Tensor split.sizes split_with_sizes.default sqrt.default square.default squeeze.default
squeeze.dim squeeze.dims stack.default std.correction std.dim sub.Scalar sub.Tensor sub_.Tensor
sum.default sum.dim_IntList swapaxes.default sym_size.int t.default tanh.default tanh_.default
tile.default to.dtype to.dtype_layout topk.default transpose.int tril.default triu.default
type_as.default unbind.int unflatten.int unfold.default unsqueeze.default var.correction var.dim
view.default view_as.default where.ScalarOther where.ScalarSelf where.self zeros.default
zeros_like.default
"""
#: Operations of torch.ops.aten that programs may call: none opens a file, or takes foreign memory.
OPERATIONS = frozenset(_OPERATION_NAMES.split())
#: Checks that the tracer adds; the operations check their inputs themselves.
_ASSERTIONS = frozenset(
    f"torch.ops.aten.{name}.default"
    for name in ("_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range_for_size")
)
_SIZE_OPERATIONS: dict[str, Callable[..., Any]] = {
    **{f"_operator.{name}": getattr(operator, name) for name in ("add", "sub", "mul", "floordiv")},
    **{f"_operator.{name}": getattr(operator, name) for name in ("truediv", "mod", "neg")},
    **{f"_operator.{name}": getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt")},
    "_operator.ge": operator.ge,
    "_operator.getitem": operator.getitem,
    **{f"math.{name}": getattr(math, name) for name in ("trunc", "ceil", "floor")},
    "torch.sym_min": min,
    "torch.sym_max": max,
    "torch.sym_not": operator.not_,
    "torch.sym_float": float,
}
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_STRIDED_LAYOUT = 7
_MAX_INT = 2**63 - 1
_CONSTANT_TYPES = {
    "as_int": (int,),
    "as_float": (float, int),
    "as_bool": (bool,),
    "as_string": (str,),
}
#: Key of the device among the values of a program, whose names are not empty.
_DEVICE = ""
_FLOAT_TEXTS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}

NamedValues = dict[str, Any]
Argument = Callable[[NamedValues], Any]


@dataclass(frozen=True)
class _Step:
    """One operation.

    Attributes:
        name: of the operation, for messages.
        function: the operation.
        args: its positional arguments.
        kwargs: its keyword arguments.
        outputs: names of its outputs.
        is_list: whether it returns several values.
        unused: values that no later step needs.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Argument, ...]
    kwargs: Mapping[str, Argument]
    outputs: tuple[str, ...]
    is_list: bool
    unused: tuple[str, ...]

    def run(self, values: NamedValues) -> None:
        """Compute the outputs, and drop values that are not needed any more."""
        found = self.function(
            *(argument(values) for argument in self.args),
            **{name: argument(values) for name, argument in self.kwargs.items()},
        )
        outputs = list(found) if self.is_list else [found]
        for name, value in zip(self.outputs, outputs, strict=True):
            if isinstance(value, int | float) and not -(2**63) <= value < 2**63:
                raise ValueError("a size is out of range")
            values[name] = value
        for name in self.unused:
            del values[name]


class Program:
    """A network as a list of operations; inputs and outputs are tensors."""

    def __init__(
        self,
        source: str,
        constants: Mapping[str, Tensor],
        inputs: Sequence[str],
        outputs: Sequence[str],
        steps: Sequence[_Step],
    ) -> None:
        self._source, self._constants = source, constants
        self._on_meta = {name: value.to("meta") for name, value in constants.items()}
        self._inputs, self._outputs, self._steps = inputs, outputs, steps
        self._checked: set[tuple[Any, ...]] = set()

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs.

        Raises:
            ExportError: the inputs do not fit, or the program would need far more memory.
        """
        if len(inputs) != len(self._inputs):
            raise ExportError(f"{self._source} takes {len(self._inputs)} inputs, got {len(inputs)}")
        sizes = tuple((tensor.dtype, tensor.shape) for tensor in inputs)
        if sizes not in self._checked:
            self._check_memory(inputs)
            self._checked.add(sizes)
        named = zip(self._inputs, inputs, strict=True)
        return self._run({_DEVICE: torch.device("cpu"), **self._constants, **dict(named)})

    def _check_memory(self, inputs: Sequence[Tensor]) -> None:
        size = MAX_WORK_BYTES + MAX_WORK_RATIO * sum(tensor.nbytes for tensor in inputs)
        size += sum(value.nbytes for value in self._constants.values())
        named = zip(self._inputs, (tensor.to("meta") for tensor in inputs), strict=True)
        values = {_DEVICE: torch.device("meta"), **self._on_meta, **dict(named)}
        with _MemoryLimit(size) as limit:
            self._run(values, limit.check)

    def _run(
        self, values: NamedValues, check: Callable[[NamedValues], None] = lambda values: None
    ) -> list[Tensor]:
        for step in self._steps:
            try:
                step.run(values)
                check(values)
            except Exception as error:  # operations raise errors of many kinds
                reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
                raise ExportError(
                    f"{self._source} fails at its operation {step.name}: {reason}"
                ) from error
        return [values[name] for name in self._outputs]


class _MemoryLimit(TorchDispatchMode):
    """Limits the memory of each operation, the tensors inside of it included, and of all values.

    A view counts as if it were a copy, because operations copy views to compute with them.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes, self._bytes, self.peak = max_bytes, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for value in found if isinstance(found, list | tuple) else [found]:
            if isinstance(value, Tensor):
                self._bytes += value.nbytes
        self._require(self._bytes)
        return found

    def check(self, values: NamedValues) -> None:
        """Count the values that are in memory after an operation, each storage once."""
        self._bytes = 0
        storages = {}
        for value in values.values():
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                storages[storage._cdata] = storage.nbytes()
        self._require(sum(storages.values()))

    def _require(self, size: int) -> None:
        self.peak = max(self.peak, size)
        if size > self._max_bytes:
            raise MemoryError(f"it needs more than {self._max_bytes} bytes of memory")


def read_program(archive: Pt2Archive, source: str) -> Program:
    """Return the program in an archive; ``source`` names it in messages.

    Raises:
        ValueError: it is not one, or it calls what is not an operation on tensors or sizes.
    """
    module = archive.json("models/model.json")["graph_module"]
    graph, tensors = module["graph"], archive.tensors()
    constants, inputs = {}, []
    for spec in module["signature"]["input_specs"]:
        kind, facts = _only(spec)
        if kind == "user_input":
            inputs.append(_tensor_name(facts["arg"]))
        elif kind in ("parameter", "buffer", "tensor_constant"):
            constants[_name(facts["arg"])] = tensors[facts[f"{kind}_name"]]
        else:
            raise ValueError(f"it has an input of the kind {kind!r:.80}")
    outputs = [_tensor_name(value) for value in graph["outputs"]]
    steps = list(_iterate_steps(graph["nodes"], {*constants, *inputs}, outputs))
    return Program(source, constants, inputs, outputs, steps)


def _iterate_steps(nodes: Any, known: set[str], outputs: Sequence[str]) -> Iterator[_Step]:
    """Yield the steps; each value is dropped after the last step that reads it."""
    if len(nodes) > MAX_STEPS:
        raise ValueError(f"it has {len(nodes)} operations; the limit is {MAX_STEPS}")
    parsed = [_parse_node(node) for node in nodes if node["target"] not in _ASSERTIONS]
    last_use = {name: place for place, (_, used) in enumerate(parsed) for name in used}
    for place, (step, used) in enumerate(parsed):
        if missing := used - known:
            raise ValueError(f"{step['name']} reads {min(missing)!r:.80}, which is not known yet")
        known.update(step["outputs"])
        finished = {name for name in used if last_use[name] == place}
        finished |= {name for name in step["outputs"] if name not in last_use}
        unused = tuple(finished.difference(outputs))
        yield _Step(**step, unused=unused)
    if missing := set(outputs) - known:
        raise ValueError(f"its output {min(missing)!r:.80} is not known")


def _parse_node(node: Any) -> tuple[dict[str, Any], set[str]]:
    """Return the fields of a step, and the names that it reads."""
    target, used = node["target"], set[str]()
    args: list[Argument] = []
    kwargs: dict[str, Argument] = {}
    for entry in node["inputs"]:
        argument = _parse_argument(*_only(entry["arg"]), used)
        if entry.get("kind") == 2:  # keyword
            kwargs[_name(entry)] = argument
        else:
            args.append(argument)
    outputs = [_only(output) for output in node["outputs"]]
    is_list = len(outputs) != 1 or outputs[0][0] == "as_tensors"
    function = _find_operation(target)
    if any(argument.name == "device" for argument in _arguments(function)):
        kwargs["device"] = _find_device
    names = [_name(item) for kind, value in outputs for item in _items(kind, value)]
    step = {
        "name": target,
        "function": function,
        "args": tuple(args),
        "kwargs": kwargs,
        "outputs": tuple(names),
        "is_list": is_list,
    }
    return step, used


def _items(kind: str, value: Any) -> list[Any]:
    if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
        return [{"name": value["as_name"]}]
    if kind not in ("as_tensor", "as_tensors"):
        raise ValueError(f"it has an output of the kind {kind!r:.80}")
    return value if kind == "as_tensors" else [value]


def _find_operation(target: str) -> Callable[..., Any]:
    if target in _SIZE_OPERATIONS:
        return _SIZE_OPERATIONS[target]
    name = target.removeprefix("torch.ops.aten.")
    if name == target or name not in OPERATIONS:
        raise ValueError(f"it calls {target!r:.80}, which is not an operation of networks")
    packet, _, overload = name.partition(".")
    operation: Callable[..., Any] = getattr(getattr(torch.ops.aten, packet), overload)
    return operation


def _arguments(function: Callable[..., Any]) -> Iterable[Any]:
    schema = getattr(function, "_schema", None)
    return () if schema is None else schema.arguments


def _parse_argument(kind: str, value: Any, used: set[str]) -> Argument:
    """Return a function from the values of a program to an argument of an operation."""
    if kind in ("as_tensor", "as_sym_int", "as_sym_bool", "as_sym_float"):
        return _parse_value(value, used)
    if kind in ("as_tensors", "as_sym_ints", "as_optional_tensors"):
        items = [_parse_value(item, used) for item in value]
        return lambda values: [item(values) for item in items]
    if kind == "as_device":
        return _find_device
    constant = _parse_constant(kind, value)
    return lambda values: constant


def _parse_value(value: Any, used: set[str]) -> Argument:
    """Return a function for a tensor or a size: a name, a whole number, or None."""
    if "as_tensor" in value:
        value = value["as_tensor"]
    if value.get("as_none"):
        return lambda values: None
    if "as_int" in value:
        number = _parse_constant("as_int", value["as_int"])
        return lambda values: number
    name = _name(value) if "name" in value else _name({"name": value["as_name"]})
    used.add(name)
    return operator.itemgetter(name)


def _parse_constant(kind: str, value: Any) -> Any:
    if kind == "as_none":
        return None
    if kind == "as_scalar_type":
        return ARCHIVE_DTYPES[value]
    if kind == "as_layout" and value == _STRIDED_LAYOUT:
        return torch.strided
    if kind == "as_memory_format":
        return _MEMORY_FORMATS[value]
    if kind == "as_float":
        value = _FLOAT_TEXTS.get(value, value) if isinstance(value, str) else value
    if kind in ("as_ints", "as_floats", "as_bools") and isinstance(value, list):
        return [_parse_constant(kind.removesuffix("s"), item) for item in value]
    types = _CONSTANT_TYPES.get(kind, ())
    if type(value) not in types or (type(value) is int and abs(value) > _MAX_INT):
        raise ValueError(f"it has an argument {str(value)[:80]!r} of the kind {kind!r:.80}")
    return value


def _find_device(values: NamedValues) -> Any:
    return values[_DEVICE]


def _only(union: Any) -> tuple[str, Any]:
    """Return kind and value of a dictionary of one key."""
    ((kind, value),) = union.items()
    return kind, value


def _name(value: Any) -> str:
    name = value["name"]
    if not isinstance(name, str) or not name:
        raise ValueError(f"expected the name of a value, got {str(name)[:80]!r}")
    return name


def _tensor_name(value: Any) -> str:
    return _name(value["as_tensor"])
