"""YAML and JSON from anywhere: plain data, or one sentence with bounded time and memory."""

from __future__ import annotations

import os

import pytest
import yaml

from kinegraph.cli import main
from kinegraph.errors import LayoutError, RecipeError
from kinegraph.plain_text import MAX_TEXT_BYTES, PlainTextError, parse_json, parse_yaml
from kinegraph.skeleton.layouts import read_layout
from kinegraph.training.recipe import RECIPE_FOLDER, load_recipe

NINE = ",".join("x" * 9)
BOMB = f"a0: &a0 [{NINE}]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
CHAIN = "- &a0 [x]\n" + "".join(f"- &a{i} [*a{i - 1}]\n" for i in range(1, 200))
REFUSED = {
    "aliases of aliases": (BOMB, "more than 65536 values"),
    "merged aliases": ("a: &a {x: 1}\nb: {<<: [" + "*a," * 40_000 + "]}", "65536 values"),
    "depth by aliases": (CHAIN, "nested more than 30 deep"),
    "an alias of itself": ("a: &a [*a]", "contains itself"),
    "deep lists": ("[" * 60_000 + "]" * 60_000, "nested more than 30 deep"),
    "deep open lists": ("[" * 100_000, "nested more than 30 deep"),
    "deep rows": ("- " * 60_000, "nested more than 30 deep"),
    "deep keys": ("? " * 60_000, "nested more than 30 deep"),
    "long": ("#" * (MAX_TEXT_BYTES + 1), "expected at most 131072 characters"),
    "many digits": ("a: " + "9" * 5000, "not valid YAML"),
    "a huge number": ("a: 0x" + "f" * 100_000, "numbers of 64 bits"),
    "a number in base 60": ("a: 1" + ":1" * 9000 + ".0", "not valid YAML"),
    "a date": ("a: 2026-01-01", "a: expected text, .* got a date: quote it"),
    "no date": ("a: 2026-13-45", "month must be in 1..12"),
    "no boolean": ("a: !!bool perhaps", "not valid YAML"),
    "no time": ("a: !!timestamp then", "not valid YAML"),
    "bytes": ("a: !!binary aGVsbG8=", "got a bytes"),
    "a set": ("a: {b: !!set {x}}", r"a\.b: expected text, .* got a set"),
    "code": ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "a key that is a list": ("? [a]\n: 1", "unhashable key"),
    "a key that is a number": ("a: {1: 2}", "a: expected keys of text, got 1"),
    "two documents": ("---\na\n---\nb", "expected a single document"),
    "an unknown alias": ("a: *b", "undefined alias"),
    "control characters": ("a: \0", "control characters are not allowed"),
    "half a character": ("a: \ud800", "not valid YAML"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_plain_yaml_is_one_sentence(name):
    text, reason = REFUSED[name]
    with pytest.raises(PlainTextError, match=reason) as refusal:
        parse_yaml(text)
    assert len(str(refusal.value)) < 500
    assert len(str(refusal.value).splitlines()) == 1


def test_every_bundled_recipe_is_read_as_before():
    for path in RECIPE_FOLDER.glob("*.yaml"):
        text = path.read_text()
        assert parse_yaml(text) == yaml.safe_load(text)


def test_aliases_and_merged_maps_are_read():
    text = "base: &base {lr: 0.1, milestones: [10, 20]}\nmine: {<<: *base, lr: 0.2}\nlist: [*base]"
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize("name", ["aliases of aliases", "deep lists", "a date", "bytes"])
@pytest.mark.parametrize("command", ["train FILE", "train FILE epochs=1", "list layouts FILE"])
def test_no_command_fails_on_it(name, command, tmp_path, capsys):
    path = tmp_path / "my.yaml"
    path.write_text(REFUSED[name][0], errors="replace")
    with pytest.raises(SystemExit) as end:
        main([str(path) if word == "FILE" else word for word in command.split()])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("value", ["2026-01-01", "[" * 1000, "9" * 5000, "&a [*a]"])
def test_values_on_the_command_line_are_checked_too(value, tmp_path, capsys):
    for words in (["train", "demo", f"seed={value}"], ["convert", "bvh", ".", "x", "--fps", value]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(RecipeError, match="found a folder, a pipe or a device"):
        load_recipe(tmp_path / "pipe.yaml")
    with pytest.raises(LayoutError, match="found a folder, a pipe or a device"):
        read_layout(tmp_path / "pipe.yaml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "expected JSON"),
        ("[" + "[]," * 3_000_000 + "[]]", "hold 6000002 values"),
        ("9" * 5000, "expected JSON"),
        (b"\xff\xfe\x00", "expected JSON"),
        ('{"a": 1,}', "line 1: expected JSON"),
    ],
)
def test_json_that_is_broken_deep_or_large_is_one_sentence(text, reason):
    with pytest.raises(PlainTextError, match=reason):
        parse_json(text)
