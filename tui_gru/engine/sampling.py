"""Sampling of text from a model, character by character.

There are two samplers. `fed-back` gives each sampled character to the model as its next input, as language models do. `tutorial`
does the same as the tutorial's code: it feeds the primer again before each character, from the state reached so far, so that the
model never reads the sampled characters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from tui_gru import arguments, errors
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import compiled
from tui_gru.engine.config import SAMPLERS, Config, Text, index_of, separator, token_word, tokenized
from tui_gru.engine.source import Ability
from tui_gru.engine.weights import NUMPY_SETTINGS, Array, Weights
from tui_gru.equations.syntax import Name
from tui_gru.errors import TuiGruError

LONGEST_PRIMER = 1000  # characters of a primer in a session, which keeps it
SEED_BITS = 128  # of the seeds that NumPy draws; a session with a seed of any size could not be saved


@dataclass(frozen=True, eq=False)
class Draw:
    """One sampled character, its index, its distribution y_hat (V), and the uniform number that selected it (None if the most
    likely was taken)."""

    char: str
    index: int
    y_hat: NDArray[np.float64]
    uniform: float | None


@dataclass(frozen=True, eq=False)
class Sample:
    """A sampled text with its options and draws.

    `tick` is the position in the run whose weights were used, None if unknown. `primer` is a string of characters, or a tuple of
    tokens that may be longer. `between` separates two tokens in `text`.
    """

    primer: Text
    sampler: str
    temperature: float
    seed: int
    draws: tuple[Draw, ...]
    tick: int | None = None
    between: str = ""

    def __repr__(self) -> str:
        return f"<sample {errors.shown(self.text)}: {self.sampler}, temperature {self.temperature:g}, seed {self.seed}>"

    @property
    def tokens(self) -> tuple[str, ...]:
        """The characters or tokens of the primer and the sampled ones after it."""
        return (*self.primer, *(draw.char for draw in self.draws))

    @property
    def text(self) -> str:
        """The primer and the sampled text in one string."""
        return self.between.join(self.tokens)


@dataclass(frozen=True, eq=False)
class NextChances:
    """What a model expects after it has read a text from a zero state: the probability of every character (V), in float64."""

    read: Text
    probabilities: NDArray[np.float64]
    vocabulary: Text
    between: str = ""

    @property
    def text(self) -> str:
        """What was read, in one string."""
        return self.between.join(self.read)

    @property
    def likeliest(self) -> list[tuple[str, float]]:
        """Every character with its probability, the likeliest first; of equals, the first of the vocabulary."""
        order = np.argsort(-self.probabilities, kind="stable").tolist()
        return [(self.vocabulary[i], float(self.probabilities[i])) for i in order]


def predict_after(config: Config, weights: Weights, text: str) -> NextChances:
    """Read a text from a zero state, and return the probabilities of what comes after it.

    Raises `TuiGruError` for an empty text or a character outside the vocabulary.
    """
    drawn = sample_text(config, weights, text, 1, temperature=0)
    return NextChances(drawn.primer, drawn.draws[0].y_hat, config.vocabulary, drawn.between)


def sample_text(
    config: Config,
    weights: Weights,
    primer: str,
    length: int,
    *,
    sampler: str = "fed-back",
    temperature: float = 1.0,
    seed: int = 0,
    stop: Callable[[int], bool] | None = None,
) -> Sample:
    """Sample `length` characters after `primer`, from a zero state. Temperature 0 takes the most likely character.

    `stop` is called after each character with the number of characters so far; sampling ends when it returns True. Raises
    `TuiGruError` for an empty primer, a character outside the vocabulary, a negative length or temperature.
    """
    temperature = checked_temperature(config, primer, length, sampler, temperature, seed)
    begin, index = tokenized(primer, config.vocabulary, "primer"), index_of(config.vocabulary)
    step = _Stepper(config, weights)
    generator = np.random.Generator(np.random.PCG64(seed))
    primer_ids = [index[char] for char in begin]
    logits = step.through(primer_ids)
    draws: list[Draw] = []
    while len(draws) < length:
        uniform = None if temperature == 0 else generator.random()
        chosen, y_hat = choose(logits, temperature, uniform)
        draws.append(Draw(config.vocabulary[chosen], chosen, y_hat, uniform))
        if stop is not None and stop(len(draws)):
            break
        if len(draws) < length:
            logits = step.through([chosen] if sampler == "fed-back" else primer_ids)
    return Sample(begin, sampler, temperature, int(seed), tuple(draws), between=separator(config.vocabulary))


def choose(logits: Array, temperature: float, uniform: float | None) -> tuple[int, NDArray[np.float64]]:
    """Return the index drawn from softmax(logits / temperature), and the distribution (V) in float64.

    `logits` is (V). The index is where `uniform`, in [0, 1), falls in the cumulative sum; if `uniform` is None, it is the most
    likely. Raises `TuiGruError` for logits that are not finite.
    """
    wide = logits.astype(np.float64)
    if not np.isfinite(wide).all():
        raise TuiGruError("the model's logits are not finite, so there is nothing to sample from; step back to before the NaN")
    wide -= wide.max()
    if uniform is not None:
        with np.errstate(over="ignore"):  # a tiny temperature gives -inf, which correctly gives 0
            wide /= temperature
    probabilities = np.exp(wide)
    probabilities /= probabilities.sum()
    if uniform is None:
        return int(np.argmax(wide)), probabilities
    cumulative = np.cumsum(probabilities)
    return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right")), probabilities


class _Stepper:
    """Runs the trained model for one row, one timestep at a time, and keeps its states between calls."""

    def __init__(self, config: Config, weights: Weights) -> None:
        self._compiled = compiled(config.structure, config.sizes | {"B": 1, "T": 1}, config.dtype)
        self._record = BatchRecord(self._compiled)
        self._weights = Weights(self._compiled.layout, weights.flat)
        self._record.cut("forward")
        self._compiled.cut(self._weights, "forward")
        line = config.model.distribution
        assert line is not None  # as `check` has found
        of = line.formula.children[0]
        self._logits = of.name if isinstance(of, Name) else ""
        self._distribution = line.target
        self._input = next(name for name, variable in config.model.page.inputs.items() if not variable.target)
        self._record.begin_with(self._record.states(end=False) * 0)

    def through(self, ids: list[int]) -> Array:
        """Feed these characters. Returns the logits (V) after the last one."""
        record = self._record
        with NUMPY_SETTINGS:
            for i in ids:
                record.set_one_hot(self._input, np.full((1, 1), i))
                self._compiled.functions["forward"].run(record, self._weights, None)
                record.begin_with(record.states(end=True))
            # Where the argument of the softmax has no name: the logarithm of the softmax differs from it by a constant.
            logits: Array = np.log(record.array(self._distribution)) if not self._logits else record.array(self._logits)
        return cast("Array", logits[0, 0].copy())


class Refusal(NamedTuple):
    """Why no text can be sampled from a model, and the option that decides about it, None if none does."""

    words: str
    option: str | None = None


def refused(config: Config) -> Refusal | None:
    """Return why no text can be sampled from a model; None if it can."""
    if config.source.can(Ability.TRAIN) and (why := config.source.refusals.get(Ability.TEXT)) is not None:
        return Refusal(f"{why}, so there is nothing to sample")
    if not config.structure.loss:
        return Refusal("this model has no head over characters, so there is nothing to sample")
    if config.model.distribution is None:
        words = f"the loss {config.loss} has no softmax, so this model predicts no probabilities to sample from"
        return Refusal(f"{words}; use the loss cross-entropy", "loss")
    if config.bidirectional:
        words = "a bidirectional model needs the whole text before it can predict, so it cannot sample"
        return Refusal(f"{words}; train one that reads forwards", "bidirectional")
    return None


def checked_temperature(config: Config, primer: str, length: int, sampler: str, temperature: float, seed: int) -> float:
    """Return the temperature as a float. Raises `TuiGruError` for a model or options from which no text can be sampled."""
    if reason := refused(config):
        raise TuiGruError(reason.words, option=reason.option)
    vocabulary = frozenset(config.vocabulary)
    if not (tokens := tokenized(arguments.string("the primer", primer, option="primer"), config.vocabulary, "primer")):
        raise TuiGruError(
            f"the primer is empty; give at least one {token_word(config.vocabulary)} of the vocabulary", option="primer"
        )
    for i, char in enumerate(tokens):
        if char not in vocabulary:
            raise TuiGruError(
                f"character {char!r} at position {i + 1} of the primer is not in the vocabulary {config.shown_vocabulary}",
                option="primer",
            )
    arguments.integer("length", length, least=0, option="length")
    if not isinstance(sampler, str) or sampler not in SAMPLERS:
        raise TuiGruError(f"sampler must be one of {', '.join(SAMPLERS)}, not {errors.shown(sampler)}", option="sampler")
    value = arguments.real_number("temperature", temperature, option="temperature")
    if not 0 <= value < float("inf"):
        raise TuiGruError(f"temperature must be finite and 0 or more, not {errors.shown(temperature)}", option="temperature")
    if arguments.integer("the sample's seed", seed, least=0, option="sample_seed") >= 2**SEED_BITS:
        raise TuiGruError(f"the sample's seed has more than {SEED_BITS} bits; use a smaller one", option="sample_seed")
    return value
