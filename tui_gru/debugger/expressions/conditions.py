"""Conditions, such as `loss < 0.5 and any(abs(h) > 0.9)`, tested at one moment or at many at once.

A name is read as of the moment tested; `prev(h)` is the value of h that was computed before that.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tui_gru.debugger.expressions.parser import CompiledExpression, Read, compile_expression
from tui_gru.debugger.expressions.values import AnyArray, Moments, UnevenSliceError


@dataclass(frozen=True)
class Condition(CompiledExpression):
    """A compiled condition, created by `compile_condition`: an expression with one truth value per moment."""

    def scalar(self, scalars: frozenset[str]) -> bool:
        """Return True if it reads only names in `scalars`."""
        return self.names <= scalars

    def test(self, read: Read, read_previous: Read | None = None) -> bool:
        """Return True if the condition holds at one moment.

        False if any of its names is not computed yet, in any order of its parts: in the first batch, which has no previous loss,
        `epoch == 0 or prev(loss) > 1` is False. Raises ConditionError if it cannot be evaluated.
        """
        moments = self.moment(read, read_previous)
        return moments is not None and bool(self.evaluate(moments)[0])

    def over_columns(self, columns: Mapping[str, AnyArray], previous: Mapping[str, AnyArray] | None = None) -> AnyArray:
        """Return True for each of n moments at which the condition holds, (n,): the result of `test` at each moment.

        `columns` has the values of each name at all moments, (n,) for a number and (n, B, H) for a matrix, or with a first axis
        of 1 if the value is the same at all moments; `previous` has the same for `prev()`. All values count as computed. Raises
        ConditionError if `test` would at any of the moments, without naming the moment.
        """
        before = previous or {}
        count = _count([*columns.values(), *before.values()])
        if count == 0 or not self.previous <= before.keys():
            return np.zeros(count, bool)
        moments = self.moments(columns, before, count)
        try:
            return self.evaluate(moments)
        except UnevenSliceError:
            return self._one_by_one(moments)

    def _one_by_one(self, moments: Moments) -> AnyArray:
        each = (moments.where(np.arange(moments.count) == moment) for moment in range(moments.count))
        return np.concatenate([self.evaluate(moment) for moment in each])


def compile_condition(source: str, names: Collection[str]) -> Condition:
    """Compile a condition that may read `names`.

    Raises ConditionError with the column if `source` is not a valid expression.
    """
    return Condition(**vars(compile_expression(source, names, test=True)))


def _count(columns: Iterable[AnyArray]) -> int:
    counts = {len(column) for column in columns}
    return 0 if 0 in counts else max(counts, default=0)
