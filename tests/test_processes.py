"""Worker processes of a pool end when the process that started them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

CODE = """
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
from kinegraph.processes import start_pool_worker

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    pool = ProcessPoolExecutor(1, context, start_pool_worker, (1,))
    print(pool.submit(os.getpid).result(), pool.submit(os.nice, 0).result() - os.nice(0))
    sys.stdout.flush()
    os.kill(os.getpid(), 9)
"""


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_pool_worker_ends_with_its_parent(method):
    done = subprocess.run(
        [sys.executable, "-c", CODE, method], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid, niceness = map(int, done.stdout.split())
    assert niceness == 1 or os.nice(0) == 19
    end = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_running(pid)
