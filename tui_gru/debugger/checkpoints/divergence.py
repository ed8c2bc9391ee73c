"""A replay that is not, bit for bit, what the run was: how it is noticed, and how it is said."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.checkpoints.machine import this_machine
from tui_gru.debugger.program.position import batch_in_words
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.weights import Array


class DivergedError(TuiGruError):
    """A replay computed something else than the original run did."""


def diverged(at: tuple[int, int], what: str, machine: str) -> DivergedError:
    """The error of a replay of batch `at` (epoch, batch of it; 0-based) that does not match; `machine` has recorded the run.

    `machine` is empty where the run was of this same process.
    """
    if not machine:
        why = "this machine does not compute the same way twice"
    elif machine == this_machine():
        why = f"it was recorded with {machine}, as this one is: the file was changed, or one of them computed wrongly"
    else:
        why = f"it was recorded with {machine}, and this machine, {this_machine()}, does not compute the same numbers"
    return DivergedError(f"the replay of {batch_in_words(*at)} {what}: {why}")


def fingerprint(record: BatchRecord) -> str:
    """A hash of what the computation of a batch comes to."""
    return blake2b(record.array(record.compiled.model.page.output).tobytes() + record.after.tobytes(), digest_size=16).hexdigest()


def different(one: Array, other: Array) -> NDArray[np.bool_]:
    """Which numbers are not the same, bit for bit; one that is not a number is the same as another such."""
    kind = np.dtype(f"u{one.dtype.itemsize}")
    differ: NDArray[np.bool_] = (one.view(kind) != other.view(kind)) & ~(np.isnan(one) & np.isnan(other))
    return differ
