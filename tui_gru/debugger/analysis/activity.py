"""Units over time: a value of every unit after every character of a row or of a whole text, and its correlations.

As in LSTMVis (Strobelt et al. 2018) and in the pictures of the sentiment neuron (Radford et al. 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.analysis.classes import CLASSES, CharacterClass
from tui_gru.debugger.program.names import unknown_name
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.engine import arguments
from tui_gru.engine.data.tokens import Text, picked
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.weights import Array, Float64Array

BEFORE, AFTER = 12, 8  # characters of the text that are shown around a place
APART = 10  # characters between two places at which a unit is highest
_ROWS = 2**13  # timesteps summed in the array's dtype before the sum is added to a float64


@dataclass(frozen=True)
class TextPlace:
    """A character (0-based) of the text, and the unit's value after it."""

    at: int
    value: float


@dataclass(frozen=True)
class Correlated:
    """A unit (0-based) or a class, and Pearson's correlation r with it."""

    what: int | str
    r: float


@dataclass(frozen=True, eq=False)
class Activity:
    """`values` (n, units) of `name`: row i has the values after the character `text[i]`, NaN if not computed yet.

    `text` is empty for a model that reads no characters. `row` is the row of the batch (0-based), None for a whole text. Units that
    do not vary, and values that are not finite, have the correlation 0.
    """

    name: str
    values: Array
    text: Text
    row: int | None = None

    def __repr__(self) -> str:
        of = "a text" if self.row is None else f"row {self.row + 1}"
        return f"<{self.name} over {of}: {len(self.values)} characters, {self.units} units>"

    @property
    def units(self) -> int:
        return int(self.values.shape[1])

    def unit(self, unit: int) -> Array:
        """Return the values of one unit, (n)."""
        return self.values[:, self._checked(unit)]

    def _checked(self, unit: int) -> int:
        return arguments.whole("the unit", unit, least=0, most=self.units - 1)

    @cached_property
    def _there(self) -> Array:
        """The computed timesteps, without a copy if all are computed."""
        there = np.isfinite(self.values).all(axis=1)
        return self.values if there.all() else self.values[there]

    @cached_property
    def means(self) -> Float64Array:
        """The mean of each unit, (units)."""
        return _means(self._there)

    @cached_property
    def deviations(self) -> Float64Array:
        """The standard deviation of each unit, (units)."""
        squares = np.zeros(self.units)
        for i in range(0, len(self._there), _ROWS):
            squares += np.square(self._there[i : i + _ROWS] - self.means).sum(axis=0)
        return np.sqrt(squares / max(len(self._there), 1))

    # Correlations

    def correlations(self, unit: int) -> Float64Array:
        """Return Pearson's correlation of a unit with every unit, (units)."""
        if "pairs" in vars(self):
            pair: Float64Array = self.pairs[self._checked(unit)]
            return pair
        found: Float64Array = self._with(self._there[:, self._checked(unit), None])[0]
        return found

    @cached_property
    def pairs(self) -> Float64Array:
        """Pearson's correlation of every unit with every unit, (units, units). Once it is computed, `correlations` reads it.

        For a long text, it takes as long as the correlations of fifty units one by one.
        """
        return self._with(self._there)

    def like(self, unit: int, count: int = 5) -> list[Correlated]:
        """Return the units whose correlation with one is largest in magnitude."""
        found = self.correlations(unit)
        order = [int(other) for other in np.argsort(-np.abs(found), kind="stable") if other != unit]
        return [Correlated(other, float(found[other])) for other in order[:count]]

    def class_correlations(self, chosen: CharacterClass) -> Float64Array:
        """Return Pearson's correlation of every unit with the membership of the character read in a class, (units).

        Raises `TuiGruError` for a model that reads no characters.
        """
        found: Float64Array = self._with_classes([chosen])[0]
        return found

    def goes_with(self) -> list[Correlated]:
        """Return, for each unit, the class with the largest correlation in magnitude."""
        chosen = list(CLASSES.values())
        found = self._with_classes(chosen)
        best = np.abs(found).argmax(axis=0)
        return [Correlated(chosen[k].name, float(found[k, unit])) for unit, k in enumerate(best.tolist())]

    def _with_classes(self, classes: Sequence[CharacterClass]) -> Float64Array:
        if not self.text:
            raise TuiGruError("this model reads numbers, not characters, so it has no classes of them")
        masks = np.zeros((len(self.text), len(classes)))
        for k, chosen in enumerate(classes):
            masks[:, k] = chosen.mask(self.text)
        return self._with(masks[np.isfinite(self.values).all(axis=1)])

    def _with(self, others: Array) -> Float64Array:
        """Return Pearson's correlation of each column of `others` (n, k) with every unit, (k, units)."""
        if not len(others):
            return np.zeros((others.shape[1], self.units))
        mean = _means(others)
        sums, squares = np.zeros((2, others.shape[1]))
        products = np.zeros((others.shape[1], self.units))
        for i in range(0, len(others), _ROWS):
            centred = others[i : i + _ROWS] - mean
            narrow = centred.astype(self.values.dtype)  # a product in float32 takes a fifth of the time
            sums += narrow.sum(axis=0, dtype=np.float64)
            squares += np.square(centred).sum(axis=0)
            products += narrow.T @ self._there[i : i + _ROWS]
        products -= np.outer(sums, self.means)
        own = np.sqrt(squares / len(others))
        varies = self._vary(own, mean)[:, None] & self._vary(self.deviations, self.means)
        scales = own[:, None] * self.deviations * len(others)
        found: Float64Array = np.clip(np.divide(products, scales, out=np.zeros_like(products), where=varies & (scales > 0)), -1, 1)
        return found

    def _vary(self, deviations: Float64Array, means: Float64Array) -> NDArray[np.bool_]:
        """Return True for each column that varies by more than the rounding of its mean."""
        tiny = np.finfo(self.values.dtype).eps * np.maximum(1e-30, np.abs(means))
        return np.asarray(deviations > tiny)

    # Extremes

    def most(self, unit: int, count: int = 10) -> list[TextPlace]:
        """Return the places at which a unit is highest, in descending order.

        No two of them are less than `APART` characters away from each other.
        """
        return self._extremes(unit, count, 1)

    def least(self, unit: int, count: int = 10) -> list[TextPlace]:
        """Return the places at which a unit is lowest, in ascending order, under the same condition."""
        return self._extremes(unit, count, -1)

    def _extremes(self, unit: int, count: int, sign: int) -> list[TextPlace]:
        values = np.where(np.isfinite(own := self.unit(unit)), sign * own, -np.inf)
        enough = min(len(values), count * (2 * APART + 1))  # each place excludes its neighbours
        found: list[TextPlace] = []
        least = np.partition(values, -enough)[-enough] if enough else np.inf  # ten times faster than sorting a long text
        candidates = np.flatnonzero(values >= least)
        for at in candidates[np.argsort(-values[candidates], kind="stable")][:enough].tolist():
            if len(found) < count and np.isfinite(own[at]) and all(abs(at - place.at) >= APART for place in found):
                found.append(TextPlace(at, float(own[at])))
        return found


def _means(values: Array) -> Float64Array:
    """Return the mean of each column of (n, k), (k); 0 if there are no rows."""
    if not len(values):
        return np.zeros(values.shape[1])
    # Sums of differences from the first row, so that the mean of equal numbers is exactly that number.
    first, total = values[0].astype(np.float64), np.zeros(values.shape[1])
    for i in range(0, len(values), _ROWS):
        total += (values[i : i + _ROWS] - first).sum(axis=0)
    found: Float64Array = first + total / len(values)
    return found


def over_row(moment: Moment, name: str, row: int) -> Activity:
    """Return a value of every unit at every timestep of a row (0-based) of the batch, NaN where not computed yet.

    `name` is any value or delta that every timestep has for every row. Raises `TuiGruError`.
    """
    program = moment.program
    row = arguments.whole("the row", row, least=0, most=program.config.batch_size - 1)
    named = program.names.get(name)
    if named is None or not named.timed or named.axes[:1] != ("B",):
        timed = [each for each, n in program.names.items() if n.timed and n.axes[:1] == ("B",)]
        raise TuiGruError(unknown_name(name, timed).replace("no value named", "no value of every timestep and row named"))
    values = moment.record.array(name)[:, row].reshape(program.seq_length, -1).copy()
    values[[not moment.there(name, t) for t in range(program.seq_length)]] = np.nan
    read = [moment.record.ids(i)[:, row] for i, given in program.model.page.inputs.items() if given.one_hot and not given.target]
    text = picked(read[0], moment.vocabulary) if read else ""
    return Activity(name, values, text, row)


def of_text(name: str, found: Mapping[str, Array], text: Text) -> Activity:
    """Return a value after every character of a text, as returned by `read_text`."""
    return Activity(name, found[name].reshape(len(text), -1), text)


def context(text: Text, at: int) -> tuple[Text, str, Text]:
    """Return the text before a character, the character, and the text after it."""
    return text[max(at - BEFORE, 0) : at], text[at], text[at + 1 : at + 1 + AFTER]
