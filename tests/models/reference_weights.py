"""Weights and inputs by formula, for which the published networks' logits are known.

The formula needs the names of the tensors in the released code and nothing else, so that every
family can be compared with its original without a file of weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conftest import real_data
from kinegraph.models.published_weights import published_parts

REFERENCE = "weights/reference"


def uniform(number: int, count: int) -> np.ndarray:
    """Return ``count`` numbers in [-1, 1) for tensor ``number``: a hash of both, float64."""
    mask = np.uint64(0xFFFFFFFF)
    i = np.arange(count, dtype=np.uint64)
    start = np.uint64((number + 1) * 2246822519 & 0xFFFFFFFF)
    h = (i * np.uint64(2654435761) + start) & mask
    h ^= h >> np.uint64(15)
    h = (h * np.uint64(2246822519)) & mask
    h ^= h >> np.uint64(13)
    return h.astype(np.float64) / 2**31 - 1


def fill(
    state: Mapping[str, Tensor], *, graph: str = "", keep: str = "", gain: float = 1.0
) -> dict[str, Tensor]:
    """Return the tensors with values by formula, float64.

    Args:
        state: the tensors by the released names, with their initial values.
        graph: regular expression of names whose initial values are kept and moved by 0.02.
        keep: of names that stay as they are.
        gain: factor of the weights.
    """
    filled = dict(state)
    floating = sorted(name for name, value in state.items() if value.is_floating_point())
    for number, name in enumerate(floating):
        value = state[name]
        if keep and re.fullmatch(keep, name):
            continue
        u = torch.from_numpy(uniform(number, value.numel())).reshape(value.shape)
        last = name.rpartition(".")[2]
        if graph and re.fullmatch(graph, name):
            filled[name] = value.double() + 0.02 * u
        elif last == "running_var":
            filled[name] = 1 + 0.25 * u
        elif last == "running_mean":
            filled[name] = 0.1 * u
        elif value.numel() == 1:
            filled[name] = 0.1 + 0.05 * u
        elif value.ndim <= 1:
            filled[name] = 1 + 0.1 * u if last == "weight" else 0.1 * u
        else:
            filled[name] = gain * u * (1.5 * value.shape[0] / value.numel()) ** 0.5
    return filled


def published_state(model: nn.Module, family: str) -> dict[str, Tensor]:
    """Return the tensors of a model by their released names and in their released shapes."""
    return {
        theirs: _released_shape(name, part)
        for name, value in model.state_dict().items()
        for theirs, part in published_parts(name, value, family).values()
    }


def _released_shape(name: str, value: Tensor) -> Tensor:
    """(K, C, C') of a graph convolution -> (K * C', C, 1, 1), its bias (K, C') -> (K * C',).

    MS-G3D: free edges (K, source, target) -> (K * target, source); the frames of a window are the
    second of three axes.
    """
    if name.endswith("free_edges"):
        return value.transpose(1, 2).flatten(0, 1)
    if name.endswith("window_conv.weight"):
        return value.unsqueeze(2)
    if name.endswith("gcn.weight") and value.ndim == 3:
        return value.transpose(1, 2).flatten(0, 1)[..., None, None]
    return value.flatten() if name.endswith("gcn.bias") else value


def reference_input(shape: tuple[int, int, int, int, int]) -> Tensor:
    """Return the reference clips (N, C, T, V, M), float64."""
    n, c, t, v, m = (
        torch.arange(size, dtype=torch.float64).view([-1 if i == j else 1 for j in range(5)])
        for i, size in enumerate(shape)
    )
    wave = torch.sin(0.05 * (c + 1) * t + 0.7 * v + 1.3 * m + 0.4 * n)
    return wave + 0.1 * torch.cos(0.9 * v * (c + 1))


def reference_answer(family: str, case: str) -> dict[str, Any]:
    """Return the recorded answers of a released network; skips where the data are absent."""
    path = real_data(f"{REFERENCE}/deterministic/{family}.json")
    answer: dict[str, Any] = json.loads(path.read_text("utf-8"))[case]
    return answer


def published_keys(name: str) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes in a released state dict; skips where the data are absent."""
    path = real_data(f"{REFERENCE}/keys/{name}.txt")
    rows = (line.split(" ", 1) for line in path.read_text("utf-8").splitlines())
    shapes = {name: re.findall(r"\d+", rest.partition(")")[0]) for name, rest in rows}
    return {name: tuple(map(int, numbers)) for name, numbers in shapes.items()}


def assert_answers(
    model: nn.Module, family: str, case: str, *, train: bool = True, tolerance: float = 1e-7
) -> None:
    """Compare a network in float64, with the weights of the formula, with the recorded answers.

    These are the number of parameters, logits and loss, the norms of both gradients in evaluation
    mode, and the logits of train mode, which depend on the layout of every batch norm.

    Args:
        model: it; its statistics and gradients are changed.
        family: the file of the answers.
        case: the network in it.
        train: whether train mode is deterministic.
        tolerance: as a share of the largest logit, or of a norm.
    """
    answer = reference_answer(family, case)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == answer["params"]
    expected = torch.tensor(answer["logits"], dtype=torch.float64)
    n, c, t, v, m = answer["input_shape"]
    if c != model.in_channels:  # PYSKL's order is (N, M, T, V, C)
        c, m = m, c
    x = reference_input((n, c, t, v, m)).requires_grad_()
    scale = float(expected.abs().max())
    logits = model.eval()(x)
    torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance * scale)
    loss = nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
    loss.backward()
    grads = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    measured = {
        "loss": loss.detach(),
        "grad_norm_params": torch.stack(grads).norm(),
        "grad_norm_input": x.grad.norm(),
    }
    names = [name for name in measured if name in answer]  # PYSKL's MS-G3D has no backward pass
    np.testing.assert_allclose(
        [measured[name] for name in names], [answer[name] for name in names], rtol=10 * tolerance
    )
    if train:
        expected = torch.tensor(answer["train_mode_logits"], dtype=torch.float64)
        with torch.no_grad():
            logits = model.train()(x)
        torch.testing.assert_close(logits, expected, rtol=0, atol=2e-6 * scale)
