"""Writes a derivation as LaTeX."""

from __future__ import annotations

import math

from tui_gru.debugger.derivation.origin import Node
from tui_gru.debugger.derivation.written import FLOAT32_DIGITS, Path, laid_out
from tui_gru.equations.expression import FUNCTIONS
from tui_gru.equations.writing import applied_latex, latex_text


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
            return rf"\{derivation.kind}\left({', '.join(terms)}\right)"
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
