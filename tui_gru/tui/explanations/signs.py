"""Explanations of all signs and colours, which make up the legend.

A verb in angle brackets stands for the key that is bound to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.style import Style

from tui_gru.tui.look.palette import Palette


class Sign(NamedTuple):
    """A sign or a sample of a colour with its meaning.

    `ink` returns its style. `panels` are the names of the classes of panels in which it is drawn, empty if it is drawn in many.
    """

    sign: str
    meaning: str
    ink: Callable[[Palette], Style]
    panels: frozenset[str] = frozenset()


def _in(*panels: str) -> frozenset[str]:
    return frozenset(panels)


#: The groups of the legend. A sign that has different meanings in two panels has two entries.
SIGNS: Sequence[tuple[str, Sequence[Sign]]] = (
    (
        "Colours",
        (
            Sign(" -0.80 ", "below 0: blue, the stronger the further", lambda p: p.signed(-0.8)),
            Sign(" +0.80 ", "above 0: orange, the stronger the further", lambda p: p.signed(0.8)),
            Sign(
                " 0.80 ",
                "a number from 0 to 1, a gate or a probability: one hue, the stronger the nearer to 1",
                lambda p: p.unit(0.8),
            ),
            Sign(" +0.12 ", "bright and bold: just computed by the current line", lambda p: p.accent),
            Sign(" t ", "a target: the character that should be predicted; also between ▸ and ◂", lambda p: p.target),
            Sign(" 1.2e9 ", "a warning: not finite, beyond the scale, or something to look at", lambda p: p.warning),
            Sign(" · ", "not computed yet in this batch", lambda p: p.blank),
        ),
    ),
    (
        "Program",
        (
            Sign("▶", "the line just executed", lambda p: p.line, _in("Listing")),
            Sign("│", "lines that have been executed in this part of the batch", lambda p: p.dim, _in("Listing")),
            Sign("●", "a breakpoint: runs stop after this line", lambda p: p.warning, _in("Listing")),
            Sign(
                "◐", "a breakpoint with a condition or a hit count: runs stop there sometimes", lambda p: p.warning, _in("Listing")
            ),
            Sign("○", "a disabled breakpoint", lambda p: p.dim, _in("Listing")),
            Sign("◆", "a log point: writes into the log, and does not stop", lambda p: p.warning, _in("Listing")),
            Sign("◇", "a disabled log point", lambda p: p.dim, _in("Listing")),
        ),
    ),
    (
        "Equations",
        (
            Sign("x W", "the matrix product", lambda p: p.plain, _in("Listing", "CurrentLine")),
            Sign("⊙", "the product entry by entry", lambda p: p.plain, _in("Listing", "CurrentLine")),
            Sign("σ", "the sigmoid: squeezes any number into 0 to 1", lambda p: p.plain, _in("Listing", "CurrentLine")),
            Sign("tanh", "squeezes any number into −1 to 1", lambda p: p.plain, _in("Listing", "CurrentLine")),
            Sign(
                "softmax",
                "turns the numbers of a row into probabilities, which add up to 1",
                lambda p: p.plain,
                _in("Listing", "CurrentLine"),
            ),
            Sign("Σ", "the sum; “over” says along which direction", lambda p: p.plain, _in("Listing", "CurrentLine")),
            Sign("mean", "the sum, divided by the number of summands", lambda p: p.plain, _in("Listing", "CurrentLine")),
            Sign("B", "the number of rows in a batch", lambda p: p.plain, _in("Listing", "CurrentLine")),
            Sign("T", "the number of timesteps in a batch", lambda p: p.plain, _in("Listing", "CurrentLine")),
            Sign("H", "the number of hidden units", lambda p: p.plain),
            Sign("V", "the number of characters in the vocabulary", lambda p: p.plain),
            Sign("n", "the number of updates so far, including this one", lambda p: p.plain, _in("Listing", "CurrentLine")),
            Sign("Wᵀ", "a matrix with rows and columns exchanged", lambda p: p.plain, _in("Listing", "CurrentLine")),
            Sign("hₜ₋₁", "h after the previous timestep", lambda p: p.plain, _in("Listing", "CurrentLine", "Gates")),
            Sign("dh", "the gradient of the loss with respect to h", lambda p: p.plain, _in("Listing", "CurrentLine")),
            Sign("dh←", "the part of dh that comes from the next timestep", lambda p: p.plain, _in("Listing", "CurrentLine")),
            Sign(
                "① ② ③",
                "the terms of the loss: for each character, for each row, for the timestep",
                lambda p: p.plain,
                _in("Listing", "LossTerms"),
            ),
            Sign("+= −=", "added to the previous value: gradients; subtracted from it: updates", lambda p: p.plain, _in("Listing")),
            Sign("⋯ ⋮", "entries that do not fit; <zoom> zooms the panel", lambda p: p.dim),
        ),
    ),
    (
        "Batch and predictions",
        (
            Sign("M→a", "“M” is read, and “a” should be predicted", lambda p: p.plain, _in("Sequence")),
            Sign("▸ t ◂", "the target of a row", lambda p: p.target, _in("Softmax", "WhatIfPanel", "Sequence")),
            Sign("▐ ▌", "the current timestep", lambda p: p.accent, _in("Sequence")),
            Sign(
                "▲ row 1 “th…” does not follow “…at”",
                (
                    "for example: row 1 begins with “th…”, but its initial hidden state was computed after “…at”, another place of "
                    "the text: the model starts this batch with a memory that does not belong to it. With --layout "
                    "contiguous, each row continues the text of the previous batch"
                ),
                lambda p: p.warning,
                _in("Sequence"),
            ),
            Sign(
                "‖dh‖",
                "the norm of the gradient at a timestep; the bar below it compares the timesteps",
                lambda p: p.plain,
                _in("Sequence"),
            ),
            Sign(
                "c h z r",
                (
                    "the paths of the gradient to the previous timestep, each letter a fifth of it: the line of the carry, "
                    "the candidate, the update gate, the reset gate, as the border says"
                ),
                lambda p: p.plain,
                _in("Sequence"),
            ),
            Sign("┃", "a wall: the gradient is cut here and does not reach the previous batch", lambda p: p.plain, _in("Sequence")),
            Sign("p", "the probability that the sampled character had", lambda p: p.gate, _in("Samples")),
            Sign(
                "u",
                "the random number from 0 to 1 that chose the character; none if the likeliest was chosen",
                lambda p: p.plain,
                _in("Samples"),
            ),
            Sign(
                "7",
                "under a character: its influence in tenths of the largest",
                lambda p: p.plain,
                _in("InfluenceMap"),
            ),
            Sign(
                "+7",
                "in a matrix too large for its numbers: the sign of an entry, and its size in tenths of the scale",
                lambda p: p.signed(0.7),
                _in("ParameterMatrix", "ValueMatrix"),
            ),
            Sign(
                "tenths of 0.7",
                "the scale of these digits: with it, +7 is 0.49",
                lambda p: p.dim,
                _in("ParameterMatrix", "ValueMatrix"),
            ),
            Sign(
                "≈0 ≈1 sat.",
                "shares of the entries: near 0, near 1, and saturated, that is within a tenth of the range from its limit",
                lambda p: p.plain,
                _in("ValueMatrix"),
            ),
        ),
    ),
    (
        "Run",
        (
            Sign("▲", "the current position in the run", lambda p: p.accent, _in("TimeLine", "LossCurve")),
            Sign("▲ 2 findings", "something is wrong with the run: <findings> lists it", lambda p: p.warning, _in("Header")),
            Sign(
                "◂ 5 ticks back", "you are in the past: 5 lines before the newest moment reached", lambda p: p.accent, _in("Header")
            ),
            Sign("a", "a mark that you have set", lambda p: p.strong, _in("TimeLine")),
            Sign("●", "a run stopped here", lambda p: p.warning, _in("TimeLine")),
            Sign("╰", "another branch leaves here", lambda p: p.second, _in("TimeLine")),
            Sign("↑ ↓", "an outlier of the loss, or a loss off the axis", lambda p: p.warning, _in("TimeLine", "LossCurve")),
            Sign("✗", "not a finite number", lambda p: p.warning, _in("TimeLine", "LossCurve", "Header")),
            Sign(
                "╌ log V",
                "the loss of guessing; unigram: of knowing the frequencies of characters; bigram: of pairs",
                lambda p: p.dim,
                _in("LossCurve"),
            ),
            Sign("╌", "not reached yet", lambda p: p.dim, _in("TimeLine")),
        ),
    ),
)


def signs_of(panel: object) -> list[Sign]:
    """Return the signs that are drawn in a panel, by its class and its base classes."""
    kinds = {kind.__name__ for kind in type(panel).__mro__}
    return [sign for _, signs in SIGNS for sign in signs if sign.panels & kinds]


def meanings(written: str) -> list[str]:
    """Return the meanings of a sign, written as in the legend or as one of several signs of an entry."""
    return [sign.meaning for _, signs in SIGNS for sign in signs if written in _spellings(sign)]


def _spellings(sign: Sign) -> set[str]:
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
