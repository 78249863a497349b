"""The page as a folder of files that any web server can host, with a model for the browser."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kinegraph.errors import ExportError, VideoError, install_command
from kinegraph.files import atomic_write
from kinegraph.inference.recognizer import Recognizer
from kinegraph.server.web_model import write_web_model
from kinegraph.video.estimators.base import MOVENET_COMMANDS

PAGE = Path(__file__).with_name("page")
RUNTIME = PAGE / "vendor"
"""ONNX Runtime for browsers, which `make page` fetches before the package is built."""
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
SERVICE_WORKER = "service_worker.js"
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)
_CHARSET = '<meta charset="utf-8">'


def missing_for_browser(poses: Path) -> str | None:
    """Return what is missing to estimate poses in the browser, in one sentence; None if nothing.

    Args:
        poses: the ONNX file of MoveNet.
    """
    if not all((RUNTIME / name).is_file() for name in RUNTIME_FILES):
        return (
            "This copy of kinegraph was built without the browser's runtime: run 'make page' "
            "(needs node) in a clone and install it again."
        )
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError:
        return f"The packages to export a model are not installed: {install_command('export')}"
    if not poses.is_file():
        return f"The pose model MoveNet is not installed: get it by {MOVENET_COMMANDS}"
    return None


def page_info(
    recognizer: Recognizer, name: str, browser: str | None, server: str | None, *, offline: bool
) -> dict[str, Any]:
    """Return what the page states of the model, and where poses can be estimated.

    Args:
        recognizer: the model.
        name: of the model.
        browser, server: what is missing to estimate poses there; None if nothing is.
        offline: whether the page keeps its files for use without a network.
    """
    background = recognizer.calibration.background
    header = recognizer.header
    return {
        "name": name,
        "actions": [header.class_name(i) for i in range(header.num_classes) if i != background],
        "browser": {"available": browser is None, "requirement": browser},
        "server": {"available": server is None, "requirement": server},
        "offline": offline,
    }


def write_web_folder(recognizer: Recognizer, name: str, poses: Path, out: Path) -> list[Path]:
    """Write the page, the runtime and the model to a folder that is new or empty.

    The page works from any address, also below a path, and without a network after the first load.

    Args:
        recognizer: a model that runs frame by frame.
        name: of the model, for the page.
        poses: the ONNX file of MoveNet.
        out: the folder.

    Returns:
        the files, relative to the folder.

    Raises:
        ExportError: the folder is not empty or cannot be written, something is missing, or the
            browser cannot run the model.
    """
    if requirement := missing_for_browser(poses):
        raise VideoError(requirement)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} exists and is not an empty folder: choose another name")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as draft:
            names = _write_files(recognizer, name, poses, Path(draft) / out.name)
            if out.exists():
                out.rmdir()
            (Path(draft) / out.name).replace(out)
    except OSError as error:
        raise ExportError(f"cannot write {out}: {error.strerror or error}") from error
    return names


def _write_files(recognizer: Recognizer, name: str, poses: Path, folder: Path) -> list[Path]:
    """Write all files to a new folder and return their names."""
    model = folder / "model"
    model.mkdir(parents=True)
    write_web_model(recognizer, poses, model)
    for source, target in _page_files():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_bytes(source.read_bytes())
    info = page_info(recognizer, name, None, "The page has no server.", offline=True)
    atomic_write(folder / "page.json", json.dumps(info))
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_CONTENT_SECURITY_POLICY}">'
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    atomic_write(folder / "index.html", page.replace(_CHARSET, f"{_CHARSET}\n{policy}"))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder) for path in files]
    atomic_write(folder / SERVICE_WORKER, _service_worker(folder, names))
    return [*names, Path(SERVICE_WORKER)]


def _page_files() -> Iterator[tuple[Path, Path]]:
    """Yield the files of the page and of the runtime, and their places in the folder."""
    for path in sorted(PAGE.rglob("*.*")):
        own = path.is_file() and RUNTIME not in path.parents
        if own and path.name not in ("index.html", SERVICE_WORKER):
            yield path, Path("page") / path.relative_to(PAGE)
    for name in RUNTIME_FILES:
        yield RUNTIME / name, Path("page") / "vendor" / name


def _service_worker(out: Path, names: list[Path]) -> str:
    """Return the service worker with the list of files, and their checksum, which renews them."""
    checksum = hashlib.sha256()
    for name in names:
        checksum.update(name.as_posix().encode() + b"\0" + (out / name).read_bytes())
    addresses = ["./", *(name.as_posix() for name in names if name.name != "index.html")]
    text = (PAGE / SERVICE_WORKER).read_text(encoding="utf-8")
    text = text.replace("@CHECKSUM@", checksum.hexdigest()[:16])
    return re.sub(r'\["@FILES@"\]', lambda _: json.dumps(addresses), text)
