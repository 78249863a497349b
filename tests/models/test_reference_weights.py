"""The formula of the reference weights: hand values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.reference_weights import fill, uniform


@pytest.mark.parametrize(
    ("number", "values"),
    [
        (0, [-0.29069243, -0.97596601, -0.70423032, 0.39582486, -0.73580210, -0.55577322]),
        (1, [0.62832050, -0.05068684, 0.09443857]),
        (700, [-0.30330767, 0.60141684]),
    ],
)
def test_hand_values_of_the_hash(number, values):
    np.testing.assert_allclose(uniform(number, len(values)), values, rtol=0, atol=5e-9)


def test_each_kind_of_tensor_has_its_rule():
    state = {
        "a.weight": torch.zeros(2, 3),
        "b.PA": torch.ones(2),
        "c.A": torch.ones(2),
        "d.num_batches_tracked": torch.tensor(7),
        "e.alpha": torch.zeros(1),
        "f.running_var": torch.ones(2),
        "g.weight": torch.ones(2),
    }
    filled = fill(state, graph=r".*\.PA", keep=r".*\.A", gain=2)
    assert torch.equal(filled["c.A"], state["c.A"])
    assert int(filled["d.num_batches_tracked"]) == 7
    u = [torch.from_numpy(uniform(k, 6)) for k in range(6)]
    torch.testing.assert_close(filled["a.weight"].flatten(), 2 * u[0] * 0.5**0.5)
    torch.testing.assert_close(filled["b.PA"], 1 + 0.02 * u[1][:2])
    torch.testing.assert_close(filled["e.alpha"], 0.1 + 0.05 * u[3][:1])
    torch.testing.assert_close(filled["f.running_var"], 1 + 0.25 * u[4][:2])
    torch.testing.assert_close(filled["g.weight"], 1 + 0.1 * u[5][:2])
