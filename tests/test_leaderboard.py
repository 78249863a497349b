"""`make leaderboard`: the page is what the command makes, and score files are checked."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from conftest import real_data
from test_architecture import SOURCE

ROOT = SOURCE.parents[1]
ABSENT = Path("absent")


@pytest.fixture
def leaderboard(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("leaderboard")


def test_the_page_is_up_to_date(leaderboard, tmp_path):
    leaderboard.main([str(ABSENT), "--page", str(tmp_path / "page.md")])
    made = (tmp_path / "page.md").read_text()
    assert made == (ROOT / "docs" / "leaderboard.md").read_text(), "run `make leaderboard`"


def test_records_have_rows_of_their_own(leaderboard, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "numbers.md").read_text()
    row = "| SBU, mean of 5 folds | New | joint | 97.5 ± 0.4 | – | 3 | last of 9 | 2.0 |"
    end = "<!-- records-gpu: end -->"
    (tmp_path / "numbers.md").write_text(page.replace(end, f"{row}\n{end}"))
    monkeypatch.setattr("accuracy.TABLE", tmp_path / "numbers.md")
    section = leaderboard.make_page(ABSENT).split("## SBU")[1].split("\n## ")[0]
    cells = "New | joint | 97.5 ± 0.4 | – | last of 9 | kinegraph"
    assert f"| {cells} | [results](numbers.md), 3 seeds |" in section


def test_score_files_that_give_other_figures_are_refused(leaderboard, tmp_path, capsys):
    names = [f"a0{i}_s01_e00_v03" for i in (1, 2)]
    for stream in ("joint", "bone"):
        logits = np.eye(10)[[0, 5]]
        np.savez(tmp_path / f"{stream}.npz", ids=names, labels=[0, 1], scores=logits)
    expected = {"joint": [50.0, 100.0], "bone": [50.0, 100.0], "fused": [50.0, 100.0]}
    scored = {"folder": ".", "expected": expected}
    leaderboard.check_scores(scored, tmp_path)
    expected["bone"] = [50.0, 99.0]
    with pytest.raises(SystemExit, match=r"bone: expected \[50.0, 99.0\]"):
        leaderboard.check_scores(scored, tmp_path)
    assert not capsys.readouterr().err
    leaderboard.check_scores(scored, tmp_path / "absent")
    assert "are not checked" in capsys.readouterr().err


def test_missing_rows_of_the_results_are_named(leaderboard):
    with pytest.raises(SystemExit, match="no row 'Nothing'"):
        leaderboard.find_row("table", "Nothing")


def test_the_scores_at_hand_give_the_figures_of_the_page(leaderboard):
    leaderboard.make_page(real_data("nw_ucla").parent)
