"""Format of torch.save: a zip file with a pickle of names and tensors, and one file of bytes per storage. No code in the pickle is
run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tui_gru.interop.containers.opened import OpenedFile
from tui_gru.interop.containers.pickled_values import Builders, PickledName, PickleReader, Unknown
from tui_gru.interop.containers.zip_archive import Member
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.found import FileFormat, Findings
from tui_gru.interop.matching.named_arrays import find_by_name
from tui_gru.interop.tensors import ITEM_SIZE, AnyArray, ByteOrder, Tensor, checked_shape, decode

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
        whole = count * item == member.size
        data = member.read() if whole else member.read_span(first * item, count * item)
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
    seen: set[int] = set()
    for keys, name, item in _leaves(value, (), set()):
        if isinstance(item, Tensor):
            entries.append((keys, name, item))
        elif inner := [part for *_, part in _leaves(item, (Unknown,), seen) if isinstance(part, Tensor)]:
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


def _leaves(value: Any, into: tuple[type, ...], seen: set[int]) -> Iterator[tuple[str, str, Any]]:
    """Yield every leaf in `value`, with the joined keys of its container and its own key.

    Containers, and objects of the types `into`, are entered once. Objects in `seen` are not entered; those that are entered are
    added to it.
    """
    waiting: list[tuple[str, str, Any]] = [("", "", value)]
    count = 0
    while waiting:
        keys, name, item = waiting.pop()
        if not isinstance(item, (dict, list, tuple, *into)):
            yield keys, name, item
            continue
        if id(item) in seen:
            continue
        seen.add(id(item))
        here = _joined(keys, name)
        inner = [(here, str(key), child) for key, child in _inside(item) if isinstance(child, CONTAINERS)]
        count += len(inner)
        if count > MOST_ENTRIES or len(here) > MOST_KEYS:
            raise ModelFileError(TOO_MUCH)
        waiting.extend(reversed(inner))


def _inside(item: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(item, dict):
        return ((key, child) for key, child in item.items() if isinstance(key, (str, int)))
    return enumerate(item.parts if isinstance(item, Unknown) else item)


def find(file: OpenedFile, order: str | None) -> Findings:
    """Find the GRUs in the checkpoint. Raises `ModelFileError`."""
    named, refused = tensors(file)
    findings = find_by_name(named, NAME, file.path, order)
    return replace(findings, refused=(*findings.refused, *refused))


FORMAT = FileFormat(NAME, is_torch_checkpoint, find)
