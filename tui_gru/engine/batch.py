"""The record of one batch: every computed value, in preallocated arrays whose first axis is time."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.compiled import ArrayView, Compiled, view_of
from tui_gru.engine.lowering import Slot
from tui_gru.engine.weights import Array, Weights

Rounds = list[list[tuple[Array, ...]]]


def _references(holder: Sequence[object], i: int) -> int:
    """Return the reference count of an entry: that of `held`, those of all other holders, and what the call adds.

    How many a local variable or a call adds depends on the version of Python, so only counts that come from here are compared.
    """
    return sys.getrefcount(holder[i])


_UNHELD = _references([object()], 0)


class Beside(NamedTuple):
    """The arrays of a pass that reads the values of one record and writes the deltas of another."""

    deltas: BatchRecord
    views: Mapping[str, tuple[Array, ...]]
    rounds: Mapping[str, Rounds]


@dataclass(frozen=True, eq=False)
class Results:
    """What a batch itself computed, kept in a record whose results were replaced; `after` is None if its weights were not."""

    loss: float
    grad_norm: float
    max_weight: float
    numbers: Mapping[str, float]
    after: Array | None = None


class BatchRecord:
    """One batch: its inputs, every computed value, and its results.

    `record.array("z")` returns a view, (T, B, H). Every named value and labelled part of the equations has one, and every delta.
    `before` has the weights at the start of the batch, `settings` those of the update rule, `numbers` the scalars of the update,
    such as the clipping factor. `loss`, `grad_norm` (the Euclidean norm of all gradients, NaN without learning) and `max_weight`
    (the largest absolute weight) are floats. `own_results` is None unless they were replaced by those of another machine.
    """

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        layout, update, places = compiled.layout, compiled.update, compiled.block
        block = self.block = np.zeros(places.size, compiled.dtype)  # copied and reference-counted as a whole
        self._slots: dict[Slot, Array] = {slot: block[place].reshape(shape) for slot, shape, place in places.slots}
        self._ids = {slot: np.zeros(shape, np.intp) for slot, shape in places.ids}
        self.vectors = {name: block[place] for name, place in places.vectors}
        del block  # its references are counted below
        self.views: dict[str, tuple[Array, ...]] = {}
        self.rounds: dict[str, Rounds] = {}
        # Allocate the weights after the batch and the gradients in every case; the batch may learn or not.
        self.own_after, self.own_gradients = Weights(layout, self.vectors["after"]), Weights(layout, self.vectors["gradient"])
        # Callers receive these arrays directly, and an array in use keeps its memory. All other arrays are handed out as views,
        # which hold a reference to `block`.
        after, gradients = self.own_after, self.own_gradients
        vectors_of = (after.flat, *after.vectors, gradients.flat, gradients.parameters)
        self._watched = (self.block, after, gradients, *vectors_of, *self._ids.values())
        work = (*update.vectors, *(f"scratch {i}" for i in range(update.scratch)))
        self.of_update = (gradients.flat, *after.vectors, *map(self.vectors.__getitem__, work))  # what the update reads and writes
        del after, gradients, vectors_of
        self.before: Weights = self.own_after
        self.learned = False
        self._beside: Beside | None = None
        self.loss = self.grad_norm = self.max_weight = math.nan
        self.settings: Mapping[str, float] = {}
        self.numbers: Mapping[str, float] = {}
        self.own_results: Results | None = None
        self._references = self._counted()
        page = compiled.model.page
        self.loss_array = self.array(page.output) if compiled.model.structure.loss else None
        # Written before every batch: the one-hot inputs with their indices, the first states, and the gradients that reach the last
        # states from after the batch.
        self.one_hot = {name: (self.ids(name), self.array(name)) for name, variable in page.inputs.items() if variable.one_hot}
        self.borders = [(self.border(state, end=False), self.border(state, end=True)) for state in page.states]
        self.flows_in = [
            self.array(page.received(state))[0 if variable.backwards else -1] for state, variable in page.states.items()
        ]
        self._references = self._counted()

    @property
    def after(self) -> Weights:
        """The weights after the batch; equal to `before` if it did not learn."""
        return self.own_after if self.learned else self.before

    @property
    def gradients(self) -> Weights | None:
        """The gradients of all parameters; None if the batch did not learn."""
        return self.own_gradients if self.learned else None

    def array(self, name: str) -> Array:
        """Return a value or delta by name, (T, …), as a view. Raises `KeyError` for an unknown name."""
        operation = self.compiled.schedule.named[name]
        return self.slot(operation.memory, operation.half)

    def slot(self, slot: Slot, half: int = 0) -> Array:
        """Return the memory of a slot as a view. A state has T + 1 entries: `half` 0 gives the first T, 1 the last T. Raises
        `KeyError` for a parameter."""
        array = self._slots[slot]
        return array[...] if slot.kind != "state" else array[1:] if half else array[:-1]

    def ids(self, name: str) -> NDArray[np.intp]:
        """Return the index of the 1 in each row of a one-hot input, (T, B), as a view."""
        return self._ids[self.compiled.schedule.named[f"{name} ids"].memory][...]

    def vector(self, name: str) -> Weights:
        """Return a vector that the update computes besides the weights, such as m_hat, by parameter."""
        return Weights(self.compiled.layout, self.vectors[name][...])

    def update_vector(self, target: str) -> Array:
        """Return the target of a line of the update rule for all weights, (P), as a view: W, a state such as m, or a value such as
        m_hat."""
        names = ("W", *self.compiled.model.rule.states)
        if target not in names:
            return self.vectors[target][...]
        return self.own_after.vectors[names.index(target)]

    def set_one_hot(self, name: str, chosen: NDArray[Any], t: int | slice = slice(None)) -> None:
        """Set the rows of an input from the indices `chosen`, (T, B), or (B) if `t` is one timestep: 1 at the index, 0 elsewhere.

        An input that is declared as numbers gets the same rows: the target of a loss such as the squared error.
        """
        ids, rows = self.one_hot.get(name) or (None, self.array(name))
        if ids is not None:
            ids[t] = chosen
        table = self.compiled.identity(rows.shape[-1])
        if table is not None:
            table.take(chosen, 0, rows[t], "clip")
        else:
            np.equal(chosen[..., None], np.arange(rows.shape[-1]), out=rows[t])

    # States

    def border(self, state: str, *, end: bool) -> Array:
        """Return a state at the start of the batch, or with `end` at its end, (B, ·), as a view."""
        array = self._slots[self.compiled.schedule.named[state].memory]
        border_state: Array = array[-1 if end != self.compiled.model.page.states[state].backwards else 0]
        return border_state

    def states(self, *, end: bool) -> Array:
        """Return a copy of all states at the start of the batch, or with `end` at its end, flattened and concatenated."""
        return np.frombuffer(b"".join([border[end].data for border in self.borders]), self.compiled.dtype)

    def begin_with(self, states: Array) -> None:
        """Set the states at the start of the batch from one vector: all states flattened and concatenated."""
        at = 0
        for border, _ in self.borders:
            border[...] = states[at : at + border.size].reshape(border.shape)
            at += border.size

    @property
    def finite(self) -> bool:
        """True if the loss and all parameters after the batch are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.max_weight)

    # Results of another machine

    def replace_numbers(self, loss: float, grad_norm: float, max_weight: float) -> None:
        """Replace the scalars of the batch."""
        self._keep_own()
        self.loss, self.grad_norm, self.max_weight = loss, grad_norm, max_weight
        if "grad_norm" in self.numbers:
            self.numbers = {**self.numbers, "grad_norm": grad_norm}

    def replace_after(self, weights: Weights) -> None:
        """Replace the weights after the batch, which must have learned."""
        results = self._keep_own()
        if results.after is None:
            self.own_results = replace(results, after=self.own_after.flat.copy())
        self.own_after.flat[...] = weights.flat

    def _keep_own(self) -> Results:
        if self.own_results is None:
            self.own_results = Results(self.loss, self.grad_norm, self.max_weight, self.numbers)
        return self.own_results

    def as_computed(self) -> BatchRecord:
        """Return the record with its own results: itself, or a copy if they were replaced."""
        results = self.own_results
        if results is None:
            return self
        twin = self.copy()
        twin.loss, twin.grad_norm, twin.max_weight, twin.numbers = (
            results.loss,
            results.grad_norm,
            results.max_weight,
            results.numbers,
        )
        twin.own_results = None
        if results.after is not None:
            twin.own_after.flat[...] = results.after
        return twin

    # Memory

    def cut(self, name: str) -> None:
        """Create the views that a pass reads, unless they exist: whole arrays, and one view for each round of its loops."""
        if name not in self.views:
            with self._own_references():
                self.views[name], self.rounds[name] = self._cut(name, self, ())

    @contextmanager
    def _own_references(self) -> Iterator[None]:
        """Count references to the arrays that are created in this context as the record's own, not as use by a caller."""
        before = self._counted()
        yield
        made = (now - then for now, then in zip(self._counted(), before, strict=True))
        self._references = [count + more for count, more in zip(self._references, made, strict=True)]

    def arrays_with(self, deltas: BatchRecord) -> Beside:
        """Return the arrays for the pass into an earlier batch, which reads the values of this record and writes into `deltas`."""
        if self._beside is None or self._beside.deltas is not deltas:
            written = {operation.memory for operation in self.compiled.schedule.phases["backward"].operations}
            written |= {
                self.compiled.schedule.named[self.compiled.model.page.received(state)].memory for state in self.compiled.states
            }
            with self._own_references():
                views, rounds = self._cut("earlier", deltas, written)
                self._beside = Beside(deltas, {"earlier": views}, {"earlier": rounds})
                del views, rounds
        return self._beside

    def _cut(self, name: str, deltas: BatchRecord, written: Collection[Slot]) -> tuple[tuple[Array, ...], Rounds]:
        code = self.compiled.function(name).code
        phase = self.compiled.schedule.phases["forward" if name.startswith("forward") else "backward"]

        def cut_view(view: ArrayView) -> Array:
            owner = deltas if view.slot in written else self
            if view.slot.kind == "ids":
                return view_of(view.form, owner._ids[view.slot])
            array = owner.slot(view.slot, view.half) if view.slot.kind == "state" else owner._slots[view.slot]
            return view_of(view.form, array) if view.form else array

        def timesteps(view: ArrayView) -> Iterable[Array]:
            """Return the view of each timestep. Iterating over a 1-D array would give numbers instead of views."""
            array = cut_view(view)
            return array if array.ndim > 1 else (array[t, ...] for t in range(len(array)))

        rounds = [list(zip(*map(timesteps, views), strict=True))[:: phase.directions[loop]] for loop, views in code.loops.items()]
        return tuple(map(cut_view, code.views["R"])), rounds

    def copy(self, into: BatchRecord | None = None) -> BatchRecord:
        """Return a record with the same contents: `into`, or a new one. It shares `before`, which is never changed in place."""
        twin = BatchRecord(self.compiled) if into is None else into
        twin.block[...] = self.block
        for slot, ids in self._ids.items():
            twin._ids[slot][...] = ids
        twin.before, twin.learned = self.before, self.learned
        twin.loss, twin.grad_norm, twin.max_weight = self.loss, self.grad_norm, self.max_weight
        twin.settings, twin.numbers, twin.own_results = self.settings, self.numbers, self.own_results
        twin.own_after.updates = self.own_after.updates
        return twin

    def part(self, names: Collection[str], after: Weights) -> BatchRecord:
        """Return a copy with what these names read, the results, and `after`, a copy of the weights after the batch. Of values,
        deltas, gradients and vectors of the update, which take nearly all memory, the others have no numbers, and nothing can be
        computed in it."""
        twin: BatchRecord = object.__new__(BatchRecord)
        twin.__dict__.update(self.__dict__)
        layout, none = self.own_after.layout, np.empty(0, self.compiled.dtype)
        slots = {operation.memory for name, operation in self.compiled.schedule.named.items() if name in names}
        twin._slots = {slot: array.copy() for slot, array in self._slots.items() if slot in slots}
        twin._ids = {slot: array.copy() for slot, array in self._ids.items() if slot in slots}
        twin.block, twin.views, twin.rounds = none, {}, {}
        twin.one_hot, twin.borders, twin.flows_in, twin.loss_array, twin._beside = {}, [], [], None, None
        read = {vector for vector in self.vectors for parameter in layout.shapes if f"{vector}_{parameter}" in names}
        read |= {"gradient"} if any(f"d{parameter}" in names for parameter in layout.shapes) else set()
        twin.vectors = {name: vector.copy() if name in read else none for name, vector in self.vectors.items()}
        twin.own_after = twin.before = after
        twin.own_gradients = Weights(layout, twin.vectors["gradient"])
        twin._watched, twin.of_update, twin._references = (), (), []
        return twin

    def take_deltas(self, other: BatchRecord) -> None:
        """Replace the deltas and gradients with those of another record."""
        phase = self.compiled.schedule.phases["backward"]
        for slot in dict.fromkeys(operation.memory for operation in phase.operations if operation.memory.kind != "parameter"):
            self._slots[slot][...] = other._slots[slot]
        self.own_gradients.flat[...] = other.own_gradients.flat
        self.learned = True

    @property
    def nbytes(self) -> int:
        """The size of its arrays in bytes."""
        return self.block.nbytes + sum(ids.nbytes for ids in self._ids.values())

    @property
    def is_read(self) -> bool:
        """True if a caller holds one of its arrays or weights. The record must then not be reused. `before` must be `own_after`."""
        if _references(self._watched, 1) != self._references[1]:  # the most frequent case: the next batch holds the weights
            return True
        return self._counted() != self._references

    def _counted(self) -> list[int]:
        """Return the reference counts of the memory and weights, without the views that were created for passes."""
        counts = [_references(self._watched, i) for i in range(len(self._watched))]
        counts[0] -= self.own_after.cut_views + self.own_gradients.cut_views
        return counts


class RecordPool:
    """Records of one compiled model. A record is reused when no caller holds it, since allocating memory for a batch takes as long
    as computing it.

    Reference counts show which records are free. The pool keeps at most `most` records; others exist as long as a caller holds
    them.
    """

    def __init__(self, compiled: Compiled, most: int = sys.maxsize) -> None:
        self._compiled, self.most = compiled, most
        self._records: list[BatchRecord] = []  # least recently used first

    def take(self) -> BatchRecord:
        """Return a free record, or a new one. A free record still has the contents of its last use."""
        records = self._records
        for i in range(len(records) - 1, -1, -1):  # the newest first: each releases the weights of the one before it
            if _references(records, i) == _UNHELD:
                record = records[i]
                record.before = record.own_after  # releases the weights of the batch before
                if not record.is_read:
                    del records[i]
                    break
        else:
            del records[: len(records) - self.most + 1 if len(records) >= self.most else 0]
            record = BatchRecord(self._compiled)
        records.append(record)
        return record
