"""The functions that a formula can use, and the spelling of each. Their derivatives are in `derivatives`."""

from __future__ import annotations

from typing import NamedTuple


class Function(NamedTuple):
    """The spelling of a function on screen and in LaTeX, and its number of arguments."""

    text: str
    latex: str
    arity: int = 1


FUNCTIONS = {
    "sigmoid": Function("σ", r"\sigma"),
    "tanh": Function("tanh", r"\tanh"),
    "relu": Function("relu", r"\operatorname{relu}"),
    "clamp": Function("clamp", r"\operatorname{clamp}"),  # clips to the interval from 0 to 1
    "softmax": Function("softmax", r"\mathrm{softmax}"),
    "log": Function("log", r"\log"),
    "exp": Function("exp", r"\exp"),
    "sqrt": Function("sqrt", r"\sqrt"),
    "min": Function("min", r"\min", 2),
    "max": Function("max", r"\max", 2),
    # Indicators, used in derived lines: 1 where the argument is > 0, and 1 where it is between 0 and 1; otherwise 0.
    "positive": Function("positive", r"\operatorname{positive}"),
    "within": Function("within", r"\operatorname{within}"),
}
WRITTEN = {function.text: name for name, function in FUNCTIONS.items()} | {name: name for name in FUNCTIONS}
