"""A reader of pickles that runs no code from them: a stack machine that creates plain values, and placeholders for everything else.

Python's own unpickler imports and calls what a file names, and allocates memory for a size that a file claims (`LONG_BINPUT`,
`BINBYTES8`). Here a class or function is only a name, unless `builders` has a function for it, and every size is checked against
the bytes in the file. Format: the standard library's `pickletools`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from struct import Struct, error
from typing import Any, TypeAlias

from tui_gru.interop.errors import ModelFileError


class DamagedPickleError(ModelFileError):
    """The pickle ends too early, or its operations do not fit together."""

    def __init__(self) -> None:
        super().__init__("the pickle in it is damaged; get the file again")


@dataclass(frozen=True)
class PickledName:
    """A class or function that the pickle names, as "module.name"."""

    name: str


@dataclass(eq=False)
class Unknown:
    """An object of an unknown class, with the arguments and the state that the pickle gives it. No code of the class is run."""

    of: str
    parts: list[Any] = field(default_factory=list)


#: For the name of a class or function, a function that computes the result of calling it. It may raise any error for invalid
#: arguments.
Builders: TypeAlias = Mapping[str, Callable[..., Any]]

MARK = object()
PLAIN_KEYS = (str, int, float, bool, bytes, type(None))
DAMAGE = (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, error)


class PickleReader:
    """Reads one pickle. `persistent` returns the value of a persistent id."""

    def __init__(self, data: bytes, builders: Builders, persistent: Callable[[Any], Any]) -> None:
        self.data, self.at = data, 0
        self.builders, self.persistent = builders, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def value(self) -> Any:
        """Run the pickle and return its value. Raises `ModelFileError`. Time and memory are limited by the size of the pickle."""
        data = self.data
        try:
            while (code := data[self.at]) != STOP:
                self.at += 1
                OPERATIONS[code](self)
            return self.stack.pop()
        except DAMAGE as problem:
            if isinstance(problem, ModelFileError):
                raise
            raise DamagedPickleError from None

    def take(self, size: int) -> bytes:
        """Consume and return the next `size` bytes."""
        end = self.at + size
        if not self.at <= end <= len(self.data):
            raise DamagedPickleError
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def number(self, layout: Struct) -> Any:
        (number,) = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return number

    def line(self, encoding: str = "utf-8") -> str:
        line = self.take(self.data.index(b"\n", self.at) - self.at)
        self.at += 1
        return line.decode(encoding)

    def since_mark(self) -> list[Any]:
        """Pop the topmost mark and the items above it, and return the items."""
        stack = self.stack
        at = len(stack) - 1
        while stack[at] is not MARK:
            at -= 1
            if at < 0:
                raise DamagedPickleError
        items = stack[at + 1 :]
        del stack[at:]
        return items

    def extend(self, items: list[Any]) -> None:
        """Add items to the list or set on top of the stack."""
        target = self.stack[-1]
        (target.parts if isinstance(target, Unknown) else target).extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Add keys and values, which alternate in `items`, to the dictionary on top of the stack."""
        target = self.stack[-1]
        keys = (key if type(key) in PLAIN_KEYS else Unknown("key") for key in items[::2])  # hash() of deep tuples would crash
        pairs = dict(zip(keys, items[1::2], strict=True))
        if isinstance(target, Unknown):
            target.parts.append(pairs)
        elif isinstance(target, dict):
            target.update(pairs)
        else:
            raise DamagedPickleError

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        name = function.name if isinstance(function, PickledName) else type(function).__name__
        build = self.builders.get(name)
        self.stack.append(build(*arguments) if build else Unknown(name, list(arguments)))

    def add_state(self, state: Any) -> None:
        """Set the state of the object on top of the stack: stored for an unknown object, ignored for a dictionary or a tensor."""
        if isinstance(self.stack[-1], Unknown):
            self.stack[-1].parts.append(state)


Operation: TypeAlias = Callable[[PickleReader], Any]


def _constant(value: Any) -> Operation:
    return lambda m: m.stack.append(value)


def _number(layout: str) -> Operation:
    shape = Struct(layout)
    return lambda m: m.stack.append(m.number(shape))


def _text(layout: str) -> Operation:
    shape = Struct(layout)
    return lambda m: m.stack.append(m.take(m.number(shape)).decode("utf-8", "surrogatepass"))


def _bytes(layout: str, old_text: bool = False) -> Operation:
    shape = Struct(layout)
    if old_text:  # a str of Python 2
        return lambda m: m.stack.append(m.take(m.number(shape)).decode("latin-1"))
    return lambda m: m.stack.append(m.take(m.number(shape)))


def _long(layout: str) -> Operation:
    shape = Struct(layout)
    return lambda m: m.stack.append(int.from_bytes(m.take(m.number(shape)), "little", signed=True))


def _put(layout: str) -> Operation:
    shape = Struct(layout)
    return lambda m: m.memo.__setitem__(m.number(shape), m.stack[-1])


def _get(layout: str) -> Operation:
    shape = Struct(layout)
    return lambda m: m.stack.append(m.memo[m.number(shape)])


def _tuple(count: int) -> Operation:
    def make(m: PickleReader) -> None:
        items = tuple(m.stack[-count:])
        if len(items) < count:
            raise DamagedPickleError
        m.stack[-count:] = [items]

    return make


def _integer(m: PickleReader) -> None:
    line = m.line()
    m.stack.append({"00": False, "01": True}.get(line) if line in ("00", "01") else int(line.removesuffix("L")))


def _dict(m: PickleReader) -> None:
    items = m.since_mark()
    m.stack.append({})
    m.set_items(items)


def _stack_global(m: PickleReader) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    m.stack.append(PickledName(f"{module}.{name}"))


def _call_with_keywords(m: PickleReader) -> None:
    keywords = m.stack.pop()
    m.call()
    m.add_state(keywords)


def _old_instance(m: PickleReader) -> None:
    of, *parts = m.since_mark()
    m.stack.append(Unknown(of.name, parts))


#: The operations, by the byte that encodes them and the name that `pickletools` gives them.
NAMED_OPERATIONS: dict[str, Operation] = {
    "\x80 PROTO": lambda m: m.take(1),
    "\x95 FRAME": lambda m: m.take(8),
    "( MARK": _constant(MARK),
    "0 POP": lambda m: m.stack.pop(),
    "1 POP_MARK": PickleReader.since_mark,
    "2 DUP": lambda m: m.stack.append(m.stack[-1]),
    "N NONE": _constant(None),
    "\x88 NEWTRUE": _constant(True),
    "\x89 NEWFALSE": _constant(False),
    "J BININT": _number("<i"),
    "K BININT1": _number("<B"),
    "M BININT2": _number("<H"),
    "G BINFLOAT": _number(">d"),
    "\x8a LONG1": _long("<B"),
    "\x8b LONG4": _long("<i"),
    "I INT": _integer,
    "L LONG": _integer,
    "F FLOAT": lambda m: m.stack.append(float(m.line())),
    "X BINUNICODE": _text("<I"),
    "\x8c SHORT_BINUNICODE": _text("<B"),
    "\x8d BINUNICODE8": _text("<Q"),
    "V UNICODE": lambda m: m.stack.append(m.line("raw-unicode-escape")),
    "B BINBYTES": _bytes("<I"),
    "C SHORT_BINBYTES": _bytes("<B"),
    "\x8e BINBYTES8": _bytes("<Q"),
    "\x96 BYTEARRAY8": _bytes("<Q"),
    "T BINSTRING": _bytes("<i", old_text=True),
    "U SHORT_BINSTRING": _bytes("<B", old_text=True),
    "S STRING": lambda m: m.stack.append(m.line("latin-1")[1:-1]),
    ") EMPTY_TUPLE": _constant(()),
    "\x85 TUPLE1": _tuple(1),
    "\x86 TUPLE2": _tuple(2),
    "\x87 TUPLE3": _tuple(3),
    "t TUPLE": lambda m: m.stack.append(tuple(m.since_mark())),
    "] EMPTY_LIST": lambda m: m.stack.append([]),
    "l LIST": lambda m: m.stack.append(m.since_mark()),
    "a APPEND": lambda m: m.extend([m.stack.pop()]),
    "e APPENDS": lambda m: m.extend(m.since_mark()),
    "\x8f EMPTY_SET": lambda m: m.stack.append(Unknown("builtins.set")),
    "\x90 ADDITEMS": lambda m: m.extend(m.since_mark()),
    "\x91 FROZENSET": lambda m: m.stack.append(Unknown("builtins.frozenset", m.since_mark())),
    "} EMPTY_DICT": lambda m: m.stack.append({}),
    "d DICT": _dict,
    "s SETITEM": lambda m: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    "u SETITEMS": lambda m: m.set_items(m.since_mark()),
    "c GLOBAL": lambda m: m.stack.append(PickledName(f"{m.line()}.{m.line()}")),
    "\x93 STACK_GLOBAL": _stack_global,
    "R REDUCE": PickleReader.call,
    "\x81 NEWOBJ": PickleReader.call,  # class.__new__(class, *arguments)
    "\x92 NEWOBJ_EX": _call_with_keywords,
    "i INST": lambda m: m.stack.append(Unknown(f"{m.line()}.{m.line()}", m.since_mark())),
    "o OBJ": _old_instance,
    "b BUILD": lambda m: m.add_state(m.stack.pop()),
    "Q BINPERSID": lambda m: m.stack.append(m.persistent(m.stack.pop())),
    "\x94 MEMOIZE": lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    "q BINPUT": _put("<B"),
    "r LONG_BINPUT": _put("<I"),
    "p PUT": lambda m: m.memo.__setitem__(int(m.line()), m.stack[-1]),
    "h BINGET": _get("<B"),
    "j LONG_BINGET": _get("<I"),
    "g GET": lambda m: m.stack.append(m.memo[int(m.line())]),
}
OPERATIONS = {ord(key[0]): operation for key, operation in NAMED_OPERATIONS.items()}
STOP = ord(".")
