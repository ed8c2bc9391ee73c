"""A derivation of a number, and how it is written: as a tree of rows whose digits add up, and as LaTeX."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from unicodedata import combining

import numpy as np

from tui_gru.debugger.program import signed_sum
from tui_gru.engine.numbers import short, short_percent
from tui_gru.engine.source import ModuleLink
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.writing import applied_latex, latex_text
from tui_gru.errors import safe_text

# ------------------------------------------------------------------------------
# The derivation of a number: its terms, each of which has a derivation of its own.
#
# Derivations follow the equations of the program. A term is a recorded number, exact to the bit, or, for a part of a line that is
# not recorded, a number computed in float64 from recorded ones.


@dataclass(frozen=True)
class ValueRef:
    """A reference to one number of a run: entry `index` (0-based) of `name`, at timestep `t` or None, as of `tick`.

    `before` refers to the number as it was before the edits made at that tick.
    """

    name: str
    index: tuple[int, ...]
    t: int | None
    tick: int
    before: bool = False


@dataclass(frozen=True, eq=False)
class Derivation:
    """How a value is computed from its terms: by `kind`, times `scale`. `tick` is where it was computed; `note` adds an
    explanation.

    The kinds are sum, product, quotient, power, min, max, the functions of one argument (applied to the sum of the terms), norm,
    copy (of the single term), and given, which has no terms. `link` is where another module of the batch computed the value.
    """

    kind: str
    grown: tuple[Node, ...] | Callable[[], tuple[Node, ...]] = ()
    scale: float = 1.0
    note: str = ""
    formula: str = ""
    tick: int | None = None
    link: ModuleLink | None = None

    def __repr__(self) -> str:
        scale = "" if self.scale == 1 else f", times {self.scale:.6g}"
        return f"<{self.kind} of {', '.join(map(repr, self.terms[:8]))}{', …' * (len(self.terms) > 8)}{scale}>"

    @property
    def near(self) -> bool:
        """True if its terms are available without replaying another batch."""
        return not callable(self.grown)

    @cached_property
    def terms(self) -> tuple[Node, ...]:
        """The terms, in the order of the line."""
        if not callable(self.grown):
            return self.grown
        with np.errstate(all="ignore"):  # inf and NaN are numbers that are shown
            return self.grown()

    @property
    def adds(self) -> bool:
        """True if the terms are summed, so that each has a share."""
        return self.kind not in ("product", "quotient", "power", "min", "max", "given", "copy")


@dataclass(frozen=True, eq=False)
class Node:
    """A value in a derivation. `number` refers to the recorded number, None for an unrecorded part of a line; `sign` is its sign in
    the sum it is a term of.

    `exact` says that the value is recorded; otherwise it was computed in float64.
    """

    label: str
    value: float
    expand: Callable[[], Derivation] = field(repr=False)
    number: ValueRef | None = None
    sign: int = 1
    exact: bool = False
    latex: str = ""

    def __repr__(self) -> str:
        return f"<{self.label} = {self.value:.9g}>"

    def _repr_html_(self) -> str:
        return derivation_html(self)

    @cached_property
    def derivation(self) -> Derivation:
        with np.errstate(all="ignore"):  # inf and NaN are numbers that are shown
            return self.expand()

    @property
    def terms(self) -> tuple[Node, ...]:
        return self.derivation.terms

    @property
    def contribution(self) -> float:
        """The value with its sign in the sum that it is a term of."""
        return self.sign * self.value

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """The share of each term in the sum of the terms' magnitudes; empty if the terms are not summed, or if none has a share:
        one is not finite, or all are 0."""
        sizes = [abs(term.value) for term in self.terms] if self.derivation.adds else []
        largest = max(sizes, default=0.0)
        if not 0 < largest < math.inf or any(map(math.isnan, sizes)):
            return ()
        parts = [size / largest for size in sizes]  # the sum and the squares of float64 sizes can overflow
        if self.derivation.kind == "norm":
            parts = [part * part for part in parts]
        total = math.fsum(parts)
        return tuple(part / total for part in parts)


def not_computed(note: str, tick: int | None = None, link: ModuleLink | None = None) -> Derivation:
    """Return the derivation of a value that the run did not compute; `link` is where another module of the batch did."""
    return Derivation("given", note=note, tick=tick, link=link)


def total_of(values: list[float]) -> float:
    """Return a sum that is rounded once; NaN or infinite if a value is."""
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)


# ------------------------------------------------------------------------------
# Lays out a derivation in rows: a tree whose terms can be opened and closed, with digits that add up as shown.


Path = tuple[int, ...]  # indices of terms, from the root down

MOST_TERMS = 12  # terms of a sum that are shown in order; of more, the largest are shown, and the rest is one row
FEW = 4  # the most terms of a value that is opened at first
FLOAT32_DIGITS = 7  # significant digits of a float32
SIGNS = {"sum": "+", "product": "·", "quotient": "/", "power": "^", "min": ",", "max": ","}


@dataclass(frozen=True, eq=False)
class DerivationRow:
    """One row of the tree. `written` is the value with the digits of its group; `share` is its share of the sum.

    `made` shows how it is computed, in numbers. `node` is None for the rest of a long sum (`path` ends with −1) and for rounding.
    """

    path: Path
    guides: str
    label: str
    written: str
    made: str = ""
    share: float | None = None
    node: Node | None = None
    opened: bool = False
    sign: str = ""


@dataclass(frozen=True)
class Form:
    """The number format of a group of values: down to the same decimal place, so that they add up as shown. `last` is the power of
    ten of that place; with `exponents`, each value is written with its own exponent.

    A value that has no digit there is written with digits of its own: what is not 0 is never written as 0, and 0 alone is `0`.
    """

    last: int
    exponents: bool = False

    @classmethod
    def of(cls, values: Sequence[float]) -> Form:
        """Create a format with enough digits for the largest value."""
        largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
        if largest == 0:
            return cls(-FLOAT32_DIGITS)
        magnitude = Decimal(largest).adjusted()
        if -4 <= magnitude < FLOAT32_DIGITS:
            return cls(max(magnitude, 0) - FLOAT32_DIGITS)
        return cls(magnitude - FLOAT32_DIGITS + 1, True)

    def write(self, value: float) -> str:
        """Return the value, signed; 0 without a sign."""
        if not math.isfinite(value):
            return f"{value:+}".replace("-", "−")
        number = self.rounded(value)
        if not number:
            return Form.of([value]).write(value) if value else "0"
        power = number.adjusted() if self.exponents else 0
        digits = f"{number.scaleb(-power):+.{max(power - self.last, 0)}f}".replace("-", "−")
        return f"{digits}e{power:+03d}" if self.exponents else digits

    def missing(self, value: float, terms: Sequence[float]) -> float:
        """Return the value minus the sum of the terms, all as they are written, rounded to the last place of the group."""
        if not all(map(math.isfinite, (value, *terms))):
            return 0.0
        rest = self._written(value) - sum(map(self._written, terms), Decimal(0))
        return float(self.rounded(rest))

    def _written(self, value: float) -> Decimal:
        """Return a value with the digits that are written."""
        return self.rounded(value) or (Form.of([value]).rounded(value) if value else Decimal(0))

    def rounded(self, value: float | Decimal) -> Decimal:
        """Return a value rounded to the last place."""
        return Decimal(round(Decimal(value).scaleb(-self.last))).scaleb(self.last)


def laid_out(root: Node, opened: frozenset[Path]) -> tuple[DerivationRow, ...]:
    """Return the rows of a derivation with the terms at `opened` open. A path that ends with −1 shows all terms of a long sum."""
    rows = [DerivationRow((), "", root.label, Form.of([root.value]).write(root.value), _made(root), node=root, opened=True)]
    _grow(rows, root, (), "", opened)
    return tuple(rows)


def first_opened(root: Node, room: int = 16) -> frozenset[Path]:
    """Return the paths to open at first, within `room` rows: parts of the line, then the numbers that they are computed from."""
    opened: set[Path] = set()
    shown: set[object] = set()  # numbers, regardless of when in the batch they are read
    parts: deque[tuple[Path, Node, bool]] = deque([((), root, False)])
    later: deque[tuple[Path, Node, bool]] = deque()
    used = len(root.terms)
    while parts or later:
        path, node, inner = (parts or later).popleft()  # inner: below a number that the root is computed from
        if path:
            used += len(node.terms)
            if used > room:
                break
            opened.add(path)
        inner = inner or (node.number is not None and bool(path))
        for i, term in enumerate(node.terms if len(node.terms) <= MOST_TERMS else ()):
            same = term.number and (replace(term.number, tick=0), term.value)
            if same in shown:
                continue
            opens = term.derivation.near and term.derivation.kind not in ("exp", "given", "copy") and len(term.terms) <= FEW
            if opens and not (inner and term.number is not None):
                shown.add(same or term)
                (parts if term.number is None and not inner else later).append(((*path, i), term, inner))
    return frozenset(opened)


def _grow(rows: list[DerivationRow], node: Node, path: Path, guides: str, opened: frozenset[Path]) -> None:
    terms = list(enumerate(node.terms))
    shares = dict(enumerate(node.shares)) if len(terms) > 1 else {}
    hidden: list[tuple[int, Node]] = []
    if len(terms) > MOST_TERMS and node.derivation.adds:
        terms.sort(key=lambda item: -abs(item[1].value) if math.isfinite(item[1].value) else -math.inf)
        if (*path, -1) not in opened:
            terms, hidden = terms[:MOST_TERMS], terms[MOST_TERMS:]
    scale = node.derivation.scale
    adds = node.derivation.kind == "sum" and scale == 1
    rest = total_of([term.contribution for _, term in hidden])
    values = [term.contribution if adds else term.value for _, term in terms] + ([rest] if hidden else [])
    form = Form.of([*values, node.value] if adds else values)
    lacks = form.missing(node.value, values) if adds and values else 0.0
    last = len(terms) + bool(hidden) + bool(lacks) - 1
    for at, (i, term) in enumerate(terms):
        below = (*path, i)
        is_open = below in opened
        branch, trunk = ("└ ", "  ") if at == last else ("├ ", "│ ")
        written = form.write(term.contribution if adds else term.value)
        rows.append(
            DerivationRow(
                below, guides + branch, term.label, written, _made(term), shares.get(i), term, is_open, _sign(node, term, at)
            )
        )
        if is_open:
            _grow(rows, term, below, guides + trunk, opened)
    if hidden:
        share = math.fsum(shares[i] for i, _ in hidden) if shares else None
        branch = "└ " if not lacks else "├ "
        rows.append(DerivationRow((*path, -1), guides + branch, f"… {len(hidden)} smaller terms", form.write(rest), "", share))
    if lacks:
        rows.append(DerivationRow((*path, -2), guides + "└ ", "rounding", form.write(lacks), "of the sum, and of the digits shown"))


def _sign(parent: Node, term: Node, at: int) -> str:
    """Return the operator before a term: + − · /; empty for the first term and inside a function."""
    if term.sign < 0:
        return "−"
    return SIGNS.get(parent.derivation.kind, "+" if parent.derivation.adds else "") if at else ""


def _made(node: Node) -> str:
    """Return the computation of a value in numbers, on one line; the note of a given value."""
    derivation = node.derivation
    if derivation.kind == "given" or not derivation.near:
        return derivation.note
    values = [short(term.contribution) for term in node.terms]
    note = f"  ({derivation.note})" if derivation.note else ""
    match derivation.kind:
        case "copy":
            return f"← {derivation.note}" if derivation.note else f"← {node.terms[0].label}"
        case "product":
            return " · ".join(values)
        case "quotient":
            return " / ".join(values)
        case "power":
            return " ^ ".join(values)
        case "min" | "max":
            return f"{derivation.kind}({', '.join(values)})"
        case "norm":
            return f"√ of {len(values)} squares"
    total = f"Σ of {len(values)} terms" if len(values) > 4 else " ".join(signed_sum(values))
    if derivation.kind in FUNCTIONS:
        return f"{FUNCTIONS[derivation.kind].text}({total})"
    if derivation.scale != 1:
        sign = "−" if derivation.scale < 0 else ""
        total = f"{sign}({total})" + (f" / {len(values)}" if abs(derivation.scale) != 1 else "")
    return total + note


def derivation_text(root: Node, opened: frozenset[Path], place: str) -> str:
    """Return the derivation as plain text, as on screen; `place` says where in time it was computed."""
    rows = laid_out(root, opened)
    labels = [f"{row.guides}{row.sign or ' '} {row.label}" if row.path else row.label for row in rows]
    wide, digits = max(map(_cells, labels)), max(len(row.written) for row in rows)
    lines = [f"{root.label} = {rows[0].written}    {place}", root.derivation.formula]
    for row, label in zip(rows, labels, strict=True):
        share = "" if row.share is None else short_percent(row.share)
        lines.append(f"{label}{' ' * (wide - _cells(label))}  {row.written:>{digits}}  {share:>4}  {row.made}".rstrip())
    return "\n".join(line for line in lines if line) + "\n"


def derivation_html(root: Node) -> str:
    """Return the derivation for a notebook: a list whose terms can be closed, without scripts, styles or references."""
    from html import escape  # not loaded where no page is written

    def items(rows: Sequence[DerivationRow], depth: int) -> str:
        written, at = [], 0
        while at < len(rows):
            end = next((i for i in range(at + 1, len(rows)) if len(rows[i].path) <= depth), len(rows))
            row, inner = rows[at], rows[at + 1 : end]
            share = "" if row.share is None else short_percent(row.share)
            words = "  ".join(filter(None, (f"{row.sign} {row.label} = {row.written}".strip(), share, row.made)))
            head, at = escape(safe_text(words)), end
            below = f"<details open><summary>{head}</summary>{items(inner, depth + 1)}</details>" if inner else head
            written.append(f"<li>{below}</li>")
        return f"<ul>{''.join(written)}</ul>"

    root_row, *terms = laid_out(root, first_opened(root))
    head = " · ".join(filter(None, (f"{root.label} = {root_row.written}", root.derivation.formula, root_row.made)))
    return f"<div><code>{escape(safe_text(head))}</code>{items(terms, 1) if terms else ''}</div>"


def _cells(label: str) -> int:
    """Return the width of a label in cells; combining marks such as the tilde of h̃ have no width."""
    return sum(not combining(char) for char in label)


# ------------------------------------------------------------------------------
# Writes a derivation as LaTeX.


def as_latex(root: Node, opened: frozenset[Path], place: str) -> str:
    """Return the derivation as a LaTeX align*, one line per opened number. `place` goes into a comment."""
    lines = [rf"% {place}"] if place else []
    lines.append(r"\begin{align*}")
    equations = [_equation(root)]
    equations += [_equation(row.node) for row in laid_out(root, opened)[1:] if row.opened and row.node is not None]
    lines.append(" \\\\\n".join(equations))
    lines.append(r"\end{align*}")
    return "\n".join(lines) + "\n"


def _equation(node: Node) -> str:
    """Return one equation: `h = z h_{t-1} + … = −0.0184 + 0.7848 = 0.7664`."""
    value = _number(node.value)
    if not node.terms:
        note = node.derivation.note
        return rf"  {node.latex} &= {value}" + (f" && {latex_text(note)}" if note else "")
    inside = node.derivation.kind in ("product", "power")
    names = _combined(node, [_named(term, inside=inside) for term in node.terms])
    numbers = _combined(node, [_numbered(term) for term in node.terms])
    return rf"  {node.latex} &= {names} = {numbers} = {value}"


def _named(term: Node, *, inside: bool) -> str:
    """Return a term by its name; in parentheses if it is a sum inside a product or a power."""
    name = term.latex or latex_text(term.label)
    return rf"\left({name}\right)" if inside and term.number is None and len(term.terms) > 1 else name


def _numbered(term: Node) -> str:
    return _number(term.value) if term.value >= 0 else rf"\left({_number(term.value)}\right)"


def _number(value: float) -> str:
    """Return a number in LaTeX, with the digits of a float32."""
    if not math.isfinite(value):
        return {math.inf: r"\infty", -math.inf: r"-\infty"}.get(value, r"\mathrm{NaN}")
    mantissa, _, exponent = f"{value:.{FLOAT32_DIGITS}g}".partition("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa


def _combined(node: Node, terms: list[str]) -> str:
    derivation = node.derivation
    match derivation.kind:
        case "product":
            return r" \cdot ".join(terms)
        case "quotient":
            return rf"\frac{{{terms[0]}}}{{{terms[1]}}}"
        case "power":
            return rf"{{{terms[0]}}}^{{{terms[1]}}}"
        case "min" | "max":
            return applied_latex(derivation.kind, ", ".join(terms))
        case "norm":
            return rf"\sqrt{{{' + '.join(f'{term}^2' for term in terms)}}}"
    total = terms[0] if node.terms[0].sign > 0 else f"-{terms[0]}"
    for term, written in zip(node.terms[1:], terms[1:], strict=True):
        total += f" {'-' if term.sign < 0 else '+'} {written}"
    if derivation.kind in FUNCTIONS:
        return applied_latex(derivation.kind, total)
    if derivation.scale == 1:
        return total
    over = rf"\frac{{1}}{{{len(terms)}}}" if abs(derivation.scale) != 1 else ""
    return rf"{'-' if derivation.scale < 0 else ''}{over}\left({total}\right)"
