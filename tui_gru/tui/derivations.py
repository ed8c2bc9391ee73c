"""The derivations of the numbers of a walk, for its page: computed there from recorded arrays, or written when the page is made."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.derivation import (
    FEW,
    FLOAT32_DIGITS,
    MOST_TERMS,
    SIGNS,
    DerivationRow,
    Node,
    Path,
    ValueRef,
    first_opened,
    laid_out,
)
from tui_gru.debugger.explain import Explainer
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import Position, in_words
from tui_gru.debugger.program import ProgramName, Store, ValueKind
from tui_gru.debugger.rules import NoRuleError, Rules
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.numbers import short_percent
from tui_gru.engine.source import Imported
from tui_gru.engine.weights import Array
from tui_gru.errors import TuiGruError, safe_text
from tui_gru.tui.draw import Ref

MOST_EXPLAINED = 20_000  # terms of all written derivations; the first numbers are explained
MOST_RECORDED = 2_000_000  # numbers of all recorded arrays; the first batches are recorded


# ------------------------------------------------------------------------------
# Derivations that the page computes, from the rules of the program and what its batches recorded.


class DerivedNumbers:
    """The numbers of a walk that its page can derive, in the batches of its moments and those that these continue.

    Raises `NoRuleError` if the page cannot derive them: where numbers were edited or imported, or where the gradient flows into
    earlier batches.
    """

    def __init__(self, timeline: Timeline, ticks: tuple[int, ...], most: int = MOST_RECORDED) -> None:
        program, source = timeline.program, timeline.program.config.source
        edited = any(segment.edited and segment.start <= ticks[-1] for segment in timeline.segments)
        if edited or isinstance(source, Imported) or program.earlier or not timeline.last.own:
            raise NoRuleError("numbers that do not follow from the lines of the program alone")
        self._timeline, self._program, self._ticks = timeline, program, ticks
        self._rules, self._explainer = Rules(timeline.moment(ticks[0])), Explainer(timeline)
        self._chunks: list[Array] = []
        self._size, self._most = 0, most
        self._weights: dict[bytes, int] = {}
        self._batches: dict[int, dict[str, Any]] = {}
        self._partial: dict[str, int] = {}
        self._refs: dict[tuple[Any, ...], int] = {}
        self._known: tuple[int, dict[tuple[Any, ...], bool]] = -1, {}
        self.refused = 0  # numbers of batches that there is no room for
        self._names = [name for name, named in program.names.items() if named.kind.store is Store.ARRAY]
        self._names += [name for name in program.parts if name not in program.names]
        shown = dict.fromkeys(timeline.position(tick).number for tick in ticks)
        for batch in (*shown, *dict.fromkeys(chain.from_iterable(map(self._read_by, shown)))):
            self._record(batch)
        for tick in ticks:
            self._record_sums(timeline.moment(tick), program.names_of(ValueKind.GRADIENT))
            line = timeline.position(tick).line
            if line is not None and line.target in program.names_of(ValueKind.GRADIENT):  # it shows the sum before it, too
                self._record_sums(timeline.moment(tick - 1), (line.target,))

    def estimate(self) -> int:
        """Return about how many bytes they take in the page."""
        itemsize = self._program.config.compiled.dtype.itemsize
        return self._size * itemsize * 4 // 3 + 200 * len(self._batches) + len(str(self._rules.data)) // 4

    def number_of(self, ref: Ref, at: Position) -> int | None:
        """Return the number of a place that shows a number at a moment; None if its derivation is not in the page."""
        named, tick = self._program.names.get(ref.name), at.tick - ref.before
        if named is None or named.kind.store is Store.NOTHING:
            return None
        if self._known[0] != at.tick:
            self._known = at.tick, {}
        values, key = self._known[1], (ref.name, ref.t, ref.before)
        if key not in values:
            t = at.t if ref.t is None and named.timed else ref.t
            values[key] = self._timeline.moment(tick).value(ref.name, t) is not None
        if not values[key]:
            return None
        if self._timeline.position(tick).number not in self._batches:
            self.refused += 1
            return None
        return self._refs.setdefault((ref.name, ref.index, ref.t, int(ref.before)), len(self._refs))

    def data(self) -> dict[str, Any]:
        """Return what the page derives them from, without the arrays."""
        program, page = self._program, self._program.model.page
        record = self._timeline.record(next(iter(self._batches), 0))
        weights = {name: np.shape(record.before[name]) for name in program.weights}
        blocks = [[b.start, len(b.lines), b.steps, b.direction, [line.phase for line in b.lines]] for b in program.blocks]
        return self._rules.data | {
            "refs": list(self._refs),
            "itemsize": program.config.compiled.dtype.itemsize,
            "ticks": self._ticks,
            "words": self._rules.words(),
            "names": {name: self._name(named) for name, named in program.names.items()},
            "states": {state: [page.before(state), variable.backwards] for state, variable in page.states.items()},
            "homes": {name: self._home(name) for name in program.parts if name not in program.names},
            "initial": {name: self._note(name, np.shape(record.before[name]), None, 0) for name in program.weights},
            "blocks": blocks,
            "batch": [program.ticks, program.num_batches, program.seq_length, program.backward_end],
            "arrays": [[name, *np.shape(array)] for name, array in self._arrays(record)],
            "weights": [[name, *shape] for name, shape in weights.items()],
            "batches": self._batches,
            "partial": self._partial,
            "limits": [FEW, MOST_TERMS, FLOAT32_DIGITS],
            "signs": SIGNS,
        }

    def packed(self) -> bytes:
        """Return all arrays, one after the other, little-endian: first the lowest byte of each number, then the next."""
        dtype = self._program.config.compiled.dtype.newbyteorder("<")
        flat = np.concatenate([chunk.ravel() for chunk in self._chunks]).astype(dtype) if self._chunks else np.zeros(0, dtype)
        return flat.view(np.uint8).reshape(-1, dtype.itemsize).T.tobytes()

    def _name(self, named: ProgramName) -> list[Any]:
        program, name = self._program, named.name
        at = self._home(name) if named.kind.store is not Store.NOTHING else None
        of = program.state_receiving(name) or (named.read_in if named.kind is ValueKind.STATE else named.of)
        one_hot = name in program.model.page.inputs and program.model.page.inputs[name].one_hot
        return [safe_text(program.writer.name(name)), named.kind.name, named.axes, int(named.timed), at, of, int(one_hot)]

    def _home(self, name: str) -> list[int] | None:
        """Return the block and the line in it that compute a name."""
        place = self._program.place_of(name)
        return None if place is None else [place[0].number, place[1]]

    # What is recorded of a batch

    def _read_by(self, batch: int) -> Iterator[int]:
        """Yield the batches whose numbers those of a batch are derived from: the one before it, and that of the last update."""
        if batch:
            yield batch - 1
        learned = self._timeline.learned_before(batch)
        if learned is not None:
            yield learned

    def _record(self, batch: int) -> None:
        if batch in self._batches:
            return
        record = self._timeline.record(batch)
        arrays = [array for _, array in self._arrays(record)]
        if self._size + sum(array.size for array in arrays) + 2 * record.before.flat.size > self._most:
            return
        end = self._timeline.end_of(batch)
        numbers = {"loss": record.loss, "grad_norm": record.grad_norm, "max_weight": record.max_weight, **record.numbers}
        self._batches[batch] = {
            "at": self._added(*arrays),
            "before": self._weights_at(record, after=False),
            "after": self._weights_at(record, after=True),
            "learned": int(record.learned),
            "from": self._timeline.learned_before(batch),
            "numbers": {name: value if np.isfinite(value) else str(value) for name, value in numbers.items()},
            "updates": record.before.updates + 1,
            "settings": dict(record.settings),
            "set": {name: self._note(name, (), None, end) for name in record.settings if name in self._program.names},
            "begins": self._begins(end),
            "inputs": self._inputs(end),
        }

    def _arrays(self, record: BatchRecord) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield the arrays of a batch with their names: values, parts, gradients and the vectors of the update."""
        program, page, schedule = self._program, self._program.model.page, self._program.config.compiled.schedule
        for name in self._names:
            one_hot = name in page.inputs and page.inputs[name].one_hot
            yield name, record.ids(name) if one_hot else record.array(name)
        for name, part in self._rules.activations.items():
            operation = schedule.activation(part)
            yield name, record.slot(operation.memory, operation.half)
        for name, named in program.names.items():
            if named.kind.store in (Store.GRADIENTS, Store.VECTORS):
                yield name, named.array(record)

    def _added(self, *arrays: NDArray[Any]) -> int:
        """Add copies of arrays, and return the place of the first number."""
        at = self._size
        dtype = self._program.config.compiled.dtype
        self._chunks += [np.array(array, dtype) for array in arrays]
        self._size += sum(array.size for array in arrays)
        return at

    def _weights_at(self, record: BatchRecord, *, after: bool) -> int:
        weights = record.after if after else record.before
        arrays = [np.asarray(weights[name]) for name in self._program.weights]
        key = b"".join(array.tobytes() for array in arrays)
        if key not in self._weights:
            self._weights[key] = self._added(*arrays)
        return self._weights[key]

    def _record_sums(self, moment: Moment, names: Iterable[str]) -> None:
        """Record the gradients of which a moment has the shares of some timesteps only."""
        program, offset, batch = self._program, moment.position.offset, moment.position.number
        if batch not in self._batches or not moment.learned or offset >= program.backward_end:
            return
        for name in names:
            place, done = program.place_of(name), program.steps_done(name, offset)
            if place is None:
                continue
            if 0 < done < place[0].steps and (key := f"{batch} {name} {done}") not in self._partial:
                gradient = moment.value(name)
                if self._size + gradient.size <= self._most:
                    self._partial[key] = self._added(gradient)

    # What is noted at numbers that no line computes

    def _note(self, name: str, shape: tuple[int, ...], t: int | None, tick: int) -> str:
        try:
            derivation = self._explainer.explain(ValueRef(name, (0,) * len(shape), t, tick)).derivation
        except TuiGruError:
            return ""
        return safe_text(derivation.note)

    def _begins(self, end: int) -> dict[str, str | None]:
        """Return how each state begins in a batch, in words; None if it continues that of the batch before."""
        program, begins = self._program, {}
        for state, variable in program.model.page.states.items():
            name, t = program.model.page.before(state), program.seq_length - 1 if variable.backwards else 0
            index = (0,) * len(program.names[name].axes)
            derivation = self._explainer.explain(ValueRef(name, index, t, end)).derivation
            begins[state] = safe_text(derivation.note) if derivation.kind == "given" else None
        return begins

    def _inputs(self, end: int) -> dict[str, list[list[str]]]:
        """Return what is noted at each input, by timestep and row."""
        program, notes = self._program, {}
        rows = range(program.config.compiled.sizes["B"])
        for name in program.model.page.inputs:
            rest = (0,) * (len(program.names[name].axes) - 1)
            notes[name] = [
                [safe_text(self._explainer.explain(ValueRef(name, (row, *rest), t, end)).derivation.note) for row in rows]
                for t in range(program.seq_length)
            ]
        return notes


# ------------------------------------------------------------------------------
# Derivations that are written when the page is made, as rows whose terms can be opened.


class ExplainedNumbers:
    """The derivations of a walk by number. A number is identified by the line that computed it, so it is explained once."""

    def __init__(self, timeline: Timeline, ticks: tuple[int, ...]) -> None:
        self._timeline, self._ticks, self._explainer = timeline, ticks, Explainer(timeline)
        self._known: dict[ValueRef, int | None] = {}
        self._by_place: dict[tuple[Any, ...], int] = {}
        self._laid_out: list[tuple[DerivationRow, ...]] = []
        self._room = MOST_EXPLAINED
        self.refused = 0  # numbers without a derivation because there are too many

    def estimate(self) -> int:
        """Return about how many bytes they take in the page, if there are no more than in a usual walk."""
        return 12 * min(MOST_EXPLAINED, 100 * len(self._ticks))

    def packed(self) -> bytes:
        """Return the arrays that the page reads: none."""
        return b""

    def number_of(self, ref: Ref, at: Position) -> int | None:
        """Return the number of the derivation of a number that is shown at a moment; None if it has none."""
        named = self._timeline.program.names.get(ref.name)
        t = at.t if ref.t is None and named is not None and named.timed else ref.t
        number = ValueRef(ref.name, ref.index, t, at.tick - ref.before)
        if number not in self._known:
            self._known[number] = self._added(number)
        return self._known[number]

    def _added(self, ref: ValueRef) -> int | None:
        if self._room <= 0:
            self.refused += 1
            return None
        try:
            node = self._explainer.explain(ref)
            place = self._place(node)
        except TuiGruError:  # it is not computed yet
            return None
        if place not in self._by_place:
            rows = laid_out(node, frozenset(_parts(node)))
            self._room -= len(rows)
            self._by_place[place] = len(self._laid_out)
            self._laid_out.append(rows)
        return self._by_place[place]

    def _place(self, node: Node) -> tuple[Any, ...]:
        """Return what identifies a number: its name and entry, and the tick at which it was computed."""
        number, derivation = node.number, node.derivation
        assert number is not None
        tick = number.tick if derivation.tick is None else derivation.tick
        is_given = derivation.kind == "given"
        return number.name, number.index, derivation.note if is_given else tick, number.before, node.value if is_given else None

    def data(self) -> list[Any]:
        """Return each derivation: name, value, line, the place in words, its moment (None: not in the file), how it is computed,
        and the rows of its terms: depth, sign, name, value, share, computation, whether it is open at first, its derivation
        (None: not in the file). A row does not repeat the name, the value and the computation of its derivation.
        """
        return [self._written(*rows) for rows in self._laid_out]

    def _written(self, root: DerivationRow, *rows: DerivationRow) -> list[Any]:
        node = root.node
        assert node is not None
        assert node.number is not None
        number, derivation, opened = node.number, node.derivation, first_opened(node)
        tick = number.tick if derivation.tick is None else derivation.tick
        at, place = self._timeline.position(tick), ""
        if derivation.kind != "given":
            place = in_words(at.epoch, at.batch, at.t, at.phase, step=at.step, between=" · ") if tick else "before the first line"
        ticks = self._ticks
        moment = bisect_left(ticks, tick) if place and ticks[0] <= tick <= ticks[-1] else None
        terms = [self._term(row, row.path in opened) for row in rows]
        return [safe_text(node.label), root.written, safe_text(derivation.formula), place, moment, safe_text(root.made), terms]

    def _term(self, row: DerivationRow, opened: bool) -> list[Any]:
        node, entry, name, written, made = row.node, None, safe_text(row.label), row.written, safe_text(row.made)
        if node is not None and node.number is not None and node.derivation.near:
            entry = self._by_place.get(self._place(node))
        if entry is not None:
            its, made = self._laid_out[entry][0], ""
            name = "" if its.label == row.label else name
            written = "" if its.written == written else written
        share = "" if row.share is None else short_percent(row.share)
        return [len(row.path), row.sign, name, written, share, made, int(opened), entry]


def _parts(node: Node, path: Path = ()) -> Iterator[Path]:
    """Yield the paths of the terms that are parts of the line and not numbers of the run; those have derivations of their own."""
    if len(node.terms) > MOST_TERMS:  # of a long sum, what is computed of each term is written beside it
        return
    for i, term in enumerate(node.terms):
        if term.number is None and term.derivation.near and term.terms:
            yield (*path, i)
            yield from _parts(term, (*path, i))
