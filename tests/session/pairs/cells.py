"""Cells in two languages: the equations of this program, and the same operations in PyTorch, written side by side.

The text in PyTorch computes one timestep. Names that it reads: `x`, the states before (`h_prev`), the parameters as attributes of
`p`, `torch`, `relu` and `clamp`. Each value with a name goes through `record(name, value)`.
"""

from __future__ import annotations

import random
from typing import NamedTuple


class Cell(NamedTuple):
    """A cell: its name or file name, its equations (empty: a cell of the program), and what a timestep is in PyTorch.

    `shapes` has the axes of each parameter: X for the input, H for units, or sums of them for a join.
    """

    name: str
    equations: str
    torch: str
    states: tuple[str, ...]
    output: str
    shapes: dict[str, tuple[str, ...]]

    @property
    def mixes_rows(self) -> bool:
        """True if a row can read others."""
        return " over rows" in self.equations


# ------------------------------------------------------------------------------
# The cells of the program, as their papers write them.


def _gate(name: str, function: str, hidden: str, bias: str, *, letter: str = "", w: str = "") -> str:
    letter = letter or name
    return f"{name} = record('{name}', torch.{function}(x @ p.W{w or letter} + {hidden} + {bias}))\n"


_GRU_GATES = _gate("z", "sigmoid", "h_prev @ p.Uz", "p.bz") + _gate("r", "sigmoid", "h_prev @ p.Ur", "p.br")
_CANDIDATE = _gate("h_tilde", "tanh", "(r * h_prev) @ p.Uh", "p.bh", w="h")
# The gain is a factor before the division, as in the cell: that decides at which weights an earlier batch is differentiated.
_NORM = (
    "def norm(gain, a):\n    e = a - a.mean(1, keepdim=True)\n"
    "    return gain * e / torch.sqrt((e * e).mean(1, keepdim=True) + 1e-5)\n"
)
_NORMED = "{name} = record('{name}', torch.{function}(norm(p.g{l}, x @ p.W{l} + {read} @ p.U{l}) + p.b{l}))\n"

_PROGRAMS: dict[str, tuple[str, str]] = {  # by name: the states, and a timestep
    "gru": ("h", _GRU_GATES + _CANDIDATE + "h = record('h', z * h_prev + (1 - z) * h_tilde)"),
    "gru-cho": ("h", _GRU_GATES + _CANDIDATE + "h = record('h', (1 - z) * h_prev + z * h_tilde)"),
    "gru-reset-after": (
        "h",
        _gate("z", "sigmoid", "h_prev @ p.Uz", "p.bz + p.bhz")
        + _gate("r", "sigmoid", "h_prev @ p.Ur", "p.br + p.bhr")
        + _gate("h_tilde", "tanh", "r * (h_prev @ p.Uh + p.bhn)", "p.bh", w="h")
        + "h = record('h', z * h_prev + (1 - z) * h_tilde)",
    ),
    "layer-norm-gru": (
        "h",
        _NORM
        + _NORMED.format(name="z", function="sigmoid", l="z", read="h_prev")
        + _NORMED.format(name="r", function="sigmoid", l="r", read="h_prev")
        + _NORMED.format(name="h_tilde", function="tanh", l="h", read="(r * h_prev)")
        + "h = record('h', z * h_prev + (1 - z) * h_tilde)",
    ),
    "lstm": (
        "h c",
        "".join(_gate(gate, "sigmoid", f"h_prev @ p.U{w}", f"p.b{w}", w=w) for gate, w in (("i", "i"), ("f", "f"), ("q", "o")))
        + _gate("g", "tanh", "h_prev @ p.Ug", "p.bg")
        + "c = record('c', f * c_prev + i * g)\nh = record('h', q * torch.tanh(c))",
    ),
    "mgu": (
        "h",
        _gate("f", "sigmoid", "h_prev @ p.Uf", "p.bf")
        + _gate("h_tilde", "tanh", "(f * h_prev) @ p.Uh", "p.bh", w="h")
        + "h = record('h', (1 - f) * h_prev + f * h_tilde)",
    ),
    "minimal-rnn": (
        "h",
        _gate("z", "tanh", "p.bx", "0", w="x")
        + "u = record('u', torch.sigmoid(h_prev @ p.Uh + z @ p.Uz + p.bu))\nh = record('h', u * h_prev + (1 - u) * z)",
    ),
    "rnn": ("h", "h = record('h', torch.tanh(record('ah', x @ p.Wh + h_prev @ p.Uh + p.bh)))"),
}
PROGRAM_CELLS = {name: Cell(name, "", text, tuple(states.split()), "h", {}) for name, (states, text) in _PROGRAMS.items()}


# ------------------------------------------------------------------------------
# Random cells.


class Term(NamedTuple):
    """A part of a formula in both languages. The one in PyTorch can stand wherever an operand can."""

    equation: str
    torch: str


def random_cell(seed: int, *, rows: bool = True, names: bool = True) -> Cell:
    """A cell with up to three states, lines that read each other, parts with and without a name, softmaxes inside lines, joins
    both ways, sums and means over rows and units, and parameters wherever they fit. Its output can be no state.

    Without `rows`, no row reads another. Without `names`, parts of lines have no name, as in a script.
    """
    return _Writer(random.Random(seed), rows, names).cell()


#: The kinds of an operand, and how often each is chosen.
_KINDS = {
    "value": 35, "read": 7, "weight": 8, "vector": 5, "function": 20, "mean": 5, "sum": 3, "square": 3, "quotient": 4, "rest": 3,
    "bracket": 7, "join": 6, "reduce": 3, "matrix": 4, "divided": 4,
}  # fmt: skip


class _Writer:
    def __init__(self, draw: random.Random, rows: bool, names: bool) -> None:
        self._draw, self._shapes, self._labels = draw, dict[str, tuple[str, ...]](), 0
        self._axes, self._names = ["rows", "units"] if rows else ["units"], names
        self._values = ["h_prev"]

    def cell(self) -> Cell:
        draw = self._draw
        states = ("h", "c", "s")[: 1 + (draw.random() < 0.4) + (draw.random() < 0.15)]
        self._values += [f"{state}_prev" for state in states[1:]]
        equations: list[str] = []
        torch: list[str] = []

        def line(word: str, target: str, formula: Term) -> None:
            equations.append(f"{word}{target} = {formula.equation}")
            torch.append(f"{target} = record('{target}', {formula.torch})")
            self._values.append(target)

        for i in range(draw.randint(1, 4)):
            word, total = draw.choice(["", f"way{i}: "]), self._sum(2)
            line(word, f"v{i}", Term(f"h_prev ⊙ 0.5 + {total.equation}", f"h_prev * 0.5 + {total.torch}"))
        for state in states[1:]:
            total = self._sum(2)
            inside = Term(f"{state}_prev + {total.equation}", f"{state}_prev + {total.torch}")
            line(f"keep{state}: ", state, Term(f"tanh({inside.equation})", f"torch.tanh({inside.torch})"))
        both, total, read = self._values, self._sum(2), self._weight(Term("x", "x"), "W", "X")
        inside = Term(
            f"{' + '.join(both)} + {total.equation} + {read.equation}", f"{' + '.join(both)} + {total.torch} + {read.torch}"
        )
        line("carry: ", "h", Term(f"tanh({inside.equation})", f"torch.tanh({inside.torch})"))
        output = "h"
        if draw.random() < 0.35:
            total, output = self._sum(2), "y1"
            line("out: ", "y1", Term(f"h + {total.equation}", f"h + {total.torch}"))
        parameters = (f"{name}(H H)" if name[0] == "M" else name for name in self._shapes)
        declared = ["reads x", f"state {', '.join(f'{state} : H' for state in states)}", f"parameters {' '.join(parameters)}"]
        return Cell("mine.cell", "\n".join([*declared, *equations, ""]), "\n".join(torch), states, output, self._shapes)

    def _parameter(self, letter: str, *shape: str) -> str:
        name = f"{letter}{len(self._shapes)}"
        self._shapes[name] = shape
        return name

    def _weight(self, left: Term, letter: str, width: str) -> Term:
        name = self._parameter(letter, width, "H")
        return Term(f"{left.equation} {name}", f"({left.torch} @ p.{name})")

    def _vector(self) -> Term:
        name = self._parameter("b", "H")
        return Term(name, f"p.{name}")

    def _value(self) -> Term:
        name = self._draw.choice(self._values)
        return Term(name, name)

    def _sum(self, depth: int) -> Term:
        """Return a sum, a difference or a product of up to three parts; in PyTorch it stands in parentheses."""
        draw = self._draw
        count = draw.choice([1, 1, 2, 2, 3])
        sign, symbol = draw.choice([(" + ", " + "), (" − ", " - "), (" ⊙ ", " * ")])
        if count == 1:
            return self._atom(depth)
        if symbol == " * ":
            parts = [self._bracket(depth) if draw.random() < 0.5 else self._value() for _ in range(count)]
        else:
            parts = [self._atom(depth) for _ in range(count)]
        return Term(sign.join(part.equation for part in parts), f"({symbol.join(part.torch for part in parts)})")

    def _bracket(self, depth: int) -> Term:
        inner = self._sum(depth)
        if self._names and self._draw.random() < 0.4 and not inner.equation.isidentifier():
            self._labels += 1
            return Term(f"(p{self._labels}: {inner.equation})", f"record('p{self._labels}', {inner.torch})")
        return Term(f"({inner.equation})", f"({inner.torch})")

    def _reduced(self, sign: str, inner: Term) -> Term:
        axis, name = self._draw.choice(self._axes), "sum" if sign == "Σ" else "mean"
        number = 0 if axis == "rows" else 1
        return Term(f"{sign} {inner.equation} over {axis}", f"{inner.torch}.{name}({number}, keepdim=True)")

    def _function(self, name: str, inner: Term) -> Term:
        torch = {"σ": "torch.sigmoid({})", "tanh": "torch.tanh({})", "softmax": "torch.softmax({}, 1)"}.get(name, name + "({})")
        return Term(f"{name}({inner.equation})", torch.format(inner.torch))

    def _atom(self, depth: int) -> Term:
        draw = self._draw
        if depth <= 0:
            return self._value()
        less = depth - 1
        match draw.choices(list(_KINDS), list(_KINDS.values()))[0]:
            case "value":
                return self._value()
            case "read":
                return self._weight(Term("x", "x"), "W", "X")
            case "weight":
                return self._weight(self._bracket(less), "U", "H")
            case "vector":
                return self._vector()
            case "function":
                name = draw.choice(["σ", "tanh", "softmax", "relu", "clamp", "tanh", "σ"])
                return self._function(name, self._sum(less))
            case "mean" | "sum" as kind:
                return self._reduced("Σ" if kind == "sum" else "mean", self._bracket(less))
            case "square":
                inner = self._bracket(less)
                return Term(f"{inner.equation}^2", f"({inner.torch} ** 2)")
            case "quotient":
                above, below = self._bracket(less), self._function("σ", self._sum(less))
                return Term(f"{above.equation} / (2 + {below.equation})", f"({above.torch} / (2 + {below.torch}))")
            case "rest":
                inner = self._bracket(less)
                return Term(f"(1 − {inner.equation})", f"(1 - {inner.torch})")
            case "join":
                parts = [
                    (Term("x", "x"), "X"),
                    (self._value(), "H"),
                    *([(self._bracket(less), "H")] if draw.random() < 0.3 else []),
                ]
                draw.shuffle(parts)
                joined = Term(
                    f"[{', '.join(part.equation for part, _ in parts)}]",
                    f"torch.cat([{', '.join(part.torch for part, _ in parts)}], 1)",
                )
                return self._weight(joined, "J", "+".join(width for _, width in parts))
            case "reduce":
                value, vector = self._value(), self._vector()
                total = Term(f"({value.equation} + {vector.equation})", f"({value.torch} + {vector.torch})")
                return self._reduced(draw.choice(["Σ", "mean"]), total)
            case "matrix":  # read by the backward pass, and not recorded under a name
                left, right, name, vector = self._value(), self._value(), self._parameter("M", "H", "H"), self._vector()
                return Term(
                    f"{left.equation} ⊙ ({right.equation} {name}) ⊙ {vector.equation}",
                    f"({left.torch} * ({right.torch} @ p.{name}) * {vector.torch})",
                )
            case "divided":
                return self._divided(less)
        return self._bracket(less)

    def _divided(self, depth: int) -> Term:
        draw = self._draw
        if draw.random() < 0.5:
            value, vector = self._value(), self._vector()
            if draw.random() < 0.5:
                return Term(f"{value.equation} / (3 + {vector.equation})", f"({value.torch} / (3 + {vector.torch}))")
            inner = self._function("σ", self._sum(depth))
            return Term(f"{vector.equation} / (2 + {inner.equation})", f"({vector.torch} / (2 + {inner.torch}))")
        one, other, value = self._vector(), self._vector(), self._value()
        return Term(
            f"softmax({one.equation} ⊙ {value.equation}) ⊙ σ({other.equation})",
            f"(torch.softmax({one.torch} * {value.torch}, 1) * torch.sigmoid({other.torch}))",
        )
