"""The words of the source and the pages: one meaning for each name, and plain sentences."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_architecture import FILES, SOURCE, place, refuse, syntax

ROOT = SOURCE.parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = [p for p in sorted(SOURCE.rglob("*")) if p.suffix in {".py", ".yaml", ".jinja", ".js"}]
TEXTS.remove(SOURCE / "readers" / "class_names.yaml")  # names that the data sets chose

#: Parts and steps that reader modules have in common; each reader defines its own.
READER_PARTS = {"READER", "_matches", "_read", "_scan", "_NAME", "_FPS", "_LAYOUT", "_NUM_JOINTS"}
READER_PARTS |= {"_COLUMNS", "_check_label", "_find_classes", "_find_label_file", "_guess_layout"}
READER_PARTS |= {
    "_list_clips",
    "_list_files",
    "_make_task",
    "_parse_pose",
    "find_videos",
    "open_video",
}
#: Names that mean the same wherever they are defined.
SAME_MEANING = {
    "app": "the typer application of a command with subcommands",
    "T": "a type variable",
    "CHANNELS": "output channels of each block of a model family",
    "STRIDES": "temporal strides of each block of a model family",
    "_check_options": "refuses options of a model family",
    "convert": "conversion, here and on a cluster",
    "predict_files": "prediction, here and on a cluster",
    "open_job": "the job of one kind of work on a cluster",
    "create_task": "the task of one shard of a job on a cluster",
    "merge_shards": "the end of one kind of job on a cluster",
    "open_estimator": "the entry point of each pose estimator",
    "worker_main": "the entry point of a worker process",
}


def top_level_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (name, definition) of the classes, functions and constants of a file."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, "code"
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for part in (part for target in targets for part in ast.walk(target)):
                if isinstance(part, ast.Name):
                    yield part.id, ast.unparse(node.value)


def may_share(name: str, places: set[Path], definitions: set[str]) -> bool:
    """Whether a name means the same in all of these files.

    An alias or constant with the same definition does, and so does a command with the function
    that it runs.
    """
    rooms = [path.relative_to(SOURCE).parts[0] for path in places]
    return (
        len(places) == 1
        or name == "_"
        or name in SAME_MEANING
        or (name in READER_PARTS and set(rooms) == {"readers"})
        or (len(definitions) == 1 and definitions != {"code"})
        or (definitions == {"code"} and len(rooms) == 2 and rooms.count("cli") == 1)
    )


def test_a_name_has_one_meaning():
    places, definitions = defaultdict(set), defaultdict(set)
    for path in FILES:
        for name, definition in top_level_names(syntax(path)):
            if not name.startswith("__"):
                places[name].add(path)
                definitions[name].add(definition)
    refuse(
        f"{name}: {', '.join(sorted(map(place, paths)))}"
        for name, paths in sorted(places.items())
        if not may_share(name, paths, definitions[name])
    )


#: Words of constants that state neither a thing nor a unit.
VAGUE = (
    r"FEW|MANY|MOST|ENOUGH|LATELY|NEVER|LATE|LONGEST|LARGEST|FAR|FARTHEST|FASTER|BRIEF|LEAST|KEEP"
)


def test_constants_name_a_thing():
    refuse(
        f"{place(path)}: {name}"
        for path in FILES
        for name, _ in top_level_names(syntax(path))
        if re.fullmatch(rf"_?(?:{VAGUE})", name)
    )


THINGS = (
    "archive|block|browser|card|checkpoint|class|client|clip|cluster|code|column|command|device"
    "|estimator|field|file|format|function|graph|header|key|layer|layout|library|line|loader|log"
    "|machine|manifest|model|module|name|network|node|objective|option|package|page|process"
    "|reader|recipe|report|row|run|server|session|skeleton|store|stream|table|test|title|trainer"
    "|worker"
)
ACTIONS = "believe|feel|hear|know|say|speak|talk|tell"
#: What is wrong -> how it is found.
FORBIDDEN = {
    '"told"': r"\btold\b",
    '"somebody"': r"\bsomebody\b",
    '"whoever"': r"\bwh(?:oever|omever)\b",
    '"nobody", "everybody"': r"\b(?:no|every)body\b",
    '"is no X" in place of "is not"': (
        r"(?<!\bthere )\b(?:is|are|was|were) no (?!(?:longer|more|fewer|less|larger|smaller)\b)"
    ),
    '"made-up" in place of "synthetic"': r"\bmade-up\b",
    "a thing that speaks or thinks": rf"\b(?:{THINGS})s? (?:{ACTIONS})s?\b",
    '"it says"': rf"\b(?:it|which|that|what) (?:{ACTIONS})s\b",
}


@pytest.mark.parametrize("wrong", list(FORBIDDEN))
def test_sentences_are_plain(wrong):
    pattern = re.compile(FORBIDDEN[wrong], re.IGNORECASE)
    refuse(
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in [*TEXTS, *PAGES]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    )
