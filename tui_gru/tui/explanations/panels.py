"""Explanations of the panels by the names of their classes: what a panel shows, and what its own keys do.

A verb in angle brackets stands for the key that is bound to it.
"""

from __future__ import annotations

from collections.abc import Mapping

PANELS: Mapping[str, str] = {
    "Listing": (
        "The program: the equations in the order in which a batch computes them. The arrow "
        "is at the line just executed. A click on a line runs to it, a click before it sets a breakpoint."
    ),
    "Sequence": (
        "The rows of the batch over the timesteps: which character is read, which should be predicted, and "
        "under it the probability that the model gives it. In the backward pass: how large the gradient is at"
        " each timestep, and the paths it flows on."
    ),
    "LossTerms": "How the loss is computed from the predictions, term by term: only the target of each row counts.",
    "LineAtWork": (
        "The line just executed, with the matrices that it reads and its result; below them the computation of one entry."
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
        "The loss of every batch so far. Dashed lines: the losses of guessing and of counting characters. ← → "
        "go from batch to batch, , changes the scale."
    ),
    "Overview": "Every weight and bias. <weights> switches to their gradients and to their changes in the last update.",
    "ParameterMatrix": (
        "One weight matrix: a row for each input, a column for each unit. <weights> switches to its gradient and its change."
    ),
    "Samples": (
        "Texts drawn from the model. Under each character p, the probability that it had, and u, the random "
        "number from 0 to 1 that chose it: the range from 0 to 1 is divided by the probabilities of the characters, and "
        "u falls into the part of one of them."
    ),
    "TimeLine": (
        "The whole run from left to right: its loss as columns, the current position, marks, stops, and forks of other "
        "branches. ← → move, enter goes to the next sign, a click goes to a place."
    ),
    "Watches": "The watched expressions: their values now and before the last step.",
    "Log": "The lines that log points have written, each with its place in the run.",
    "CommandLine": "The command line: tab completes a command, ↑ recalls an earlier one.",
    "OriginPanel": (
        "Where a number comes from: its line, and the terms that add up to it. → opens a term, enter goes to "
        "where it was computed, backspace goes back."
    ),
    "WhatIfPanel": ("The effect of another value in this batch. Nothing has changed yet: enter applies it, + and - change it."),
    "BranchList": (
        "The branches of the run: a change in the past starts one. enter goes to a branch, a compares it with this one."
    ),
    "BranchesApart": ("Where two branches first differ, and how much their losses and samples differ. enter goes to the place."),
    "StopsList": "Breakpoints, watches, log points and marks. space disables or enables one, e edits it, d deletes it.",
    "CheckReport": "This batch, computed again by PyTorch and by finite differences: the largest difference of each array.",
    "FindingsList": "What is wrong with the run: the numbers that show it, why it matters, and how to fix it.",
    "UnitsMap": "A value of every unit over the text: where each is active, and the class of characters with which it correlates.",
    "InfluenceMap": (
        "What the prediction depends on: how much each earlier character changes it. The digit under a "
        "character is its influence in tenths of the largest."
    ),
    "LossPlaces": "The loss by class of character, timestep or row, and the hardest places.",
    "ArrayList": (
        "Every array in one line: how much of it is saturated or near 0, its largest entry, and a histogram of its entries."
    ),
}


def about_panel(panel: object) -> str:
    """Return the explanation of a panel, by its class or the nearest base class that has one; empty if there is none."""
    return next((PANELS[kind.__name__] for kind in type(panel).__mro__ if kind.__name__ in PANELS), "")
