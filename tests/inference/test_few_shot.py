"""The few-shot head: named like its examples, unknown far from all, calibrated by held-out ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinegraph.inference.few_shot import (
    CONFIDENCE,
    LOG_TEMPERATURE,
    RADIUS,
    SLOPE,
    fit_few_shot,
)
from kinegraph.models.unknown import UnknownLogit


def draw(shots: int, actions: int = 4, spread: float = 0.5, seed: int = 0):
    """Return features around a place for each action, their labels, and the places."""
    rng = np.random.default_rng(seed)
    places = np.random.default_rng(7).normal(size=(actions + 1, 64))
    labels = np.repeat(np.arange(actions), shots)
    return places[labels] + spread * rng.normal(size=(len(labels), 64)), labels, places


@pytest.mark.parametrize("shots", [1, 3, 20])
def test_it_names_new_clips_of_its_actions_and_no_others(shots):
    features, labels, places = draw(shots)
    head, held_out = fit_few_shot(features, labels)
    new, truth, _ = draw(25, seed=1)
    shares = head.probabilities(new)
    assert (shares.argmax(axis=1) == truth).all()
    assert (shares.max(axis=1) >= CONFIDENCE).mean() > 0.8
    stranger = places[-1] + 0.5 * np.random.default_rng(2).normal(size=(25, 64))
    assert (head.probabilities(stranger).max(axis=1) < CONFIDENCE).mean() > 0.8
    assert held_out.examples == (0 if shots == 1 else len(labels))
    assert held_out.unknown > 0.8


def test_without_held_out_examples_the_calibration_is_the_prior():
    features, labels, _ = draw(1)
    head, held_out = fit_few_shot(features, labels)
    assert (held_out.examples, held_out.correct, held_out.wrong) == (0, 0, 0)
    assert head.temperature == pytest.approx(np.exp(LOG_TEMPERATURE[0]), rel=1e-3)
    assert head.slope * head.radius == pytest.approx(SLOPE[0] * RADIUS[0], rel=1e-3)


def test_examples_that_are_hard_to_tell_apart_make_it_less_sure():
    shares = {}
    for spread in (0.5, 3.0):
        head, held_out = fit_few_shot(*draw(10, spread=spread)[:2])
        new = draw(25, spread=spread, seed=1)[0]
        shares[spread] = float(head.probabilities(new).max(axis=1).mean()), held_out.correct
    assert shares[0.5][0] > shares[3.0][0] + 0.2
    assert shares[0.5][1] > 0.9 > shares[3.0][1]


def test_windows_of_one_clip_are_held_out_together():
    features, labels, _ = draw(2)
    noise = np.random.default_rng(3).normal(size=features.shape)  # places say nothing
    twice, groups = np.repeat(noise, 5, axis=0), np.repeat(np.arange(len(labels)), 5)
    alone = fit_few_shot(twice, np.repeat(labels, 5))[1]
    together = fit_few_shot(twice, np.repeat(labels, 5), groups)[1]
    assert alone.correct > 0.9
    assert together.correct < 0.5


def test_many_examples_and_few_features():
    features, labels, _ = draw(50)
    head, held_out = fit_few_shot(features[:, :8], labels)
    assert head.weight.shape == (4, 8)
    assert held_out.correct > 0.7


def test_equal_examples_are_no_error():
    head, _ = fit_few_shot(np.ones((4, 6)), np.array([0, 0, 1, 1]))
    assert np.isfinite(head.probabilities(np.ones((1, 6)))).all()


def test_the_network_computes_what_the_head_does():
    features, labels, _ = draw(3)
    head, _ = fit_few_shot(features, labels)
    unknown = UnknownLogit(torch.from_numpy(head.centers), head.slope, head.radius)
    new = draw(5, seed=1)[0]
    logits = torch.from_numpy(head.logits(new) / head.temperature)
    shares = unknown(torch.from_numpy(new), logits).softmax(dim=1)[:, :4]
    np.testing.assert_allclose(shares, head.probabilities(new), rtol=1e-5)
