"""Reads a whole text with the weights of one moment: any value after every character, as one row from a zero state.

One row is slow, so a long text is cut into pieces that are read in parallel, as rows of a batch. A piece begins at zero states,
and is then read again from the last state of the piece before it, until its states equal those of the first reading: a network
forgets its initial state. A network that does not is read as one row.

For a bidirectional model, the text is cut into windows of the training's timesteps, each from zero states. A value that depends on
other rows of its batch, such as a mean over the rows, is read as one row; one that depends on all timesteps, in windows of the
training's timesteps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.compiling.compiled import compiled
from tui_gru.engine.config import Config, machine_memory
from tui_gru.engine.data.given import weights_for
from tui_gru.engine.data.tokens import Text, index_of, token_word
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.model import model_of
from tui_gru.engine.numbers import gib
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.numpy_settings import NUMPY_SETTINGS
from tui_gru.engine.running.weights import Array, Weights
from tui_gru.equations.backward import mixed
from tui_gru.equations.errors import did_you_mean

PIECES = 16  # read in parallel
SHORTEST = 512  # characters of a piece
CHUNK = 32  # timesteps computed at once; a reading can be stopped between chunks
PATIENCE = 0.5  # share of a piece within which its states must converge; otherwise the text is read as one row
ROUNDINGS = 16  # units in the last place by which equal states may differ

ReadingProgress = Callable[[int, int], object]  # characters read, and characters to read (more if it starts again)
StopRequested = Callable[[], bool]


class StoppedError(TuiGruError):
    """A long computation was stopped."""


def indices_of(config: Config, text: Text) -> NDArray[np.intp]:
    """Return the characters of a text as indices into the vocabulary, (n).

    Raises `TuiGruError` for no text, or a character not in it.
    """
    index = index_of(config.vocabulary)
    if not text:
        raise TuiGruError(f"the text is empty; give at least one {token_word(config.vocabulary)} of the vocabulary", option="text")
    if (strange := next((i for i, char in enumerate(text) if char not in index), None)) is not None:
        raise TuiGruError(
            f"character {text[strange]!r} at position {strange + 1} of the text is not in the vocabulary {config.shown_vocabulary}",
            option="text",
        )
    return np.fromiter((index[char] for char in text), np.intp, len(text))


def read_text(
    config: Config,
    weights: Weights,
    text: Text,
    names: Sequence[str],
    *,
    progress: ReadingProgress | None = None,
    stop: StopRequested | None = None,
) -> dict[str, Array]:
    """Return the values of `names` after each character of a text of n characters, by name: (n, units), or (n) of one for each row.

    Each is the value that the model computes at that timestep after reading the text from its start (for a bidirectional model, its
    window). The target is the next character; values that depend on it are NaN after the last character. `progress` and `stop` are
    called between chunks.

    Does not touch the run or its records, so any thread can call it. Raises `TuiGruError` if the text does not fit the vocabulary
    or the values do not fit into memory, `StoppedError` if it was stopped.
    """
    ids = indices_of(config, text)
    _check_names(config, names)
    _check_memory(config, names, len(ids))
    reader = _Reader(config, weights, ids, names, progress or _ignore, stop or _never)
    with NUMPY_SETTINGS:
        if config.bidirectional:
            return reader.windows(config.seq_length)
        count = max(1, min(PIECES, len(ids) // SHORTEST)) if reader.in_parallel and not reader.in_windows else 1
        return (reader.side_by_side(count) if count > 1 and reader.forgets(count) else None) or reader.one_row()


def _ignore(done: int, total: int) -> None: ...


def _never() -> bool:
    return False


def _check_names(config: Config, names: Sequence[str]) -> None:
    known = [name for name, axes in config.model.axes.items() if axes[:2] == ("T", "B")]
    for name in names:
        if name not in known:
            raise TuiGruError(f"{name!r} is not a value of every character; {did_you_mean(name, known)}")


def _check_memory(config: Config, names: Sequence[str], count: int) -> None:
    shapes = [config.compiled.shape(config.model.axes[name])[2:] for name in names]
    needed = count * sum(int(np.prod(shape)) for shape in shapes) * np.dtype(config.dtype).itemsize
    if needed > machine_memory() // 4:
        raise TuiGruError(
            f"{', '.join(names)} after each of {count:,} characters would take {gib(needed)}; give a part of the text",
            option="text",
        )


class _Reader:
    """One reading of a text. Values are stored in the order of the text, as `piece · length + timestep`."""

    def __init__(
        self,
        config: Config,
        weights: Weights,
        ids: NDArray[np.intp],
        names: Sequence[str],
        progress: ReadingProgress,
        stop: StopRequested,
    ) -> None:
        self._config, self._weights, self._ids, self._names = config, weights, ids, names
        self._progress, self._stop = progress, stop
        self._page, self._axes = config.model.page, config.model.axes
        self._total, self._done = len(ids), 0
        layers = replace(config.structure, head="", loss="", update="sgd", clip=False)  # enough if no other name is read
        self._structure = layers if all(name in model_of(layers).axes for name in names) else config.structure
        self._model = model_of(self._structure)

    @cached_property
    def in_parallel(self) -> bool:
        """True if the rows of a batch do not depend on each other."""
        return mixed(self._model.page, "B").isdisjoint(self._names)

    @cached_property
    def in_windows(self) -> bool:
        """True if a value depends on all timesteps of its batch."""
        return not mixed(self._model.page, "T").isdisjoint(self._names)

    def forgets(self, pieces: int) -> bool:
        """Return True if rows with different initial states converge within the part of a piece that may be read again.

        If they do not, reading in parallel is useless.
        """
        record, inputs, targets = self._record(2, CHUNK), *self._shifted()
        states = [np.zeros_like(begin) for begin, _ in record.borders]
        for state in states:
            state[1] = 0.5
        for first in range(0, int(PATIENCE * len(self._ids) / pieces) - CHUNK, CHUNK):
            here = slice(first, first + CHUNK)
            states = self._chunk(record, states, np.tile(inputs[here], (2, 1)), np.tile(targets[here], (2, 1)))
            if all(_is_same(state[0], state[1]) for state in states):
                return True
        return False

    def side_by_side(self, rows: int) -> dict[str, Array] | None:
        """Read as pieces that are corrected afterwards; None if this network does not forget its initial state."""
        chunks = -(-len(self._ids) // (rows * CHUNK))
        record, values = self._record(rows, CHUNK), self._values(rows, chunks * CHUNK)
        inputs, targets = (self._padded(ids, rows, chunks * CHUNK) for ids in self._shifted())
        ends: list[list[Array]] = []
        for again in (False, True):
            states = _from_the_piece_before(ends[-1]) if again else [np.zeros_like(begin) for begin, _ in record.borders]
            for j in range(chunks):
                here = slice(j * CHUNK, (j + 1) * CHUNK)
                states = self._chunk(record, states, inputs[:, here], targets[:, here])
                for name, kept in values.items():
                    kept[:, here] = record.array(name).swapaxes(0, 1)
                self._advance(0 if again else rows * CHUNK)
                if again and all(map(_is_same, states, ends[j])):
                    return self._whole(values)
                if again and (j + 1) >= PATIENCE * chunks:
                    self._total += len(self._ids)
                    return None
                ends[j : j + 1] = [states]
        return None

    def one_row(self) -> dict[str, Array]:
        """Read as one row."""
        inputs, targets = self._shifted()
        length = min(self._config.seq_length if self.in_windows else 8 * CHUNK, len(self._ids))
        record, values = self._record(1, length), self._values(1, len(self._ids))
        states = [np.zeros_like(begin) for begin, _ in record.borders]
        for first in range(0, len(self._ids), length := self._length(record)):
            if len(self._ids) - first < length:  # the rest, without padding
                record = self._record(1, len(self._ids) - first)
            here = slice(first, first + self._length(record))
            states = self._chunk(record, states, inputs[None, here], targets[None, here])
            for name, kept in values.items():
                kept[:, here] = record.array(name).swapaxes(0, 1)
            self._advance(self._length(record))
        return self._whole(values)

    def windows(self, length: int) -> dict[str, Array]:
        """Read window by window, each from zero states at both ends."""
        count, rest = divmod(len(self._ids), length)
        inputs, targets = self._shifted()
        values = self._values(1, len(self._ids))
        pieces = PIECES if self.in_parallel else 1
        whole = [(first, min(first + pieces, count), length) for first in range(0, count, pieces)]
        for first, last, size in [*whole, *([(count, count + 1, rest)] if rest else [])]:
            record, at = self._record(last - first, size), slice(first * length, first * length + (last - first) * size)
            states = [np.zeros_like(begin) for begin, _ in record.borders]
            self._chunk(record, states, inputs[at].reshape(-1, size), targets[at].reshape(-1, size))
            for name, kept in values.items():
                found = record.array(name).swapaxes(0, 1)
                kept[0, at] = found.reshape(-1, *found.shape[2:])
            self._advance((last - first) * size)
        return self._whole(values)

    def _record(self, rows: int, timesteps: int) -> BatchRecord:
        config = self._config
        sizes = config.sizes | {"B": rows, "T": timesteps}
        model = compiled(self._structure, sizes, config.dtype)
        record = BatchRecord(model)
        record.before = weights_for(self._structure, sizes, config.dtype, dict(self._weights.items()))
        record.cut("forward")
        model.cut(record.before, "forward")
        return record

    def _values(self, rows: int, length: int) -> dict[str, Array]:
        shapes = {name: self._config.compiled.shape(self._axes[name])[2:] for name in self._names}
        return {name: np.empty((rows, length, *shape), self._config.dtype) for name, shape in shapes.items()}

    def _shifted(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the inputs, and the targets after them; the last target is arbitrary."""
        return self._ids, np.append(self._ids[1:], 0)

    @staticmethod
    def _padded(ids: NDArray[np.intp], rows: int, length: int) -> NDArray[np.intp]:
        return np.pad(ids, (0, rows * length - len(ids))).reshape(rows, length)

    @staticmethod
    def _length(record: BatchRecord) -> int:
        return record.compiled.sizes["T"]

    def _chunk(
        self, record: BatchRecord, states: Sequence[Array], inputs: NDArray[np.intp], targets: NDArray[np.intp]
    ) -> list[Array]:
        """Compute (rows, timesteps) characters from these states. Returns the states after them."""
        if self._stop():
            raise StoppedError(f"stopped after {self._done:,} of {len(self._ids):,} characters")
        indices = np.arange(self._config.vocab_size)
        for name, (into, one_hot) in record.one_hot.items():
            into[...] = (targets if self._page.inputs[name].target else inputs).T
            np.equal(into[..., None], indices, out=one_hot)
        for (begin, _), state in zip(record.borders, states, strict=True):
            begin[...] = state
        record.compiled.functions["forward"].run(record, record.before, None)
        return [end.copy() for _, end in record.borders]

    def _advance(self, characters: int) -> None:
        self._done = min(self._done + characters, self._total)
        self._progress(self._done, self._total)

    def _whole(self, values: dict[str, Array]) -> dict[str, Array]:
        found = {name: kept.reshape(-1, *kept.shape[2:])[: len(self._ids)] for name, kept in values.items()}
        for name in set(found) & self._target_readers:
            found[name][-1] = np.nan
        return found

    @property
    def _target_readers(self) -> set[str]:
        """The values that depend on the target."""
        found = {name for name, given in self._page.inputs.items() if given.target}
        for line in self._page.lines:
            for node in line.formula.walk():
                if found.intersection(node.names()):
                    found |= {node.label or line.target, line.target}
        return found


def _from_the_piece_before(ends: Sequence[Array]) -> list[Array]:
    """Return the initial states of the pieces: zero for the first, the last state of the piece before for the others."""
    starts = [np.roll(end, 1, axis=0) for end in ends]
    for start in starts:
        start[0] = 0
    return starts


def _is_same(now: Array, before: Array) -> bool:
    """Return True if two states are equal up to rounding."""
    scale = max(1.0, float(np.abs(before).max()))
    return bool(np.abs(now - before).max() <= ROUNDINGS * np.finfo(now.dtype).eps * scale)
