"""Runs the scripts of the page in node, beside the Python code whose rules they follow."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test_architecture import SOURCE

PAGE = SOURCE / "server" / "page"


def run_node(code: str, data: Any, *arguments: str) -> Any:
    """Return what code prints as JSON, given ``data`` and functions to import from the page.

    Numbers that are not finite are null in both directions; a skeleton with null is absent there.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("NODE IS ABSENT: the scripts of the page are not compared with Python")
    imports = f"""
        import {{ readFileSync }} from "node:fs";
        const load = (name) => import("{PAGE.as_uri()}/" + name);
        const data = JSON.parse(readFileSync(0, "utf8"));
        const toPose = ({{ joints, confidence }}) => ({{
          joints: Float64Array.from(joints.flat(), (value) => value ?? NaN),
          confidence: Float64Array.from(confidence),
        }});
        const toFrame = (frame) => ({{ ...frame, poses: frame.poses.map(toPose) }});
        const toList = (_, value) => (ArrayBuffer.isView(value) ? [...value] : value);
        const print = (value) => console.log(JSON.stringify(value, toList));
    """
    command = [node, "--input-type=module", "--eval", imports + code, *arguments]
    done = subprocess.run(
        command, input=json.dumps(data), capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def pose_payload(joints: np.ndarray, confidence: np.ndarray) -> dict[str, Any]:
    """Return one skeleton for JSON, with null where a joint is absent."""
    rows = [[None if np.isnan(x) else float(x) for x in joint] for joint in joints]
    return {"joints": rows, "confidence": [float(value) for value in confidence]}


def frame_payload(frame: Any) -> dict[str, Any]:
    """Return a pose frame for JSON."""
    pairs = zip(frame.joints, frame.confidence, strict=True)
    size = {"width": frame.width, "height": frame.height}
    return {"time": frame.time, **size, "poses": [pose_payload(*pair) for pair in pairs]}


def to_array(values: Any, width: int = 2) -> np.ndarray:
    """Return flat numbers of node as (n, width), NaN where null."""
    return np.array([np.nan if v is None else v for v in values]).reshape(-1, width)


def runtime_folder() -> Path:
    """Return the folder of the browser's runtime; skip where `make page` did not run."""
    folder = PAGE / "vendor"
    if not folder.is_dir():
        pytest.skip("THE BROWSER'S RUNTIME IS ABSENT (make page)")
    return folder
