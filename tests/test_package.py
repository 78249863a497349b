"""The package: extras, typing, start-up time, completion, model cards, and the release workflow."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import kinegraph
from kinegraph.training.model_zoo import PRETRAINED_FOLDER, list_pretrained, model_card
from test_architecture import SOURCE
from test_docs import PAGES, ROOT, text_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOW = ROOT / ".github" / "workflows" / "package.yml"


def test_the_version_is_stated_once_and_alike():
    assert PROJECT["version"] == kinegraph.__version__


def test_extras_are_named_alike_everywhere():
    texts = [text_of(page) for page in PAGES]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "Makefile", WORKFLOW)]
    used = {
        extra.strip()
        for text in texts
        for extras in re.findall(r"(?:'\.|kinegraph)\[([a-z, ]+)\]", text)
        for extra in extras.split(",")
    }
    assert {"video", "serve", "export"} <= used <= set(PROJECT["optional-dependencies"])


def test_the_package_is_typed():
    assert (SOURCE / "py.typed").is_file()
    assert "Typing :: Typed" in PROJECT["classifiers"]


@pytest.mark.parametrize("name", list_pretrained())
def test_bundled_weights_have_a_card_with_a_data_statement(name):
    card = model_card(name).read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", card, re.MULTILINE)
    assert {"Data", "Accuracy", "Limits"} <= set(headings)
    assert "**License.**" in card and "**Input**" in card
    weights = {path.stem for path in PRETRAINED_FOLDER.glob("*.safetensors")}
    assert weights == set(list_pretrained())


@pytest.mark.parametrize(
    ("arguments", "limit_s"), [(["-c", "import kinegraph"], 0.15), (["-m", "kinegraph"], 0.4)]
)
def test_it_starts_fast(arguments, limit_s):
    """The processor time of the fastest of three starts, which other processes affect little."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        help_option = ["--help"] if "-m" in arguments else []
        command = [sys.executable, *arguments, *help_option]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < limit_s


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell, monkeypatch):
    code = "from kinegraph.cli import main; main()"
    environment = {"_KINEGRAPH_COMPLETE": f"complete_{shell}", "COMP_WORDS": "kinegraph ex"}
    environment |= {"COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "kinegraph ex"}
    environment |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    program = f"import sys; sys.argv = ['kinegraph']; {code}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "explain" in done.stdout and "export" in done.stdout and "train" not in done.stdout


def test_the_workflow_publishes_without_secrets():
    text = WORKFLOW.read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert set(jobs["publish"]["needs"]) == {"check", "docs", "install"}
    assert "secrets." not in text and "://" not in text
    steps = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    used = {word for step in steps if step.startswith("make ") for word in step.split()[1:]}
    assert {"page", "package", "docs"} <= used <= targets


def test_forms_for_issues_are_valid():
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 3
    for form in forms:
        content = yaml.safe_load(form.read_text(encoding="utf-8"))
        if form.name != "config.yml":
            assert {"name", "description", "body"} <= set(content)
    assert Path(ROOT / "CODE_OF_CONDUCT.md").is_file()
