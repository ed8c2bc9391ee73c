"""The equations of a model, read from its files, and its update rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Annotated

import numpy as np

from tui_gru.engine.lowering import ELEMENTWISE, OUT
from tui_gru.engine.weights import Array, ParameterLayout, Weights
from tui_gru.equations import syntax as e
from tui_gru.equations.axes import Axes, infer_axes
from tui_gru.equations.backward import Backward, derive
from tui_gru.equations.functions import FUNCTIONS, numpy_function
from tui_gru.equations.page import (
    KINDS,
    Composed,
    Equation,
    Input,
    Page,
    compose,
    of_all_units,
    read_page,
    renamed,
    shipped,
    silenced,
)
from tui_gru.equations.syntax import EquationError, Expression, Name, SourceSpan, Symbols
from tui_gru.equations.writing import Writer
from tui_gru.errors import TuiGruError
from tui_gru.schema import within

# ------------------------------------------------------------------------------
# The update rule, compiled: it computes all weights at once in flat vectors, and lists its lines for each parameter.


WEIGHT, GRADIENT, COUNT = "W", "dW", "n"
#: The gradients of all parameters, and the number of updates, in the lines of a program: names that a cell's W and n cannot be.
GRADIENTS, UPDATES = "all gradients", "number of updates"
_OF_ALL = {GRADIENT: GRADIENTS, COUNT: UPDATES}
KeepNumber = Callable[..., float]
_CALLS = {name: row.numpy for name, row in FUNCTIONS.items() if row.numpy and row.second is None}
RATE = "learning_rate"


class UpdateRule:
    """Update lines over W, dW and states such as m and v; `n` counts the updates from 1.

    A line that gives one number for all weights (the norm of the gradient) is listed once, every other line once per parameter.
    """

    def __init__(self, pages: Sequence[Page]) -> None:
        """Raises `EquationError` for a page that is not an update rule."""
        for page in pages:
            _check(page)
        _check_together(pages)
        self.settings = {name: value for page in pages for name, value in page.settings.items()}
        self.meanings = {name: meaning for page in pages for name, meaning in page.meanings.items()}
        self.places = {name: place for page in pages for name, place in page.places.items()}
        self.states = tuple(state for page in pages for state in page.states)
        self.symbols = {name: symbol for page in pages for name, symbol in page.symbols.items()}
        self.symbols |= {name: (written, written) for written, name in _OF_ALL.items()}
        self.lines = _chained(pages)
        rule_page = Page(
            source=pages[-1].source,
            inputs={GRADIENT: Input("P"), COUNT: Input("")},
            states={state: variable for page in pages for state, variable in page.states.items()},
            parameters={WEIGHT: ("P",)},
            settings=self.settings,
            lines=self.lines,
            places=self.places,
        )
        self._axes = infer_axes(rule_page, time=False)
        self.scalars = tuple(line.target for line in self.lines if self._axes[line.target] == ())
        self._lines_of: dict[tuple[str, ...], tuple[Equation, ...]] = {}

    def is_vector(self, name: str) -> bool:
        """Return True if a name of the rule has one entry per weight."""
        return self._axes.get(name) == ("P",)

    def lines_of(self, parameters: Sequence[str]) -> tuple[Equation, ...]:
        """Return the lines in the order of execution: scalars once, vectors for one parameter after the other."""
        key = tuple(parameters)
        if key not in self._lines_of:
            self._lines_of[key] = self._listed(key)
        return self._lines_of[key]

    def _listed(self, parameters: Sequence[str]) -> tuple[Equation, ...]:
        listed: list[Equation] = []
        block: list[Equation] = []
        for line in (*self.lines, None):
            if line is not None and self.is_vector(line.target):
                block.append(line)
                continue
            listed += [self._for_parameter(block_line, name) for name in parameters for block_line in block]
            block = []
            listed += [replace(line, formula=renamed(line.formula, partial(_from, _OF_ALL)))] if line is not None else []
        return tuple(listed)

    def name_for(self, name: str, parameter: str) -> str:
        """Return a name of the rule in the lines of one parameter: Wz for W, dWz for dW, m_Wz for m."""
        if name in (WEIGHT, GRADIENT):
            return name.replace(WEIGHT, parameter)
        return f"{name}_{parameter}" if self.is_vector(name) else _OF_ALL.get(name, name)

    def _for_parameter(self, line: Equation, parameter: str) -> Equation:
        def name(old: str) -> str:
            return self.name_for(old, parameter)

        return replace(line, target=name(line.target), formula=renamed(line.formula, name))


def _check(page: Page) -> None:
    """Raise `EquationError` for what an update rule cannot have."""
    for name in (*page.inputs, *page.parameters, *page.outputs):
        words = f"an update rule reads {WEIGHT}, {GRADIENT}, {COUNT}, settings and states; remove the declaration of {name}"
        raise EquationError(words, page.places.get(name), source=page.source)
    for name, state in page.states.items():
        if state.axis != "P" or state.backwards:
            words = f"a state of an update rule has one entry for each weight: write state {name} : parameters"
            raise EquationError(words, page.places.get(name), source=page.source)
    reserved = {GRADIENT, COUNT} | ({WEIGHT} & {*page.settings, *page.states})
    for name in sorted(reserved & page.places.keys()):
        raise EquationError(f"{name} is a name of every update rule; choose another one", page.places[name])
    before = {page.before(state): state for state in page.states}
    for line in page.lines:
        for node in line.formula.walk():
            _check_node(node, node.span or line.span, before)


def _check_node(node: Expression, span: SourceSpan | None, before: Mapping[str, str]) -> None:
    """`before` has the names of the states as a cell reads them, such as m_prev."""
    if node.label:
        raise EquationError(f"an update rule has no named parts; write {node.label} = … as a line of its own", span)
    match node:
        case Name(name=name) if name in before:
            words = f"an update rule reads a state by its own name; write {before[name]} above the line that computes it"
            raise EquationError(words, span)
        case e.Apply(function=function) if function not in _CALLS:
            raise EquationError(f"an update rule cannot use {function}; it can use {', '.join(_CALLS)}", span)
        case e.Product() | e.Transpose() | e.Join():
            raise EquationError("an update rule has no matrices; write ⊙ (or *) between the factors of a product", span)


def _check_together(pages: Sequence[Page]) -> None:
    """Raise `EquationError` if the last page does not end the update, or two pages define the same name."""
    *before, last = pages
    if not last.lines or last.lines[-1].target != WEIGHT:
        words = f"an update rule ends with the weights: {WEIGHT} −= η ⊙ {GRADIENT}"
        raise EquationError(words, last.lines[-1].span if last.lines else None, source=last.source)
    if RATE not in last.settings:
        words = f"an update rule has a learning rate: write symbol {RATE} η, and setting η = 0.01"
        raise EquationError(words, source=last.source)
    for line in last.lines:
        for node in line.formula.walk():
            if isinstance(node, e.Reduce):
                words = "an update rule computes each weight from its own gradient; the norm of all gradients is limited by --clip"
                raise EquationError(words, node.span or line.span)
    for page in before:
        for name in page.places.keys() & last.places.keys():
            raise EquationError(f"{name} is also a name of {page.source}; choose another one here", last.places[name])


def _chained(pages: Sequence[Page]) -> tuple[Equation, ...]:
    """Return the lines of several pages. Each later page reads the last target of the page before it as its gradient."""
    lines: list[Equation] = []
    gradient = GRADIENT
    for page in pages:
        source = {GRADIENT: gradient}
        lines += [replace(line, formula=renamed(line.formula, partial(_from, source))) for line in page.lines]
        gradient = page.lines[-1].target
    return tuple(lines)


def _from(source: Mapping[str, str], name: str) -> str:
    return source.get(name, name)


class CompiledUpdate:
    """Generated NumPy calls on the vectors of all weights. `vectors` has the names of the computed vectors besides W and the
    states."""

    def __init__(self, rule: UpdateRule, layout: ParameterLayout) -> None:
        self.rule, self.layout = rule, layout
        stored = (WEIGHT, *rule.states)
        self.vectors = tuple(line.target for line in rule.lines if rule.is_vector(line.target) and line.target not in stored)
        self._code: list[list[str]] = []  # for each line
        self._written: set[str] = set()
        self._scratch = 0
        for line in rule.lines:
            self._code.append([])
            self._line(line)
        self.scratch = self._scratch
        old, new = (", ".join(prefix + _spelled(name) for name in stored) for prefix in ("old_", "new_"))
        arguments = [f"def update({old}, dW, {new}"]
        arguments += [f"new_{_spelled(name)}" for name in self.vectors]
        arguments += [f"s{i}" for i in range(self.scratch)]
        arguments += [f"{name}" for name in self._numbers()]
        head, tail = ", ".join(arguments), f"    return ({''.join(f'{_local(name)}, ' for name in rule.scalars)})"
        plain = [f"    {code}" for line in self._code for code in line]
        guarded = [f"    {code}" for i, line in enumerate(self._code) for code in (*line, self._keep_call(i))]
        self.source = "\n".join((f"{head}, {_local(COUNT)}):", *plain, tail))
        space = {name: numpy_function(name) for name in (*ELEMENTWISE.values(), "positive")}
        space |= {"dot": np.ndarray.dot, "total": np.add.reduce, "quotient": _quotient, "power_of": _power}
        self._run = _function(self.source, space)
        self._run_on = _function("\n".join((f"{head}, {_local(COUNT)}, keep):", *guarded, tail)), space)

    def _keep_call(self, number: int) -> str:
        target = self.rule.lines[number].target
        return f"keep({number})" if self.rule.is_vector(target) else f"{_local(target)} = keep({number}, {_local(target)})"

    def _numbers(self) -> tuple[str, ...]:
        return tuple(_local(name) for name in self.rule.settings)

    def run(
        self,
        before: Weights,
        after: Weights,
        arrays: Sequence[Array],
        settings: Mapping[str, float],
        keep: KeepNumber | None = None,
    ) -> dict[str, float]:
        """Compute `after` from `before`, and return the scalars by name.

        `arrays` are the gradient, the vectors of `after`, those for the rule's other vectors, and scratch memory, (P) each.
        `keep` is called after each line, to restore results from before the resumed point; for a scalar it returns the value to
        use.
        """
        after.updates = before.updates + 1
        arguments = (*before.vectors, *arrays, *map(settings.__getitem__, self.rule.settings), after.updates)
        scalars = self._run(*arguments) if keep is None else self._run_on(*arguments, keep)
        return dict(zip(self.rule.scalars, scalars, strict=True))

    # Code

    def _line(self, line: Equation) -> None:
        if not self.rule.is_vector(line.target):
            self._code[-1].append(f"{_local(line.target)} = {self._number(line.formula)}")
            return
        formula = line.formula
        if line.op == "-=":
            formula = e.Sum((Name(line.target), e.Negative(formula)))
        self._into(formula, f"new_{_spelled(line.target)}")
        self._written.add(line.target)

    def _vector(self, name: str) -> str:
        if name == GRADIENT:
            return name
        return ("new_" if name in self._written or name in self.vectors else "old_") + _spelled(name)

    def _is_number(self, node: Expression) -> bool:
        return (
            isinstance(node, e.Reduce)
            or not any(self.rule.is_vector(name) for name in node.names())
            or (bool(node.children) and all(map(self._is_number, node.children)))
        )

    def _number(self, node: Expression) -> str:
        """Return a scalar as a Python expression."""
        match node:
            case Name(name=name):
                return _local(name)
            case e.Number(value=value):
                return repr(float(value))
            case e.Reduce(argument=e.Times(parts=(left, right)), kind="sum") if left == right and isinstance(left, Name):
                vector = self._vector(left.name)
                return f"float(dot({vector}, {vector}))"
            case e.Reduce(argument=argument):
                return f"float(total({self._operand(argument, None)}))"
            case e.Sum(parts=parts):
                return "(" + " + ".join(map(self._number, parts)) + ")"
            case e.Negative(argument=argument):
                return f"(-{self._number(argument)})"
            case e.Times(parts=parts):
                return "(" + " * ".join(map(self._number, parts)) + ")"
            case e.Quotient(left=left, right=right):
                return f"quotient({self._number(left)}, {self._number(right)})"
            case e.Power(left=left, right=right):
                return f"power_of({self._number(left)}, {self._number(right)})"
            case e.Apply(function=("min" | "max") as function, parts=parts):
                return f"{function}({', '.join(map(self._number, parts))})"
            case e.Apply(function=function, parts=parts):
                return f"float({_CALLS[function]}({self._number(parts[0])}))"
        raise TypeError(node)

    def _into(self, node: Expression, out: str) -> None:
        """Add code that computes a vector into `out`."""
        match node:
            case e.Sum(parts=parts) | e.Times(parts=parts):
                calls = {e.Sum: ("add", "subtract"), e.Times: ("multiply", "multiply")}[type(node)]
                left = self._operand(parts[0], out)
                for part in parts[1:]:
                    negative = isinstance(part, e.Negative)
                    operand = self._operand(part.argument if isinstance(part, e.Negative) else part, None if left == out else out)
                    self._code[-1].append(f"{calls[negative]}({left}, {operand}, {out})")
                    left = out
            case e.Quotient(left=dividend, right=divisor):
                left = self._operand(dividend, out)
                right = self._operand(divisor, None if left == out else out)
                self._code[-1].append(f"divide({left}, {right}, {out})")
            case e.Negative(argument=argument):
                self._code[-1].append(f"negative({self._operand(argument, out)}, {out})")
            case e.Power(left=left, right=right):
                base = self._operand(left, out)
                self._code[-1].append(f"power({base}, {self._operand(right, None if base == out else out)}, {out})")
            case e.Apply(function=function, parts=parts):
                operands = [self._operand(part, None) for part in parts]
                call = _CALLS[function]
                self._code[-1].append(f"{call}({', '.join(operands)}, {OUT.get(call, '')}{out})")
            case _:
                self._code[-1].append(f"positive({self._operand(node, None)}, {out})")

    def _operand(self, node: Expression, free: str | None) -> str:
        """Return the argument for an expression in a call: a number, a vector, or the memory (`free` or scratch) it is computed
        into."""
        if self._is_number(node):
            return self._number(node)
        if isinstance(node, Name):
            return self._vector(node.name)
        reads = {self._vector(name) for name in node.names() if self.rule.is_vector(name)}
        if free is None or free in reads:
            free, self._scratch = f"s{self._scratch}", self._scratch + 1
        self._into(node, free)
        return free


def _quotient(dividend: float, divisor: float) -> float:
    """Divide as NumPy does: by 0 the result is infinite, or NaN."""
    return dividend / divisor if divisor else float(np.float64(dividend) / divisor)


def _power(base: float, exponent: float) -> float:
    """Raise to a power as NumPy does: a result that is too large is infinite, one that is not real is NaN."""
    try:
        return base**exponent if base > 0 else float(np.float64(base) ** exponent)
    except OverflowError:
        return math.inf


def _local(name: str) -> str:
    """Return the name of a scalar in the code, distinct from functions, vectors and Python keywords."""
    return f"number_{_spelled(name)}"


def _spelled(name: str) -> str:
    """Return a name in ASCII, since Python takes some signs for the same, such as ﬁ and fi, and others for no part of a name."""
    return "".join(sign if sign.isascii() and sign.isalnum() else f"_{ord(sign):x}_" for sign in name)


def _function(source: str, space: Mapping[str, object]) -> Callable[..., tuple[float, ...]]:
    names = dict(space)
    exec(compile(source, "<update>", "exec"), names)
    function: Callable[..., tuple[float, ...]] = names["update"]  # type: ignore[assignment]
    return function


# ------------------------------------------------------------------------------
# The equations of a model, without sizes.


@dataclass(frozen=True)
class Structure:
    """The pieces of a model. `cell` is the name of a built-in cell, or of a user's file with the text `cell_text`; head, loss and
    update rule likewise.

    `input` is one-hot, embedding or dense. `loss` is empty if the gradients of the output and of the last states are given from
    outside. `lengths` and `dropout` add masks as inputs: for rows of different lengths, and between each layer and the next;
    `resets` adds states that are set between two timesteps; with `inner`, states that are not the output get gradients from outside
    as well; with `script`, all states get those that come through what a script computes of them for the next timestep.
    `input_gradient` also derives the gradient of the input. `silent` names a line whose units can be held at 0 by a mask.
    """

    cell: str = "gru"
    cell_text: str = ""
    layers: Annotated[int, within(1, 1000)] = 1
    bidirectional: bool = False
    backwards: bool = False  # a model of one direction that reads the timesteps in reverse
    input: str = "one-hot"
    head: str = "linear"
    head_text: str = ""
    loss: str = "cross-entropy"
    loss_text: str = ""
    update: str = "sgd"
    update_text: str = ""
    clip: bool = False
    lengths: bool = False
    dropout: bool = False
    resets: bool = False
    inner: bool = False
    script: bool = False
    input_gradient: bool = False
    silent: str = ""


class Model:
    """The equations of a complete model: forward lines, derived backward lines, update rule, and the axes of every name. `title` is
    the title of the cell, with those of a head and a loss that are not the usual ones."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        cell, head, loss = (page_of(structure, kind) for kind in ("cell", "head", "loss"))
        assert cell is not None
        others = ((kind, page) for kind, page in (("head", head), ("loss", loss)) if page is not None)
        named = ((page.title or f"the {kind} {name}", name) for kind, page in others if (name := getattr(structure, kind)))
        unusual = (title for title, name in named if name not in (Structure.head, Structure.loss))
        self.title = "; ".join((cell.title or f"the cell {structure.cell}", *unusual))
        self.composed: Composed = compose(
            shipped("input", structure.input),
            cell,
            layers=structure.layers,
            bidirectional=structure.bidirectional,
            backwards=structure.backwards,
            head=head,
            loss=loss,
            user_files=tuple(getattr(structure, kind) for kind in own_kinds(structure)),
            lengths=structure.lengths,
            dropout=structure.dropout,
            resets=structure.resets,
            inner=structure.inner,
            script=structure.script,
            input_gradient=structure.input_gradient,
        )
        if structure.silent:
            unit = infer_axes(self.composed.page).get(structure.silent, ("",))[-1]
            self.composed = self.composed._replace(page=silenced(self.composed.page, structure.silent, unit))
        self.page: Page = self.composed.page
        self.axes: dict[str, Axes] = infer_axes(self.page)
        clipping = [shipped("update", "clip")] if structure.clip else []
        update = page_of(structure, "update")
        assert update is not None
        self.rule = UpdateRule([*clipping, update])
        self._check_names()
        words = {"V": "classes" if self.page.inputs[self.target].one_hot else "outputs"} if self.reads_series else {}
        self.writer = Writer(Symbols({**self.page.symbols, **self.rule.symbols, **self._update_symbols()}), words)

    def _check_names(self) -> None:
        """Raise `EquationError` for a name that both the equations and the update rule define."""
        rule_names = {line.target for line in self.rule.lines_of(self.parameters)} - set(self.parameters)
        for name in (*self.rule.settings, *rule_names):
            if name in self.axes and self.structure.update_text:
                message = f"{name} is also a name of the model; choose another one here"
                raise EquationError(message, self.rule.places.get(name), source=self.structure.update)
            if name in self.axes:
                message = f"{name} is also a name of the update rule {self.structure.update}; choose another one here"
                raise EquationError(message, self.page.places.get(name))

    def _update_symbols(self) -> dict[str, tuple[str, str]]:
        """Return the symbols of the update rule's vectors for each parameter: m̂_Wz for m_hat_Wz."""
        symbols, update_symbols = Symbols({**self.page.symbols, **self.rule.symbols}), dict[str, tuple[str, str]]()
        for target in (line.target for line in self.rule.lines if self.rule.is_vector(line.target) and line.target != WEIGHT):
            for name in self.parameters:
                written = f"{symbols.text(target)}_{symbols.text(name)}", rf"{{{symbols.latex(target)}}}_{{{symbols.latex(name)}}}"
                update_symbols[self.rule.name_for(target, name)] = written
        return update_symbols

    @cached_property
    def backward(self) -> Backward:
        """The derived backward pass; that of a model with silent units has the names that it has without them, and more."""
        silent = self.structure.silent
        return derive(self.page, self.axes, {of_all_units(silent): silent} if silent else {})

    @cached_property
    def distribution(self) -> Equation | None:
        """The line of the head or the loss that computes a probability for each of V classes, with a softmax; None if there is
        none."""
        layers = {target for layer in self.composed.layers for target in layer.lines}
        lines = (line for line in self.page.lines if line.target not in layers and self.axes[line.target][-1:] == ("V",))
        return next((line for line in lines if isinstance(line.formula, e.Apply) and line.formula.function == "softmax"), None)

    @cached_property
    def target(self) -> str:
        """The name of the target; empty without a loss."""
        return next((name for name, declared in self.page.inputs.items() if declared.target), "")

    @property
    def reads_series(self) -> bool:
        """True if inputs are numbers that are compared with targets: V counts classes or outputs, not characters."""
        return self.structure.input == "dense" and self.target != ""

    @cached_property
    def classifies(self) -> bool:
        """True if the model predicts a distribution over classes, of which the target is one."""
        return self.distribution is not None and self.target != "" and self.page.inputs[self.target].one_hot

    @cached_property
    def is_cross_entropy(self) -> bool:
        """True if the loss is the mean cross-entropy, in nats, also from a file of the user that has the same lines."""
        loss = page_of(self.structure, "loss")
        return loss is not None and _formulas(loss) == _formulas(shipped("loss", "cross-entropy"))

    @property
    def output(self) -> str:
        """The name of what the loss reads: the output of the head, or of the last layer without a head."""
        return next(iter(self.page.ends)) if self.structure.head else self.page.output

    @cached_property
    def prediction(self) -> str:
        """The name of what the model predicts, (B, V): its distribution, or what its loss reads; the output if it has no loss."""
        if self.distribution is not None:
            return self.distribution.target
        return self.output

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of all parameters, in the order of the equations."""
        return tuple(self.page.parameters)


@lru_cache(maxsize=32)
def model_of(structure: Structure) -> Model:
    """Return the model of a structure; cached. Raises `TuiGruError` for an error in an equation file."""
    try:
        model = Model(structure)
        _ = model.backward
    except EquationError as error:
        if structure.layers > 1 or structure.bidirectional:
            # The same error in the names of the file: in one layer and direction they have no suffix.
            model_of(replace(structure, layers=1, bidirectional=False))
        its = (kind for kind in own_kinds(structure) if str(error).startswith(f"{getattr(structure, kind)}:"))
        raise TuiGruError(str(error), option=KINDS[next(its, "cell")].option) from error
    return model


def _formulas(page: Page) -> list[tuple[str, Expression]]:
    return [(line.target, line.formula) for line in page.lines]


def own_kinds(structure: Structure) -> tuple[str, ...]:
    """Return the kinds of the pieces that come from files of the user."""
    return tuple(kind for kind in KINDS if getattr(structure, kind) and getattr(structure, f"{kind}_text", ""))


def page_of(structure: Structure, kind: str) -> Page | None:
    """Return the page of a piece, from the text of a user's file or built in; None if the model has no piece of this kind."""
    name, text = getattr(structure, kind), getattr(structure, f"{kind}_text", "")
    if not name:
        return None
    return read_page(text, name) if text else shipped(kind, name)
