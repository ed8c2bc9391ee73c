"""Reads checkpoints of PyTorch without running their code."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from struct import Struct, error
from typing import Any, TypeAlias

import numpy as np

from tui_gru.errors import ModelFileError, printable
from tui_gru.files.arrays import (
    ITEM_SIZE,
    AnyArray,
    ByteOrder,
    FileFormat,
    FileLayers,
    Member,
    OpenedFile,
    Tensor,
    checked_shape,
    decode,
)
from tui_gru.files.matching import find_by_name

# ------------------------------------------------------------------------------
# A reader of pickles that runs no code from them: a stack machine that creates plain values, and placeholders for everything
# else.
#
# Python's own unpickler imports and calls what a file names, and allocates memory for a size that a file claims (`LONG_BINPUT`,
# `BINBYTES8`). Here a class or function is only a name, unless `builders` has a function for it, and every size is checked
# against the bytes in the file. Format: the standard library's `pickletools`.


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
        data = self.data[self.at : end]
        self.at = end
        return data

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


# ------------------------------------------------------------------------------
# Format of torch.save: a zip file with a pickle of names and tensors, and one file of bytes per storage. No code in the pickle is
# run.


NAME = "torch checkpoint"
PICKLE = "data.pkl"
MOST_PICKLE = 1 << 26
MOST_ENTRIES, MOST_TENSORS, MOST_KEYS = 2_000_000, 100_000, 1000  # MOST_KEYS is in characters
QUANTISED = "quantised"
QUANTISED_CURE = "it is quantised; save and open the model in float that it was made from"
#: The type of the entries, by the class of a storage such as `torch.FloatStorage`.
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "QInt8Storage": "int8",
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
CONTAINERS = (dict, list, tuple, Tensor, Unknown)
SAVE_STATE_DICT = "in the program that made it, write torch.save(model.state_dict(), FILE) and open that"
TOO_MUCH = f"it has more entries than a model can have; {SAVE_STATE_DICT}"


def is_torch_checkpoint(file: OpenedFile) -> bool:
    return any(name.split("/")[1:] == [PICKLE] for name in file.members)


@dataclass(frozen=True)
class Storage:
    """The bytes that tensors are views of."""

    member: Member
    dtype: str


def tensors(file: OpenedFile) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors by name, and a line for each object with tensors that cannot be opened. Raises `ModelFileError`."""
    pickle = next(member for name, member in file.members.items() if name.split("/")[1:] == [PICKLE])
    folder = pickle.name.removesuffix(PICKLE)
    if f"{folder}constants.pkl" in file.members:
        raise ModelFileError(
            "it is TorchScript, which contains a program; run torch.save(torch.jit.load(FILE).state_dict(), NEW) and open that"
        )
    if pickle.size > MOST_PICKLE:
        raise ModelFileError(f"its {PICKLE} has {pickle.size} bytes, more than {MOST_PICKLE}; {SAVE_STATE_DICT}")
    byteorder = file.members.get(f"{folder}byteorder")
    order: ByteOrder = ">" if byteorder and byteorder.size < 16 and byteorder.read() == b"big" else "<"
    machine = PickleReader(pickle.read(), _builders(order), partial(_storage, file, folder))
    return _named(machine.value())


def _storage(file: OpenedFile, folder: str, reference: Any) -> Storage:
    _, kind, key, *_ = reference
    name = kind.name.rpartition(".")[2] if isinstance(kind, PickledName) else ""
    member = file.members.get(f"{folder}data/{key}")
    if member is None:
        raise ModelFileError(f"data/{printable(key, 40)} is not in it; get the file again")
    return Storage(member, STORAGES.get(name, name))


def _tensor(order: ByteOrder, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    return _strided(storage.member, storage.dtype, order, offset, size, stride)


def _tensor_v3(
    order: ByteOrder, storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Tensor:
    """Return a tensor with an untyped storage; the type is an argument."""
    kind = dtype.name.rpartition(".")[2]
    return _strided(storage.member, kind, order, offset, size, stride)


def _strided(member: Member, dtype: str, order: ByteOrder, offset: Any, size: Any, stride: Any) -> Tensor:
    """Return the view with `size` and `stride` (in entries) that begins `offset` entries into the storage. Its entries do not
    overlap."""
    shape, strides, (first,) = checked_shape(size), checked_shape(stride), checked_shape([offset])
    if dtype not in ITEM_SIZE:  # refused when it is read, by its name
        return Tensor(shape, dtype, lambda: decode(b"", dtype, shape, order))
    item = ITEM_SIZE[dtype]
    last = first + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) if math.prod(shape) else first - 1
    if (last + 1) * item > member.size or math.prod(shape) > last + 1 - first:
        raise ModelFileError(f"a tensor reaches beyond {printable(member.name)}; get the file again")

    def read() -> AnyArray:
        count = last + 1 - first
        is_whole_member = count * item == member.size
        data = member.read() if is_whole_member else member.read_span(first * item, count * item)
        flat = decode(data, dtype, (count,), order)
        return np.lib.stride_tricks.as_strided(flat, shape, [step * flat.itemsize for step in strides], writeable=False)

    return Tensor(shape, dtype, read)


def _quantised(order: ByteOrder, storage: Any, offset: Any, size: Any, *_: Any) -> Tensor:
    return _strided(storage.member, f"{QUANTISED} {storage.dtype}", order, offset, size, ())


def _builders(order: ByteOrder) -> Builders:
    """Return replacements for the functions that a checkpoint calls. `order` is the byte order of the storages."""
    made: dict[str, Callable[..., Any]] = {
        "collections.OrderedDict": lambda pairs=(): dict(pairs),
        "torch.Size": tuple,
        "torch._utils._rebuild_tensor": partial(_tensor, order),
        "torch._utils._rebuild_tensor_v2": partial(_tensor, order),
        "torch._utils._rebuild_tensor_v3": partial(_tensor_v3, order),
        "torch._utils._rebuild_qtensor": partial(_quantised, order),
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    }
    # A tensor with attributes; the attributes are ignored.
    made["torch._tensor._rebuild_from_type_v2"] = lambda function, of, arguments, state: made[function.name](*arguments)
    return made


def _named(value: Any) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of nested dictionaries and lists by name, and a line for each object with tensors that cannot be opened.

    The name of a tensor is its key in its dictionary, such as `encoder.weight_ih_l0`. The keys of the outer containers, such as
    `checkpoint.model`, are put in front only if two dictionaries have the same key, or if the key has no dot.
    """
    entries: list[tuple[str, str, Tensor]] = []
    refused: list[str] = []
    visited: set[int] = set()
    for keys, name, item in _leaves(value, (), set()):
        if isinstance(item, Tensor):
            entries.append((keys, name, item))
        elif inner := [part for *_, part in _leaves(item, (Unknown,), visited) if isinstance(part, Tensor)]:
            where = printable(_joined(keys, name))
            refused.append((f"{where}: " if where else "") + _unopened(item, inner))
        if len(entries) > MOST_TENSORS:
            raise ModelFileError(TOO_MUCH)
    by_name: dict[str, set[str]] = {}
    for keys, name, _ in entries:
        by_name.setdefault(name, set()).add(keys)
    clashing = {keys for several in by_name.values() if len(several) > 1 for keys in several}
    named = {_joined(keys, name) if keys in clashing or "." not in name else name: item for keys, name, item in entries}
    return named, refused


def _joined(keys: str, name: str) -> str:
    return ".".join(filter(None, (keys, name)))


def _unopened(item: Unknown, inner: list[Tensor]) -> str:
    if any(tensor.dtype.startswith(QUANTISED) for tensor in inner):
        return QUANTISED_CURE
    return f"it is a pickled {printable(item.of, 60)}, which only the code of its class can open; {SAVE_STATE_DICT}"


def _leaves(value: Any, into: tuple[type, ...], visited: set[int]) -> Iterator[tuple[str, str, Any]]:
    """Yield every leaf in `value`, with the joined keys of its container and its own key.

    Containers, and objects of the types `into`, are entered once. Objects in `visited` are not entered; those that are entered are
    added to it.
    """
    waiting: list[tuple[str, str, Any]] = [("", "", value)]
    count = 0
    while waiting:
        keys, name, item = waiting.pop()
        if not isinstance(item, (dict, list, tuple, *into)):
            yield keys, name, item
            continue
        if id(item) in visited:
            continue
        visited.add(id(item))
        container = _joined(keys, name)
        inner = [(container, str(key), child) for key, child in _inside(item) if isinstance(child, CONTAINERS)]
        count += len(inner)
        if count > MOST_ENTRIES or len(container) > MOST_KEYS:
            raise ModelFileError(TOO_MUCH)
        waiting.extend(reversed(inner))


def _inside(item: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(item, dict):
        return ((key, child) for key, child in item.items() if isinstance(key, (str, int)))
    return enumerate(item.parts if isinstance(item, Unknown) else item)


def find_in_checkpoint(file: OpenedFile, order: str | None) -> FileLayers:
    """Find the GRUs in the checkpoint. Raises `ModelFileError`."""
    named, refused = tensors(file)
    findings = find_by_name(named, NAME, file.path, order)
    return replace(findings, refused=(*findings.refused, *refused))


FORMAT = FileFormat(NAME, is_torch_checkpoint, find_in_checkpoint)
