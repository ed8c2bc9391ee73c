"""The past of a run within its memory limit: checkpoints, scalars of every batch, a cache of batches, and the comparison of a
replay."""

from __future__ import annotations

import math
import os
import platform
import sys
import threading
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from operator import itemgetter
from typing import IO, NamedTuple
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.position import batch_in_words, in_words
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.numbers import same, significant
from tui_gru.engine.weights import Array, Weights
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# The memory that a session may use for its past, and the share of each kind of data.


EXCESS = 1.5  # times the limit: the most that is used for a moment, such as during a change
FEWEST = 2  # checkpoints that are never dropped
CHANGE_BYTES = 1200  # memory of a change, including its undo data
TIGHT = 4  # each part is so much smaller if batches take nearly all
PARTS: Mapping[str, int] = {"records": 8, "scalars": 8, "samples": 16}  # the limit divided by this is the most that each may take


class Budget:
    """The memory limit of a session, in bytes.

    Each of `PARTS` has its share; checkpoints use the rest. When the rest is used up, fixed checkpoints move to a temporary file,
    and every second one of the others is dropped. Changes are never dropped: they reduce the memory for checkpoints, down to a
    quarter of the limit; beyond that they exceed the limit.
    `records` is the memory that batches take at most, in bytes, besides the one that was computed when the session was opened, even
    if it is more than their share. It reduces the memory for checkpoints down to an eighth of the limit, so that all together stay
    within `EXCESS` times the limit if it is large enough.
    """

    def __init__(self, limit: int, stride: int = 1, records: int = 0) -> None:
        self.spacing, self.changes = stride, 0  # spacing: batches between checkpoints; changes: their number
        self._stretches: WeakSet[Checkpoints] = WeakSet()
        self.overflow = Overflow("checkpoints of another machine")
        self._used = 0  # bytes of checkpoints; an upper bound, since deleted stretches are not subtracted
        self.bound(limit, records)

    @property
    def is_enough(self) -> bool:
        """True if no more than `EXCESS` times the limit is used at any time."""
        return self._records <= self.for_records

    @property
    def for_records(self) -> int:
        """The bytes that batches may take without exceeding `EXCESS` times the limit, if there are few checkpoints."""
        return int(self.limit * EXCESS) - self.share("scalars") - self.share("samples") - self.limit // 8

    @property
    def most_bytes(self) -> int:
        """The bytes that are used at most, without changes."""
        return self._records + self._rest + self.share("scalars") + self.share("samples")

    def share(self, kind: str) -> int:
        """Return the bytes that one of `PARTS` may use."""
        return self.limit // PARTS[kind] // (TIGHT if self._tight else 1)

    @property
    def for_checkpoints(self) -> int:
        """The bytes that all checkpoints together may use."""
        return max(self._rest - self.changes * CHANGE_BYTES, min(self.limit // 4, max(self._rest, self.limit // 8)))

    def enter(self, stretch: Checkpoints) -> None:
        """Count the checkpoints of a new stretch, which has none yet."""
        self._stretches.add(stretch)

    def bound(self, limit: int, records: int = 0, *, tight: bool = False) -> None:
        """Set another limit, and apply it immediately; `records` as for the class. If `tight`, scalars and samples get less."""
        self.limit, self._records, self._tight = limit, records, tight
        self._rest = limit - sum(limit // part for part in PARTS.values())
        if self.is_enough:  # otherwise the limit does not hold, and fewer checkpoints would only make it slower
            self._rest = min(self._rest, limit // 8 + self.for_records - records)
        self.took(0)

    def took(self, size: int) -> None:
        """Note a new checkpoint of `size` bytes, and drop checkpoints if they use too much. Fixed ones move to the file instead."""
        self._used += size
        while self._used > self.for_checkpoints:
            self._used = sum(stretch.nbytes for stretch in self._stretches)
            if self._used <= self.for_checkpoints:
                return
            if sum(stretch.spill(self.overflow) for stretch in self._stretches):
                continue
            if sum(stretch.count for stretch in self._stretches) <= FEWEST:
                return
            self.spacing *= 2
            for stretch in self._stretches:
                stretch.thin(self.spacing)


class Overflow:
    """Bytes in a temporary file, which has no name and disappears with the process. Thread-safe.

    `memory_name` names them in messages.
    """

    def __init__(self, memory_name: str) -> None:
        self._memory_name, self._lock, self._process = memory_name, threading.Lock(), os.getpid()
        self._file: IO[bytes] | None = None

    def put(self, data: bytes | memoryview) -> tuple[int, int] | None:
        """Write bytes. Returns their place and size; None if they cannot be written."""
        import tempfile  # imported late: few runs are this long

        with self._lock:
            try:
                if self._process != os.getpid():  # after a fork, the file belongs to the parent process
                    return None
                if self._file is None:
                    self._file = tempfile.TemporaryFile(prefix="tui-gru-", buffering=0)  # noqa: SIM115
                    weakref.finalize(self, self._file.close)
                at = self._file.seek(0, os.SEEK_END)
                rest = memoryview(data)
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:  # disk full: what was written of it is not used
                return None
            return at, len(data)

    def get(self, place: tuple[int, int]) -> bytes:
        """Return bytes by their place and size. Raises `TuiGruError` if they cannot be read."""
        assert self._file is not None
        at, size = place
        with self._lock:
            try:
                if hasattr(os, "pread"):  # forked processes share the file position
                    data = os.pread(self._file.fileno(), size, at)
                else:
                    self._file.seek(at)
                    data = self._file.read(size)
            except OSError:
                data = b""
        if len(data) != size:
            raise TuiGruError(f"the temporary file with {self._memory_name} cannot be read; open the session again")
        return data


# ------------------------------------------------------------------------------
# loss, grad_norm and max_weight of every computed batch: the newest in memory, older ones in a temporary file.


COLUMNS = ("loss", "grad_norm", "max_weight")
BLOCK = 1024  # rows that are written to the file together
READ = 8  # blocks of the file that are cached
BLOCK_BYTES = 8 * len(COLUMNS) * BLOCK

ScalarRows = NDArray[np.float64]


class Scalars:
    """Rows of three numbers, in the order of `COLUMNS`, numbered in the order in which they are added. Rows never change.

    If the file cannot be written, everything stays in memory. Thread-safe.
    """

    def __init__(self, budget: Budget) -> None:
        self.count = 0
        self._budget, self._lock = budget, threading.Lock()
        self._new: dict[int, ScalarRows] = {}  # blocks not yet in the file, by number
        self._read: OrderedDict[int, ScalarRows] = OrderedDict()
        self._overflow = Overflow("the losses of earlier batches")
        self._places: list[tuple[int, int]] = []  # of the blocks in the file

    def add(self, row: Sequence[float]) -> int:
        """Add a row. Returns its number."""
        with self._lock:
            block, at = self._newest()
            block[at] = row
            self.count += 1
            return self.count - 1

    def add_all(self, rows: ScalarRows) -> int:
        """Add rows (n, 3). Returns the number of the first one."""
        with self._lock:
            first = self.count
            while len(rows):
                block, at = self._newest()
                part, rows = rows[: BLOCK - at], rows[BLOCK - at :]
                block[at : at + len(part)] = part
                self.count += len(part)
            return first

    def _newest(self) -> tuple[ScalarRows, int]:
        """Return the block that the next row belongs to, and its place in it."""
        number, at = divmod(self.count, BLOCK)
        if at == 0:
            self._spill()
            self._new[number] = np.empty((BLOCK, len(COLUMNS)))
        return self._new[number], at

    def row(self, at: int) -> list[float]:
        """Return row `at`, as Python floats."""
        with self._lock:
            row: list[float] = self._block(at // BLOCK)[at % BLOCK].tolist()
            return row

    def column(self, name: str, first: int, count: int) -> ScalarRows:
        """Return `count` numbers of a column from row `first` on, (count)."""
        into, done, which = np.empty(count), 0, COLUMNS.index(name)
        with self._lock:
            while done < count:
                block, at = divmod(first + done, BLOCK)
                part = self._block(block)[at : at + count - done, which]
                into[done : done + len(part)] = part
                done += len(part)
        return into

    def _block(self, number: int) -> ScalarRows:
        if number in self._new:
            return self._new[number]
        if number not in self._read:
            while len(self._read) >= READ:
                self._read.popitem(last=False)
            data = self._overflow.get(self._places[number])
            self._read[number] = np.frombuffer(data).reshape(BLOCK, len(COLUMNS))
        self._read.move_to_end(number)
        return self._read[number]

    def _spill(self) -> None:
        """Move the oldest blocks to the file until the rest fits the budget. If that fails, the next block tries again."""
        most = max(1, self._budget.share("scalars") // BLOCK_BYTES)
        while len(self._new) >= most:
            number = len(self._places)
            if (place := self._overflow.put(memoryview(self._new[number].data).cast("B"))) is None:
                return
            self._places.append(place)
            del self._new[number]


# ------------------------------------------------------------------------------
# The past of one stretch of training: its checkpoints, and the rows of its scalars.


POINTERS = 96  # bytes that a checkpoint uses besides its contents
_BATCH = itemgetter(0)


class Checkpoints:
    """Checkpoints and scalars of consecutive batches from `first` on.

    A checkpoint is the state at the start of a batch, as immutable bytes: the weights with the states of the update rule, then
    the hidden states. Checkpoints are at multiples of the budget's spacing; with carry `notebook` the spacing is a multiple of
    the batches in an epoch, because a replay must begin at the start of an epoch. The `fixed` ones are never dropped: replays on
    this machine depend on them, because another machine computed the batches around them.
    """

    __slots__ = ("__weakref__", "_budget", "_end", "_rows", "_runs", "_scalars", "first", "fixed", "length")

    def __init__(self, first: int, budget: Budget, scalars: Scalars) -> None:
        self.first, self.length = first, 0  # computed batches: first … first + length − 1
        self._budget, self._scalars = budget, scalars
        self._rows: list[tuple[int, bytes | tuple[int, int]]] = []  # checkpoints by batch, in order, or their places in the file
        self.fixed: Set[int] = frozenset()  # batches
        self._runs: list[tuple[int, int]] = []  # (batch − first, row of its scalars); later batches follow in order
        self._end = -1  # the row after the last one

    # Checkpoints

    @property
    def count(self) -> int:
        """The number of checkpoints that can be dropped."""
        return len(self._rows) - len(self.fixed)

    @property
    def nbytes(self) -> int:
        """The memory of the checkpoints, in bytes."""
        if not self.fixed:
            return len(self._rows) * _size(self._rows[0][1]) if self._rows else 0
        return sum(_size(row) for _, row in self._rows)

    def is_due(self, batch: int) -> bool:
        """Return True if a checkpoint of `batch` is due: it is the next batch to be computed and a multiple of the spacing."""
        return self.first < batch == self.first + self.length and batch % self._budget.spacing == 0

    def keep(self, batch: int, checkpoint: bytes, *, fixed: bool = False) -> None:
        """Store the checkpoint of `batch`, which is later than all others."""
        if not self._rows:
            self._budget.enter(self)
        self._rows.append((batch, checkpoint))
        if fixed:
            self.fixed = self.fixed | {batch}
        self._budget.took(_size(checkpoint))

    def keep_all(self, checkpoints: Mapping[int, bytes]) -> None:
        """Store the checkpoints of a stretch that has none. All are fixed, until `fix` tells which."""
        if checkpoints:
            self._budget.enter(self)
            self._rows, self.fixed = list(checkpoints.items()), frozenset(checkpoints)
            self._budget.took(self.nbytes)

    def fix(self, batches: Set[int]) -> None:
        """Set which checkpoints are fixed."""
        self.fixed = batches
        self._rows = [(batch, row if batch in batches else self._bytes(row)) for batch, row in self._rows]
        self._budget.took(self.nbytes)

    def thin(self, spacing: int) -> None:
        """Drop the checkpoints whose batch is not a multiple of `spacing`, except for fixed ones."""
        self._rows = [row for row in self._rows if row[0] % spacing == 0 or row[0] in self.fixed]

    def spill(self, overflow: Overflow) -> int:
        """Move the fixed checkpoints to a file. Returns how many were moved."""
        places = {batch: overflow.put(row) for batch, row in self._rows if batch in self.fixed and isinstance(row, bytes)}
        self._rows = [(batch, places.get(batch) or row) for batch, row in self._rows]
        return sum(place is not None for place in places.values())

    def _bytes(self, row: bytes | tuple[int, int]) -> bytes:
        return row if isinstance(row, bytes) else self._budget.overflow.get(row)

    def batch_before(self, batch: int) -> int | None:
        """Return the batch of the last checkpoint at or before `batch`; None if there is none."""
        i = bisect_right(self._rows, batch, key=_BATCH)
        return self._rows[i - 1][0] if i else None

    def before(self, batch: int) -> tuple[int, bytes] | None:
        """Return the batch and bytes of the last checkpoint at or before `batch`; None if there is none."""
        i = bisect_right(self._rows, batch, key=_BATCH)
        return (self._rows[i - 1][0], self._bytes(self._rows[i - 1][1])) if i else None

    def at(self, batch: int) -> bytes | None:
        """Return the checkpoint of `batch`; None if it has none."""
        return self._bytes(self._rows[bisect_right(self._rows, batch, key=_BATCH) - 1][1]) if self.has(batch) else None

    def has(self, batch: int) -> bool:
        """Return True if there is a checkpoint of `batch`."""
        return self.batch_before(batch) == batch

    def after(self, batch: int) -> Iterator[tuple[int, bytes]]:
        """Return an iterator over all checkpoints after `batch`, in order."""
        rows = self._rows[bisect_right(self._rows, batch, key=_BATCH) :]
        return ((at, self._bytes(row)) for at, row in rows)

    def batches_after(self, batch: int) -> Sequence[int]:
        """Return the batches of all checkpoints after `batch`, in order."""
        return [at for at, _ in self._rows[bisect_right(self._rows, batch, key=_BATCH) :]]

    # Numbers

    def add(self, numbers: Sequence[float]) -> None:
        """Add the scalars of the next batch, in the order of `COLUMNS`."""
        self._added(self._scalars.add(numbers), 1)

    def add_all(self, numbers: ScalarRows) -> None:
        """Add the scalars of the next batches, (n, 3)."""
        self._added(self._scalars.add_all(numbers), len(numbers))

    def _added(self, row: int, count: int) -> None:
        if row != self._end:
            self._runs.append((self.length, row))
        self.length += count
        self._end = row + count

    def numbers(self, batch: int) -> list[float]:
        """Return the scalars of a computed batch, in the order of `COLUMNS`."""
        return self._scalars.row(self._row(batch - self.first))

    def column(self, name: str, first: int, last: int) -> ScalarRows:
        """Return one of `COLUMNS` for the computed batches `first` … `last`, (last + 1 − first)."""
        parts = [self._scalars.column(name, row, count) for row, count in self._between(first - self.first, last + 1 - self.first)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _row(self, at: int) -> int:
        start, row = self._runs[bisect_right(self._runs, (at, sys.maxsize)) - 1]
        return row + at - start

    def _between(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the rows of the batches begin … end − 1 (counted from `first`), as pairs of a first row and a number of rows."""
        i = bisect_right(self._runs, (begin, sys.maxsize)) - 1
        while begin < end:
            upto = min(end, self._runs[i + 1][0]) if i + 1 < len(self._runs) else end
            yield self._row(begin), upto - begin
            begin, i = upto, i + 1


def _size(checkpoint: bytes | tuple[int, int]) -> int:
    return sys.getsizeof(checkpoint) + POINTERS


# ------------------------------------------------------------------------------
# Compares a replay with what was recorded: bit for bit on the machine that recorded it, by size on any other.
#
# The last bits of a matrix product, of exp and of tanh depend on the processor, the BLAS and NumPy. On another machine, the
# recorded checkpoints and scalars are therefore taken as the truth, and the replay as an approximation of the way from one to the
# next.


#: A larger difference cannot come from the rounding of a few batches alone: the run amplifies it.
AMPLIFIED = {"float32": 1e-4, "float64": 1e-12}
TWIN_SHARE = 1000  # rounding explains a difference up to this many times the one that it causes in a replay here
MOST_EXAMINED = 8  # stretches of batches in which the effect of rounding is measured
ELSEWHERE = "recorded on another machine"


class Machine(NamedTuple):
    """A machine that has computed batches: its name, and the hash of the first batch of the run as it computes it. Names of
    kernels can be equal although their results are not, so that both must be equal."""

    name: str
    first_batch: str


@cache
def this_machine() -> str:
    """Return what the last bits of a number can depend on: `NumPy 2.1.0 with SkylakeX, AVX512_ICL, glibc 2.41 on Linux x86_64`."""
    from threadpoolctl import threadpool_info  # imported late, as in `NumPySettings`

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas" and pool.get("architecture")]
    numpy_pools = [
        pool for pool in pools if "numpy" in str(pool.get("filepath"))
    ] or pools  # another package may have loaded its own BLAS
    try:
        extensions = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    except (TypeError, AttributeError):
        extensions = []
    try:
        library = [os.confstr("CS_GNU_LIBC_VERSION")]
    except (AttributeError, ValueError, OSError):  # not the C library of GNU, or Windows
        library = [platform.mac_ver()[0] and f"macOS {platform.mac_ver()[0]}"]
    kernels = [*dict.fromkeys(pool["architecture"] for pool in numpy_pools)] or ["unknown kernels"]
    with_ = ", ".join(str(part) for part in (*kernels, *extensions[-1:], *library) if part)
    return f"NumPy {np.__version__} with {with_} on {platform.system()} {platform.machine()}"


class DivergedError(TuiGruError):
    """A replay computed other numbers than the original run, on the same machine."""


def diverged(at: tuple[int, int], difference: str, restored: bool) -> DivergedError:
    """Return the error for a replay of batch `at` (epoch and batch, 0-based) that differs from the run, which was recorded on this
    machine: by this process, or, if `restored`, by an earlier one."""
    why = "this machine gives different results for the same computation"
    if restored:
        why = f"it was recorded with {this_machine()}, like this machine: the file was changed, or one of the two computed wrongly"
    return DivergedError(f"the replay of {batch_in_words(*at)} {difference}: {why}")


def fingerprint(record: BatchRecord) -> str:
    """Return a hash of the results of a batch: the values of its forward pass, and the weights after it. 32 hexadecimal digits."""
    values = (record.array(line.target).tobytes() for line in record.compiled.model.page.lines)
    return blake2b(b"".join((*values, record.after.tobytes())), digest_size=16).hexdigest()


def different(one: Array, other: Array) -> NDArray[np.bool_]:
    """Return True for each number that differs in any bit, in the shape of the arrays; NaN equals NaN."""
    kind = np.dtype(f"u{one.dtype.itemsize}")
    differ: NDArray[np.bool_] = (one.view(kind) != other.view(kind)) & ~(np.isnan(one) & np.isnan(other))
    return differ


def relative(was: Array, now: Array) -> float:
    """Return the largest difference of two arrays, relative to the largest entry of the first; infinite if one is not finite where
    the other is."""
    was, now = np.asarray(was, np.float64).ravel(), np.asarray(now, np.float64).ravel()
    finite = np.isfinite(was)
    if not np.array_equal(finite, np.isfinite(now)):
        return math.inf
    with np.errstate(all="ignore"):
        difference = float(np.abs(was[finite] - now[finite]).max(initial=0.0))
        return (
            difference / max(float(np.abs(was[finite]).max(initial=0.0)), float(np.finfo(np.float32).tiny)) if difference else 0.0
        )


class Reached(NamedTuple):
    """The start of a batch: the weights, with the states of the update rule, and the hidden states, (n)."""

    weights: Weights
    state: Array

    def arrays(self, record: BatchRecord) -> Iterator[Array]:
        """Yield each array: the parameters, the states of the update rule, and the hidden states, as `record` has them."""
        layout, at = self.weights.layout, 0
        yield from (self.weights[name] for name in layout.places)
        for border, _ in record.borders:
            yield self.state[at : at + border.size]
            at += border.size


def largest_relative(was: Reached, now: Reached, record: BatchRecord) -> float:
    """Return the largest relative difference of two starts of the same batch, array by array."""
    return max(map(relative, was.arrays(record), now.arrays(record)), default=0.0)


class BitForBit:
    """The comparison of a replay on the machine that recorded: a difference in any bit raises `DivergedError`.

    `numbers` compares the scalars of a batch, `checkpoint` the start of `batch` that a replay reaches with its checkpoint; `record`
    is that of the batch before. Batches are counted through all epochs.
    """

    def __init__(self, num_batches: int, *, restored: bool) -> None:
        self._num_batches, self._restored = num_batches, restored

    def numbers(self, batch: int, record: BatchRecord, was: Sequence[float]) -> None:
        for name, is_now, then in zip(COLUMNS, (record.loss, record.grad_norm), was, strict=False):
            if not same(is_now, then):
                raise self._diverged(batch, f"has the {name} {is_now!r}, but the run had {then!r}")

    def checkpoint(self, batch: int, record: BatchRecord, was: Reached, now: Reached) -> None:
        if was.weights.updates != now.weights.updates:
            raise self._diverged(batch, _other_updates(was, now))
        differ = different(*(np.concatenate((start.weights.flat, start.state)) for start in (was, now)))
        if differ.any():
            raise self._diverged(batch, f"begins with {int(differ.sum())} of {differ.size} numbers different from its checkpoint")

    def _diverged(self, batch: int, difference: str) -> DivergedError:
        return diverged(divmod(batch, self._num_batches), difference, self._restored)


class Amplified(NamedTuple):
    """A difference larger than rounding in a few batches can cause, and the batch at whose start or end it was met."""

    batch: int
    difference: float


class MachineReport(NamedTuple):
    """What there is to say of a run that another machine recorded: a sentence, a few words, and whether they are a warning."""

    sentence: str
    short: str
    warning: bool


class BySize:
    """The comparison on another machine, with the same methods: measures the difference, and puts the recorded numbers into the
    record, so that curves, conditions and hit counts agree with what was recorded.

    No difference is an error, whatever its size: a run that amplifies rounding reaches any within one batch. `largest` is the
    largest relative difference met so far, `amplified` the earliest one met that rounding alone cannot cause.
    """

    def __init__(self, num_batches: int, dtype: str) -> None:
        self._num_batches, self._bound = num_batches, AMPLIFIED[dtype]
        self.largest = 0.0
        self.amplified: Amplified | None = None
        self._rounding, self._examined = 0.0, 0  # the largest difference that rounding caused in a replay here, of so many

    def numbers(self, batch: int, record: BatchRecord, was: Sequence[float]) -> None:
        now = record.loss, record.grad_norm, record.max_weight
        if not all(map(same, now, was)):
            # A loss near 0 comes from numbers near 1, so that its scale is at least 1. The norm of gradients has no such scale.
            self._note(batch, relative(np.array([was[0], 1.0]), np.array([now[0], 1.0])))
            self._note(batch, relative(np.array(was[2:]), np.array(now[2:])))
            record.replace_numbers(*was)

    def checkpoint(self, batch: int, record: BatchRecord, was: Reached, now: Reached) -> None:
        if was.weights.updates != now.weights.updates:
            at = batch_in_words(*divmod(batch, self._num_batches))
            raise DivergedError(f"the replay of {at} {_other_updates(was, now)}: the file is damaged; go back to a copy of it")
        self._note(batch, largest_relative(was, now, record))
        if record.learned:
            record.replace_after(was.weights)  # so that no weight changes from one batch to the next

    def _note(self, batch: int, difference: float) -> None:
        self.largest = max(self.largest, difference)
        if difference > self._bound and (self.amplified is None or batch < self.amplified.batch):
            self.amplified = Amplified(batch, difference)

    @property
    def _is_explained(self) -> bool:
        """True if rounding causes a difference of that size in a replay here as well."""
        return self.amplified is not None and self._rounding * TWIN_SHARE >= self.amplified.difference

    @property
    def to_explain(self) -> bool:
        """True if the effect of rounding on the batches replayed last is to be measured."""
        amplified = self.amplified
        return (
            amplified is not None
            and math.isfinite(amplified.difference)
            and not self._is_explained
            and self._examined < MOST_EXAMINED
        )

    def explain(self, rounding: float) -> None:
        """Note the difference that rounding causes in a replay here of some batches; NaN if it could not be measured.

        It can be too small by orders of magnitude in a chaotic run. It is therefore used in a sentence only.
        """
        if not math.isnan(rounding):
            self._rounding, self._examined = max(self._rounding, rounding), self._examined + 1

    def report(self) -> MachineReport:
        """Return what to say of the differences met so far."""
        amplified, size = self.amplified, _written(self.largest)
        if amplified is None:
            met = f"numbers differ by up to {size}" if self.largest else "no difference met so far"
            return MachineReport(f"{ELSEWHERE}: {met}", f"other machine: {size}" if self.largest else "other machine", False)
        at, sizes = in_words(*divmod(amplified.batch, self._num_batches)), f"numbers differ by up to {size}"
        if not math.isfinite(self.largest):
            sizes = "some numbers are finite on one of the two machines only"
        if self._is_explained:
            amplification = f"this run amplifies rounding, from {at} on {sizes}"
            return MachineReport(f"{ELSEWHERE}: {amplification}", f"rounding amplified from {at}", True)
        more = ", more than rounding explains" if self._examined == MOST_EXAMINED and math.isfinite(amplified.difference) else ""
        return MachineReport(f"{ELSEWHERE}: from {at} on {sizes}{more}", f"other numbers from {at}", True)


def _written(size: float) -> str:
    return f"{size:,.0f}" if size >= 100 else significant(size, 2)


def _other_updates(was: Reached, now: Reached) -> str:
    return f"begins after {now.weights.updates:,} updates, but its checkpoint was written after {was.weights.updates:,}"


# ------------------------------------------------------------------------------
# A cache of batches, so that nearby batches need not be computed again.


MOST = 64  # batches cached, however small they are
MOST_OF_A_RUN = 2  # more would not fit into the processor's cache, and a replay from a checkpoint is short
LEAST = 4  # batches cached regardless of the limit, unless they are large: the one shown, the one before it, and two to compute in


@dataclass(frozen=True, eq=False, slots=True)
class CachedBatch:
    """A computed batch. `earlier` (carry `notebook`) has the records of the epoch's batches before it, latest first."""

    record: BatchRecord
    earlier: Sequence[BatchRecord] = ()


class RecordCache:
    """The cached batches of all stretches of a session; the least recently used are dropped first. Cached batches never change."""

    def __init__(self, budget: Budget, record_bytes: int, least: int = LEAST) -> None:
        self._budget, self._record_bytes, self._most, self.least = budget, record_bytes, MOST, least
        self._batches: OrderedDict[tuple[int, int], CachedBatch] = OrderedDict()  # by stretch and batch
        self._left: tuple[int, int, BatchRecord] | None = None  # the stretch, number and part of the batch that was left last
        self._in_passes = False  # whether any batch had earlier ones

    @property
    def most(self) -> int:
        """The number of batches that may be cached, without the earlier ones of an epoch that the newest needs."""
        return max(self.least, min(self._most, self._budget.share("records") // self._record_bytes))

    @property
    def run(self) -> int:
        """The number of batches to cache on the way to a batch, so that steps back from it are fast."""
        return min(self.most // 4, MOST_OF_A_RUN)

    def make_room(self) -> None:
        """Drop so many batches that another can be cached; it can then be computed in the record of one of them."""
        while len(self._batches) >= self.most:
            self._batches.popitem(last=False)

    def keep(self, stretch: int, batch: int, cached: CachedBatch) -> None:
        """Cache a batch of a stretch."""
        self._batches[stretch, batch] = cached
        self._in_passes = self._in_passes or bool(cached.earlier)
        self._batches.move_to_end((stretch, batch))
        least = self.least + len(cached.earlier)
        most = max(least, self._budget.share("records") // self._record_bytes)
        while len(self._batches) > self._most or (len(self._batches) > 1 and self._records_in_memory() > most):
            self._batches.popitem(last=False)

    def drop(self, stretch: int, batch: int) -> None:
        """Drop a batch of a stretch, if it is cached."""
        self._batches.pop((stretch, batch), None)

    def has(self, stretch: int, batch: int) -> bool:
        """Return True if a batch of a stretch is cached."""
        return (stretch, batch) in self._batches

    def nearest(self, stretch: int, batch: int) -> tuple[int, CachedBatch] | None:
        """Return the last cached batch of a stretch at or before `batch`, with its number; None if there is none."""
        earlier = (b for s, b in self._batches if s == stretch and b <= batch)
        at = batch if self.has(stretch, batch) else max(earlier, default=None)
        if at is None:
            return None
        self._batches.move_to_end((stretch, at))
        return at, self._batches[stretch, at]

    def clear(self) -> None:
        """Drop all batches."""
        self._batches.clear()
        self._left = None

    def leave(self, stretch: int, batch: int, part: BatchRecord) -> None:
        """Keep only a part of a batch, whose record is about to be used for another."""
        self._left = stretch, batch, part
        self.drop(stretch, batch)

    def left(self, stretch: int, batch: int) -> BatchRecord | None:
        """Return the part of the batch that was left last, if it is this one."""
        return self._left[2] if self._left is not None and self._left[:2] == (stretch, batch) else None

    def _records_in_memory(self) -> int:
        """Return the number of records in memory. Batches of one pass through an epoch share their earlier records."""
        if not self._in_passes:
            return len(self._batches)
        passes: dict[int, int] = {}
        for cached in self._batches.values():
            first = id(cached.earlier[-1] if cached.earlier else cached.record)
            passes[first] = max(passes.get(first, 0), 1 + len(cached.earlier))
        return sum(passes.values())
