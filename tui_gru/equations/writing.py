"""Writing of expressions as on-screen text, as LaTeX and as MathML; and of operations as the page of a cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import count
from typing import TypeGuard

from tui_gru.equations import syntax as e
from tui_gru.equations.functions import FUNCTIONS, WRITTEN
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
    """Format a constant: 1, 0.5, 0.0001, 1e-5; 1/3 if its decimal expansion is infinite."""
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
    written, short = f"{digits[:-places]}.{digits[-places:]}", f"{digits.lstrip('0')}e-{places}"
    written = written if places <= 6 and len(written) < len(short) + 3 else short
    return f"−{written}" if value < 0 else written


#: How the nodes of an expression are written around their children: as text, as LaTeX and as MathML.
_FORMS = {
    "brackets":  ("({})",           "({})",                         "<mo>(</mo>{}<mo>)</mo>"),
    "number":    ("{}",             "{}",                           "<mn>{}</mn>"),
    "scientific": ("{}e{}",         r"{} \cdot 10^{{{}}}",           "<mn>{}e{}</mn>"),
    "axis":      ("{}",             "{}",                           "<mi>{}</mi>"),
    "axes":      ("·",              r"\,",                          "<mo>·</mo>"),
    "plus":      (" + {}",          " + {}",                        "<mo>+</mo>{}"),
    "minus":     (" − {}",          " - {}",                        "<mo>−</mo>{}"),
    "negative":  ("−{}",            "-{}",                          "<mo>−</mo>{}"),
    "times":     ("⊙",              r" \odot ",                     "<mo>⊙</mo>"),
    "quotient":  ("{}/{}",          r"\frac{{{}}}{{{}}}",           "<mfrac><mrow>{}</mrow><mrow>{}</mrow></mfrac>"),
    "product":   ("{} {}",          r"{}\,{}",                      '{}<mspace width="0.25em"></mspace>{}'),
    "power":     ("{}^{}",          "{{{}}}^{{{}}}",                "<msup><mrow>{}</mrow><mrow>{}</mrow></msup>"),
    "transpose": ("{}ᵀ",            r"{{{}}}^\top",                 "<msup><mrow>{}</mrow><mo>⊤</mo></msup>"),
    "comma":     (", ",             ", ",                           "<mo>,</mo>"),
    "beside":    (", ",             r",\; ",                        "<mo>,</mo>"),
    "join":      ("[{}]",           r"\left[{}\right]",             "<mo>[</mo>{}<mo>]</mo>"),
    "slice":     ("{}[{}:{}]",      "{{{}}}_{{[{}:{}]}}",           "<msub><mrow>{}</mrow><mtext>[{}:{}]</mtext></msub>"),
    "sum":       ("Σ {} over {}",   r"\sum_{{\text{{{1}}}}} {0}",
                  "<mrow><munder><mo>∑</mo><mtext>{1}</mtext></munder>{0}</mrow>"),
    "mean":      ("mean {} over {}", r"\operatorname{{mean}}_{{\text{{{1}}}}} {0}",
                  "<mrow><munder><mo>mean</mo><mtext>{1}</mtext></munder>{0}</mrow>"),
}  # fmt: skip
_TEXT, _LATEX, _MATHML = range(3)


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

    def text(self, node: Expression) -> str:
        """Return an expression as text."""
        return self._in(_TEXT, node)

    def latex(self, node: Expression) -> str:
        """Return an expression as LaTeX."""
        return self._in(_LATEX, node)

    def mathml(self, node: Expression) -> str:
        """Return an expression as elements of MathML."""
        return self._in(_MATHML, node)

    def _in(self, notation: int, node: Expression) -> str:
        line, escaped = notation == _TEXT, xml_text if notation == _MATHML else str

        def form(name: str, *parts: str) -> str:
            return _FORMS[name][notation].format(*parts)

        def inside(child: Expression, tightness: int) -> str:
            written = self._in(notation, child)
            return form("brackets", written) if binds(child) < tightness else written

        match node:
            case e.Name(name=name):
                return (self.symbols.text, self.symbols.latex, self.symbols.mathml)[notation](name)
            case e.Number(value=value):
                digits, _, exponent = (decimal(value) if notation != _LATEX else decimal(value).replace("−", "-")).partition("e")
                return form("scientific", digits, exponent) if exponent else form("number", digits)
            case e.Size(axes=axes):
                written = form("axes").join(form("axis", escaped(axis)) for axis in axes)
                return form("brackets", written) if len(axes) > 1 else written
            case e.Sum(parts=(first, *rest)):
                terms = [inside(first, 2 if isinstance(first, e.Sum) else 1)]
                for part in rest:
                    sign, term = ("minus", part.argument) if isinstance(part, e.Negative) else ("plus", part)
                    terms.append(form(sign, inside(term, 2 if isinstance(part, e.Sum | e.Negative) else 1)))
                return "".join(terms)
            case e.Negative(argument=argument):
                return form("negative", inside(argument, 2))
            case e.Times(parts=parts):
                # In a line of text, a quotient would divide the factors before it too.
                tight = [isinstance(part, e.Times) or (line and isinstance(part, e.Quotient)) for part in parts]
                tight[0] = tight[0] and not line
                return form("times").join(inside(part, 3 if is_tight else 2) for part, is_tight in zip(parts, tight, strict=True))
            case e.Quotient(left=left, right=right):
                return form("quotient", inside(left, 2 * line), inside(right, 4 * line))
            case e.Product(left=left, right=right):
                return form("product", inside(left, 2 if isinstance(left, e.Product) else 3), inside(right, 3))
            case e.Power(left=left, right=right):
                return form("power", inside(left, 4), inside(right, 4 * line))
            case e.Transpose(argument=argument):
                return form("transpose", inside(argument, 0 if isinstance(argument, e.Name) else 5))
            case e.Join(parts=parts):
                return form("join", form("beside").join(self._in(notation, part) for part in parts))
            case e.Slice(argument=argument, before=before, axes=axes):
                return form("slice", inside(argument, 4), *map(escaped, ("+".join(before) or "0", "+".join((*before, *axes)))))
            case e.Spread(argument=argument):
                return self._in(notation, argument)
            case e.Reduce(argument=argument, kind=kind, over=over):
                hides_axis = e.is_unwritten(node)
                return self._in(notation, argument) if hides_axis else form(kind, inside(argument, 3), escaped(self.over(over)))
            case e.Apply(parts=parts, function=function):
                row, written = FUNCTIONS[function], form("comma").join(self._in(notation, part) for part in parts)
                if notation == _LATEX:
                    return applied_latex(function, written)
                if notation == _MATHML and function == "sqrt":
                    return f"<msqrt>{written}</msqrt>"
                bare = row.is_word and binds(parts[0]) >= 4
                if line:
                    return f"{row.text}{' ' * row.is_word}{written if bare else form('brackets', written)}"
                gap = '<mspace width="0.15em"></mspace>' if bare else ""
                return f"<mi>{xml_text(row.text)}</mi>{gap}{written if bare else form('brackets', written)}"
        raise TypeError(node)


def applied_latex(function: str, arguments: str) -> str:
    """Return a function applied to arguments that are already LaTeX: in parentheses, or where its pattern has them."""
    latex = FUNCTIONS[function].latex
    return latex.replace("#", arguments) if "#" in latex else rf"{latex}\left({arguments}\right)"


# ------------------------------------------------------------------------------
# A cell as a page, written from its operations: one formula each, of names alone.


DEEPEST = 12  # operations in one another in a line
LONGEST_LOCAL = 12  # characters in the name of a variable of a script that becomes the name of a line


def equations_of(
    operations: Mapping[str, Expression],
    shapes: Mapping[str, tuple[int, ...]],
    x: str,
    states: Mapping[str, str],
    ends: Mapping[str, str],
    variables: Mapping[str, str],
    *,
    sizes: Mapping[str, int],
    sized: bool = False,
) -> tuple[str, dict[str, str]]:
    """Return the text of a cell that computes `operations`, and what each of its parameters was called in them.

    `shapes` has those of the parameters. `x` and `states` name the leaves, by the names h and c of the states; `ends` the lines of
    the new states. `variables` of a script name the lines that they had last. With `sized`, matrices have their axes. `sizes` has
    those of I and H; a parameter of others has the axes K10, of a size of 10. Raises `EquationError` if the states depend on other
    leaves.
    """
    before = {x: "x", **{leaf: f"{state}_prev" for state, leaf in states.items()}}
    reached, waiting = set[str](), list(ends.values())
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += operations[name].names() if name in operations else ()
    if others := [name for name in reached if name.startswith("leaf") and name not in before]:
        more = f"{len(others)} more argument{'s' if len(others) > 1 else ''}"
        raise e.EquationError(f"its new state depends on {more} besides x and h")
    if missing := [leaf for leaf in before if leaf not in reached]:
        raise e.EquationError(f"its new state does not depend on {'x' if missing[0] == x else 'a state'}")
    lines = {name: formula for name, formula in operations.items() if name in reached}
    reads = Counter(read for formula in lines.values() for read in formula.names())
    targets = _targets(lines, reads, ends, variables)

    inlined = dict[str, Expression]()
    written, parameters = list[tuple[str, Expression]](), dict[str, str]()
    for name, formula in lines.items():
        inlined_formula = _with_names(
            formula, lambda read: inlined.get(read) or e.Name(before.get(read) or targets.get(read, read))
        )
        if name in targets:
            written.append((targets[name], inlined_formula))
        else:
            inlined[name] = inlined_formula
    for state, end in ends.items():
        if targets.get(end) != state:
            written.append((state, e.Name(targets.get(end) or before[end])))
    used_names, declared = {*targets.values(), *ends, *before.values()}, list[str]()
    for target, formula in written:
        for name, role in _roles_of_parameters(formula, shapes):
            if name not in parameters:
                joint = "_" if len(target) > 2 else ""
                candidates = (f"{role}{joint}{target}{number or ''}" for number in (0, *range(2, 1000)))
                parameters[name] = next(candidate for candidate in candidates if candidate not in used_names)
                used_names.add(parameters[name])
                declared.append(parameters[name] + _declared(shapes[name], role, sizes, sized=sized))
    first = next(iter(ends))
    if written[-1][0] != first:
        at = next(i for i, (target, _) in enumerate(written) if target == first)
        target, formula = written.pop(at)
        if any(first in later.names() for _, later in written[at:]):
            new = next(candidate for candidate in (f"{first}_new", f"{first}_new2") if candidate not in used_names)
            written = [(t, _with_names(f, lambda read: e.Name(new if read == first else read))) for t, f in written]
            written.insert(at, (new, formula))
            formula = e.Name(new)
        written.append((target, formula))
    writer = Writer(e.Symbols())
    texts = [
        writer.line(target, "=", _with_names(formula, lambda read: e.Name(parameters.get(read, read))))
        for target, formula in written
    ]
    head = f"reads x\nstate {', '.join(f'{state} : H' for state in ends)}\nparameters {' '.join(declared)}\n\n"
    return head + "\n".join(texts) + "\n", {written: name for name, written in parameters.items()}


def _declared(shape: tuple[int, ...], role: str, sizes: Mapping[str, int], *, sized: bool) -> str:
    """Return the axes of a parameter as they are declared; "" if they can be inferred."""
    axes = {size: f"K{size}" for size in shape} | {sizes["I"]: "I", sizes["H"]: "H"}
    named = ["I" if role == "W" and not k and size == sizes["I"] else axes[size] for k, size in enumerate(shape)]
    inner = any(name[0] == "K" for name in named) or named[-1:] == ["I"]
    return f"({' '.join(named)})" if inner or (sized and len(shape) == 2) else ""


def _targets(
    lines: Mapping[str, Expression], reads: Mapping[str, int], ends: Mapping[str, str], variables: Mapping[str, str]
) -> dict[str, str]:
    """Return the names of the operations that get a line: new states, variables of the script, gates, what is read more than once,
    and parts of long formulas. Those without a name of their own are called by the only line that they lead to."""
    targets = dict[str, str]()
    for state, end in ends.items():
        if end in lines:
            targets.setdefault(end, state)
    gates = {formula.argument: name for name, formula in lines.items() if _is_gate(formula)}
    used_names = {"x", *ends, *(f"{state}_prev" for state in ends), *WRITTEN, *e.REDUCTIONS, "over"}
    for variable, line in variables.items():
        if reads[line] == 1 and gates.get(e.Name(line), line) not in targets:  # the argument of a gate has its name
            line = gates.get(e.Name(line), line)
        fits = variable not in used_names and len(variable) <= LONGEST_LOCAL and e.code_name(variable) == variable
        if line in lines and line not in targets and fits and not e.split(variable)[1]:
            targets[line] = variable
            used_names.add(variable)
    readers: dict[str, set[str]] = {name: set() for name in lines}
    for name in reversed(list(lines)):
        leads_to = {targets[name]} if name in targets else readers[name]
        for read in lines[name].names():
            if read in readers:
                readers[read] |= leads_to
    depths = dict[str, int]()  # of what is written in one line
    for name, formula in lines.items():
        depths[name] = 1 + max((depths[read] for read in formula.names() if read in lines and read not in targets), default=0)
        is_squeezed = _is_gate(formula) and formula.function == "sigmoid"
        if name not in targets and (reads[name] > 1 or is_squeezed or depths[name] > DEEPEST):
            hint = name.partition("_")[0]
            only = next(iter(readers[name])) if len(readers[name]) == 1 else ""
            base = f"{hint}{'_' if len(only) > 1 else ''}{only}"
            targets[name] = next(
                candidate for k in count(1) if (candidate := base if only and k == 1 else f"{base}{k}") not in used_names
            )
            used_names.add(targets[name])
    return targets


def _is_gate(formula: Expression) -> TypeGuard[e.Apply]:
    return isinstance(formula, e.Apply) and formula.function in ("sigmoid", "tanh")


def _with_names(node: Expression, of: Callable[[str], Expression]) -> Expression:
    """Return a tree with another expression in the place of each name; a sum of sums is written as one."""
    if isinstance(node, e.Name):
        return of(node.name)
    parts = tuple(_with_names(child, of) for child in node.children)
    if isinstance(node, e.Sum):
        return e.Sum(tuple(term for part in parts for term in part.terms))
    return node.with_children(parts) if parts else node


def _roles_of_parameters(node: Expression, parameters: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each parameter that a formula reads, with the letter of what it does: W multiplies x, U what the cell computes, g
    scales units, b is added."""
    for child in node.children:
        if isinstance(child, e.Name) and child.name in parameters:
            if isinstance(node, e.Product):
                yield child.name, "W" if node.left == e.Name("x") else "U"
            else:
                yield child.name, "b" if isinstance(node, e.Sum | e.Negative) else "g"
        yield from _roles_of_parameters(child, parameters)
