"""Generated requests: no answer is a server error, and all answers fit the OpenAPI description."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from server.serving import running

pytestmark = pytest.mark.slow
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def test_generated_requests_fit_the_openapi_description(tmp_path):
    beside = Path(sys.executable).with_name("schemathesis")
    command = str(beside) if beside.is_file() else shutil.which("schemathesis")
    if not command:
        pytest.skip("SCHEMATHESIS IS ABSENT")
    with running() as one:
        done = subprocess.run(
            [
                *(command, "run", f"{one.url}/openapi.json", "--checks", ",".join(CHECKS)),
                *("--max-examples", "60", "--seed", "1", "--workers", "2", "--max-time", "60"),
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
        assert httpx.get(f"{one.url}/health").json()["status"] == "ok"
        assert 'status="500"' not in httpx.get(f"{one.url}/metrics").text
