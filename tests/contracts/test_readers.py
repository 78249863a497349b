"""Every unit of a source is a stored clip or a refusal, whatever the reader and the damage."""

from __future__ import annotations

import re

import pytest

from kinegraph.cli import main
from kinegraph.readers import READERS
from kinegraph.readers.convert import convert
from reader_samples import ONE_FILE_EACH, OPTIONS, PACKAGES, SOURCES, UNITS, has_package


def test_every_reader_has_a_source():
    """The files of SLEAP and NWB are read by a package that is not tested here."""
    assert set(READERS) - set(SOURCES) == {"sleap", "nwb"}


@pytest.fixture(params=SOURCES)
def reader(request) -> str:
    if not has_package(request.param):
        pytest.skip(f"PACKAGE ABSENT: {PACKAGES[request.param]}")
    return request.param


@pytest.mark.parametrize("bad", [False, True])
def test_units_are_stored_or_refused(bad, reader, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    SOURCES[reader](source, bad)
    options = OPTIONS.get(reader, {})
    done = convert(READERS[reader], source, tmp_path / "a.arrow", options=options, workers=1)
    assert (done.stored, len(done.refused)) == (UNITS - bad, int(bad)), done.refused
    assert all(reason and len(reason.splitlines()) == 1 for _, reason in done.refused)


@pytest.mark.parametrize("content", [b"", bytes(99), b"null", b"[[[[", b"PK\x05\x06"])
def test_a_file_of_any_other_content_is_a_refusal(content, reader, tmp_path):
    if SOURCES[reader] not in ONE_FILE_EACH:
        return  # its units are not files
    source = tmp_path / "source"
    source.mkdir()
    SOURCES[reader](source, False)
    sorted(path for path in source.rglob("*") if path.is_file())[-1].write_bytes(content)
    options = OPTIONS.get(reader, {})
    done = convert(READERS[reader], source, tmp_path / "a.arrow", options=options, workers=1)
    assert (done.stored, len(done.refused)) == (UNITS - 1, 1), done.refused


@pytest.mark.parametrize("refused", [0, 1])
def test_convert_warns_in_its_last_line_if_more_than_a_tenth_is_refused(refused, tmp_path, capsys):
    source = tmp_path / "source"
    source.mkdir()
    SOURCES["pyskl"](source, bool(refused))
    with pytest.raises(SystemExit) as end:
        main(["convert", "pyskl", str(source), str(tmp_path / "a.arrow")])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert re.search(rf"{UNITS - refused} clips, .*; {refused} refused", out)
    last = out.splitlines()[-1]
    warning = f"WARNING: 1 of {UNITS} clips and files were REFUSED; only {UNITS - 1} clips are in"
    assert last.startswith(warning) == bool(refused)
