"""Streams: one frame after the other, alone or many together, stored and gone on with."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError, UnknownNameError
from kinegraph.ops.layers import GraphMix
from kinegraph.runtime.fuse import optimize_for_inference, relative_error
from kinegraph.runtime.streams import open_streams
from models.networks import LOCAL, WHOLE, clips, settled

SMALL = LOCAL[0][1]


class OneStream:
    """The only stream of a model."""

    def __init__(self, model: nn.Module, *args: Any, **options: Any) -> None:
        self.streams = open_streams(model, *args, **options)
        self.key = self.streams.open()

    def push(self, frame: Any) -> Tensor | None:
        return self.streams.push({self.key: frame})[self.key]

    def flush(self) -> Tensor | None:
        return self.streams.flush(self.key)

    def state_dict(self) -> dict[str, Tensor]:
        return self.streams.state_dict(self.key)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.streams.load_state_dict(self.key, state)


def clip_answer(model: nn.Module, frames: list[Tensor]) -> Tensor:
    """What the model says of the frames as a clip."""
    with torch.inference_mode():
        return model(torch.stack(frames, dim=1)[None])[0]


@pytest.mark.parametrize("name", ["stgcn", "shiftgcn", "stgcn_twostream", "asgcn"])
def test_a_stream_may_be_flushed_at_any_time_and_goes_on(name):
    model = settled(name, SMALL)
    stream, frames = OneStream(model), []
    assert stream.flush() is None
    answers = []
    for frame in clips(50)[1].unbind(dim=1):
        frames.append(frame)
        answers.append(stream.push(frame))
        if len(frames) in (1, 2, 3, 9, 25, 50):
            flushed = stream.flush()
            assert flushed is not None and flushed.shape == (5,)
            assert relative_error(flushed, clip_answer(model, frames)) < 1e-5
    if name != "asgcn":
        assert answers[0] is None
    assert answers[-1] is not None and answers[-1].shape == (5,)


def test_running_answers_are_about_the_features_known_so_far():
    """One block of kernel 9: after t frames, features 0 to t - 5 are known."""
    model = settled("stgcn", {"channels": (8,), "strides": (1,)})
    stream, x = OneStream(model, chunk=1), clips(20)[:1]
    with torch.inference_mode():
        features = model.forward_features(x)
        for t in range(20):
            got = stream.push(x[0, :, t])
            if t < 4:
                assert got is None
            else:
                expected = model.forward_head(features[..., : t - 3, :])
                assert got is not None and relative_error(got, expected[0]) < 1e-5


def test_many_streams_come_and_go_and_keep_their_own_state():
    model = settled("shiftgcn", LOCAL[4][1])
    rng = random.Random(0)
    for amortize in (True, False):
        streams, pushed, checked = open_streams(model, amortize=amortize), {}, 0
        for _ in range(60):
            if len(pushed) < 5 and rng.random() < 0.3:
                pushed[streams.open()] = []
            if pushed and rng.random() < 0.05:
                key = rng.choice(list(pushed))
                streams.close(key)
                del pushed[key]
            frames = {key: torch.randn(3, 20, 2) for key in pushed if rng.random() < 0.8}
            for key, frame in frames.items():
                pushed[key].append(frame)
            assert set(streams.push(frames)) == set(frames)
            for key, seen in pushed.items():
                if seen and rng.random() < 0.1:
                    flushed = streams.flush(key)
                    assert flushed is not None
                    assert relative_error(flushed, clip_answer(model, seen)) < 1e-5
                    checked += 1
        assert checked > 10


def test_what_is_plain_already_streams_too():
    for case in (("stgcn", SMALL), WHOLE[0]):
        network, frames = optimize_for_inference(settled(*case)), list(clips(9)[0].unbind(dim=1))
        streams = open_streams(network)
        key = streams.open()
        for frame in frames:
            streams.push({key: frame})
        flushed = streams.flush(key)
        assert flushed is not None and relative_error(flushed, clip_answer(network, frames)) < 1e-5


def test_streams_whose_frames_come_at_different_times_go_together():
    network = optimize_for_inference(settled("stgcn", SMALL))
    worked: list[int] = []
    network.classifier.register_forward_pre_hook(lambda _, given: worked.append(len(given[0])))
    for amortize in (True, False):
        streams = open_streams(network, amortize=amortize)
        keys = [streams.open() for _ in range(8)]
        worked.clear()
        for t in range(80):
            for own in (keys[:3], keys[3:4], keys[4:]):
                own = own if t > 10 else own[:1]  # some come later
                streams.push({key: torch.randn(3, 20, 1) for key in own})
        assert worked[-2:] == [8, 8] if amortize else max(worked[-8:]) <= 4


def test_nobody_waits_long_for_streams_that_pause_or_are_slow():
    network = optimize_for_inference(settled("stgcn", SMALL))
    streams = open_streams(network, chunk=4)
    quick, slow, gone, late = (streams.open() for _ in range(4))
    heard: list[Tensor] = []
    for t in range(120):
        own = [quick] + [slow] * (t % 2) + [gone] * (t < 30) + [late] * (t > 50)
        answer = streams.push({key: torch.randn(3, 20, 1) for key in own})[quick]
        if answer is not None and (not heard or answer is not heard[-1]):
            heard.append(answer)
        for key in (quick, slow, late):
            assert len(streams._streams[key].pending) < 16
    assert len(heard) > 20


def test_the_work_of_eight_frames_is_spread_over_as_many():
    network = optimize_for_inference(settled("stgcn", SMALL))
    blocks = [module for module in network.modules() if isinstance(module, GraphMix)]
    worked: list[object] = []
    for block in blocks:
        block.register_forward_hook(lambda *_: worked.append(1))
    stream, at = OneStream(network), []
    for _ in range(32):
        worked.clear()
        stream.push(torch.randn(3, 20, 1))
        at.append(len(worked))
    assert max(at[16:]) < len(blocks) and sum(at[16:]) == 2 * len(blocks)


def test_work_that_is_broken_off_is_begun_again():
    model = settled("stgcn", SMALL)
    network, frames = optimize_for_inference(model), list(clips(30)[0].unbind(dim=1))
    streams = open_streams(network)
    keys = [streams.open(), streams.open()]
    broken = iter([KeyboardInterrupt])

    def interrupt(*_: object) -> None:
        if len(done) > 17 and next(broken, None):
            raise KeyboardInterrupt

    last = [module for module in network.modules() if isinstance(module, GraphMix)][-1]
    last.register_forward_hook(interrupt)
    done: list[Tensor] = []
    for frame in frames:
        done.append(frame)
        try:
            streams.push(dict.fromkeys(keys, frame))
        except KeyboardInterrupt:
            assert len(done) < 27
    assert next(broken, None) is None
    for key in keys:
        flushed = streams.flush(key)
        assert flushed is not None and relative_error(flushed, clip_answer(model, frames)) < 1e-5


@pytest.mark.parametrize("name", ["stgcn", "asgcn"])
@pytest.mark.parametrize("after", [0, 2, 17])
def test_a_stored_stream_goes_on_elsewhere(name, after):
    model = settled(name, SMALL)
    frames = list(clips(30)[1].unbind(dim=1))
    first, other = OneStream(model), OneStream(model)
    other.push(torch.randn(3, 20, 2))  # is replaced
    for frame in frames[:after]:
        first.push(frame)
    state = {key: value.clone() for key, value in first.state_dict().items()}
    other.load_state_dict(state)
    for frame in frames[after:]:
        expected, got = first.push(frame), other.push(frame)
        assert (got is None) == (expected is None)
        assert got is None or torch.equal(got, expected)
    flushed = other.flush()
    assert flushed is not None and relative_error(flushed, clip_answer(model, frames)) < 1e-5


def test_states_that_do_not_fit_are_refused():
    steps, windows = OneStream(settled("stgcn", SMALL)), OneStream(settled("asgcn", SMALL))
    wider = OneStream(settled("stgcn", {**SMALL, "channels": (16, 16, 16)}))
    for stream in (steps, windows, wider):
        stream.push(torch.randn(3, 20, 2))
    with pytest.raises(ModelError, match="expected a state of a stream in step mode"):
        steps.load_state_dict(windows.state_dict())
    with pytest.raises(ModelError, match="expected a state of a stream in window mode"):
        windows.load_state_dict(steps.state_dict())
    with pytest.raises(ModelError, match="belongs to another model"):
        steps.load_state_dict(wider.state_dict())


def test_sliding_windows_see_the_latest_frames():
    model = settled("stgcn", SMALL)
    stream = OneStream(model, "window", window=8)
    frames = list(clips(20)[0].unbind(dim=1))
    for t, frame in enumerate(frames):
        answer = stream.push(frame)
        assert answer is not None
        expected = clip_answer(model, frames[max(0, t - 7) : t + 1])
        assert relative_error(answer, expected) < 1e-5


def test_a_model_in_training_streams_as_if_in_evaluation():
    model = settled("stgcn", {**SMALL, "dropout": 0.5})
    frames = list(clips(9)[0].unbind(dim=1))
    stream = OneStream(model.train())
    for frame in frames:
        stream.push(frame)
    flushed = stream.flush()
    assert model.training and flushed is not None
    assert relative_error(flushed, clip_answer(model.eval(), frames)) < 1e-5


@pytest.mark.parametrize("mode", ["step", "window"])
def test_a_frame_is_copied_when_it_is_pushed(mode):
    model, buffer = settled("stgcn", SMALL), torch.zeros(3, 20, 2)
    stream, frames = OneStream(model, mode), list(clips(9)[0].unbind(dim=1))
    for frame in frames:
        buffer.copy_(frame)
        stream.push(buffer)
    flushed = stream.flush()
    assert flushed is not None and relative_error(flushed, clip_answer(model, frames)) < 1e-5


def test_a_state_goes_into_one_of_several_streams_and_is_not_shared():
    model = settled("stgcn", SMALL)
    streams, frames = open_streams(model), list(clips(40)[0].unbind(dim=1))
    one, other = streams.open(), streams.open()
    for frame in frames:
        streams.push({one: frame, other: torch.randn(3, 20, 2)})
    state = streams.state_dict(one)
    streams.load_state_dict(other, state)
    for tensor in state.values():
        tensor.zero_()
    for key in (one, other):
        flushed = streams.flush(key)
        assert flushed is not None and relative_error(flushed, clip_answer(model, frames)) < 1e-5


def test_states_that_were_tampered_with_are_refused_and_change_nothing():
    model = settled("stgcn", SMALL)
    stream, frames = OneStream(model), list(clips(12)[0].unbind(dim=1))
    for frame in frames:
        stream.push(frame)
    good, fresh = stream.state_dict(), OneStream(model)
    for name, value in {
        "before": torch.tensor(-(10**6)),
        "pushed": torch.tensor(10**7),
        "pending": good["pending"][:, :2],
        "kept.1": good["kept.1"].double(),
        "kept.2": good["kept.2"].float() * float("nan"),
    }.items():
        for target in (stream, fresh):
            with pytest.raises(ModelError):
                target.load_state_dict({**good, name: value})
    flushed = stream.flush()
    assert flushed is not None and relative_error(flushed, clip_answer(model, frames)) < 1e-5
    assert fresh.push(torch.randn(3, 20, 1)) is None  # still open for any number of persons


def test_a_refused_push_decides_nothing():
    model = settled("stgcn", SMALL)
    streams = open_streams(model)
    keys = [streams.open(), streams.open()]
    with pytest.raises(ModelError):
        streams.push({keys[0]: torch.zeros(3, 20, 2), keys[1]: torch.zeros(3, 19, 2)})
    streams.push({key: torch.ones(3, 20, 1) for key in keys})
    for key in keys:
        streams.close(key)
    key = streams.open()
    streams.push({key: torch.ones(3, 20, 2)})


def test_released_shift_gcn_knows_how_many_persons_there_are():
    model = settled("shiftgcn", {**SMALL, "faithful": True, "persons": 2})
    for mode in ("step", "window"):
        with pytest.raises(ModelError, match=r"2 persons|20, 2\)"):
            OneStream(model, mode).push(torch.ones(3, 20, 4))
    with pytest.raises(ModelError, match="2 persons together"):
        optimize_for_inference(model)(torch.ones(1, 3, 9, 20, 1))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (torch.zeros(3, 19, 2), r"\(C, V, M\) = \(3, 20, M\), got \(3, 19, 2\)"),
        (torch.zeros(1, 3, 20, 2), r"got \(1, 3, 20, 2\)"),
        (torch.zeros(3, 20, 0), r"got \(3, 20, 0\)"),
        (torch.full((3, 20, 1), float("nan")), "not finite"),
        (torch.full((3, 20, 1), 1e300, dtype=torch.float64), "not finite"),
        (torch.full((3, 20, 1), 1e20), r"beyond 1e\+09"),
        (["a"], "of numbers"),
    ],
)
@pytest.mark.parametrize("mode", ["step", "window"])
def test_frames_that_do_not_fit_are_refused(mode, frame, message):
    stream = OneStream(settled("stgcn", SMALL), mode)
    with pytest.raises(ModelError, match=message):
        stream.push(frame)
    stream.push(torch.zeros(3, 20, 1))
    with pytest.raises(ModelError, match=r"\(3, 20, 1\), got \(3, 20, 2\)"):
        stream.push(torch.zeros(3, 20, 2))


def test_modes_and_keys_that_do_not_exist():
    model = settled("stgcn", SMALL)
    with pytest.raises(UnknownNameError, match="did you mean 'step'"):
        OneStream(model, "steps")
    with pytest.raises(ModelError, match="not local in time"):
        OneStream(settled(*WHOLE[0]), "step")
    for mode in ("step", "window"):
        for window in (0, 2.5, 2**63):
            with pytest.raises(ModelError, match="a window of 1 to 100000 frames"):
                OneStream(model, mode, window=window)
        streams = open_streams(model, mode)
        with pytest.raises(ModelError, match="unknown stream key 7"):
            streams.push({7: torch.zeros(3, 20, 1)})
        key = streams.open()
        streams.close(key)
        with pytest.raises(ModelError, match="unknown stream key"):
            streams.flush(key)
