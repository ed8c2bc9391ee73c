"""Detects and reports a replay that differs from the original run in any bit, with the machines that computed both."""

from __future__ import annotations

import platform
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.program.position import batch_in_words
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Array


def this_machine() -> str:
    """Return the versions that the last bits of a matrix product can depend on: `NumPy 2.1.0 on Linux x86_64`."""
    return f"NumPy {np.__version__} on {platform.system()} {platform.machine()}"


class DivergedError(TuiGruError):
    """A replay computed other numbers than the original run."""


def diverged(at: tuple[int, int], what: str, machine: str) -> DivergedError:
    """Return the error for a replay of batch `at` (epoch and batch, 0-based) that differs from the run.

    `machine` names the machine that recorded the run; it is empty if this process did.
    """
    if not machine:
        why = "this machine gives different results for the same computation"
    elif machine == this_machine():
        why = f"it was recorded with {machine}, like this machine: the file was changed, or one of the two computed wrongly"
    else:
        why = f"it was recorded with {machine}, and this machine, {this_machine()}, computes different numbers"
    return DivergedError(f"the replay of {batch_in_words(*at)} {what}: {why}")


def fingerprint(record: BatchRecord) -> str:
    """Return a hash of the results of a batch: its output and the weights after it. 32 hexadecimal digits."""
    return blake2b(record.array(record.compiled.model.page.output).tobytes() + record.after.tobytes(), digest_size=16).hexdigest()


def different(one: Array, other: Array) -> NDArray[np.bool_]:
    """Return True for each number that differs in any bit, in the shape of the arrays; NaN equals NaN."""
    kind = np.dtype(f"u{one.dtype.itemsize}")
    differ: NDArray[np.bool_] = (one.view(kind) != other.view(kind)) & ~(np.isnan(one) & np.isnan(other))
    return differ
