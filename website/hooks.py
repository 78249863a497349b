"""Events of mkdocs: adds the generated pages, and reads the pages of the repository as they are."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import gallery
import notebooks
import reference
from links import DOCS, ROOT_PAGES, slug, to_site, without_section
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
#: The theme's tag for search from a folder.
_WORKER_SHIM = re.compile(r'<script src="https://[^"]*/iframe-worker/shim"></script>')
#: Section of the README whose place the navigation takes.
REPLACED_SECTION = "Documentation"


def on_config(config: Any) -> Any:
    """Give headings the anchors that the repository's pages link to."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slug
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root folder, the reference, the gallery and their pictures."""
    for path in ROOT_PAGES:
        files.append(File.generated(config, ROOT_PAGES[path], content=_root_page(path)))
    for name, make in reference.PAGES.items():
        files.append(File.generated(config, name, content=make()))
    for name, make_file in reference.FILES.items():
        files.append(File.generated(config, name, content=make_file()))
    for name, folder in (("layouts", reference.draw_layouts()), ("gallery", gallery.draw())):
        for path in sorted(folder.iterdir()):
            target = f"{reference.FOLDER}{name}/{path.name}"
            files.append(File.generated(config, target, abs_src_path=str(path)))
    made = reference.BUILD / "notebooks"
    notebooks.build(made)
    for path in sorted(made.glob("*.png")):
        files.append(File.generated(config, f"notebooks/{path.name}", abs_src_path=str(path)))
    for source in notebooks.SOURCES.glob("*.py"):
        page = (made / f"{source.stem}.md").read_text(encoding="utf-8")
        files.append(File.generated(config, f"notebooks/{source.stem}.md", content=page))
    files.append(File.generated(config, gallery.PAGE, content=gallery.page()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Bring a page of docs/ into the form of the site."""
    if page.file.generated_by:
        return markdown
    return to_site(markdown, DOCS + page.file.src_uri)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Replace the script that the theme would load from another host by the one in website/."""
    return _with_own_worker(output, posixpath.dirname(page.file.dest_uri))


def on_post_template(output: str, template_name: str, **_: Any) -> str:
    """Do the same in the page for missing pages."""
    return _with_own_worker(output, posixpath.dirname(template_name))


def _with_own_worker(html: str, folder: str) -> str:
    local = posixpath.relpath(f"{reference.FOLDER}worker.js", folder or ".")
    return _WORKER_SHIM.sub(f'<script src="{local}"></script>', html)


def _root_page(path: str) -> str:
    source = ROOT / path
    if path == "README.md":
        return to_site(without_section(source.read_text(encoding="utf-8"), REPLACED_SECTION), path)
    if source.suffix == ".md":
        return to_site(source.read_text(encoding="utf-8"), path)
    if source.is_dir():
        parts = [f"# Files of {path}/\n"]
        for file in sorted(source.iterdir()):
            parts.append(f"## {file.name}\n\n{_code_block(file)}")
        return "\n".join(parts)
    title = {"LICENSE": "License", "CITATION.cff": "Citation"}[path]
    return f"# {title}\n\n{_code_block(source)}"


def _code_block(file: Path) -> str:
    return f"```text\n{file.read_text(encoding='utf-8').rstrip()}\n```\n"
