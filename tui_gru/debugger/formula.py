"""The algebra in which the program's lines are written: a formula is a small tree of names, products, sums and functions.

Everything that is said about a line is derived from its tree: its text, what it reads, its matrices, its LaTeX, its terms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from unicodedata import normalize

SCREEN = {
    "h_tilde": "h̃", "h_prev": "hₜ₋₁", "logits": "o", "y_hat": "ŷ", "term1": "①", "term2": "②", "term3": "③",
    "dlogits": "do", "dh_tilde": "dh̃", "dh_prev": "dhₜ₋₁", "dh_future": "dh←", "learning_rate": "η",
}  # fmt: skip
CODE = {shown: name for name, shown in SCREEN.items()}
LATEX = {
    "h_tilde": r"\tilde{h}", "h_prev": "h_{t-1}", "logits": "o", "y_hat": r"\hat{y}", "dh_future": r"\overleftarrow{dh}",
    "term1": r"\ell^{(1)}", "term2": r"\ell^{(2)}", "term3": r"\ell^{(3)}", "dh_tilde": r"d\tilde{h}", "dh_prev": "dh_{t-1}",
    "dlogits": "do", "learning_rate": r"\eta", "loss": r"\mathcal{L}", "grad_norm": r"\lVert\nabla\rVert",
    "max_weight": r"\max|\theta|",
}  # fmt: skip
FUNCTIONS = {
    "sigmoid": ("σ", r"\sigma"),
    "tanh": ("tanh", r"\tanh"),
    "softmax": ("softmax", r"\mathrm{softmax}"),
    "log": ("log", r"\log"),
    "exp": ("exp", r"\exp"),
}


_ESCAPED = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def latex_text(words: str) -> str:
    """Words in a formula of LaTeX, whatever characters are in them."""
    return rf"\text{{{words.translate(_ESCAPED)}}}"


def screen_name(name: str) -> str:
    """A name as it is written on screen: h_tilde is h̃, logits is o."""
    return SCREEN.get(name, name)


def code_name(name: str) -> str:
    """A name as it is typed, in code or as on screen, in code: hₜ₋₁ is h_prev. What is neither stays as it is."""
    return CODE.get(normalize("NFC", name), name)


class Formula:
    """A node. `text` and `latex` write it; `children` are the nodes under it; `binds` is how tightly it holds together."""

    binds = 3

    @property
    def children(self) -> tuple[Formula, ...]:
        return ()

    @property
    def text(self) -> str:
        raise NotImplementedError

    @property
    def latex(self) -> str:
        raise NotImplementedError

    def walk(self) -> Iterator[Formula]:
        """The node and every node under it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def names(self) -> Iterator[str]:
        """Every name in it, from left to right."""
        for child in self.children:
            yield from child.names()

    def __add__(self, other: Formula) -> Formula:
        return Sum((*self.terms, *other.terms))

    def __sub__(self, other: Formula) -> Formula:
        return Difference(self, other)

    def __mul__(self, other: Formula) -> Formula:
        return Times(self, other)

    def __matmul__(self, other: Formula) -> Formula:
        return Product(self, other)

    def __truediv__(self, other: Formula) -> Formula:
        return Quotient(self, other)

    @property
    def T(self) -> Formula:
        return Transpose(self)

    @property
    def terms(self) -> tuple[Formula, ...]:
        """What it is the sum of: itself, unless it is a sum."""
        return (self,)

    @property
    def fenced(self) -> tuple[Formula, ...]:
        """The factors that stand in parentheses in it."""
        return ()

    def inside(self, binds: int, *, latex: bool = False) -> str:
        """Its text, in parentheses where it holds together less tightly than its place asks for."""
        text = self.latex if latex else self.text
        return f"({text})" if self.binds < binds else text


@dataclass(frozen=True)
class Name(Formula):
    name: str

    @property
    def text(self) -> str:
        return screen_name(self.name)

    @property
    def latex(self) -> str:
        if self.name in LATEX:
            return LATEX[self.name]
        head, tail = (self.name[:2], self.name[2:]) if self.name.startswith("d") else (self.name[:1], self.name[1:])
        return f"{head}_{{{tail}}}" if tail else head

    def names(self) -> Iterator[str]:
        yield self.name


@dataclass(frozen=True)
class Number(Formula):
    """A constant, or a size of the model such as B·T, written as it is."""

    value: str

    @property
    def text(self) -> str:
        return self.value

    @property
    def latex(self) -> str:
        return self.value.replace("·", r"\,")


@dataclass(frozen=True)
class _Pair(Formula):
    left: Formula
    right: Formula

    @property
    def children(self) -> tuple[Formula, ...]:
        return self.left, self.right


class Product(_Pair):
    """A matrix product."""

    binds = 2

    @property
    def fenced(self) -> tuple[Formula, ...]:
        return tuple(factor for factor in self.children if factor.binds < 3)

    @property
    def text(self) -> str:
        return f"{self.left.inside(3)} {self.right.inside(3)}"

    @property
    def latex(self) -> str:
        return rf"{self.left.inside(3, latex=True)}\,{self.right.inside(3, latex=True)}"


class Times(_Pair):
    """A product element by element, or of a number and a matrix."""

    binds = 2

    @property
    def fenced(self) -> tuple[Formula, ...]:
        return tuple(factor for factor in self.children if factor.binds < 2)

    @property
    def text(self) -> str:
        return f"{self.left.inside(2)}⊙{self.right.inside(2)}"

    @property
    def latex(self) -> str:
        return rf"{self.left.inside(2, latex=True)} \odot {self.right.inside(2, latex=True)}"


class Quotient(_Pair):
    binds = 2

    @property
    def text(self) -> str:
        return f"{self.left.inside(2)}/{self.right.inside(3)}"

    @property
    def latex(self) -> str:
        return rf"\frac{{{self.left.latex}}}{{{self.right.latex}}}"


class Difference(_Pair):
    binds = 1

    @property
    def text(self) -> str:
        return f"{self.left.inside(1)} − {self.right.inside(2)}"

    @property
    def latex(self) -> str:
        return f"{self.left.inside(1, latex=True)} - {self.right.inside(2, latex=True)}"


@dataclass(frozen=True)
class Sum(Formula):
    parts: tuple[Formula, ...]
    binds = 1

    @property
    def children(self) -> tuple[Formula, ...]:
        return self.parts

    @property
    def terms(self) -> tuple[Formula, ...]:
        return self.parts

    @property
    def text(self) -> str:
        return " + ".join(part.inside(1) for part in self.parts)

    @property
    def latex(self) -> str:
        return " + ".join(part.inside(1, latex=True) for part in self.parts)


@dataclass(frozen=True)
class Apply(Formula):
    """A function of every element (sigmoid, tanh, log) or of every row (softmax)."""

    function: str
    argument: Formula

    @property
    def children(self) -> tuple[Formula, ...]:
        return (self.argument,)

    @property
    def text(self) -> str:
        if self.function == "log":
            return f"log {self.argument.inside(3)}"
        return f"{FUNCTIONS[self.function][0]}({self.argument.text})"

    @property
    def latex(self) -> str:
        return rf"{FUNCTIONS[self.function][1]}\left({self.argument.latex}\right)"


@dataclass(frozen=True)
class Reduce(Formula):
    """A sum or mean along one axis: `over` is vocabulary, rows or timesteps. `sign` −1 negates it."""

    kind: str
    argument: Formula
    over: str
    sign: int = 1

    @property
    def children(self) -> tuple[Formula, ...]:
        return (self.argument,)

    @property
    def text(self) -> str:
        sign = "−" if self.sign < 0 else ""
        word = "Σ" if self.kind == "sum" else "mean"
        return f"{sign}{word} {self.argument.inside(3)} over {self.over}"

    @property
    def latex(self) -> str:
        sign = "-" if self.sign < 0 else ""
        word = r"\sum" if self.kind == "sum" else r"\operatorname{mean}"
        return rf"{sign}{word}_{{\text{{{self.over}}}}} {self.argument.inside(3, latex=True)}"


@dataclass(frozen=True)
class Transpose(Formula):
    argument: Formula

    @property
    def children(self) -> tuple[Formula, ...]:
        return (self.argument,)

    @property
    def text(self) -> str:
        return f"{self.argument.inside(3)}ᵀ"

    @property
    def latex(self) -> str:
        return rf"{{{self.argument.inside(3, latex=True)}}}^\top"


def sigmoid(argument: Formula) -> Formula:
    return Apply("sigmoid", argument)


def tanh(argument: Formula) -> Formula:
    return Apply("tanh", argument)


def softmax(argument: Formula) -> Formula:
    return Apply("softmax", argument)


def log(argument: Formula) -> Formula:
    return Apply("log", argument)
