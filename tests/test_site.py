"""The documentation site: navigation, generated pages, and the same reading in folder and site."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

import kinegraph
from kinegraph.cli import app
from kinegraph.readers import READERS
from kinegraph.skeleton.layouts import LAYOUTS
from kinegraph.training.recipe import Recipe
from kinegraph.transforms import TRANSFORMS
from test_docs import DOCS, ROOT, blocks, command_line, recipe_keys, slug

WEBSITE = ROOT / "website"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", autouse=True)
def _website_modules() -> Iterator[None]:
    """Make the modules of website/ importable, as mkdocs does for its hooks."""
    sys.path.insert(0, str(WEBSITE))
    yield
    sys.path.remove(str(WEBSITE))


def load(name: str) -> Any:
    """Return a module of website/."""
    return importlib.import_module(name)


def listed_pages(nav: Any) -> Iterator[str]:
    """Yield the pages of a navigation in order."""
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            (inner,) = entry.values()
            yield from [inner] if isinstance(inner, str) else listed_pages(inner)


def generated_pages() -> dict[str, str]:
    """Return the Markdown of the generated pages by path, without running the gallery's code."""
    reference, gallery, notebooks = load("reference"), load("gallery"), load("notebooks")
    made = {name: make() for name, make in reference.PAGES.items()} | {gallery.PAGE: gallery.page()}
    for path in NOTEBOOKS:
        made[f"notebooks/{path.stem}.md"] = notebooks.write_page(
            path.stem, notebooks.read_cells(path)
        )
    return made


@pytest.fixture(scope="module")
def pages(_website_modules: None) -> dict[str, str]:
    """Return the Markdown of every page of the site by its path in the site."""
    links = load("links")
    sources = {page.relative_to(DOCS).as_posix(): page for page in DOCS.rglob("*.md")}
    texts = {name: (f"docs/{name}", page) for name, page in sources.items()}
    texts |= {
        target: (source, ROOT / source)
        for source, target in links.ROOT_PAGES.items()
        if source.endswith(".md")
    }
    read = {
        name: links.to_site(path.read_text(encoding="utf-8"), source)
        for name, (source, path) in texts.items()
    }
    read["index.md"] = links.without_section(read["index.md"], "Documentation")
    return read | generated_pages()


def test_the_navigation_has_every_page_once(pages):
    listed = list(listed_pages(CONFIG["nav"]))
    assert len(listed) == len(set(listed))
    text_pages = {"license.md", "citation.md", "deploy.md"}
    missing = (set(pages) | text_pages) - set(listed)
    assert not missing, f"add to nav in mkdocs.yml: {', '.join(sorted(missing))}"
    assert set(listed) <= set(pages) | text_pages
    assert [next(iter(part)) for part in CONFIG["nav"]] == [
        "Start",
        "How to",
        "Understand",
        "Reference",
    ]


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings of a page, also of those that mkdocstrings makes."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = {slug(heading) for heading in re.findall(r"^#+ (.*)$", prose, re.MULTILINE)}
    return found | set(re.findall(r"^::: (\S+)", prose, re.MULTILINE))


def test_links_of_the_site_resolve(pages):
    reference = load("reference")
    known = {"license.md", "citation.md", "deploy.md", *reference.FILES}
    for name, text in pages.items():
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", prose):
            path, _, anchor = link.partition("#")
            target = os.path.normpath(Path(name).parent / path) if path else name
            if target in pages:
                assert not anchor or anchor in anchors(pages[target]), f"{name} links to {link}"
            elif not target.startswith(("reference/gallery/", "reference/layouts/")):
                assert target in known or (DOCS / target).is_file(), f"{name} links to {link}"


class _Counter(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.counts = dict.fromkeys(("li", "tr", "pre", "h2", "h3", "img", "a"), 0)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in self.counts:
            self.counts[tag] += 1


def count_elements(html: str) -> dict[str, int]:
    """Return the numbers of list items, rows, blocks, headings, pictures and links."""
    counter = _Counter()
    counter.feed(html)
    return counter.counts


def test_the_site_reads_pages_as_a_folder_does(pages):
    """A list without a blank line before it would be a list in one of the two only."""
    markdown = pytest.importorskip("markdown")
    common = MarkdownIt("commonmark").enable("table")
    extensions = ["tables", "fenced_code", "sane_lists"]
    for name in pages:
        if not name.startswith(("reference/", "notebooks/")):
            site = count_elements(markdown.markdown(pages[name], extensions=extensions))
            assert site == count_elements(common.render(pages[name])), name


def test_marks_and_links_are_rewritten():
    links = load("links")
    text = "```python run\n[a](b.md)\n```\n[c](../SECURITY.md#x), [d](e.md), [f](https://g)"
    assert links.to_site(text, "docs/page.md") == (
        "```python\n[a](b.md)\n```\n[c](security.md#x), [d](e.md), [f](https://g)"
    )
    assert links.to_site("[a](docs/b.md#c)", "README.md") == "[a](b.md#c)"
    assert links.without_section("# a\n## b\nc\n## d\ne\n", "b") == "# a\n## d\ne\n"


def test_the_page_of_commands_has_every_command_and_option(pages):
    text = pages["reference/cli.md"]
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == list(command_line().commands)
    for command in command_line().commands.values():
        for inner in (command, *getattr(command, "commands", {}).values()):
            for parameter in inner.params:
                for option in parameter.opts:
                    shown = re.search(rf"^`[^`]*{re.escape(option)}\b", text, re.MULTILINE)
                    assert shown or not option.startswith("-") or option == "--help", option
    assert app.info.name == "kinegraph"


def test_the_pages_of_the_interface_have_every_public_name_once(pages):
    api = [text for name, text in pages.items() if name.startswith("reference/api/")]
    shown = re.findall(r"heading: kg\.(\w+)", "\n".join(api))
    assert sorted(shown) == kinegraph.__all__
    identifiers = re.findall(r"^::: (\S+)", "\n".join(api), re.MULTILINE)
    assert len(identifiers) == len(set(identifiers))


def test_the_reference_lists_what_the_registries_have(pages):
    for page, names in (
        ("reference/readers.md", READERS),
        ("reference/transforms.md", TRANSFORMS),
        ("reference/layouts.md", LAYOUTS),
    ):
        assert re.findall(r"^## (.*)$", pages[page], re.MULTILINE) == list(names)
    keys = re.findall(r"^\| `([^`]+)` \|", pages["reference/recipe-schema.md"], re.MULTILINE)
    assert keys == [key for key, _ in recipe_keys(Recipe)]
    for path in ("POST /v1/predict", "GET /health"):
        assert f"## {path}\n" in pages["reference/http.md"]
    for name in ("FrameAnswer", "ImageAnswer"):
        assert f"#### {name}\n" in pages["reference/websockets.md"]


def test_the_gallery_names_commands_that_exist():
    for part in load("gallery").parts():
        assert part["code"].strip() and (part.get("pictures") or part.get("keep"))
        if part.get("language") != "python":
            for words in map(shlex.split, part["code"].splitlines()):
                if words[0] == "kinegraph":
                    assert words[1] in command_line().commands
                else:
                    assert words[0] == "python" and (ROOT / words[1]).is_file()


def test_notebooks_are_read_and_written_with_their_output(tmp_path):
    notebooks = load("notebooks")
    source = tmp_path / "small.py"
    source.write_text(
        "# ---\n# jupyter: {}\n# ---\n\n# %% [markdown]\n# # Title\n#\n# Text\n\n"
        "# %%\nx = 2\nprint(x)\nx + 1\n\n# %%\nfrom matplotlib.figure import Figure\n\nFigure()\n"
    )
    cells = notebooks.read_cells(source)
    notebooks.run_cells(cells)
    assert [cell.is_code for cell in cells] == [False, True, True]
    assert notebooks.write_page("small", cells) == (
        "# Title\n\nText\n\n```python\nx = 2\nprint(x)\nx + 1\n```\n\n```text\n2\n3\n```\n\n"
        "```python\nfrom matplotlib.figure import Figure\n\nFigure()\n```\n\n"
        "![Output of the code above](small-2-0.png)\n"
    )
    source.write_text("import os\n# %%\n")
    with pytest.raises(ValueError, match="text before the first cell"):
        notebooks.read_cells(source)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path):
    """In a process of its own, as a user runs it."""
    done = subprocess.run(
        [sys.executable, WEBSITE / "notebooks.py", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "```text" in done.stdout


def test_the_site_names_no_other_host():
    assert CONFIG["theme"]["font"] is False
    for path in (WEBSITE / "site.css", WEBSITE / "favicon.svg"):
        urls = re.findall(r"https?://[^\"')\s]+", path.read_text(encoding="utf-8"))
        assert set(urls) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("mkdocs", reason="`make docs` installs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    index = tmp_path / "site" / "index.html"
    assert index.is_file()
    loaded = r"<(?:script|link|img)[^>]*(?:src|href)=\"(https?://[^\"]+)"
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.findall(loaded, page.read_text(encoding="utf-8")), page
    size = sum(path.stat().st_size for path in (tmp_path / "site").rglob("*") if path.is_file())
    assert size < 25e6
    assert blocks(ROOT / "README.md")
