"""The functions of formulas: one row each, with everything that the program knows of it. Imports nothing of the project."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

Range = tuple[float, float]
UNBOUNDED: Range = (-math.inf, math.inf)
_ROOT_OF_HALF, _NORMAL_AT_0 = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)


class Function(NamedTuple):
    """A function of formulas, of every element or of a row.

    `text` is its spelling on screen (in ASCII and in code, its name), `latex` its command, or a pattern with # for the arguments.
    `words` explain it. `torch` computes it in PyTorch, for the check: a function of torch, or one of the module and the arguments.
    A function is computed by `formula`, of its argument x and of the functions that NumPy has; without one by the NumPy function
    `numpy`, whose second operand is `second` if that is a number. `slope` is the gradient of x, of x, of the value y and of its
    gradient dy; without one, nothing can be differentiated through the function. The values are in `range`, and `saturates` is True
    for a function that is flat near both limits. Softmax, which sums over a row, and min and max, which have two operands, are
    differentiated in `backward`; softmax is computed where sums are, in `lowering` and `evaluate`.
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
    saturates: bool = False
    arity: int = 1
    is_word: bool = False  # written without parentheses around a name: log ŷ

    def in_torch(self, *operands: Any) -> Any:
        """Return the function of tensors."""
        import torch

        return getattr(torch, self.torch)(*operands) if isinstance(self.torch, str) else self.torch(torch, *operands)


#: Every function by its name in code.
FUNCTIONS: dict[str, Function] = {
    "sigmoid": Function("σ", r"\sigma", "the sigmoid: squeezes any number into 0 to 1", "sigmoid",
        slope="dy ⊙ y ⊙ (1 − y)", range=(0, 1), saturates=True,
        formula="1 / (exp(−x) + 1)"),  # exp overflows to inf, which correctly gives 0
    "tanh": Function("tanh", r"\tanh", "squeezes any number into −1 to 1", "tanh",
        slope="dy ⊙ (1 − y ⊙ y)", numpy="tanh", range=(-1, 1), saturates=True),
    "relu": Function("relu", r"\operatorname{relu}", "leaves a number above 0 as it is; any other becomes 0", "relu",
        slope="dy ⊙ positive(y)", formula="max(x, 0)"),
    "clamp": Function("clamp", r"\operatorname{clamp}", "cuts a number off below 0 and above 1",
        lambda torch, x: torch.where((x > 0) & (x < 1), x, x.detach().clamp(0, 1)),  # torch's own has slope 1 at both limits
        slope="dy ⊙ within(y)", formula="min(max(x, 0), 1)", range=(0, 1), saturates=True),
    "softmax": Function("softmax", r"\mathrm{softmax}", "turns the numbers of a row into probabilities, which add up to 1",
        lambda torch, x: x.softmax(-1), range=(0, 1)),
    "softplus": Function("softplus", r"\operatorname{softplus}", "the logarithm of 1 + e^x: relu without a corner",
        lambda torch, x: torch.logaddexp(x, torch.zeros_like(x)), slope="dy ⊙ σ(x)", numpy="logaddexp", second=0,
        range=(0, math.inf)),
    "elu": Function("elu", r"\operatorname{elu}", "leaves a number above 0 as it is; below, e^x − 1",
        lambda torch, x: torch.nn.functional.elu(x), slope="dy ⊙ exp(min(x, 0))", formula="max(x, 0) + exp(min(x, 0)) − 1",
        range=(-1, math.inf)),
    "silu": Function("silu", r"\operatorname{silu}", "the number times its sigmoid, also called swish",
        lambda torch, x: torch.nn.functional.silu(x), slope="dy ⊙ (σ(x) + y ⊙ (1 − σ(x)))", formula="x ⊙ σ(x)"),
    "gelu": Function("gelu", r"\operatorname{gelu}", "the number times the share of a normal distribution below it",
        lambda torch, x: torch.nn.functional.gelu(x),
        slope=f"dy ⊙ (0.5 + 0.5 ⊙ erf({_ROOT_OF_HALF!r} ⊙ x) + {_NORMAL_AT_0!r} ⊙ x ⊙ exp(−0.5 ⊙ x ⊙ x))",
        formula=f"x ⊙ (0.5 + 0.5 ⊙ erf({_ROOT_OF_HALF!r} ⊙ x))"),
    "erf": Function("erf", r"\operatorname{erf}", "the error function: squeezes any number into −1 to 1", "erf",
        slope=f"{2 / math.sqrt(math.pi)!r} ⊙ dy ⊙ exp(−x ⊙ x)", numpy="erf", range=(-1, 1), saturates=True),
    "sin": Function("sin", r"\sin", "the sine, of an angle in radians", "sin",
        slope="dy ⊙ cos(x)", numpy="sin", range=(-1, 1)),
    "cos": Function("cos", r"\cos", "the cosine, of an angle in radians", "cos",
        slope="−dy ⊙ sin(x)", numpy="cos", range=(-1, 1)),
    "abs": Function("abs", r"\left|#\right|", "the number without its sign", "abs",
        slope="dy ⊙ sign(x)", numpy="absolute", range=(0, math.inf)),
    "log": Function("log", r"\log", "the natural logarithm", "log", slope="dy / x", numpy="log", is_word=True),
    "exp": Function("exp", r"\exp", "e to the power of the number", "exp", slope="dy ⊙ y", numpy="exp"),
    "sqrt": Function("sqrt", r"\sqrt{#}", "the square root", "sqrt", slope="dy / (2 ⊙ y)", numpy="sqrt"),
    # Where both are equal, all of the gradient is that of the first in min, of the second in max; in torch each has half.
    "min": Function("min", r"\min", "the smaller of two numbers",
        lambda torch, x, z: torch.where((x > z) | z.isnan(), z, x), numpy="minimum", arity=2),
    "max": Function("max", r"\max", "the larger of two numbers",
        lambda torch, x, z: torch.where((x > z) | x.isnan(), x, z), numpy="maximum", arity=2),
    # Flat functions, used in derived lines.
    "positive": Function("positive", r"\operatorname{positive}", "1 where the number is above 0, otherwise 0",
        lambda torch, x: (x > 0).double(), slope="0", numpy="greater", second=0, range=(0, 1)),
    "within": Function("within", r"\operatorname{within}", "1 where the number is between 0 and 1, otherwise 0",
        lambda torch, x: ((x > 0) & (x < 1)).double(), slope="0", formula="positive(x) ⊙ positive(1 − x)", range=(0, 1)),
    "sign": Function("sign", r"\operatorname{sign}", "1 above 0, −1 below 0, and 0 at 0", "sign",
        slope="0", numpy="sign", range=(-1, 1)),
}  # fmt: skip
#: The name of a function by each of its spellings.
WRITTEN = {function.text: name for name, function in FUNCTIONS.items()} | {name: name for name in FUNCTIONS}
#: Functions that have no row, with what is written for them, of a.
INSTEAD = {
    "leaky_relu": "max(a, 0.01 ⊙ a)", "prelu": "max(a, 0) + p ⊙ min(a, 0)", "hardtanh": "max(min(a, 1), −1)",
    "relu6": "max(min(a, 6), 0)", "clip": "min(max(a, −1), 1)", "hardsigmoid": "clamp(a / 6 + 0.5)",
    "hardswish": "a ⊙ clamp(a / 6 + 0.5)", "swish": "silu(a)",
    "selu": "1.0507 ⊙ (max(a, 0) + 1.67326 ⊙ (exp(min(a, 0)) − 1))",
    "celu": "max(a, 0) + 2 ⊙ (exp(min(a / 2, 0)) − 1)", "mish": "a ⊙ tanh(softplus(a))", "softsign": "a / (1 + abs(a))",
    "logsigmoid": "−softplus(−a)", "square": "a^2",
}  # fmt: skip


def numpy_function(name: str) -> Callable[..., Any]:
    """Return the function of arrays that NumPy has under a name, or one that it lacks: the error function, and `masked`, which is
    0 where the mask is, whatever the number."""
    import numpy as np

    def erf(x: Any, out: Any = None) -> Any:
        values = np.asarray(np.frompyfunc(math.erf, 1, 1)(x), getattr(x, "dtype", float))
        if out is None:
            return values[()]
        out[...] = values
        return out

    def masked(mask: Any, x: Any, out: Any) -> None:
        np.copyto(out, np.where(mask != 0, x, 0))

    substitutes: dict[str, Callable[..., Any]] = {"erf": erf, "masked": masked}
    return substitutes.get(name) or getattr(np, name)


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
