"""What a question asks for, hidden from a text that would give the answer: its number, in any form, and its line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tui_gru.errors import TuiGruError
from tui_gru.teaching.formulas import MisfitError
from tui_gru.teaching.judging import Judge, typed_number
from tui_gru.teaching.lesson import Question

# ------------------------------------------------------------------------------
# The mask of a question.


MOST_HIDDEN = 400  # entries of a term whose numbers are hidden
LEAST_WHOLE = 100  # a smaller whole number is also a count, an index or a place, and cannot be hidden by its value
LEAST_CUT = 4  # characters of a formula that is cut off, from which on its beginning is hidden
SAME = 1e-5  # relative difference between a number of a batch and the same one computed with more digits
_PLACE = re.compile(r"(?:row|unit|epoch|batch|line|of|\bt|\be|\bb|[⁄/(\[]) ?$")  # what a number is that follows, but no value
_NUMBER = re.compile(r"(?<![\w.])[-−+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-−+]?\d+)?(?: ?%)?(?!\w)")


class HiddenCount(NamedTuple):
    """A small whole number that is hidden only as a value of the names that its question reads: as 0 of `dh_future`, and not as a
    count. `spelled` has these names as the screen writes them."""

    number: float
    names: tuple[str, ...]
    spelled: tuple[str, ...]


@dataclass(frozen=True)
class AnswerMask:
    """Numbers and formulas that are hidden, and how the screen writes a formula."""

    numbers: tuple[float, ...] = ()
    formulas: tuple[str, ...] = ()
    written: Callable[[str], str] = str
    counts: tuple[HiddenCount, ...] = ()

    def __or__(self, other: AnswerMask) -> AnswerMask:
        numbers, formulas = (*self.numbers, *other.numbers), (*self.formulas, *other.formulas)
        return AnswerMask(numbers, formulas, self.written, (*self.counts, *other.counts))

    def __bool__(self) -> bool:
        return bool(self.numbers or self.formulas or self.counts)

    def hides(self, name: str, value: float) -> bool:
        """Return True if a number of the screen, of which the name and all digits are known, is a hidden one, with either sign."""
        if any(math.isclose(abs(value), abs(hidden), rel_tol=SAME) for hidden in self.numbers):
            return True
        return any(abs(value) == abs(count.number) and name in count.names for count in self.counts)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the places of a text to hide, from left to right, each with its end."""
        spans = [*self._numbers_in(text), *self._counts_in(text), *self._formulas_in(text)]
        return [span for i, span in enumerate(sorted(spans)) if not any(a < span[1] and span[0] < b for a, b in sorted(spans)[:i])]

    def hidden(self, text: str) -> str:
        """Return a text with `?` in the place of what is hidden."""
        for begins, ends in reversed(self.spans(text)):
            text = f"{text[:begins]}?{text[ends:]}"
        return text

    def _numbers_in(self, text: str) -> Iterator[tuple[int, int]]:
        if self.numbers:
            for match in _NUMBER.finditer(text):
                if self.is_answer(match[0]):
                    yield match.span()

    def _counts_in(self, text: str) -> Iterator[tuple[int, int]]:
        for count in self.counts:
            named = [match.end() for name in count.spelled for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
            if not named:
                continue
            for match in _NUMBER.finditer(text, min(named)):
                number = typed_number(match[0])
                if number is not None and abs(number.value) == abs(count.number) and not _PLACE.search(text, 0, match.start()):
                    yield match.span()

    def is_answer(self, written: str) -> bool:
        """Return True for a number that is one of the hidden ones, rounded or cut off, with either sign."""
        number = typed_number(written.replace(",", "") if "." in written or written.count(",") > 1 else written)
        if number is None or number.digits < 2:
            return False
        is_whole = "." not in written and "e" not in written and "," not in written and "%" not in written
        for hidden in self.numbers:
            below = abs(hidden) - abs(number.value)  # rounded, or cut off after the last digit
            if (
                -0.5 * number.unit <= below + 1e-6 * abs(hidden)
                and below - 1e-6 * abs(hidden) < number.unit
                and (not is_whole or (hidden == int(hidden) and abs(hidden) >= LEAST_WHOLE))
            ):
                return True
        return False

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        parts = []
        for formula in self.formulas:
            shown = self.written(formula)
            parts.append(_loosely(shown))
            cut = (_loosely(shown[:length]) for length in range(len(shown) - 1, LEAST_CUT - 1, -1))
            parts += [f"{beginning}(?=\\s*(?:…|\\.\\.\\.|$))" for beginning in cut]
        return re.compile("|".join(parts)) if parts else None

    def _formulas_in(self, text: str) -> Iterator[tuple[int, int]]:
        if self._pattern is not None:
            yield from (match.span() for match in self._pattern.finditer(text))


def _loosely(formula: str) -> str:
    """Return the pattern of a formula with either minus sign."""
    return re.escape(formula).replace("−", "[-−]").replace(r"\-", "[-−]")


def mask_of(judge: Judge, question: Question, written: Callable[[str], str] = str) -> AnswerMask:
    """Return what a question hides until it is answered, at the place where the lesson is."""
    if question.visible:
        return AnswerMask()
    if question.kind == "answer":
        value = judge.value(question)
        array = np.asarray(value)
        if isinstance(value, str) or array.size != 1 or array.dtype.kind not in "iuf":
            return AnswerMask()
        number = float(array.reshape(-1)[0])
        if not math.isfinite(number):
            return AnswerMask()
        if number != int(number) or abs(number) >= LEAST_WHOLE:
            return AnswerMask((number,), written=written)
        names = judge.names(question)
        spelled = tuple(sorted({spelling for spelled in names.values() for spelling in (*spelled, *map(written, spelled))}))
        return AnswerMask(written=written, counts=(HiddenCount(number, tuple(names), spelled),) if names else ())
    if question.kind == "line":
        line = judge.line_judge(question)
        numbers: tuple[float, ...] = ()
        if line.asked is not line.formula:
            try:
                values = np.asarray(line.batch[0].value(line.asked)).reshape(-1)[:MOST_HIDDEN].tolist()
                numbers = tuple(value for value in values if value and math.isfinite(value))
            except (MisfitError, TuiGruError):
                pass
        return AnswerMask(numbers, (line.answer,), written)
    return AnswerMask()
