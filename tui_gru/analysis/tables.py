"""Answers as tables: columns of equal length by their names, for data frames and CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from itertools import zip_longest
from typing import Any

import numpy as np

from tui_gru.analysis.examined import Finding
from tui_gru.analysis.losses import TextLosses
from tui_gru.analysis.story import Story, matrices_of
from tui_gru.analysis.units import Activity
from tui_gru.debugger.history import ScalarRows
from tui_gru.debugger.position import Position, in_words
from tui_gru.files.arrays import AnyArray

#: The columns by their names, in order; None, or masked, where a row has no such number. NaN is a number.
Columns = Mapping[str, Sequence[Any] | AnyArray]


def csv_text(table: Columns) -> str:
    """Return a table as CSV with a head; a number is written so that it reads back as the same one, `nan` if it is none; a
    field is empty where a row has no number."""
    written = StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(table)
    columns = [column.tolist() if isinstance(column, np.ndarray) else column for column in table.values()]
    for row in zip(*columns, strict=True):
        writer.writerow(["" if value is None else value for value in row])
    return written.getvalue()


def of_pandas(table: Columns) -> dict[str, Any]:
    """Return the columns of a data frame. Numbers of which some are missing are of the type Float64 of pandas, with `NA` for those,
    which differs from NaN; pandas must be installed."""
    from pandas import arrays

    columns: dict[str, Any] = {}
    for name, column in table.items():
        values = column.tolist() if isinstance(column, np.ndarray) else list(column)
        blank = np.array([value is None for value in values], bool)
        present = [value for value in values if value is not None]
        if blank.any() and present and all(isinstance(value, float) for value in present):
            numbers = np.array([math.nan if value is None else value for value in values], np.float64)
            columns[name] = arrays.FloatingArray(numbers, blank)
        else:
            columns[name] = column
    return columns


def of_history(batches: AnyArray, values: ScalarRows, expression: str, per_epoch: int, steps: Sequence[int]) -> Columns:
    """Return the course of an expression: a row a batch, with the batches (n) and the values (n) of `Session.history`."""
    return {**places(batches.tolist(), per_epoch, steps), expression: values}


def places(batches: Sequence[int], per_epoch: int, steps: Sequence[int]) -> dict[str, list[int]]:
    """Return epoch and batch, counted from 1, of batches that are counted through all epochs, 0-based; of a recording the steps."""
    if steps:
        return {"recorded_step": [steps[batch] for batch in batches]}
    return {"epoch": [batch // per_epoch + 1 for batch in batches], "batch": [batch % per_epoch + 1 for batch in batches]}


def of_story(story: Story, steps: Sequence[int], plotted: Iterable[tuple[str, AnyArray, ScalarRows]] = ()) -> Columns:
    """Return the numbers of all moments of a story: a row a moment. `plotted` has expressions with batches (n) and values (n)."""
    moments, program = story.moments, story.timeline.program
    batches = [moment.batch for moment in moments]
    table: dict[str, Any] = {**places(batches, program.num_batches, steps)}
    table |= {name: story.column(name)[batches] for name in story.columns}
    reads_more = len(story.held_out) > 1
    held_out = [moment.held_out if reads_more and math.isfinite(moment.max_weight) else None for moment in moments]
    table |= {"held_out": held_out, "step": [moment.step if moment.steps else None for moment in moments]}
    for i, share in enumerate(story.shares):
        table[share.written(share.name)] = [moment.shares[i] for moment in moments]
    table |= {f"norm({name})": [moment.norms[name] for moment in moments] for name in matrices_of(program)}
    deltas, reach = (zip_longest(*rows) for rows in ([moment.deltas for moment in moments], [moment.reach for moment in moments]))
    table |= {f"norm(d{program.main_state}) t {t + 1}": column for t, column in enumerate(deltas)}
    table |= {f"reach {back}": column for back, column in enumerate(reach)}
    for expression, at, values in plotted:
        computed = dict(zip(at.tolist(), values.tolist(), strict=True))
        table[expression] = [computed.get(batch) for batch in batches]
    return table


def of_losses(losses: TextLosses) -> Columns:
    """Return the loss of every predicted character: its place in the text, from 0, the character, and the loss in nats; in a batch
    also the row and the timestep, from 1."""
    table: dict[str, Any] = {"place": losses.places, "character": [losses.text[place] for place in losses.places.tolist()]}
    if losses.row is not None and losses.t is not None:
        table |= {"row": losses.row + 1, "t": losses.t + 1}
    return table | {"loss": losses.values}


def of_units(activity: Activity) -> Columns:
    """Return the values of every unit after each character: a column a unit, such as `h[unit 3]`, counted from 1."""
    values = activity.values
    head: dict[str, Any] = {"character": list(activity.text[: len(values)])} if activity.text else {}
    return head | {f"{activity.name}[unit {unit + 1}]": values[:, unit] for unit in range(activity.units)}


def of_findings(findings: Sequence[Finding]) -> Columns:
    """Return a row a finding, in their order, with its words; `cause` is the name of the finding that it is a consequence of."""
    return {
        "name": [finding.name for finding in findings],
        "title": [finding.title for finding in findings],
        "meaning": [finding.meaning for finding in findings],
        "evidence": ["; ".join(evidence.words for evidence in finding.evidence) for finding in findings],
        "cure": [finding.cure for finding in findings],
        "is_tried": [finding.is_tried for finding in findings],
        "cause": [getattr(finding.follows_from, "name", None) for finding in findings],
        "first_seen": [_written(finding.first_seen) for finding in findings],
        "last_seen": [_written(finding.last_seen) for finding in findings],
    }


def _written(position: Position | None) -> str | None:
    return None if position is None else in_words(position.epoch, position.batch, step=position.step)
