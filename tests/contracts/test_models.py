"""What every model must do: one contract over the registry."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinegraph.inference.backends.exported_model import ExportedModel
from kinegraph.inference.backends.runtimes import FORMATS
from kinegraph.inference.export.trace import trace_clips
from kinegraph.inference.export.writers import writer
from kinegraph.models import MODELS, create_model, list_models, model_options
from kinegraph.models.base import pool_clips, predict_logits
from kinegraph.models.unknown import UnknownLogit
from kinegraph.runtime.fuse import optimize_for_inference, relative_error
from kinegraph.runtime.micro_batching import StepStreams
from kinegraph.runtime.streams import open_streams
from kinegraph.skeleton.layouts import get_layout, list_layouts
from models.networks import ONE_BLOCK, WHOLE, narrow

CASES = [(name, layout, M) for name in MODELS for layout in ("ntu25", "jhmdb15") for M in (1, 2)]

MODES = [(name, False) for name in MODELS] + [
    (name, True) for name in MODELS if "faithful" in model_options(name)
]


def test_the_contract_covers_the_registry():
    assert len(CASES) == 4 * len(MODELS)
    assert list_models() == sorted(MODELS)


@pytest.mark.parametrize(("name", "layout", "M"), CASES)
def test_forward_features_head_and_reset(name, layout, M):
    options = narrow(name, M)
    model = create_model(name, layout=layout, num_classes=6, in_channels=2, **options).eval()
    V = model.layout.num_joints
    x = torch.randn(3, 2, 17, V, M)
    with torch.inference_mode():
        features = model.forward_features(x)
        assert features.shape[:3] == (3, M, model.num_features)
        assert model.forward_head(features).shape == (3, 6)
        whole = model(x)
        parts = torch.cat([model(part) for part in torch.chunk(x, 2)])
        torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)
        model.reset_classifier(4)
        assert model(x).shape == (3, 4)


@pytest.mark.parametrize(("name", "faithful"), MODES)
@torch.inference_mode()
def test_a_linear_head_on_pooled_features_is_the_classifier(name, faithful):
    model = seen_something(name, **({"faithful": True} if faithful else {}))
    x = torch.randn(3, 3, 20, 25, 2)
    x[1, ..., 1] = 0
    lengths = torch.tensor([20, 15, 9])
    pooled = pool_clips(model, x, lengths)
    weight, bias = torch.randn(4, pooled.shape[1]), torch.randn(4)
    model.set_classifier(weight, bias)
    expected = pooled @ weight.T + bias
    torch.testing.assert_close(predict_logits(model, x, lengths), expected, rtol=1e-4, atol=1e-4)
    model.unknown_head = UnknownLogit(pooled[:2], slope=3.0, radius=0.5)
    distance = torch.cdist(pooled, pooled[:2]).amin(dim=1)
    shares = predict_logits(model, x, lengths).softmax(dim=1)
    unknown = torch.sigmoid(3 * (distance - 0.5))
    torch.testing.assert_close(shares[:, 4], unknown, rtol=1e-3, atol=1e-3)
    known = expected.softmax(dim=1) * (1 - unknown[:, None])
    torch.testing.assert_close(shares[:, :4], known, rtol=1e-3, atol=1e-3)


def seen_something(name: str, layout: str = "ntu25", **options) -> torch.nn.Module:
    """Return a small model whose batch norms have seen a batch."""
    torch.manual_seed(0)
    model = create_model(name, layout=layout, num_classes=6, **{**narrow(name), **options})
    model.train()(torch.randn(4, 3, 24, model.layout.num_joints, 2))
    return model.eval()


def stream_mode(name: str) -> str:
    """Return how streams of a model are computed: by steps or by windows."""
    return "step" if isinstance(open_streams(seen_something(name)), StepStreams) else "window"


#: Each family is streamed with ntu25, and with one of so many of the other layouts, in turn.
LAYOUTS_PER_FAST_CASE = 5
#: Layouts of more joints (whole bodies with hands and faces) are slow.
FAST_JOINTS = 40


def streamed_cases() -> list:
    """Return every family with every layout, most of them slow."""
    others = [layout for layout in list_layouts() if layout != "ntu25"]
    cases = [pytest.param(name, "ntu25") for name in MODELS]
    for i, name in enumerate(MODELS):
        for j, layout in enumerate(others):
            in_turn = (i + j) % LAYOUTS_PER_FAST_CASE == 0
            fast = in_turn and get_layout(layout).num_joints <= FAST_JOINTS
            cases.append(pytest.param(name, layout, marks=[] if fast else pytest.mark.slow))
    return cases


@pytest.mark.parametrize(("name", "layout"), streamed_cases())
def test_optimized_and_streamed_logits_are_those_of_the_model(name, layout):
    model = seen_something(name, layout)
    network, x = optimize_for_inference(model), torch.randn(2, 3, 19, model.layout.num_joints, 2)
    x[1, ..., 1] = 0
    with torch.inference_mode():
        expected = model(x)
        assert relative_error(network(x), expected) < 1e-5
    streams = open_streams(network)
    keys = [streams.open(), streams.open()]
    for t in range(19):
        streams.push({key: clip[:, t] for key, clip in zip(keys, x, strict=True)})
    flushed = torch.stack([streams.flush(key) for key in keys])
    assert relative_error(flushed, expected) < 1e-5


def test_which_families_are_computed_step_by_step():
    windows = {name for name in MODELS if stream_mode(name) == "window"}
    assert windows == {name for name, _ in WHOLE}


EXPORTS = [(name, "ntu25", ONE_BLOCK.get(name, {})) for name in MODELS] + [
    pytest.param(name, layout, {}, marks=pytest.mark.slow)
    for name in MODELS
    for layout in list_layouts()
    if layout != "ntu25" or name in ONE_BLOCK
]


@pytest.mark.parametrize(("name", "layout", "options"), EXPORTS)
def test_an_exported_network_gives_the_logits_of_the_clip(name, layout, options, tmp_path):
    model = seen_something(name, layout, **options)
    traced = trace_clips(optimize_for_inference(model))
    writer(traced, "torch", "fp32", None)(tmp_path / "it.pt2", "{}")
    shape = 3, model.layout.num_joints
    exported = ExportedModel(
        traced.interface, shape, FORMATS["torch"].open(tmp_path / "it.pt2", "fp32")
    )
    for N, T, M in ((1, 24, 1), (2, 33, 3)):
        x = torch.randn(N, 3, T, shape[1], traced.interface.persons or M)
        with torch.inference_mode():
            assert relative_error(exported(x), model(x)) < 1e-4


@pytest.mark.parametrize("name", list(MODELS))
def test_parameter_groups_hold_every_parameter_once(name):
    model = create_model(name, layout="ntu25", num_classes=6)
    groups = model.parameter_groups(1e-4)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    assert all("weight_decay" in group for group in groups)


@pytest.mark.parametrize(("name", "faithful"), MODES)
def test_saved_and_loaded_tensors_are_those_of_the_model(name, faithful, tmp_path):
    options = {"faithful": True} if faithful else {}
    model = create_model(name, layout="ntu25", num_classes=6, **options)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.fill_(number)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    assert all(
        torch.equal(state[k], v) for k, v in load_file(tmp_path / "weights.safetensors").items()
    )
    parameters = [float(parameter.detach().flatten()[0]) for parameter in model.parameters()]
    assert parameters == [*range(len(parameters))]


@pytest.mark.parametrize("name", list(MODELS))
def test_a_few_steps_lower_the_loss_of_one_batch(name):
    torch.manual_seed(0)
    model = create_model(name, layout="ntu25", num_classes=3, **narrow(name, 1))
    x, labels = torch.randn(6, 3, 16, 25, 1), torch.tensor([0, 1, 2] * 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        loss = torch.nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
