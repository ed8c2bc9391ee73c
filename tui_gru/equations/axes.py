"""Inference of the axes of every name from the equations: `z` is (T, B, H), `Wz` is (V, H), `loss` is ().

T counts timesteps and B rows; an input or a state has the axes (T, B, its own axis). A parameter is a matrix if it is the right
operand of a matrix product, otherwise a vector. The inner axes of a matrix product are equal. In an elementwise operation, one
operand has all axes of the others. And the ranges of values: a gate from 0 to 1, a state from −1 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from tui_gru.equations import syntax as e
from tui_gru.equations.functions import FUNCTIONS, INSTEAD, UNBOUNDED, Range
from tui_gru.equations.page import Equation, Page
from tui_gru.equations.syntax import ONE, EquationError, Expression, Name, SourceSpan, Symbols, did_you_mean
from tui_gru.equations.writing import Writer

Axes = tuple[str, ...]


def union(axes: list[Axes]) -> Axes:
    """Return the union of the axes of several operands, in the order T, B, others."""
    longest = max(axes, key=len, default=())
    more = dict.fromkeys(axis for operand in axes for axis in operand if axis not in longest)
    return tuple(sorted((*longest, *more), key=lambda axis: {"T": 0, "B": 1}.get(axis, 2)))


def axes_of(node: Expression, named: Callable[[str], Axes]) -> Axes:
    """Return the axes of an expression, given those of the names in it."""

    def of(part: Expression) -> Axes:
        return axes_of(part, named)

    match node:
        case e.Name(name=name):
            return named(name)
        case e.Spread(axes=axes):
            return axes
        case e.Product(left=e.Transpose(argument=left), right=right):  # a weight gradient sums over all rows and timesteps
            return (of(left)[-1], of(right)[-1])
        case e.Product(left=left, right=right):
            return (*of(left)[:-1], *of(right)[1:])
        case e.Transpose(argument=argument):
            return of(argument)[::-1]
        case e.Reduce(argument=argument, over=over, all_timesteps=all_timesteps):
            reduced = (over, "T") if all_timesteps else (over,)
            return tuple(axis for axis in of(argument) if axis not in reduced)
        case e.Join(parts=parts):
            return (*of(parts[0])[:-1], "+".join(of(part)[-1] for part in parts))
        case e.Slice(argument=argument, axes=axes):
            return (*of(argument)[:-1], "+".join(axes))
    return union([of(child) for child in node.children])


def infer_axes(page: Page, *, time: bool = True) -> dict[str, Axes]:
    """Return the axes of every input, state, parameter, line and labelled part of a page.

    `time` is True if inputs and states have the axis T; those of an update rule do not. Raises `EquationError` for axes that do not
    fit, an unknown name, or a size that cannot be inferred.
    """
    return _Inference(page, time).axes


class _Inference:
    """Inference by unification. An unknown axis has a name such as `?Wz0` until a line determines it."""

    def __init__(self, page: Page, time: bool) -> None:
        self._page, self._writer, self._time = page, Writer(Symbols(page.symbols)), time
        self._same: dict[str, str] = {}
        self._because: dict[str, tuple[SourceSpan, str]] = {}  # unknown axis: the place and text that determined it
        implicit = ("T", "B") if time else ()
        self._of: dict[str, Axes] = {}
        for name, variable in page.inputs.items():
            self._of[name] = (*implicit, variable.axis) if variable.axis else implicit
        for name, state in page.states.items():
            self._of[name] = self._of[page.before(name)] = (*implicit, state.axis)
        for name, axes in page.parameters.items():
            if axes:
                self._of[name] = axes
        self._of |= {**dict.fromkeys(page.settings, ()), **page.ends}
        self._sums: list[tuple[Expression, Axes, str]] = []
        self._waiting = {line.target: line for line in reversed(page.lines)}  # lines not read yet, by target
        for line in page.lines:
            self._line = line
            self._read(line)
        self.axes = {name: tuple(map(self._root, axes)) for name, axes in self._of.items()}
        self._check_all_determined()

    def _read(self, line: Equation) -> None:
        if line.op != "=" and (self._time or line.op != "-=" or line.target not in (*self._page.parameters, *self._page.states)):
            message = f"an equation is written {line.target} = formula"
            raise EquationError(f"{message}; only an update rule has W −= formula", line.span, source=self._page.source)
        axes = self._infer(line.formula)
        self._waiting.pop(line.target, None)
        if line.target in self._of:
            before = self._of[line.target]
            if len(before) != len(axes) or not all(self._unify(a, b, line.formula) for a, b in zip(before, axes, strict=True)):
                wrong = {self._root(axis) for axis in axes}.difference(map(self._root, before))
                gives = f"{line.target} is {self._axes(before)}, but its line gives {self._axes(axes)}"
                if "T" in axes and "T" not in before:
                    gives += " for each timestep; write its mean over the timesteps"
                raise self._error(line.formula, gives + self._meant(line.formula, wrong))
        self._of[line.target] = axes

    def _check_all_determined(self) -> None:
        for node, inner, over in self._sums:
            if [self._root(axis) for axis in inner].count(over) > 1:
                raise self._error(
                    node, f"{self._text(node.children[0])} is {self._axes(inner)}; which {over} to sum over is ambiguous"
                )
        computed = {line.target for line in self._page.lines}
        for name in self._page.states:
            if name not in computed:
                raise self._declared(name, f"no line computes the state {name}; write one, {name} = …, or remove it")
        unused = [name for name in self._page.parameters if name not in self._of]
        if unused:
            raise self._declared(unused[0], f"the parameter {unused[0]} is not read by any line; use it or remove it")
        for name, axes in self.axes.items():
            if any(axis.startswith("?") for axis in axes):
                written = f"{name}({' '.join('V' for _ in axes)})"
                raise self._declared(name, f"the size of {name} cannot be inferred; write its axes, as in {written}")

    def _declared(self, name: str, message: str) -> EquationError:
        return EquationError(message, self._page.places.get(name), source=self._page.source)

    def _root(self, axis: str) -> str:
        while axis in self._same:
            axis = self._same[axis]
        return axis

    def _unify(self, a: str, b: str, node: Expression) -> bool:
        """Make two axes equal. Return False if they are different known axes, or if a parameter would get rows or timesteps."""
        a, b = self._root(a), self._root(b)
        if a == b:
            return True
        unknown, determined = (a, b) if a.startswith("?") else (b, a)
        if not unknown.startswith("?") or determined in ("T", "B"):
            return False
        self._same[unknown] = determined
        if node.span is not None:
            self._because[unknown] = node.span, self._writer.text(node)
        return True

    def _infer(self, node: Expression, *, matrix: bool = False) -> Axes:
        axes = self._infer_plain(node, matrix)
        if node.label:
            self._of[node.label] = axes
        return axes

    def _infer_plain(self, node: Expression, matrix: bool) -> Axes:
        match node:
            case e.Name(name=name):
                return self._named(node, name, matrix)
            case e.Number() | e.Size():
                return ()
            case e.Product(left=left, right=right):
                return self._product(node, left, right)
            case e.Transpose(argument=argument):
                axes = self._infer(argument, matrix=True)
                if len(axes) != 2:
                    raise self._error(node, f"{self._text(argument)} is {self._axes(axes)}; only a matrix can be transposed")
                return axes[::-1]
            case e.Reduce(argument=argument, over=over):
                return self._reduced(node, self._infer(argument), over)
            case e.Join(parts=parts):
                inner = [self._infer(part) for part in parts]
                if any(axes[:-1] != inner[0][:-1] or not axes for axes in inner):
                    shapes = " and ".join(map(self._axes, inner))
                    raise self._error(node, f"only matrices with the same rows can be joined; these are {shapes}")
                last = [self._root(axes[-1]) for axes in inner]
                for part, axis in zip(parts, last, strict=True):
                    if axis.startswith("?"):
                        problem = f"how many columns {self._text(part)} has is not known yet"
                        raise self._error(part, f"{problem}; write the axes of its parameter, as in U(H H)")
                return (*inner[0][:-1], "+".join(last))
            case e.Slice(argument=argument, axes=axes):
                return (*self._infer(argument)[:-1], "+".join(axes))
            case e.Apply(function="softmax", parts=(argument,)):
                axes = self._infer(argument)
                if not axes or axes[-1] in ("T", "B"):
                    problem = f"{self._text(argument)} is {self._axes(axes)} and has no units"
                    raise self._error(node, f"a softmax is taken along the units, but {problem}")
                return axes
        return self._elementwise(node, [(child, self._infer(child)) for child in node.children])

    def _named(self, node: Expression, name: str, matrix: bool) -> Axes:
        if name not in self._of or (self._time and name in self._waiting):
            if name not in self._page.parameters:
                raise self._unknown(node, name)
            self._of[name] = tuple(f"?{name}{i}" for i in range(2 if matrix else 1))
        return self._of[name]

    def _unknown(self, node: Expression, name: str) -> EquationError:
        if (later := self._waiting.get(name)) is not None and later.span is not None:
            state = name in self._page.states
            cure = f"its value from the timestep before is {self._page.before(name)}" if state else "move that line up"
            return self._error(node, f"{name} is computed only in line {later.span.line}; {cure}")
        names = [*(names for names in self._of if names not in self._page.ends.keys() & self._waiting), *self._page.parameters]
        hint = f"write {INSTEAD[name]}" if name in INSTEAD else did_you_mean(name, names, FUNCTIONS)
        if self._time and name[0].isupper():  # as weights are called
            hint = f"declare it (parameters {name}); {hint}"
        return self._error(node, f"{name} is not a parameter, an input, a state or a line above; {hint}")

    def _product(self, node: Expression, left: Expression, right: Expression) -> Axes:
        of_left, of_right = self._infer(left), self._infer(right, matrix=True)
        if not of_left or len(of_right) != 2 or "T" in of_right:
            number = next((part for part, axes in ((left, of_left), (right, of_right)) if len(axes) < 2), right)
            cure = f"⊙ (or *) for the product with {self._text(number)} element by element"
            if isinstance(left, e.Name) and isinstance(right, e.Name) and left.name[0].isupper():  # a weight
                cure = f"{self._text(right)} {self._text(left)}"
            raise self._error(
                node,
                f"{self._text(left)} is {self._axes(of_left)}, {self._text(right)} is {self._axes(of_right)}: a matrix product "
                f"takes a matrix on its right; write {cure}",
            )
        if not self._unify(of_left[-1], of_right[0], node):
            raise self._misfit(node, (left, of_left, of_left[-1]), (right, of_right, of_right[0]))
        return (*of_left[:-1], *of_right[1:])

    def _elementwise(self, node: Expression, operands: list[tuple[Expression, Axes]]) -> Axes:
        widest, of_widest = max(operands, key=lambda operand: len(operand[1]))
        for operand, axes in operands:
            for axis in axes:
                roots = [self._root(candidate) for candidate in of_widest]
                if self._root(axis) in roots or axis == "T":
                    continue
                # Use the last unknown axis: a vector broadcasts along the last axis of a matrix.
                at = next(
                    (candidate for candidate in reversed(of_widest) if candidate.startswith("?") or axis.startswith("?")), None
                )
                if at is None or not self._unify(axis, at, node):
                    raise self._misfit(node, (operand, axes, axis), (widest, of_widest, of_widest[-1]))
        together = union([tuple(map(self._root, axes)) for _, axes in operands])
        for operand, axes in operands:
            rest = iter(together)
            if not all(self._root(axis) in rest for axis in axes):  # the axes are in another order, as in (V, H) and (H, V)
                raise self._misfit(node, (operand, axes, ""), (widest, of_widest, ""))
            roots = [self._root(axis) for axis in axes]
            if roots and (twice := next((axis for axis in roots if roots.count(axis) < together.count(axis)), None)) is not None:
                shapes = f"{self._text(operand)} is {self._axes(axes)}, {self._text(widest)} is {self._axes(of_widest)}"
                cure = f"write the axes of its parameters, as in U({twice} {twice})"
                raise self._error(node, f"{shapes}; which {twice} is meant is ambiguous: {cure}")
        return together

    def _reduced(self, node: Expression, inner: Axes, over: str) -> Axes:
        inner = tuple(map(self._root, inner))
        if over not in inner and inner and inner[-1].startswith("?"):
            self._unify(inner[-1], over, node)
            inner = tuple(map(self._root, inner))
        self._sums.append((node, inner, over))
        if over not in inner:
            cure = f"; sum each of the joined parts over {over}" if inner and over in inner[-1].split("+") else ""
            problem = f"{self._text(node.children[0])} is {self._axes(inner)}, so it cannot be summed over {over}"
            raise self._error(node, problem + cure)
        return tuple(axis for axis in inner if axis != over)

    # Words

    def _misfit(self, node: Expression, *operands: tuple[Expression, Axes, str]) -> EquationError:
        """Return the error for two operands, each with its axes and the one of them that does not fit, which may be unknown."""
        words = [f"{self._text(operand)} is {self._axes(axes)}{self._since(operand, axis)}" for operand, axes, axis in operands]
        meant = self._meant(node, {self._root(axis) for _, axes, _ in operands for axis in axes})
        return self._error(node, f"{self._text(node)} does not fit: {', '.join(words)}{meant}")

    def _meant(self, formula: Expression, wrong: set[str]) -> str:
        """Return a hint on an elementwise product, with an axis in `wrong`, that would fit as a matrix product; else nothing."""
        products = (node for source in self._sources(formula) for node in source.walk() if isinstance(node, e.Times))
        for node in products:
            for one, other in pairwise(node.parts):
                for factors in ((one, other), (other, one)):
                    match factors:
                        case (e.Name(name=value), e.Name(name=weight)) if self._multiplies(value, weight, wrong):
                            where = f" in line {node.span.line}" if node.span is not None else ""
                            suggestion = f"{self._text(one)}⊙{self._text(other)}{where} is element by element, with ⊙ or *"
                            return f"; {suggestion}: for the matrix product write {value} {weight} or {value} @ {weight}"
        return ""

    def _sources(self, formula: Expression) -> Iterator[Expression]:
        """Yield a formula, then those of the lines above whose values it reads, directly or through others."""
        above = {line.target: line.formula for line in self._page.lines if line.target not in self._waiting}
        formulas = [formula]
        for source in formulas:
            yield source
            formulas += [above.pop(name) for name in source.names() if name in above]

    def _multiplies(self, value: str, weight: str, wrong: set[str]) -> bool:
        """Return True if a weight fits on the right of a value, whose last axis is in `wrong`, in a matrix product."""
        of_value, of_weight = (tuple(map(self._root, self._of.get(name, ()))) for name in (value, weight))
        if value in self._page.parameters or weight not in self._page.parameters or not of_value or of_value[-1] not in wrong:
            return False
        inferred = not self._page.parameters[weight] and weight[0].isupper()  # as a vector, but it has the name of a matrix
        return of_weight[:1] == of_value[-1:] and (len(of_weight) == 2 or inferred)

    def _since(self, operand: Expression, axis: str) -> str:
        """Return where an axis of an operand was determined, in words; empty if it is declared."""
        alike = (
            candidate
            for name in operand.names()
            for candidate in self._of.get(name, ())
            if self._root(candidate) == self._root(axis)
        )
        reason = next((reason for candidate in (axis, *alike) if (reason := self._reason(candidate)) is not None), None)
        return f" since line {reason[0].line}, where it follows from {reason[1]}" if reason is not None else ""

    def _reason(self, axis: str) -> tuple[SourceSpan, str] | None:
        while axis not in self._because and axis in self._same:
            axis = self._same[axis]
        return self._because.get(axis)

    def _error(self, node: Expression, message: str) -> EquationError:
        return EquationError(message, node.span or self._line.span, source=self._page.source)

    def _text(self, node: Expression) -> str:
        return self._writer.text(node)

    def _axes(self, axes: Axes) -> str:
        """Format axes for a message, without T: `(B, H)`; `a number` if no other axis remains."""
        roots = [self._root(axis) for axis in axes if axis != "T"]
        return f"({', '.join('any' if axis.startswith('?') else axis for axis in roots)})" if roots else "a number"


# ------------------------------------------------------------------------------
# The range of the values of a line, derived from its formula: a gate from 0 to 1, a state from −1 to 1.


def ranges_of(page: Page) -> dict[str, Range]:
    """Return the range of every input, state, line and labelled part of a page; infinite if nothing bounds it.

    A state has the range −1 to 1 if its line stays in this range whenever all such states do.
    """
    bounded = set(page.states)
    while True:
        ranges = _with(page, bounded)
        beyond = {state for state in bounded if ranges[state][0] < -1 or ranges[state][1] > 1}
        if not beyond:
            return ranges
        bounded -= beyond


def _with(page: Page, bounded: set[str]) -> dict[str, Range]:
    ranges: dict[str, Range] = {
        name: (0, 1) if variable.one_hot or not variable.axis else UNBOUNDED for name, variable in page.inputs.items()
    }
    for state in page.states:
        ranges[page.before(state)] = (-1, 1) if state in bounded else UNBOUNDED
    for line in page.lines:
        ranges[line.target] = _range(line.formula, ranges)
    return ranges


def _range(node: Expression, ranges: dict[str, Range]) -> Range:
    result = _plain_range(node, ranges)
    if node.label:
        ranges[node.label] = result
    return result


def _plain_range(node: Expression, ranges: dict[str, Range]) -> Range:
    inner = [_range(child, ranges) for child in node.children]
    match node:
        case Name(name=name):
            return ranges.get(name, UNBOUNDED)
        case e.Number(value=value):
            return float(value), float(value)
        case e.Apply(function=("min" | "max") as function):
            pick = min if function == "min" else max
            return pick(low for low, _ in inner), pick(high for _, high in inner)
        case e.Apply(function=function):
            return FUNCTIONS[function].range
        case e.Negative():
            return -inner[0][1], -inner[0][0]
        case e.Sum(parts=(e.Times() as left, e.Times() as right)) if (parts := _convex(left, right)) is not None:
            return _hull([_times([_range(factor, ranges) for factor in factors]) for factors in parts])
        case e.Sum():
            return sum(low for low, _ in inner), sum(high for _, high in inner)
        case e.Times():
            return _times(inner)
        case e.Join():
            return _hull(inner)
        case e.Slice() | e.Reduce(kind="mean"):
            return inner[0]
    return UNBOUNDED


def _convex(left: e.Times, right: e.Times) -> tuple[list[Expression], list[Expression]] | None:
    """Return the factors a and b of a sum z ⊙ a + (1 − z) ⊙ b; None for any other sum."""
    for first, second in ((left, right), (right, left)):
        for weight in first.parts:
            rest = e.without_label(e.Sum((ONE, e.Negative(weight))))
            others = [factor for factor in second.parts if e.without_label(factor) != rest]
            if len(others) < len(second.parts):
                return [factor for factor in first.parts if factor is not weight], others
    return None


def _times(ranges: list[Range]) -> Range:
    low, high = 1.0, 1.0
    for a, b in ranges:
        corners = [_product(x, y) for x in (low, high) for y in (a, b)]
        low, high = min(corners), max(corners)
    return low, high


def _product(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _hull(ranges: list[Range]) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)
