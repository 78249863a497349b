"""Fast parser of `.skeleton` files: returns the joints only, by array operations on the bytes.

A file of the usual form is never split into words: one pass over the bytes checks that all words
are plain decimal numbers and finds where they begin, then eight digits at a time become a value.
Files with anything unusual, such as a NaN or a damaged line, are left to `read_skeleton`, which
reads them or reports what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.readers.formats.raw_file import read_bytes
from kinegraph.readers.ntu.skeleton_file import (
    BODY_FIELDS,
    JOINT_FIELDS,
    MAX_SKELETON_FRAMES,
    NUM_JOINTS,
    BodyDetections,
    read_skeleton,
)

Flags = NDArray[np.bool_]
ByteOffsets = NDArray[np.int64]
Values = NDArray[np.float64]

#: Bytes checked together: arrays of this size fit into the cache, and the allocator reuses them.
BLOCK_BYTES = 1 << 16

_SPACE, _NEWLINE, _RETURN, _MINUS, _DOT, _ZERO = b" \n\r-.0"
_BODY_LINE_COUNTS = bytes([1 + len(BODY_FIELDS), 1, *[len(JOINT_FIELDS)] * NUM_JOINTS])
"""The count of numbers in each line of a body."""
_JOINT_COUNT = str(NUM_JOINTS).encode()
_COUNT_DIGITS = len(str(MAX_SKELETON_FRAMES))

# a fraction of up to eight digits, its first in the lowest byte of a little-endian word
_WORD_DIGITS = 8
_DIGIT_MASKS = np.array([(1 << 8 * n) - 1 for n in range(_WORD_DIGITS + 1)], np.uint64)
_LETTER_BITS = 0x4040404040404040
_DIGIT_VALUES = 0x0F0F0F0F0F0F0F0F
_JOIN_STEPS = (
    (10 * 2**8 + 1, 8, 0x00FF00FF00FF00FF),  # adjacent digits to pairs
    (100 * 2**16 + 1, 16, 0x0000FFFF0000FFFF),  # pairs to fours
    (10_000 * 2**32 + 1, 32, 0x00000000FFFFFFFF),  # fours to eight
)
_FRACTION_SCALE = 10.0**_WORD_DIGITS


class _UnusualError(Exception):
    """The text does not have the usual form: it is damaged, or from another program."""


def read_joints(path: Path) -> BodyDetections:
    """Return the joints of a `.skeleton` file, body by body.

    They are equal to `read_skeleton(path).detections`, to the last bit.

    Raises:
        ReadError: as `read_skeleton` does.
    """
    content = read_bytes(path)
    try:
        return _parse_usual(content)
    except _UnusualError:
        return read_skeleton(path, content).detections


def _parse_usual(content: bytes) -> BodyDetections:
    first = content.find(b"\n")
    if not 0 <= first < len(content) - 1 or not content.endswith(b"\n"):
        raise _UnusualError
    fields, bounds = _find_lines(content, first)
    is_joint = fields == len(JOINT_FIELDS)
    words = [content[:first].rstrip(), *_slice_tokens(content, *bounds[:2, ~is_joint])]
    num_frames, frames, ids, expected = _walk_counts(words)
    if not np.array_equal(fields, np.frombuffer(expected, np.uint8)):
        raise _UnusualError
    joints = _parse_joint_values(content, bounds[:-1, is_joint] + 1, bounds[1:, is_joint])
    joints = joints.T.reshape(-1, NUM_JOINTS, 3)
    return BodyDetections(num_frames, np.array(frames, np.int64), ids, joints)


def _slice_tokens(content: bytes, before: ByteOffsets, ends: ByteOffsets) -> list[bytes]:
    places = zip((before + 1).tolist(), ends.tolist(), strict=True)
    return [content[begin:end].rstrip() for begin, end in places]


def _find_lines(content: bytes, first: int) -> tuple[ByteOffsets, ByteOffsets]:
    """Return the count of numbers of each line after the first, and the places of the first three.

    Returns:
        (L,) counts, and (4, L): the place before the first number, and after each of the three;
        without meaning for the second and third number of lines that have fewer.
    """
    # exponents are rare: their words are checked one by one and overwritten with digits
    plain = _replace_exponents(content) if b"E" in content else content
    text = np.frombuffer(plain, np.uint8)
    blocks = [
        (begin, _find_lines_in_block(text[begin:end])) for begin, end in _cut_blocks(content, first)
    ]
    fields = np.concatenate([fields for _, (fields, _) in blocks])
    return fields, np.concatenate([bounds + begin for begin, (_, bounds) in blocks], axis=1)


def _cut_blocks(content: bytes, begin: int) -> Iterator[tuple[int, int]]:
    """Yield blocks of whole lines, each with the line end before it."""
    while begin < len(content) - 1:
        end = content.rfind(b"\n", begin + 1, begin + BLOCK_BYTES)
        if end < 0:
            raise _UnusualError  # a line longer than a block
        yield begin, end + 1
        begin = end


def _replace_exponents(content: bytes) -> bytearray:
    """Return the content with digits in place of exponents, after checking each such number."""
    plain = bytearray(content)
    place = content.find(b"E")
    while place >= 0:
        line = content.rfind(b"\n", 0, place) + 1
        begin = max(content.rfind(b" ", line, place) + 1, line)
        _parse_float(content[begin : content.find(b"\n", place)].split()[0])
        if content[place + 1] != _MINUS:
            raise _UnusualError
        plain[place : place + 2] = b"00"
        place = content.find(b"E", place + 2)
    return plain


def _find_lines_in_block(text: NDArray[np.uint8]) -> tuple[ByteOffsets, ByteOffsets]:
    others = np.flatnonzero(text - _ZERO > 9)
    kinds = text[others]
    separates = (kinds == _SPACE) | (kinds == _NEWLINE)
    _check_neighbors(kinds, separates, others[1:] - others[:-1] == 1)
    separators = np.flatnonzero(separates)
    newlines = np.flatnonzero(kinds[separators] == _NEWLINE)
    words = np.minimum(newlines[:-1] + np.arange(4)[:, None], len(separators) - 1)
    return newlines[1:] - newlines[:-1], others[separators[words]]


def _check_neighbors(kinds: NDArray[np.uint8], separates: Flags, adjacent: Flags) -> None:
    """Raise _UnusualError unless all words are decimal numbers, judged by the other bytes.

    A minus follows a separator, a dot has a digit before and after it, and no word has two dots.
    Only "\\r\\n" and a separator with its minus are adjacent.
    """
    minus, dot, ret = kinds == _MINUS, kinds == _DOT, kinds == _RETURN
    signed = separates[:-1] & minus[1:]
    ended = ret[:-1] & (kinds[1:] == _NEWLINE)
    known = np.count_nonzero(separates) + np.count_nonzero(dot)
    usual = (
        known + np.count_nonzero(signed) + np.count_nonzero(ended) == len(kinds)
        and np.array_equal(adjacent, signed | ended)
        and not (dot[:-1] & dot[1:]).any()
        and np.count_nonzero(ended) in (0, np.count_nonzero(kinds == _NEWLINE) - 1)
    )
    if not usual:
        raise _UnusualError


def _walk_counts(words: Sequence[bytes]) -> tuple[int, list[int], list[str], bytes]:
    """Interpret the first words of all lines except the joints' lines.

    Returns:
        T; frame and id of each body; the expected count of numbers of each line after the first.
    """
    if not b"".join(words).isdigit():
        raise _UnusualError
    frames: list[int] = []
    ids: list[str] = []
    fields = bytearray()
    rest = iter(words)
    num_frames = _parse_count(rest, MAX_SKELETON_FRAMES)
    for t in range(num_frames):
        bodies = _parse_count(rest, len(words))
        for _ in range(bodies):
            ids.append(next(rest, b"").decode())
            if next(rest, b"") != _JOINT_COUNT:
                raise _UnusualError
        frames += [t] * bodies
        fields += b"\x01" + _BODY_LINE_COUNTS * bodies
    if next(rest, None) is not None:
        raise _UnusualError
    return num_frames, frames, ids, bytes(fields)


def _parse_count(rest: Iterator[bytes], most: int) -> int:
    token = next(rest, b"")
    if not 0 < len(token) <= _COUNT_DIGITS or int(token) > most:
        raise _UnusualError
    return int(token)


def _parse_joint_values(content: bytes, begins: ByteOffsets, ends: ByteOffsets) -> Values:
    """Return the values of words d.dddddddd, eight digits at a time; of others word by word."""
    text = np.frombuffer(content, np.uint8)
    negative = text[begins] == _MINUS
    dots = begins + negative + 1
    digits = ends - dots - 1
    usual = (text[dots] == _DOT) & (digits <= _WORD_DIGITS)
    digits[~usual] = 0
    every = np.ndarray(max(0, len(text) - 7), "<u8", text, strides=(1,))
    words = every[dots + 1] & _DIGIT_MASKS[digits]
    usual &= words & _LETTER_BITS == 0
    # both parts are whole numbers below 2^53, so one division rounds as reading text does
    values = ((text[dots - 1] - _ZERO) * _FRACTION_SCALE + _join_digits(words)) / _FRACTION_SCALE
    np.negative(values, out=values, where=negative)
    odd = _slice_tokens(content, begins[~usual] - 1, ends[~usual])
    values[~usual] = [_parse_float(token) for token in odd]
    return values


def _join_digits(words: NDArray[Any]) -> NDArray[Any]:
    """Return the whole numbers of texts of eight digits; an absent digit counts as 0."""
    words = words & _DIGIT_VALUES
    for factor, shift, kept in _JOIN_STEPS:
        words = (words * factor >> shift) & kept
    return words


def _parse_float(token: bytes) -> float:
    try:
        return float(token)
    except ValueError as error:
        raise _UnusualError from error
