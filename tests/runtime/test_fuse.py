"""The fast path is the model: the same answers, for every family and variant."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kinegraph.errors import ModelError
from kinegraph.models import MODELS
from kinegraph.runtime.fuse import fast, fastest_dtype, relative_error
from kinegraph.runtime.lowering import lower
from kinegraph.runtime.network import FastNetwork
from models.networks import LOCAL, WHOLE, case_name, clips, settled


def test_every_family_is_covered():
    assert {name for name, _ in LOCAL + WHOLE} == set(MODELS)
    assert len({case_name(case) for case in LOCAL + WHOLE}) == len(LOCAL + WHOLE) == 41


@pytest.mark.parametrize("case", LOCAL + WHOLE, ids=case_name)
@torch.inference_mode()
def test_plain_networks_equal_their_models(case):
    model = settled(*case)
    network = fast(model)
    for frames in (12, 37):
        x = clips(frames)
        x[2] = 0 if frames == 37 else x[2]  # a clip without anybody
        assert relative_error(network(x), model(x)) < 1e-5


def test_the_model_is_not_changed_and_not_shared():
    model = settled("stgcn", LOCAL[0][1])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    network, x = fast(model.train()), clips(12)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    answer = network(x)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.blocks[0].gcn.weight)
    assert torch.equal(network(x), answer)
    assert not any(p.requires_grad for p in network.parameters())


def test_modes_of_parts_stay_and_an_empty_head_is_no_mistake():
    model = settled("stgcn", LOCAL[0][1]).train()
    model.blocks[0].bn.eval()
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    assert not fast(model)(clips(12)).any()
    assert model.training and not model.blocks[0].bn.training


@torch.inference_mode()
def test_half_precision_keeps_the_answer():
    model, x = settled("shiftgcn", LOCAL[4][1]), clips(30)
    network = fast(model, torch.bfloat16)
    assert network.dtype == torch.bfloat16
    logits = network(x)
    assert logits.dtype == torch.float32
    assert 0 < relative_error(logits, model(x)) < 5e-2


def test_a_network_that_has_diverged_is_refused():
    model = settled("stgcn", LOCAL[0][1])
    nn.init.constant_(model.blocks[1].tcn.weight, float("nan"))
    with pytest.raises(ModelError, match="does not agree"):
        fast(model)
    model = settled("shiftgcn", LOCAL[4][1])
    nn.init.constant_(model.blocks[0].tcn.shift_in.shift, 1e9)
    with pytest.raises(ModelError, match="temporal shift of"):
        fast(model)


def test_what_has_no_plain_form_is_named():
    with pytest.raises(ModelError, match="Softmax has no fast form"):
        lower(nn.Softmax(dim=1))
    with pytest.raises(ModelError, match="Linear has no fast form"):
        fast(nn.Linear(2, 2))
    with pytest.raises(ModelError, match="shortens the clip"):
        lower(nn.Conv2d(4, 4, (3, 1)))


def test_absent_persons_are_not_worked_on():
    network = fast(settled("stgcn", LOCAL[0][1]))
    assert isinstance(network, FastNetwork)
    seen: list[int] = []
    network.paths[0].layers.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    network(clips(12))
    assert seen == [5]


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
