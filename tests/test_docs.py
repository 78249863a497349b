"""The pages are true: links have targets, commands and code run, lists are complete."""

from __future__ import annotations

import ast
import fnmatch
import inspect
import json
import re
import runpy
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from pydantic import BaseModel
from typer.main import get_command

from kinegraph.cli import app, main
from kinegraph.cli.list_ import PRINTERS
from kinegraph.clips.clip import Clip
from kinegraph.clips.splits import PUBLISHED_SPLITS
from kinegraph.models import MODELS, create_model, model_options
from kinegraph.readers import READERS
from kinegraph.readers.space_options import SPACE_OPTIONS
from kinegraph.skeleton.joint_mapping import conversion_table
from kinegraph.skeleton.layouts import LAYOUTS, get_layout
from kinegraph.training.objectives import OBJECTIVES, create_objective, objective_options
from kinegraph.training.recipe import Recipe, list_recipes, load_recipe, parse_recipe
from kinegraph.transforms import TRANSFORMS, to_array
from kinegraph.writers import ARRAY_FORMATS
from kinegraph.writers.export import EXPORT_OPTIONS
from test_architecture import MAY_IMPORT, SOURCE, refuse, syntax

ROOT = SOURCE.parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "CODE_OF_CONDUCT")]
PAGES += sorted(DOCS.rglob("*.md"))
RECIPES = DOCS / "recipes.md"
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALL = ("train.epochs=1", "model.channels=[8, 8]", "model.strides=[1, 2]")


@cache
def text_of(page: Path) -> str:
    """Return the text of a page."""
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return (language and marks, content) of the fenced blocks of a page, in order."""
    return FENCE.findall(text_of(page))


def rows(text: str) -> list[list[str]]:
    """Return the cells of the table rows of a text, without headers and rulers."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    ruled = [i for i, cells in enumerate(lines) if set("".join(cells)) <= set("-| ")]
    return [line for i, line in enumerate(lines) if i not in ruled and i + 1 not in ruled]


def ticked(cell: str) -> list[str]:
    """Return the parts of a cell between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def named(page: Path) -> pytest.ParameterSet:
    """Return a page as the parameter of a test."""
    return pytest.param(page, id=page.name)


# --------------------------------------------------------------------- links


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [named(page) for page in PAGES])
def test_internal_links_have_targets(page):
    prose = FENCE.sub("", text_of(page))
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", text_of(target), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name} links to {link}"


def test_the_readme_links_every_page():
    linked = set(re.findall(r"\]\((docs/[\w/-]+\.md)\)", text_of(ROOT / "README.md")))
    assert linked == {page.relative_to(ROOT).as_posix() for page in DOCS.rglob("*.md")}


def test_pages_contain_no_absolute_paths():
    for page in PAGES:
        assert not re.search(r"(?<![\w.])/(work|home|tmp|root|Users)/", text_of(page)), page.name


# --------------------------------------------------------------------- tables


@pytest.mark.parametrize("page", [named(page) for page in PAGES])
def test_tables_are_rendered_with_every_row_and_cell(page):
    """A row after a blank line or with an unescaped pipe would be lost on GitHub."""
    text = text_of(page)
    prose = FENCE.sub("", text)
    lines = [line for line in prose.splitlines() if line.lstrip().startswith("|")]
    ruled = [line for line in lines if set(line) <= set("|-: ")]
    markdown = MarkdownIt("commonmark").enable("table")
    assert markdown.render(text).count("<tr>") == len(lines) - len(ruled)
    for token in markdown.parse(text):
        if token.type == "table_open" and token.map:
            table = text.splitlines()[slice(*token.map)]
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1, table[0]


def test_the_published_counts_are_those_of_the_protocols():
    table = rows(text_of(DOCS / "two-kinds-of-skeletons.md").split("| training clips |")[1])
    facts = [(p.protocol, f"{p.train:,}", f"{p.test:,}") for p in PUBLISHED_SPLITS]
    assert [(ticked(cells[-3])[0], *cells[-2:]) for cells in table[: len(facts)]] == facts


# --------------------------------------------------------------------- commands


def commands() -> list[tuple[str, list[str]]]:
    """Return (page, words) of every kinegraph command in a block or between backticks."""
    found = []
    for page in PAGES:
        lines = [line for _, block in blocks(page) for line in block.splitlines()]
        prose = text_of(page).split("### Renamed")[0]  # where the changelog lists old names
        lines += ticked(FENCE.sub("", prose))
        found += [
            (page.name, shlex.split(line.removeprefix("$ "), comments=True))
            for line in lines
            if line.removeprefix("$ ").startswith("kinegraph ")
        ]
    return found


@cache
def command_line() -> Any:
    """Return the command line; typer builds it anew at every call."""
    return get_command(app)


def options_of(words: list[str]) -> set[str]:
    """Return the options of a command; those of `convert` include the reader's own.

    Raises:
        KeyError: the command does not exist.
    """
    command: Any = command_line().commands[words[1]]
    if words[1] in ("draw", "bench") and len(words) > 2:
        command = command.commands[words[2]]
    known = {option for parameter in command.params for option in parameter.opts}
    if words[1] == "convert" and "--to" in words:
        formats = ARRAY_FORMATS.values()
        known |= {f"--{o}" for o in {*EXPORT_OPTIONS, *(o for w in formats for o in w.options)}}
    elif words[1] == "convert" and words[2:] and words[2].islower() and words[2] != "--help":
        known |= {f"--{option}" for option in READERS[words[2]].options}
    return known | {"--help"}


def plain(option: str) -> str:
    """Return the name of an option: ``--max-persons=2`` and ``--max_persons`` are the same."""
    return option.partition("=")[0].lstrip("-").replace("-", "_")


def test_every_command_in_the_pages_exists():
    checked = 0
    for page, words in commands():
        if words[1].startswith("-"):
            continue
        known = {plain(option) for option in options_of(words)}
        for word in words[2:]:
            if word.startswith("--"):
                assert plain(word) in known, f"{page}: {' '.join(words)}: {word}"
        if words[1] == "list" and words[2:]:
            assert set(words[2].split("|")) <= {*PRINTERS} | {"NAME"}, page
        checked += 1
    assert checked > 25


def test_every_recipe_and_override_in_the_pages_exists():
    trained = [words[2:] for _, words in commands() if words[1] == "train" and len(words) > 2]
    shipped = [words for words in trained if not words[0].endswith(".yaml") and words[0].islower()]
    assert len(shipped) > 5
    for recipe, *others in shipped:
        load_recipe(recipe, [word for word in others if "=" in word and word[0] != "-"])


def test_every_recipe_shown_in_the_pages_is_one():
    shown = [block for page in PAGES for mark, block in blocks(page) if mark == "yaml"]
    recipes = [yaml.safe_load(block) for block in shown if "transforms:" in block]
    assert len(recipes) >= 5
    for recipe in recipes:
        parse_recipe({"name": "shown", "store": "a", "protocol": "holdout", **recipe}, str(recipe))


def test_every_make_target_in_the_pages_exists():
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    for page in PAGES:
        code = "\n".join([block for _, block in blocks(page)] + ticked(text_of(page)))
        used = set(re.findall(r"^make ([a-z-]+)$", code, re.MULTILINE))
        assert used <= targets, page.name


# --------------------------------------------------------------------- code that runs


@pytest.fixture(scope="module")
def ucla_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write synthetic recordings in the format of NW-UCLA, as the README unpacks them."""
    folder = tmp_path_factory.mktemp("readme")
    raw = folder / "raw" / "all_sqe"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for action, label in ((1, 1), (8, 7)):
        for name in (f"s{s:02d}_e02_v{v:02d}" for s in (1, 2, 3) for v in (1, 2, 3)):
            joints = rng.normal(label, 0.1, (12, 20, 3)).round(3).tolist()
            content = {"file_name": name, "skeletons": joints, "label": label}
            (raw / f"a{action:02d}_{name}.json").write_text(json.dumps(content))
    return folder


def test_the_readme_from_the_first_command_to_the_notebook(ucla_folder, monkeypatch, capsys):
    monkeypatch.chdir(ucla_folder)
    page = ROOT / "README.md"
    runs = [block for mark, block in blocks(page) if mark == "bash run"]
    verbs = []
    for words in (shlex.split(line) for block in runs for line in block.splitlines()):
        assert words[0] == "kinegraph"
        small = SMALL if words[1] == "train" else ()
        with pytest.raises(SystemExit) as end:
            main([*words[1:3], *small, *words[3:]])
        assert not end.value.code, (words, capsys.readouterr().err)
        verbs.append(words[1])
    assert verbs == [
        *("convert", "inspect", "train", "evaluate", "predict", "stream", "export", "draw")
    ]
    assert (ucla_folder / "runs/nw_ucla/report.html").is_file()
    assert (ucla_folder / "a08_s03_e02_v03.gif").is_file()
    capsys.readouterr()
    (code,) = [block for mark, block in blocks(page) if mark == "python run"]
    assert len(run_code(code, ucla_folder, capsys).splitlines()) == 3


def run_code(code: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a block of Python and return its output."""
    script = folder / "block.py"
    script.write_text(code, encoding="utf-8")
    runpy.run_path(str(script))
    return capsys.readouterr().out


def runnable() -> Iterator[pytest.ParameterSet]:
    """Yield (code, promised output or None) of the marked blocks outside the README."""
    for page in PAGES[1:]:
        found = blocks(page)
        for i, (mark, code) in enumerate(found):
            if mark == "python run":
                after = found[i + 1] if i + 1 < len(found) else ("", "")
                promised = after[1] if after[0] == "text output" else None
                yield pytest.param(code, promised, id=f"{page.stem}-{i}")


@pytest.mark.parametrize(("code", "promised"), list(runnable()))
def test_marked_blocks_run_and_print_what_they_promise(
    code, promised, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("kinegraph.models.MODELS", dict(MODELS))
    monkeypatch.setattr("kinegraph.skeleton.layouts.LAYOUTS", dict(LAYOUTS))
    monkeypatch.chdir(tmp_path)
    printed = run_code(code, tmp_path, capsys)
    assert promised is None or printed == promised


def test_the_example_model_keeps_the_contract(tmp_path, monkeypatch, capsys):
    from contracts import test_models as contract
    from kinegraph import models

    codes = [code for mark, code in blocks(DOCS / "add-a-model.md") if mark == "python run"]
    monkeypatch.setattr(models, "MODELS", dict(MODELS))
    for code in codes:
        run_code(code, tmp_path, capsys)
    assert "small_graph_net" not in MODELS
    for name, mode in (("small_graph_net", "step"), ("frame_attention", "window")):
        for layout, persons in (("ntu25", 1), ("jhmdb15", 2)):
            contract.test_forward_features_head_and_reset(name, layout, persons)
            contract.test_optimized_and_streamed_logits_are_those_of_the_model(name, layout)
        contract.test_parameter_groups_hold_every_parameter_once(name)
        contract.test_a_few_steps_lower_the_loss_of_one_batch(name)
        assert contract.stream_mode(name) == mode
        assert load_recipe("nw_ucla", [f"model={{name: {name}, width: 128}}"]).model.options


# --------------------------------------------------------------------- lists that are complete


def written(value: Any) -> str:
    """Return a value as a recipe writes it."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=1000)
    return text.strip().removesuffix("...").strip()


def recipe_keys(part: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, default) of every key of a recipe."""
    for name, field in part.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from recipe_keys(inner, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else f"`{written(field.default)}`"
            yield f"{prefix}{name}", default


def section(page: Path, heading: str) -> str:
    """Return the text under a heading."""
    return re.split(rf"^## {heading}$", text_of(page), flags=re.MULTILINE)[1].split("\n## ")[0]


def test_recipes_page_lists_every_key_with_its_default():
    listed = [(ticked(cells[0])[0], cells[1]) for cells in rows(section(RECIPES, "Keys"))]
    assert listed == list(recipe_keys(Recipe))


@pytest.mark.parametrize("name", list(MODELS))
def test_recipes_page_lists_every_option_of_a_model(name):
    headings = re.findall(r"^## (Options of .*)$", text_of(RECIPES), re.MULTILINE)
    (heading,) = [heading for heading in headings if name in ticked(heading)]
    table = rows(section(RECIPES, heading))
    listed = [(ticked(cells[0])[0], ticked(cells[1])[0]) for cells in table]
    assert listed == [(f"model.{k}", written(v)) for k, v in model_options(name).items()]


def test_recipes_page_lists_every_objective_with_its_options_and_models():
    table = rows(section(RECIPES, "Objectives"))
    listed = {ticked(c[0])[0]: (ticked(c[1]), ticked(c[3])) for c in table}
    expected = {}
    for name in OBJECTIVES:
        options = [f"{k}: {written(v)}" for k, v in objective_options(name).items()]
        needs = create_objective({"name": name}).required_method
        models = [] if needs == "forward" else [m for m in MODELS if hasattr(MODELS[m], needs)]
        expected[name] = (options, models)
    expected["recognition"] = (expected["recognition"][0], ["future_weight"])
    assert listed == expected


def test_recipes_page_lists_every_transform_with_its_options():
    listed = {ticked(c[0])[0]: ticked(c[1]) for c in rows(section(RECIPES, "Transforms"))}
    assert listed == {name: transform_options(name) for name in TRANSFORMS}


def transform_options(name: str) -> list[str]:
    """Return the options of a transform with their defaults."""
    parameters = inspect.signature(TRANSFORMS[name]).parameters.values()
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    return [f"{p.name}: {written(p.default)}" for p in keywords]


def test_readme_lists_every_reader_and_recipe():
    table = rows(section(ROOT / "README.md", "Datasets and recipes"))
    assert {name for cells in table for name in ticked(cells[1])} == set(READERS)
    listed = [name for c in table if len(c) > 2 for name in ticked(c[2].partition(":")[0])]
    matched = [set(fnmatch.filter(list_recipes(), pattern)) for pattern in listed]
    assert all(matched)
    assert set().union(*matched) == set(list_recipes())


def test_sets_are_described_as_their_readers_do():
    listed = rows(section(DOCS / "two-kinds-of-skeletons.md", "Datasets"))
    table = [cells for cells in listed if len(cells) == 10]  # not the counts of clips
    assert len(table) == 11
    for _, reader, layout, coordinates, *_, protocols in table:
        known = READERS[ticked(reader)[0]]
        assert ticked(layout)[0] in LAYOUTS
        assert coordinates in ("2", "3")
        assert set(ticked(protocols)) <= set(known.protocols)


def test_the_matrix_of_conversions_is_that_of_the_code():
    matrix = rows(section(DOCS / "convert-skeletons.md", "Converted joints"))
    _, counted = conversion_table()
    assert [(ticked(cells[0])[0], *cells[1:]) for cells in matrix] == counted


def test_the_coordinates_page_lists_what_every_reader_states():
    """A dataset has one space; readers of other files take options for all parts of it."""
    listed = rows(section(DOCS / "coordinates.md", "Readers"))
    assert [ticked(name)[0] for name, *_ in listed] == list(READERS)
    for name, space, options in listed:
        reader = READERS[ticked(name)[0]]
        assert space == reader.describe_space()
        kept = {*SPACE_OPTIONS, "layout", "confidence", "fps", "width", "height"}
        assert set(ticked(options)) == kept & set(reader.options)
        assert (reader.space is None) == (set(SPACE_OPTIONS) <= set(reader.options)), reader.name


def test_concepts_follow_a_clip_through_the_recipe_with_its_true_shapes():
    recipe = load_recipe("nw_ucla")
    layout = get_layout("kinect20")
    clip = Clip(np.random.default_rng(0).normal(size=(1, 66, 20, 3)), layout, id="a08_s03_e02_v03")
    sample = to_array(recipe.pipeline()(clip), recipe.persons, confidence=recipe.confidence)
    N = recipe.train.batch_size
    model: Any = create_model(
        recipe.model.name,
        layout=layout,
        num_classes=10,
        in_channels=sample.shape[0],
        **recipe.model.options,
    )
    import torch

    batch = torch.from_numpy(np.stack([sample] * N))
    shapes = [clip.joints.shape, sample.shape, batch.shape, model.forward_features(batch).shape]
    life = section(DOCS / "concepts.md", "The life of a clip")
    for shape in (*shapes, (N, 10)):
        assert str(tuple(shape)) in life


def allowed_rooms(cell: str, earlier: dict[str, set[str]]) -> set[str]:
    """Return the rooms that a cell names; "all that `x` may" stands for what x may import."""
    rooms: set[str] = set()
    for part in cell.split(", "):
        rooms |= earlier[ticked(part)[0]] if ticked(part) else {part} - {"–"}
    return rooms


def test_architecture_shows_the_rooms_in_order_and_what_each_may_import():
    page = DOCS / "architecture.md"
    tree = blocks(page)[0][1]
    assert re.findall(r"── (\w+)", tree) == list(MAY_IMPORT)
    rules: dict[str, set[str]] = {}
    for name, allowed in rows(section(page, "Rooms")):
        rules[ticked(name)[0]] = allowed_rooms(allowed, rules)
    assert list(rules.items()) == list(MAY_IMPORT.items())


def contents_of(path: Path) -> str:
    """Return the first line of a module's docstring, as a row of the page has it."""
    return str(ast.get_docstring(syntax(path))).split("\n")[0].removesuffix(".")


def test_architecture_lists_every_file_with_the_first_line_of_its_docstring():
    listed = {}
    room = ""
    for line in section(DOCS / "architecture.md", "Files").splitlines():
        if heading := re.match(r"`(\w+)`.*:", line):
            room = "" if heading[1] == "kinegraph" else f"{heading[1]}/"
        elif row := re.match(r"\| `([^`]+)` \| (.*) \|$", line):
            assert room + row[1] not in listed, row[1]
            listed[room + row[1]] = row[2]
    kinds = (".py", ".yaml", ".jinja")
    paths = {path.relative_to(SOURCE).as_posix(): path for path in SOURCE.rglob("*.*")}
    files = {f for f in paths if f.endswith(kinds) and not f.startswith("recipes/")}
    assert sorted(listed) == sorted(files)
    refuse(
        f"| `{file}` | {contents_of(paths[file])} |"
        for file, text in listed.items()
        if file.endswith(".py") and text != contents_of(paths[file])
    )


def test_the_citation_file_is_one():
    citation = yaml.safe_load(text_of(ROOT / "CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert all(r["title"] and r["authors"] and r["year"] for r in citation["references"])
