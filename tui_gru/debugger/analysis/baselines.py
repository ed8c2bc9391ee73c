"""What a loss is to be measured by: what guessing, the frequencies of characters, and those of pairs give for the same text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.tokens import Text, index_of

LOG2 = math.log(2)


@dataclass(frozen=True)
class Baselines:
    """Cross-entropies of predicting each next character of a text, nats: `uniform` of guessing among all V characters (log V),
    `unigram` by how often each comes, `bigram` by how often each comes after the one before it."""

    uniform: float
    unigram: float
    bigram: float

    @property
    def lines(self) -> tuple[tuple[str, float], ...]:
        """Each with a name, from the highest to the lowest, as lines of a curve."""
        return ("log V", self.uniform), ("unigram", self.unigram), ("bigram", self.bigram)


@lru_cache(maxsize=8)
def baselines(text: Text, vocab_size: int) -> Baselines:
    """The cross-entropies that the frequencies in a text give on that text itself, so that no table of these kinds does better.

    The entropy of the characters, and the conditional entropy given the character before (Shannon 1951, *Prediction and entropy of
    printed English*, F₁ and F₂). NaN for a text of less than two characters.
    """
    codes = _codes(text)
    if len(codes) < 2:
        return Baselines(math.log(vocab_size), math.nan, math.nan)
    _, ids = np.unique(codes, return_inverse=True)
    pairs, firsts = ids[:-1].astype(np.int64) * (int(ids.max()) + 1) + ids[1:], ids[:-1]
    return Baselines(math.log(vocab_size), _entropy(ids[1:]), _entropy(pairs) - _entropy(firsts))


def perplexity(nats: float) -> float:
    """Among how many equally likely characters the model hesitates: e to the power of the loss."""
    return math.exp(nats) if nats < 700 else math.inf


def bits(nats: float) -> float:
    """A loss in bits for each character."""
    return nats / LOG2


def _codes(text: Text) -> NDArray[np.uint32]:
    if not isinstance(text, str):
        index = index_of(tuple(dict.fromkeys(text)))
        return np.array([index[token] for token in text], np.uint32)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _entropy(ids: NDArray[np.integer]) -> float:
    """Of how often each of these comes, nats."""
    counts = np.unique(ids, return_counts=True)[1] / len(ids)
    return float(-(counts * np.log(counts)).sum()) + 0.0
