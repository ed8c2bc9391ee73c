"""The parser of formulas: text to an expression tree.

    sum      = ["−"] product {("+" | "−") product}
    product  = matrix {("⊙" | "/") matrix}
    matrix   = power {["@"] power}                      juxtaposition is the matrix product
    power    = atom ["^" atom]
    atom     = number | name ["ᵀ"] | function atom | "(" [label ":"] sum ")" | "[" sum {"," sum} "]"
             | ("Σ" | "mean") product "over" axis

ASCII spellings: `*` for ⊙, `-` for −, `sigmoid` for σ, `sum` for Σ, `.T` or `'` for ᵀ, `**` for ^.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from unicodedata import normalize

from tui_gru.equations.errors import EquationError, File, SourceSpan, did_you_mean
from tui_gru.equations.expression import (
    FUNCTIONS,
    WRITTEN,
    Apply,
    Expression,
    Join,
    Name,
    Negative,
    Number,
    Power,
    Product,
    Quotient,
    Reduce,
    Sum,
    Times,
    Transpose,
)
from tui_gru.equations.names import AXES, code_name

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


@dataclass(frozen=True)
class Token:
    """A number, a name or a sign; `kind` says which of the three, or `end`."""

    kind: str
    text: str
    span: SourceSpan


def tokens_of(text: str, file: File, line: int, column: int = 0, symbols: Iterable[str] = ()) -> list[Token]:
    """Return the tokens of a text, and one that marks its end.

    The text begins in line `line` (1-based) at `column` (0-based) of a file. Each of `symbols` is read as one name, even if it
    contains other signs. Raises `EquationError` if a name or the text is too long.
    """
    found: list[Token] = []
    own = "|".join(re.escape(symbol) for symbol in symbols if not symbol.isalnum())
    for match in re.finditer(f"(?P<symbol>{own})|{_TOKEN.pattern}", text) if own else _TOKEN.finditer(text):
        kind = {"symbol": "name"}.get(match.lastgroup or "", match.lastgroup or "sign")
        token = Token(kind, match[0], SourceSpan(file, line, column + match.start(), column + match.end()))
        if kind == "name" and len(token.text) > LONGEST_NAME:
            raise EquationError(f"a name has at most {LONGEST_NAME} characters", token.span)
        if len(found) == MOST_TOKENS:
            raise EquationError(f"a formula has at most {MOST_TOKENS:,} names, numbers and signs; write several lines", token.span)
        found.append(token)
    end = column + len(text.rstrip())
    return [*found, Token("end", "", SourceSpan(file, line, end, end + 1))]


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

    def _needed(self, *signs: str) -> Token:
        return self._sign(*signs) or self._fail(" or ".join(signs))

    def _fail(self, expected: str) -> Token:
        raise self._unexpected(expected)

    def _unexpected(self, expected: str) -> EquationError:
        found = "the line ends" if self._next.kind == "end" else f"there is {self._next.text!r}"
        return EquationError(f"{found} where {expected} is expected", self._next.span)

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
        closing = self._needed(")")
        inner = replace(inner, span=opening.span.to(closing.span))
        if label is None:
            return inner
        if isinstance(inner, Name):
            raise EquationError(f"{inner.name} already has a name, so it cannot be labelled {label.text}", label.span)
        return inner.labelled(code_name(label.text))

    def _join(self) -> Expression:
        opening, parts = self._consume(), [self._sum()]
        while (sign := self._needed(",", "]")).text == ",":
            parts.append(self._sum())
        return Join(tuple(parts), span=opening.span.to(sign.span))

    def _reduction(self) -> Expression:
        word = self._consume()
        argument = self._product()
        self._needed("over")
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
            self._needed("(")
            arguments = [self._sum()]
            while self._needed(",", ")").text == ",":
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
