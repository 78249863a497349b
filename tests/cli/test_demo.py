"""The demo keeps its promise: from nothing to at least 90 % on performers it has never seen."""

from __future__ import annotations

import json
import re

import pytest

from kinegraph.cli import main


@pytest.mark.slow
def test_the_demo_learns_unseen_performers(tmp_path, capsys):
    main_ends(["demo", "--out", str(tmp_path)])
    out = capsys.readouterr().out
    top1 = float(re.search(r"top-1 ([\d.]+)%", out)[1])
    assert top1 >= 90
    assert f"report: {tmp_path / 'run' / 'report.html'}" in out
    assert (tmp_path / "run" / "report.html").is_file()
    main_ends(["predict", str(tmp_path / "run"), str(raw_file(tmp_path)), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["logits"]) == 12


def raw_file(folder):
    """One of the raw recordings that the demo wrote."""
    return min((folder / "raw").glob("*.skeleton"))


def main_ends(words: list[str]) -> None:
    """Run a command that must end well."""
    with pytest.raises(SystemExit) as end:
        main(words)
    assert not end.value.code
