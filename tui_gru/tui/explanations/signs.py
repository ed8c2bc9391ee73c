"""Explanations of all signs and colours, which make up the legend.

A verb in angle brackets stands for the key that is bound to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple

from rich.style import Style

from tui_gru.tui.look.themes import Palette


class LegendSign(NamedTuple):
    """A sign or a sample of a colour with its meaning.

    `panels` has the names of the classes of panels in which it is drawn, separated by blanks; it is empty if the sign is drawn in
    many. `ink` returns its style.
    """

    sign: str
    meaning: str
    panels: str = ""
    ink: Callable[[Palette], Style] = attrgetter("plain")


#: The groups of the legend. A sign that has different meanings in two panels has two entries.
SIGNS: Sequence[tuple[str, Sequence[LegendSign]]] = (
    (
        "Colours",
        (
            LegendSign(" -0.80 ", "below 0: blue, the stronger the further", ink=lambda p: p.signed(-0.8)),
            LegendSign(" +0.80 ", "above 0: orange, the stronger the further", ink=lambda p: p.signed(0.8)),
            LegendSign(
                " 0.80 ",
                "a number from 0 to 1, a gate or a probability: one hue, the stronger the nearer to 1",
                ink=lambda p: p.unit(0.8),
            ),
            LegendSign(" +0.12 ", "bright and bold: just computed by the current line", ink=lambda p: p.accent),
            LegendSign(" t ", "a target: the character that should be predicted; also between ▸ and ◂", ink=lambda p: p.target),
            LegendSign(" 1.2e9 ", "a warning: not finite, beyond the scale, or something to look at", ink=lambda p: p.warning),
            LegendSign(" · ", "not computed yet in this batch", ink=lambda p: p.blank),
        ),
    ),
    (
        "Program",
        (
            LegendSign("▶", "the line just executed", "Listing", ink=lambda p: p.line),
            LegendSign("│", "lines that have been executed in this part of the batch", "Listing", ink=lambda p: p.dim),
            LegendSign("●", "a breakpoint: runs stop after this line", "Listing", ink=lambda p: p.warning),
            LegendSign(
                "◐",
                "a breakpoint with a condition or a hit count: runs stop there sometimes",
                "Listing",
                ink=lambda p: p.warning,
            ),
            LegendSign("○", "a disabled breakpoint", "Listing", ink=lambda p: p.dim),
            LegendSign("◆", "a log point: writes into the log, and does not stop", "Listing", ink=lambda p: p.warning),
            LegendSign("◇", "a disabled log point", "Listing", ink=lambda p: p.dim),
        ),
    ),
    (
        "Equations",
        (
            LegendSign("x W", "the matrix product", "Listing CurrentLine"),
            LegendSign("⊙", "the product entry by entry", "Listing CurrentLine"),
            LegendSign("σ", "the sigmoid: squeezes any number into 0 to 1", "Listing CurrentLine"),
            LegendSign("tanh", "squeezes any number into −1 to 1", "Listing CurrentLine"),
            LegendSign("softmax", "turns the numbers of a row into probabilities, which add up to 1", "Listing CurrentLine"),
            LegendSign("Σ", "the sum; “over” says along which direction", "Listing CurrentLine"),
            LegendSign("mean", "the sum, divided by the number of summands", "Listing CurrentLine"),
            LegendSign("B", "the number of rows in a batch", "Listing CurrentLine"),
            LegendSign("T", "the number of timesteps in a batch", "Listing CurrentLine"),
            LegendSign("H", "the number of hidden units"),
            LegendSign("V", "the number of characters in the vocabulary"),
            LegendSign("n", "the number of updates so far, including this one", "Listing CurrentLine"),
            LegendSign("Wᵀ", "a matrix with rows and columns exchanged", "Listing CurrentLine"),
            LegendSign("hₜ₋₁", "h after the previous timestep", "Listing CurrentLine Gates"),
            LegendSign("dh", "the gradient of the loss with respect to h", "Listing CurrentLine"),
            LegendSign("dh←", "the part of dh that comes from the next timestep", "Listing CurrentLine"),
            LegendSign("① ② ③", "the terms of the loss: for each character, for each row, for the timestep", "Listing LossTerms"),
            LegendSign("+= −=", "added to the previous value: gradients; subtracted from it: updates", "Listing"),
            LegendSign("⋯ ⋮", "entries that do not fit; <zoom> zooms the panel", ink=lambda p: p.dim),
        ),
    ),
    (
        "Batch and predictions",
        (
            LegendSign("M→a", "“M” is read, and “a” should be predicted", "Sequence"),
            LegendSign("▸ t ◂", "the target of a row", "Softmax WhatIfPanel Sequence", ink=lambda p: p.target),
            LegendSign("▐ ▌", "the current timestep", "Sequence", ink=lambda p: p.accent),
            LegendSign(
                "▲ row 1 “th…” does not follow “…at”",
                "for example: row 1 begins with “th…”, but its initial hidden state was computed after “…at”, another place of the "
                "text: the model starts this batch with a memory that does not belong to it. With --layout contiguous, "
                "each row continues the text of the previous batch",
                "Sequence",
                ink=lambda p: p.warning,
            ),
            LegendSign("‖dh‖", "the norm of the gradient at a timestep; the bar below it compares the timesteps", "Sequence"),
            LegendSign(
                "c h z r",
                "the paths of the gradient to the previous timestep, each letter a fifth of it: the line of the carry, the"
                " candidate, the update gate, the reset gate, as the border says",
                "Sequence",
            ),
            LegendSign("┃", "a wall: the gradient is cut here and does not reach the previous batch", "Sequence"),
            LegendSign("p", "the probability that the sampled character had", "Samples", ink=lambda p: p.gate),
            LegendSign("u", "the random number from 0 to 1 that chose the character; none if the likeliest was chosen", "Samples"),
            LegendSign("7", "under a character: its influence in tenths of the largest", "InfluenceMap"),
            LegendSign(
                "+7",
                "in a matrix too large for its numbers: the sign of an entry, and its size in tenths of the scale",
                "ParameterMatrix ValueMatrix",
                ink=lambda p: p.signed(0.7),
            ),
            LegendSign(
                "tenths of 0.7",
                "the scale of these digits, in a narrow panel ×0.07: with it, +7 is 0.49",
                "ParameterMatrix ValueMatrix",
                ink=lambda p: p.dim,
            ),
            LegendSign(
                "≈0 ≈1 sat.",
                "shares of the entries: near 0, near 1, and saturated, that is within a tenth of the range from its limit",
                "ValueMatrix",
            ),
        ),
    ),
    (
        "Run",
        (
            LegendSign("▲", "the current position in the run", "TimeLine LossCurve", ink=lambda p: p.accent),
            LegendSign("▲ 2 findings", "something is wrong with the run: <findings> lists it", "Header", ink=lambda p: p.warning),
            LegendSign(
                "◂ 5 ticks back",
                "you are in the past: 5 lines before the newest moment reached; a tick is one executed line",
                "Header",
                ink=lambda p: p.accent,
            ),
            LegendSign("a", "a mark that you have set", "TimeLine", ink=lambda p: p.strong),
            LegendSign("●", "a run stopped here", "TimeLine", ink=lambda p: p.warning),
            LegendSign("╰", "another branch leaves here", "TimeLine", ink=lambda p: p.second),
            LegendSign("↑ ↓", "an outlier of the loss, or a loss off the axis", "TimeLine LossCurve", ink=lambda p: p.warning),
            LegendSign("✗", "not a finite number", "TimeLine LossCurve Header", ink=lambda p: p.warning),
            LegendSign(
                "╌ log V",
                "the loss of guessing; unigram: of knowing the frequencies of characters; bigram: of pairs",
                "LossCurve",
                ink=lambda p: p.dim,
            ),
            LegendSign("╌", "not reached yet", "TimeLine", ink=lambda p: p.dim),
        ),
    ),
)


def signs_of(panel: object) -> list[LegendSign]:
    """Return the signs that are drawn in a panel, by its class and its base classes."""
    kinds = {kind.__name__ for kind in type(panel).__mro__}
    return [sign for _, signs in SIGNS for sign in signs if not kinds.isdisjoint(sign.panels.split())]


def meanings(written: str) -> list[str]:
    """Return the meanings of a sign, written as in the legend or as one of several signs of an entry."""
    return [sign.meaning for _, signs in SIGNS for sign in signs if written in _spellings(sign)]


def _spellings(sign: LegendSign) -> set[str]:
    """Return a sign as the legend has it, and its parts; words are parts only together: `log V`."""
    whole = sign.sign.strip()
    has_words = re.search(r"[^\W\d_]{3}", whole) is not None
    return {whole, re.sub(r"^\W+", "", whole), *(part for part in whole.split() if not (has_words and part[0].isalnum()))}


def signs_with(written: str) -> list[str]:
    """Return the signs, with their meanings, that contain a word."""
    word = re.compile(rf"(?<!\w){re.escape(written)}(?!\w)", re.IGNORECASE)
    every = [sign for _, signs in SIGNS for sign in signs]
    found = [sign for sign in every if word.search(sign.sign)] + [sign for sign in every if word.search(sign.meaning)]
    return [f"{sign.sign.strip()}: {sign.meaning}" for sign in found]
