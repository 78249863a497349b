"""Finds the joints of a `.skeleton` file at the speed of array operations.

A file of the usual form is never cut into words: a sweep over the bytes checks that all are plain
decimal numbers and finds where those of a line begin, and eight digits at a time become a value.
Whatever is unusual, from a NaN to a damaged line, is left to the careful parser of `ntu_format`,
which reads it or says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.readers.ntu.skeleton_file import (
    BODY_FIELDS,
    JOINT_FIELDS,
    MAX_FRAMES,
    NUM_JOINTS,
    BodyDetections,
    parse_skeleton,
    read_bytes,
)

Flags = NDArray[np.bool_]
Places = NDArray[np.int64]
Values = NDArray[np.float64]

#: Bytes swept together: arrays of this size stay in the cache, and the allocator keeps them.
BLOCK = 1 << 16

_SPACE, _NEWLINE, _RETURN, _MINUS, _DOT, _ZERO = b" \n\r-.0"
_BODY = bytes([1 + len(BODY_FIELDS), 1, *[len(JOINT_FIELDS)] * NUM_JOINTS])
"""Numbers in each line of a body."""
_JOINTS = str(NUM_JOINTS).encode()
_COUNT_DIGITS = len(str(MAX_FRAMES))

# a fraction of up to eight digits, its first in the lowest byte of a little-endian word
_DIGITS = 8
_KEPT = np.array([(1 << 8 * n) - 1 for n in range(_DIGITS + 1)], np.uint64)
_LETTERS = 0x4040404040404040
_DIGIT_VALUES = 0x0F0F0F0F0F0F0F0F
_JOINS = (
    (10 * 2**8 + 1, 8, 0x00FF00FF00FF00FF),  # neighbouring digits to pairs
    (100 * 2**16 + 1, 16, 0x0000FFFF0000FFFF),  # pairs to fours
    (10_000 * 2**32 + 1, 32, 0x00000000FFFFFFFF),  # fours to eight
)
_SCALE = 10.0**_DIGITS


class _UnusualError(Exception):
    """The text is not of the usual form; it may be damaged, or merely written by another hand."""


def read_joints(path: Path | str) -> BodyDetections:
    """The joints of a `.skeleton` file, body by body.

    They are those of `read_skeleton(path).detections`, to the last bit.

    Raises:
        ReadError: as `read_skeleton` does.
    """
    path = Path(path)
    content = read_bytes(path)
    try:
        return _usual_sightings(content)
    except _UnusualError:
        return parse_skeleton(path, content).detections


def _usual_sightings(content: bytes) -> BodyDetections:
    first = content.find(b"\n")
    if not 0 <= first < len(content) - 1 or not content.endswith(b"\n"):
        raise _UnusualError
    fields, bounds = _lines(content, first)
    is_joint = fields == len(JOINT_FIELDS)
    words = [content[:first].rstrip(), *_tokens(content, *bounds[:2, ~is_joint])]
    num_frames, frames, ids, expected = _walk(words)
    if not np.array_equal(fields, np.frombuffer(expected, np.uint8)):
        raise _UnusualError
    joints = _values(content, bounds[:-1, is_joint] + 1, bounds[1:, is_joint])
    joints = joints.T.reshape(-1, NUM_JOINTS, 3)
    return BodyDetections(num_frames, np.array(frames, np.int64), ids, joints)


def _tokens(content: bytes, before: Places, ends: Places) -> list[bytes]:
    places = zip((before + 1).tolist(), ends.tolist(), strict=True)
    return [content[begin:end].rstrip() for begin, end in places]


# --------------------------------------------------------------------- where the numbers are


def _lines(content: bytes, first: int) -> tuple[Places, Places]:
    """Per line after the first, how many numbers it has, and where the first three of them are.

    Returns:
        (L,), and (4, L): the place before the first number, and after each; meaningless for the
        second and third of lines that have fewer.
    """
    # exponents are rare: digits take their place, and their words are looked at one by one
    plain = _without_exponents(content) if b"E" in content else content
    text = np.frombuffer(plain, np.uint8)
    blocks = [(begin, _lines_of_block(text[begin:end])) for begin, end in _cuts(content, first)]
    fields = np.concatenate([fields for _, (fields, _) in blocks])
    return fields, np.concatenate([bounds + begin for begin, (_, bounds) in blocks], axis=1)


def _cuts(content: bytes, begin: int) -> Iterator[tuple[int, int]]:
    """Blocks of whole lines, each with the line end before it."""
    while begin < len(content) - 1:
        end = content.rfind(b"\n", begin + 1, begin + BLOCK)
        if end < 0:
            raise _UnusualError  # a line longer than a block
        yield begin, end + 1
        begin = end


def _without_exponents(content: bytes) -> bytearray:
    """Every number like 7.2E-05 checked by itself, and digits in the place of its letter."""
    plain = bytearray(content)
    place = content.find(b"E")
    while place >= 0:
        line = content.rfind(b"\n", 0, place) + 1
        begin = max(content.rfind(b" ", line, place) + 1, line)
        _number(content[begin : content.find(b"\n", place)].split()[0])
        if content[place + 1] != _MINUS:
            raise _UnusualError
        plain[place : place + 2] = b"00"
        place = content.find(b"E", place + 2)
    return plain


def _lines_of_block(text: NDArray[np.uint8]) -> tuple[Places, Places]:
    others = np.flatnonzero(text - _ZERO > 9)
    kinds = text[others]
    separates = (kinds == _SPACE) | (kinds == _NEWLINE)
    _check_neighbours(kinds, separates, others[1:] - others[:-1] == 1)
    separators = np.flatnonzero(separates)
    newlines = np.flatnonzero(kinds[separators] == _NEWLINE)
    words = np.minimum(newlines[:-1] + np.arange(4)[:, None], len(separators) - 1)
    return newlines[1:] - newlines[:-1], others[separators[words]]


def _check_neighbours(kinds: NDArray[np.uint8], separates: Flags, adjacent: Flags) -> None:
    """All that the bytes that are no digits say about whether the words are decimal numbers.

    A minus stands right after a separator, a digit right before and after a dot, and no word has
    two dots. Only "\\r\\n" and a separator with its minus are neighbours.
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


# --------------------------------------------------------------------- what the counts say


def _walk(words: Sequence[bytes]) -> tuple[int, list[int], list[str], bytes]:
    """What the first words of all lines but the joints' say.

    Returns:
        T; frame and id of each body; how many numbers every line after the first should have.
    """
    if not b"".join(words).isdigit():
        raise _UnusualError
    frames: list[int] = []
    ids: list[str] = []
    fields = bytearray()
    rest = iter(words)
    num_frames = _count(rest, MAX_FRAMES)
    for t in range(num_frames):
        bodies = _count(rest, len(words))
        for _ in range(bodies):
            ids.append(next(rest, b"").decode())
            if next(rest, b"") != _JOINTS:
                raise _UnusualError
        frames += [t] * bodies
        fields += b"\x01" + _BODY * bodies
    if next(rest, None) is not None:
        raise _UnusualError
    return num_frames, frames, ids, bytes(fields)


def _count(rest: Iterator[bytes], most: int) -> int:
    token = next(rest, b"")
    if not 0 < len(token) <= _COUNT_DIGITS or int(token) > most:
        raise _UnusualError
    return int(token)


# --------------------------------------------------------------------- what the numbers are


def _values(content: bytes, begins: Places, ends: Places) -> Values:
    """d.dddddddd, eight digits at a time; what has another form goes word by word."""
    text = np.frombuffer(content, np.uint8)
    negative = text[begins] == _MINUS
    dots = begins + negative + 1
    digits = ends - dots - 1
    usual = (text[dots] == _DOT) & (digits <= _DIGITS)
    digits[~usual] = 0
    every = np.ndarray(max(0, len(text) - 7), "<u8", text, strides=(1,))
    words = every[dots + 1] & _KEPT[digits]
    usual &= words & _LETTERS == 0
    # both parts are whole numbers below 2^53, so one division rounds as reading text does
    values = ((text[dots - 1] - _ZERO) * _SCALE + _eight_digits(words)) / _SCALE
    np.negative(values, out=values, where=negative)
    odd = _tokens(content, begins[~usual] - 1, ends[~usual])
    values[~usual] = [_number(token) for token in odd]
    return values


def _eight_digits(words: NDArray[Any]) -> NDArray[Any]:
    """The whole numbers that these texts of eight digits say; an absent digit counts as 0."""
    words = words & _DIGIT_VALUES
    for factor, shift, kept in _JOINS:
        words = (words * factor >> shift) & kept
    return words


def _number(token: bytes) -> float:
    try:
        return float(token)
    except ValueError as error:
        raise _UnusualError from error
