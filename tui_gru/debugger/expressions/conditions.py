"""Conditions and watched values: what a person asks of a moment, such as `loss < 0.5 and any(abs(h) > 0.9)`.

The language is that of `expressions`. A name is read as of the moment tested; `prev(h)` is h as it was when last
computed before that.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tui_gru.debugger.expressions.parser import FUNCTIONS, Expression, Read, compile_expression
from tui_gru.debugger.expressions.text import ConditionError
from tui_gru.debugger.expressions.values import Array, Moments, UnevenSliceError

__all__ = ["FUNCTIONS", "Condition", "ConditionError", "Expression", "Read", "compile_condition", "compile_value"]


@dataclass(frozen=True)
class Condition:
    """A compiled condition; `compile_condition` makes one."""

    expression: Expression

    @property
    def source(self) -> str:
        return self.expression.source

    @property
    def names(self) -> frozenset[str]:
        """The names it reads, those in `prev()` included."""
        return self.expression.names

    @property
    def current(self) -> frozenset[str]:
        """The names it reads as of the moment tested."""
        return self.expression.current

    @property
    def previous(self) -> frozenset[str]:
        """The names it reads through `prev()`."""
        return self.expression.previous

    def scalar(self, scalars: frozenset[str]) -> bool:
        """Whether it reads nothing but `scalars`."""
        return self.names <= scalars

    def test(self, read: Read, read_previous: Read | None = None) -> bool:
        """Whether it holds at one moment.

        False wherever any of its names is not computed yet, whichever way round it is written: at the first batch,
        where there is no previous loss, `epoch == 0 or prev(loss) > 1` is False. Raises ConditionError where it
        cannot be evaluated.
        """
        moments = self.expression.moment(read, read_previous)
        return moments is not None and bool(self.expression.evaluate(moments)[0])

    def over_columns(self, columns: Mapping[str, Array], previous: Mapping[str, Array] | None = None) -> Array:
        """Whether it holds at each of n moments at once: the truth that `test` gives at each, (n,).

        `columns` holds the value of each name moment by moment, (n,) for a number and (n, B, H) for a matrix, or with
        a first axis of 1 where it is the same at all of them; `previous` likewise for `prev()`. Everything in them is
        taken as computed. Raises ConditionError where `test` does at any of the moments, without saying at which.
        """
        before = previous or {}
        count = _count([*columns.values(), *before.values()])
        if count == 0 or not self.previous <= before.keys():
            return np.zeros(count, bool)
        moments = self.expression.moments(columns, before, count)
        try:
            return self.expression.evaluate(moments)
        except UnevenSliceError:
            return self._one_by_one(moments)

    def _one_by_one(self, moments: Moments) -> Array:
        each = (moments.where(np.arange(moments.count) == moment) for moment in range(moments.count))
        return np.concatenate([self.expression.evaluate(moment) for moment in each])


def compile_condition(source: str, names: Collection[str]) -> Condition:
    """Compile a condition that may read `names`.

    Raises ConditionError, with the column, where `source` is not an expression of the language.
    """
    return Condition(compile_expression(source, names, test=True))


def compile_value(source: str, names: Collection[str]) -> Expression:
    """Compile an expression whose value is wanted rather than its truth, for a watch or a log point.

    Raises ConditionError, with the column, where `source` is not an expression of the language.
    """
    return compile_expression(source, names)


def _count(columns: Iterable[Array]) -> int:
    counts = {len(column) for column in columns}
    return 0 if 0 in counts else max(counts, default=0)
