"""What the body of a loop can change: everything reachable from the names that it reads, copied, and put back in place.

Containers and objects are remembered by what they contain, tensors and arrays by their numbers. A tensor that is no parameter, no
buffer and no state of an optimizer, and that is large, is remembered as it is until it is seen to change; then it is copied too.
"""

from __future__ import annotations

import array
import collections
import csv
import ctypes
import datetime
import decimal
import enum
import fractions
import gc
import io
import itertools
import operator
import os
import pathlib
import random
import re
import sys
import sysconfig
import time
import types
import uuid
import weakref
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from tui_gru.errors import TuiGruError, printable

SMALL = 1 << 16  # bytes of a tensor that is copied even if nothing says that it changes
SMALL_ARRAY = 1 << 20  # bytes of such an array
MOST_SUMMED = 1 << 26  # bytes of larger arrays whose checksums are computed; of even larger ones, some of the numbers are
LARGE = 1000  # entries of a list, dict or set from which on its contents are remembered, and not what these contain
MOST_OF_LIBRARIES = 20_000  # objects of libraries that are walked through
_SAMPLED = 1000

Reach: TypeAlias = int  # how an object is reached: the sum of
COPIED = 1  # within a module or an optimizer: its tensors are copied whatever their size
STRICT = 2  # from the script's own objects: what has a state that cannot be put back is refused
Children: TypeAlias = Iterable[tuple[Any, Reach]]

_PLAIN: frozenset[type] = frozenset({int, float, complex, str, bool, bytes, type(None), type(Ellipsis), type(NotImplemented)})
_WITHOUT_STATE = (
    range, slice, np.generic, np.dtype, np.ufunc, datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo,
    pathlib.PurePath, enum.Enum, decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern, re.Match,
    types.GenericAlias, types.WrapperDescriptorType, types.MethodDescriptorType, types.MethodWrapperType, types.CodeType,
    types.GetSetDescriptorType, types.MemberDescriptorType, types.ClassMethodDescriptorType, operator.itemgetter,
    operator.attrgetter, operator.methodcaller, type(int | str), type(vars(collections.namedtuple("_Pair", "first"))["first"]),
)  # fmt: skip
#: Modules of Python and others whose objects are left alone: they have no state that a training depends on.
_LEFT_ALONE = frozenset({
    "threading", "_thread", "logging", "weakref", "_weakref", "_weakrefset", "re", "inspect", "ast", "dis", "linecache",
    "importlib", "contextvars", "_contextvars", "ctypes", "signal", "warnings", "textual", "rich", "IPython", "ipykernel", "abc",
    "_abc",     "typing", "traceback", "string", "struct", "_struct", "gc", "contextlib", "codecs",
})  # fmt: skip
#: Modules whose objects have a state outside of Python's memory, or one that threads change.
_OUTSIDE = frozenset({
    "queue", "_queue", "multiprocessing", "concurrent", "socket", "_socket", "asyncio", "subprocess", "sqlite3", "ssl", "mmap",
    "http", "select",
})  # fmt: skip
_LIBRARY_FOLDERS = tuple(
    folder + os.sep
    for folder in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        os.path.dirname(os.__file__),
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    }
)


def is_of_library(path: str) -> bool:
    """Return True for a file of Python, of an installed package or of this one: no file of the user's own."""
    return path.startswith(("<frozen", *_LIBRARY_FOLDERS)) or "site-packages" in path or "dist-packages" in path


def _is_library_type(kind: type) -> bool:
    if kind.__module__ in sys.builtin_module_names:
        return True
    return is_of_library(getattr(sys.modules.get(kind.__module__), "__file__", None) or "")


class Cursor:
    """An iterator of a script whose last items are kept, so that it can be rewound."""

    def __init__(self, source: Iterable[Any], most: int = 1024) -> None:
        self._source, self._most = iter(source), most
        self._items: collections.deque[Any] = collections.deque()
        self._first = 0  # the number of the first item in memory
        self.position = 0
        self.rewound = False  # while a body is tried

    def __iter__(self) -> Cursor:
        return self

    def __next__(self) -> Any:
        if self.position - self._first == len(self._items):
            self._items.append(next(self._source))
        self.position += 1
        while len(self._items) > self._most and not self.rewound:
            self._items.popleft()
            self._first += 1
        return self._items[self.position - 1 - self._first]

    def reaches(self, position: int) -> bool:
        return position >= self._first


class Generators(NamedTuple):
    """The states of the generators of random numbers of this process, and of some others."""

    torch: torch.Tensor
    python: Any
    numpy: Any
    devices: Any
    others: tuple[tuple[Any, Any], ...]
    memory: bytes = b""  # of NumPy's generator; empty if it is not known

    @classmethod
    def now(cls, others: Iterable[Any] = (), before: Generators | None = None) -> Generators:
        """Return the states now. One that is still that of `before` is kept once: they are large beside what a step computes."""
        devices = None
        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            devices = torch.cuda.get_rng_state_all()
        states = tuple((member, _generator_state(member)) for member in others)
        of_torch, of_python = torch.get_rng_state(), random.getstate()
        memory = _numpys_memory()
        if before is not None:
            of_torch = before.torch if torch.equal(of_torch, before.torch) else of_torch
            of_python = before.python if of_python == before.python else of_python
            # A second number of a pair of normal ones may wait, and be taken without a change in the memory of the generator.
            if memory and memory == before.memory and not before.numpy[3]:
                return cls(of_torch, of_python, before.numpy, devices, states, before.memory)
        return cls(of_torch, of_python, np.random.get_state(), devices, states, memory)

    def put(self) -> None:
        torch.set_rng_state(self.torch)
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        if self.devices is not None:
            torch.cuda.set_rng_state_all(self.devices)
        for generator, state in self.others:
            _set_generator(generator, state)


_WORDS = 624  # of a Mersenne Twister


def _numpys_memory() -> bytes:
    """Return the memory of NumPy's global generator, which is read in a tenth of the time of its state; empty if it is of another
    kind."""
    global _numpys_generator
    generator = np.random.mtrand._rand._bit_generator
    if type(generator) is not np.random.MT19937:
        return b""
    if _numpys_generator[0] is not generator:
        _numpys_generator = generator, int(generator.ctypes.state_address)
    return ctypes.string_at(_numpys_generator[1], 4 * _WORDS + 4)


_numpys_generator: tuple[Any, int] = (None, 0)  # with the address of its memory
_GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState, np.random.BitGenerator)


def _generator_state(generator: Any) -> Any:
    if isinstance(generator, (torch.Generator, np.random.RandomState)):
        return generator.get_state()
    if isinstance(generator, random.SystemRandom):
        return None  # it has no state: its numbers come from the system
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.bit_generator.state if isinstance(generator, np.random.Generator) else generator.state


def _set_generator(generator: Any, state: Any) -> None:
    if isinstance(generator, (torch.Generator, np.random.RandomState)):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        if state is not None:
            generator.setstate(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.state = state


def free_memory(devices: Iterable[torch.device] = ()) -> int:
    """Return the free memory in bytes, as far as it is known: of this machine, or of the GPU among some devices that has least."""
    if of_devices := [int(torch.cuda.mem_get_info(device)[0]) for device in devices if device.type == "cuda"]:
        return min(of_devices)
    with suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4 << 30


class CopyPool:
    """LoopMemory of copies that are no longer used, by shape and type."""

    def __init__(self) -> None:
        self._free: dict[Any, list[torch.Tensor]] = {}
        self._uses: collections.Counter[int] = collections.Counter()

    def like(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return an uninitialised tensor of the same layout."""
        free = self._free.get(_layout(tensor))
        buffer = free.pop() if free else torch.empty_like(tensor, requires_grad=False)
        self._uses[id(buffer)] = 1
        return buffer

    def share(self, buffer: torch.Tensor) -> None:
        self._uses[id(buffer)] += 1

    def release(self, buffer: torch.Tensor) -> None:
        if (uses := self._uses.pop(id(buffer), 0)) > 1:
            self._uses[id(buffer)] = uses - 1
        elif uses:
            self._free.setdefault(_layout(buffer), []).append(buffer)

    def forget_free(self) -> None:
        self._free.clear()


def _layout(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


class TensorCopy:
    """A tensor, another view of its storage, and a copy of its numbers; None in the place of it if it is not copied."""

    __slots__ = ("alias", "copy", "tensor", "version")

    def __init__(self, tensor: torch.Tensor, alias: torch.Tensor, copy: torch.Tensor | None, version: int) -> None:
        self.tensor, self.alias, self.copy, self.version = tensor, alias, copy, version

    def target(self) -> torch.Tensor | None:
        """Return what the copy is to be written into, after the tensor has its storage again; None if all is done already."""
        tensor, alias, copy = self.tensor, self.alias, self.copy
        assert copy is not None
        if copy.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            tensor.data = copy.clone()
            return None
        if tensor.data_ptr() != alias.data_ptr() or tensor.shape != alias.shape or tensor.stride() != alias.stride():
            tensor.data = alias
        if alias.shape != copy.shape:  # resized in place
            tensor.data = copy.clone()
            return None
        return alias

    def put(self) -> None:
        if (target := self.target()) is not None and self.copy is not None:
            target.copy_(self.copy)


def version_of(tensor: torch.Tensor) -> int:
    """Return the number of changes in place, as far as torch counts them."""
    return 0 if tensor.is_inference() else tensor._version


def memory_of(tensor: torch.Tensor) -> int:
    """Return the place of a tensor's memory, which its views share."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided and not tensor.is_meta else id(tensor)


def equal_numbers(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return True if all entries are equal bit for bit, where NaN is equal to itself."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.layout != torch.strided:
        a, b = a.to_dense(), b.to_dense()
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())


def _seems_same(copy: torch.Tensor, tensor: torch.Tensor) -> bool:
    """Compare some entries: a change through `.data` leaves the version as it was."""
    if copy.shape != tensor.shape or copy.dtype != tensor.dtype or copy.layout != torch.strided:
        return False
    a, b = copy.detach().reshape(-1), tensor.detach().reshape(-1)
    step = max(1, a.numel() // _SAMPLED)
    return equal_numbers(a[::step], b[::step])


class RewindError(TuiGruError):
    """Why the steps of a loop cannot be computed again."""


class Unkeepable(NamedTuple):
    """An object whose state cannot be put back, and the objects through which it is reached, the outermost first."""

    object: Any
    path: tuple[Any, ...]


class LoopMemory:
    """What is known of the objects of a loop from one state to the next: their kinds, the buffers of copies, what changes."""

    def __init__(self) -> None:
        self.handlers: dict[type, Callable[[ScriptState, Any, Reach], Children]] = {}
        self.buffers = CopyPool()
        self.changing: set[int] = set()  # ids of tensors and arrays that are copied although they are large
        self.copies_gradients = False  # since the body changes gradients of the step before, each of which is a tensor of its own
        self.mentioned: dict[types.CodeType, frozenset[str]] = {}

    def names_in(self, code: types.CodeType) -> frozenset[str]:
        """Return the names of globals and attributes that some code and the functions inside of it mention."""
        if (names := self.mentioned.get(code)) is None:
            inner = [self.names_in(const) for const in code.co_consts if isinstance(const, types.CodeType)]
            names = self.mentioned[code] = frozenset(code.co_names).union(*inner)
        return names


class ScriptState:
    """The state of everything that is reachable from some roots. With `complete`, nothing large is left out, so that whatever a
    trial changes can be put back."""

    def __init__(
        self,
        roots: Iterable[Any],
        memory: LoopMemory,
        *,
        earlier: ScriptState | None = None,
        complete: bool = False,
        loop_globals: dict[str, Any] | None = None,
        unread: AbstractSet[str] = frozenset(),
        mentioned: AbstractSet[str] = frozenset(),
        namespaces: Sequence[dict[str, Any]] = (),
        deep: Sequence[Any] = (),
    ) -> None:
        self.memory, self.complete, self.time = memory, complete, time.time()
        self.loop_globals, self.unread = loop_globals, unread
        self.parts: list[tuple[Callable[..., None], Any, Any, Any]] = []
        self.objects: dict[int, Any] = {}
        self.generators: list[Any] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self.modules: list[torch.nn.Module] = []
        self.unkeepable: list[Unkeepable] = []
        self.weak: list[weakref.ref[Any]] = []  # references that do not hold what they refer to
        self.deep = {id(member): _deep_copy(member) for member in deep}
        self._deep_of = {id(member): member for member in deep}
        self._tensors: list[tuple[torch.Tensor, bool]] = []
        self._gradients = set[int]()
        self._arrays: list[np.ndarray[Any, Any]] = []
        self._mentioned, self._namespaces = set(mentioned), list[tuple[dict[str, Any], set[str]]]()
        self.in_functions: set[str] = set()  # the names that functions of the script mention
        self._parents: dict[int, int] = {}
        self._of_libraries = 0
        self.names: dict[str, Any] = {}  # local names of the loop, which is for who makes the state
        for names in namespaces:
            self.add_namespace(names)
        self._walk([(root, STRICT) for root in roots])
        if complete:
            self._check_weak()
            self._check_memory()
        self._copy_tensors({} if earlier is None else earlier.tensors)
        self._copy_arrays({} if earlier is None else earlier.arrays)
        self.random = Generators.now(self.generators)
        self.settings = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()

    # The walk

    def _walk(self, stack: list[tuple[Any, Reach]]) -> None:
        visited, handlers, parents = self.objects, self.memory.handlers, self._parents
        later: list[tuple[Any, Reach]] = []  # what is reached through libraries only counts if it is not reached otherwise
        while True:
            while stack:
                subject, reach = stack.pop()
                kind = type(subject)
                if kind in _PLAIN or (key := id(subject)) in visited:
                    continue
                if not reach & STRICT and later is not stack:
                    later.append((subject, reach))
                    continue
                self._visit(subject, kind, key, reach, stack, visited, handlers, parents)
            self._add_mentioned(stack)
            if stack:
                continue
            if not later:
                return
            subject, reach = later.pop()
            kind = type(subject)
            if kind not in _PLAIN and (key := id(subject)) not in visited and self._of_libraries < MOST_OF_LIBRARIES:
                self._of_libraries += 1
                self._visit(subject, kind, key, reach, stack, visited, handlers, parents)

    def _visit(
        self, subject: Any, kind: type, key: int, reach: Reach, stack: Any, visited: Any, handlers: Any, parents: Any
    ) -> None:
        visited[key] = subject
        if key in self.deep:
            return
        handler = handlers.get(kind)
        if handler is None:
            handler = handlers[kind] = _handler_of(kind, subject)
        for child in handler(self, subject, reach):
            if type(child[0]) not in _PLAIN:
                stack.append(child)
                parents.setdefault(id(child[0]), key)

    def add_namespace(self, names: dict[str, Any]) -> None:
        """Remember the globals of a file of the script, all of them by what they are; those that some code mentions are walked."""
        if id(names) in self.objects:
            return
        self.objects[id(names)] = names
        left_out = self.unread if names is self.loop_globals else frozenset[str]()
        self.parts.append((put_namespace, names, {name: value for name, value in names.items() if name not in left_out}, left_out))
        self._namespaces.append((names, set()))

    def mention(self, names: Iterable[str]) -> None:
        self._mentioned.update(names)

    def _add_mentioned(self, stack: list[tuple[Any, Reach]]) -> None:
        for names, visited in self._namespaces:
            new = self._mentioned & names.keys() - visited
            visited |= new
            for name in new:
                if type(names[name]) not in _PLAIN:
                    stack.append((names[name], STRICT))
                    self._parents.setdefault(id(names[name]), id(names))

    def refuse(self, subject: Any, reach: Reach) -> None:
        """Note an object whose state cannot be put back, unless it is within an object of a library."""
        if reach & STRICT:
            path, key = list[Any](), id(subject)
            while (key := self._parents.get(key, 0)) and len(path) < 100:
                path.append(self.objects.get(key))
            self.unkeepable.append(Unkeepable(subject, tuple(reversed(path))))

    def _check_weak(self) -> None:
        """Refuse objects of the script that are only reached by weak references: kept for later, they would live longer."""
        for reference in self.weak:
            subject = reference()
            if subject is not None and id(subject) not in self.objects and not _is_library_type(type(subject)):
                self._parents.setdefault(id(subject), id(reference))
                self.refuse(reference, STRICT)

    def add_tensor(self, tensor: torch.Tensor, reach: Reach) -> Children:
        self._tensors.append((tensor, bool(reach & COPIED) or isinstance(tensor, torch.nn.Parameter)))
        children: list[tuple[Any, Reach]] = []
        if tensor.is_leaf and (tensor.requires_grad or tensor.grad is not None):
            gradient = tensor.grad
            self.parts.append((_put_gradient, tensor, gradient, tensor.requires_grad))
            if (hooks := tensor._backward_hooks) is not None:
                children += self.add_map(hooks, reach)
                self.parts.append((_put_hooks, tensor, hooks, None))
            if gradient is not None:
                self._gradients.add(id(gradient))
                children.append((gradient, (reach & STRICT) | (COPIED if self.memory.copies_gradients else 0)))
        if attributes := getattr(tensor, "__dict__", None):
            children += self.add_map(attributes, reach)
        return children

    def add_array(self, numbers: np.ndarray[Any, Any], reach: Reach) -> Children:
        if numbers.dtype.hasobject:
            if numbers.dtype == object:
                self.parts.append((_put_objects, numbers, numbers.copy(), None))
                return [(member, reach) for member in numbers.ravel().tolist()] if numbers.size <= LARGE or self.complete else ()
            self.refuse(numbers, reach)
        elif numbers.flags.writeable:
            self._arrays.append(numbers)
        return ()

    def add_map(self, contents: dict[Any, Any], reach: Reach) -> Children:
        """Remember a dict; return its values, and the tensors among its keys."""
        copied = dict(contents)
        self.parts.append((put_map, contents, copied, None))
        if len(copied) > LARGE and not reach & COPIED and not self.complete:
            return ()
        keys = [(key, reach) for key in copied if isinstance(key, torch.Tensor)] if len(copied) else []
        return [*keys, *((value, reach) for value in copied.values())]

    def add_sequence(self, contents: Any, reach: Reach) -> Children:
        copied = list(contents)
        self.parts.append((put_sequence, contents, copied, None))
        return self.entries(copied, reach)

    def entries(self, copied: Sequence[Any] | AbstractSet[Any], reach: Reach) -> Children:
        if len(copied) > LARGE and not reach & COPIED:
            if not self.complete:
                return ()
            if set(map(type, copied)) <= _PLAIN:
                return ()
        return [(member, reach) for member in copied]

    # Copies of numbers

    def _check_memory(self) -> None:
        size = sum(tensor.numel() * tensor.element_size() for tensor, _ in self._tensors) + sum(
            member.nbytes for member in self._arrays
        )
        if size > 1 << 28 and size > (free := free_memory()) * 0.8:
            raise RewindError(
                f"the loop reaches {size / 1e9:.1f} GB of tensors and arrays, of which a trial needs a copy, and "
                f"{free / 1e9:.1f} GB are free; read the data in a DataLoader, outside of the body"
            )

    def _copy_tensors(self, earlier: Mapping[int, TensorCopy]) -> None:
        self.tensors: dict[int, TensorCopy] = {}
        self.bytes = 0
        self.devices = set[torch.device]()  # on which copies are: those of their tensors
        groups: dict[Any, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
        buffers, changing = self.memory.buffers, self.memory.changing
        for tensor, copied in self._tensors:
            key, version, alias = id(tensor), version_of(tensor), tensor.detach()
            size = tensor.numel() * tensor.element_size()
            if not (copied or self.complete or size <= SMALL or key in changing):
                self.tensors[key] = TensorCopy(tensor, alias, None, version)
                continue
            before = earlier.get(key)
            is_still = before is not None and before.tensor is tensor and before.version == version and size > SMALL
            if is_still and before is not None and before.copy is not None and _seems_same(before.copy, tensor):
                buffers.share(before.copy)
                self.tensors[key] = TensorCopy(tensor, alias, before.copy, version)
                continue
            if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
                copy = alias.clone()
            else:
                copy = buffers.like(alias)
                copies, sources = groups.setdefault((tensor.dtype, tensor.device), ([], []))
                copies.append(copy)
                sources.append(alias)
            self.bytes += size
            self.devices.add(tensor.device)
            self.tensors[key] = TensorCopy(tensor, alias, copy, version)
        with torch.no_grad():
            for copies, sources in groups.values():
                torch._foreach_copy_(copies, sources)

    def _copy_arrays(self, earlier: Mapping[int, tuple[np.ndarray[Any, Any], Any, int]]) -> None:
        self.arrays: dict[int, tuple[np.ndarray[Any, Any], Any, int]] = {}  # with a copy, or with a checksum
        summed = 0
        for numbers in self._arrays:
            key = id(numbers)
            if self.complete or numbers.nbytes <= SMALL_ARRAY or key in self.memory.changing:
                self.arrays[key] = numbers, numbers.copy(), 0
                self.bytes += numbers.nbytes
                continue
            summed += numbers.nbytes
            part = numbers
            if summed > MOST_SUMMED:
                part = numbers.reshape(-1)[:: max(1, numbers.size // _SAMPLED)] if numbers.flags.c_contiguous else numbers[:1]
            self.arrays[key] = numbers, None, zlib.crc32(np.ascontiguousarray(part).view(np.uint8).reshape(-1).data)

    def release(self) -> None:
        """Give the memory of the copies back."""
        for entry in self.tensors.values():
            if entry.copy is not None and entry.copy.layout is torch.strided:
                self.memory.buffers.release(entry.copy)
        self.tensors = {}

    # What has changed

    def changed_since(self, later: ScriptState | None = None) -> set[int]:
        """Return the ids of tensors and arrays that were not copied and have changed in place since, the arrays up to `later`."""
        changed = {key for key, entry in self.tensors.items() if entry.copy is None and version_of(entry.tensor) != entry.version}
        if later is not None:
            for key, (_, copy, total) in self.arrays.items():
                if copy is None and key in later.arrays and later.arrays[key][1] is None and later.arrays[key][2] != total:
                    changed.add(key)
            for key, entry in self.tensors.items():
                if entry.copy is None and key in later.tensors and later.tensors[key].alias.data_ptr() != entry.alias.data_ptr():
                    changed.add(key)
        return changed

    def changed_gradients(self) -> set[int]:
        """Return the ids of gradients that were not copied and have changed in place since."""
        entries = ((key, entry) for key in self._gradients if (entry := self.tensors.get(key)) is not None)
        return {key for key, entry in entries if entry.copy is None and version_of(entry.tensor) != entry.version}

    def copy_from_now_on(self, changed: set[int]) -> None:
        """Let later states copy what has changed."""
        self.memory.changing |= changed
        self.memory.copies_gradients |= not changed.isdisjoint(self._gradients)

    def different(self) -> list[torch.Tensor]:
        """Return the tensors that do not have the copied numbers now."""
        return [
            entry.tensor
            for entry in self.tensors.values()
            if entry.copy is not None and not equal_numbers(entry.tensor.detach(), entry.copy)
        ]

    # Putting back

    def put(self) -> list[str]:
        """Put everything back; return what could not be, in words. Each part is put back by itself, whatever happens to others."""
        failures: list[str] = []

        def attempt(action: Callable[[], object], subject: Any) -> None:
            try:
                action()
            except Exception as error:
                failures.append(f"{type_name(subject)}: {type(error).__name__}: {printable(error, 100)}")

        threads = torch.get_num_threads()
        if threads != self.settings[2]:
            torch.set_num_threads(self.settings[2])
        torch.set_grad_enabled(self.settings[0])
        if torch.get_default_dtype() != self.settings[1]:
            torch.set_default_dtype(self.settings[1])
        gradients = [part for part in self.parts if part[0] is _put_gradient]
        for put, subject, value, more in self.parts:
            if put is _put_gradient:
                continue
            try:
                put(subject, value, more)
            except Exception as error:
                failures.append(f"{type_name(subject)}: {type(error).__name__}: {printable(error, 100)}")
        groups: dict[Any, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
        for entry in self.tensors.values():
            if entry.copy is None:
                continue
            try:
                target = entry.target()
            except Exception as error:
                failures.append(f"{type_name(entry.tensor)}: {type(error).__name__}: {printable(error, 100)}")
                continue
            if target is not None:
                targets, copies = groups.setdefault((target.dtype, target.device), ([], []))
                targets.append(target)
                copies.append(entry.copy)
        for put, subject, value, more in gradients:  # which must have the shape that their tensors have again
            attempt(lambda put=put, subject=subject, value=value, more=more: put(subject, value, more), subject)  # type: ignore[misc]
        with torch.no_grad():
            for targets, copies in groups.values():
                try:
                    torch._foreach_copy_(targets, copies)
                except Exception:
                    for target, copy in zip(targets, copies, strict=True):
                        attempt(lambda target=target, copy=copy: target.copy_(copy), target)  # type: ignore[misc]
        for numbers, copy, _ in self.arrays.values():
            if copy is not None:
                attempt(lambda numbers=numbers, copy=copy: numbers.__setitem__(..., copy), numbers)  # type: ignore[misc]
        attempt(self.random.put, random)
        return failures

    def substituted(self, names: dict[str, Any]) -> dict[str, Any]:
        """Replace the objects that are copied as wholes by copies, in what was just put back and in local names; return these."""
        if not self.deep:
            return names
        copies = {key: _deep_copy(copy) for key, copy in self.deep.items()}

        def new(value: Any) -> Any:
            owner = getattr(value, "__self__", None) if isinstance(value, (types.MethodType, types.BuiltinFunctionType)) else None
            if owner is not None and id(owner) in copies:
                return getattr(copies[id(owner)], value.__name__)
            return copies.get(id(value), value)

        for put, subject, value, more in self.parts:
            if put in (put_map, put_namespace, _put_slots, _put_class):
                put(subject, {key: new(member) for key, member in value.items()}, more)
            elif put is put_sequence:
                put(subject, [new(member) for member in value], more)
            elif put is _put_cell and not more:
                put(subject, new(value), more)
        return {name: new(value) for name, value in names.items()}

    def unchanged(self) -> list[TensorCopy]:
        """Return the entries whose tensors have not been changed in place since."""
        return [entry for entry in self.tensors.values() if version_of(entry.tensor) == entry.version]


def type_name(subject: Any) -> str:
    kind = type(subject)
    return kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"


def _deep_copy(subject: Any) -> Any:
    import copy

    try:
        return copy.deepcopy(subject)
    except Exception as error:
        raise RewindError(
            f"also: a {type_name(subject)} cannot be copied ({type(error).__name__}: {printable(error, 80)}); leave it out",
            option="also",
        ) from None


# ------------------------------------------------------------------------------
# How each kind of part is put back. Nothing is written that is as it was, so that no setter of a library runs without need.


def put_namespace(names: dict[str, Any], values: Mapping[str, Any], left_out: AbstractSet[str]) -> None:
    for name in [name for name in names if name not in values and name not in left_out]:
        del names[name]
    for name, value in values.items():
        if name not in names or names[name] is not value:
            names[name] = value


def put_map(contents: dict[Any, Any], values: dict[Any, Any], _: Any) -> None:
    same = len(contents) == len(values) and all(
        a is b and c is d for (a, c), (b, d) in zip(contents.items(), values.items(), strict=True)
    )
    if same:
        return
    if isinstance(contents, collections.OrderedDict):
        collections.OrderedDict.clear(contents)
        for key, value in values.items():
            collections.OrderedDict.__setitem__(contents, key, value)
    else:
        dict.clear(contents)
        dict.update(contents, values)


def put_sequence(contents: Any, values: list[Any], _: Any) -> None:
    if len(contents) == len(values) and all(map(operator.is_, contents, values)):
        return
    if isinstance(contents, list):
        list.__setitem__(contents, slice(None), values)
    else:
        collections.deque.clear(contents)
        collections.deque.extend(contents, values)


def _put_set(contents: set[Any], values: set[Any], _: Any) -> None:
    if contents != values:
        set.clear(contents)
        set.update(contents, values)


def _put_bytes(contents: Any, values: Any, _: Any) -> None:
    contents[:] = values


def _put_objects(contents: np.ndarray[Any, Any], values: np.ndarray[Any, Any], _: Any) -> None:
    contents[...] = values


def _put_cell(cell: types.CellType, value: Any, is_empty: bool) -> None:
    if is_empty:
        with suppress(ValueError):
            del cell.cell_contents
        return
    try:
        if cell.cell_contents is value:
            return
    except ValueError:
        pass
    cell.cell_contents = value


def _put_slots(subject: Any, values: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in names:
        if name in values:
            object.__setattr__(subject, name, values[name])
        elif hasattr(subject, name):
            object.__delattr__(subject, name)


def _put_class(kind: type, values: Mapping[str, Any], _: Any) -> None:
    for name in [name for name in vars(kind) if name not in values and not _is_special(name)]:
        type.__delattr__(kind, name)
    for name, value in values.items():
        if vars(kind).get(name, kind) is not value:
            type.__setattr__(kind, name, value)


def _put_gradient(tensor: torch.Tensor, gradient: torch.Tensor | None, requires: bool) -> None:
    if tensor.grad is not gradient:
        tensor.grad = gradient
    if tensor.requires_grad != requires:
        tensor.requires_grad_(requires)


def _put_weak(contents: Any, values: Any, _: Any) -> None:
    if contents.data != values:
        contents.data.clear()
        contents.data.update(values)


def _put_hooks(tensor: torch.Tensor, hooks: Any, _: Any) -> None:
    if tensor._backward_hooks is not hooks:
        tensor._backward_hooks = hooks


def _put_position(cursor: Cursor, position: int, _: Any) -> None:
    cursor.position = position


def _put_seed_sequence(seeds: Any, contents: Any, count: int) -> None:
    if seeds.n_children_spawned != count:
        seeds.__setstate__(contents)


def _put_memory_file(file: Any, value: Any, position: int) -> None:
    file.seek(0)
    file.truncate()
    file.write(value)
    file.seek(position)


def _put_place_in_file(file: Any, position: int, _: Any) -> None:
    file.seek(position)


def _put_length(file: Any, length: int, position: int) -> None:
    file.flush()
    if os.path.getsize(file.name) != length:
        os.truncate(file.name, length)
    file.seek(position)


def _put_frame(table: Any, copied: Any, _: Any) -> None:
    table._mgr = copied.copy()._mgr
    with suppress(AttributeError):
        table._item_cache.clear()


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


# ------------------------------------------------------------------------------
# How each kind of object is walked through. A handler remembers what is in the object, and returns what it reaches.


def _nothing(state: ScriptState, subject: Any, reach: Reach) -> Children:
    return ()


def _refused(state: ScriptState, subject: Any, reach: Reach) -> Children:
    state.refuse(subject, reach)
    return ()


def _tensor(state: ScriptState, tensor: Any, reach: Reach) -> Children:
    return state.add_tensor(tensor, reach)


def _array(state: ScriptState, numbers: Any, reach: Reach) -> Children:
    return state.add_array(numbers, reach)


def _generator(state: ScriptState, generator: Any, reach: Reach) -> Children:
    state.generators.append(generator)
    seeds = getattr(getattr(generator, "bit_generator", generator), "seed_seq", None)
    return () if seeds is None else [(seeds, reach)]  # which counts the generators that were spawned


def _seed_sequence(state: ScriptState, seeds: Any, reach: Reach) -> Children:
    """Remember how often a sequence of seeds has spawned others, which it shows to pickle only."""
    try:
        _, arguments, *rest = seeds.__reduce__()
        contents = rest[0] if rest else arguments[2]
    except Exception:
        contents = None
    if not isinstance(contents, tuple) or seeds.n_children_spawned not in [x for x in contents if type(x) is int]:
        state.refuse(seeds, reach)
    else:
        state.parts.append((_put_seed_sequence, seeds, contents, seeds.n_children_spawned))
    return ()


def _attributes(state: ScriptState, subject: Any, reach: Reach) -> list[tuple[Any, Reach]]:
    """Return what the attributes of an object contain, those in slots as well, and what the functions of its class reach."""
    children: list[tuple[Any, Reach]] = []
    attributes = getattr(subject, "__dict__", None)
    if isinstance(attributes, dict) and attributes:
        children += state.add_map(attributes, reach)
    elif isinstance(attributes, dict):
        state.parts.append((put_map, attributes, {}, None))
    names = _slots_of(type(subject))
    if names:
        values = {name: getattr(subject, name) for name in names if hasattr(subject, name)}
        state.parts.append((_put_slots, subject, values, names))
        children += [(value, reach) for value in values.values()]
    children.append((type(subject), reach))
    return children


def _slots_of(kind: type) -> list[str]:
    names: list[str] = []
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        if not _is_library_type(base):
            names += [
                f"_{base.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
                for name in ([slots] if isinstance(slots, str) else slots)
                if name not in ("__dict__", "__weakref__")
            ]
    return names


def _list(state: ScriptState, contents: Any, reach: Reach) -> Children:
    children = state.add_sequence(contents, reach)
    return children if type(contents) in (list, collections.deque) else [*children, *_attributes(state, contents, reach)]


def _dict(state: ScriptState, contents: Any, reach: Reach) -> Children:
    children = state.add_map(contents, reach)
    if type(contents) in (dict, collections.OrderedDict):
        return children
    if isinstance(contents, collections.defaultdict) and contents.default_factory is not None:
        children = [*children, (contents.default_factory, reach)]
    return children if type(contents) is collections.defaultdict else [*children, *_attributes(state, contents, reach)]


def _set(state: ScriptState, contents: Any, reach: Reach) -> Children:
    state.parts.append((_put_set, contents, set(contents), None))
    children = state.entries(contents, reach)
    return children if type(contents) is set else [*children, *_attributes(state, contents, reach)]


def _tuple(state: ScriptState, contents: Any, reach: Reach) -> Children:
    children = state.entries(contents, reach)
    return children if type(contents) in (tuple, frozenset) else [*children, *_attributes(state, contents, reach)]


def _bytes(state: ScriptState, contents: Any, reach: Reach) -> Children:
    state.parts.append((_put_bytes, contents, contents[:], None))
    return ()


def _mapping_proxy(state: ScriptState, contents: Any, reach: Reach) -> Children:
    return [(value, reach) for value in contents.values()]


def _function(state: ScriptState, function: Any, reach: Reach) -> Children:
    cells = function.__closure__ or ()
    if is_of_library(function.__code__.co_filename):
        # Such as the wrapper of a decorator of a library, around a function of the script.
        return [
            (cell.cell_contents, reach if isinstance(cell.cell_contents, types.FunctionType) else 0)
            for cell in cells
            if _is_full(cell)
        ]
    state.add_namespace(function.__globals__)
    names = state.memory.names_in(function.__code__)
    state.mention(names)
    state.in_functions |= names
    children = [(cell, STRICT | reach) for cell in cells]
    children += [(value, STRICT | reach) for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())]
    if function.__kwdefaults__:
        children += state.add_map(function.__kwdefaults__, STRICT | reach)
    return [*children, *state.add_map(function.__dict__, STRICT | reach)]


def _is_full(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _cell(state: ScriptState, cell: Any, reach: Reach) -> Children:
    try:
        value = cell.cell_contents
    except ValueError:
        state.parts.append((_put_cell, cell, None, True))
        return ()
    state.parts.append((_put_cell, cell, value, False))
    return [(value, reach)]


def _method(state: ScriptState, method: Any, reach: Reach) -> Children:
    return [(method.__func__, reach), (method.__self__, reach)]


def _builtin(state: ScriptState, function: Any, reach: Reach) -> Children:
    owner = getattr(function, "__self__", None)
    return () if owner is None or isinstance(owner, (types.ModuleType, type)) else [(owner, reach)]


def _partial(state: ScriptState, partial: Any, reach: Reach) -> Children:
    return [(partial.func, reach), (partial.args, reach), (partial.keywords, reach)]


def _wrapped(state: ScriptState, subject: Any, reach: Reach) -> Children:
    return [
        (member, reach)
        for name in ("__wrapped__", "__func__", "fget", "fset", "func")
        if (member := getattr(subject, name, None)) is not None
    ]


def _module(state: ScriptState, module: Any, reach: Reach) -> Children:
    file = getattr(module, "__file__", None) or ""
    if file and not is_of_library(file) and module.__name__ not in sys.builtin_module_names:
        state.add_namespace(vars(module))
    return ()


def _class(state: ScriptState, kind: Any, reach: Reach) -> Children:
    children: list[tuple[Any, Reach]] = [] if type(kind) is type else [(type(kind), reach)]
    for base in kind.__mro__:
        if _is_library_type(base) or (id(base) in state.objects and base is not kind):
            continue
        state.objects[id(base)] = base
        values = {name: value for name, value in vars(base).items() if not _is_special(name)}
        state.parts.append((_put_class, base, values, None))
        children += [(value, reach) for value in values.values()]
        children += [
            (value, reach) for name, value in vars(base).items() if isinstance(value, types.FunctionType) and _is_special(name)
        ]
    return children


def _cursor(state: ScriptState, cursor: Any, reach: Reach) -> Children:
    state.parts.append((_put_position, cursor, cursor.position, None))
    return ()


def _csv_writer(state: ScriptState, writer: Any, reach: Reach) -> Children:
    return [
        (member, reach) for member in gc.get_referents(writer) if isinstance(member, types.BuiltinFunctionType | types.MethodType)
    ]


def _weak_reference(state: ScriptState, reference: Any, reach: Reach) -> Children:
    if reach & STRICT:
        state.weak.append(reference)
    return ()


def _weak_container(state: ScriptState, contents: Any, reach: Reach) -> Children:
    # What it refers to weakly is not held, since the script may see when it is no longer there.
    entries = contents.data
    state.parts.append((_put_weak, contents, entries.copy(), None))
    by_key = issubclass(type(contents), weakref.WeakKeyDictionary)
    if reach & STRICT:
        state.weak += list(entries) if by_key or isinstance(entries, set) else list(entries.values())
    return [(value, reach) for value in entries.values()] if by_key else ()


def _file(state: ScriptState, file: Any, reach: Reach) -> Children:
    if file.closed or file in (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__):
        return ()
    if isinstance(file, (io.StringIO, io.BytesIO)):
        state.parts.append((_put_memory_file, file, file.getvalue(), file.tell()))
        return ()
    name = getattr(file, "name", None)
    if not isinstance(name, str) or not os.path.isfile(name):
        return ()  # a terminal or a pipe, into which a trial writes nothing
    layer = getattr(file, "buffer", file)
    try:
        if file.writable():
            if not isinstance(getattr(layer, "raw", layer), io.FileIO):
                state.refuse(file, reach)  # it packs what is written, and cannot go back
            elif state.complete:
                file.flush()
                state.parts.append((_put_length, file, os.path.getsize(name), file.tell()))
        else:
            state.parts.append((_put_place_in_file, file, file.tell(), None))
    except OSError:  # lines of it are being iterated over
        state.refuse(file, reach)
    return ()


def _torch_module(state: ScriptState, module: Any, reach: Reach) -> Children:
    state.modules.append(module)
    children = _attributes(state, module, reach | COPIED)
    if isinstance(module, torch.jit.ScriptModule):
        children += [(tensor, reach | COPIED) for tensor in itertools.chain(module.parameters(), module.buffers())]
    return children


def _optimizer(state: ScriptState, optimizer: Any, reach: Reach) -> Children:
    state.optimizers.append(optimizer)
    return _attributes(state, optimizer, reach | COPIED)


def _stateful(state: ScriptState, subject: Any, reach: Reach) -> Children:
    return _attributes(state, subject, reach | COPIED)


def _object(state: ScriptState, subject: Any, reach: Reach) -> Children:
    return _attributes(state, subject, reach)


def _library_object(state: ScriptState, subject: Any, reach: Reach) -> Children:
    attributes = vars(subject)
    return [(value, child & ~STRICT) for value, child in state.add_map(attributes, reach)]


def _loader(state: ScriptState, loader: Any, reach: Reach) -> Children:
    names = ("dataset", "sampler", "batch_sampler", "generator", "collate_fn")
    return [(member, reach) for name in names if (member := getattr(loader, name, None)) is not None]


def _frame(state: ScriptState, table: Any, reach: Reach) -> Children:
    state.parts.append((_put_frame, table, table.copy(), None))
    return ()


def _handler_of(kind: type, subject: Any) -> Callable[[ScriptState, Any, Reach], Children]:
    """Return how the objects of a type are walked through."""
    simple: list[tuple[Any, Callable[[ScriptState, Any, Reach], Children]]] = [
        (torch.Tensor, _tensor),
        (np.ndarray, _array),
        (_GENERATORS, _generator),
        ((list, collections.deque), _list),
        (dict, _dict),
        (set, _set),
        ((tuple, frozenset), _tuple),
        ((bytearray, array.array), _bytes),
        (weakref.ref, _weak_reference),
        ((weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet), _weak_container),
        ((type(csv.writer(io.StringIO())),), _csv_writer),
        (np.random.SeedSequence, _seed_sequence),
        (types.MappingProxyType, _mapping_proxy),
        (types.FunctionType, _function),
        (types.CellType, _cell),
        (types.MethodType, _method),
        (types.BuiltinFunctionType, _builtin),
        (types.ModuleType, _module),
        (type, _class),
        (Cursor, _cursor),
        (io.IOBase, _file),
        ((*_PLAIN, *_WITHOUT_STATE), _nothing),
        ((property, staticmethod, classmethod), _wrapped),
    ]
    top, _, _ = kind.__module__.partition(".")
    for kinds, handler in simple:
        if issubclass(kind, kinds):
            return handler
    if kind.__module__ == "functools":
        return _partial if hasattr(subject, "func") and hasattr(subject, "keywords") else _wrapped
    if kind is object or top == "tui_gru" or (top in _LEFT_ALONE and _is_library_type(kind)):
        return _nothing
    if top in _OUTSIDE and _is_library_type(kind):
        return _refused
    if issubclass(kind, torch.nn.Module):
        return _torch_module
    if issubclass(kind, torch.optim.Optimizer):
        return _optimizer
    if issubclass(kind, (torch.utils.data.DataLoader,)):
        return _loader
    if issubclass(kind, types.GeneratorType | types.CoroutineType | types.AsyncGeneratorType):
        return _refused
    is_library = _is_library_type(kind)
    if top == "pandas" and hasattr(subject, "_mgr"):
        return _frame
    if is_library and hasattr(kind, "__next__"):
        return _refused
    if not is_library:
        return _stateful if hasattr(kind, "load_state_dict") else _object
    if hasattr(subject, "__dict__"):
        return _stateful if hasattr(kind, "load_state_dict") or kind is types.SimpleNamespace else _library_object
    if _slots_all(kind):
        return _library_slots
    return _nothing if top in ("torch", "numpy") or (kind.__module__ == "builtins" and not hasattr(kind, "__next__")) else _refused


def _slots_all(kind: type) -> list[str]:
    """Return the slots of a class of a library that is written in Python."""
    slots = [vars(base).get("__slots__", ()) for base in kind.__mro__]
    names = itertools.chain.from_iterable([member] if isinstance(member, str) else member for member in slots)
    return [name for name in names if not name.startswith("__")]


def _library_slots(state: ScriptState, subject: Any, reach: Reach) -> Children:
    names = _slots_all(type(subject))
    values = {name: getattr(subject, name) for name in names if hasattr(subject, name)}
    state.parts.append((_put_slots, subject, values, names))
    return [(value, reach & ~STRICT) for value in values.values()]
