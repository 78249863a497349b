"""Annotations as .eaf files of ELAN: one recording, the aligned annotations of all its tiers."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import unquote
from xml.etree import ElementTree

from kinegraph.errors import ReadError
from kinegraph.readers.annotations.records import AnnotationFormat, Annotations, check_label
from kinegraph.readers.formats.raw_file import read_bytes

_TIER = "actions"  # of written files


def _read(path: Path) -> Annotations:
    root = _parse_xml(path)
    if root.tag != "ANNOTATION_DOCUMENT":
        raise ReadError(f"{path}: expected a document of ELAN, got <{root.tag[:40]}>")
    times = {
        slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iterfind(".//TIME_SLOT")
    }
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    url = "" if media is None else media.get("MEDIA_URL") or ""
    name = PurePosixPath(unquote(url)).name or path.stem
    labels = []
    for annotation in root.iterfind("TIER/ANNOTATION/ALIGNABLE_ANNOTATION"):
        where = f"{path}: annotation {(annotation.get('ANNOTATION_ID') or '')[:20]}"
        ends = [times.get(annotation.get(key)) for key in ("TIME_SLOT_REF1", "TIME_SLOT_REF2")]
        if not all(text and text.isascii() and text.isdigit() for text in ends):
            raise ReadError(f"{where}: expected two times in milliseconds, got {ends}")
        start, end = (int(str(text)[:15]) / 1000 for text in ends)
        labels.append(check_label(annotation.findtext("ANNOTATION_VALUE"), start, end, where))
    return {name: sorted(labels, key=lambda one: one.start)}


def _parse_xml(path: Path) -> ElementTree.Element:
    """Return the root of an XML file; a document type, which may define entities, is refused."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ReadError(f"{path}: has a document type or entities, which ELAN does not write")
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, UnicodeDecodeError, ValueError) as error:
        raise ReadError(f"{path}: expected XML in UTF-8: {error}") from error


def _write_elan(annotations: Annotations) -> str:
    if len(annotations) != 1:
        raise ReadError(f"an .eaf file holds one recording, got {len(annotations)}")
    ((name, labels),) = annotations.items()
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {"AUTHOR": "", "DATE": "1970-01-01T00:00:00+00:00", "FORMAT": "3.0", "VERSION": "3.0"},
    )
    header = ElementTree.SubElement(
        root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"}
    )
    media = {"MEDIA_URL": name, "MIME_TYPE": "unknown"}
    ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", media)
    order = ElementTree.SubElement(root, "TIME_ORDER")
    tier = ElementTree.SubElement(
        root, "TIER", {"LINGUISTIC_TYPE_REF": "default-lt", "TIER_ID": _TIER}
    )
    for number, one in enumerate(labels):
        slots = [f"ts{2 * number + 1}", f"ts{2 * number + 2}"]
        for slot, time in zip(slots, (one.start, one.end), strict=True):
            value = {"TIME_SLOT_ID": slot, "TIME_VALUE": str(round(1000 * (time or 0.0)))}
            ElementTree.SubElement(order, "TIME_SLOT", value)
        aligned = ElementTree.SubElement(
            ElementTree.SubElement(tier, "ANNOTATION"),
            "ALIGNABLE_ANNOTATION",
            {"ANNOTATION_ID": f"a{number + 1}", "TIME_SLOT_REF1": slots[0],
             "TIME_SLOT_REF2": slots[1]},
        )  # fmt: skip
        ElementTree.SubElement(aligned, "ANNOTATION_VALUE").text = one.label
    kind = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default-lt",
            "TIME_ALIGNABLE": "true"}  # fmt: skip
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", kind)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


ELAN_FORMAT = AnnotationFormat(
    name="elan",
    summary="a file of ELAN, for one recording",
    suffixes=(".eaf",),
    matches=lambda path: True,
    read=_read,
    write=_write_elan,
)
