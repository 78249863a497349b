"""`kinegraph serve` prints its address, answers, and stops on SIGTERM."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import httpx

from cli.test_cli import run
from conftest import made_up_clips
from kinegraph.inference.recognizer import Recognizer


def test_serve_answers_until_sigterm(tiny_run):
    command = [sys.executable, "-m", "kinegraph", "serve", str(tiny_run), "--port", "0"]
    server = subprocess.Popen(
        [*command, "--persons", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        output = server.stdout.readline() + server.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", output)
        assert found and "capacity 2 persons" in output and "window" in output, server.stderr.read()
        clip = made_up_clips()[4]
        body = {"joints": clip.joints.tolist(), "id": clip.id}
        answer = httpx.post(f"{found[0]}v1/predict", json=body).json()
        assert answer["top"][0]["name"] == Recognizer.load(tiny_run)(clip).name
    finally:
        server.send_signal(signal.SIGTERM)
        rest = server.communicate(timeout=30)
    assert (server.returncode, rest[1]) == (0, "")


def test_errors_are_one_sentence(capsys, tiny_run, monkeypatch):
    code, _, err = run(capsys, "serve", tiny_run, "--host", "0.0.0.0")
    assert code == 2 and "--token" in err and err.count("\n") == 1
    code, _, err = run(capsys, "serve", "no-such-run", "--port", "0")
    assert code == 2 and err.startswith("kinegraph: ")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = run(capsys, "serve", tiny_run, "--port", "0")
    assert code == 2 and "run pip install" in err and "[serve]" in err
