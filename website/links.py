"""Markdown of the repository as Markdown of the site: links, marks of code blocks, anchors."""

from __future__ import annotations

import posixpath
import re

DOCS = "docs/"
#: Files and folders outside of docs/ that are pages of the site.
ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "LICENSE": "license.md",
    "CITATION.cff": "citation.md",
    "deploy": "deploy.md",
}
_FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
_ITEM = re.compile(r"(?:[-*]|\d+\.) ")
_INDENT = re.compile(r"^ {2,3}(?! )")
_COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE)
_EMPTY_TABLE = re.compile(r"^\|.*\|\n\|[-|: ]+\|\n(?!\|)", re.MULTILINE)
_MARKED_FENCE = re.compile(r"^( *```\w+) .+$", re.MULTILINE)


def slug(heading: str, _separator: str = "-") -> str:
    """Return the anchor of a heading as in the repository's pages, see tests/test_docs.py."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def site_path(path: str) -> str | None:
    """Return the path in the site of a path in the repository; None if it is not there."""
    if path.startswith(DOCS):
        return path.removeprefix(DOCS)
    return ROOT_PAGES.get(path)


def to_site(text: str, source: str) -> str:
    """Return a page of the repository for the site.

    Links to pages outside of docs/ lead to their pages in the site, and the marks for the tests
    (``python run``) and comments disappear.

    Args:
        text: the Markdown.
        source: its path in the repository.
    """
    target = posixpath.dirname(site_path(source) or "")

    def rewrite(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        found = site_path(path)
        if found is None:
            return match[0]  # mkdocs warns of it
        return f"]({posixpath.relpath(found, target or '.')}{match[2] or ''})"

    parts, end = [], 0
    for block in _FENCED.finditer(text):
        parts += [_to_prose(_LINK.sub(rewrite, text[end : block.start()])), block[0]]
        end = block.end()
    parts.append(_to_prose(_LINK.sub(rewrite, text[end:])))
    return _MARKED_FENCE.sub(r"\1", "".join(parts))


def _to_prose(text: str) -> str:
    """Return text outside of code blocks without comments and empty tables.

    Python-Markdown needs four spaces before what belongs to a list item, where two are usual, and a
    blank line after an item of several paragraphs.
    """
    lines: list[str] = []
    in_list = is_loose = False
    for line in _EMPTY_TABLE.sub("", _COMMENT.sub("", text)).split("\n"):
        if _ITEM.match(line):
            lines += [""] if is_loose and lines[-1] else []
            in_list, is_loose = True, False
        elif in_list and not line:
            is_loose = True
        elif line and not line.startswith(" "):
            in_list = is_loose = False
        lines.append(_INDENT.sub("    ", line) if in_list else line)
    return "\n".join(lines)


def without_section(text: str, heading: str) -> str:
    """Return a page without a section of the second level."""
    return re.sub(rf"^## {heading}\n.*?(?=^## |\Z)", "", text, flags=re.MULTILINE | re.DOTALL)
