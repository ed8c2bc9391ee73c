"""Baselines for a loss: guessing, character frequencies, and frequencies of pairs on the same text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.data.tokens import Text, index_of

LOG2 = math.log(2)


@dataclass(frozen=True)
class Baselines:
    """Cross-entropies of predicting each next character of a text, in nats: `uniform` for guessing among all V characters (log V),
    `unigram` for the frequencies of characters, `bigram` for the frequencies of characters given the one before."""

    uniform: float
    unigram: float
    bigram: float

    @property
    def lines(self) -> tuple[tuple[str, float], ...]:
        """The baselines with their names, in descending order, as lines of a curve."""
        return ("log V", self.uniform), ("unigram", self.unigram), ("bigram", self.bigram)


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


def perplexity(nats: float) -> float:
    """Return the perplexity: e to the power of the loss, the number of equally likely characters with the same loss."""
    return math.exp(nats) if nats < 700 else math.inf


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
