"""The functions of formulas: one row each, with everything that the program knows of it. Imports nothing of the project."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

Range = tuple[float, float]
UNBOUNDED: Range = (-math.inf, math.inf)


class Function(NamedTuple):
    """A function of formulas, of every element or of a row.

    `text` is its spelling on screen (in ASCII and in code, its name), `latex` its command, or a pattern with # for the arguments.
    `words` explain it. `torch` computes it in PyTorch, for the check: a function of torch, or one of the module and the arguments.
    A function is computed by `formula`, of its argument x and of the functions that NumPy has; without one by the NumPy function
    `numpy`, whose second operand is `second` if that is a number. `slope` is the gradient of x, of x, of the value y and of its
    gradient dy; without one, nothing can be differentiated through the function. The values are in `range`. Softmax, which sums
    over a row, is computed and differentiated where sums are: in `lowering`, `evaluate` and `backward`.
    """

    text: str
    latex: str
    words: str
    torch: str | Callable[..., Any]
    slope: str = ""
    formula: str = ""
    numpy: str = ""
    second: float | None = None
    range: Range = UNBOUNDED
    arity: int = 1
    is_word: bool = False  # written without parentheses around a name: log ŷ

    @property
    def saturates(self) -> bool:
        """True if it is flat near the limits of its range."""
        return bool(self.slope) and all(map(math.isfinite, self.range))

    def in_torch(self, *operands: Any) -> Any:
        """Return the function of tensors."""
        import torch

        return getattr(torch, self.torch)(*operands) if isinstance(self.torch, str) else self.torch(torch, *operands)


#: Every function by its name in code.
FUNCTIONS: dict[str, Function] = {
    "sigmoid": Function("σ", r"\sigma", "the sigmoid: squeezes any number into 0 to 1", "sigmoid",
        slope="dy ⊙ y ⊙ (1 − y)", formula="1 / (exp(−x) + 1)", range=(0, 1)),  # exp overflows to inf, which correctly gives 0
    "tanh": Function("tanh", r"\tanh", "squeezes any number into −1 to 1", "tanh",
        slope="dy ⊙ (1 − y ⊙ y)", numpy="tanh", range=(-1, 1)),
    "relu": Function("relu", r"\operatorname{relu}", "leaves a number above 0 as it is; any other becomes 0", "relu",
        slope="dy ⊙ positive(y)", formula="max(x, 0)"),
    "clamp": Function("clamp", r"\operatorname{clamp}", "cuts a number off below 0 and above 1",
        lambda torch, x: torch.where((x > 0) & (x < 1), x, x.detach().clamp(0, 1)),  # torch's own has slope 1 at both limits
        slope="dy ⊙ within(y)", formula="min(max(x, 0), 1)", range=(0, 1)),
    "softmax": Function("softmax", r"\mathrm{softmax}", "turns the numbers of a row into probabilities, which add up to 1",
        lambda torch, x: x.softmax(-1), range=(0, 1)),
    "log": Function("log", r"\log", "the natural logarithm", "log", slope="dy / x", numpy="log", is_word=True),
    "exp": Function("exp", r"\exp", "e to the power of the number", "exp", slope="dy ⊙ y", numpy="exp"),
    "sqrt": Function("sqrt", r"\sqrt{#}", "the square root", "sqrt", slope="dy / (2 ⊙ y)", numpy="sqrt"),
    "min": Function("min", r"\min", "the smaller of two numbers", "minimum", numpy="minimum", arity=2),
    "max": Function("max", r"\max", "the larger of two numbers", "maximum", numpy="maximum", arity=2),
    # Indicators, used in derived lines.
    "positive": Function("positive", r"\operatorname{positive}", "1 where the number is above 0, otherwise 0",
        lambda torch, x: (x > 0).double(), numpy="greater", second=0, range=(0, 1)),
    "within": Function("within", r"\operatorname{within}", "1 where the number is between 0 and 1, otherwise 0",
        lambda torch, x: ((x > 0) & (x < 1)).double(), formula="positive(x) ⊙ positive(1 − x)", range=(0, 1)),
}  # fmt: skip
#: The name of a function by each of its spellings.
WRITTEN = {function.text: name for name, function in FUNCTIONS.items()} | {name: name for name in FUNCTIONS}


# ------------------------------------------------------------------------------
# The functions of the gates in files of other programs.


class GateFunction(NamedTuple):
    """A function of the gates: its formula of {}, as people write it of a, and the slope of its middle part if it is a hard
    sigmoid, clip(slope · a + 0.5)."""

    formula: str
    written: str
    slope: float | None = None


MIDDLE, HARD_SLOPE = 0.5, 0.2  # of every hard sigmoid; of the one that is meant unless a slope is given
Gate = Literal["sigmoid", "hard_sigmoid", "hard_sigmoid_6"]
#: σ; clip(0.2 a + 0.5), of Keras 1 and 2 and of ONNX; clip(a/6 + 0.5), of Keras 3 and torch.
GATES: dict[str, GateFunction] = {
    "sigmoid": GateFunction("σ({})", "σ(a)"),
    "hard_sigmoid": GateFunction("clamp(0.2 ⊙ ({}) + 0.5)", "clip(a / 5 + 0.5)", HARD_SLOPE),
    "hard_sigmoid_6": GateFunction("clamp(({}) / 6 + 0.5)", "clip(a / 6 + 0.5)", 1 / 6),
}
GATE_NAMES: tuple[Gate, ...] = get_args(Gate)
STATE_FUNCTIONS = ("tanh", "relu")  # of the state of a plain RNN, which has no gate


def gate_named(activation: str, slope: float = HARD_SLOPE, middle: float = MIDDLE) -> Gate | None:
    """Return the function that another program calls `activation`; a hard sigmoid has `slope` and `middle`. None if it is not
    supported."""
    word = activation.lower().replace("_", "")
    if word != "hardsigmoid" or middle != MIDDLE:
        return "sigmoid" if word == "sigmoid" else None
    return next((name for name in GATE_NAMES if math.isclose(GATES[name].slope or 0, slope, rel_tol=1e-4)), None)
