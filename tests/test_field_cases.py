"""Cases from public issue threads, run by their own commands: the right answer, or one sentence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import real_data

#: What the output of each case's commands must match, and what it must not.
EXPECTED: dict[str, tuple[list[str], list[str]]] = {
    "01": ([r"1 clips, 2 person tracks, 20 frames", r"rc 0"], []),
    "03": ([r"1 clips, \d person tracks, 20 frames", r"rc 0", r"cam01_json: \w+"], ["found none"]),
    "05": ([r"layout halpe26", r"1 clips, .* 20 frames", r"rc 0\n[1-9]"], []),
    "07": ([r"layout body25 is a guess", r"warning +the joints do not fit .*body25b"], []),
    "09": ([r"--confidence true"], ["pushup"]),
    "10": ([r"clean_and_jerk 97"], []),
    "13": ([r"1 clips", r"(?i)capped", r"rc 0"], []),
    "15": ([r"\[1001\. 2001\.\]"], []),
    "17": ([r"left out.*class.*timestamp|left out.*timestamp.*class", r"rc 0"], []),
    "19": ([r"4 clips", r"rc 0"], ["Traceback"]),
    "21": ([rf"{kind} rc 0" for kind in ("backslash", "semicolon", "cp1252", "upper")], []),
    "22": ([r"layout coco17", r"1 clips, .* 20 frames", r"rc 0"], ["no reader recognizes"]),
    "23": ([r"%", r"rc 0"], ["no reader recognizes"]),
    "25": ([r"1 clips, 2 person tracks, 10 frames", r"with confidence", r"rc 0"], []),
    "26": ([r"6 clips", r"layout ntu25", r"120|150|frames", r"rc 0"], []),
    "28": ([r"3 clips", r"\(no label\)\W+1", r"rc 0"], []),
    "30": ([r"epoch|best|run"], ["mistake", "kinegraph:"]),
    "32": ([r"(?s)xsub.*xview.*--split"], []),
    "34": (
        [
            r"msd\.pt \(the keys 'epoch', 'model_state_dict'\): .* it holds 'fcn\.weight'",
            r"net\.pt \(the keys 'net'\): .* it holds 'fcn\.weight'",
            r"whole\.pt: it is a pickle of Python objects such as __main__\.Net",
        ],
        ["\x1b", "two options", "Traceback"],
    ),
    "35": ([r"clip.npz: .*--layout coco17", r"frame 0.*--layout coco17"], ["Traceback"]),
    "36": ([r"6 clips", r"rc 0"], ["could not convert"]),
    "37": ([r"1 \[60\]|one person ends where another begins"], []),
}


@pytest.mark.slow
@pytest.mark.parametrize("number", EXPECTED)
def test_field_case(number: str) -> None:
    folder = real_data(f"field_cases/{number}")
    python = Path(sys.executable)
    environment = {
        **os.environ,
        "KG": f"{python} -m kinegraph",
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "200",
    }
    done = subprocess.run(
        ["bash", str(folder / "cmd")], capture_output=True, text=True, env=environment, timeout=300
    )
    output = done.stdout + done.stderr
    required, forbidden = EXPECTED[number]
    for pattern in required:
        assert re.search(pattern, output), f"expected {pattern!r} in:\n{output}"
    for pattern in forbidden:
        assert not re.search(pattern, output), f"expected no {pattern!r} in:\n{output}"
