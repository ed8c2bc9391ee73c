"""The syntax of equations: expressions, their parser with errors at their place, and the spelling of names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fractions import Fraction
from functools import cache
from string import ascii_letters
from typing import Any, NamedTuple
from unicodedata import combining, east_asian_width, normalize

from tui_gru.equations.functions import FUNCTIONS, WRITTEN

# ------------------------------------------------------------------------------
# Construction of names: of a previous state, of a gradient, with the suffix of a layer and direction.


AXES = {
    **dict.fromkeys(("vocabulary", "classes", "outputs"), "V"),
    "rows": "B",
    "timesteps": "T",
    "units": "H",
    "inputs": "I",
    "parameters": "P",
}
WORDS = {axis: word for word, axis in reversed(AXES.items())}  # the first word of each axis; a model may use another one

_SUFFIX = re.compile(r"_l\d+(?:_reverse)?$")
_WRITTEN = {"prev": ("ₜ₋₁", "_{t-1}"), "next": ("ₜ₊₁", "_{t+1}")}
_ACCENTS = {"tilde": ("\u0303", r"\tilde"), "hat": ("\u0302", r"\hat"), "bar": ("\u0304", r"\bar")}
_LONGEST = 3  # letters of a name that consists of a letter and an index, such as bhn; longer names are words
_ARROWS = {"future": ("←", r"\overleftarrow"), "past": ("→", r"\overrightarrow")}
_ABOVE = {"tilde": "~", "hat": "^", "bar": "¯", "future": "←", "past": "→"}  # in MathML
_GREEK = {
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "ε": r"\epsilon", "η": r"\eta", "μ": r"\mu", "λ": r"\lambda", "ρ": r"\rho",
    "σ": r"\sigma",
}  # fmt: skip

_ONE_CHARACTER = [c for x in ascii_letters for sign, _ in _ACCENTS.values() if len(c := normalize("NFC", x + sign)) == 1]
_ACCENTED = f"(?:[{''.join(_ONE_CHARACTER)}]|[A-Za-z][{''.join(sign for sign, _ in _ACCENTS.values())}])"
_MARKS = "|".join(sign for sign, _ in (*_WRITTEN.values(), *_ARROWS.values()))
#: The pattern of a name in its on-screen spelling that has a mark which code spells out, such as ŷ, hₜ₋₁ or dh←.
MARKED = rf"[A-Za-z]*(?:{_ACCENTED}(?:{_MARKS})*|[A-Za-z](?:{_MARKS})+)(?:_l\d+(?:_reverse)?)?"


def split(name: str) -> tuple[str, str]:
    """Split a name into its base and the suffix of layer and direction: `h_prev_l0` gives `h_prev` and `_l0`."""
    suffix = _SUFFIX.search(name)
    return (name[: suffix.start()], suffix[0]) if suffix else (name, "")


def with_word(name: str, word: str) -> str:
    """Return a name with a word inserted before the suffix: `h_l0` and `prev` give `h_prev_l0`."""
    base, suffix = split(name)
    return f"{base}_{word}{suffix}"


def code_name(written: str) -> str:
    """Return the code spelling of a name that is in code or on-screen spelling: `h̃` gives h_tilde, `hₜ₋₁` gives h_prev."""
    name = normalize("NFD", written)
    for word, (sign, _) in _WRITTEN.items():
        name = name.replace(sign, f"_{word}")
    for words in (_ACCENTS, _ARROWS):
        for word, (sign, _) in words.items():
            if sign in name:
                base, suffix = split(name.replace(sign, ""))
                name = (
                    f"{base}_{word}{suffix}" if not base.endswith(("_prev", "_next")) else f"{base[:-5]}_{word}{base[-5:]}{suffix}"
                )
    return normalize("NFC", name)


def xml_text(words: str) -> str:
    """Return words for use inside an element or an attribute of XML."""
    return words.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


class Symbols:
    """The on-screen, LaTeX and MathML spelling of names. `special` has the symbols that model files declare, as (text, LaTeX)."""

    def __init__(self, special: Mapping[str, tuple[str, str]] | None = None) -> None:
        self._special = dict(special or {})
        self._text: dict[str, str] = {}
        self._latex: dict[str, str] = {}

    def text(self, name: str) -> str:
        """Return the on-screen spelling: h̃ for h_tilde, hₜ₋₁_l0 for h_prev_l0, do for dlogits if logits has the symbol o."""
        if name not in self._text:
            base, suffix = (name, "") if name in self._special else split(name)
            self._text[name] = self._base_text(base) + suffix
        return self._text[name]

    def latex(self, name: str) -> str:
        """Return the LaTeX spelling."""
        if name not in self._latex:
            base, suffix = (name, "") if name in self._special else split(name)
            latex = self._base_latex(base)
            self._latex[name] = rf"{{{latex}}}^{{\mathrm{{{suffix[1:].replace('_', r' ')}}}}}" if suffix else latex
        return self._latex[name]

    def mathml(self, name: str) -> str:
        """Return the name as an element of MathML: an index below its letter, an accent or an arrow above it, the suffix of a layer
        as an exponent."""
        base, suffix = (name, "") if name in self._special else split(name)
        written = self._base_mathml(base)
        return f"<msup>{written}<mtext>{xml_text(suffix[1:].replace('_', ' '))}</mtext></msup>" if suffix else written

    def _base_mathml(self, name: str) -> str:
        if name in self._special:
            return f"<mi>{xml_text(self._special[name][0])}</mi>"
        stem, _, word = name.rpartition("_")
        if stem and word in _WRITTEN:
            sign = "−" if word == "prev" else "+"
            return f"<msub>{self._base_mathml(stem)}<mrow><mi>t</mi><mo>{sign}</mo><mn>1</mn></mrow></msub>"
        if self._is_gradient(name):
            return f"<mrow><mi>d</mi>{self._base_mathml(name[1:])}</mrow>"
        if stem and word in _ABOVE:
            return f'<mover accent="true">{self._base_mathml(stem)}<mo>{_ABOVE[word]}</mo></mover>'
        if "_" in name or len(name) == 1 or (len(name) > _LONGEST and name.isascii() and name.isalpha() and name.islower()):
            return f"<mi>{xml_text(name)}</mi>"
        return f"<msub><mi>{xml_text(name[0])}</mi><mi>{xml_text(name[1:])}</mi></msub>"

    def _base_text(self, name: str) -> str:
        if name in self._special:
            return self._special[name][0]
        stem, _, word = name.rpartition("_")
        if stem and word in _WRITTEN:
            return self._base_text(stem) + _WRITTEN[word][0]
        if stem and word in _ACCENTS:
            return normalize("NFC", self._base_text(stem) + _ACCENTS[word][0])
        if stem and word in _ARROWS:
            return self._base_text(stem) + _ARROWS[word][0]
        if self._is_gradient(name):
            return "d" + self._base_text(name[1:])
        return name

    def _base_latex(self, name: str) -> str:
        if name in self._special:
            return self._special[name][1]
        stem, _, word = name.rpartition("_")
        if stem and word in _WRITTEN:
            return self._base_latex(stem) + _WRITTEN[word][1]
        if stem and word in _ARROWS:
            return rf"{_ARROWS[word][1]}{{{self._base_latex(stem)}}}"
        if stem and word in _ACCENTS:
            return (
                rf"{_ACCENTS[word][1]}{{{self._base_latex(stem)}}}"
                if not self._is_gradient(stem)
                else "d" + self._base_latex(name[1:])
            )
        if self._is_gradient(name) and name[1:] in self._special:
            return "d" + self._special[name[1:]][1]
        stem = name[1:] if self._is_gradient(name) else name
        if "_" in name or (len(stem) > _LONGEST and stem.isascii() and stem.isalpha() and stem.islower()):
            return rf"\mathit{{{name}}}".replace("_", r"\_")
        head, tail = (name[:2], name[2:]) if self._is_gradient(name) else (name[:1], name[1:])
        head = "".join(_GREEK.get(sign, sign) for sign in head)
        return f"{head}_{{{tail}}}" if tail else head

    def _is_gradient(self, name: str) -> bool:
        return len(name) > 1 and name[0] == "d"


# ------------------------------------------------------------------------------
# Errors in equation files, with the place in the file, what is wrong, and what to do.


class File(NamedTuple):
    """An equation file: its name as messages write it, and its lines."""

    name: str = ""
    lines: tuple[str, ...] = ()


class SourceSpan(NamedTuple):
    """A place in a file: a line (1-based), and the columns `start` to `stop` − 1 (0-based)."""

    file: File
    line: int
    start: int
    stop: int

    def to(self, other: SourceSpan | None) -> SourceSpan:
        """Return the place from the start of this one to the end of another on the same line; this place if the other is on another
        line."""
        return self if other is None or other.line != self.line else self._replace(stop=max(self.stop, other.stop))


class EquationError(ValueError):
    """An error in an equation file, at a place in it if one is known.

    `str()` is one line, `mine.cell:7:15: message`; `shown` adds the line of the file and marks the place.
    """

    def __init__(self, message: str, span: SourceSpan | None = None, *, source: str = "") -> None:
        self.message, self.span = message, span
        place = f"{span.file.name}:{span.line}:{span.start + 1}" if span is not None else source
        super().__init__(f"{place}: {message}" if place else message)

    @property
    def shown(self) -> str:
        """Three lines: the message, the line of the file, and tildes under the place."""
        if self.span is None:
            return str(self)
        text = "".join(sign if sign.isprintable() else " " for sign in self.span.file.lines[self.span.line - 1])
        before, within = text[: self.span.start], text[self.span.start : self.span.stop]
        return f"{self}\n   {text}\n   {' ' * _columns(before)}{'~' * max(_columns(within), 1)}"


def _columns(text: str) -> int:
    """Return the width of a text in terminal columns: 0 for a combining accent, 2 for a wide character."""
    return sum(0 if combining(sign) else 2 if east_asian_width(sign) in "WF" else 1 for sign in text)


MOST_NAMES = 20  # that a hint lists


def did_you_mean(name: str, names_in_use: Iterable[str], others: Iterable[str] = ()) -> str:
    """Return a hint such as `did you mean h_prev?`; if no name is close, the names in use, at most `MOST_NAMES` of them.

    A name without the suffix of a layer is close to the same one with it: h to h_l0. `others` are names that are suggested if they
    are close and none of `names_in_use` is.
    """
    names = list(dict.fromkeys(names_in_use))
    layered = [candidate for candidate in names if split(candidate)[0] == name][:3]
    close = layered or get_close_matches(name, names, n=3, cutoff=0.5)  # low enough that Wx matches Wz
    if close := close or get_close_matches(name, list(others), n=3, cutoff=0.5):
        return f"did you mean {' or '.join(close)}?"
    more = f" … and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"there are: {' '.join(names[:MOST_NAMES]) or 'none'}{more}"


# ------------------------------------------------------------------------------
# Expressions as small immutable trees. A recorded part of a line has a label, as in `σ(az: x Wz +
# h_prev Uz + bz)`.


@dataclass(frozen=True)
class Expression:
    """A node of an expression. `label` is the name under which its value is recorded, empty if it is not recorded; `span` is its
    place in a file."""

    label: str = field(default="", kw_only=True)
    span: SourceSpan | None = field(default=None, kw_only=True, compare=False, repr=False)

    @property
    def children(self) -> tuple[Expression, ...]:
        """The child nodes, from left to right."""
        return ()

    def with_children(self, children: tuple[Expression, ...]) -> Expression:
        """Return the same node with other children."""
        return self

    @property
    def terms(self) -> tuple[Expression, ...]:
        """The terms of a sum; for any other node, the node itself."""
        return (self,)

    def walk(self) -> Iterator[Expression]:
        """Yield the node and every node under it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def names(self) -> Iterator[str]:
        """Yield every name in it, from left to right, with repetitions."""
        for child in self.children:
            yield from child.names()

    def labelled(self, label: str) -> Expression:
        """Return the same node, recorded under `label`."""
        return self if self.label == label else replace(self, label=label)


@dataclass(frozen=True)
class Name(Expression):
    """A reference to a value, a state, a parameter or a setting."""

    name: str

    def names(self) -> Iterator[str]:
        yield self.name


@dataclass(frozen=True)
class Number(Expression):
    """An exact constant."""

    value: Fraction


@dataclass(frozen=True)
class Size(Expression):
    """The product of the sizes of some axes: `(B·T)`."""

    axes: tuple[str, ...]


@dataclass(frozen=True)
class _Many(Expression):
    parts: tuple[Expression, ...]

    @property
    def children(self) -> tuple[Expression, ...]:
        return self.parts

    def with_children(self, children: tuple[Expression, ...]) -> Expression:
        return replace(self, parts=children)


class Sum(_Many):
    """A sum. A subtracted term is a `Negative`."""

    @property
    def terms(self) -> tuple[Expression, ...]:
        return self.parts


class Times(_Many):
    """An elementwise product; a factor may also be a number."""


class Join(_Many):
    """Matrices joined along their last axis."""


@dataclass(frozen=True)
class _One(Expression):
    argument: Expression

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.argument,)

    def with_children(self, children: tuple[Expression, ...]) -> Expression:
        return replace(self, argument=children[0])


class Negative(_One):
    """A negated expression."""


class Transpose(_One):
    """A transposed matrix."""


@dataclass(frozen=True)
class Slice(_One):
    """A part of joined columns: those of the axes `axes`, which come after those of the axes `before`."""

    before: tuple[str, ...]
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Reduce(_One):
    """A sum or mean along one axis. With `all_timesteps` it also sums over the timesteps, which is not written: a gradient is
    written as the contribution of one timestep."""

    kind: str
    over: str
    all_timesteps: bool = False


@dataclass(frozen=True)
class Spread(_One):
    """A value broadcast to more axes. The text of the formula does not show the broadcast."""

    axes: tuple[str, ...]


@dataclass(frozen=True)
class Activation(Spread):
    """A part of a forward line that reads weights and has no name, as the backward pass reads it: with the value that the forward
    pass computed. `axes` are its own axes."""


@dataclass(frozen=True)
class _Two(Expression):
    left: Expression
    right: Expression

    @property
    def children(self) -> tuple[Expression, ...]:
        return self.left, self.right

    def with_children(self, children: tuple[Expression, ...]) -> Expression:
        return replace(self, left=children[0], right=children[1])


class Product(_Two):
    """A matrix product of two expressions."""


class Quotient(_Two):
    """An elementwise quotient."""


class Power(_Two):
    """A number to the power of another."""


@dataclass(frozen=True)
class Apply(_Many):
    """A function applied to every element (sigmoid, tanh, log, …) or to every row (softmax)."""

    function: str = ""

    @property
    def argument(self) -> Expression:
        """The argument of a function that has one argument."""
        return self.parts[0]


def is_unwritten(node: Expression) -> bool:
    """Return True for the sum over the timesteps that `+=` stands for."""
    return isinstance(node, Reduce) and node.over == "T" and node.all_timesteps


def number(value: int | str | Fraction) -> Number:
    """Return a constant; a text such as `1e-8` is converted exactly."""
    return Number(Fraction(value))


ONE = number(1)


def product(factors: tuple[Expression, ...]) -> Expression:
    """Return the elementwise product of one or more factors."""
    return factors[0] if len(factors) == 1 else Times(factors)


def transpose(node: Expression) -> Expression:
    """Return the transpose of a matrix; for a transpose, the matrix itself."""
    return node.argument if isinstance(node, Transpose) and not node.label else Transpose(node)


def unlabelled(node: Expression) -> Expression:
    """Return the same tree without labels."""
    return without_label(node).with_children(tuple(map(unlabelled, node.children))) if node.children else without_label(node)


def written_out(node: Expression, parts: Mapping[str, Expression]) -> Expression:
    """Return the same tree without labels, and with each of `parts`, by label, in the place of its name."""
    if isinstance(node, Name) and node.name in parts:
        node = parts[node.name]
    return (
        without_label(node).with_children(tuple(written_out(child, parts) for child in node.children))
        if node.children
        else without_label(node)
    )


def without_label(node: Expression) -> Expression:
    """Return the same node without its label; its children keep their labels."""
    return replace(node, label="") if node.label else node


# ------------------------------------------------------------------------------
# The parser of formulas: text to an expression tree.
#
#     sum      = ["−"] product {("+" | "−") product}
#     product  = matrix {("⊙" | "/") matrix}
#     matrix   = power {["@"] power}                      juxtaposition is the matrix product
#     power    = atom ["^" atom]
#     atom     = number | name ["ᵀ"] | function atom | "(" [label ":"] sum ")" | "[" sum {"," sum} "]"
#              | ("Σ" | "mean") product "over" axis
#
# ASCII spellings: `*` for ⊙, `-` for −, `sigmoid` for σ, `sum` for Σ, `.T` or `'` for ᵀ, `**` for ^.


REDUCTIONS = {"Σ": "sum", "∑": "sum", "sum": "sum", "mean": "mean"}
MINUS, TIMES, POWER, TRANSPOSED = ("−", "-"), ("⊙", "*", "·"), ("^", "**"), ("ᵀ", ".T", "'")
DEEPEST = 60  # levels of nested operations
MOST_TOKENS = 1_000  # tokens in a formula
LONGEST_NAME = 40

_TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)"
    r"|(?P<name>[^\W\dᵀ](?:[\wₜ₋₊₁←→\u0300-\u036f](?<!ᵀ))*)"
    r"|(?P<sign>\*\*|\.T\b|−=|-=|\+=|\S)"
)


class Token(NamedTuple):
    """A number, a name or a sign; `kind` says which of the three, or `end`."""

    kind: str
    text: str
    span: SourceSpan


def tokens_of(text: str, file: File, line: int, column: int = 0, symbols: Iterable[str] = ()) -> list[Token]:
    """Return the tokens of a text, and one that marks its end.

    The text begins in line `line` (1-based) at `column` (0-based) of a file. Each of `symbols` is read as one name, even if it
    contains other signs. Raises `EquationError` if a name or the text is too long.
    """
    tokens: list[Token] = []
    symbol_pattern = "|".join(re.escape(symbol) for symbol in symbols if not symbol.isalnum())
    for match in re.finditer(f"(?P<symbol>{symbol_pattern})|{_TOKEN.pattern}", text) if symbol_pattern else _TOKEN.finditer(text):
        kind = {"symbol": "name"}.get(match.lastgroup or "", match.lastgroup or "sign")
        token = Token(kind, match[0], SourceSpan(file, line, column + match.start(), column + match.end()))
        if kind == "name" and len(token.text) > LONGEST_NAME:
            raise EquationError(f"a name has at most {LONGEST_NAME} characters", token.span)
        if len(tokens) == MOST_TOKENS:
            raise EquationError(f"a formula has at most {MOST_TOKENS:,} names, numbers and signs; write several lines", token.span)
        tokens.append(token)
    end = column + len(text.rstrip())
    return [*tokens, Token("end", "", SourceSpan(file, line, end, end + 1))]


def constant(token: Token) -> Fraction:
    """Return the exact value of a number token. Raises `EquationError` for a number outside the range of float64."""
    value, digits = float(token.text), re.split("[eE]", token.text)[0].strip("0.")
    if len(token.text) > LONGEST_NAME or (digits and not 1e-300 < value < 1e300):
        raise EquationError(f"a number lies between 1e-300 and 1e300 and has at most {LONGEST_NAME} digits", token.span)
    return Fraction(token.text) if digits else Fraction(0)


class Parser:
    """Reads one formula. `symbols` maps the symbols that a file declares to names: o to logits."""

    def __init__(self, tokens: list[Token], symbols: Mapping[str, str]) -> None:
        self._tokens, self._at, self._symbols, self._depth = tokens, 0, symbols, 0

    def formula(self) -> Expression:
        """Parse the whole text as one formula. Raises `EquationError` if it is not one."""
        if self._next.kind == "end":
            raise EquationError("a formula is missing after =", self._next.span)
        tree = self._sum()
        if self._next.kind != "end":
            raise self._unexpected("an operator or the end of the line")
        if _depth(tree) > DEEPEST:
            raise self._too_deep(tree.span)
        return tree

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _consume(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _sign(self, *signs: str) -> Token | None:
        """Consume and return the next token if it is one of these signs; otherwise return None."""
        return self._consume() if self._next.text in signs and self._next.kind != "number" else None

    def _expect(self, *signs: str) -> Token:
        return self._sign(*signs) or self._fail(" or ".join(signs))

    def _fail(self, expected: str) -> Token:
        raise self._unexpected(expected)

    def _unexpected(self, expected: str) -> EquationError:
        actual = "the line ends" if self._next.kind == "end" else f"there is {self._next.text!r}"
        return EquationError(f"{actual} where {expected} is expected", self._next.span)

    def _too_deep(self, span: SourceSpan | None) -> EquationError:
        return EquationError(f"more than {DEEPEST} nested operations; write parts on lines of their own", span)

    def _sum(self) -> Expression:
        terms = [self._negative() if self._sign(*MINUS) else self._product()]
        while sign := self._sign("+", *MINUS):
            terms.append(self._product() if sign.text == "+" else self._negative())
        return terms[0] if len(terms) == 1 else Sum(tuple(terms), span=_spanned(terms))

    def _negative(self) -> Expression:
        argument = self._product()
        return Negative(argument, span=argument.span)

    def _product(self) -> Expression:
        left = self._matrix()
        while sign := self._sign(*TIMES, "/"):
            right = self._matrix()
            span = _spanned((left, right))
            if sign.text == "/":
                left = Quotient(left, right, span=span)
            elif isinstance(left, Times) and not left.label:
                left = Times((*left.parts, right), span=span)
            else:
                left = Times((left, right), span=span)
        return left

    def _matrix(self) -> Expression:
        left = self._power()
        while self._sign("@") or self._begins_atom():
            right = self._power()
            left = Product(left, right, span=_spanned((left, right)))
        return left

    def _begins_atom(self) -> bool:
        token = self._next
        return token.text in ("(", "[") if token.kind == "sign" else token.kind in ("number", "name") and token.text != "over"

    def _power(self) -> Expression:
        base = self._atom()
        if self._sign(*POWER):
            exponent = self._atom()
            return Power(base, exponent, span=_spanned((base, exponent)))
        return base

    def _atom(self) -> Expression:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._too_deep(self._next.span)
        atom = self._one_atom()
        self._depth -= 1
        return atom

    def _one_atom(self) -> Expression:
        token = self._next
        if token.kind == "number":
            self._consume()
            return Number(constant(token), span=token.span)
        if token.text == "(":
            return self._transposed(self._parenthesis())
        if token.text == "[":
            return self._join()
        if token.text in REDUCTIONS:
            return self._reduction()
        if token.kind != "name" or token.text == "over":
            raise self._unexpected("a name, a number or a bracket")
        self._consume()
        if token.text in WRITTEN and (self._next.text == "(" or self._begins_atom()):
            return self._function(token)
        return self._transposed(Name(name_of(token, self._symbols), span=token.span))

    def _transposed(self, node: Expression) -> Expression:
        sign = self._sign(*TRANSPOSED)
        return node if sign is None else Transpose(node, span=node.span.to(sign.span) if node.span else sign.span)

    def _parenthesis(self) -> Expression:
        opening = self._consume()
        label = None
        if self._next.kind == "name" and self._tokens[self._at + 1].text == ":":
            label = self._consume()
            self._consume()
        inner = self._sum()
        closing = self._expect(")")
        inner = replace(inner, span=opening.span.to(closing.span))
        if label is None:
            return inner
        if isinstance(inner, Name):
            raise EquationError(f"{inner.name} already has a name, so it cannot be labelled {label.text}", label.span)
        return inner.labelled(code_name(label.text))

    def _join(self) -> Expression:
        opening, parts = self._consume(), [self._sum()]
        while (sign := self._expect(",", "]")).text == ",":
            parts.append(self._sum())
        return Join(tuple(parts), span=opening.span.to(sign.span))

    def _reduction(self) -> Expression:
        word = self._consume()
        argument = self._product()
        if not self._sign("over"):
            missing = self._unexpected("over")
            raise EquationError(f"{missing.message}, as in {word.text} x over units", missing.span)
        self._sign("the")
        axis = self._consume()
        if axis.kind != "name":
            raise EquationError(f"an axis is expected after over: {', '.join(AXES)}, or the letter of one", axis.span)
        if axis.text not in AXES and len(axis.text) > 1:
            raise EquationError(f"there is no axis {axis.text!r}; {did_you_mean(axis.text, AXES)}", axis.span)
        return Reduce(argument, REDUCTIONS[word.text], AXES.get(axis.text, axis.text), span=word.span.to(axis.span))

    def _function(self, word: Token) -> Expression:
        name = WRITTEN[word.text]
        arity = FUNCTIONS[name].arity
        if arity == 1:
            arguments = [self._atom()]
        else:
            self._expect("(")
            arguments = [self._sum()]
            while self._expect(",", ")").text == ",":
                arguments.append(self._sum())
        if len(arguments) != arity:
            raise EquationError(f"{word.text} takes {arity} arguments, not {len(arguments)}", word.span)
        return Apply(tuple(arguments), name, span=word.span.to(self._tokens[self._at - 1].span))


def name_of(token: Token, symbols: Mapping[str, str]) -> str:
    """Return the name that a token stands for: that of a declared symbol, or the code spelling of the token."""
    name = code_name(token.text)
    return symbols.get(normalize("NFC", token.text), symbols.get(name, name))


def _depth(tree: Expression) -> int:
    """Return the depth of a tree, computed without recursion."""
    deepest, level = 0, [tree]
    while level:
        deepest, level = deepest + 1, [child for node in level for child in node.children]
    return deepest


def _spanned(parts: list[Expression] | tuple[Expression, ...]) -> SourceSpan | None:
    first, last = parts[0].span, parts[-1].span
    return first.to(last) if first is not None else None


# ------------------------------------------------------------------------------
# The arithmetic of a node, for numbers and arrays of any library.


def combined(node: Expression, operands: Sequence[Any], function: Callable[..., Any] | None = None) -> Any:
    """Return the value of an elementwise node from the values of its operands: numbers, or arrays of NumPy or PyTorch that are
    aligned with each other. `function` computes that of an `Apply`. Raises `TypeError` for any other node."""
    match node:
        case Spread():
            return operands[0]
        case Negative():
            return -operands[0]
        case Sum():
            return sum(operands[1:], operands[0])
        case Times():
            return math.prod(operands[1:], start=operands[0])
        case Quotient():
            return operands[0] / operands[1]
        case Power():
            return operands[0] ** operands[1]
        case Apply() if function is not None:
            return function(*operands)
    raise TypeError(node)


# ------------------------------------------------------------------------------
# The formulas in the table of functions: of an argument x, the value y of a function, and its gradient dy.


def formula_of(function: str, x: Expression) -> Expression | None:
    """Return what computes a function of one argument; None if NumPy does, or the function is one of a row."""
    text = FUNCTIONS[function].formula
    return filled(text, {"x": x}) if text else None


def slope_of(function: str, x: Expression, y: Expression, dy: Expression) -> Expression | None:
    """Return the gradient of the argument of a function; None if the function has none."""
    text = FUNCTIONS[function].slope
    return filled(text, {"x": x, "y": y, "dy": dy}) if text else None


def filled(text: str, operands: Mapping[str, Expression]) -> Expression:
    """Return a formula with operands in the place of its names."""
    return _filled(_parsed(text), operands)


@cache
def _parsed(text: str) -> Expression:
    return Parser(tokens_of(text, File("functions"), 1), {}).formula()


def _filled(node: Expression, operands: Mapping[str, Expression]) -> Expression:
    """Return a tree with operands in the place of its names, and without places in a text, which is not the user's."""
    if isinstance(node, Name):
        return operands[node.name]
    return replace(node.with_children(tuple(_filled(child, operands) for child in node.children)), span=None)
