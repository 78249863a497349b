"""`kinegraph web` and the page of `serve`: files, addresses, and what is missing."""

from __future__ import annotations

import json
import re

import httpx
import pytest

import kinegraph as kg
from cli.test_cli import run
from kinegraph.errors import ExportError, KinegraphError, VideoError
from kinegraph.server import web_folder, web_model
from kinegraph.server.web_folder import RUNTIME_FILES, write_web_folder
from server.serving import recognizer as trained
from server.serving import running


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A function that writes the folder, with files in place of the runtime and the networks."""
    runtime, poses = tmp_path / "runtime", tmp_path / "poses.onnx"
    runtime.mkdir()
    poses.write_bytes(b"poses")
    for name in RUNTIME_FILES:
        (runtime / name).write_text(name)

    def write_model(model, poses, folder) -> None:
        settings = json.dumps(web_model.describe_model(model, ()))
        (folder / "recognition.json").write_text(settings)
        for name in ("actions.onnx", "poses.onnx"):
            (folder / name).write_bytes(poses.read_bytes())

    def write(model=None, out=tmp_path / "site"):
        model = model or kg.load_pretrained("penn-action")
        return out, write_web_folder(model, "the model", poses, out)

    monkeypatch.setattr(web_folder, "RUNTIME", runtime)
    monkeypatch.setattr(web_folder, "write_web_model", write_model)
    return write


def test_the_folder_works_below_any_path_and_keeps_every_file(site):
    out, files = site()
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {file.as_posix() for file in files}
    worker = (out / "service_worker.js").read_text()
    assert "@CHECKSUM" not in worker
    (names,) = re.findall(r"const FILES = (\[.*\]);", worker)
    kept = set(json.loads(names))
    assert kept == (written - {"index.html", "service_worker.js"}) | {"./"}
    page = (out / "index.html").read_text()
    addresses = re.findall(r'(?:href|src)="([^"#]+)"', page)
    assert addresses and all((out / one).is_file() for one in addresses)
    assert "Content-Security-Policy" in page and "connect-src 'self'" in page
    for script in out.rglob("*.js"):
        text = script.read_text()
        for imported in re.findall(r'^(?!/\*\*).*from "(.+)";$', text, re.MULTILINE):
            assert (script.parent / imported).resolve().is_file(), f"{script}: {imported}"
        assert not re.search(r'(?:fetch|URL|register)\("/', text), script
    assert "Apache" in (out / "page" / "NOTICE.txt").read_text()
    info = json.loads((out / "page.json").read_text())
    assert info["name"] == "the model" and "squat" in info["actions"]
    assert "other" not in info["actions"]  # the background class
    assert info["offline"] and info["browser"]["available"] and not info["server"]["available"]


def test_another_model_renews_the_kept_files(site, tmp_path):
    checksums = set()
    for number in range(2):
        (tmp_path / "poses.onnx").write_bytes(bytes(number))
        out, _ = site(out=tmp_path / str(number))
        checksums |= set(re.findall(r'CHECKSUM = "(\w+)"', (out / "service_worker.js").read_text()))
    assert len(checksums) == 2


def test_a_folder_in_use_is_left_alone(site, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match="not an empty folder"):
        site(out=tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ([{"resize": {"frames": 16}}], "resize"),
        (["center_box"], "center_box"),
        (["center"], "transforms center"),
    ],
)
def test_a_model_that_the_browser_cannot_run_is_refused_with_the_reason(steps, wanted):
    with pytest.raises(KinegraphError, match=wanted):
        web_model.describe_model(trained(steps), ())


def test_a_refused_model_leaves_nothing(site, tmp_path):
    for out in (tmp_path / "new", tmp_path / "empty"):
        if out.name == "empty":
            out.mkdir()
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(KinegraphError, match="center_box"):
            site(trained(["center_box"]), out)
        assert sorted(tmp_path.rglob("*")) == before
        site(out=out)


def test_what_is_missing_is_stated(site, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(web_folder, "RUNTIME", tmp_path / "nowhere")
    with pytest.raises(VideoError, match="make page"):
        site()
    monkeypatch.setenv("KINEGRAPH_HOME", str(tmp_path / "home"))
    code, _, error = run(capsys, "web", "penn-action", tmp_path / "out")
    assert code == 2 and "make page" in error and not (tmp_path / "out").exists()


def test_the_server_states_where_poses_are_estimated(tmp_path, monkeypatch):
    monkeypatch.setenv("KINEGRAPH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(web_folder, "RUNTIME", tmp_path / "nowhere")
    with running(recognizer=kg.load_pretrained("penn-action")) as server:
        info = httpx.get(f"{server.url}/page.json").json()
        assert not info["browser"]["available"] and "make page" in info["browser"]["requirement"]
        assert not info["offline"] and len(info["actions"]) == 15
        answer = httpx.get(f"{server.url}/model/recognition.json")
        assert answer.status_code == 501 and "make page" in answer.json()["error"]
        assert httpx.get(f"{server.url}/model/passwd").status_code == 404
        headers = httpx.get(f"{server.url}/page/page.js").headers
        assert headers["cross-origin-embedder-policy"] == "require-corp"


def test_the_token_protects_the_model(tmp_path, monkeypatch):
    monkeypatch.setenv("KINEGRAPH_HOME", str(tmp_path / "home"))
    with running(token="a-long-token") as server:
        for name in ("page.json", "model/actions.onnx"):
            assert httpx.get(f"{server.url}/{name}").status_code == 401
        assert httpx.get(f"{server.url}/page/recognition/worker.js").status_code == 200
