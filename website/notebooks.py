"""Notebooks: runs the jupytext sources of docs/notebooks and writes them as pages."""

from __future__ import annotations

import ast
import hashlib
import io
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "docs" / "notebooks"
_CELL = re.compile(r"^# %%( \[markdown\])?.*\n", re.MULTILINE)
_HEADER = re.compile(r"\A# ---\n(?:#.*\n)*?# ---\n")


@dataclass
class Cell:
    """A cell of a notebook, and what it printed and drew.

    Attributes:
        text: Markdown or Python.
        is_code: whether it is Python.
        output: what it printed, and the value of its last line.
        figures: the figures of its last line, as PNG.
    """

    text: str
    is_code: bool
    output: str = ""
    figures: list[bytes] = field(default_factory=list)


def read_cells(path: Path) -> list[Cell]:
    """Return the cells of a jupytext source in the percent format.

    Raises:
        ValueError: there is text before the first cell.
    """
    text = _HEADER.sub("", path.read_text(encoding="utf-8"))
    before, *parts = _CELL.split(text)
    if before.strip():
        raise ValueError(f"{path}: text before the first cell: {before[:60]!r}")
    cells = []
    for kind, content in zip(parts[::2], parts[1::2], strict=True):
        if kind:
            content = "\n".join(
                line.removeprefix("#").removeprefix(" ") for line in content.splitlines()
            )
        cells.append(Cell(content.strip("\n"), not kind))
    return cells


def run_cells(cells: list[Cell]) -> None:
    """Run the cells in an empty temporary folder, and keep what each prints and draws."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for number, cell in enumerate(cells):
            if cell.is_code:
                printed = io.StringIO()
                with redirect_stdout(printed):
                    value = _run(cell.text, f"cell {number}", names)
                    _keep(cell, value)
                cell.output = printed.getvalue() + cell.output


def _run(code: str, where: str, names: dict[str, Any]) -> Any:
    """Run Python and return the value of its last line if that is an expression."""
    tree = ast.parse(code)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        exec(compile(tree, where, "exec"), names)
        return None
    exec(compile(ast.Module(tree.body[:-1], []), where, "exec"), names)
    return eval(compile(ast.Expression(last.value), where, "eval"), names)


def _keep(cell: Cell, value: Any) -> None:
    figures = value if isinstance(value, list) else [value]
    if figures and all(hasattr(figure, "savefig") for figure in figures):
        for figure in figures:
            picture = io.BytesIO()
            figure.savefig(picture, format="png", dpi=100)
            cell.figures.append(picture.getvalue())
    elif value is not None:
        cell.output = f"{value!r}\n"


def write_page(name: str, cells: list[Cell]) -> str:
    """Return a notebook as Markdown; its pictures are `NAME-CELL-NUMBER.png` beside it."""
    return (
        "\n\n".join(part for i, cell in enumerate(cells) for part in _write(name, i, cell)) + "\n"
    )


def _write(name: str, number: int, cell: Cell) -> Iterator[str]:
    if not cell.is_code:
        yield cell.text
        return
    yield f"```python\n{cell.text}\n```"
    if cell.output.strip():
        yield f"```text\n{cell.output.rstrip()}\n```"
    for i in range(len(cell.figures)):
        yield f"![Output of the code above]({picture_name(name, number, i)})"


def picture_name(name: str, cell: int, figure: int) -> str:
    """Return the file name of a picture of a notebook."""
    return f"{name}-{cell}-{figure}.png"


def build(folder: Path) -> None:
    """Write the page and the pictures of every notebook into a folder.

    A notebook runs again only when its source changes or the folder is deleted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in sorted(SOURCES.glob("*.py")):
        digest = folder / f"{source.stem}.sha256"
        current = hashlib.sha256(source.read_bytes()).hexdigest()
        if digest.exists() and digest.read_text() == current:
            continue
        cells = read_cells(source)
        run_cells(cells)
        for i, cell in enumerate(cells):
            for number, picture in enumerate(cell.figures):
                (folder / picture_name(source.stem, i, number)).write_bytes(picture)
        (folder / f"{source.stem}.md").write_text(write_page(source.stem, cells), encoding="utf-8")
        digest.write_text(current)


def main() -> None:
    """Run the notebook that is named on the command line, and print its page."""
    cells = read_cells(Path(sys.argv[1]))
    run_cells(cells)
    print(write_page(Path(sys.argv[1]).stem, cells))


if __name__ == "__main__":
    main()
