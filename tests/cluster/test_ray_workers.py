"""Two nodes of Ray on this machine: one is killed, others are missing or cannot be had."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinegraph.cli import main
from kinegraph.cluster import ray_workers
from kinegraph.cluster.convert import convert_on_cluster
from kinegraph.cluster.ray_workers import _node_versions, _run_task, connect
from kinegraph.cluster.sharding import Shard, ShardedJob, Task
from kinegraph.errors import ClusterError, ReadError
from kinegraph.readers.convert import convert
from line_reader import READER

pytest.importorskip("ray", reason="RAY ABSENT: pip install 'kinegraph[cluster]'")

TESTS = str(Path(__file__).parents[1])
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and a second node, of one CPU each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # so that the nodes find line_reader, and the same kinegraph as this process
        patch.setenv("PYTHONPATH", os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")]))
        made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        made.add_node(**NODE)
        yield made
        made.shutdown()


@pytest.fixture
def raw(tmp_path) -> Path:
    """Raw files that take a while."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for i in range(10):
        (folder / f"f{i}.txt").write_text(f"slow {i % 2} {i + 1}\nbad\nsame 0 1")
    return folder


@pytest.mark.slow
def test_a_node_that_is_killed_changes_no_byte(cluster, raw, tmp_path, capsys):
    second = next(iter(cluster.worker_nodes))
    told = []

    def progress(done: int, total: int) -> None:
        told.append(done)
        if told == [1, 2, 3]:
            cluster.remove_node(second, allow_graceful=False)

    place = {"cluster": cluster.address, "progress": progress}
    many = convert_on_cluster(READER, raw, tmp_path / "many", **place)
    one = convert(READER, raw, tmp_path / "one", workers=1)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "many").read_bytes()
    assert replace(many, path=one.path) == one
    assert told == [*range(1, 11), *range(1, 11)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many", "one", "raw"]
    assert capsys.readouterr().out == ""
    cluster.add_node(**NODE)


def a_task(function: Any, argument: Any, required_paths: tuple[Path, ...] = ()) -> Task:
    """The task of a job's only shard, in the working folder."""
    job = ShardedJob(Path(), ".txt", 1, 1)
    return Task(job, Shard(0, 1), function, (argument,), required_paths)


def fail(message: str) -> bytes:
    """A task that fails."""
    raise ReadError(message)


def test_what_a_task_raises_comes_back_as_it_was(cluster):
    with connect(cluster.address) as workers:
        with pytest.raises(ReadError, match=r"^a\.txt:3: bad line$"):
            list(workers.run_tasks([a_task(fail, "a.txt:3: bad line")]))
        task = a_task(fail, "not reached", required_paths=(Path("nowhere"),))
        with pytest.raises(ClusterError, match=r"node .* cannot read nowhere: .* all nodes share"):
            list(workers.run_tasks([task]))
        with pytest.raises(ClusterError, match=r"has the 64 CPUs .* has 1\).* OMP_NUM_THREADS=1"):
            list(replace(workers, threads=64).run_tasks([task]))


def encode(text: str) -> bytes:
    """A task that returns the content of its shard."""
    return text.encode()


def test_a_node_works_in_the_folder_of_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home" / "raw").mkdir(parents=True)
    task = a_task(encode, "text", required_paths=(Path("raw"),))
    _run_task(task, tmp_path / "home", _node_versions())
    assert (tmp_path / "home" / "000000000-000000001.txt").read_text() == "text"
    with pytest.raises(ClusterError, match=r"node .* has kinegraph .* with none: install"):
        _run_task(task, tmp_path, {**_node_versions(), "kinegraph": "none"})


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", r"no cluster responds at 127\.0\.0\.1:1 \(.*refused\): start one"),
        ("ray://127.0.0.1:1", "no cluster responds at ray://"),
        ("127.0.0.1:99999", "no cluster responds at"),
        ("here", r"'here' is not the address of a cluster: expected HOST:PORT"),
        ("", "is not the address"),
    ],
)
def test_an_address_without_a_cluster_is_refused_before_ray_starts(
    capsys, tmp_path, address, message, monkeypatch
):
    import ray

    np.save(tmp_path / "a.npy", np.ones((1, 4, 25, 3), np.float32))

    calls = []
    monkeypatch.setattr(ray, "init", lambda *address, **_: calls.append(address))
    with pytest.raises(SystemExit) as end:
        words = ["convert", "arrays", str(tmp_path), str(tmp_path / "a.arrow")]
        main([*words, "--cluster", address, "--layout", "ntu25"])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and re.search(message, err), err
    assert not calls


def test_another_service_is_not_taken_for_ray(monkeypatch):
    monkeypatch.setattr(ray_workers, "CONNECT_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        for form in (address, f"ray://{address}"):
            with pytest.raises(ClusterError, match="is not Ray"), connect(form):
                pass


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    extra = r"pip install '.*\[cluster\]'"
    with pytest.raises(ClusterError, match=extra), connect("local"):
        pass


# --------------------------------------------------------------------- the slow ones


@pytest.mark.slow
def test_a_shard_that_kills_its_workers_is_named(cluster, raw, tmp_path):
    (raw / "f5.txt").write_text("die")
    with pytest.raises(ClusterError, match=r"items 5 to 5 ended 4 workers.*; \d of 10 shards"):
        convert_on_cluster(READER, raw, tmp_path / "a", cluster=cluster.address)
    (raw / "f5.txt").write_text("0 1")


def verb(*words: object) -> list[str]:
    """A kinegraph command in a process of its own."""
    return [sys.executable, "-m", "kinegraph", *map(str, words)]


@pytest.mark.slow
def test_the_commands_say_and_write_what_they_do_on_one_machine(
    cluster, tiny_run, tiny_store, tmp_path
):
    (tmp_path / "none.npy").write_bytes(b"")
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    for words in (
        ("evaluate", tiny_run, "--json"),
        ("evaluate", tiny_run, "--split", "all"),
        ("predict", tiny_run, tiny_store, tmp_path / "none.npy", tiny_store, "--json"),
    ):
        results = []
        for more in ((), ("--cluster", cluster.address)):
            done = subprocess.run(
                verb(*words, *more), capture_output=True, text=True, env=one_thread, check=False
            )
            scores = {path.name: path.read_bytes() for path in tiny_run.glob("scores-*.npz")}
            results.append((done.returncode, done.stdout, done.stderr, scores))
        assert results[0] == results[1]
        assert results[0][0] == (2 if words[0] == "predict" else 0)
        assert results[0][1]
    assert not list(tiny_run.glob("*.shards"))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_command_goes_on(cluster, tmp_path, how):
    raw = tmp_path / "raw"
    make = verb("convert", "synthetic", raw, tmp_path / "one.arrow", "--performers", 6)
    subprocess.run(make, check=True, capture_output=True)
    words = verb("convert", "ntu", raw, tmp_path / "many.arrow", "--cluster", cluster.address)
    first = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.shards/*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(how)
    _, err = first.communicate(timeout=60)
    kept = {path.name for path in tmp_path.glob("*.shards/*.json")}
    assert len(kept) >= 3
    if how == signal.SIGINT:
        assert first.returncode == 130
        assert "the same command continues with those in" in err
    subprocess.run(words, check=True, capture_output=True)
    subprocess.run(verb("convert", "ntu", raw, tmp_path / "one.arrow"), check=True)
    assert (tmp_path / "one.arrow").read_bytes() == (tmp_path / "many.arrow").read_bytes()
    assert not list(tmp_path.glob("*.shards"))
