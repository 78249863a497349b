"""The fast path is the model: the same answers, for every family and variant."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from kinegraph.errors import ModelError, UntranslatableError
from kinegraph.models import MODELS
from kinegraph.ops.step_context import StepContext, drain
from kinegraph.runtime.fuse import (
    fuse_layers,
    optimize_for_inference,
    relative_error,
)
from kinegraph.runtime.network import PersonNetwork
from kinegraph.runtime.trace import translate
from models.networks import LOCAL, WHOLE, case_name, clips, settled


def test_every_family_is_covered():
    assert {name for name, _ in LOCAL + WHOLE} == set(MODELS)
    assert len({case_name(case) for case in LOCAL + WHOLE}) == len(LOCAL + WHOLE) > 40


@pytest.mark.parametrize("case", LOCAL + WHOLE, ids=case_name)
@torch.inference_mode()
def test_plain_networks_equal_their_models(case):
    model = settled(*case)
    network = optimize_for_inference(model)
    for frames in (12, 37):
        x = clips(frames)
        x[2] = 0 if frames == 37 else x[2]  # a clip without anybody
        assert relative_error(network(x), model(x)) < 1e-5


def test_the_model_is_not_changed_and_not_shared():
    model = settled("stgcn", LOCAL[0][1])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    network, x = optimize_for_inference(model.train()), clips(12)
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
    assert not optimize_for_inference(model)(clips(12)).any()
    assert model.training and not model.blocks[0].bn.training


@torch.inference_mode()
def test_half_precision_keeps_the_answer():
    model, x = settled("shiftgcn", LOCAL[4][1]), clips(30)
    network = optimize_for_inference(model, torch.bfloat16)
    assert network.dtype == torch.bfloat16
    logits = network(x)
    assert logits.dtype == torch.float32
    assert 0 < relative_error(logits, model(x)) < 5e-2


def test_a_network_that_has_diverged_is_refused():
    model = settled("stgcn", LOCAL[0][1])
    nn.init.constant_(model.blocks[1].tcn.weight, float("nan"))
    with pytest.raises(ModelError, match="does not agree"):
        optimize_for_inference(model)
    model = settled("shiftgcn", LOCAL[4][1])
    nn.init.constant_(model.blocks[0].tcn.shift_in.shift, 1e9)
    with pytest.raises(ModelError, match="temporal shift of"):
        optimize_for_inference(model)


def test_what_keeps_no_contract_is_named():
    with pytest.raises(
        ModelError, match=r"Linear does not implement the model contract.*layout and no in_ch"
    ):
        optimize_for_inference(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Softmax(dim=1), "no inference layer for Softmax"),
        (nn.Conv2d(4, 4, (3, 1)), "changes the number of frames"),
        (nn.Conv2d(4, 4, (3, 1), padding=(1, 0), padding_mode="circular"), "changes the number"),
        (nn.AvgPool2d((2, 1)), "changes the number of frames"),
        (nn.BatchNorm2d(4, track_running_stats=False), "depends on the batch"),
    ],
)
def test_what_cannot_be_translated_is_named(module, message):
    with pytest.raises(UntranslatableError, match=message):
        translate(nn.Sequential(nn.Conv2d(4, 4, 1), module))


def test_functions_of_several_frames_are_not_taken_for_functions_of_one():
    class Centered(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.mean(dim=2, keepdim=True)

    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if bool(x.sum() > 0) else -x

    for module in (Centered(), Branching()):
        with pytest.raises(UntranslatableError):
            translate(module)


class Mixture(nn.Module):
    """What later families are made of: dilated and pooled branches, channel chunks, numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.dilated = nn.Conv2d(4, 4, (5, 1), (2, 1), (4, 0), dilation=(2, 1))
        self.bn = nn.BatchNorm2d(4)
        self.largest = nn.MaxPool2d((3, 1), (2, 1), (1, 0))
        self.mean = nn.AvgPool2d((3, 1), (2, 1), (1, 0))
        self.act = nn.Hardswish()
        self.last = nn.Conv2d(8, 6, 1, stride=(2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, dim=1)
        gate = 1 - torch.sigmoid(second.mean(dim=3, keepdim=True)) * 0.5
        long = self.act(self.bn(self.dilated(first * gate)))
        short = self.largest(second) - self.mean(x[:, 2:6]) + second[:, :, ::2]
        return self.last(torch.cat([long, short], dim=1))


@torch.inference_mode()
def test_a_module_of_many_operations_on_clips_and_in_steps():
    torch.manual_seed(0)
    module = Mixture().eval()
    module.bn.running_mean.normal_()
    layers = fuse_layers(translate(module))
    for frames in (1, 2, 7, 30):
        x = torch.randn(3, 8, frames, 5)
        expected = module(x)
        got = layers(x.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)
        torch.testing.assert_close(got, expected)
        hop = layers.infer_delays(0)[1]
        first, _ = layers.infer_delays(1 - hop)
        after = -first * hop + -(hop - 1 + frames - first * hop) % hop
        padded = torch.cat([torch.randn(3, 8, hop - 1, 5), x, torch.randn(3, 8, after, 5)], dim=2)
        state, features = None, []
        for number, given in enumerate(padded.split(hop, dim=2)):
            before = torch.full((3,), number * hop)
            context = StepContext(before, torch.full((3,), frames), state, mask=True)
            rows = given.permute(0, 2, 3, 1).contiguous()
            features.append(drain(layers.run_incremental(rows, context)))
            state = context.next_state
        stepped = torch.cat(features, dim=1)[:, -first:][:, : expected.shape[2]]
        torch.testing.assert_close(stepped.permute(0, 3, 1, 2), expected)


def test_absent_persons_are_not_worked_on():
    network = optimize_for_inference(settled("stgcn", LOCAL[0][1]))
    assert isinstance(network, PersonNetwork)
    seen: list[int] = []
    network.layers.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    network(clips(12))
    assert seen == [5]


def test_other_threads_may_run_networks_while_a_model_is_traced():
    model, x = settled("stgcn", LOCAL[0][1]), clips(12)
    network, errors, stop = optimize_for_inference(model), [], threading.Event()

    @torch.inference_mode()
    def run() -> None:
        expected = [model(x), network(x)]
        while not stop.is_set():
            got = [model(x), network(x)]
            if not all(map(torch.equal, got, expected)):
                errors.append("other logits")

    def guarded() -> None:
        try:
            run()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(2)]
    for thread in threads:
        thread.start()
    with ThreadPoolExecutor(2) as pool:
        networks = list(pool.map(optimize_for_inference, [model] * 8))
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    with torch.inference_mode():
        assert all(torch.equal(other(x), network(x)) for other in networks)
