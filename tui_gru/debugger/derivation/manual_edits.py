"""Finds the numbers of a run that were edited, with the place of the edit and the value before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from tui_gru.debugger.derivation.evaluation import AnyIndex
from tui_gru.debugger.derivation.origin import Derivation, Node, ValueRef, given
from tui_gru.debugger.program.names import ValueKind
from tui_gru.debugger.program.naming import shown_char
from tui_gru.debugger.program.position import in_words
from tui_gru.debugger.timeline.changes import changeable
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.recorded import recorded
from tui_gru.debugger.timeline.segment import HistorySegment
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine import numbers
from tui_gru.equations.expression import Expression, Name


class ManualEdits:
    """Finds edits in one timeline: a number was edited where its values before and after the start of a segment differ.

    `node` gives the node of a number, `line` the derivation of an entry of a line, executed at a tick for a timestep.
    """

    def __init__(
        self, timeline: Timeline, node: Callable[[ValueRef], Node], line: Callable[[Expression, AnyIndex, int, int], Derivation]
    ) -> None:
        self._timeline, self._node, self._line = timeline, node, line
        program = timeline.program
        self._weights = frozenset(program.names_of(ValueKind.PARAMETER, ValueKind.OPTIMIZER_STATE))
        self._changeable = frozenset(changeable(program)) - self._weights
        self._starts = frozenset(segment.start for segment in timeline.segments if segment.action.kind != "begin")

    def at(self, tick: int) -> bool:
        """Return True if a change was made at a tick, so that values before and after it differ."""
        return tick in self._starts

    def change(self, number: ValueRef, since: int) -> HistorySegment | None:
        """Return the segment of the last edit of a number since tick `since`; None if there was none."""
        at = self._timeline.position(number.tick)
        number = replace(number, t=at.t if number.t is None else number.t)
        for segment in self._upto(number):
            if segment.start < since:
                return None
            edited, is_parameter = segment.edited, number.name in self._weights
            here = number.name in self._changeable and self._timeline.position(segment.start).number == at.number
            if (number.name in edited if is_parameter else edited and here) and self._differs(number, segment):
                return segment
        return None

    def derivation(self, number: ValueRef, since: int) -> Derivation | None:
        """Return the derivation of a number that was edited after `since`, where it was computed; None if it was not edited."""
        segment = self.change(number, since)
        if segment is None:
            return None
        tick, last = segment.start, segment.edited[-1]
        if last != number.name and self._is_part_of(last, number.name):
            return self._from_parts(number, tick)
        old = self._node_before(replace(number, tick=tick, before=True))
        note = self.note(tick, numbers.given(old.value))
        if not math.isfinite(old.value):
            return given(note, tick=tick)
        change = Node(
            "set by hand", self._node(number).value - old.value, lambda: given(note), exact=True, latex=r"\text{set by hand}"
        )
        return Derivation("sum", (old, change), tick=tick, note=note)

    def _is_part_of(self, part: str, name: str) -> bool:
        program = self._timeline.program
        made = name in program.lines or name in program.parts
        return made and any(node.label == part for node in program.made_by(name)[0].walk())

    def _node_before(self, number: ValueRef) -> Node:
        """Return the node of a number before its edit."""
        node = self._node(number)
        return replace(node, label=f"{node.label} before")

    def _from_parts(self, number: ValueRef, tick: int) -> Derivation:
        """Return the derivation of a number whose line was completed again after an edit of one of its parts."""
        formula, text = self._timeline.program.made_by(number.name)
        t = self._timeline.position(tick).t if number.t is None else number.t
        return replace(self._line(_named_parts(formula), number.index, tick, t), tick=tick, formula=text)

    def setting(self, number: ValueRef) -> str:
        """Return the place where a setting of the update rule was last edited, as of `number`, in words; empty if it never was."""
        begun_with = self._timeline.program.config.settings
        for segment, before in self._pairs(number):
            was = (begun_with if before is None else before.settings.rule)[number.name]
            if segment.settings.rule[number.name] != was:
                return self.note(segment.start, numbers.given(was + 0))
        return ""

    def character(self, place: int, number: ValueRef) -> str:
        """Return the place where character `place` of the text was last edited, as of `number`, in words; empty if it never was."""
        for segment, before in self._pairs(number):
            was = self._timeline.program.config.text if before is None else before.trainer.config.text
            if segment.trainer.config.text[place] != was[place]:
                return self.note(segment.start, f"“{shown_char(was[place])}”")
        return ""

    def note(self, tick: int, was: str) -> str:
        """Return the note of an edit: `set by hand at epoch 1, batch 2, t 1; it was 0.25`."""
        at = self._timeline.position(tick)
        where = f"at {in_words(at.epoch, at.batch, at.t)}" if tick else "before the first line"
        return f"set by hand {where}; it was {was}"

    def _upto(self, number: ValueRef) -> Iterator[HistorySegment]:
        """Return the segments that began at or before the tick of a number, latest first."""
        last = number.tick - number.before
        return (segment for segment in reversed(self._timeline.segments) if segment.start <= last)

    def _pairs(self, number: ValueRef) -> Iterator[tuple[HistorySegment, HistorySegment | None]]:
        """Return the same, each with the segment before it; None for the first."""
        segments = list(self._upto(number))
        return zip(segments, [*segments[1:], None], strict=True)

    def _differs(self, number: ValueRef, segment: HistorySegment) -> bool:
        before, after = self._timeline.moment_before(segment.start), self._timeline.moment(segment.start)
        was, now = self._value(number, before), self._value(number, after)
        return not numbers.same(was, now)

    def _value(self, number: ValueRef, moment: Moment) -> float:
        """Return a number in a record, even if it has not been computed at the moment."""
        name, record, program = number.name, moment.record, self._timeline.program
        if name in self._weights:
            return float(moment.weights[name][number.index])
        if not record.learned and program.names[name].kind in (
            ValueKind.VALUE_GRADIENT,
            ValueKind.GRADIENT,
            ValueKind.UPDATE_VALUE,
        ):
            return math.nan
        t = number.t if program.names[name].timed else None
        return float(recorded(program, record, name, t)[number.index])


def _named_parts(node: Expression) -> Expression:
    """Return an expression with each labelled part replaced by its name."""
    children = tuple(Name(child.label) if child.label else _named_parts(child) for child in node.children)
    return node.with_children(children) if children else node
