"""Where the loss of a text comes from, and the baselines to compare it with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_gru.analysis.units import CLASSES, StopRequested, TextPlace, indices_of, read_silenced
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.program import Program
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import compiled
from tui_gru.engine.config import Text, index_of
from tui_gru.engine.data import Corpus, weights_for
from tui_gru.engine.numbers import rounded
from tui_gru.engine.training import compute
from tui_gru.engine.weights import NUMPY_SETTINGS, Array, Float64Array, Weights
from tui_gru.equations import syntax as e
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# The sources of the loss: by class of character, by timestep, by row, and the hardest places of the text.


@dataclass(frozen=True)
class Share:
    """The loss of a group of characters: their number, their `mean` loss in nats, and their share of the total loss."""

    name: str
    count: int
    mean: float
    share: float


class Standstill(NamedTuple):
    """The place in a text (0-based) from which on no character changes a unit of a state by more than `move`, the largest change;
    `before` is the largest one before that place."""

    at: int
    move: float
    before: float

    def sentence(self, token: str) -> str:
        """Return it in words; `token` is what the text consists of, such as a character."""
        return (
            f"from {token} {self.at + 1:,} on the state no longer moves: no {token} changes a unit by more than "
            f"{rounded(self.move)}, before that by up to {rounded(self.before)}"
        )


_STATES_BYTES = 2**27  # of the states of a text that is read for its losses
_NO_MOVE, _LONG = 0.01, 100  # of the largest change; tokens of a text after which the state has not moved


def standstill(states: Iterable[Array], text: Text) -> Standstill | None:
    """Return from where on no state (n, units) of a reading of a text moves any more; None if one moves up to its end."""
    moves = np.zeros(max(len(text) - 1, 0))
    for state in states:
        if len(state) > 1:
            with NUMPY_SETTINGS:  # infinite states have no move
                moves = np.maximum(moves, np.abs(np.diff(state.reshape(len(state), -1), axis=0)).max(axis=1))
    if not len(moves) or not np.isfinite(moves).all() or not moves.max() > 0:
        return None
    at = int(np.flatnonzero(moves > _NO_MOVE * moves.max())[-1]) + 2  # the first token after that which still moves it
    if len(text) - at < _LONG or len(set(text[at:])) < 2:
        return None
    return Standstill(at, float(moves[at - 1 :].max()), float(moves[: at - 1].max()))


@dataclass(frozen=True, eq=False)
class TextLosses:
    """The loss of every predicted character, in nats.

    `values` (n) are in the order of `places` (n), the indices in `text` of the predicted characters (0-based). `t` and `row` (n),
    0-based, are the timestep and the row of each prediction; None if the text was read as a whole. Then `standstill` says from
    where on its state no longer moves, if it does not up to the end.
    """

    values: NDArray[np.float64]
    places: NDArray[np.intp]
    text: Text
    t: NDArray[np.intp] | None = None
    row: NDArray[np.intp] | None = None
    standstill: Standstill | None = None

    def __repr__(self) -> str:
        return f"<losses of {len(self.values)} characters, mean {self.mean:.6g} nats>"

    @property
    def mean(self) -> float:
        """The mean loss per character, in nats; NaN if there are none."""
        return float(self.values.mean()) if len(self.values) else np.nan

    def by_class(self) -> list[Share]:
        """Return the loss by class of the target character. A character can be in several classes, or in none."""
        return [self._share(feature.name, feature.values(self.text)[self.places]) for feature in CLASSES.values()]

    def by_timestep(self) -> list[Share]:
        """Return the loss by timestep of the batch, `t 1` first."""
        return self._by(self.t, "t")

    def by_row(self) -> list[Share]:
        """Return the loss by row of the batch."""
        return self._by(self.row, "row")

    def hardest(self, count: int = 10, *, apart: int = 1) -> list[TextPlace]:
        """Return the places in the text (0-based) with the largest losses, largest first, at least `apart` characters apart."""
        places: list[TextPlace] = []
        for i in np.argsort(-np.nan_to_num(self.values, nan=np.inf), kind="stable").tolist():
            at = int(self.places[i])
            if len(places) == count:
                break
            if all(abs(at - place.at) >= apart for place in places):
                places.append(TextPlace(at, float(self.values[i]) + 0.0))  # of a certain prediction, 0 and not -0
        return places

    def _by(self, groups: NDArray[np.intp] | None, word: str) -> list[Share]:
        if groups is None:
            raise TuiGruError("a text that is read as a whole has no batches; use the loss of a batch or of an epoch")
        return [self._share(f"{word} {k + 1}", groups == k) for k in range(int(groups.max()) + 1)]

    def _share(self, name: str, chosen: NDArray[np.bool_]) -> Share:
        chosen_losses, total = self.values[chosen], float(self.values.sum())
        mean = float(chosen_losses.mean()) if len(chosen_losses) else np.nan
        return Share(name, len(chosen_losses), mean, float(chosen_losses.sum()) / total if total else 0.0)


def loss_of_rows(program: Program, values: Array) -> NDArray[np.float64]:
    """Return the loss of each row, with its sign, from the values of `program.loss_names.row` (…).

    Raises `TuiGruError` for a model without a loss per row.
    """
    names = program.loss_names
    if not names.row:
        raise TuiGruError("this model has no loss per character, so the loss cannot be divided")
    below = program.lines[names.timestep].formula if names.timestep in program.lines else None
    return np.asarray(-values if isinstance(below, e.Negative) else values, np.float64)


def of_batch(moment: Moment, corpus: Corpus) -> TextLosses:
    """Return the losses of the batch of a moment, for the rows and timesteps that are computed."""
    program, record = moment.program, moment.record
    values = loss_of_rows(program, record.array(program.loss_names.row or program.input))
    T, B = values.shape[:2]
    computed = [moment.is_readable(program.loss_names.row, t) for t in range(T)]
    t, row = np.meshgrid(np.arange(T)[computed], np.arange(B), indexing="ij")
    starts = np.array([corpus.position_in_text(moment.position.batch, 0, b) for b in range(B)], np.intp)
    places = (starts[None, :] + np.arange(1, T + 1)[:, None])[computed].ravel()  # in the text, of the targets
    order = np.argsort(places, kind="stable")
    return TextLosses(values[computed].ravel()[order], places[order], corpus.text, t.ravel()[order], row.ravel()[order])


def losses_of_text(read: Mapping[str, Array], program: Program, text: Text) -> TextLosses:
    """Return the losses of a whole text, from the result of `read_text` for `program.loss_names.row` and perhaps for its states."""
    values, states = loss_of_rows(program, read[program.loss_names.row]), program.model.page.states
    still = standstill([read[state] for state in states], text) if all(state in read for state in states) else None
    return TextLosses(values[:-1], np.arange(1, len(text)), text, standstill=still)


def read_states(program: Program, text: Text) -> tuple[str, ...]:
    """Return the states that are read with the losses of a text: all, unless they take much memory or read it backwards."""
    states, config = program.model.page.states, program.config
    size = len(text) * sum(int(np.prod(config.compiled.shape(config.model.axes[name])[2:])) for name in states) * 8
    return tuple(states) if size <= _STATES_BYTES and not config.bidirectional else ()


# ------------------------------------------------------------------------------
# The loss of a text without a unit, that is, with the unit held at 0 after every character.


ABLATED = 4000  # characters that are read without each unit by default
AT_ONCE = 128  # units, approximately, for which that takes about a second
_READINGS = 64  # of the text at once, each without another unit
_CHUNK = 64  # timesteps through which the gradient of the estimate is carried back


def without_each_unit(
    program: Program,
    weights: Weights,
    text: Text,
    name: str,
    *,
    progress: Callable[[float, Float64Array], object] | None = None,
    stop: StopRequested | None = None,
) -> tuple[float, Float64Array]:
    """Return the mean loss of a text in nats, and for each unit of `name` that with the unit held at 0, (units).

    `progress` receives both after every few units, NaN for those that have not been held at 0 yet. Raises `TuiGruError` for
    a model without a loss per character, a text without a second one or a name whose units cannot be held at 0, `StoppedError` if
    `stop` returns True.
    """
    config, row = program.config, program.loss_names.row
    units = config.compiled.shape(config.model.axes.get(name, ("H",)))[-1]
    silent = np.eye(units, dtype=bool)

    def mean(is_silent: NDArray[np.bool_]) -> Float64Array:
        values = read_silenced(config, weights, text, [row], name, is_silent, stop=stop)
        means: Float64Array = loss_of_rows(program, values[row])[:, :-1].mean(axis=1)
        return means

    if not row:
        raise TuiGruError("this model has no loss per character, so there is none without a unit")
    if len(text) < 2:
        raise TuiGruError("the text has no character after the first one to predict", option="text")
    loss, without = float(mean(np.zeros((1, units), bool))[0]), np.full(units, np.nan)
    for first in range(0, units, _READINGS):
        without[first : first + _READINGS] = mean(silent[first : first + _READINGS])
        if progress is not None:
            progress(loss, without.copy())
    return loss, without


def estimate_without_units(program: Program, weights: Weights, text: Text, name: str) -> Float64Array:
    """Return an estimate to first order of what `without_each_unit` adds to the loss, (units), from one pass over the text.

    It is −Σ dh ⊙ h over the timesteps, with gradients through at most 64 timesteps.
    """
    config = program.config
    ids, added = indices_of(config, text), np.zeros(config.compiled.shape(config.model.axes[name])[-1])
    states: Sequence[Array] = ()
    with NUMPY_SETTINGS:
        for first in range(0, len(ids) - 1, _CHUNK):
            ids_read, after = ids[first : first + _CHUNK][: len(ids) - 1 - first], ids[first + 1 : first + 1 + _CHUNK]
            model = compiled(config.structure, config.sizes | {"B": 1, "T": len(ids_read)}, config.dtype)
            record = BatchRecord(model)
            record.before = weights_for(config.structure, model.sizes, config.dtype, dict(weights.items()))
            for tokens in model.model.page.inputs:
                record.set_one_hot(tokens, (after if tokens == program.target else ids_read)[:, None])
            for (begin, _), state in zip(record.borders, states, strict=False):
                begin[...] = state
            compute(record, None, learn=True)
            states = [] if config.bidirectional else [end.copy() for _, end in record.borders]
            change = record.array(f"d{name}") * record.array(name)
            added -= change.sum(axis=(0, 1), dtype=np.float64) * len(ids_read) / (len(ids) - 1)
    return added


# ------------------------------------------------------------------------------
# Baselines for a loss: guessing, character frequencies, and frequencies of pairs on the same text.


LOG2 = math.log(2)


@dataclass(frozen=True)
class Baselines:
    """Cross-entropies of predicting each next character of a text, in nats: `uniform` for guessing among all V characters (log V),
    `unigram` for the frequencies of characters, `bigram` for the frequencies of characters given the one before."""

    uniform: float
    unigram: float
    bigram: float

    @cached_property  # the curve is drawn after every step
    def lines(self) -> tuple[tuple[str, float], ...]:
        """The baselines with their names, in descending order, as lines of a curve."""
        return ("blind guess", self.uniform), ("unigram", self.unigram), ("bigram", self.bigram)


@lru_cache(maxsize=8)
def baselines(text: Text, vocab_size: int) -> Baselines:
    """Return the cross-entropies of the frequencies of a text on the same text, the best possible for tables of these kinds.

    The entropy of the characters, and the conditional entropy given the character before (Shannon 1951, *Prediction and entropy of
    printed English*, F₁ and F₂). NaN for a text with fewer than two characters.
    """
    codes = _codes(text)
    if len(codes) < 2:
        return Baselines(math.log(vocab_size), math.nan, math.nan)
    _, ids = np.unique(codes, return_inverse=True)
    pairs, firsts = ids[:-1].astype(np.int64) * (int(ids.max()) + 1) + ids[1:], ids[:-1]
    return Baselines(math.log(vocab_size), _entropy(ids[1:]), _entropy(pairs) - _entropy(firsts))


@lru_cache(maxsize=8)
def bigram_of_others(text: Text, vocab_size: int) -> float:
    """Return the cross-entropy of a table of pairs that has counted all pairs of a text but the one that it predicts, in nats.

    On a short text, a table that has counted the pairs that it predicts knows them by heart. The probability of a character is
    that of its pairs, with one more count that is spread as the characters are. NaN for a text with fewer than three characters.
    """
    codes = _codes(text)
    if len(codes) < 3:
        return math.nan
    _, ids = np.unique(codes, return_inverse=True)
    V, firsts, seconds = int(ids.max()) + 1, ids[:-1], ids[1:]
    pairs, singles = np.zeros((V, V)), np.bincount(seconds, minlength=V).astype(float)
    np.add.at(pairs, (firsts, seconds), 1)
    before = pairs.sum(axis=1)
    spread = (singles[seconds] - 1 + 1 / vocab_size) / (len(seconds) - 1 + 1)
    chances = (pairs[firsts, seconds] - 1 + spread) / (before[firsts] - 1 + 1)
    return float(-np.log(chances).mean())


def perplexity(nats: float) -> float:
    """Return the perplexity: e to the power of the loss, the number of equally likely characters with the same loss.

    It is infinite where no number is as large, and NaN for a loss that is not known.
    """
    return math.exp(nats) if not nats > 700 else math.inf


def bits(nats: float) -> float:
    """Return a loss in nats converted to bits per character."""
    return nats / LOG2


def _codes(text: Text) -> NDArray[np.uint32]:
    if not isinstance(text, str):
        index = index_of(tuple(dict.fromkeys(text)))
        return np.array([index[token] for token in text], np.uint32)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _entropy(ids: NDArray[np.integer]) -> float:
    """Return the entropy of a distribution given as counts, in nats."""
    counts = np.unique(ids, return_counts=True)[1] / len(ids)
    return float(-(counts * np.log(counts)).sum()) + 0.0
