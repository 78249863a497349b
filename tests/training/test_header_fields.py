"""The header of a checkpoint or export: every field of a wrong type or value is one sentence."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kinegraph.cli import main
from kinegraph.errors import CheckpointError, KinegraphError
from kinegraph.inference.backends.exported_model import Interface, Manifest, StateSpec
from kinegraph.inference.calibration import Calibration
from kinegraph.training.checkpoint import (
    CheckpointHeader,
    find_checkpoint,
    load_header,
    load_model,
    save_checkpoint,
)

WRONG = (None, True, -1, 10**400, float("nan"), "text", [None], {"a": 1})


@pytest.fixture(scope="module")
def checkpoint(tiny_run) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights and the header of a run."""
    model, header = load_model(tiny_run)
    return model.state_dict(), json.loads(json.dumps(asdict(header)))


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in nested maps and lists, of a list the first ones only."""
    if path:
        yield path
    items = node.items() if isinstance(node, dict) else enumerate(node[:2])
    if isinstance(node, dict | list):
        for key, value in items:
            yield from (
                places(value, (*path, key)) if isinstance(value, dict | list) else [(*path, key)]
            )


def changed(data: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return a copy with another value at a path; `places` as value removes it."""
    data = copy.deepcopy(data)
    node: Any = data
    for key in path[:-1]:
        node = node[key]
    if value is places:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return data


class _Fields:
    """Fields of a header that are not checked when it is written."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.__dict__ = fields


def test_a_header_is_read_as_it_was_written(checkpoint, tmp_path):
    state, header = checkpoint
    path = tmp_path / "same.safetensors"
    save_checkpoint(path, state, _Fields(header))
    assert json.loads(json.dumps(asdict(load_header(path)))) == header


@pytest.mark.parametrize("field", CheckpointHeader.__dataclass_fields__)
def test_a_wrong_value_is_refused_or_harmless(field, checkpoint):
    """Values of the field, one level deep, are replaced by every kind of value and removed."""
    _, header = checkpoint
    for path in [path for path in places({field: header[field]}) if len(path) < 3]:
        for wrong in (*WRONG, places):
            try:
                read = CheckpointHeader.from_dict(changed(header, path, wrong))
                model = read.build_model() if field in ("model", "layout") else None
                Calibration.from_dict(read.calibration)
            except (ValueError, KinegraphError) as error:
                assert len(str(error).splitlines()) == 1 and len(str(error)) < 2000, (path, wrong)
            else:
                if model is not None:
                    model.eval()(torch.zeros(1, read.in_channels, 8, len(read.layout["joints"]), 1))


@pytest.mark.parametrize("field", CheckpointHeader.__dataclass_fields__)
def test_a_field_of_another_type_is_refused(field, checkpoint):
    _, header = checkpoint
    with pytest.raises(ValueError, match=field):
        CheckpointHeader.from_dict({**header, field: [3]})


@pytest.mark.parametrize(
    "change",
    [
        {"num_classes": 90_000},
        {"model": {"name": "stgcn", "options": {"channels": [100_000, 100_000]}}},
        {"model": {"name": "stgcn", "options": {"channels": [8] * 100_000}}},
        {"unknown_centers": 100_000, "num_classes": 100_000},
    ],
)
def test_a_model_far_larger_than_its_weights_is_not_made(change, checkpoint, tmp_path):
    state, header = checkpoint
    path = tmp_path / "large.safetensors"
    save_checkpoint(path, state, _Fields({**header, **change}))
    with pytest.raises(CheckpointError, match="do not fit their header"):
        load_model(path)


@pytest.mark.parametrize("content", ["[]", "3", "null", "{}", '{"format": 2}', "[" * 50_000, "{"])
def test_a_header_that_is_not_a_map_of_fields_is_one_sentence(content, tmp_path, capsys):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"kinegraph": content})
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(path)])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_facts_that_a_header_does_not_state_are_one_sentence(checkpoint, tmp_path):
    state, header = checkpoint
    path = tmp_path / "few.safetensors"
    save_checkpoint(path, state, _Fields({**header, "training": {}, "recipe": {}}))
    few = load_header(path)
    with pytest.raises(CheckpointError, match="does not state 'seconds'"):
        few.training["seconds"]
    with pytest.raises(CheckpointError, match="field 'name': field required"):
        few.parse_recipe()
    with safe_open(find_checkpoint(path), "pt") as file:
        assert json.loads(file.metadata()["kinegraph"])["training"] == {}


# --------------------------------------------------------------------- exported files


@pytest.fixture(scope="module")
def manifest(checkpoint) -> dict[str, Any]:
    """The manifest of an exported step network."""
    states = [StateSpec((2, 3), "float32", float("-inf")), StateSpec((), "bool", 0)]
    interface = Interface(["x"], ["logits"], 1, 1, False, 4, 2, states)
    header = CheckpointHeader.from_dict(checkpoint[1])
    return json.loads(Manifest(header, "torch", "fp32", interface, {}, {}).to_json())


def test_a_manifest_is_read_as_it_was_written(manifest):
    assert json.loads(Manifest.from_json(json.dumps(manifest)).to_json()) == manifest


def test_every_field_of_a_manifest_is_checked(manifest):
    own = {key: value for key, value in manifest.items() if key != "header"}
    for path in places(own):
        for wrong in (*WRONG, places):
            try:
                read = Manifest.from_json(json.dumps(changed(manifest, path, wrong)))
            except ValueError as error:
                assert len(str(error).splitlines()) == 1, (path, wrong)
            else:
                for state in read.interface.kept:
                    state.initial(1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": [1 << 20, 1 << 20]},
        {"dtype": "ops"},
        {"dtype": "load"},
        {"dtype": "complex64"},
        {"shape": [-1]},
        {"fill": "0"},
        {"more": 1},
    ],
)
def test_a_state_is_of_a_known_type_and_a_bounded_size(wrong, manifest):
    states = [{**manifest["interface"]["kept"][0], **wrong}]
    with pytest.raises(ValueError, match=f"kept.0.{next(iter(wrong))}"):
        Manifest.from_json(json.dumps(changed(manifest, ("interface", "kept"), states)))
