"""A small run of `make fuzz`: altered files are read, or refused with one sentence."""

from __future__ import annotations

import random

import pytest

from fuzz import OUTCOMES, fuzz, mutate, sum_counts


def test_altered_files_of_every_kind_are_refused_or_read(capsys):
    counts = fuzz(600, seed=1, max_cases=50, exports=False)
    total = sum_counts(counts)
    assert not any(total[outcome] for outcome in OUTCOMES[2:]), capsys.readouterr().out
    assert len(counts) > 25


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_gives_the_same_alterations(seed):
    data = bytes(range(256)) * 10
    one, other = (mutate(data, random.Random(seed)) for _ in range(2))
    assert one == other != data
