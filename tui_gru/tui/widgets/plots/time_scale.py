"""The scale of the time line: conversion between ticks and columns, names of places, and divisions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.position import Position
from tui_gru.tui.widgets.plots.axis import ticks
from tui_gru.tui.widgets.written import AnyArray

#: The least number of columns of a labelled division.
_LABEL = 12
#: The least number of columns between two divisions without labels, and between two timesteps.
_BARE, _TIMESTEP = 4, 6


class TimeScale(NamedTuple):
    """The ticks 0 … `span` on `width` columns: the first column is tick 0, the last column is tick `span`."""

    span: int
    width: int

    def column(self, tick: int) -> int:
        """Return the column of a tick, clipped to the row."""
        last = self.width - 1
        if self.span <= 0 or last <= 0:
            return 0
        return min(max((2 * tick * last + self.span) // (2 * self.span), 0), last)

    def tick(self, column: int) -> int:
        """Return the tick in the middle of a column, clipped to the span."""
        last = self.width - 1
        if last <= 0:
            return 0
        return min(max((2 * column * self.span + last) // (2 * last), 0), self.span)

    def batches(self, batch_ticks: int) -> AnyArray:
        """Return the edges of the columns, (width + 1,), in batches from 0."""
        return (np.arange(self.width + 1) - 0.5) * (self.span / max(self.width - 1, 1) / batch_ticks)


def place_name(position: Position) -> str:
    """Return a place as typed in `:go`, `e12 b3 t2`, with its phase unless that is forward: `e12 b3 t2 ←`, `e12 b3 loss`."""
    where = f"e{position.epoch + 1} b{position.batch + 1}"
    if position.phase in ("forward", "backward"):
        return f"{where} t{position.t + 1}" + (" ←" if position.phase == "backward" else "")
    return where if position.phase == "start" else f"{where} {position.phase}"


def divisions(scale: TimeScale, program: Program) -> Iterator[tuple[int, str]]:
    """Yield (tick, label) of round places, the most important first; with an empty label, only the tick is drawn.

    They are epochs if there are several, otherwise batches, otherwise timesteps. Labels can be typed in `:go`.
    """
    batch, epoch = program.ticks, program.ticks * program.num_batches
    most = max(scale.width // _LABEL, 1)
    epochs, batches = -(-scale.span // epoch), -(-scale.span // batch)
    yield 0, "e1"
    if batches <= most:
        for number in range(1, batches):
            e, b = divmod(number, program.num_batches)
            yield number * batch, f"b{b + 1}" if b else f"e{e + 1}"
        yield from _timesteps(scale, program, batches)
    elif epochs > 2:
        for n in ticks(1, epochs, most, whole=True):
            yield round(n - 1) * epoch, f"e{round(n)}"
        if epochs <= most:
            yield from ((n * batch, "") for n in range(batches) if n % program.num_batches)
        elif epochs * _BARE <= scale.width:
            yield from ((n * epoch, "") for n in range(epochs))
    else:
        yield from ((n * epoch, f"e{n + 1}") for n in range(1, epochs))
        whole = min(batches, program.num_batches)
        for n in ticks(1, whole, max(most // epochs, 1), whole=True):
            yield from ((e * epoch + round(n - 1) * batch, f"b{round(n)}") for e in range(epochs))


def _timesteps(scale: TimeScale, program: Program, batches: int) -> Iterator[tuple[int, str]]:
    """Yield the ends of timesteps and phases if there is room for them."""
    if scale.column(program.end_of_timestep(0)) < _TIMESTEP:
        return
    for number in range(batches):
        start = number * program.ticks
        yield start + program.loss_tick, "loss"
        for t in range(program.seq_length):
            yield start + program.end_of_timestep(t), f"t{t + 1}"
        yield start + program.backward_end, "update"
