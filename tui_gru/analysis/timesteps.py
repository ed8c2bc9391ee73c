"""Units over the timesteps of a run that reads numbers, such as a recording, and the rows with the largest gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tui_gru.analysis.units import PROBED, Activity, Feature, Mask
from tui_gru.debugger.program import Program, unknown_name
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.source import Imported
from tui_gru.engine.weights import Array, Float64Array
from tui_gru.equations.page import LIVE
from tui_gru.equations.syntax import with_word
from tui_gru.errors import TuiGruError

MOST_INPUTS = 32  # that are features
TIME = "timestep"  # the name of the feature that counts them


class TimestepPlace(NamedTuple):
    """A timestep of a row of a batch, all counted from 0."""

    batch: int
    row: int
    t: int


@dataclass(frozen=True, eq=False)
class Timesteps:
    """The timesteps of some batches, row by row, without those after the end of a row: `places` (n, 3) has the batch, row and t of
    each. `record` returns the complete record of a batch, `name_of` how a batch is called."""

    program: Program
    batches: Sequence[int]
    record: Callable[[int], BatchRecord]
    name_of: Callable[[int], str]

    @classmethod
    def up_to(cls, program: Program, batch: int, record: Callable[[int], BatchRecord], name_of: Callable[[int], str]) -> Timesteps:
        """Return those of a batch and of the batches before it, at most `PROBED` of them, or one batch."""
        sizes = program.config.sizes
        count = max(1, PROBED // (sizes["T"] * sizes["B"])) if isinstance(program.config.source, Imported) else 1
        return cls(program, range(max(0, batch + 1 - count), batch + 1), record, name_of)

    @cached_property
    def places(self) -> Array:
        T, B = (self.program.config.sizes[axis] for axis in "TB")
        grid = np.stack(np.meshgrid(self.batches, np.arange(B), np.arange(T), indexing="ij"), axis=-1).reshape(-1, 3)
        return grid if self._is_live is None else grid[self._is_live]

    @cached_property
    def _is_live(self) -> Mask | None:
        if not self.program.model.structure.lengths:
            return None
        masks = [self.record(batch).array(LIVE).reshape(self.program.config.sizes["T"], -1).T for batch in self.batches]
        return np.asarray(np.concatenate([mask.ravel() for mask in masks]) > 0)

    def place(self, at: int) -> TimestepPlace:
        """Return where the timestep number `at` is."""
        return TimestepPlace(*map(int, self.places[at]))

    def words(self, at: int) -> str:
        """Return where a timestep is, in words, counted from 1."""
        batch, row, t = self.place(at)
        return f"{self.name_of(batch)} row {row + 1} t {t + 1}"

    def moment(self, at: int) -> str:
        """Return the place in time of a timestep, such as `e1 b3 t2`."""
        batch, _, t = self.place(at)
        epoch, number = divmod(batch, self.program.num_batches)
        return f"e{epoch + 1} b{number + 1} t{t + 1}"

    def values(self, name: str) -> Array:
        """Return a value of every unit at each timestep, (n, units). Raises `TuiGruError` for a name without rows and timesteps."""
        named = self.program.names.get(name)
        if named is None or not named.timed or named.axes[:1] != ("B",):
            timed = [other for other, n in self.program.names.items() if n.timed and n.axes[:1] == ("B",)]
            raise TuiGruError(unknown_name(name, timed).replace("no value named", "no value of every timestep and row named"))
        T = self.program.config.sizes["T"]
        # (T, B, units) → row by row
        parts = [self.record(batch).array(name).reshape(T, self.program.config.sizes["B"], -1) for batch in self.batches]
        together = np.concatenate([part.transpose(1, 0, 2).reshape(-1, part.shape[2]) for part in parts])
        return together if self._is_live is None else together[self._is_live]

    def features(self) -> list[Feature]:
        """Return what the units can follow: each of the inputs, unless there are too many, and the timestep in its row."""
        features = [Feature(TIME, "timesteps since the row began", _numbers(self.places[:, 2]))]
        source = self.program.input
        if self.program.names[source].axes[-1:] and not self.program.model.page.inputs[source].one_hot:
            columns = self.values(source)
            if columns.shape[1] <= MOST_INPUTS:
                name = self.program.writer.name(source)
                features += [
                    Feature(f"{name}[input {i + 1}]", "an input", _numbers(columns[:, i])) for i in range(columns.shape[1])
                ]
        return features

    def features_of(self, name: str, numbers: Array) -> list[Feature]:
        """Return the features of an array of the user: (T, B) or (T, B, K) for each batch alike, or with the batches before these.
        Raises `TuiGruError` for another shape, or numbers of which none is finite."""
        numbers = np.asarray(numbers)
        T, B = (self.program.config.sizes[axis] for axis in "TB")
        source = self.program.config.source
        count = len(source.batches) if isinstance(source, Imported) else len(self.batches)
        if numbers.dtype.kind not in "biuf":
            raise TuiGruError(f"{name} has no numbers")
        if numbers.shape[:2] == (T, B) and numbers.ndim in (2, 3):
            numbers = np.broadcast_to(numbers[None], (len(self.batches), *numbers.shape))
        elif numbers.shape[:3] == (count, T, B) and numbers.ndim in (3, 4):
            numbers = numbers[list(self.batches)] if count > len(self.batches) else numbers
        else:
            shape = ", ".join(map(str, numbers.shape))
            raise TuiGruError(
                f"{name} has the shape ({shape}); a feature has one number for each timestep and row, ({T}, {B}), or for those of "
                f"all batches, ({count}, {T}, {B}); a last axis holds several features"
            )
        columns = numbers.reshape(len(self.batches), T, B, -1).transpose(0, 2, 1, 3).reshape(len(self.batches) * T * B, -1)
        columns = columns if self._is_live is None else columns[self._is_live]
        finite = np.isfinite(columns)
        if not finite.any():
            raise TuiGruError(f"{name} has no finite number, so no unit can follow it")
        means = np.divide(
            columns.sum(axis=0, where=finite), finite.sum(axis=0), where=finite.any(axis=0), out=np.zeros(columns.shape[1])
        )
        columns = np.where(finite, columns, means)
        names = [name] if columns.shape[1] == 1 else [f"{name}[{k + 1}]" for k in range(columns.shape[1])]
        return [Feature(column_name, "of your array", _numbers(columns[:, k])) for k, column_name in enumerate(names)]

    def activity(self, name: str, features: Sequence[Feature]) -> Activity:
        """Return the values of a name over these timesteps, with the features that units may follow."""
        return Activity(name, self.values(name), "", own=(*self.features(), *features), words_at=self.words, moment_at=self.moment)

    def largest_gradients(self, count: int) -> list[tuple[TimestepPlace, float]]:
        """Return the rows to whose output and last states the head and the loss have given the largest gradients, the largest
        first: the norm over the row, and the timestep with the largest part of it. Raises `TuiGruError` if there is no gradient."""
        outputs = self.program.model.page.outputs
        names = [with_word(f"d{output}", "given") for output in outputs] or [f"d{self.program.main_state}"]
        norms: list[tuple[TimestepPlace, float]] = []
        for batch in self.batches:
            record = self.record(batch)
            if not record.learned:
                continue
            squares = np.sum([np.square(record.array(name).astype(np.float64)).sum(axis=-1) for name in names], axis=0)  # (T, B)
            if outputs:
                _add_last_states(squares, record)
            by_time = np.sqrt(squares)
            by_row: Float64Array = np.linalg.norm(by_time, axis=0)
            latest = by_time.argmax(axis=0)
            norms += [(TimestepPlace(batch, row, int(latest[row])), float(norm)) for row, norm in enumerate(by_row)]
        if not norms:
            raise TuiGruError("this run has no gradients, so no row stands out by its own")
        return sorted(norms, key=lambda pair: -np.nan_to_num(pair[1], nan=np.inf))[:count]


def _add_last_states(squares: Float64Array, record: BatchRecord) -> None:
    """Add the squares of the gradients of the last states to those of the timesteps (T, B) with which the states end."""
    rows, states = np.arange(squares.shape[1]), record.compiled.model.page.states
    lengths = np.full(len(rows), len(squares))
    if record.compiled.model.structure.lengths:
        lengths = record.array(LIVE).reshape(squares.shape).sum(axis=0).astype(int)
    for state, flow in zip(record.compiled.states, record.flows_in, strict=True):
        ends = 0 * lengths if states[state].backwards else np.maximum(lengths - 1, 0)
        squares[ends, rows] += np.square(flow.astype(np.float64)).sum(axis=-1)


def _numbers(column: Array) -> Callable[[object], Array]:
    return lambda text: column


def feature_arrays(features: object, read: Callable[[Path], Array]) -> Mapping[str, Array]:
    """Return arrays by name: of a mapping, of an array alone, or of a .npy file. Raises `TuiGruError`."""
    if isinstance(features, Mapping):
        return {str(name): np.asarray(array) for name, array in features.items()}
    if isinstance(features, str | Path):
        path = Path(features).expanduser()
        return {path.stem: read(path)}
    return {"feature": np.asarray(features)}
