"""Everything that is computed in one batch, in arrays made beforehand, time first."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.compiled import Compiled
from tui_gru.engine.emission import View, cut
from tui_gru.engine.operations import Slot
from tui_gru.engine.weights import Array, Weights

Rounds = list[list[tuple[Array, ...]]]

_UNHELD = 3  # references to a record that only the pool has: from its list, a local name, and the call that counts
_ALIGNED = 16  # entries: every array begins at a multiple of 64 bytes


@dataclass(frozen=True, eq=False)
class Beside:
    """The values of one record beside the deltas of another, as a pass reads them."""

    deltas: BatchRecord
    views: Mapping[str, tuple[Array, ...]]
    rounds: Mapping[str, Rounds]


class BatchRecord:
    """One batch: what went in, everything computed, and what came out.

    `record.array("z")` is (T, B, H), a view; every named value and labelled part of the equations is there, and every delta.
    `before` are the weights that the batch began with, `settings` those of its update. `numbers` has what the update computes once,
    such as the factor of clipping.
    `loss`, `grad_norm` (the Euclidean norm of all gradients, NaN without learning) and `max_weight` are numbers.
    """

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        layout, update = compiled.layout, compiled.update
        floats = {slot: compiled.slot_shape(slot) for slot in compiled.slots if slot.kind != "ids"}
        vectors = {"gradient": layout.count, "after": layout.size} | dict.fromkeys(update.vectors, layout.count)
        vectors |= {f"scratch {i}": layout.count for i in range(update.scratch)}
        sizes = [math.prod(shape) for shape in floats.values()] + list(vectors.values())
        starts = np.cumsum([0, *(-(-size // _ALIGNED) * _ALIGNED for size in sizes)]).tolist()
        self.block = np.zeros(starts[-1], compiled.dtype)  # one array for all, so that they can be copied and counted at once
        pieces = [self.block[start : start + size] for start, size in zip(starts, sizes, strict=False)]
        self._slots: dict[Slot, Array] = {
            slot: piece.reshape(shape) for (slot, shape), piece in zip(floats.items(), pieces, strict=False)
        }
        self._ids = {slot: np.zeros(compiled.slot_shape(slot), np.intp) for slot in compiled.slots if slot.kind == "ids"}
        self.vectors = dict(zip(vectors, pieces[len(floats) :], strict=True))
        del pieces  # or they would be counted below
        self.scratch = [self.vectors[f"scratch {i}"] for i in range(update.scratch)]
        self.views: dict[str, tuple[Array, ...]] = {}
        self.rounds: dict[str, Rounds] = {}
        # Its own memory for the weights after it and for the gradients, there whether it has learned or not.
        self.own_after, self.own_gradients = Weights(layout, self.vectors["after"]), Weights(layout, self.vectors["gradient"])
        # What is handed out as it is, so that whoever holds it holds the memory. Of all else views are, which hold `block`.
        vectors_of = (self.own_after.flat, self.own_after.parameters, self.own_gradients.flat, self.own_gradients.parameters)
        self._watched = (self.block, *vectors_of, *self._ids.values())
        del vectors_of
        self.before: Weights = self.own_after
        self.learned = False
        self._beside: Beside | None = None
        self.learning_rate = self.loss = self.grad_norm = self.max_weight = math.nan
        self.settings: Mapping[str, float] = {}
        self.numbers: Mapping[str, float] = {}
        self._references: tuple[int, ...] = self._counted()
        for name in ("forward", "backward"):
            self.cut(name)
            compiled.cut(self.own_after, name)
        page = compiled.model.page
        self.loss_array = self.array(page.output) if compiled.model.structure.loss else None
        # What is set before every batch: the one-hot inputs with their indices, the first states, and the gradients from behind
        # the end.
        self.one_hot = {name: (self.ids(name), self.array(name)) for name, given in page.inputs.items() if given.one_hot}
        self.borders = [(self.border(state, end=False), self.border(state, end=True)) for state in page.states]
        self.flows_in = [self.array(page.ahead(state))[0 if given.backwards else -1] for state, given in page.states.items()]
        compiled.cut(self.own_gradients, "backward", "G")
        self._references = self._counted()

    @property
    def after(self) -> Weights:
        """The weights after the batch: those before it where it did not learn."""
        return self.own_after if self.learned else self.before

    @property
    def gradients(self) -> Weights | None:
        """The gradients of all parameters; None where the batch did not learn."""
        return self.own_gradients if self.learned else None

    def array(self, name: str) -> Array:
        """Any value or delta by its name, (T, …), a view. `KeyError` where the model has none of that name."""
        operation = self.compiled.schedule.named[name]
        return self.slot(operation.memory, operation.half)

    def slot(self, slot: Slot, half: int = 0) -> Array:
        """The memory of a slot, a view; of a state its half that begins `half` timesteps later. `KeyError` for a parameter."""
        array = self._slots[slot]
        return array[...] if slot.kind != "state" else array[1:] if half else array[:-1]

    def ids(self, name: str) -> NDArray[np.intp]:
        """The indices (T, B) of the rows of a one-hot input, a view."""
        return self._ids[self.compiled.schedule.named[f"{name} ids"].memory][...]

    def vector(self, name: str) -> Weights:
        """What the update computes besides the weights, such as m_hat, by parameter."""
        return Weights(self.compiled.layout, self.vectors[name][...])

    def update_vector(self, target: str) -> Array:
        """What a line of the update rule computes for all weights, (P), a view: W, m, or a value between such as m_hat."""
        names = ("W", *self.compiled.model.rule.states)
        if target not in names:
            return self.vectors[target][...]
        count, i = self.compiled.layout.count, names.index(target)
        return self.own_after.flat[i * count : (i + 1) * count]

    def set_one_hot(self, name: str, chosen: NDArray[Any], t: int | slice = slice(None)) -> None:
        """Set a one-hot input to the rows of the indices `chosen` (T, B), or (B) where `t` is one timestep."""
        ids, rows = self.one_hot[name]
        ids[t] = chosen
        table = self.compiled.identity(rows.shape[-1])
        if table is not None:
            table.take(chosen, 0, rows[t], "clip")
        else:
            np.equal(chosen[..., None], np.arange(rows.shape[-1]), out=rows[t])

    # States

    def border(self, state: str, *, end: bool) -> Array:
        """A state (B, ·) as the batch found it, or as it left it; a view."""
        array = self._slots[self.compiled.schedule.named[state].memory]
        found: Array = array[-1 if end != self.compiled.model.page.states[state].backwards else 0]
        return found

    def states(self, *, end: bool) -> Array:
        """All states as the batch found them, or as it left them, flat one behind the other; memory of its own."""
        if len(self.borders) == 1:
            return self.borders[0][end].flatten()
        return np.concatenate([border[end].ravel() for border in self.borders])

    def begin_with(self, states: Array) -> None:
        """Set what the batch begins with: all states, flat one behind the other."""
        at = 0
        for border, _ in self.borders:
            border[...] = states[at : at + border.size].reshape(border.shape)
            at += border.size

    @property
    def finite(self) -> bool:
        """Whether the loss and all parameters after the batch are finite."""
        return math.isfinite(self.loss) and bool(np.isfinite(self.after.parameters).all())

    # Memory

    def cut(self, name: str) -> None:
        """Cut the arrays that a pass reads, once: whole, and for each round of its loops."""
        if name not in self.views:
            with self._own_references():
                self.views[name], self.rounds[name] = self._cut(name, self, ())

    @contextmanager
    def _own_references(self) -> Iterator[None]:
        """References to its arrays that are made meanwhile are its own, and do not count as someone's reading it."""
        before = self._counted()
        yield
        made = (now - then for now, then in zip(self._counted(), before, strict=True))
        self._references = tuple(own + more for own, more in zip(self._references, made, strict=True))

    def beside(self, deltas: BatchRecord) -> Beside:
        """What the pass into an earlier batch reads: the values of this record, and `deltas` for what it writes."""
        if self._beside is None or self._beside.deltas is not deltas:
            written = {operation.memory for operation in self.compiled.schedule.phases["backward"].operations}
            written |= {
                self.compiled.schedule.named[self.compiled.model.page.ahead(state)].memory for state in self.compiled.states
            }
            with self._own_references():
                views, rounds = self._cut("earlier", deltas, written)
                self._beside = Beside(deltas, {"earlier": views}, {"earlier": rounds})
                del views, rounds
        return self._beside

    def _cut(self, name: str, deltas: BatchRecord, written: Collection[Slot]) -> tuple[tuple[Array, ...], Rounds]:
        code = self.compiled.function(name).code
        phase = self.compiled.schedule.phases["forward" if name.startswith("forward") else "backward"]

        def cut_view(view: View) -> Array:
            owner = deltas if view.slot in written else self
            array = owner._ids[view.slot] if view.slot.kind == "ids" else owner.slot(view.slot, view.half)
            return cut(view.form, array)

        def timesteps(view: View) -> Iterable[Array]:
            """Views of each timestep in turn: an array gives them, but of one number only the number."""
            array = cut_view(view)
            return array if array.ndim > 1 else (array[t, ...] for t in range(len(array)))

        rounds = [list(zip(*map(timesteps, views), strict=True))[:: phase.ways[loop]] for loop, views in code.loops.items()]
        return tuple(map(cut_view, code.views["R"])), rounds

    def copy(self) -> BatchRecord:
        """A record of its own with the same contents; the weights before it are shared, since nothing changes them in place."""
        twin = BatchRecord(self.compiled)
        twin.block[...] = self.block
        for slot, ids in self._ids.items():
            twin._ids[slot][...] = ids
        twin.before, twin.learned, twin.learning_rate = self.before, self.learned, self.learning_rate
        twin.loss, twin.grad_norm, twin.max_weight = self.loss, self.grad_norm, self.max_weight
        twin.settings, twin.numbers = self.settings, self.numbers
        twin.own_after.updates = self.own_after.updates
        return twin

    def take_deltas(self, other: BatchRecord) -> None:
        """Put the deltas and gradients of another record in the place of its own."""
        phase = self.compiled.schedule.phases["backward"]
        for slot in dict.fromkeys(operation.memory for operation in phase.operations if operation.memory.kind != "parameter"):
            self._slots[slot][...] = other._slots[slot]
        self.own_gradients.flat[...] = other.own_gradients.flat
        self.learned = True

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.block.nbytes + sum(ids.nbytes for ids in self._ids.values())

    @property
    def is_read(self) -> bool:
        """Whether someone else holds one of its arrays or weights, so that it must not be used again."""
        if self._weights_counted() != self._references[-1]:  # the next batch begins with them: the most frequent reason first
            return True
        return self._counted() != self._references

    def _counted(self) -> tuple[int, ...]:
        """How often its memory and its weights are held, without the views that those have cut for passes."""
        block, *others = map(sys.getrefcount, self._watched)
        cut_views = self.own_after.cut_views + self.own_gradients.cut_views
        return block - cut_views, *others, sys.getrefcount(self.own_gradients), self._weights_counted()

    def _weights_counted(self) -> int:
        itself = self.before is self.own_after  # of a record that has not been run
        return sys.getrefcount(self.own_after) - itself


class RecordPool:
    """Records of one compiled model, used again once nobody holds them: fresh memory for each batch costs as much as computing it.

    Python counts references, so that it is known at once when the last one goes.
    """

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._records: list[BatchRecord] = []  # in the order in which they were taken last

    def take(self) -> BatchRecord:
        """A record that nobody holds, or a new one. What was computed in it before is still there."""
        records = self._records
        # In a long run it is the oldest; after one, the newest lets go of the weights of the one before it, and so on.
        for i in (0, *range(len(records) - 1, 0, -1)) if records else ():
            record: BatchRecord = records[i]
            if sys.getrefcount(record) == _UNHELD:
                record.before = record.own_after  # so that the weights of the batch before it are not held by it
                if not record.is_read:
                    records.append(records.pop(i))
                    return record
        record = BatchRecord(self._compiled)
        records.append(record)
        return record
