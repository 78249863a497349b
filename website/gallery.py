"""The gallery: runs the code of gallery.yaml and writes a page with it and its pictures."""

from __future__ import annotations

import hashlib
import json
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import yaml
from reference import BUILD, FOLDER, ROOT, run_command, shrink_picture

PAGE = f"{FOLDER}gallery.md"
WORK = BUILD / "gallery"
PICTURES = BUILD / "gallery-pictures"
#: Digests of the code of the kept parts that ran.
DONE = WORK / "done.json"


def parts() -> list[dict[str, Any]]:
    """Return the parts of the gallery as gallery.yaml has them."""
    return yaml.safe_load((Path(__file__).parent / "gallery.yaml").read_text(encoding="utf-8"))


def draw() -> Path:
    """Run the code of every part and return the folder of the pictures.

    Raises:
        RuntimeError: a command failed.
        FileNotFoundError: the code did not write a picture that the part names.
    """
    WORK.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir()
    done = json.loads(DONE.read_text()) if DONE.exists() else {}
    for part in parts():
        digest = hashlib.sha256(part["code"].encode()).hexdigest()
        if not (part.get("keep") and done.get(part["title"]) == digest):
            with chdir(WORK):
                _run(part)
            done[part["title"]] = digest
            DONE.write_text(json.dumps(done, indent=1))
        for name in part.get("pictures", ()):
            _publish(WORK / part.get("from", ".") / name)
    return PICTURES


def _run(part: dict[str, Any]) -> None:
    """Run the code of a part in the current folder, without what an earlier build left there."""
    if folder := part.get("from"):
        shutil.rmtree(folder, ignore_errors=True)
    if part.get("language") == "python":
        script = Path("part.py")
        script.write_text(part["code"], encoding="utf-8")
        runpy.run_path(str(script))
        return
    for words in map(shlex.split, part["code"].splitlines()):
        if "--out" in words and words[1] in ("train", "demo"):
            shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
        if words[0] == "kinegraph":
            run_command(*words[1:])
        else:
            subprocess.run([sys.executable, str(ROOT / words[1]), *words[2:]], check=True)


def _publish(picture: Path) -> None:
    """Copy a picture, a large one smaller."""
    target = PICTURES / picture.name
    if picture.suffix == ".gif":
        shutil.copyfile(picture, target)
    else:
        shrink_picture(picture, target)


def page() -> str:
    """Return the gallery as Markdown."""
    return "\n".join(["# Gallery", "", *(line for part in parts() for line in _write(part))])


def _write(part: dict[str, Any]) -> Iterator[str]:
    yield from (f"## {part['title']}", "", part["text"].strip(), "")
    for name, text in part.get("pictures", {}).items():
        yield from (f"![{text}](gallery/{name})", "")
    yield from (f"```{part.get('language', 'bash')}", part["code"].rstrip(), "```", "")
