"""Compares a replay with what was recorded: bit for bit on the machine that recorded it, by size on any other.

The last bits of a matrix product, of exp and of tanh depend on the processor, the BLAS and NumPy. On another machine, the recorded
checkpoints and scalars are therefore taken as the truth, and the replay as an approximation of the way from one to the next.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import blake2b
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.checkpoints.scalars import COLUMNS
from tui_gru.debugger.program.position import batch_in_words, in_words
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.numbers import given, same
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Array, Weights

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
    from threadpoolctl import threadpool_info  # imported late, as in `numpy_settings`

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas" and pool.get("architecture")]
    own = [pool for pool in pools if "numpy" in str(pool.get("filepath"))] or pools  # another package may have loaded its own BLAS
    try:
        found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    except (TypeError, AttributeError):
        found = []
    try:
        library = [os.confstr("CS_GNU_LIBC_VERSION")]
    except (AttributeError, ValueError, OSError):  # not the C library of GNU, or Windows
        library = [platform.mac_ver()[0] and f"macOS {platform.mac_ver()[0]}"]
    kernels = [*dict.fromkeys(pool["architecture"] for pool in own)] or ["unknown kernels"]
    with_ = ", ".join(str(each) for each in (*kernels, *found[-1:], *library) if each)
    return f"NumPy {np.__version__} with {with_} on {platform.system()} {platform.machine()}"


class DivergedError(TuiGruError):
    """A replay computed other numbers than the original run, on the same machine."""


def diverged(at: tuple[int, int], what: str, restored: bool) -> DivergedError:
    """Return the error for a replay of batch `at` (epoch and batch, 0-based) that differs from the run, which was recorded on this
    machine: by this process, or, if `restored`, by an earlier one."""
    why = "this machine gives different results for the same computation"
    if restored:
        why = f"it was recorded with {this_machine()}, like this machine: the file was changed, or one of the two computed wrongly"
    return DivergedError(f"the replay of {batch_in_words(*at)} {what}: {why}")


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
        apart = float(np.abs(was[finite] - now[finite]).max(initial=0.0))
        return apart / max(float(np.abs(was[finite]).max(initial=0.0)), float(np.finfo(np.float32).tiny)) if apart else 0.0


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


def largest_difference(was: Reached, now: Reached, record: BatchRecord) -> float:
    """Return the largest relative difference of two starts of the same batch, array by array."""
    return max(map(relative, was.arrays(record), now.arrays(record)), default=0.0)


class ReplayComparison(Protocol):
    """Compares a replay with what was recorded of the same batches. Batches are counted through all epochs."""

    def numbers(self, batch: int, record: BatchRecord, was: Sequence[float]) -> None:
        """Compare the scalars of a batch."""

    def checkpoint(self, batch: int, record: BatchRecord, was: Reached, now: Reached) -> None:
        """Compare the start of `batch` that a replay reaches with its checkpoint; `record` is that of the batch before."""


class BitForBit:
    """The comparison on the machine that recorded: a difference in any bit raises `DivergedError`."""

    def __init__(self, num_batches: int, *, restored: bool) -> None:
        self._num_batches, self._restored = num_batches, restored

    def numbers(self, batch: int, record: BatchRecord, was: Sequence[float]) -> None:
        for name, is_now, then in zip(COLUMNS, (record.loss, record.grad_norm), was, strict=False):
            if not same(is_now, then):
                raise self._diverged(batch, f"has the {name} {is_now!r}, but the run had {then!r}")

    def checkpoint(self, batch: int, record: BatchRecord, was: Reached, now: Reached) -> None:
        if was.weights.updates != now.weights.updates:
            raise self._diverged(batch, _other_updates(was, now))
        differ = different(*(np.concatenate((each.weights.flat, each.state)) for each in (was, now)))
        if differ.any():
            raise self._diverged(batch, f"begins with {int(differ.sum())} of {differ.size} numbers different from its checkpoint")

    def _diverged(self, batch: int, what: str) -> DivergedError:
        return diverged(divmod(batch, self._num_batches), what, self._restored)


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
    """The comparison on another machine: measures the difference, and puts the recorded numbers into the record, so that curves,
    conditions and hit counts agree with what was recorded.

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
        self._note(batch, largest_difference(was, now, record))
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
        found = self.amplified
        return found is not None and math.isfinite(found.difference) and not self._is_explained and self._examined < MOST_EXAMINED

    def explain(self, rounding: float) -> None:
        """Note the difference that rounding causes in a replay here of some batches; NaN if it could not be measured.

        It can be too small by orders of magnitude in a chaotic run. It is therefore used in a sentence only.
        """
        if not math.isnan(rounding):
            self._rounding, self._examined = max(self._rounding, rounding), self._examined + 1

    def report(self) -> MachineReport:
        """Return what to say of the differences met so far."""
        found, size = self.amplified, _written(self.largest)
        if found is None:
            met = f"numbers differ by up to {size}" if self.largest else "no difference met so far"
            return MachineReport(f"{ELSEWHERE}: {met}", f"other machine: {size}" if self.largest else "other machine", False)
        at, sizes = in_words(*divmod(found.batch, self._num_batches)), f"numbers differ by up to {size}"
        if not math.isfinite(self.largest):
            sizes = "some numbers are finite on one of the two machines only"
        if self._is_explained:
            said = f"this run amplifies rounding, from {at} on {sizes}"
            return MachineReport(f"{ELSEWHERE}: {said}", f"rounding amplified from {at}", True)
        more = ", more than rounding explains" if self._examined == MOST_EXAMINED and math.isfinite(found.difference) else ""
        return MachineReport(f"{ELSEWHERE}: from {at} on {sizes}{more}", f"other numbers from {at}", True)


def _written(size: float) -> str:
    return f"{size:,.0f}" if size >= 100 else given(size, 2)


def _other_updates(was: Reached, now: Reached) -> str:
    return f"begins after {now.weights.updates:,} updates, but its checkpoint was written after {was.weights.updates:,}"
