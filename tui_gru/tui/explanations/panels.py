"""A sentence for every panel, by the name of its class: what it shows, and what its own keys do.

A verb in angle brackets stands for the key that is bound to it.
"""

from __future__ import annotations

from collections.abc import Mapping

PANELS: Mapping[str, str] = {
    "Listing": (
        "The program that is debugged: the equations in the order in which a batch computes them. The arrow "
        "is at the line just executed. A click on a line runs to it, a click before it sets a breakpoint."
    ),
    "Sequence": (
        "The rows of the batch over the timesteps: which character is read, which should be predicted, and "
        "under it the probability that the model gives it. In the backward pass: how large the gradient is at"
        " each timestep, and the paths it flows on."
    ),
    "LossTerms": "How the loss is made from the predictions, term by term: only the target of each row counts.",
    "LineAtWork": (
        "The line just executed, with the matrices that it reads and the one that it gives; under them one entry worked out."
    ),
    "ValueMatrix": (
        "A value of the layer at this timestep: a row of the matrix for each row of the batch, a column for each unit."
    ),
    "Gates": "The values of the layer at this timestep: a row for each row of the batch, a column for each unit.",
    "Softmax": (
        "The prediction at this timestep: the probability of every character to come next, in each row of the"
        " batch. The target is marked."
    ),
    "LossCurve": (
        "The loss of every batch so far. Dashed lines: what guessing and counting characters would lose. ← → "
        "go from batch to batch, , changes the scale."
    ),
    "Overview": "Every weight and bias. <weights> turns to their gradients, and to what the last update changed.",
    "ParameterMatrix": (
        "One weight matrix: a row for what it comes from, a column for each unit. <weights> turns to its gradient and its change."
    ),
    "Samples": (
        "Texts drawn from the model. Under each character p, the probability that it had, and u, the random "
        "number from 0 to 1 that chose it: the characters share 0 to 1 according to their probabilities, and "
        "u falls into the share of one."
    ),
    "TimeLine": (
        "The whole run from left to right: its loss as columns, where you are, marks, stops, and where other "
        "branches part. ← → move, enter goes to the next sign, a click goes there."
    ),
    "Watches": "The values that you watch, as they are now and as they were before the last step.",
    "Log": "What log points have written, each with its place in the run.",
    "CommandLine": "A command is typed here; tab completes it, ↑ brings back an earlier one.",
    "OriginPanel": (
        "Where a number comes from: its line, and the terms that add up to it. → opens a term, enter goes to "
        "where it was computed, backspace comes back."
    ),
    "WhatIfPanel": (
        "What would follow in this batch from another number. Nothing has happened: enter keeps it, + and - change it."
    ),
    "BranchList": (
        "Every future of the run: a change in the past starts a branch. enter goes to one, a compares it with this one."
    ),
    "BranchesApart": ("Where two branches first differ, and how far apart their losses and samples are. enter goes to the place."),
    "StopsList": "Breakpoints, watches, log points and marks. space turns one off and on, e edits it, d deletes it.",
    "CheckReport": "This batch, computed again by PyTorch and by finite differences: how far each array is off.",
    "FindingsList": "What is wrong with the run: the numbers that show it, why it matters, and the cure.",
    "UnitsMap": "A value of every unit over the text: when each is on, and which class of characters it goes with.",
    "InfluenceMap": (
        "What the prediction depends on: how much each earlier character changes it. The digit under a "
        "character is its influence in tenths of the largest."
    ),
    "LossPlaces": "Where the loss is made: by class of character, timestep or row, and the hardest places.",
    "ArrayList": (
        "Every array in a line: how much of it is saturated or near 0, its largest entry, and a histogram of its entries."
    ),
}


def about_panel(panel: object) -> str:
    """The sentence for a panel; that of the class it is derived from, where it has none of its own. Empty for anything else."""
    return next((PANELS[kind.__name__] for kind in type(panel).__mro__ if kind.__name__ in PANELS), "")
