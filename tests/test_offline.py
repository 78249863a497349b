"""Nothing calls home: every command runs with sockets to other machines forbidden.

The audit hook sees the sockets of Python code, also in child processes; not those of C++ code.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import real_data
from inference import test_segment
from kinegraph.cli import app
from kinegraph.clips.writer import StoreWriter
from kinegraph.skeleton.layouts import get_layout

FORBIDDEN_EXIT_CODE = 77
#: Python runs a module of this name before anything else, in child processes too.
SITECUSTOMIZE = f"""
import os, sys

EVENTS = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
          "socket.gethostbyname", "socket.gethostbyaddr")

def is_here(host):
    if isinstance(host, tuple):
        host = host[0]
    text = host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")
    return text in ("", "::", "::1", "0.0.0.0", "localhost") or text[:4] == "127." or "/" in text

def forbid(event, arguments):
    if event in EVENTS:
        host = arguments[0] if "get" in event else arguments[1]
        if host is not None and not is_here(host):
            os.write(2, f"{{event}} {{arguments}}\\n".encode())
            os._exit({FORBIDDEN_EXIT_CODE})

sys.addaudithook(forbid)
"""
#: Runs commands, and the training of the demo for one epoch only.
DRIVER = """
import io, json, sys
import kinegraph.training.recipe as recipe
from kinegraph.cli import main

load = recipe.load_recipe
recipe.load_recipe = lambda source, changes=(): load(
    source, [*changes, "train.epochs=1"] if source == "demo" else changes)
for words in json.loads(sys.argv[1]):
    print("$", *words, flush=True)
    try:
        main(words)
    except SystemExit as end:
        if end.code:
            sys.exit(f"{words}: exit code {end.code}")
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables of a Python process that exits when it looks for another machine."""
    folder = tmp_path / "hook"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HOME": str(tmp_path)}


def run_python(code: str, environment: dict[str, str], *words: str, folder: Path | None = None):
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("import socket; socket.create_connection(('192.0.2.1', 9), 0.1)", FORBIDDEN_EXIT_CODE),
        ("import socket; socket.gethostbyname('example.com')", FORBIDDEN_EXIT_CODE),
        ("import urllib.request as r; r.urlopen('http://example.com')", FORBIDDEN_EXIT_CODE),
        ("import socket; s = socket.create_server(('127.0.0.1', 0)); "
         "socket.create_connection(s.getsockname())", 0),
    ],
)  # fmt: skip
def test_the_hook_sees_other_machines_only(code, exit_code, environment):
    assert run_python(code, environment).returncode == exit_code


def test_openvino_is_imported_without_its_telemetry(environment):
    pytest.importorskip("openvino")
    code = (
        "import sys\n"
        "from kinegraph.inference.backends.runtimes import import_package\n"
        "import_package('openvino').convert_model\n"
        "print(sys.modules['openvino_telemetry'], *(n for n in sys.modules if 'telemetry.' in n))"
    )
    done = run_python(code, environment)
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr


def command_names() -> set[str]:
    groups = {group.name for group in app.registered_groups}
    return {str(command.name) for command in app.registered_commands} | groups


def write_recordings(path: Path) -> Path:
    """Write a store of recordings with intervals."""
    with StoreWriter(path, get_layout("kinect20"), test_segment.CLASSES) as writer:
        for number in range(1, 5):
            writer.write(test_segment.recording(number, 40 + number))
    return path


@pytest.mark.slow
def test_every_command_stays_on_this_machine(tiny_recipe, tiny_store, tmp_path, environment):
    weights = real_data("weights/shift_gcn/ntu_ShiftGCN_joint_xsub.pt")
    package = tmp_path / "package" / "models"
    package.mkdir(parents=True)
    for name in ("movenet-multipose.json", "movenet-multipose.bin"):
        shutil.copy(real_data(f"pose_models/movenet_multipose/{name}"), package)
    video = real_data("videos/pushup_01.mp4")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_recipe))
    recordings = write_recordings(tmp_path / "recordings.arrow")
    segmentation = {**test_segment.RECIPE, "store": str(recordings), "train": {"epochs": 1}}
    (tmp_path / "segmentation.yaml").write_text(yaml.safe_dump(segmentation))
    commands = [
        line.split()
        for line in f"""
        demo --out demo
        list layouts
        convert synthetic demo/raw new.arrow
        inspect new.arrow
        import shiftgcn {weights} imported --protocol xsub
        train tiny.yaml --out one
        train tiny.yaml seed=1 --out two
        evaluate one
        compare one two --figure compared.png
        fuse one two --out fused
        score one/scores-test.npz --labels {tiny_store} --protocol odd-even-subjects
        export one one.pt2
        export one one.onnx
        export one one.xml
        evaluate one.xml
        evaluate one.onnx
        predict one {tiny_store}
        stream one {tiny_store}
        explain one {tiny_store} --out explanation
        train segmentation.yaml --out segmenter
        segment {recordings} --model segmenter
        count {recordings}
        assess new.arrow
        teach one {tiny_store} --out taught
        watch {video} --json
        pose-model movenet package
        draw graph jhmdb15 --out graph.png
        draw clip {tiny_store} clip003 --out clip.png
        draw run one
        bench convert --raw demo/raw --rounds 1
        """.splitlines()
        if line.strip()
    ]
    assert {words[0] for words in commands} == command_names() - {
        "serve",
        "web",
    }  # web needs files that node builds
    done = run_python(DRIVER, environment, json.dumps(commands), folder=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_the_server_stays_on_this_machine(tiny_run, environment):
    command = [sys.executable, "-m", "kinegraph", "serve", str(tiny_run), "--port", "0"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert "http://127.0.0.1:" in server.stdout.readline() + server.stdout.readline()
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert server.returncode == 0
