"""The rules of the source: which room may import which, and what no file may do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "kinegraph"
FILES = sorted(SOURCE.rglob("*.py"))

# A room may import the rooms named here (and itself); nothing else of kinegraph. Ground up.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "plain_text": {"errors"},
    "processes": set(),
    "skeleton": {"errors", "plain_text"},
    "clips": {"errors", "files", "plain_text", "skeleton"},
    "ops": {"errors", "skeleton"},
    "models": {"errors", "skeleton", "ops"},
    "readers": {"errors", "files", "plain_text", "processes", "skeleton", "clips"},
    "transforms": {"errors", "skeleton", "clips"},
    "writers": {"errors", "files", "skeleton", "clips", "readers", "transforms"},
    "runtime": {"errors", "skeleton", "ops"},
    "training": {"errors", "files", "plain_text", "skeleton", "clips", "models", "transforms"},
}
MAY_IMPORT["inference"] = {*MAY_IMPORT["training"], "training", "readers", "runtime"}
MAY_IMPORT["cluster"] = {"errors", "files", "clips", "readers", "training", "inference"}
MAY_IMPORT["reports"] = {*MAY_IMPORT["inference"], "inference"}
MAY_IMPORT["bench"] = {*MAY_IMPORT["reports"], "reports"}
MAY_IMPORT["video"] = {*MAY_IMPORT["reports"], "reports"}
MAY_IMPORT["server"] = {*MAY_IMPORT["video"], "video", "processes"}
MAY_IMPORT["cli"] = {*MAY_IMPORT["server"], "server", "bench", "cluster", "writers"}
NO_TORCH = {"skeleton", "clips", "readers", "transforms", "writers"}
LIGHT = NO_TORCH | {"errors", "files", "plain_text", "cli", "__init__", "__main__"}
HEAVY = {"torch", "matplotlib", "scipy", "lightning", "torchmetrics"}
PICKLE_FILE = SOURCE / "readers" / "formats" / "pickle_file.py"


@cache
def syntax(path: Path) -> ast.Module:
    """Return the syntax tree of a source file; each file is parsed once."""
    return ast.parse(path.read_text(encoding="utf-8"))


def room(path: Path) -> str:
    """Return the room that a source file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def place(path: Path, node: ast.AST | None = None) -> str:
    """Return a file, or a line of it, as a failure names it."""
    line = f":{node.lineno}" if node is not None and hasattr(node, "lineno") else ""
    return f"{path.relative_to(SOURCE)}{line}"


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Yield (statement, module) of every import statement, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node, node.module or ""


def refuse(offenses: Iterable[str]) -> None:
    """Fail with one line for each offense."""
    if lines := list(offenses):
        pytest.fail("\n".join(lines), pytrace=False)


def test_every_room_is_listed_and_only_rooms_before_it_are_imported():
    assert len(FILES) > 40
    assert {room(path) for path in FILES} == {*MAY_IMPORT, "__init__", "__main__"}
    rooms = list(MAY_IMPORT)
    for number, name in enumerate(rooms):
        assert MAY_IMPORT[name] <= set(rooms[:number]), name


def test_a_room_imports_only_what_it_may():
    refuse(
        f"{place(path, node)} imports {name}"
        for path in FILES
        if room(path) in MAY_IMPORT
        for node, name in imports(syntax(path))
        if name.startswith("kinegraph.")
        and name.split(".")[1] not in MAY_IMPORT[room(path)] | {room(path)}
    )


# --------------------------------------------------------------------- import cycles


def module_name(path: Path) -> str:
    """Return the dotted name of a source file; a package is its `__init__.py`."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def packages(module: str) -> set[str]:
    """Return the packages that a module is in."""
    parts = module.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts))}


def imported_modules(path: Path, modules: set[str]) -> set[str]:
    """Return the modules of kinegraph that a file imports, lazily or for type checks too.

    An import of a module also imports the packages around it, except those that the importing file
    is in itself: they are there already.
    """
    importer = module_name(path)
    named = set()
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{place(path, node)}: relative import"
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            named |= members & modules or {str(node.module)}
            if members - modules:
                named.add(str(node.module))
    named &= modules
    around = {package for module in named for package in packages(module)}
    return (named | (around - packages(importer))) - {importer}


def test_no_files_import_each_other_in_a_circle():
    modules = {module_name(path) for path in FILES}
    graph = {module_name(path): imported_modules(path, modules) for path in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle of imports: {' -> '.join(error.args[1])}")


# --------------------------------------------------------------------- what no file may do


def imported_packages(tree: ast.AST) -> set[str]:
    """Return the first part of the name of every module that is imported."""
    return {name.split(".")[0] for _, name in imports(tree)}


def test_numpy_rooms_never_import_torch():
    numpy_files = [path for path in FILES if room(path) in NO_TORCH]
    refuse(place(p) for p in numpy_files if "torch" in imported_packages(syntax(p)))


def test_light_files_import_heavy_packages_only_inside_functions():
    for path in FILES:
        if room(path) in LIGHT:
            top = [n for n in syntax(path).body if isinstance(n, ast.Import | ast.ImportFrom)]
            heavy = imported_packages(ast.Module(top, [])) & HEAVY
            assert not heavy, f"{place(path)} imports {heavy}"


def forbidden(path: Path, node: ast.AST) -> str:
    """Return what is wrong with a piece of syntax, empty if nothing is."""
    match node:
        case ast.Call():
            name = ast.unparse(node.func)
            if name in {"eval", "exec", "__import__"} or name.endswith(".cuda"):
                return name
            if name == "print" and path.parts[-2:] != ("cli", "console.py"):
                return "print instead of kinegraph.cli.console.echo"
            own = "default_rng|SeedSequence|RandomState$"
            if re.match(rf"(?:np\.|numpy\.)?random\.(?!{own})", name):
                return "global random state"
        case ast.ExceptHandler(type=None):
            return "bare except"
        case ast.ImportFrom(names=[ast.alias(name="*")]):
            return "import *"
        case ast.Assert():
            return "assert"
        case ast.Attribute(value=ast.Name(id="sys"), attr="path"):
            return "sys.path"
    return ""


def test_nothing_forbidden_is_done():
    found = ((path, node) for path in FILES for node in ast.walk(syntax(path)))
    refuse(f"{place(p, node)}: {wrong}" for p, node in found if (wrong := forbidden(p, node)))


def test_only_one_file_imports_pickle():
    users = [path for path in FILES if "pickle" in imported_packages(syntax(path))]
    assert users == [PICKLE_FILE]


def test_every_file_has_a_docstring():
    refuse(place(path) for path in FILES if not ast.get_docstring(syntax(path)))
