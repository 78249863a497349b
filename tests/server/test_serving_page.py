"""docs/serving.md: its programs run unchanged against a server."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess

import numpy as np
import pytest
from pydantic import TypeAdapter

from kinegraph.server.message_schemas import ImageAnswer, Skeleton, VideoEnd, VideoServer
from kinegraph.server.schemas import ModelInfo
from server.serving import running, walk
from server.test_page_clients import node_with_websocket
from test_docs import DOCS, blocks

PAGE = DOCS / "serving.md"
HERE = "127.0.0.1:8000"


@pytest.fixture(scope="module")
def server():
    with running(frame_rate=2000.0) as one:
        yield one


@pytest.fixture
def folder(tmp_path, monkeypatch):
    np.save(tmp_path / "clip.npy", walk(20))
    (tmp_path / "clip.json").write_text(json.dumps({"joints": walk(20).tolist()}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


PROGRAMS = [code for mark, code in blocks(PAGE) if mark == "python serve"]


def test_there_are_programs():
    assert len(PROGRAMS) == 4


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_programs_get_answers(number, server, folder, capsys):
    script = folder / "program.py"
    script.write_text(PROGRAMS[number].replace(HERE, f"127.0.0.1:{server.port}"))
    runpy.run_path(str(script))
    output = capsys.readouterr().out
    assert "error" not in output and ("'probability'" in output or '"probability":' in output)


def test_the_program_in_javascript(server, folder):
    (program,) = [code for mark, code in blocks(PAGE) if mark == "js serve"]
    (folder / "program.mjs").write_text(program.replace(HERE, f"127.0.0.1:{server.port}"))
    words = [*node_with_websocket(), "program.mjs"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 16 and lines[-1].startswith("end ") and "undefined" not in done.stdout


def test_the_curl_command(server, folder):
    if not shutil.which("curl"):
        pytest.skip("CURL IS ABSENT")
    (command,) = [code for mark, code in blocks(PAGE) if mark == "bash curl"]
    command = command.replace(HERE, f"127.0.0.1:{server.port}")
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)["top"]) == 1


def test_the_example_answer_has_the_keys_of_an_answer(server):
    import asyncio

    from websockets.asyncio.client import connect

    from server.serving import receive_json

    (example,) = [c for mark, c in blocks(PAGE) if mark == "json" and '"frame":' in c]

    async def client() -> dict:
        async with connect(server.stream) as ws:
            joints = walk(1)[0].tolist()
            await ws.send(json.dumps({"person": "left", "time": 1.0, "joints": joints}))
            return await receive_json(ws)

    assert list(asyncio.run(client())) == list(json.loads(example))


def test_the_examples_of_a_model_and_a_video_fit_their_schemas():
    (model,) = [c for mark, c in blocks(PAGE) if mark == "json model"]
    assert set(json.loads(model)) == set(ModelInfo.model_validate_json(model).model_fields_set)
    assert set(json.loads(model)) == set(ModelInfo.model_fields)
    messages = [c for mark, c in blocks(PAGE) if mark == "json video"]
    kinds = [type(TypeAdapter(VideoServer).validate_json(one)) for one in messages]
    assert kinds == [Skeleton, ImageAnswer, VideoEnd]
