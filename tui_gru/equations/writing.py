"""Writing of expressions as on-screen text, as LaTeX and as MathML."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from tui_gru.equations import syntax as e
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.syntax import WORDS, Expression, Symbols, xml_text

#: The precedence of a node. A node inside one of higher precedence is written in parentheses.
_BINDS: dict[type[Expression], int] = {e.Sum: 1, e.Negative: 1, e.Times: 2, e.Quotient: 2, e.Product: 2, e.Power: 3}
SIGNS = {"=": "=", "+=": "+=", "-=": "−="}
_LATEX_SIGNS = {"=": "=", "+=": r"\mathrel{+}=", "-=": r"\mathrel{-}="}

_ESCAPED = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def latex_text(words: str) -> str:
    """Return words for use inside a LaTeX formula, with special characters escaped."""
    return rf"\text{{{words.translate(_ESCAPED)}}}"


def binds(node: Expression) -> int:
    """Return the precedence of a node, from 1 (a sum) to 4 (a name)."""
    if isinstance(node, e.Spread) or e.is_unwritten(node):
        return binds(node.children[0])
    return _BINDS.get(type(node), 4)


def bracketed(node: Expression) -> tuple[Expression, ...]:
    """Return the children of a product that are written in parentheses."""
    limit = {e.Product: 3, e.Times: 2}.get(type(node))
    return () if limit is None else tuple(child for child in node.children if binds(child) < limit)


def decimal(value: Fraction) -> str:
    """Format a constant: 1, 0.5, 0.00001; 1/3 if its decimal expansion is infinite."""
    if value.denominator == 1:
        return str(value.numerator)
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    places = 1
    while (value * 10**places).denominator != 1:
        places += 1
    digits = f"{abs(value * 10**places).numerator:0{places + 1}d}"
    written = f"{digits[:-places]}.{digits[-places:]}" if places <= 6 else f"{digits.lstrip('0')}e-{places}"
    return f"−{written}" if value < 0 else written


class Writer:
    """Writes expressions with the symbols of one model. `words` are those for its axes, if they are not the usual ones."""

    def __init__(self, symbols: Symbols, words: Mapping[str, str] | None = None) -> None:
        self.symbols, self._words = symbols, {**WORDS, **(words or {})}

    def name(self, name: str) -> str:
        """Return the on-screen spelling of a name."""
        return self.symbols.text(name)

    def over(self, axis: str) -> str:
        """Return the words for an axis after `over`: the vocabulary, the rows, the timesteps, the units; an axis without a word,
        such as K, unchanged."""
        return f"the {self._words[axis]}" if axis in self._words else axis

    def line(self, target: str, op: str, formula: Expression) -> str:
        """Return a line as text: `z = σ(x Wz + hₜ₋₁ Uz + bz)`."""
        return f"{self.name(target)} {SIGNS[op]} {self.text(formula)}"

    def line_latex(self, target: str, op: str, formula: Expression) -> str:
        """Return a line as LaTeX."""
        return f"{self.symbols.latex(target)} {_LATEX_SIGNS[op]} {self.latex(formula)}"

    def line_mathml(self, target: str, op: str, formula: Expression) -> str:
        """Return a line as a `math` element, which browsers set without a library; its text is the alternative."""
        row = f"<mrow>{self.symbols.mathml(target)}<mo>{SIGNS[op]}</mo>{self.mathml(formula)}</mrow>"
        return f'<math displaystyle="true" alttext="{xml_text(self.line(target, op, formula))}">{row}</math>'

    def mathml(self, node: Expression) -> str:
        """Return an expression as elements of MathML."""
        match node:
            case e.Name(name=name):
                return self.symbols.mathml(name)
            case e.Number(value=value):
                return f"<mn>{decimal(value)}</mn>"
            case e.Size(axes=axes):
                return _in_brackets("<mo>·</mo>".join(f"<mi>{xml_text(axis)}</mi>" for axis in axes), len(axes) > 1)
            case e.Sum(parts=(first, *rest)):
                return self._set(first, 2 if isinstance(first, e.Sum) else 1) + "".join(map(self._added, rest))
            case e.Spread(argument=argument):
                return self.mathml(argument)
            case e.Negative(argument=argument):
                return f"<mo>−</mo>{self._set(argument, 2)}"
            case e.Times(parts=parts):
                return "<mo>⊙</mo>".join(self._set(part, 3 if isinstance(part, e.Times) else 2) for part in parts)
            case e.Quotient(left=left, right=right):
                return f"<mfrac>{self._row(left)}{self._row(right)}</mfrac>"
            case e.Product(left=left, right=right):
                left_set = self._set(left, 2 if isinstance(left, e.Product) else 3)
                return f'{left_set}<mspace width="0.25em"></mspace>{self._set(right, 3)}'
            case e.Power(left=left, right=right):
                return f"<msup><mrow>{self._set(left, 4)}</mrow>{self._row(right)}</msup>"
            case e.Transpose(argument=argument):
                return f"<msup><mrow>{self._set(argument, 5 if not isinstance(argument, e.Name) else 0)}</mrow><mo>⊤</mo></msup>"
            case e.Join(parts=parts):
                return f"<mo>[</mo>{'<mo>,</mo>'.join(map(self.mathml, parts))}<mo>]</mo>"
            case e.Slice(argument=argument, before=before, axes=axes):
                place = f"{'+'.join(before) or '0'}:{'+'.join((*before, *axes))}"
                return f"<msub><mrow>{self._set(argument, 4)}</mrow><mtext>[{xml_text(place)}]</mtext></msub>"
            case e.Reduce(argument=argument) if e.is_unwritten(node):
                return self.mathml(argument)
            case e.Reduce(argument=argument, kind=kind, over=over):
                sign = "<mo>∑</mo>" if kind == "sum" else "<mo>mean</mo>"
                return f"<mrow><munder>{sign}<mtext>{xml_text(self.over(over))}</mtext></munder>{self._set(argument, 3)}</mrow>"
            case e.Apply(parts=(argument,), function="sqrt"):
                return f"<msqrt>{self.mathml(argument)}</msqrt>"
            case e.Apply(parts=parts, function=function):
                row = FUNCTIONS[function]
                bare = row.is_word and binds(parts[0]) >= 4
                gap = '<mspace width="0.15em"></mspace>' if bare else ""
                return f"<mi>{xml_text(row.text)}</mi>{gap}" + _in_brackets("<mo>,</mo>".join(map(self.mathml, parts)), not bare)
        raise TypeError(node)

    def _row(self, node: Expression) -> str:
        return f"<mrow>{self.mathml(node)}</mrow>"

    def _set(self, node: Expression, tightness: int) -> str:
        return _in_brackets(self.mathml(node), binds(node) < tightness)

    def _added(self, part: Expression) -> str:
        """Return a term of a sum after the first, with its sign."""
        if isinstance(part, e.Negative):
            return f"<mo>−</mo>{self._set(part.argument, 2)}"
        return f"<mo>+</mo>{self._set(part, 2 if isinstance(part, e.Sum) else 1)}"

    def text(self, node: Expression) -> str:
        """Return an expression as text."""
        match node:
            case e.Name(name=name):
                return self.name(name)
            case e.Number(value=value):
                return decimal(value)
            case e.Size(axes=axes):
                return f"({'·'.join(axes)})" if len(axes) > 1 else axes[0]
            case e.Sum(parts=(first, *rest)):
                return self._term(first) + "".join(self._joined(part) for part in rest)
            case e.Spread(argument=argument):
                return self.text(argument)
            case e.Negative(argument=argument):
                return f"−{self._inside(argument, 2)}"
            case e.Times(parts=(first, *rest)):
                return "⊙".join((self._inside(first, 2), *(self._factor(part) for part in rest)))
            case e.Quotient(left=left, right=right):
                return f"{self._inside(left, 2)}/{self._inside(right, 4)}"
            case e.Product(left=left, right=right):
                return f"{self._matrix(left)} {self._inside(right, 3)}"
            case e.Power(left=left, right=right):
                return f"{self._inside(left, 4)}^{self._inside(right, 4)}"
            case e.Transpose(argument=argument):
                return f"{self._turned(argument)}ᵀ"
            case e.Join(parts=parts):
                return f"[{', '.join(map(self.text, parts))}]"
            case e.Slice(argument=argument, before=before, axes=axes):
                start = "+".join(before)
                return f"{self._inside(argument, 4)}[{start or '0'}:{'+'.join((*before, *axes))}]"
            case e.Reduce(argument=argument) if e.is_unwritten(node):
                return self.text(argument)
            case e.Reduce(argument=argument, kind=kind, over=over):
                return f"{'Σ' if kind == 'sum' else 'mean'} {self._inside(argument, 3)} over {self.over(over)}"
            case e.Apply(parts=parts, function=function):
                row = FUNCTIONS[function]
                return (
                    f"{row.text} {self._inside(parts[0], 4)}" if row.is_word else f"{row.text}({', '.join(map(self.text, parts))})"
                )
        raise TypeError(node)

    def latex(self, node: Expression) -> str:
        """Return an expression as LaTeX."""
        match node:
            case e.Name(name=name):
                return self.symbols.latex(name)
            case e.Number(value=value):
                return decimal(value).replace("−", "-")
            case e.Size(axes=axes):
                return "(" + r"\,".join(axes) + ")" if len(axes) > 1 else axes[0]
            case e.Sum(parts=(first, *rest)):
                return self._term(first, latex=True) + "".join(self._joined(part, latex=True) for part in rest)
            case e.Spread(argument=argument):
                return self.latex(argument)
            case e.Negative(argument=argument):
                return f"-{self._inside(argument, 2, latex=True)}"
            case e.Times(parts=parts):
                return r" \odot ".join(self._factor(part, latex=True) for part in parts)
            case e.Quotient(left=left, right=right):
                return rf"\frac{{{self.latex(left)}}}{{{self.latex(right)}}}"
            case e.Product(left=left, right=right):
                return rf"{self._matrix(left, latex=True)}\,{self._inside(right, 3, latex=True)}"
            case e.Power(left=left, right=right):
                return rf"{{{self._inside(left, 4, latex=True)}}}^{{{self.latex(right)}}}"
            case e.Transpose(argument=argument):
                return rf"{{{self._turned(argument, latex=True)}}}^\top"
            case e.Join(parts=parts):
                return r"\left[" + r",\; ".join(map(self.latex, parts)) + r"\right]"
            case e.Slice(argument=argument, before=before, axes=axes):
                return rf"{{{self._inside(argument, 4, latex=True)}}}_{{[{'+'.join(before) or '0'}:{'+'.join((*before, *axes))}]}}"
            case e.Reduce(argument=argument) if e.is_unwritten(node):
                return self.latex(argument)
            case e.Reduce(argument=argument, kind=kind, over=over):
                sign = r"\sum" if kind == "sum" else r"\operatorname{mean}"
                return rf"{sign}_{{\text{{{self.over(over)}}}}} {self._inside(argument, 3, latex=True)}"
            case e.Apply(parts=parts, function=function):
                return applied_latex(function, ", ".join(map(self.latex, parts)))
        raise TypeError(node)

    def _inside(self, node: Expression, tightness: int, *, latex: bool = False) -> str:
        written = self.latex(node) if latex else self.text(node)
        return f"({written})" if binds(node) < tightness else written

    def _term(self, node: Expression, *, latex: bool = False) -> str:
        return self._inside(node, 2 if isinstance(node, e.Sum) else 1, latex=latex)

    def _factor(self, node: Expression, *, latex: bool = False) -> str:
        """Write a factor after the first. A quotient gets parentheses; without them the factors before it would be divided too."""
        quotient = isinstance(node, e.Quotient) and not latex
        return self._inside(node, 3 if quotient or isinstance(node, e.Times) else 2, latex=latex)

    def _matrix(self, node: Expression, *, latex: bool = False) -> str:
        return self._inside(node, 2 if isinstance(node, e.Product) else 3, latex=latex)

    def _turned(self, node: Expression, *, latex: bool = False) -> str:
        whole = isinstance(node, e.Name)
        written = self.latex(node) if latex else self.text(node)
        return written if whole else f"({written})"

    def _joined(self, part: Expression, *, latex: bool = False) -> str:
        minus = "-" if latex else "−"
        if isinstance(part, e.Negative):
            return f" {minus} {self._inside(part.argument, 2, latex=latex)}"
        return f" + {self._term(part, latex=latex)}"


def _in_brackets(written: str, are_needed: bool) -> str:
    return f"<mo>(</mo>{written}<mo>)</mo>" if are_needed else written


def applied_latex(function: str, arguments: str) -> str:
    """Return a function applied to arguments that are already LaTeX: in parentheses, or where its pattern has them."""
    latex = FUNCTIONS[function].latex
    return latex.replace("#", arguments) if "#" in latex else rf"{latex}\left({arguments}\right)"
