"""Output that cannot be written, signals, and names with control characters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import made_up_clips
from interrupted import hidden, small_disk
from kinegraph.cli import main
from kinegraph.cli.console import echo, print_table
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import RecipeError
from kinegraph.readers.synthetic.reader import write_dataset
from kinegraph.reports.page import write_page
from kinegraph.training.recipe import parse_recipe

ESCAPE = "\x1b[2J\x07\x9b31m\r\u202e"
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def exit_code(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


# --------------------------------------------------------------------- a full disk


@needs_full
@pytest.mark.parametrize("words", ["--help", "list layouts", "list layouts nobody", "nonsense"])
def test_output_that_cannot_be_written_is_one_sentence(words):
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kinegraph", *words.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@needs_full
def test_messages_that_cannot_be_written_leave_the_exit_code():
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kinegraph", "list", "nonsense"],
            stdout=full,
            stderr=full,
            check=False,
        )
    assert done.returncode == 2


@needs_full
def test_every_kind_of_output_names_the_full_disk(tiny_store, tiny_run, capsys, monkeypatch):
    for words in (["inspect", tiny_store], ["evaluate", tiny_run], ["list", "transforms"]):
        full = FULL.open("w")  # its file descriptor is another one afterwards
        monkeypatch.setattr(sys, "stdout", full)
        assert exit_code(*words) == 2
        full.close()
        assert capsys.readouterr().err.endswith("kinegraph: No space left on device\n")


@pytest.mark.parametrize(
    "words",
    [
        "convert synthetic raw out/new.arrow",
        "export run out/new.pt2",
        pytest.param("export run out/new.xml", marks=pytest.mark.slow),
        pytest.param("export run out/new.onnx", marks=pytest.mark.slow),
        "draw graph jhmdb15 --out out/graph.png",
        "draw clip store clip003 --out out/clip.gif",
    ],
)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    words, tiny_store, tiny_run, tmp_path, capsys, monkeypatch
):
    if "synthetic" in words:
        write_dataset(tmp_path / "raw", performers=1, replications=1)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    places = {"run": tiny_run, "store": tiny_store}
    with small_disk():
        assert exit_code(*(places.get(word, word) for word in words.split())) == 2
    err = capsys.readouterr().err
    assert err.startswith("kinegraph: ")
    assert len(err.splitlines()) == 1
    assert words.split("out/")[1] in err
    assert not list((tmp_path / "out").iterdir())


def test_a_report_that_does_not_fit_on_the_disk_leaves_the_old_one(tmp_path):
    path = write_page("old", tmp_path / "report.html")
    with small_disk(), pytest.raises(OSError, match="File too large") as failure:
        write_page("new" * 10_000, path)
    assert failure.value.filename == str(path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("report.html", "old")]


# --------------------------------------------------------------------- SIGTERM


def terminated(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("convert synthetic raw out/new.arrow", "kinegraph.readers.convert._count_clip"),
        ("export run out/new.pt2", "kinegraph.inference.export.export_run.check"),
        ("draw graph jhmdb15 --out out/graph.png", "kinegraph.files.replace_durably"),
        ("train recipe.yaml --out out/run", "kinegraph.training.history.atomic_write"),
    ],
)
def test_sigterm_exits_with_143_and_leaves_no_partial_file(
    words, place, tiny_run, tiny_recipe, tmp_path, monkeypatch
):
    if "synthetic" in words:
        write_dataset(tmp_path / "raw", performers=1, replications=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tiny_recipe))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(place, terminated)
    before = signal.getsignal(signal.SIGTERM)
    assert exit_code(*(tiny_run if word == "run" else word for word in words.split())) == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert not hidden(tmp_path / "out")
    assert "run" in words.split("out/")[1] or not list((tmp_path / "out").iterdir())


def test_sigterm_exits_with_143_where_a_package_converts_the_exit(monkeypatch):
    def convert(_: object) -> None:
        try:
            terminated()
        except BaseException as error:
            raise ValueError("of another package") from error

    monkeypatch.setattr("kinegraph.cli.app", convert)
    assert exit_code("list", "layouts") == 143


def test_a_process_that_gets_sigterm_ends_with_143():
    code = "import os, kinegraph.cli as cli\n"
    code += "cli.app = lambda _: os.kill(os.getpid(), 15)\ncli.main([])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (143, b"")


# --------------------------------------------------------------------- names of others


def test_control_characters_are_shown_and_not_sent(capsys):
    echo(f"name\t{ESCAPE}\nnext")
    echo(f"name {ESCAPE}\udcff", error=True)
    print_table(ESCAPE, [ESCAPE], [[ESCAPE]])
    out, err = capsys.readouterr()
    shown = r"\x1b[2J\x07\x9b31m\r\u202e"
    assert out.startswith(f"name\t{shown}\nnext\n")
    assert out.count(shown) == 4
    assert err == rf"name {shown}\udcff" + "\n"
    assert not set(ESCAPE) - {"[", "2", "J", "3", "1", "m"} & set(out + err)


@pytest.mark.parametrize(
    "command", [lambda store: ["inspect", store], lambda store: ["draw", "clip", store, "nobody"]]
)
def test_names_in_a_store_do_not_control_the_terminal(command, tmp_path, capsys):
    store = tmp_path / "a.arrow"
    clips = made_up_clips(2)
    classes = [f"class {i} {ESCAPE}" for i in range(3)]
    with StoreWriter(store, clips[0].layout, classes, {"reader": ESCAPE}) as writer:
        for clip in clips:
            writer.write(clip.with_joints(clip.joints), ESCAPE)
    exit_code(*command(store))
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\x9b" not in out + err


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../up", "/etc/run", "a/b", "a\\b", "C:run", ".hidden", "a\nb", ESCAPE, "\0"],
)
def test_a_recipe_cannot_name_a_run_outside_of_runs(name, tiny_recipe):
    with pytest.raises(RecipeError, match="'name': expected a folder name"):
        parse_recipe({**tiny_recipe, "name": name}, "it")


@pytest.mark.parametrize("name", ["mine", "My run 2", "größe-1.5", "a..b", "two, three"])
def test_names_of_recipes_that_are_folders(name, tiny_recipe):
    assert parse_recipe({**tiny_recipe, "name": name}, "it").name == name
