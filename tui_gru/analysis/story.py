"""The story of a run: the course of any expression over its batches."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from tui_gru.analysis.trials import Interruption
from tui_gru.debugger.expressions import compile_expression
from tui_gru.debugger.history import ScalarRows
from tui_gru.debugger.moment import Moment, value_before
from tui_gru.debugger.position import position_of
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.errors import TuiGruError

POINTS = 40
_NEAR = 8  # a batch is replaced by the one after a checkpoint if that is earlier by less than an eighth of the batches before it


def course(
    timeline: Timeline, upto: int, expression: str, points: int = POINTS, *, check: Interruption | None = None
) -> tuple[NDArray[np.intp], ScalarRows]:
    """Return batches and the value of an expression at the end of each: (n,) and (n,), n at most `points`.

    Batches are counted through all epochs, 0-based, among the first `upto`; the first and the last are included, the others are
    about evenly spaced on a logarithmic scale. Where possible, a batch is one that begins at a checkpoint, since it is replayed
    alone. A value that is not computed in a batch, such as a gradient of a batch that does not learn, is NaN.

    Raises `ConditionError` if the expression cannot be parsed or evaluated, `TuiGruError` if it is not a single number.
    """
    program = timeline.program
    compiled = compile_expression(expression, program.spellings)
    compiled.check(program.shapes)
    batches = _spaced(timeline, upto, points)
    values = np.full(len(batches), np.nan)
    for i, batch in enumerate(batches.tolist()):
        if check is not None:
            check()
        record = _alone(timeline, batch)
        moment = Moment(program, position_of(program, timeline.end_of(batch)), record, program.config.vocabulary)
        previous = timeline.before(batch) if compiled.previous else None
        value = compiled.value(moment.value, partial(value_before, moment, previous))
        if value is None:
            continue
        if isinstance(value, str) or np.ndim(value):
            what = "a character" if isinstance(value, str) else f"{np.size(value)} numbers"
            raise TuiGruError(f"{expression} is {what}; a curve needs one number, as in max(abs({expression}))")
        values[i] = value
    return batches, values


def _spaced(timeline: Timeline, upto: int, points: int) -> NDArray[np.intp]:
    """Return at most `points` of the batches 0 … `upto` − 1 in order."""
    if upto < 1:
        return np.empty(0, np.intp)
    wanted = np.unique(np.round(np.geomspace(1, upto, points)).astype(np.intp)) - 1 if points > 1 else np.array([upto - 1])
    found = []
    for batch in wanted.tolist():
        begins = timeline.replay_start(batch)
        found.append(begins if batch - begins <= batch // _NEAR and batch != upto - 1 else batch)
    return np.unique(np.array(found, np.intp))


def _alone(timeline: Timeline, batch: int) -> BatchRecord:
    """Return the record of a batch, without the batch before it, which `Timeline.record` keeps for the screen."""
    found: list[BatchRecord] = []

    def see(number: int, record: BatchRecord) -> bool:
        found.append(record)
        return True

    timeline.walk(batch, batch, see)
    return found[0]
