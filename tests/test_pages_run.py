"""The code blocks of the pages run, or their mark says why not: the list is in CONTRIBUTING.md."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kinegraph.cli import main
from kinegraph.models import MODELS, model_options
from kinegraph.skeleton.layouts import LAYOUTS
from kinegraph.training import recipe as recipes
from page_files import FILES, MADE_BY
from test_docs import PAGES, ROOT, blocks, rows, section, ticked

#: Languages whose blocks a reader runs.
CODE = ("bash", "python", "js")
TABLE = rows(section(ROOT / "CONTRIBUTING.md", "Marks of code blocks"))
MARKS = {ticked(cells[0])[0]: cells[1] for cells in TABLE}
load_recipe = recipes.load_recipe


def language_and_mark(info: str) -> tuple[str, str]:
    """Return the two words after the fence of a block."""
    language, _, mark = info.partition(" ")
    return language, mark


def test_every_block_of_code_has_a_mark_that_is_explained():
    used = set()
    for page in PAGES:
        for info, code in blocks(page):
            language, mark = language_and_mark(info)
            if language in CODE:
                assert mark in MARKS, f"{page.name}: {info!r}: {code[:60]!r}"
                used.add(mark)
            else:
                assert not re.match(r"(kinegraph|pip|python|make) [a-z]", code), f"{page}: {code}"
    assert used == set(MARKS)


def test_marks_of_blocks_that_other_tests_run_are_in_those_tests():
    for mark, text in MARKS.items():
        for name in re.findall(r"`(tests/[\w/]+\.py)`", text):
            assert f'{mark}"' in (ROOT / name).read_text(encoding="utf-8"), f"{mark}: {name}"


def test_data_in_the_pages_is_well_formed():
    for page in PAGES:
        for info, text in blocks(page):
            language, _ = language_and_mark(info)
            if language == "toml":
                tomllib.loads(text)
            elif language == "json":
                decoder = json.JSONDecoder()
                while text := text.strip():
                    _, end = decoder.raw_decode(text)
                    text = text[end:]


# --------------------------------------------------------------------- blocks that run


def has_block(page: Path, *marked: str) -> bool:
    """Return whether a page has a block of one of these languages and marks."""
    return any(info in marked for info, _ in blocks(page))


RUN = [page for page in PAGES if has_block(page, "bash files", "python files")]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_run_with_synthetic_files(page, tmp_path, monkeypatch, capsys):
    """In order, in one folder: what a block makes is there for the next ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kinegraph.models.MODELS", dict(MODELS))
    monkeypatch.setattr("kinegraph.skeleton.layouts.LAYOUTS", dict(LAYOUTS))
    monkeypatch.setattr(recipes, "load_recipe", load_small_recipe)
    names: dict[str, Any] = {"__name__": "__main__"}
    # such a block goes on where the ones before it ended
    python = ("python run", "python files") if has_block(page, "python files") else ()
    for info, code in blocks(page):
        if " file " in info:
            Path(info.split(" file ")[1]).write_text(code, encoding="utf-8")
    for info, code in blocks(page):
        if info in python:
            make_files(code, capsys)
            exec(compile(code, f"{page.name}, {info}", "exec"), names)
        elif info == "bash files":
            for line in code.splitlines():
                make_files(line, capsys)
                run_line(line, capsys)


def run_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command of kinegraph in this process."""
    words = shlex.split(line, comments=True)
    assert words[0] == "kinegraph", line
    with pytest.raises(SystemExit) as end:
        main(words[1:])
    assert not end.value.code, (line, capsys.readouterr().err[-2000:])


def make_files(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Make what a line names and what is not there, and the stores of its recipes."""
    stores = []
    for groups in re.findall(r"kinegraph train (\w+)(?![\w.])|load_recipe\(\"(\w+)\"", code):
        if "store=" not in code:
            stores.append(load_recipe("".join(groups)).store)
    for name in sorted([*FILES, *MADE_BY], key=len, reverse=True):
        if name in stores or re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w.*-])", code):
            make_file(name, code, capsys)


def make_file(name: str, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Make a file, unless it is there or this line makes it."""
    if any(Path().glob(name)) or f"--out {name}" in code or name == target_of(code):
        return
    if name in MADE_BY:
        make_files(MADE_BY[name], capsys)
        run_line(MADE_BY[name], capsys)
    else:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        FILES[name](Path(name))


def target_of(line: str) -> str:
    """Return what a command `convert` writes, else nothing."""
    words = line.split(" --")[0].split()
    return words[-1] if words[:2] == ["kinegraph", "convert"] else ""


def load_small_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Any:
    """Load a recipe with one epoch of a small network, where the overrides do not say otherwise."""
    full = load_recipe(source)
    changes = ["train.epochs=1", "train.min_steps=0", "train.warmup_epochs=0", "train.batch_size=4"]
    options = model_options(full.model.name)
    if options.get("channels") and full.model.name != "msg3d":
        changes += ["model.channels=[16, 16]", "model.strides=[1, 2]"]
    return load_recipe(source, [*changes, *overrides])
