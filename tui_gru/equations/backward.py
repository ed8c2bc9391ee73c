"""The backward pass, derived from the forward lines: one rule for each operation, and the normal form in which it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from tui_gru.equations import syntax as e
from tui_gru.equations.axes import Axes, axes_of
from tui_gru.equations.page import Equation, Page
from tui_gru.equations.syntax import EquationError, Expression, Name, slope_of, split, transpose, with_word

# ------------------------------------------------------------------------------
# The derivative of every operation as a rule that maps the gradient of the result to the gradients of the operands.
#
# A rule takes the node, the gradient `a` of its value, and its `value` as a name; it returns the gradient of each child, in
# order. Those of functions of one operand are in their table. Differentiating an operation without a rule is an error.


def handed_back(node: Expression, a: Expression, value: Expression) -> tuple[Expression, ...] | None:
    """Return the gradients of the children of a node, given the gradient `a` of its value; None if the operation has no rule."""
    match node:
        case e.Sum(parts=parts):
            return (a,) * len(parts)
        case e.Negative():
            return (e.Negative(a),)
        case e.Times(parts=parts):
            return tuple(e.Times((a, *parts[:i], *parts[i + 1 :])) for i in range(len(parts)))
        case e.Quotient(left=left, right=right):
            return e.Quotient(a, right), e.Negative(e.Quotient(e.Times((a, value)), right))
        case e.Product(left=left, right=right):
            return e.Product(a, transpose(right)), e.Product(transpose(left), a)
        case e.Transpose():
            return (transposed_gradient(a),)
        case e.Reduce(kind="sum"):
            return (a,)
        case e.Reduce(kind="mean", over=over):
            return (e.Quotient(a, e.Size((over,))),)
        case e.Power(right=e.Number(value=power)):
            lower = node.children[0] if power == 2 else e.Power(node.children[0], e.number(power - 1))
            return (e.Times((a, e.number(power), lower)), e.number(0))
        case e.Apply(function=function, parts=(argument,)) if (slope := slope_of(function, argument, value, a)) is not None:
            return (slope,)
        case e.Apply(function=("min" | "max") as function, parts=(left, right)):
            first = e.Apply((sum_of([*symbolic_terms(left), *symbolic_terms(e.Negative(right))]),), "positive")
            parts = (first, e.Sum((e.ONE, e.Negative(first))))
            return tuple(e.Times((a, part)) for part in (parts if function == "max" else parts[::-1]))
    return None


def transposed_gradient(a: Expression) -> Expression:
    """Return the gradient of a matrix whose transpose has the gradient `a`; (P Q)ᵀ is written Qᵀ Pᵀ."""
    if isinstance(a, e.Product):
        return e.Product(transpose(a.right), transpose(a.left))
    return transpose(a)


# ------------------------------------------------------------------------------
# Normal form of sums of products, in which a gradient reads as a person would write it.
#
# Numbers and sizes are multiplied, equal terms are added, and common factors are factored out: a⊙b − a⊙c = a⊙(b − c).


class Term(NamedTuple):
    """A term of a sum: `coefficient · factors / sizes`."""

    coefficient: Fraction
    sizes: tuple[str, ...]
    factors: tuple[Expression, ...]

    def expression(self) -> Expression:
        """Return the term as a tree; a negative term is a `Negative`."""
        factors = self.factors
        if abs(self.coefficient) != 1 or not factors:
            factors = (e.number(abs(self.coefficient)), *factors)
        node = e.product(factors)
        if self.sizes:
            node = e.Quotient(node, e.Size(self.sizes))
        return e.Negative(node) if self.coefficient < 0 else node


def symbolic_terms(node: Expression) -> list[Term]:
    """Return the terms of an expression. Labelled parts are not expanded."""
    one = Term(Fraction(1), (), (node,))
    if node.label:
        return [one]
    match node:
        case e.Sum(parts=parts):
            return [term for part in parts for term in symbolic_terms(part)]
        case e.Negative(argument=argument):
            return [Term(-term.coefficient, term.sizes, term.factors) for term in symbolic_terms(argument)]
        case e.Number(value=value):
            return [Term(value, (), ())]
        case e.Quotient(left=left, right=e.Size(axes=axes)):
            return [Term(term.coefficient, (*term.sizes, *axes), term.factors) for term in symbolic_terms(left)]
        case e.Times(parts=parts):
            coefficient = Fraction(1)
            sizes: tuple[str, ...] = ()
            factors: tuple[Expression, ...] = ()
            for part in parts:
                inner = symbolic_terms(part)
                only = inner[0] if len(inner) == 1 else Term(Fraction(1), (), (part,))
                coefficient, sizes, factors = coefficient * only.coefficient, (*sizes, *only.sizes), (*factors, *only.factors)
            for i, factor in enumerate(factors):
                match factor:
                    case e.Quotient(left=left, right=e.Times(parts=(e.Number(value=number), *rest), label=""), label="") if (
                        number and (coefficient / number).denominator == 1
                    ):  # 2 ⊙ (a / (2 ⊙ b)) is a / b
                        coefficient /= number
                        factors = (*factors[:i], e.Quotient(left, e.product(tuple(rest))), *factors[i + 1 :])
            return [Term(coefficient, sizes, factors)]
    return [one]


def sum_of(terms: Iterable[Term]) -> Expression:
    """Return the sum of terms, with common factors in front."""
    merged: dict[tuple[tuple[str, ...], tuple[Expression, ...]], Fraction] = {}
    for term in terms:
        key = tuple(sorted(term.sizes)), term.factors
        merged[key] = merged.get(key, Fraction(0)) + term.coefficient
    left = [Term(coefficient, sizes, factors) for (sizes, factors), coefficient in merged.items() if coefficient]
    if len(left) < 2:
        return left[0].expression() if left else e.number(0)
    number = Fraction(1)
    sizes: tuple[str, ...] = ()
    if len({(abs(term.coefficient), term.sizes) for term in left}) == 1:
        number, sizes = abs(left[0].coefficient), left[0].sizes
        left = [Term(term.coefficient / number, (), term.factors) for term in left]
    shared: list[Expression] = []
    rests = [list(term.factors) for term in left]
    for factor in left[0].factors:
        if all(factor in rest for rest in rests):  # a factor that every term has twice is factored out twice
            shared.append(factor)
            for rest in rests:
                rest.remove(factor)
    left = [Term(term.coefficient, term.sizes, tuple(rest)) for term, rest in zip(left, rests, strict=True)]
    if number == 1 and not sizes and not shared:
        return e.Sum(tuple(term.expression() for term in left))
    left.sort(key=lambda term: term.coefficient < 0)  # begin with a positive term if there is one
    bracket = e.Sum(tuple(term.expression() for term in left))
    return Term(number, sizes, (*shared, bracket)).expression()


# ------------------------------------------------------------------------------
# The backward pass, derived from the forward lines by reverse-mode differentiation, in the form in which a person would write it.
#
# 1. Every line has a gradient line, named d + its name. A labelled part has a gradient line if its gradient is used more than once
#    and is not just a copy of another gradient; otherwise its gradient is written where it is used.
# 2. A gradient that is a constant (of the terms of the loss: 1/T, −1/(B·T)) is written where it is used.
# 3. log(softmax(o)) counts as one function; with the gradient a, it gives o the gradient a − softmax(o)⊙Σa. A one-hot row sums
#    to 1.
# 4. Common factors of a sum are factored out: a⊙b − a⊙c = a⊙(b − c).
# 5. The terms of a gradient are sorted: uses nearest to the loss first, then by line; the gradient from the future comes last.
# 6. Among the lines that can be computed next, parts of the current line come first, then the same layer and direction,
#    then the earliest line.
# 7. A gradient is summed over every axis that its operand lacks. An axis along which it is constant is not written.


class LinePart(NamedTuple):
    """A line or a labelled part of a line. In `formula`, labelled parts are replaced by their names. `line` is the 0-based number
    of the line."""

    name: str
    formula: Expression
    line: int
    is_part: bool


class NameRead(NamedTuple):
    """One read of a name: its `nth` occurrence (0-based, from left to right) in the formula of a step.

    The log of a softmax reads the argument of the softmax (rule 3).
    """

    name: str
    step: str
    nth: int


class Use(NamedTuple):
    """The `term` that one reading adds to the gradient of a name. `line` (0-based) is the line that reads the name."""

    reading: NameRead
    line: int
    term: Expression


class Backward(NamedTuple):
    """The derived lines.

    `deltas` computes the gradients of one timestep, in an order in which they can be computed. `gradients` adds one timestep's
    contribution to the gradients of the parameters. `paths` maps each labelled term of those lines, such as dh_carry, to the
    reading of the value that contributes the term.
    """

    deltas: tuple[Equation, ...]
    gradients: tuple[Equation, ...]
    paths: Mapping[str, NameRead]


def derive(page: Page, axes: Mapping[str, Axes], aliases: Mapping[str, str] | None = None) -> Backward:
    """Return the backward pass of a page. Raises `EquationError` for an operation that has no derivative.

    `aliases` has lines that are called by another name in the names of paths: dh_carry is a path through the line `carry`.
    """
    return _Derivation(page, axes, aliases or {}).backward if page.lines else Backward((), (), {})


def of_each_timestep(node: Expression, named: Callable[[str], Axes]) -> bool:
    """Return True if a term of a gradient is the contribution of one timestep, False if it is the whole sum."""
    return any(
        part.all_timesteps
        if isinstance(part, e.Reduce)
        else isinstance(part, e.Product) and isinstance(part.left, e.Transpose) and "T" in axes_of(part.left.argument, named)
        for part in node.walk()
    )


def steps_of(lines: tuple[Equation, ...]) -> tuple[list[LinePart], dict[str, Expression]]:
    """Return the lines and their labelled parts as steps, in the order of computation, and the complete labelled parts by label."""
    steps: list[LinePart] = []
    parts: dict[str, Expression] = {}

    def without_parts(node: Expression, line: int, *, keeps_label: bool = False) -> Expression:
        if node.children:
            inner = e.without_label(node).with_children(tuple(without_parts(child, line) for child in node.children))
        else:
            inner = e.without_label(node)
        if keeps_label or not node.label:
            return inner
        parts[node.label] = node
        steps.append(LinePart(node.label, inner, line, True))
        return Name(node.label)

    for number, line in enumerate(lines):
        formula = without_parts(line.formula, number, keeps_label=True)
        steps.append(LinePart(line.target, formula, number, False))
    return steps, parts


def mixed(page: Page, axis: str) -> frozenset[str]:
    """Return the names whose value in one row (axis B), or at one timestep (T), depends on other rows, or on all timesteps."""
    formulas = {step.name: step.formula for step in steps_of(page.lines)[0]}
    readers: dict[str, list[str]] = {state: [page.before(state)] for state in page.states}
    for name, formula in formulas.items():
        for read in formula.names():
            readers.setdefault(read, []).append(name)

    def mixes(node: Expression) -> bool:
        if axis == "B" and isinstance(node, e.Product):
            return any(name not in page.parameters for name in node.right.names())
        return isinstance(node, e.Reduce) and node.over == axis

    names = {name for name, formula in formulas.items() if any(map(mixes, formula.walk()))}
    waiting = list(names)
    while waiting:
        new = {*readers.get(waiting.pop(), ())} - names
        names |= new
        waiting += new
    return frozenset(names)


class _Derivation:
    def __init__(self, page: Page, axes: Mapping[str, Axes], aliases: Mapping[str, str]) -> None:
        self._page, self._axes, self._aliases = page, axes, aliases
        self._steps, self._parts = steps_of(page.lines)
        self._alike = {e.unlabelled(part): part for part in reversed(self._parts.values())}
        self._step = {step.name: step for step in self._steps}
        self._constant = {name for name in page.inputs if name not in page.differentiated} | set(page.settings)
        for step in self._steps:  # a step that reads only settings and constant steps is constant
            if self._constant.issuperset(step.formula.names()) and not any(name in page.inputs for name in step.formula.names()):
                self._constant.add(step.name)
        self._state_of = {page.before(state): state for state in page.states}
        self._nearness = self._near_the_loss()
        self._used = self._reserved()
        self._uses: dict[str, list[Use]] = {}
        self._formulas: dict[str, Expression] = {}
        self._paths: dict[str, NameRead] = {}
        self._differentiate()
        self.backward = self._written()

    def _reserved(self) -> set[str]:
        """Return all names of values and gradients. Raises `EquationError` for a value that has the name of a gradient."""
        gradients = {f"d{name}": name for name in self._axes}
        gradients |= {self._page.received(state): state for state in self._page.states}
        gradients |= {with_word(f"d{name}", "given"): name for name in self._page.outputs}
        for name in self._axes:
            if name in gradients:
                message = f"{name} is the name of the gradient of {gradients[name]}; choose another name"
                raise EquationError(message, self._page.places.get(name))
        return {*self._axes, *gradients}

    def _near_the_loss(self) -> dict[int, int]:
        """Return the length of the longest chain of lines that ends in each line. The longer the chain, the nearer the line is to
        the loss."""
        near: dict[int, int] = {}
        for step in self._steps:
            read = [self._step[name].line for name in step.formula.names() if name in self._step]
            near[step.line] = max([near.get(step.line, 1), *(near[line] + 1 for line in read if line != step.line)])
        return near

    def _differentiate(self) -> None:
        """Visit the steps in reverse order; each passes its gradient on to the names it reads."""
        end = len(self._steps)
        self._nearness[end] = max(self._nearness.values(), default=0) + 1
        seeds: dict[str, Expression] = {name: Name(with_word(f"d{name}", "given")) for name in self._page.outputs}
        for name, seed in (seeds or {self._steps[-1].name: e.ONE}).items():
            self._uses[name] = [Use(NameRead(name, "given", 0), end, seed)]
        for step in reversed(self._steps):
            gradient = self._gathered(step.name) if step.name not in self._constant else None
            if gradient is None:
                continue
            symbol = Name(f"d{step.name}")
            passed = self._propagated(step, symbol)
            if self._written_in_place(step, gradient, symbol, passed):
                passed = self._propagated(step, gradient)
            else:
                self._formulas[symbol.name] = self._spread(gradient, self._axes[step.name])
            read: Counter[str] = Counter()
            for name, term in passed:
                self._uses.setdefault(name, []).append(Use(NameRead(name, step.name, read[name]), step.line, term))
                read[name] += 1
        for name in (*self._page.differentiated, *self._state_of, *self._page.parameters):
            if (gradient := self._gathered(name)) is None:
                place = self._page.places.get(self._state_of.get(name, name))
                raise EquationError(f"the loss does not depend on {name}, so it has no gradient; use it or remove it", place)
            self._formulas[f"d{name}"] = self._spread(gradient, self._axes[name])

    def _written_in_place(self, step: LinePart, gradient: Expression, symbol: Name, passed: list[tuple[str, Expression]]) -> bool:
        if not any(True for _ in gradient.names()):
            return True
        if not step.is_part:
            return False
        uses = sum(Counter(term.names())[symbol.name] for _, term in passed)
        reads_a_gradient = any(name[0] == "d" and name[1:] in self._step for name in gradient.names())
        return uses <= 1 or not reads_a_gradient or isinstance(gradient, Name)

    def _gathered(self, name: str) -> Expression | None:
        """Return the gradient of a name, the sum over its uses. If several terms remain, each gets its own label."""
        uses = sorted(self._uses.get(name, ()), key=lambda use: (-self._nearness[use.line], use.line))
        future: list[Expression] = [Name(self._page.received(name))] if name in self._page.states else []
        if not uses:
            return future[0] if future else None
        terms = [symbolic_terms(node) for node in (*(use.term for use in uses), *future)]
        gradient = sum_of([term for of_use in terms for term in of_use])
        one_term_each = all(len(of_use) == 1 for of_use in terms)  # otherwise terms and uses do not correspond
        if not isinstance(gradient, e.Sum) or len(gradient.parts) != len(terms) or not one_term_each:
            return gradient
        parts = list(gradient.parts)
        for i, (part, use) in enumerate(zip(gradient.parts, uses, strict=False)):
            if not isinstance(part, Name):
                path = next(path for path in self._paths_of(use) if path not in self._used and path not in self._paths)
                self._paths[path], parts[i] = use.reading, self._spread(part, self._axes[name]).labelled(path)
        return e.Sum(tuple(parts))

    def _paths_of(self, use: Use) -> Iterator[str]:
        """Yield candidate names for a term of a gradient, best first: d + name + the label of the line that reads it, as in
        dh_carry; then with more words, then with a number."""
        name, step = use.reading.name, self._aliases.get(use.reading.step, use.reading.step)
        line = self._page.lines[use.line]
        word, suffix = line.label or split(step)[0], split(line.target)[1]
        first, longer = (
            with_word(f"d{base}", word) if suffix == split(base)[1] else f"d{base}_{word}{suffix}"
            for base in (self._state_of.get(name, name), name)
        )
        yield first
        if first in self._used or self._paths[first].name != name:
            yield longer
        yield with_word(first, split(step)[0])
        yield from (with_word(first, str(number)) for number in count(2))

    # One step

    def _propagated(self, step: LinePart, gradient: Expression) -> list[tuple[str, Expression]]:
        """Return the gradient that each name read by a step receives, given the gradient of the step's value.

        A gradient may lack some axes of its node; it is constant along them.
        """
        passed: list[tuple[str, Expression]] = []

        def as_computed(part: Expression) -> Expression:
            # With carry `notebook` an earlier batch is differentiated at the values that it computed, while a weight itself is
            # today's. So a part that reads weights must not be computed again.
            if isinstance(part, Name) or not any(name in self._page.parameters for name in part.names()):
                return part
            if isinstance(part, e.Transpose):
                return e.Transpose(as_computed(part.argument))
            return part if self._is_weight(part) else e.Activation(part, self._axes_of(part))

        def propagate(node: Expression, a: Expression, value: Expression) -> None:
            if isinstance(node, Name):
                if node.name not in self._constant:
                    passed.append((node.name, a))
                return
            if (fused := self._log_of_softmax(node, a)) is not None:
                under, operand_gradient = fused
                propagate(under, operand_gradient, as_computed(under))
                return
            axes = self._axes_of(node)
            operands = node.with_children(tuple(map(as_computed, node.children))) if node.children else node
            for child, operand_gradient in zip(node.children, self._rule(step, operands, a, value, axes), strict=True):
                if operand_gradient != e.number(0) and any(name not in self._constant for name in child.names()):
                    elementwise = not isinstance(node, e.Product | e.Transpose | e.Join | e.Reduce)
                    lacking = [axis for axis in axes if axis not in self._axes_of(child)] if elementwise else []
                    propagate(
                        child, self._summed(operand_gradient, lacking, is_weight=self._only_parameters(child)), as_computed(child)
                    )

        propagate(step.formula, gradient, Name(step.name))
        return passed

    def _rule(self, step: LinePart, node: Expression, a: Expression, value: Expression, axes: Axes) -> tuple[Expression, ...]:
        match node:
            case e.Apply(function="softmax"):
                inner = self._sum_over(e.Times((a, value)), axes[-1])
                return (e.Times((value, e.Sum((a, e.Negative(inner))))),)
            case e.Join(parts=parts):
                slices: list[Expression] = []
                before: tuple[str, ...] = ()
                for part in parts:
                    axis = self._axes_of(part)[-1]
                    slices.append(e.Slice(self._spread(a, axes), before, (axis,)))
                    before = (*before, axis)
                return tuple(slices)
            case e.Product() | e.Transpose():
                a = self._spread(a, axes)
            case e.Quotient(left=left, right=right) if self._is_weight(left) or self._is_weight(right):
                # Not from the quotient, which an earlier batch computed with another weight (carry `notebook`).
                return e.Quotient(a, right), e.Negative(e.Quotient(e.Times((a, left)), e.Power(right, e.number(2))))
        gradients = handed_back(node, a, value)
        if gradients is None:
            word = getattr(node, "function", type(node).__name__.lower())
            line = self._page.lines[step.line]
            raise EquationError(f"{word} has no derivative here, so the backward pass cannot be derived", node.span or line.span)
        return gradients

    def _log_of_softmax(self, node: Expression, a: Expression) -> tuple[Expression, Expression] | None:
        """Return, for the log of a softmax, the argument of the softmax and its gradient (rule 3); None for any other node."""
        if not isinstance(node, e.Apply) or node.function != "log" or not isinstance(node.argument, Name):
            return None
        step = self._step.get(node.argument.name)
        if step is None or not isinstance(step.formula, e.Apply) or step.formula.function != "softmax":
            return None
        total = self._total(a, self._axes[step.name][-1])
        under = step.formula.argument
        return under, e.Sum((a, e.Negative(e.Times((node.argument, total)))))

    def _total(self, a: Expression, axis: str) -> Expression:
        """Return the sum of a gradient over an axis; a one-hot row sums to 1."""
        first, *others = symbolic_terms(a)
        if not others and len(first.factors) == 1 and isinstance(factor := first.factors[0], Name):
            variable = self._page.inputs.get(factor.name)
            if variable is not None and variable.one_hot and variable.axis == axis:
                return Term(first.coefficient, first.sizes, ()).expression()
        return self._sum_over(a, axis)

    def _summed(self, a: Expression, lacking: Sequence[str], *, is_weight: bool) -> Expression:
        """Return a gradient summed over the axes that an operand lacks.

        The gradient of a weight sums over rows and timesteps at once; it is written as the contribution of one timestep.
        """
        if is_weight and {"T", "B"} <= {*lacking} and {"T", "B"} <= {*self._axes_of(a)}:
            a = e.Reduce(a, "sum", "B", all_timesteps=True)
            lacking = [axis for axis in lacking if axis not in ("T", "B")]
        for axis in lacking:
            over_all_timesteps = is_weight and axis == "T" and axis in self._axes_of(a)
            a = e.Reduce(a, "sum", axis, all_timesteps=True) if over_all_timesteps else self._sum_over(a, axis)
        return a

    def _sum_over(self, a: Expression, axis: str) -> Expression:
        """Return a gradient summed over an axis; if it is constant along the axis, the size of the axis times the gradient."""
        return e.Reduce(a, "sum", axis) if axis in self._axes_of(a) else e.Times((e.Size((axis,)), a))

    def _spread(self, a: Expression, axes: Axes) -> Expression:
        """Return a gradient broadcast to all axes of its value, which matrix products and recorded values require."""
        if self._axes_of(a) == axes:
            return a
        return e.Negative(e.Spread(a.argument, axes)) if isinstance(a, e.Negative) else e.Spread(a, axes)

    def _only_parameters(self, node: Expression) -> bool:
        return all(name in self._page.parameters for name in node.names())

    def _is_weight(self, node: Expression) -> bool:
        """Return True for a weight, also a negated one."""
        while isinstance(node, e.Negative):
            node = node.argument
        return isinstance(node, Name) and node.name in self._page.parameters

    def _axes_of(self, node: Expression) -> Axes:
        return axes_of(node, self._axes_of_name)

    def _axes_of_name(self, name: str) -> Axes:
        """Return the axes of a value, or of a gradient, which are those of its value."""
        base, suffix = split(name[1:])
        of_past = base.rpartition("_")[0] + suffix  # dh_future, dh_given
        return next(self._axes[value] for value in (name, name[1:], of_past) if value in self._axes)

    # The lines

    def _written(self) -> Backward:
        """Return the lines, ordered by rule 6."""
        place = {f"d{step.name}": (step.line, i) for i, step in enumerate(self._steps)}
        last = len(self._steps), 0
        gradients = {f"d{name}" for name in self._page.parameters}
        waiting = {name: formula for name, formula in self._formulas.items() if name not in gradients}
        missing = {name: {n for n in formula.names() if n in waiting} for name, formula in waiting.items()}
        readers: dict[str, list[str]] = {name: [] for name in waiting}
        for name, reads in missing.items():
            for read in reads:
                readers[read].append(name)
        number = {name: i for i, name in enumerate(waiting)}
        # The ready lines that belong to a line and a layer, to a line, to a layer, and all: the first that has one gives the next.
        ready: dict[tuple[int | None, str | None], list[tuple[tuple[int, int], int, str]]] = {}

        def make_ready(name: str) -> None:
            at, layer = place.get(name, last), split(name)[1]
            for group in ((at[0], layer), (at[0], None), (None, layer), (None, None)):
                heappush(ready.setdefault(group, []), (at, number[name], name))

        for name in [name for name in waiting if not missing[name]]:
            make_ready(name)
        order: list[str] = []
        current, layer = -1, ""
        while waiting:
            for group in ((current, layer), (current, None), (None, layer), (None, None)):
                heap = ready.get(group, [])
                while heap and heap[0][2] not in waiting:
                    heappop(heap)
                if heap:
                    break
            _, _, name = heappop(heap)
            current, layer = place.get(name, last)[0], split(name)[1]
            order.append(name)
            del waiting[name]
            for reader in readers[name]:
                missing[reader].discard(name)
                if not missing[reader]:
                    make_ready(reader)
        deltas = tuple(Equation(name, self._expanded(self._formulas[name])) for name in order)
        adds = [f"d{name}" for name in self._page.parameters if f"d{name}" in self._formulas]
        return Backward(deltas, tuple(Equation(name, self._expanded(self._formulas[name]), "+=") for name in adds), self._paths)

    def _expanded(self, node: Expression) -> Expression:
        """Return a formula with the labelled forward parts written out. A subtree equal to such a part is replaced by that part."""
        if isinstance(node, Name):
            return self._parts.get(node.name, node)
        expanded = node.with_children(tuple(self._expanded(child) for child in node.children)) if node.children else node
        return expanded if expanded.label else self._alike.get(e.unlabelled(expanded), expanded)
