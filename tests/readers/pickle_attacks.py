"""Pickles that try to take much memory or time, or to end the process, and are small themselves."""

from __future__ import annotations

import struct
from collections.abc import Iterator

RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"


def attacks(size: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and pickles of about ``size`` bytes."""
    empty = {"lists": b"]", "dicts": b"}", "sets": b"\x8f", "frozensets": b"(\x91"}
    for name, code in empty.items():
        yield f"empty {name}", b"(" + code * (size // len(code)) + b"l."
    yield "marks", b"(" * size + b"N."
    yield "nothings", b"(" + b"N" * size + b"l."
    yield "tuples of one", b"(" + b"N\x85" * (size // 2) + b"l."
    yield "copies on the stack", b"N" + b"2" * size + b"."
    yield "memo", b"N" + b"\x94" * size + b"."
    yield "far memo", b"Nr" + struct.pack("<I", size * 100) + b"."
    yield "floats", b"(" + (b"G" + struct.pack(">d", 0.1)) * (size // 9) + b"l."
    yield "integers", b"(" + b"J\xff\xff\xff\x7f" * (size // 5) + b"l."
    yield "short texts", b"(" + b"\x8c\x02ab" * (size // 4) + b"l."
    yield "short bytes", b"(" + b"C\x02ab" * (size // 4) + b"l."
    wide = "\U0001f600" + "a" * (size - 10)
    yield "a wide text", b"X" + struct.pack("<I", len(wide.encode())) + wide.encode() + b"."
    yield "a text of Python 2", b"T" + struct.pack("<i", size) + b"\xff" * size + b"."
    yield "a text of escapes", b"V" + b"\\u1234" * (size // 6) + b"\n."
    numbers = b"".join(b"J" + struct.pack("<i", i) for i in range(size // 5))
    yield "a large set", b"\x8f(" + numbers + b"\x90."
    entries = b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(size // 6))
    yield "a large dict", b"}(" + entries + b"u."
    equal_hashes = [
        b"\x8a\x0c" + (i * (2**61 - 1)).to_bytes(12, "little") for i in range(size // 15)
    ]
    yield "colliding keys", b"}(" + b"".join(key + b"N" for key in equal_hashes) + b"u."
    yield "colliding items", b"\x8f(" + b"".join(equal_hashes) + b"\x90."
    yield "tuples as keys", b"}(" + b"K\x01K\x02\x86N" * (size // 6) + b"u."
    yield "a nested tuple as a key", b"}N" + b"\x85" * size + b"Ns."
    yield "a nested tuple in a set", b"\x8f(N" + b"\x85" * size + b"\x90."
    yield "a nested tuple in a frozenset", b"(N" + b"\x85" * size + b"\x91."
    yield "a nested tuple", b"N" + b"\x85" * size + b"."
    yield "nested lists", b"]" * (size // 2) + b"a" * (size // 2 - 1) + b"."
    yield "nested dicts", b"}" + b"K\x01}" * (size // 4) + b"s" * (size // 4) + b"."
    yield "a list of itself", b"]\x94(" + b"h\x00" * 40 + b"e."
    shared = b"(" + b"N" * 1000 + b"l\x940" + b"(" + b"h\x00" * (size // 2) + b"l."
    yield "a shared list", shared
    levels = b"".join(b"(" + bytes([ord("h"), i]) * 10 + b"l\x940" for i in range(25))
    yield "lists of lists of one list", b"(Nl\x940" + levels + b"h\x19."
    yield "a long integer", b"\x8b" + struct.pack("<i", size) + b"\x7f" * size + b"."
    yield "a long integer as text", b"L" + b"7" * 60_000 + b"L\n."
    yield (
        "a list made of a tuple",
        b"c__builtin__\nlist\n\x94("
        + b"N" * (size // 2)
        + b"t\x94"
        + (b"h\x00h\x01\x85R0" * 200)
        + b"N.",
    )
    yield "arrays without end", (RECONSTRUCT + b"\x940" + b"h\x00(NNNtR" * (size // 9)) + b"."
