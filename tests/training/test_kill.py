"""A training that is killed, wherever it is, and resumed ends with the same bits."""

from __future__ import annotations

import itertools
import signal
import time

import numpy as np
import pytest

import killed_training
from killed_training import facts, make_recipe

#: Calls of fsync and rename before the second of the four epochs, and up to its end.
BEFORE, CALLS = 20, 32


@pytest.fixture(scope="module")
def recipe(tiny_store) -> dict:
    return make_recipe(tiny_store)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, recipe):
    """The same training, never killed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert killed_training.run(recipe, run) == 0
    return run


def killed_and_resumed(recipe, run, kill_at: int):
    """A run that was killed at this call."""
    assert killed_training.run(recipe, run, kill_at=kill_at) == -signal.SIGKILL
    assert killed_training.run(recipe, run, resume=True) == 0
    return run


# in the very first file; in the second resume.ckpt; between its two renames
@pytest.mark.parametrize("kill_at", [1, CALLS - 5, CALLS - 1])
def test_a_kill_inside_the_writing_changes_nothing(recipe, whole, tmp_path, kill_at):
    run = killed_and_resumed(recipe, tmp_path / "run", kill_at)
    assert facts(run) == facts(whole)


def test_a_loader_process_resumes_with_the_clips_of_the_next_epoch(recipe, whole, tmp_path):
    with_process = {**recipe, "train": {**recipe["train"], "workers": 1}}
    run = killed_and_resumed(with_process, tmp_path / "run", CALLS)
    assert facts(run) == facts(whole)


@pytest.mark.slow
def test_a_kill_at_every_single_write_of_an_epoch(recipe, whole, tmp_path):
    expected = facts(whole)
    for kill_at in range(BEFORE + 1, CALLS + 1):
        run = killed_and_resumed(recipe, tmp_path / f"run{kill_at}", kill_at)
        assert facts(run) == expected, kill_at


@pytest.mark.slow
def test_fifty_kills_at_random_times(recipe, whole, tmp_path):
    begin = time.monotonic()
    assert killed_training.run(recipe, tmp_path / "timed") == 0
    seconds = time.monotonic() - begin
    rng, expected, kills = np.random.default_rng(0), facts(whole), 0
    numbers = itertools.count()
    while kills < 50:
        run, done = tmp_path / f"run{next(numbers)}", None
        while done != 0:
            process = killed_training.start(recipe, run, resume=run.exists())
            process.join(float(rng.uniform(0, 1.2 * seconds)))
            process.kill()
            process.join()
            done = process.exitcode
            kills += done != 0
        assert facts(run) == expected
