"""An interpreter of pickles, which makes plain objects only and counts their memory.

Python's own unpickler cannot be limited: a small file makes it build objects many times its size,
hash tuples nested so deeply that the process dies, or fill dictionaries with integers that collide.
This one counts each object before it makes it, takes only plain values as keys, and leaves the
choice of callables to its caller.
"""

from __future__ import annotations

import codecs
import mmap
import struct
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from kinegraph.errors import ReadError

#: Bytes of objects: of an empty one of each type, of an entry of a dictionary or a set, and of a
#: place on the stack or in a list.
_LIST_BYTES, _DICT_BYTES, _SET_BYTES, _TUPLE_BYTES, _CALL_BYTES = 72, 80, 232, 56, 200
_NUMBER_BYTES, _TEXT_BYTES, _ENTRY_BYTES, _PLACE_BYTES = 32, 64, 110, 9
_CHARGED_INSTRUCTIONS = 4096
_MAX_INTEGER_BYTES = 255
_MAX_KEY = 2**63  # larger integers can be chosen so that all have the same hash
_KEY_TYPES = (str, bytes, int, float, bool, type(None), np.str_, np.integer, np.floating)
_NEWLINE_BYTES = 2**16  # maximum line of a text opcode that is not a string
_MISSING = object()

Find = Callable[[str, str], Callable[..., Any]]
Charge = Callable[[int], None]


class UnfinishedObject:
    """An object that gets its state after it was made; the finished one takes its place."""

    def __init__(self) -> None:
        self.memo_places: list[int] = []

    def finish(self, state: Any) -> Any:
        """Return the finished object."""
        raise NotImplementedError


def refuse(reason: str) -> NoReturn:
    """Refuse the content of a pickle.

    Raises:
        ReadError: always.
    """
    raise ReadError(reason)


class PickleMachine:
    """Runs the instructions of one pickle.

    Args:
        data: the file.
        position: where the pickle begins; after `load`, where it has ended.
        find: returns the callable for a module and a name, or refuses it.
        charge: called with the bytes of each object before it is made; raises ReadError.
        find_persistent: returns the object for a persistent id; None refuses all of them.
    """

    def __init__(
        self,
        data: mmap.mmap | bytes,
        position: int,
        find: Find,
        charge: Charge,
        find_persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self._data, self.position, self._size = data, position, len(data)
        self._find, self._charge, self._find_persistent = find, charge, find_persistent
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: list[Any] = []

    def load(self) -> Any:
        """Return the object that the pickle describes.

        Raises:
            ReadError: it ends early, is damaged, or does what is not allowed.
        """
        data, size, instructions = self._data, self._size, _INSTRUCTIONS
        count = 0
        while self.position < size:
            code = data[self.position]
            self.position += 1
            if code == _STOP:
                return self._pop()
            instruction = instructions.get(code)
            if instruction is None:
                self._refuse_code(code)
            instruction(self)
            count += 1
            if count % _CHARGED_INSTRUCTIONS == 0:  # each puts at most one object on the stack
                self._charge(_PLACE_BYTES * _CHARGED_INSTRUCTIONS)
        refuse(f"it ends in the middle (at byte {self.position} of {size})")

    def _refuse_code(self, code: int) -> NoReturn:
        if name := _REFUSED.get(code):
            refuse(f"it uses the instruction {name}, which no pickle of arrays needs")
        refuse(f"byte {self.position - 1} is not a pickle instruction")

    def _take(self, size: int) -> bytes:
        end = self.position + size
        if size < 0 or end > self._size:
            refuse(f"it ends in the middle (at byte {self.position} of {self._size})")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def _take_line(self, max_bytes: int = _NEWLINE_BYTES) -> bytes:
        end = self._data.find(b"\n", self.position, self.position + max_bytes)
        if end < 0:
            refuse(f"it ends in the middle (at byte {self.position} of {self._size})")
        return self._take(end + 1 - self.position)[:-1]

    def _take_sized(self, form: str) -> bytes:
        """Return bytes whose number comes before them."""
        (size,) = struct.unpack(form, self._take(struct.calcsize(form)))
        if self.position + size <= self._size:
            self._charge(_TEXT_BYTES + size)
        return self._take(size)

    def _pop(self) -> Any:
        if not self._stack:
            refuse("it takes an object where there is none: not a pickle of arrays")
        return self._stack.pop()

    def _top(self, *types: type) -> Any:
        top = self._stack[-1] if self._stack else _MISSING
        if type(top) not in types:
            refuse(f"it puts items into a {type(top).__name__}")
        return top

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _mark(self) -> None:
        self._charge(_LIST_BYTES)
        self._marked.append(self._stack)
        self._stack = []

    def _pop_mark(self) -> list[Any]:
        if not self._marked:
            refuse("it takes objects from a mark where there is none")
        self._charge(-_LIST_BYTES)
        items, self._stack = self._stack, self._marked.pop()
        return items

    # constants and numbers

    def _push_number(self, value: Any) -> None:
        self._charge(_NUMBER_BYTES)
        self._push(value)

    def _push_int(self, form: str) -> None:
        self._push_number(struct.unpack(form, self._take(struct.calcsize(form)))[0])

    def _int_line(self) -> None:
        text = self._take_line()
        if text in (b"00", b"01"):
            self._push(text == b"01")
        else:
            self._require_size(len(text))
            self._push_number(int(text.rstrip(b"L")))

    def _long(self, form: str) -> None:
        (size,) = struct.unpack(form, self._take(struct.calcsize(form)))
        self._require_size(size)
        self._push_number(int.from_bytes(self._take(size), "little", signed=True))

    def _require_size(self, size: int) -> None:
        if size > _MAX_INTEGER_BYTES:
            refuse(f"it has an integer of {size} bytes")

    def _float_line(self) -> None:
        self._push_number(float(self._take_line()))

    # texts and bytes

    def _push_text(self, text: str) -> None:
        if not text.isascii():  # up to four bytes for each character
            self._charge(4 * len(text))
        self._push(text)

    def _unicode(self, form: str) -> None:
        self._push_text(self._take_sized(form).decode("utf-8", "surrogatepass"))

    def _unicode_line(self) -> None:
        text = self._take_line(self._size)
        self._charge(_TEXT_BYTES + 2 * len(text))
        self._push_text(text.decode("raw-unicode-escape"))

    def _string_line(self) -> None:
        text = self._take_line(self._size)
        self._charge(_TEXT_BYTES + 2 * len(text))
        if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
            refuse("it has a text without quotes")
        self._push_text(codecs.escape_decode(text[1:-1])[0].decode("latin-1"))

    def _string(self, form: str) -> None:  # of Python 2
        self._push_text(self._take_sized(form).decode("latin-1"))

    def _bytearray(self) -> None:
        self._push(bytearray(self._take_sized("<Q")))

    # containers

    def _make_list(self, items: list[Any]) -> None:
        self._charge(_LIST_BYTES)
        self._push(items)

    def _make_tuple(self, count: int) -> None:
        self._charge(_TUPLE_BYTES)
        if len(self._stack) < count:
            refuse("it makes a tuple of objects that are not there")
        items = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        self._push(items)

    def _make_marked_tuple(self) -> None:
        self._charge(_TUPLE_BYTES)
        self._push(tuple(self._pop_mark()))

    def _make_dict(self, items: list[Any]) -> None:
        self._charge(_DICT_BYTES)
        made: dict[Any, Any] = {}
        self._fill_dict(made, items)
        self._push(made)

    def _fill_dict(self, target: dict[Any, Any], items: list[Any]) -> None:
        if len(items) % 2:
            refuse("it has a key without a value")
        self._charge(_ENTRY_BYTES * (len(items) // 2))
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[check_key(key)] = value

    def _make_set(self, items: list[Any]) -> None:
        self._charge(_SET_BYTES)
        made: set[Any] = set()
        self._fill_set(made, items)
        self._push(made)

    def _fill_set(self, target: set[Any], items: list[Any]) -> None:
        self._charge(_ENTRY_BYTES * len(items))
        target.update(check_key(item) for item in items)

    def _append(self) -> None:
        item = self._pop()
        self._top(list).append(item)

    def _append_marked(self) -> None:
        items = self._pop_mark()
        self._top(list).extend(items)

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._fill_dict(self._top(dict), [key, value])

    def _set_marked_items(self) -> None:
        items = self._pop_mark()
        self._fill_dict(self._top(dict), items)

    def _add_marked(self) -> None:
        items = self._pop_mark()
        self._fill_set(self._top(set), items)

    # memo and stack

    def _put(self, place: int) -> None:
        if not self._stack:
            refuse("it stores an object where there is none")
        missing = place - len(self._memo)
        if missing > 0:
            # a place far beyond the instructions so far only makes the memo large
            if place > self.position:
                refuse("its memo does not count up")
            self._charge(_PLACE_BYTES * missing)
            self._memo.extend([_MISSING] * missing)
        top = self._stack[-1]
        if missing >= 0:
            self._charge(_PLACE_BYTES)
            self._memo.append(top)
        else:
            self._memo[place] = top
        if isinstance(top, UnfinishedObject):
            top.memo_places.append(place)

    def _memoize(self) -> None:
        self._put(len(self._memo))

    def _put_sized(self, form: str) -> None:
        self._put(struct.unpack(form, self._take(struct.calcsize(form)))[0])

    def _get(self, place: int) -> None:
        found = self._memo[place] if 0 <= place < len(self._memo) else _MISSING
        if found is _MISSING:
            refuse("it refers to an object that it did not store")
        self._push(found)

    def _get_sized(self, form: str) -> None:
        self._get(struct.unpack(form, self._take(struct.calcsize(form)))[0])

    def _drop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _duplicate(self) -> None:
        value = self._pop()
        self._push(value)
        self._push(value)

    # calls

    def _global_lines(self) -> None:
        module, name = self._take_line(), self._take_line()
        self._push(self._find(module.decode(), name.decode()))

    def _global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            refuse("it names what is not a text")
        self._push(self._find(module, name))

    def _call(self) -> None:
        arguments, function = self._pop(), self._pop()
        if type(arguments) is not tuple or not callable(function):
            refuse("it calls what is not a function")
        self._charge(_CALL_BYTES)
        self._push(function(*arguments))

    def _build(self) -> None:
        state, unfinished = self._pop(), self._pop()
        if type(unfinished) is dict:  # attributes of an OrderedDict, which are left out
            self._push(unfinished)
            return
        if not isinstance(unfinished, UnfinishedObject):
            refuse(f"it sets the state of a {type(unfinished).__name__}")
        finished = unfinished.finish(state)
        for place in unfinished.memo_places:
            self._memo[place] = finished
        self._push(finished)

    def _persistent(self, key: Any) -> None:
        if self._find_persistent is None:
            refuse("it uses the instruction PERSID, which no pickle of arrays needs")
        self._push(self._find_persistent(key))


def check_key(key: Any) -> Any:
    """Return a key of a dictionary or an item of a set.

    Raises:
        ReadError: it is not a plain value: a tuple may be nested too deeply to be hashed.
    """
    if not isinstance(key, _KEY_TYPES) or (isinstance(key, int) and abs(key) > _MAX_KEY):
        refuse(
            f"it has a key of the type {type(key).__name__}; expected texts and numbers of 64 bits"
        )
    return key


_STOP = ord(".")
_REFUSED = {
    ord("i"): "INST",
    ord("o"): "OBJ",
    0x81: "NEWOBJ",
    0x82: "EXT1",
    0x83: "EXT2",
    0x84: "EXT4",
    0x92: "NEWOBJ_EX",
    0x97: "NEXT_BUFFER",
    0x98: "READONLY_BUFFER",
}
_Machine = PickleMachine
_INSTRUCTIONS: dict[int, Callable[[PickleMachine], None]] = {
    0x80: lambda m: _ignore(m._take(1)),  # PROTO
    0x95: lambda m: _ignore(m._take(8)),  # FRAME
    ord("("): _Machine._mark,
    ord("0"): _Machine._drop,
    ord("1"): lambda m: _ignore(m._pop_mark()),
    ord("2"): _Machine._duplicate,
    ord("N"): lambda m: m._push(None),
    0x88: lambda m: m._push(True),
    0x89: lambda m: m._push(False),
    ord("I"): _Machine._int_line,
    ord("L"): _Machine._int_line,
    ord("J"): lambda m: m._push_int("<i"),
    ord("K"): lambda m: m._push(m._take(1)[0]),
    ord("M"): lambda m: m._push_int("<H"),
    0x8A: lambda m: m._long("<B"),
    0x8B: lambda m: m._long("<i"),
    ord("F"): _Machine._float_line,
    ord("G"): lambda m: m._push_int(">d"),
    ord("V"): _Machine._unicode_line,
    ord("X"): lambda m: m._unicode("<I"),
    0x8C: lambda m: m._unicode("<B"),
    0x8D: lambda m: m._unicode("<Q"),
    ord("S"): _Machine._string_line,
    ord("T"): lambda m: m._string("<i"),
    ord("U"): lambda m: m._string("<B"),
    ord("B"): lambda m: m._push(m._take_sized("<I")),
    ord("C"): lambda m: m._push(m._take_sized("<B")),
    0x8E: lambda m: m._push(m._take_sized("<Q")),
    0x96: _Machine._bytearray,
    ord("]"): lambda m: m._make_list([]),
    ord("l"): lambda m: m._make_list(m._pop_mark()),
    ord("a"): _Machine._append,
    ord("e"): _Machine._append_marked,
    ord(")"): lambda m: m._make_tuple(0),
    0x85: lambda m: m._make_tuple(1),
    0x86: lambda m: m._make_tuple(2),
    0x87: lambda m: m._make_tuple(3),
    ord("t"): _Machine._make_marked_tuple,
    ord("}"): lambda m: m._make_dict([]),
    ord("d"): lambda m: m._make_dict(m._pop_mark()),
    ord("s"): _Machine._set_item,
    ord("u"): _Machine._set_marked_items,
    0x8F: lambda m: m._make_set([]),
    0x90: _Machine._add_marked,
    0x91: lambda m: m._make_set(m._pop_mark()),  # FROZENSET
    ord("p"): lambda m: m._put(int(m._take_line())),
    ord("q"): lambda m: m._put_sized("<B"),
    ord("r"): lambda m: m._put_sized("<I"),
    0x94: _Machine._memoize,
    ord("g"): lambda m: m._get(int(m._take_line())),
    ord("h"): lambda m: m._get_sized("<B"),
    ord("j"): lambda m: m._get_sized("<I"),
    ord("c"): _Machine._global_lines,
    0x93: _Machine._global,
    ord("R"): _Machine._call,
    ord("b"): _Machine._build,
    ord("P"): lambda m: m._persistent(m._take_line().decode("latin-1")),
    ord("Q"): lambda m: m._persistent(m._pop()),
}


def _ignore(value: object) -> None:
    """Ignore a value that an instruction takes."""
