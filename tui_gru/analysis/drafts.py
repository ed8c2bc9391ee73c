"""What of the texts that a model writes while it learns stands in its own text, and when its loss has fallen below a level."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.drafts import TextDraft
from tui_gru.debugger.timeline import ScalarSeries
from tui_gru.engine.config import Text

# ------------------------------------------------------------------------------
# What of a draft stands in the text: its words, or, in a text without words, its longer pieces.


_WORD = re.compile(r"[^\W\d_]{2,}")
_FEWEST_WORDS, _LONGEST_WORD = 5, 16  # different words of a text, and the characters of one on average; others have no words


class Piece(NamedTuple):
    """A part of a draft, from `start` up to `end`: a word, or a longer piece of a text without words; `stands` is True if it is
    in the text."""

    start: int
    end: int
    stands: bool


@lru_cache(maxsize=4)
def words_of(text: Text) -> frozenset[str]:
    """Return the words of a text, of at least two letters; none if it has too few, or is not written in words."""
    if not isinstance(text, str):
        return frozenset()
    words = frozenset(_WORD.findall(text))
    is_written_in_words = len(words) >= _FEWEST_WORDS and sum(map(len, words)) <= _LONGEST_WORD * len(words)
    return words if is_written_in_words else frozenset()


@lru_cache(maxsize=256)
def pieces_of(draft: str, text: Text) -> tuple[Piece, ...]:
    """Return the words of a draft, or in a text without words the pieces that stand in it; of tokens, which are all in the
    vocabulary, none. A word that the draft ends with may be cut, and does not count."""
    if not isinstance(text, str):
        return ()
    if words := words_of(text):
        matches = (match for match in _WORD.finditer(draft) if match.end() < len(draft))
        return tuple(Piece(*match.span(), match[0] in words) for match in matches)
    return tuple(_long_pieces(draft, text))


def _long_pieces(draft: str, text: str) -> list[Piece]:
    """Return the longest pieces of a draft that stand in the text, and are too long to be there by chance."""
    least = max(math.ceil(math.log(10 * len(text)) / math.log(max(len(set(text)), 2))), 4)
    pieces: list[Piece] = []
    start = 0
    while start + least <= len(draft):
        end = start + least
        if draft[start:end] not in text:
            start += 1
            continue
        while end < len(draft) and draft[start : end + 1] in text:
            end += 1
        pieces.append(Piece(start, end, stands=True))
        start = end
    return pieces


def counted_pieces(draft: str, text: Text) -> tuple[int, int] | None:
    """Return how many of the words of a draft stand in the text, and how many it has; of a text without words, the characters of
    both. None for tokens."""
    if not isinstance(text, str):
        return None
    pieces = pieces_of(draft, text)
    if words_of(text):
        return sum(piece.stands for piece in pieces), len(pieces)
    return sum(piece.end - piece.start for piece in pieces), len(draft)


class NewWords(NamedTuple):
    """The words that a model has written for the first time after so many batches."""

    batches: int
    words: tuple[str, ...]


def first_words(drafts: Sequence[TextDraft], batches: Sequence[int], text: Text, least: int = 3) -> list[NewWords]:
    """Return the words of at least `least` letters that stand in the text, by the draft that has them first."""
    met: set[str] = set()
    listed = []
    for draft, count in zip(drafts, batches, strict=True):
        written = (draft.text[piece.start : piece.end] for piece in pieces_of(draft.text, text) if piece.stands)
        new = tuple(word for word in dict.fromkeys(written) if len(word) >= least and word not in met)
        met.update(new)
        if new and words_of(text):
            listed.append(NewWords(count, new))
    return listed


# ------------------------------------------------------------------------------
# When the loss has fallen below a level.


WINDOW = 20  # batches


def mean_loss(losses: ScalarSeries, batches: int) -> float | None:
    """Return the mean loss of the newest of so many batches: of `WINDOW`, at most of a fifth of all; None before the first."""
    if not batches:
        return None
    first = batches - max(min(WINDOW, batches // 5), 1)
    mean = float(np.mean(np.asarray(losses[first:batches], np.float64)))
    return mean if math.isfinite(mean) else None


def overtaken_at(losses: NDArray[np.float64], level: float) -> int | None:
    """Return after how many batches the mean loss of `WINDOW` batches was below a level for the first time; None if it was not."""
    if len(losses) < WINDOW:
        return None
    sums = np.cumsum(np.concatenate(([0.0], np.asarray(losses, np.float64))))
    with np.errstate(invalid="ignore"):
        below = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW < level
    first = int(np.argmax(below))
    return first + WINDOW if below[first] else None
