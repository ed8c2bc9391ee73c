"""What units do: their values after every character of a text, and the features of the text that they follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from tui_gru import arguments
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.program import shown_char, unknown_name
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import compiled
from tui_gru.engine.config import Config, Text, index_of, machine_memory, picked, token_word
from tui_gru.engine.data import weights_for
from tui_gru.engine.model import Model, model_of
from tui_gru.engine.numbers import gib
from tui_gru.engine.weights import NUMPY_SETTINGS, Array, Float64Array, Weights
from tui_gru.equations.backward import mixed
from tui_gru.equations.page import SILENT
from tui_gru.equations.syntax import did_you_mean
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# Features of a text, a number for each character: classes of characters, such as digits, and any set that a user types, are 0 or 1.


Mask = NDArray[np.bool_]

_QUOTES = "\"'`“”‘’«»„‚"
_OPENING, _CLOSING = "([{", ")]}"
_LEAST = 4  # letters from which on the input can be a mistyped name instead of a set
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True)
class Feature:
    """A feature with its name and description; `values(text)` is a number for each of n characters, (n).

    That of a class of characters is True for each character that is in it.
    """

    name: str
    words: str
    values: Callable[[Text], NDArray[Any]]


def _by_character(belongs: Callable[[str], bool]) -> Callable[[Text], Mask]:
    """Return the mask of a class that depends only on the character itself; a longer token is in it if all its characters are."""

    def mask(text: Text) -> Mask:
        if not isinstance(text, str):
            is_member = {token: all(map(belongs, token)) for token in frozenset(text)}
            return np.array([is_member[token] for token in text], bool)
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        codes_present, where = np.unique(codes, return_inverse=True)
        is_in: Mask = np.array([belongs(chr(code)) for code in codes_present.tolist()], bool)[where]
        return is_in

    return mask


_is_letter = _by_character(str.isalpha)
_is_blank = _by_character(str.isspace)


def _starting(text: Text) -> Mask:
    """Return the mask of the first characters of words: not blank, and after a blank or at the start of the text."""
    is_start: Mask = ~_is_blank(text) & np.concatenate([[True], _is_blank(text)])[: len(text)]
    return is_start


def _indenting(text: Text) -> Mask:
    """Return the mask of spaces and tabs with nothing before them on their line."""
    is_indent = np.zeros(len(text), bool)
    at = 0
    for line in text.split("\n") if isinstance(text, str) else ():
        is_indent[at : at + len(line) - len(line.lstrip(" \t"))] = True
        at += len(line) + 1
    return is_indent


def _quoted(text: Text) -> Mask:
    """Return the mask of characters between double quotes. An empty line closes them, so a missing quote affects one paragraph."""
    is_quoted = np.zeros(len(text), bool)
    inside = False
    for i, char in enumerate(text):
        if char in '"“”':
            inside = char == "“" or (char == '"' and not inside)
        elif char == "\n" and text[i + 1 : i + 2] == "\n":
            inside = False
        else:
            is_quoted[i] = inside
    return is_quoted


def _depths(text: Text) -> NDArray[np.intp]:
    """Return how many brackets of any kind each character is in; they end at an empty line."""
    depths = np.zeros(len(text), np.intp)
    depth = 0
    for i, char in enumerate(text):
        if char in _OPENING:
            depths[i], depth = depth, depth + 1
            continue
        if char in _CLOSING:
            depth = max(depth - 1, 0)
        elif char == "\n" and text[i + 1 : i + 2] == "\n":
            depth = 0
        depths[i] = depth
    return depths


def _since(belongs: Callable[[Text], Mask]) -> Callable[[Text], NDArray[np.intp]]:
    """Return the feature of the characters since the last one of a class, or since the start of the text: at most `FARTHEST`."""

    def values(text: Text) -> NDArray[np.intp]:
        places = np.arange(len(text))
        last = np.maximum.accumulate(np.where(belongs(text), places, -1)) if len(text) else places
        return np.minimum(places - last, FARTHEST)

    return values


def _letters_in_word(text: Text) -> NDArray[np.intp]:
    """Return which letter of its word each letter is, from 1; 0 for other characters."""
    places, is_letter = np.arange(len(text)), _is_letter(text)
    last = np.maximum.accumulate(np.where(is_letter, -1, places)) if len(text) else places
    return np.where(is_letter, np.minimum(places - last, FARTHEST), 0)


def _shifted(belongs: Callable[[Text], Mask], by: int) -> Callable[[Text], Mask]:
    """Return the mask of characters whose next (`by` 1) or previous (−1) one is in a class."""

    def mask(text: Text) -> Mask:
        is_in = belongs(text)
        parts = (is_in[1:], [False]) if by > 0 else ([False], is_in[:-1])
        return np.concatenate(parts).astype(bool)[: len(text)]

    return mask


FARTHEST = 100  # characters that a feature counts


#: In the order in which they are listed.
CLASSES = {
    feature.name: feature
    for feature in (
        Feature("spaces", "spaces", _by_character(" ".__eq__)),
        Feature("newlines", "ends of lines", _by_character("\n".__eq__)),
        Feature("letters", "letters", _is_letter),
        Feature("capitals", "capital letters", _by_character(str.isupper)),
        Feature("vowels", "vowels", _by_character(lambda char: char.lower() in "aeiou")),
        Feature("digits", "digits", _by_character(str.isdigit)),
        Feature("quotes", "quotation marks", _by_character(lambda char: char in _QUOTES)),
        Feature("brackets", "brackets", _by_character(lambda char: char in _OPENING + _CLOSING)),
        Feature("punctuation", "punctuation marks", _by_character(lambda char: category(char)[0] == "P")),
        Feature("first-letters", "characters that begin a word", _starting),
        Feature("in-words", "letters after a letter", lambda text: _is_letter(text) & _shifted(_is_letter, -1)(text)),
        Feature("indentation", "blanks that begin a line", _indenting),
        Feature("in-quotes", "characters between double quotes", _quoted),
        Feature("in-brackets", "characters between brackets", lambda text: _depths(text) > 0),
    )
}
_NEXT = ("spaces", "newlines", "letters", "capitals", "vowels", "digits", "quotes", "punctuation")
#: The classes, and what is no class: places, depths, the characters beside.
FEATURES = CLASSES | {
    feature.name: feature
    for feature in (
        Feature("line-position", "characters since the line began", _since(CLASSES["newlines"].values)),
        Feature("word-position", "letters into the word", _letters_in_word),
        Feature("since-space", "characters since a blank", _since(_is_blank)),
        Feature("since-quote", "characters since a quotation mark", _since(CLASSES["quotes"].values)),
        Feature("bracket-depth", "brackets around the character", _depths),
        *(Feature(f"next-{n}", f"characters before {CLASSES[n].words}", _shifted(CLASSES[n].values, 1)) for n in _NEXT),
        *(Feature(f"after-{n}", f"characters after {CLASSES[n].words}", _shifted(CLASSES[n].values, -1)) for n in _NEXT),
    )
}


def feature_of(typed: str) -> Feature:
    r"""Return a feature as a user types it: a name, or the characters of a class; `[digits]` is a set of six letters.

    In a set, `\n` and `\t` are a newline and a tab, and a backslash before any other character is that character. Raises
    `TuiGruError` for an empty text, and for text that looks like a mistyped name.
    """
    name = typed.strip().lower().replace("_", "-").replace(" ", "-")
    if (named := FEATURES.get(name) or FEATURES.get(f"{name}s")) is not None:
        return named
    bracketed = len(typed) > 2 and typed[0] == "[" and typed[-1] == "]"
    if not bracketed and len(name) >= _LEAST and name.replace("-", "").isalpha():
        close = get_close_matches(name, FEATURES, n=2, cutoff=0.7)
        if close:
            raise TuiGruError(
                f"there is no feature {name!r}; did you mean {' or '.join(close)}? write [{typed}] for the set of these characters"
            )
    chars = _unescaped(typed[1:-1] if bracketed else typed)
    if not chars:
        raise TuiGruError(f"type the name of a feature, or characters; the features are {', '.join(FEATURES)}")
    chosen = frozenset(chars)
    return Feature(f"[{''.join(map(shown_char, dict.fromkeys(chars)))}]", "these characters", _by_character(chosen.__contains__))


def feature_of_numbers(name: str, words: str, numbers: Array, text: Text) -> Feature:
    """Return the feature that has a given number for each character of a text; one that is not finite counts as the mean of the
    others. Raises `TuiGruError` for another count of numbers, or if none is finite; so do its `values` for another text."""
    numbers = np.asarray(numbers)
    if numbers.ndim != 1 or numbers.dtype.kind not in "biuf" or len(numbers) != len(text):
        shape = "x".join(map(str, numbers.shape)) or "one"
        raise TuiGruError(f"{name} gives {shape} numbers; a feature has one for each of the {len(text):,} characters of the text")
    finite = np.isfinite(numbers)
    if not finite.any():
        raise TuiGruError(f"{name} has no finite number, so no unit can follow it")
    filled = np.where(finite, numbers, numbers[finite].astype(np.float64).mean())

    def values(read: Text) -> NDArray[Any]:
        if read != text[: len(read)]:
            raise TuiGruError(f"{name} has numbers for the characters of another text")
        return filled[: len(read)]

    return Feature(name, words, values)


def feature_of_file(path: Path, text: Text) -> Feature:
    """Return the feature in a .npy file, or in a text file of numbers between blanks or commas. Raises `TuiGruError`."""
    if path.suffix == ".npy":
        from tui_gru.files.tensors import array_of

        return feature_of_numbers(path.name, "a number from a file", array_of(path, path.name), text)
    try:
        words = path.read_text(encoding="utf-8").replace(",", " ").split()
        numbers = np.array([float(word) for word in words])
    except (OSError, ValueError) as error:
        raise TuiGruError(f"{path.name} cannot be read as numbers, one for each character: {error}") from error
    return feature_of_numbers(path.name, "a number from a file", numbers, text)


def _unescaped(typed: str) -> str:
    chars, signs = "", iter(typed)
    for sign in signs:
        following = next(signs, "\\") if sign == "\\" else ""
        chars += _ESCAPES.get(following, following) if following else sign
    return chars


# ------------------------------------------------------------------------------
# Units over time: a value of every unit after every character of a row or of a whole text, and its correlations.
#
# As in LSTMVis (Strobelt et al. 2018) and in the pictures of the sentiment neuron (Radford et al. 2017).


BEFORE, AFTER = 12, 8  # characters of the text that are shown around a place
APART = 10  # characters between two places at which a unit is highest
PROBED = 20_000  # characters of the text, for probes and for what is known from before training
_ROWS = 2**13  # timesteps summed in the array's dtype before the sum is added to a float64


@dataclass(frozen=True)
class TextPlace:
    """A character (0-based) of the text, and the unit's value after it."""

    at: int
    value: float


@dataclass(frozen=True)
class TextSpan:
    """The characters `first` … `last` (0-based) of the text, and a characteristic of all of them: the units that are `on` there."""

    first: int
    last: int
    on: tuple[OnUnit, ...] = ()

    @property
    def length(self) -> int:
        return self.last - self.first + 1


class OnUnit(NamedTuple):
    """A unit (0-based) that is on: at least the threshold where `sign` is 1, at most its negative where it is −1."""

    unit: int
    sign: int


@dataclass(frozen=True, eq=False)
class Plane:
    """The two directions along which the units vary most, (2, units), each of length 1 with its largest component positive: the
    principal components. `at` (n, 2) are the states along them, from their mean, NaN if not computed; `shares` (2) the shares of
    the variance."""

    directions: Float64Array
    at: Float64Array
    shares: Float64Array


@dataclass(frozen=True)
class Correlated:
    """A unit (0-based) or a feature, and Pearson's correlation r with it; that `before` training, 0 if it is not known."""

    what: int | str
    r: float
    before: float = 0.0

    @property
    def gained(self) -> float:
        """How much larger the correlation is than before training, in magnitude."""
        return abs(self.r) - abs(self.before)


@dataclass(frozen=True)
class Probe:
    """What all units together say about a feature: R² of a linear probe on text that it was not fitted to; NaN where the feature
    does not vary there. `before` is that with the weights before training, NaN if they are not known."""

    feature: str
    r2: float
    before: float = np.nan


@dataclass(frozen=True, eq=False)
class Activity:
    """`values` (n, units) of `name`: row i has the values after the character `text[i]`, NaN if not computed yet.

    `text` is empty for a model that reads no characters. `row` is the row of the batch (0-based), None for a whole text. Units that
    do not vary, and values that are not finite, have the correlation 0. If it was asked for, `without` (units) is the mean loss of
    the start of the text, in nats, with each unit held at 0 after every character, and `loss` that with none. `before` has the
    values of the start of the text with the weights before training. `own` are features that units may follow besides the named.
    Of a run that reads numbers, row i is a timestep that `words_at` returns in words, and `moment_at` as a place to go to.
    """

    name: str
    values: Array
    text: Text
    row: int | None = None
    loss: float = np.nan
    without: Float64Array | None = None
    before: Activity | None = None
    own: tuple[Feature, ...] = ()
    words_at: Callable[[int], str] | None = None
    moment_at: Callable[[int], str] | None = None

    def __repr__(self) -> str:
        of, noun = "a text" if self.row is None else f"row {self.row + 1}", "characters"
        if self.words_at is not None:
            of, noun = "the batches", "timesteps"
        return f"<{self.name} over {of}: {len(self.values)} {noun}, {self.units} units>"

    def place_words(self, at: int) -> str:
        """Return where a timestep without a character is, in words."""
        return f"t {at + 1}" if self.words_at is None else self.words_at(at)

    @property
    def units(self) -> int:
        return int(self.values.shape[1])

    def unit(self, unit: int) -> Array:
        """Return the values of one unit, (n)."""
        return self.values[:, self._checked(unit)]

    def _checked(self, unit: int) -> int:
        return arguments.integer("the unit", unit, least=0, most=self.units - 1)

    @cached_property
    def _is_computed(self) -> Mask:
        return np.asarray(np.isfinite(self.values).all(axis=1))

    @cached_property
    def _computed_steps(self) -> Array:
        return self.where_computed(self.values)

    def where_computed(self, values: Array) -> Array:
        """Return the computed timesteps of (n, k), without a copy if all are computed."""
        computed = self._is_computed
        return values[: len(computed)] if computed.all() else values[: len(computed)][computed]

    @cached_property
    def means(self) -> Float64Array:
        """The mean of each unit, (units)."""
        return _means(self._computed_steps)

    @cached_property
    def deviations(self) -> Float64Array:
        """The standard deviation of each unit, (units)."""
        squares = np.zeros(self.units)
        with NUMPY_SETTINGS:
            for i in range(0, len(self._computed_steps), _ROWS):
                squares += np.square(self._computed_steps[i : i + _ROWS] - self.means).sum(axis=0)
        return np.sqrt(squares / max(len(self._computed_steps), 1))

    # Correlations

    def correlations(self, unit: int) -> Float64Array:
        """Return Pearson's correlation of a unit with every unit, (units)."""
        if "pairs" in vars(self):
            pair: Float64Array = self.pairs[self._checked(unit)]
            return pair
        correlations: Float64Array = self.with_each(self._computed_steps[:, self._checked(unit), None])[0]
        return correlations

    @cached_property
    def pairs(self) -> Float64Array:
        """Pearson's correlation of every unit with every unit, (units, units). Once it is computed, `correlations` reads it.

        For a long text, it takes as long as the correlations of fifty units one by one.
        """
        return self.with_each(self._computed_steps)

    def like(self, unit: int, count: int = 5) -> list[Correlated]:
        """Return the units whose correlation with one is largest in magnitude."""
        correlations = self.correlations(unit)
        order = [int(other) for other in np.argsort(-np.abs(correlations), kind="stable") if other != unit]
        return [Correlated(other, float(correlations[other])) for other in order[:count]]

    def feature_correlations(self, chosen: Feature) -> Float64Array:
        """Return Pearson's correlation of every unit with a feature of the character read, (units).

        Raises `TuiGruError` for a model that reads no characters.
        """
        correlations: Float64Array = self.with_each(self.where_computed(self._feature_values([chosen])))[0]
        return correlations

    def goes_with(self, features: Sequence[Feature] | None = None) -> list[Correlated]:
        """Return, for each unit, the feature whose correlation has gained most in magnitude since before training.

        The features are all named ones by default. What was not trained gives strong correlations as well: a unit that reads a
        character follows the classes of that character, whatever its weights are.
        """
        names, values = self._features(features)
        now = self.with_each(self.where_computed(values))
        before = np.zeros_like(now) if self.before is None else self.before.with_each(self.before.where_computed(values))
        best = (np.abs(now) - np.abs(before)).argmax(axis=0)
        return [Correlated(names[k], float(now[k, unit]), float(before[k, unit])) for unit, k in enumerate(best.tolist())]

    def probes(self, features: Sequence[Feature] | None = None) -> list[Probe]:
        """Return how well all units together say each feature (by default all named ones) linearly, the best first.

        The probe is the affine function of the units with the least squared error on the first three quarters of the text, as far
        as `PROBED` characters; R² is that on the last quarter.
        """
        names, values = self._features(features)
        now = self.probed(self.where_computed(values))
        before = np.full(len(names), np.nan) if self.before is None else self.before.probed(self.before.where_computed(values))
        probes = [Probe(name, float(r2), float(was)) for name, r2, was in zip(names, now, before, strict=True)]
        return sorted(probes, key=lambda probe: -np.nan_to_num(probe.r2, nan=-np.inf))

    def probed(self, values: Array) -> Float64Array:
        """Return R² of the probe of each of k features on the last quarter, (k); `values` (n, k) are theirs where computed."""
        targets, units = values[:PROBED].astype(np.float64), self._computed_steps[:PROBED].astype(np.float64)
        fitted = 3 * len(units) // 4
        if not fitted or fitted == len(units):
            return np.full(targets.shape[1], np.nan)
        means, mean = units[:fitted].mean(axis=0), targets[:fitted].mean(axis=0)
        centred = units[:fitted] - means
        # Least squares by the eigenvectors of XᵀX, which takes a tenth of the time of a decomposition of X. Directions in which
        # units vary by no more than their rounding are left out.
        spread, directions = np.linalg.eigh(centred.T @ centred)
        rounding = max(np.finfo(self.values.dtype).eps ** 2, np.finfo(np.float64).eps)
        axes = directions[:, spread > spread[-1] * len(spread) * rounding]
        variances = spread[spread > spread[-1] * len(spread) * rounding]
        slopes = axes @ ((axes.T @ (centred.T @ (targets[:fitted] - mean))) / variances[:, None])
        rest = targets[fitted:] - mean - (units[fitted:] - means) @ slopes
        squares = np.square(targets[fitted:] - targets[fitted:].mean(axis=0)).sum(axis=0)
        unexplained = np.divide(np.square(rest).sum(axis=0), squares, out=np.full(len(squares), np.nan), where=squares > 0)
        return np.asarray(1 - unexplained)

    def _features(self, features: Sequence[Feature] | None) -> tuple[list[str], Array]:
        """Return the names of features, all named ones and its own for None, and their values after every character, (n, k)."""
        chosen = self.known if features is None else features
        return [feature.name for feature in chosen], self._named_values if features is None else self._feature_values(features)

    def over_text(self, chosen: Feature) -> Array:
        """Return the values of a feature after every character, (n); computed once."""
        if chosen.name not in self._over_text:
            self._over_text[chosen.name] = np.asarray(chosen.values(self.text), np.float64)
        return self._over_text[chosen.name]

    @cached_property
    def _over_text(self) -> dict[str, Array]:
        return {}

    @property
    def known(self) -> tuple[Feature, ...]:
        """The named features, if there is a text, and its own."""
        return (*FEATURES.values(), *self.own) if self.text else self.own

    @cached_property
    def _named_values(self) -> Array:
        return self._feature_values(self.known)

    def _feature_values(self, features: Sequence[Feature]) -> Array:
        if not self.text and any(feature not in self.own for feature in features):
            raise TuiGruError("this model reads numbers, not characters, so it has no features of a text")
        values = np.zeros((len(self.values), len(features)), np.float32)  # whole numbers up to `FARTHEST`, or the user's own
        for k, feature in enumerate(features):
            values[:, k] = feature.values(self.text)
        return values

    def with_each(self, others: Array) -> Float64Array:
        """Return Pearson's correlation of each column of `others` (n, k) with every unit, (k, units).

        n counts the timesteps that are computed.
        """
        if not len(others):
            return np.zeros((others.shape[1], self.units))
        with NUMPY_SETTINGS:  # states of a run that explodes overflow here
            mean = _means(others)
            sums, squares = np.zeros((2, others.shape[1]))
            products = np.zeros((others.shape[1], self.units))
            for i in range(0, len(others), _ROWS):
                centred = others[i : i + _ROWS] - mean
                narrow = centred.astype(self.values.dtype)  # a product in float32 takes a fifth of the time
                sums += narrow.sum(axis=0, dtype=np.float64)
                squares += np.square(centred).sum(axis=0)
                products += narrow.T @ self._computed_steps[i : i + _ROWS]
            products -= np.outer(sums, self.means)
            deviations = np.sqrt(squares / len(others))
            varies = self._vary(deviations, mean)[:, None] & self._vary(self.deviations, self.means)
            scales = deviations[:, None] * self.deviations * len(others)
            correlations: Float64Array = np.clip(
                np.divide(products, scales, out=np.zeros_like(products), where=varies & (scales > 0)), -1, 1
            )
        return correlations

    def _vary(self, deviations: Float64Array, means: Float64Array) -> NDArray[np.bool_]:
        """Return True for each column that varies by more than the rounding of its mean."""
        tiny = np.finfo(self.values.dtype).eps * np.maximum(1e-30, np.abs(means))
        return np.asarray(deviations > tiny)

    # Where units are on

    def span_at(self, unit: int, at: int, threshold: float) -> TextSpan | None:
        """Return the characters around `at` through which a unit is on, with all units that are on through all of them.

        A unit is on where it is at least `threshold` in magnitude with the same sign. None if it is not on at `at`.
        """
        values = self.unit(unit)
        sign = 1 if values[at] >= 0 else -1
        if not sign * values[at] >= threshold:
            return None
        off = np.flatnonzero(~(sign * values >= threshold))
        place = int(np.searchsorted(off, at))
        first = int(off[place - 1]) + 1 if place else 0
        last = int(off[place]) - 1 if place < len(off) else len(values) - 1
        span = self.values[first : last + 1]
        least, most = span.min(axis=0), span.max(axis=0)
        on = (
            OnUnit(int(other), 1 if least[other] > 0 else -1)
            for other in np.flatnonzero((least >= threshold) | (most <= -threshold))
        )
        return TextSpan(first, last, tuple(on))

    def spans_of(self, on: Sequence[OnUnit], threshold: float) -> list[TextSpan]:
        """Return all places of the text through which all of these units are on, in order."""
        signs = np.array([unit.sign for unit in on], self.values.dtype)
        together = (self.values[:, [unit.unit for unit in on]] * signs >= threshold).all(axis=1)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], together, [False]]).astype(np.int8)))
        return [TextSpan(first, after - 1, tuple(on)) for first, after in edges.reshape(-1, 2).tolist()]

    @cached_property
    def plane(self) -> Plane:
        """The two directions along which the units vary most, and the states along them. Fewer units than two give zeros."""
        centred = self._computed_steps.astype(np.float64) - self.means
        with NUMPY_SETTINGS:
            products = centred.T @ centred
            if not np.isfinite(products).all():  # the squares overflow; the directions do not depend on the scale
                centred /= np.abs(centred).max()
                products = centred.T @ centred
        variances, directions = np.linalg.eigh(products)
        chosen = directions[:, ::-1][:, :2].T
        chosen = chosen * np.sign(chosen[np.arange(len(chosen)), np.abs(chosen).argmax(axis=1)])[:, None]
        axes, shares = np.zeros((2, self.units)), np.zeros(2)
        axes[: len(chosen)] = chosen
        if (total := variances.sum()) > 0:
            shares[: len(chosen)] = np.maximum(variances[::-1][:2], 0) / total
        with NUMPY_SETTINGS:
            return Plane(axes, (self.values - self.means) @ axes.T, shares)

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
        values = np.where(np.isfinite(unit_values := self.unit(unit)), sign * unit_values, -np.inf)
        enough = min(len(values), count * (2 * APART + 1))  # each place excludes its neighbours
        places: list[TextPlace] = []
        least = np.partition(values, -enough)[-enough] if enough else np.inf  # ten times faster than sorting a long text
        candidates = np.flatnonzero(values >= least)
        for at in candidates[np.argsort(-values[candidates], kind="stable")][:enough].tolist():
            if len(places) < count and np.isfinite(unit_values[at]) and all(abs(at - place.at) >= APART for place in places):
                places.append(TextPlace(at, float(unit_values[at])))
        return places


def _means(values: Array) -> Float64Array:
    """Return the mean of each column of (n, k), (k); 0 if there are no rows."""
    if not len(values):
        return np.zeros(values.shape[1])
    # Sums of differences from the first row, so that the mean of equal numbers is exactly that number.
    first, total = values[0].astype(np.float64), np.zeros(values.shape[1])
    for i in range(0, len(values), _ROWS):
        total += (values[i : i + _ROWS] - first).sum(axis=0)
    means: Float64Array = first + total / len(values)
    return means


def over_row(moment: Moment, name: str, row: int) -> Activity:
    """Return a value of every unit at every timestep of a row (0-based) of the batch, NaN where not computed yet.

    `name` is any value or delta that every timestep has for every row. Raises `TuiGruError`.
    """
    program = moment.program
    row = arguments.integer("the row", row, least=0, most=program.config.batch_size - 1)
    named = program.names.get(name)
    if named is None or not named.timed or named.axes[:1] != ("B",):
        timed = [timed_name for timed_name, n in program.names.items() if n.timed and n.axes[:1] == ("B",)]
        raise TuiGruError(unknown_name(name, timed).replace("no value named", "no value of every timestep and row named"))
    values = moment.record.array(name)[:, row].reshape(program.seq_length, -1).copy()
    values[[not moment.is_readable(name, t) for t in range(program.seq_length)]] = np.nan
    read = [
        moment.record.ids(i)[:, row]
        for i, variable in program.model.page.inputs.items()
        if variable.one_hot and not variable.target
    ]
    text = picked(read[0], moment.vocabulary) if read else ""
    return Activity(name, values, text, row)


def values_of_text(name: str, values: Mapping[str, Array], text: Text) -> Activity:
    """Return a value after every character of a text, as returned by `read_text`."""
    return Activity(name, values[name].reshape(len(text), -1), text)


def context(text: Text, at: int) -> tuple[Text, str, Text]:
    """Return the text before a character, the character, and the text after it."""
    return text[max(at - BEFORE, 0) : at], text[at], text[at + 1 : at + 1 + AFTER]


# ------------------------------------------------------------------------------
# Reads a whole text with the weights of one moment: any value after every character, as one row from a zero state.
#
# One row is slow, so a long text is cut into pieces that are read in parallel, as rows of a batch. A piece begins at zero states,
# and is then read again from the last state of the piece before it, until its states equal those of the first reading: a network
# forgets its initial state. A network that does not is read as one row.
#
# For a bidirectional model, the text is cut into windows of the training's timesteps, each from zero states. A value that depends
# on other rows of its batch, such as a mean over the rows, is read as one row; one that depends on all timesteps, in windows of
# the training's timesteps.


PIECES = 16  # read in parallel
SHORTEST = 512  # characters of a piece
CHUNK = 32  # timesteps computed at once; a reading can be stopped between chunks
_WINDOWS = 256  # read at once, each from a zero state
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


def values_after_characters(
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
    reader = _TextReader(config, weights, ids, names, progress or _ignore, stop or _never)
    with NUMPY_SETTINGS:
        if config.bidirectional:
            read = reader.windows(config.seq_length)
        else:
            count = max(1, min(PIECES, len(ids) // SHORTEST)) if reader.in_parallel and not reader.in_windows else 1
            read = (reader.side_by_side(count) if count > 1 and reader.forgets(count) else None) or reader.one_row()
    return {name: values[0] for name, values in read.items()}


def read_silenced(
    config: Config,
    weights: Weights,
    text: Text,
    names: Sequence[str],
    silent: str,
    is_silent: NDArray[np.bool_],
    *,
    stop: StopRequested | None = None,
) -> dict[str, Array]:
    """Return the values of `names` after each of n characters, as `read_text`, from R readings of the text: (R, n, …) by name.

    In reading r, the units of the value `silent` for which `is_silent` (R, units) is True are 0 after every character, and
    everything that depends on them is computed from that. Raises `TuiGruError` for a name that no line of the model computes for
    each unit.
    """
    ids = indices_of(config, text)
    _check_names(config, [*names, silent])
    if not can_be_silent(config.model, silent):
        raise TuiGruError(f"{silent} has no units of the network that can be held at 0; h has")
    with NUMPY_SETTINGS:
        reader = _TextReader(config, weights, ids, names, _ignore, stop or _never, silent, is_silent)
        if reader.in_parallel:
            return reader.windows(config.seq_length) if config.bidirectional else reader.one_row()
        readers = [_TextReader(config, weights, ids, names, _ignore, stop or _never, silent, mask) for mask in is_silent[:, None]]
        readings = [silenced.windows(config.seq_length) if config.bidirectional else silenced.one_row() for silenced in readers]
        return {name: np.concatenate([reading[name] for reading in readings]) for name in names}


def read_windows(
    config: Config, weights: Weights, windows: NDArray[np.intp], name: str, *, stop: StopRequested | None = None
) -> Array:
    """Return a value after the last but one character of each of R windows, each read from zero states: (R, …).

    `windows` (R, k + 1) are indices into the vocabulary; the last one is only the target of the one before it.
    """
    values = []
    with NUMPY_SETTINGS:
        reader = _TextReader(config, weights, windows[0], [name], _ignore, stop or _never)
        for first in range(0, len(windows), _WINDOWS):
            ids = windows[first : first + _WINDOWS]
            values.append(reader.last_of_windows(ids[:, :-1], ids[:, 1:], name))
    return np.concatenate(values)


def can_be_silent(model: Model, name: str) -> bool:
    """Return True if the units of a value can be held at 0: a line of the network computes it after every character, and others
    read it. The output of the head, what is predicted from it and the loss have no units to silence."""
    lines = [line.target for line in model.page.lines]
    last = max(lines.index(target) for layer in model.composed.layers for target in layer.lines)
    end = lines.index(model.output) if model.structure.head else last + 1
    return name in lines[:end] and len(model.axes[name]) == 3


def _ignore(done: int, total: int) -> None: ...


def _never() -> bool:
    return False


def _check_names(config: Config, names: Sequence[str]) -> None:
    per_character = [name for name, axes in config.model.axes.items() if axes[:2] == ("T", "B")]
    for name in names:
        if name not in per_character:
            raise TuiGruError(f"{name!r} is not a value of every character; {did_you_mean(name, per_character)}")


def _check_memory(config: Config, names: Sequence[str], count: int) -> None:
    shapes = [config.compiled.shape(config.model.axes[name])[2:] for name in names]
    size = count * sum(int(np.prod(shape)) for shape in shapes) * np.dtype(config.dtype).itemsize
    if size > machine_memory() // 4:
        raise TuiGruError(
            f"{', '.join(names)} after each of {count:,} characters would take {gib(size)}; give a part of the text",
            option="text",
        )


class _TextReader:
    """One reading of a text, or R readings at once, each with other units of `silent` held at 0.

    Values are stored in the order of the text, as `piece · length + timestep`.
    """

    def __init__(
        self,
        config: Config,
        weights: Weights,
        ids: NDArray[np.intp],
        names: Sequence[str],
        progress: ReadingProgress,
        stop: StopRequested,
        silent: str = "",
        is_silent: NDArray[np.bool_] | None = None,
    ) -> None:
        self._on = None if is_silent is None else ~is_silent
        self._readings = 1 if is_silent is None else len(is_silent)
        self._config, self._weights, self._ids, self._names = config, weights, ids, names
        self._progress, self._stop = progress, stop
        self._page, self._axes = config.model.page, config.model.axes
        self._total, self._done = len(ids), 0
        layers = replace(config.structure, head="", loss="", update="sgd", clip=False)  # enough if no other name is read
        structure = layers if all(name in model_of(layers).axes for name in (*names, silent or names[0])) else config.structure
        self._structure = replace(structure, silent=silent)
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
            chunk = slice(first, first + CHUNK)
            states = self._chunk(record, states, np.tile(inputs[chunk], (2, 1)), np.tile(targets[chunk], (2, 1)))
            if all(_is_same(state[0], state[1]) for state in states):
                return True
        return False

    def side_by_side(self, rows: int) -> dict[str, Array] | None:
        """Read as pieces that are corrected afterwards: values (1, n, units) by name.

        None if this network does not forget its initial state.
        """
        chunks = -(-len(self._ids) // (rows * CHUNK))
        record, values = self._record(rows, CHUNK), self._values(rows, chunks * CHUNK)
        inputs, targets = (self._padded(ids, rows, chunks * CHUNK) for ids in self._shifted())
        ends: list[list[Array]] = []
        for again in (False, True):
            states = _from_the_piece_before(ends[-1]) if again else [np.zeros_like(begin) for begin, _ in record.borders]
            for j in range(chunks):
                chunk = slice(j * CHUNK, (j + 1) * CHUNK)
                states = self._chunk(record, states, inputs[:, chunk], targets[:, chunk])
                for name, array in values.items():
                    array[:, chunk] = record.array(name).swapaxes(0, 1)
                self._advance(0 if again else rows * CHUNK)
                if again and all(map(_is_same, states, ends[j])):
                    return self._complete(values)
                if again and (j + 1) >= PATIENCE * chunks:
                    self._total += len(self._ids)
                    return None
                ends[j : j + 1] = [states]
        return None

    def one_row(self) -> dict[str, Array]:
        """Read as one row, or one for each reading: values (R, n, units) by name."""
        inputs, targets = self._shifted()
        rows = self._readings
        length = min(self._config.seq_length if self.in_windows else CHUNK if rows > 1 else 8 * CHUNK, len(self._ids))
        record, values = self._record(rows, length), self._values(rows, len(self._ids))
        states = [np.zeros_like(begin) for begin, _ in record.borders]
        for first in range(0, len(self._ids), length := self._length(record)):
            if len(self._ids) - first < length:  # the rest, without padding
                record = self._record(rows, len(self._ids) - first)
            chunk = slice(first, first + self._length(record))
            states = self._chunk(record, states, *(np.tile(ids[chunk], (rows, 1)) for ids in (inputs, targets)))
            for name, array in values.items():
                array[:, chunk] = record.array(name).swapaxes(0, 1)
            self._advance(self._length(record))
        return self._complete(values)

    def windows(self, length: int) -> dict[str, Array]:
        """Read window by window, each from zero states at both ends: values (R, n, units) by name."""
        count, rest = divmod(len(self._ids), length)
        inputs, targets = self._shifted()
        rows = self._readings
        values = self._values(rows, len(self._ids))
        pieces = max(PIECES // rows, 1) if self.in_parallel else 1
        spans = [(first, min(first + pieces, count), length) for first in range(0, count, pieces)]
        for first, last, size in [*spans, *([(count, count + 1, rest)] if rest else [])]:
            record, at = self._record(rows * (last - first), size), slice(first * length, first * length + (last - first) * size)
            states = [np.zeros_like(begin) for begin, _ in record.borders]
            self._chunk(record, states, *(np.tile(ids[at].reshape(-1, size), (rows, 1)) for ids in (inputs, targets)))
            for name, array in values.items():
                computed = record.array(name).swapaxes(0, 1)
                array[:, at] = computed.reshape(rows, -1, *computed.shape[2:])
            self._advance((last - first) * size)
        return self._complete(values)

    def last_of_windows(self, inputs: NDArray[np.intp], targets: NDArray[np.intp], name: str) -> Array:
        """Return a value after the last character of each row of (rows, timesteps) characters, read from zero states: (rows, …)."""
        record = self._record(*inputs.shape)
        self._chunk(record, [np.zeros_like(begin) for begin, _ in record.borders], inputs, targets)
        values: Array = record.array(name)[-1].copy()
        return values

    def _record(self, rows: int, timesteps: int) -> BatchRecord:
        config = self._config
        sizes = config.sizes | {"B": rows, "T": timesteps}
        model = compiled(self._structure, sizes, config.dtype)
        record = BatchRecord(model)
        record.before = weights_for(self._structure, sizes, config.dtype, dict(self._weights.items()))
        record.cut("forward")
        model.cut(record.before, "forward")
        if self._on is not None:
            record.array(SILENT)[...] = np.repeat(self._on, rows // len(self._on), axis=0)
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
        for name, variable in self._page.inputs.items():
            if name in record.compiled.model.page.inputs:  # without a loss, nothing reads the target
                record.set_one_hot(name, (targets if variable.target else inputs).T)
        for (begin, _), state in zip(record.borders, states, strict=True):
            begin[...] = state
        record.compiled.functions["forward"].run(record, record.before, None)
        return [end.copy() for _, end in record.borders]

    def _advance(self, characters: int) -> None:
        self._done = min(self._done + characters, self._total)
        self._progress(self._done, self._total)

    def _complete(self, values: dict[str, Array]) -> dict[str, Array]:
        shape = self._readings, -1
        complete = {name: pieces.reshape(*shape, *pieces.shape[2:])[:, : len(self._ids)] for name, pieces in values.items()}
        for name in set(complete) & self._target_readers:
            complete[name][:, -1] = np.nan
        return complete

    @property
    def _target_readers(self) -> set[str]:
        """The values that depend on the target."""
        readers = {name for name, variable in self._page.inputs.items() if variable.target}
        for line in self._page.lines:
            for node in line.formula.walk():
                if readers.intersection(node.names()):
                    readers |= {node.label or line.target, line.target}
        return readers


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
