"""The questions of `questions.txt`, ranked by how well they fit typed words, with their commands filled with what was typed.

No word is required. A question has several wordings; words count by how rare they are, through their stems, their synonyms, and the
groups of letters that misspelled words share. Nothing here needs a screen.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("questions.txt")

# ------------------------------------------------------------------------------
# The file.


@dataclass(frozen=True)
class ListedQuestion:
    """A question with the commands that answer it, both with slots in braces; `before` leads to a moment at which one asks it.

    `needs` is what a run must have: text, sampling, training, layers or carry. `at` are panels, by the names of their classes, and
    kinds of moments at which it is offered before anything is typed. `wordings` are other words for it.
    """

    text: str
    group: str
    commands: str
    before: str = ""
    needs: str = ""
    at: str = ""
    wordings: tuple[str, ...] = ()


@cache
def questions() -> tuple[ListedQuestion, ...]:
    """Return the questions in the order of the file."""
    return tuple(read_questions(FILE.read_text(encoding="utf-8")))


def read_questions(text: str) -> Iterator[ListedQuestion]:
    """Yield the questions of a text in the form of the file."""
    group = ""
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        if lines and lines[0].startswith("=="):
            group = lines.pop(0).strip("= ")
        if not lines:
            continue
        parts = dict.fromkeys(("> ", "< ", "with ", "at "), "")
        wordings: list[str] = []
        for line in map(str.strip, lines[1:]):
            sign = next((sign for sign in parts if line.startswith(sign)), None)
            if sign is None:
                wordings += filter(None, map(str.strip, line.split(";")))
            else:
                parts[sign] = line.removeprefix(sign)
        commands, before, needs, at = parts.values()
        yield ListedQuestion(lines[0], group, commands, before, needs, at, tuple(wordings))


# ------------------------------------------------------------------------------
# Words.


def _read_words(text: str) -> tuple[Sequence[str], frozenset[str], frozenset[str], tuple[frozenset[str], ...]]:
    """Return the endings, the common words, the words that ask, and the groups of synonyms of a text in the form of `words.txt`."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    endings, common, asking = (line.partition(":")[2].split() for line in lines[:3])
    return endings, frozenset(common), frozenset(asking), tuple(frozenset(line.split()) for line in lines[3:])


#: Endings of words, the longest first; words that say nothing about the subject of a question; words that ask, which weigh little,
#: and distinguish questions about the same subject; and words for the same thing, each group of which counts as one word.
ENDINGS, COMMON, ASKING, SYNONYMS = _read_words(FILE.with_name("words.txt").read_text(encoding="utf-8"))
_WORD = re.compile(r"[^\W\d_]+|[①②③‖]")
_GRAMS = 3  # letters


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Return a word without its ending, if three letters are left."""
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            left = word[: -len(ending)]
            return left[:-1] if len(left) > 3 and left[-1] == left[-2] and left[-1] not in "ls" else left
    return word


@cache
def _concepts() -> Mapping[str, str]:
    """Return the stem that stands for each group of synonyms, by the stems of its words."""
    meant: dict[str, str] = {}
    for group in SYNONYMS:
        for word in sorted(group):
            meant.setdefault(stem(word), f"={min(group)}")
    return meant


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return [word.lower() for word in _WORD.findall(text.replace("'", ""))]


def _terms(word: str) -> Iterator[tuple[str, float]]:
    """Yield what a word is compared by, with the share of its weight: its stem, and the group of its synonyms."""
    root = stem(word)
    yield root, 1.0
    if (concept := _concepts().get(root)) is not None:
        yield concept, 0.6


def _grams(word: str) -> frozenset[str]:
    edged = f"_{word}_"
    return frozenset(edged[i : i + _GRAMS] for i in range(len(edged) - _GRAMS + 1))


# ------------------------------------------------------------------------------
# The ranking.


NUMBER, ENTRY, QUOTED = "#number", "#entry", "#quoted"
_KINDS = (
    (ENTRY, re.compile(r"\w+\[[^]]*\]")),
    (QUOTED, re.compile(r"“[^”]*”|\"[^\"]*\"|(?<!\w)'[^']+'")),
    (NUMBER, re.compile(r"(?<![\w.])\d*\.?\d+(?:e-?\d+)?(?![\w.]*\w)")),
)
# Shares of a weight: of words that ask, and of kinds of arguments; of a synonym, the beginning of a word, and a misspelled word.
COMMONLY, ASKED, OF_KIND, SYNONYM, BEGUN, MISSPELLED = 0.4, 0.35, 0.5, 0.85, 0.75, 0.8
LIKE = 0.5  # the least share of groups of letters that two spellings of a word have in common
PAIRED = 0.8  # the weight of two words in a row, as a share of their own
COVERED, CLOSEST, TYPICAL = 0.7, 0.15, 0.15  # what counts in a score: the words that are covered, and how close the wordings are


class Ranked(NamedTuple):
    """How well a text fits what was typed, from 0 to about 1, and its place among the entries."""

    score: float
    place: int


class Ranking:
    """Ranks entries, each of them several texts, of which the first is its title."""

    def __init__(self, entries: Sequence[Sequence[str]]) -> None:
        self._bags = [[_bag(text) for text in texts] for texts in entries]
        df = Counter(term for bags in self._bags for term in set().union(*bags))
        self._count = max(len(entries), 1)
        self._df = df
        self._postings: dict[str, list[tuple[int, int, float]]] = {}
        self._norms: list[list[float]] = []
        for i, bags in enumerate(self._bags):
            norms = []
            for j, bag in enumerate(bags):
                weights = {term: share * self._idf(term) for term, share in bag.items()}
                norm = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
                norms.append(norm)
                for term, weight in weights.items():
                    self._postings.setdefault(term, []).append((i, j, weight / norm))
            self._norms.append(norms)
        self._union = [self._strength(bags) for bags in self._bags]
        self._stems = {term for term in df if term[0] not in "=#" and " " not in term}
        self._grams: dict[str, set[str]] = {}
        for term in self._stems:
            for gram in _grams(term):
                self._grams.setdefault(gram, set()).add(term)

    def _strength(self, bags: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
        """Return how much an entry is about each of its terms: the more of its texts have one, the more."""
        counts, titled = Counter(term for bag in bags for term in bag), bags[0].keys() if bags else ()
        of_count = {term: min(0.55 + 0.2 * math.log1p(count), 1.25) for term, count in counts.items()}
        return {term: strength + (0.1 if term in titled else 0.0) for term, strength in of_count.items()}

    def _idf(self, term: str) -> float:
        return math.log(1 + self._count / (1 + self._df.get(term, 0)))

    @lru_cache(maxsize=4096)  # noqa: B019 - a ranking is as old as the program
    def _meant(self, root: str) -> tuple[tuple[str, float], ...]:
        """Return the known stems that a typed stem may stand for, with the share of their weight."""
        if root in self._stems:
            return ((root, 1.0),)
        meant: dict[str, float] = {}
        if len(root) >= 3:
            meant |= {term: BEGUN for term in self._stems if term.startswith(root) or (len(term) >= 4 and root.startswith(term))}
        if len(root) >= 4:
            grams = _grams(root)
            shared = Counter(term for gram in grams for term in self._grams.get(gram, ()))
            for term, count in shared.items():
                likeness = 2 * count / (len(grams) + len(_grams(term)))
                if term[0] == root[0]:
                    likeness += 0.08
                if sorted(term) == sorted(root):
                    likeness = max(likeness, 0.8)
                if likeness >= LIKE and abs(len(term) - len(root)) <= 2:
                    meant[term] = max(meant.get(term, 0), MISSPELLED * min(likeness + 0.15, 1))
        best = sorted(meant.items(), key=lambda item: -item[1])[:4]
        return tuple(best)

    def rank(self, typed: str) -> list[Ranked]:
        """Return the entries that have anything of what was typed, the best first."""
        typed_bag = _bag(typed)
        bag: dict[str, float] = {}
        weights: list[tuple[float, tuple[tuple[str, float], ...]]] = []
        for term, share in typed_bag.items():
            if term[0] in "=#" or " " in term:
                bag[term] = max(bag.get(term, 0), share)
                if term[0] == "#":
                    weights.append((share * self._idf(term), ((term, 1.0),)))
                continue
            meant = self._meant(term)
            for other, part in meant:
                bag[other] = max(bag.get(other, 0), share * part)
            concept = _concepts().get(term)
            if concept is None and meant and meant[0][0] != term:
                concept = _concepts().get(meant[0][0])
                if concept is not None:
                    bag[concept] = max(bag.get(concept, 0), 0.6 * share * meant[0][1])
            ways = meant if concept is None else (*meant, (concept, SYNONYM))
            if ways:
                weights.append((share * max(self._idf(other) for other, _ in ways), ways))
        weighted = {term: share * self._idf(term) for term, share in bag.items()}
        norm = math.sqrt(sum(weight * weight for weight in weighted.values())) or 1.0
        close: list[dict[int, float]] = [{} for _ in self._bags]
        for term, weight in weighted.items():
            for i, j, part in self._postings.get(term, ()):
                close[i][j] = close[i].get(j, 0.0) + part * weight / norm
        whole = sum(weight for weight, _ in weights) or 1.0
        fits = []
        for i, of in enumerate(close):
            if not of:
                continue
            union = self._union[i]
            covered = sum(
                weight * max((part * union.get(term, 0.0) for term, part in ways), default=0.0) for weight, ways in weights
            )
            best = sorted(of.values(), reverse=True)[:3]
            score = COVERED * covered / whole + CLOSEST * best[0] + TYPICAL * sum(best) / 3
            fits.append(Ranked(score, i))
        return sorted(fits, key=lambda fit: (-fit.score, fit.place))


def _bag(text: str) -> dict[str, float]:
    """Return the terms of a text with their shares of a weight: stems, synonyms, words in a row, kinds of arguments."""
    bag: dict[str, float] = {}
    for kind, pattern in _KINDS:
        found_any = pattern.search(text)
        if found_any:
            bag[kind] = OF_KIND
            if kind != NUMBER:
                text = pattern.sub(lambda match: f" {match[0].partition('[')[0]} " if match[0][-1] == "]" else " ", text)
    words = words_of(re.sub(r"\{[^}]*\}", " ", text))
    shares = [COMMONLY if word in COMMON else ASKED if word in ASKING else 1.0 for word in words]
    for word, weight in zip(words, shares, strict=True):
        for term, share in _terms(word):
            if weight == 1.0 or term[0] != "=":
                bag[term] = max(bag.get(term, 0), share * weight)
    for (one, weight), (other, second) in pairwise(zip(words, shares, strict=True)):
        bag[f"{stem(one)} {stem(other)}"] = PAIRED * math.sqrt(weight * second)
    return bag


@cache
def ranking() -> Ranking:
    """Return the ranking of all questions."""
    return Ranking([(question.text, *question.wordings) for question in questions()])
