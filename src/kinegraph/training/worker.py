"""Worker process of a training on one machine: every rank but 0, see `kinegraph.training.launcher`.

Run as ``python -m kinegraph.training.worker``.
"""

from __future__ import annotations

import os
import sys
import threading
import time

import torch.distributed as dist

from kinegraph.errors import KinegraphError
from kinegraph.training.launcher import ERROR_EXIT_CODE, HOST, ready_key
from kinegraph.training.stages import STAGE_RUNS
from kinegraph.training.train import train_stages


def run_worker() -> None:
    """Train the stages that standard input lists, together with the other processes."""
    stages = sys.stdin.readline()
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        _join_process_group()
        train_stages(STAGE_RUNS.validate_json(stages))
    except KinegraphError as error:
        sys.stdout.write(str(error))
        sys.stdout.flush()
        os._exit(ERROR_EXIT_CODE)
    except Exception:
        time.sleep(2)  # if another process is the cause, the launcher kills this one meanwhile
        raise
    dist.destroy_process_group()


def _join_process_group() -> None:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(HOST, int(os.environ["MASTER_PORT"]), size, wait_for_workers=False)
    store.set(ready_key(rank), "")
    dist.init_process_group(store=store, rank=rank, world_size=size)


def _exit_with_parent() -> None:
    # os.read instead of sys.stdin, whose lock a forked loader worker would inherit locked
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    run_worker()
