"""What stands in the place of a prediction and a loss where a model has none: its output beside the expected one, and p.grad."""

from __future__ import annotations

from math import log10
from textwrap import fill

import numpy as np

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.glyphs import transliterate
from tui_gru.tui.palette import Palette
from tui_gru.tui.panels.given_sequence import expected_output
from tui_gru.tui.widgets.bars import bars
from tui_gru.tui.widgets.boxes import Box, clip, text, vstack

_LEAST, _DECADES = 1e-8, 8  # a bar is full at 1, and ten times as much takes an eighth of it


def title(snapshot: Snapshot) -> str:
    """What the panel of the prediction shows instead."""
    return "off the expected output" if expected_output(snapshot) is not None else "output"


def difference_over_time(palette: Palette, snapshot: Snapshot, width: int, height: int) -> Box:
    """How far the output is off the expected one at each timestep that has been computed; bars on a logarithmic scale."""
    expected, output = expected_output(snapshot), snapshot.program.model.page.output
    if expected is None:
        words = "this model ends at its states; an output that is expected of it is compared here"
        return _words(palette, words, width, height)
    T, here = snapshot.config.seq_length, snapshot.position.t
    start = min(max(here - height // 2, 0), max(T - height, 0))
    values, labels = [], []
    for t in range(start, min(start + height, T)):
        value = snapshot.value(output, t)
        apart = np.nan if value is None else float(np.abs(value - expected[t]).max(initial=0))
        values.append(max(log10(apart / _LEAST), 0) / _DECADES if apart > 0 else 0.0)
        labels.append(f"t {t + 1}".rjust(len(f"t {T}")) + ("      " if value is None else f" {apart:5.0e}"))
    return clip(palette, bars(palette, values, labels, width, word=False, write=lambda value: ""), width, height)


def about_gradients(palette: Palette, snapshot: Snapshot, width: int, height: int) -> Box:
    """How the gradients that an optimizer used came from the derived ones, once the backward pass has begun."""
    given = snapshot.config.given
    if given is None or not given.learns:
        return _words(palette, "this model ends without a loss", width, height)
    if snapshot.position.phase != "backward":
        return _words(palette, "the gradient of the loss is given, as it came back from your script's head and loss", width, height)
    return _words(palette, given.batches[snapshot.position.batch].said(), width, height)


def _words(palette: Palette, words: str, width: int, height: int) -> Box:
    lines = fill(transliterate(words, palette.glyphs), max(width, 1))
    return clip(palette, vstack(text(palette, lines, palette.dim)), width, height)
