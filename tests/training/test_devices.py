"""Devices: which one is taken, what is told when memory is short, NPUs, reduced precision."""

from __future__ import annotations

import json

import pytest
import torch

import fake_npu
import killed_training
from kinegraph.errors import TrainingError
from kinegraph.training.devices import (
    default_device,
    fastest_dtype,
    is_out_of_memory,
    should_pin_memory,
)
from kinegraph.training.history import read_history
from kinegraph.training.objectives import RecognitionObjective
from kinegraph.training.recipe import parse_recipe
from kinegraph.training.train import train

FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("NPU out of memory. Tried to allocate 20.00 MiB"),
    OSError(12, "Cannot allocate memory"),
    MemoryError(),
]


def test_the_accelerator_is_taken_if_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert default_device() == torch.device("cuda")
    assert should_pin_memory()
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert default_device() == torch.device("cpu")
    assert not should_pin_memory()


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_short_memory_is_known_by_its_many_names(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (
            4,
            r"with train\.batch_size=4 train\.accumulate=1: try train\.batch_size=2 ",
        ),
        (9, r"try train\.batch_size=3 train\.accumulate=3 in a new folder"),
        (1, r"try train\.precision=bf16-mixed, fewer frames, or a smaller model"),
    ],
)
def test_a_training_that_runs_out_of_memory_says_what_to_try(
    tiny_recipe, tmp_path, monkeypatch, size, says
):
    whole = RecognitionObjective.compute_loss

    def short(self, model, batch, *options):
        if model.training:
            raise FULL[0]
        return whole(self, model, batch, *options)

    monkeypatch.setattr(RecognitionObjective, "compute_loss", short)
    tiny_recipe["train"]["batch_size"] = size
    with pytest.raises(TrainingError, match=says):
        train(parse_recipe(tiny_recipe, "tiny"), tmp_path / "run")


MODELS = [
    {"name": "stgcn", "excitation": "me_series"},
    {"name": "stgcn_twostream"},
    {"name": "shiftgcn"},
    {"name": "asgcn", "link_frames": 6, "future": 3, "max_hop": 2},
    {"name": "stgcn_autoencoder", "future": 3},
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["name"])
def test_every_model_trains_in_half_precision(tiny_recipe, tmp_path, model):
    tiny_recipe["transforms"] = [{"resize": {"frames": 12}}, "stream"]
    tiny_recipe["model"] = {"channels": [16, 16], "strides": [1, 2], **model}
    tiny_recipe["train"] |= {"precision": "bf16-mixed", "optimizer": "adamw", "lr": 0.005}
    future = {"name": "recognition", "future_weight": 0.01}
    tiny_recipe["objective"] = {
        "asgcn": future,
        "stgcn_autoencoder": {"name": "predict_future"},
    }.get(model["name"], {"name": "recognition"})
    if model["name"] == "asgcn":
        links = {"name": "links", "objective": {"name": "links"}, "train": {"epochs": 1}}
        tiny_recipe["stages"] = [links]
    history = read_history(train(parse_recipe(tiny_recipe, "tiny"), tmp_path / "run"))
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_npus_are_registered_where_torch_npu_can_be_imported(tmp_path):
    told = tmp_path / "told.json"
    process = killed_training.SERVER.Process(target=fake_npu.tell, args=(str(told),))
    process.start()
    process.join()
    assert json.loads(told.read_text()) == [
        ["npu", 2, "Ascend910"],
        ["npu", "npu:0", 1, "SingleDeviceStrategy", "bf16-mixed"],
        ["npu", "npu:0", 2, "NPUDDPStrategy", "32-true"],
        ["npu", "npu:1", 1, "SingleDeviceStrategy", "32-true"],
        True,
    ]


@pytest.mark.parametrize(
    ("able", "dtype"),
    [
        ({"avx2": True}, torch.float32),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.bfloat16),
    ],
)
def test_bfloat16_is_taken_where_the_processor_has_units_for_it(monkeypatch, able, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert fastest_dtype(torch.device("cpu")) == dtype
