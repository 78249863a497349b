"""Heads of every frame: what they see, what padding changes, and the causal head step by step."""

import pytest
import torch

from kinegraph.errors import ModelError, UnknownNameError
from kinegraph.models import MODELS, create_model
from kinegraph.models.asformer import LocalAttention
from kinegraph.models.segmenter import HEADS, FrameSegmenter, create_head
from models.networks import narrow

FEATURES, CLASSES, T = 6, 4, 40
SMALL = {
    "asformer": {"layers": 3, "decoders": 2, "channels": 6},
    "causal": {"layers": 3, "channels": 5},
    "linear": {},
    "ms_tcn": {"layers": 3, "refinements": 2, "refinement_layers": 3, "channels": 5},
}


def small_head(name, **options):
    """Return a head with random weights in evaluation mode."""
    torch.manual_seed(0)
    return create_head({"name": name, **SMALL[name], **options}, FEATURES, CLASSES).eval()


def reach(head, frame=T // 2):
    """Return how many frames before and after a frame its answer reads."""
    x = torch.randn(T, FEATURES, T)
    x[torch.arange(T), :, torch.arange(T)] = torch.nan  # one frame of each row
    with torch.no_grad():
        answers = head(x, torch.ones(T, 1, T))[-1, :, 0, frame]
    read = answers.isnan().nonzero().flatten()
    return frame - int(read[0]), int(read[-1]) - frame


def test_every_head_is_tested():
    assert {*SMALL} == {*HEADS}


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in HEADS), ("causal", {"delay": 2, "smooth": 3})],
)
@torch.no_grad()
def test_padding_changes_nothing(name, options):
    head, x = small_head(name, **options), torch.randn(2, FEATURES, T)
    alone = head(x[:1, :, :25], torch.ones(1, 1, 25))
    mask = torch.ones(2, 1, T)
    mask[0, :, 25:] = 0
    together = head(x * mask, mask)
    assert together.shape == (len(alone), 2, CLASSES, T)
    torch.testing.assert_close(together[:, :1, :, :25], alone)


def test_heads_read_the_frames_that_they_state():
    assert reach(small_head("linear")) == (0, 0)
    assert reach(small_head("causal", refinements=0)) == (2 * (1 + 2 + 4), 0)
    assert reach(small_head("causal", refinements=0, delay=4)) == (2 * (1 + 2 + 4) - 4, 4)
    assert reach(small_head("causal", refinements=0, smooth=2)) == (2 * (1 + 2 + 4) + 2, 2)
    # both dilations of a dual layer: the larger of 1 and 4, 2 and 2, 4 and 1
    assert reach(small_head("ms_tcn", refinements=0)) == (4 + 2 + 4, 4 + 2 + 4)
    assert reach(small_head("ms_tcn", refinements=1)) == (10 + 7, 10 + 7)


@torch.no_grad()
def test_smoothing_is_the_mean_of_the_sharpened_class_probabilities_around_a_frame():
    head, x = small_head("causal", smooth=2), torch.randn(1, FEATURES, T)
    mask = torch.ones(1, 1, T)
    smoothed = head(x, mask)[-1].softmax(dim=1)
    head.smooth = 0
    shares = head(x, mask)[-1].softmax(dim=1) ** 4
    shares = shares / shares.sum(dim=1, keepdim=True)
    torch.testing.assert_close(smoothed[..., 10], shares[..., 8:13].mean(dim=2))
    torch.testing.assert_close(smoothed[..., 0], shares[..., :3].mean(dim=2))
    torch.testing.assert_close(smoothed[..., -2], shares[..., -4:].mean(dim=2))


@pytest.mark.parametrize("delay", [0, 3])
@pytest.mark.parametrize("sizes", [[1] * T, [7, 1, 20, 12], [T]])
@torch.no_grad()
def test_the_causal_head_step_by_step_equals_the_whole_recording(delay, sizes):
    head, x = small_head("causal", delay=delay), torch.randn(2, FEATURES, T)
    whole = head(x, torch.ones(2, 1, T))[-1]
    state, parts = head.initial_state(2), []
    ahead = [torch.zeros(2, FEATURES, delay)] if delay else []
    for part in [*x.split(sizes, dim=2), *ahead]:
        logits, state = head.step(part, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=2)[..., delay:], whole)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ({"name": "tcn"}, UnknownNameError, "unknown head 'tcn'"),
        ({"name": "ms_tcn", "layer": 3}, ModelError, r"no option 'layer' .did you mean 'layers'"),
        ({"name": "ms_tcn", "layers": 0}, ModelError, "expected layers of at least 1, got 0"),
        ({"name": "ms_tcn", "dropout": 1}, ModelError, "expected a dropout of at least 0"),
        ({"name": "ms_tcn", "layers": "3"}, ModelError, "does not accept"),
        ({"name": "causal", "smooth": -1}, ModelError, "got 1, 0 and -1"),
        ({"name": "causal", "delay": -1}, ModelError, "refinements, delay and smooth of 0 or more"),
    ],
)
def test_wrong_options_are_refused(spec, error, message):
    with pytest.raises(error, match=message):
        create_head(spec, FEATURES, CLASSES)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_every_family_is_a_backbone(name):
    torch.manual_seed(0)
    options = narrow(name, 2)
    backbone = create_model(name, layout="kinect20", num_classes=6, in_channels=2, **options)
    model = FrameSegmenter(backbone, {"name": "causal", **SMALL["causal"]}, CLASSES).eval()
    x = torch.randn(2, 2, 37, 20, 2)
    logits = model(x, torch.tensor([37, 30]))
    assert logits.shape == (2, CLASSES, 37)
    assert logits[0].std(dim=1).min() > 0  # the frames differ
    assert not any("backbone.head" in name for name, _ in model.named_parameters())
    grouped = [p for group in model.parameter_groups(0.1) for p in group["params"]]
    assert {*map(id, grouped)} >= {*map(id, model.head.parameters())}


@torch.no_grad()
def test_local_attention_is_that_of_each_frame_to_its_block_and_half_a_block_around():
    torch.manual_seed(0)
    attention, w = LocalAttention(6, 6, 2, 4), 4
    x, mask = torch.randn(1, 6, 10), torch.ones(1, 1, 10)
    mask[..., 9:] = 0
    found = attention(x, x, mask)
    query, key, value = attention.query(x)[0], attention.key(x)[0], attention.value(x)[0]
    for t in range(10):
        low = max(0, t // w * w - w // 2)
        high = min(9, t // w * w + w + w // 2)
        shares = (query[:, t] @ key[:, low:high] / 3**0.5).softmax(dim=0)
        mixed = (value[:, low:high] * shares).sum(dim=1)
        expected = attention.leave(mixed.relu()[None, :, None])[0, :, 0]
        torch.testing.assert_close(found[0, :, t], expected)
