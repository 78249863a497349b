"""The walls of the house: who may import whom, and what no file may do."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "kinegraph"
FILES = sorted(SOURCE.rglob("*.py"))

# A room may import the rooms named here (and itself); nothing else of kinegraph.
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "skeleton": {"errors"},
    "clips": {"errors", "files", "skeleton"},
    "readers": {"errors", "files", "skeleton", "clips"},
    "transforms": {"errors", "skeleton", "clips"},
    "models": {"errors", "skeleton"},
    "runtime": {"errors", "skeleton", "models"},
    "training": {"errors", "files", "skeleton", "clips", "transforms", "models"},
}
MAY_IMPORT["inference"] = {*MAY_IMPORT["training"], "training", "readers", "runtime"}
MAY_IMPORT["cluster"] = {"errors", "files", "clips", "readers", "training", "inference"}
MAY_IMPORT["reports"] = {*MAY_IMPORT["inference"], "inference"}
MAY_IMPORT["bench"] = {*MAY_IMPORT["reports"], "reports"}
MAY_IMPORT["video"] = {*MAY_IMPORT["reports"], "reports"}
MAY_IMPORT["server"] = {*MAY_IMPORT["video"], "video"}
MAY_IMPORT["cli"] = {*MAY_IMPORT["server"], "server", "bench", "cluster"}
NO_TORCH = {"skeleton", "clips", "readers", "transforms"}
HEAVY = {"torch", "matplotlib", "scipy", "lightning", "torchmetrics"}
UNPICKLER = SOURCE / "readers" / "formats" / "pickle_file.py"


def room(path: Path) -> str:
    """The room a source file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> list[str]:
    """Every module named by an import statement, wherever it stands."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return found


@pytest.fixture(params=FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def source(request: pytest.FixtureRequest) -> tuple[Path, ast.Module]:
    """A source file with its syntax tree."""
    return request.param, ast.parse(request.param.read_text(encoding="utf-8"))


def test_there_are_files_to_look_at():
    assert len(FILES) > 40
    assert {room(path) for path in FILES} == {*MAY_IMPORT, "__init__", "__main__"}


def test_imports_go_downwards(source):
    path, tree = source
    if room(path) in ("__init__", "__main__"):
        return
    allowed = MAY_IMPORT[room(path)] | {room(path)}
    for name in imports(tree):
        if name.startswith("kinegraph."):
            assert name.split(".")[1] in allowed, f"{path.name} imports {name}"


def test_numpy_rooms_know_no_torch(source):
    path, tree = source
    if room(path) in NO_TORCH:
        assert not [name for name in imports(tree) if name.split(".")[0] == "torch"]


def test_light_files_import_heavy_packages_only_inside_functions(source):
    path, tree = source
    if room(path) in NO_TORCH | {"errors", "cli", "__init__", "__main__"}:
        top = ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])
        assert not [name for name in imports(top) if name.split(".")[0] in HEAVY]


def test_nothing_forbidden_is_done(source):
    path, tree = source
    for node in ast.walk(tree):
        where = f"{path.relative_to(SOURCE)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in {"eval", "exec", "__import__"}, where
            assert not name.endswith(".cuda"), where
            assert name != "print" or room(path) == "cli", where
            drawn = re.match(r"(?:np\.|numpy\.)?random\.(?!default_rng|SeedSequence)", name)
            assert not drawn, f"{where}: global random state"
        elif isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{where}: bare except"
        elif isinstance(node, ast.ImportFrom):
            assert node.names[0].name != "*", where
        elif isinstance(node, ast.Assert):
            raise AssertionError(f"{where}: assert in the source")
        elif isinstance(node, ast.Attribute):
            assert ast.unparse(node) != "sys.path", where


def test_only_the_unpickler_knows_pickle(source):
    path, tree = source
    if path != UNPICKLER:
        assert not [name for name in imports(tree) if name.split(".")[0] == "pickle"]


def test_every_file_says_what_it_is_for(source):
    _, tree = source
    assert ast.get_docstring(tree)
