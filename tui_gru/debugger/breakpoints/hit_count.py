"""Hit counts: the hits at which a breakpoint stops."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tui_gru.debugger.expressions.text import ConditionError

_FORM = re.compile(r"\s*(?P<relation>==?|>=?|<=?|≥|≤|%)?\s*(?P<number>[0-9]{1,18})\s*")

#: How many of the first n hits stop.
_UP_TO: Mapping[str, Callable[[Any, int], Any]] = {
    "==": lambda n, number: n >= number,
    ">": lambda n, number: np.maximum(n - number, 0),
    ">=": lambda n, number: np.maximum(n - number + 1, 0),
    "<": lambda n, number: np.minimum(n, number - 1),
    "<=": np.minimum,
    "%": operator.floordiv,
}

_SYNONYMS = {None: "==", "=": "==", "≥": ">=", "≤": "<="}

_STOPS_NOWHERE = {("==", 0), ("<", 0), ("<", 1), ("<=", 0), ("%", 0)}


@dataclass(frozen=True)
class HitCount:
    """A rule for hits to stop at: `5` and `==5` stop at the fifth, `>5` after it, `%5` at every fifth; also `>=`, `<`, `<=`.

    Hits are counted in time, from the start of the run and from 1, not in the order in which they are met: the fifth hit is the
    same moment whether reached forwards or backwards.
    """

    source: str
    _relation: str = field(repr=False)
    _number: int = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "HitCount":
        """Parse a hit count. Raises `ConditionError` if it is invalid or never stops."""
        form = _FORM.fullmatch(text)
        if form is None:
            raise ConditionError("a hit count is a number, or one after ==, >, >=, <, <= or %, as in %5", 1)
        relation, number = _SYNONYMS.get(form["relation"], form["relation"]), int(form["number"])
        if (relation, number) in _STOPS_NOWHERE:
            raise ConditionError(f"{text.strip()} never stops; hits are counted from 1", form.start("number") + 1)
        return cls(text, relation, number)

    def stops(self, n: int) -> bool:
        """Return True if the n-th hit in time stops, n from 1."""
        return bool(self.stops_between(n - 1, n))

    def stops_between(self, after: Any, upto: Any) -> Any:
        """Return True if one of the hits `after` + 1 … `upto` stops; for integers, or arrays of them."""
        count = _UP_TO[self._relation]
        return count(upto, self._number) != count(after, self._number)
