"""Annotation files: each format as its program writes it, back and forth, and what is refused."""

import json
from pathlib import Path

import pytest

from kinegraph.errors import ReadError, UnknownNameError
from kinegraph.readers.annotations import (
    ANNOTATION_FORMATS,
    get_annotation_format,
    read_annotations,
)
from kinegraph.readers.annotations.records import TimedLabel

WALK, SIT = TimedLabel("walk", 0.5, 2.0), TimedLabel("sit, down", 2.25, 4.125)
EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" FORMAT="3.0" VERSION="3.0">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/videos/a%20b.mp4" MIME_TYPE="video/mp4"/>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="500"/>
    <TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="2000"/>
  </TIME_ORDER>
  <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="actions">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
      <ANNOTATION_VALUE>walk</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
</ANNOTATION_DOCUMENT>
"""
BORIS = (
    "Observation id,Media file name,Behavior,Behavior type,Start (s),Stop (s)\n"
    "obs1,videos/a.mp4,walk,STATE,0.5,2.0\n"
    "obs1,videos/a.mp4,jump,POINT,3.0,3.0\n"
    "obs2,,walk,STATE,0.5,2.0\n"
)
VIA_CSV = (
    "# Exported using VGG Image Annotator\n"
    "# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata\n"
    '"1_a","[""a.mp4""]",0,"[0.5,2]","[]","{""1"":""walk""}"\n'
    '"1_b","[""a.mp4""]",0,"[]","[2,1,1,5,5]","{}"\n'
)
VIA_PROJECT = {
    "project": {},
    "attribute": {"1": {"aname": "action", "options": {"0": "walk"}}},
    "file": {"3": {"fid": "3", "fname": "a.mp4"}},
    "view": {"7": {"fid_list": ["3"]}},
    "metadata": {"x": {"vid": "7", "z": [0.5, 2.0], "xy": [], "av": {"1": "0"}}},
}
LABEL_STUDIO = [
    {
        "file_upload": "0123abcd-a.mp4",
        "data": {"video": "/data/upload/0123abcd-a.mp4"},
        "annotations": [
            {"was_cancelled": True, "result": [{"type": "labels", "value": {}}]},
            {
                "result": [
                    {"type": "labels", "value": {"start": 0.5, "end": 2, "labels": ["walk"]}},
                    {"type": "choices", "value": {"choices": ["x"]}},
                    {
                        "type": "timelinelabels",
                        "value": {
                            "ranges": [{"start": 1, "end": 20}],
                            "timelinelabels": ["sit"],
                        },
                    },
                ]
            },
        ],
    }
]


def write(folder: Path, name: str, content: object) -> Path:
    """Write a file, as JSON unless it is text."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("name", ANNOTATION_FORMATS)
def test_what_is_written_is_read_again(tmp_path, name):
    format = get_annotation_format(name)
    annotations = {"a b": [WALK, SIT]} if name == "elan" else {"a b": [WALK, SIT], "c": [WALK]}
    path = write(tmp_path, f"labels{format.suffixes[0]}", format.write(annotations))
    assert read_annotations(path) == annotations


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.eaf", EAF, {"a b.mp4": [WALK]}),
        ("x.csv", BORIS, {"videos/a.mp4": [WALK, TimedLabel("jump", 3, None)], "obs2": [WALK]}),
        ("x.csv", VIA_CSV, {"a.mp4": [WALK]}),
        ("x.json", VIA_PROJECT, {"a.mp4": [WALK]}),
        ("x.json", LABEL_STUDIO, {"a.mp4": [WALK, TimedLabel("sit", 0, 20, in_frames=True)]}),
        ("x.csv", "recording;start;end;label\na;0,5;2;walk\nb;;;\n", {"a": [WALK], "b": []}),
        ("x.tsv", "file\taction\tstart_frame\tstop_frame\na\twalk\t5\t20\n",
         {"a": [TimedLabel("walk", 5, 20, in_frames=True)]}),
        ("x.csv", "frame,label\n5,walk\n", {"x": [TimedLabel("walk", 5, None, in_frames=True)]}),
        # both seconds and frames, as kinegraph segment prints them: frames are exact
        ("x.csv", "recording,start,end,label,start_frame,stop_frame\na,,,walk,5,20\n",
         {"a": [TimedLabel("walk", 5, 20, in_frames=True)]}),
    ],
)  # fmt: skip
def test_files_of_other_programs(tmp_path, name, content, expected):
    assert read_annotations(write(tmp_path, name, content)) == expected


def test_a_folder_of_files_is_read_as_one(tmp_path):
    write(tmp_path, "one.eaf", EAF)
    write(tmp_path, "two.csv", "recording,start,end,label\nc,0.5,2,walk\n")
    assert read_annotations(tmp_path) == {"a b.mp4": [WALK], "c": [WALK]}
    write(tmp_path, "three.csv", "recording,start,end,label\nc,0.5,2,walk\n")
    with pytest.raises(ReadError, match="labels of 'c' are in another file too"):
        read_annotations(tmp_path)


BOMB = '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "x">]><ANNOTATION_DOCUMENT/>'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.eaf", BOMB, "has a document type or entities"),
        ("x.eaf", "<a/>", "expected a document of ELAN, got <a>"),
        ("x.eaf", "<a>", "expected XML in UTF-8"),
        ("x.eaf", EAF.replace('TIME_VALUE="500"', ""), "expected two times in milliseconds"),
        ("x.csv", "a,b\n1,2\n", "expected the columns recording, start, end, label"),
        ("x.csv", "recording,start,end,label\na,2,1,walk\n", "x.csv:2: 'walk' ends at 1.0, before"),
        ("x.csv", "recording,start,end,label\na,-1,1,walk\n", "expected the start of 'walk' to be"),
        ("x.csv", "recording,start,end,label\na,one,1,walk\n", "expected a number, got 'one'"),
        ("x.csv", "recording,start,end,label\na,0,1,\n", "expected the name of an action"),
        ("x.csv", "recording,start,end,label\n", "expected labels of a recording, found none"),
        ("x.csv", "recording,start,end,label\na,1e300,,walk\n", "expected the start of 'walk'"),
        ("x.json", {"a": 1}, "not an annotation file of a known format"),
        ("x.json", [{"annotations": [], "data": {}}], "names no file"),
        ("x.json", {**VIA_PROJECT, "view": {}}, "names no file of the project"),
        ("x.json", "[", "expected JSON"),
        ("x.bin", "", "not an annotation file of a known format"),
        ("x.csv", VIA_CSV.replace('"[0.5,2]"', '"["'), "expected the columns metadata_id"),
        ("x.csv", BORIS.replace("obs2,,", "obs2,"), "x.csv:4: expected 6 cells, got 5"),
    ],
)
def test_bad_files_are_refused_with_the_place(tmp_path, name, content, message):
    with pytest.raises(ReadError, match=message):
        read_annotations(write(tmp_path, name, content))


def test_an_unknown_format_is_refused():
    with pytest.raises(UnknownNameError, match=r"unknown annotation format 'elam' .did you mean"):
        get_annotation_format("elam")
    with pytest.raises(ReadError, match="holds one recording, got 2"):
        get_annotation_format("elan").write({"a": [], "b": []})
