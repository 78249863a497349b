"""Teaching on the server: examples in, a model that predictions, videos and files use."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest

from kinegraph.inference.recognizer import Recognizer
from kinegraph.server.teaching import MAX_EXAMPLES, MAX_MODELS
from server.serving import running, walk


@pytest.fixture(scope="module")
def server():
    with running() as one:
        yield one


def take(seed: int, number: int) -> dict:
    """Return a clip that differs little from others of the seed."""
    noise = np.random.default_rng(number).normal(0, 0.05, walk(seed=seed).shape)
    return {"joints": (walk(seed=seed) + noise).tolist(), "fps": 20}


def examples(**seeds: int) -> dict:
    """Return three examples of each action."""
    return {"examples": {name: [take(s, n) for n in range(3)] for name, s in seeds.items()}}


def teach(server, body: dict) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/teach", json=body, timeout=60)


def test_a_taught_model_predicts_and_is_downloaded_as_a_file(server, tmp_path: Path):
    answer = teach(server, examples(jump=1, bow=2))
    assert answer.status_code == 200
    taught = answer.json()
    assert taught["actions"] == {"jump": 3, "bow": 3}
    assert taught["held_out"]["examples"] == 6 and taught["held_out"]["correct"] > 0.5
    address = f"{server.url}/v1/predict?model={taught['id']}"
    found = httpx.post(address, json={**take(2, 9), "fps": 30}).json()
    assert found["top"][0]["name"] == "bow"
    file = httpx.get(f"{server.url}/v1/taught/{taught['id']}")
    assert file.headers["content-type"] == "application/octet-stream"
    (tmp_path / "taught.safetensors").write_bytes(file.content)
    opened = Recognizer.load(tmp_path / "taught.safetensors")
    assert opened.header.classes == ["jump", "bow", "unknown"]
    own = httpx.post(f"{server.url}/v1/predict", json=take(2, 9)).json()
    assert {one["name"] for one in own["top"]} == {"here", "there", "away"}


def test_the_latest_models_are_kept(server):
    names = [teach(server, examples(jump=1, bow=2)).json()["id"] for _ in range(MAX_MODELS + 1)]
    assert len(set(names)) == MAX_MODELS + 1
    codes = [httpx.get(f"{server.url}/v1/taught/{name}").status_code for name in names]
    assert codes == [404, *[200] * MAX_MODELS]
    lost = httpx.post(f"{server.url}/v1/predict?model={names[0]}", json=take(1, 0))
    assert lost.status_code == 404 and "teach it again" in lost.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, 'expected "examples" to be an object of 2 to 50 actions'),
        (examples(jump=1), 400, 'expected "examples" to be an object of 2 to 50 actions'),
        ({"examples": {"a": [], "b": []}}, 400, "action 'a' has no examples"),
        ({"examples": {"a": [{"joints": [[[0, 0]]]}], "b": [take(1, 1)]}}, 400, "joints"),
        (examples(unknown=1, jump=2), 400, "cannot be named 'unknown'"),
        ({**examples(jump=1, bow=2), "epochs": 3}, 400, "examples"),
        (
            {"examples": {"a": [{"joints": [[[0.0, 0.0]]]}] * MAX_EXAMPLES, "b": [take(1, 1)]}},
            413,
            "at most 300 examples",
        ),
    ],
)
def test_examples_that_are_rejected(server, body, status, message):
    answer = teach(server, body)
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_other_media_types_are_rejected(server):
    headers = {"content-type": "application/x-npz"}
    answer = httpx.post(f"{server.url}/v1/teach", content=b"PK", headers=headers)
    assert answer.status_code == 415
