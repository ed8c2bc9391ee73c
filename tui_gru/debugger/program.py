"""The program being debugged: its lines, the listing, and the names, kinds and ranges of its values."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, lru_cache
from typing import Any, NamedTuple
from unicodedata import normalize

import numpy as np

from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Config, Text, index_of
from tui_gru.engine.lowering import LineGroup, Schedule
from tui_gru.engine.model import WEIGHT, Model
from tui_gru.engine.source import Ability
from tui_gru.engine.training import Point
from tui_gru.engine.weights import Array
from tui_gru.equations import page as equations
from tui_gru.equations.axes import Axes, ranges_of
from tui_gru.equations.page import Layer
from tui_gru.equations.syntax import (
    Apply,
    EquationError,
    Expression,
    Name,
    Reduce,
    Sum,
    did_you_mean,
    split,
    with_word,
    without_label,
)
from tui_gru.equations.writing import Writer, bracketed
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# The listing of the training loop: its lines under the headings of loops and layers.


class ListingRow(NamedTuple):
    """A row of the listing: a line, the heading of a loop over `counter` (epoch, batch or t), or the heading of a layer in such a
    loop. `indent` is the level of indentation."""

    text: str
    indent: int
    line: ProgramLine | None = None
    counter: str = ""
    block: int = -1


def listing(program: Program) -> tuple[ListingRow, ...]:
    """Return the rows of the listing, from top to bottom."""
    T, reset, source = program.seq_length, program.config.carry == "reset", program.config.source
    trains = source.can(Ability.TRAIN)
    begin = "0" if trains else "h0"
    first = ListingRow(" = ".join((*(program.writer.name(state) for state in program.model.page.states), begin)), 2 if reset else 1)
    rows = [ListingRow("for epoch in 1, 2, …:" if trains else f"for epoch in 1: # {source.title}", 0, counter="epoch")]
    if not reset:
        rows.append(first)
    rows.append(ListingRow(f"for batch in 1…{program.num_batches}:", 1, counter="batch"))
    if reset:
        rows.append(first)
    for block in program.blocks:
        if block.direction:
            heading = f"for t in 1…{T}:" if block.direction > 0 else f"for t in {T}…1:"
            rows.append(ListingRow(heading, 2, counter="t", block=block.number))
        heading = ""
        for line in block.lines:
            heading, before = _heading(program, line) if block.direction else "", heading
            if heading != before:
                rows.append(ListingRow(f"# {heading}", 3, block=block.number))
            rows.append(ListingRow(line.text, 3 if block.direction else 2, line, block=block.number))
    return tuple(rows)


def _heading(program: Program, line: ProgramLine) -> str:
    """Return the heading of a layer, with the suffix of its names, if there are several layers or directions."""
    if len(program.layers) == 1:
        return ""
    layer = program.layer_with(line.target)
    if layer is None:
        return "input" if _is_of_input(program, line) else "head and loss"
    if split(line.target)[0] in ("out", "dout"):
        count = program.layers[-1].number + 1
        return "both directions" if count == 1 else f"layer {layer.number + 1} of {count}, both directions"
    return f"{program.layer_name(layer)}: …{layer.suffix}"


def layer_at(program: Program, line: ProgramLine | None) -> Layer:
    """Return the layer of a line; for a line of the input the first, for one of the head and loss the main layer."""
    if line is None:
        return program.main_layer
    return program.layer_with(line.target) or (program.layers[0] if _is_of_input(program, line) else program.main_layer)


def _is_of_input(program: Program, line: ProgramLine) -> bool:
    """Return True if a line outside the layers belongs to the input, such as an embedding, and not to the head and loss."""
    below = program.layers[0].reads
    return line.target in (below, f"d{below}") or program.input in line.reads


# ------------------------------------------------------------------------------
# All names of a run, with their kinds and the meaning of their axes.


#: Numbers of a batch that exist in every model.
NUMBERS = ("loss", "grad_norm", "max_weight")
#: The place in time. In conditions, watches and log lines they count from 1; `step` counts the batches of the whole run.
COUNTERS = ("epoch", "batch", "t", "step")
CHARACTERS = ("char", "target")
#: What an axis counts, in words.
_COUNTED = {"B": "row", "V": "character", "H": "unit", "D": "column", "I": "input"}


def axis_word(axis: str, model: Model) -> str:
    """Return what an axis counts, in words."""
    if axis == "V" and model.reads_series and not model.page.inputs[model.target].one_hot:
        return "output"
    return _COUNTED.get(axis, f"{axis} ")


class Spellings(dict[str, str]):
    """Every spelling of a readable name of `program`, and the name in code; `tokens` are those of its vocabulary that are longer
    than a character."""

    program: Program
    tokens: frozenset[str] = frozenset()


class Store(Enum):
    """The part of a record that holds the numbers of a name."""

    ARRAY = "its own array"  # of all timesteps, if every timestep has a value
    WEIGHTS = "the vector of all weights"  # with the states of the update rule; one before the update, one after it
    GRADIENTS = "the vector of all gradients"
    VECTORS = "the vectors of the update rule"
    NUMBERS = "the numbers of the batch"
    SETTINGS = "the settings of the update rule"
    NOTHING = "none: it follows from the position"


class ValueKind(Enum):
    """The kind of a name, with what the program does with names of this kind.

    `word` is the kind in words, `store` where the numbers lie. `editable`: they can be changed in any run. `is_derivative`: they
    are derivatives of the loss. `is_read`: no line computes them before the timestep that reads them. `tested` says when a stop can
    test them: when a `timestep` begins, after the `line` that computes them, as soon as they can be `read`, when the sum over the
    timesteps is `whole`, or at no place of their own. `title` is their group in the list of arrays.
    """

    # fmt: off
    #                  word               store            editable derivative read tested    title
    INPUT =           ("input",           Store.ARRAY,     False, False, True,  "timestep", "")
    STATE =           ("state",           Store.ARRAY,     True,  False, True,  "read",     "values at this timestep")
    VALUE =           ("value",           Store.ARRAY,     True,  False, False, "line",     "values at this timestep")
    VALUE_GRADIENT =  ("value gradient",  Store.ARRAY,     True,  True,  False, "read",     "their gradients")
    PARAMETER =       ("parameter",       Store.WEIGHTS,   True,  False, False, "line",     "parameters")
    GRADIENT =        ("gradient",        Store.GRADIENTS, True,  True,  False, "whole",    "gradients")
    OPTIMIZER_STATE = ("optimizer state", Store.WEIGHTS,   True,  False, False, "line",     "")
    UPDATE_VALUE =    ("update value",    Store.VECTORS,   True,  False, False, "line",     "")
    NUMBER =          ("number",          Store.NUMBERS,   False, False, False, "line",     "")
    SETTING =         ("setting",         Store.SETTINGS,  False, False, False, "",         "")
    COUNTER =         ("counter",         Store.NOTHING,   False, False, False, "",         "")
    CHARACTER =       ("character",       Store.NOTHING,   False, False, False, "timestep", "")
    # fmt: on

    def __init__(
        self, word: str, store: Store, editable: bool, is_derivative: bool, is_read: bool, tested: str, title: str
    ) -> None:
        self.word, self.store, self.editable, self.is_derivative = word, store, editable, is_derivative
        self.is_read, self.tested, self.title = is_read, tested, title

    @property
    def is_weight(self) -> bool:
        """True for parameters and for states of the update rule, which are copied before and after every update."""
        return self.store is Store.WEIGHTS

    @property
    def per_batch(self) -> bool:
        """True if there is one array a batch, whatever the timesteps."""
        return self.store in (Store.WEIGHTS, Store.GRADIENTS, Store.VECTORS)

    @property
    def learned(self) -> bool:
        """True for what only a batch that learns has."""
        return self.is_derivative or self.store is Store.VECTORS


@dataclass(frozen=True)
class ProgramName:
    """One name. `axes` are the axes of its value at one timestep, `counted` their meanings in words: row (of the batch), unit,
    character; column for one that joins different ones. `timed` says whether every timestep has its own value.

    `read_in`, for a state that is read or a gradient from the next timestep, is the line that reads it, in the same timestep. `of`
    is the parameter that a gradient, or a value of the update rule, belongs to; `vector` is that value in the rule: m of m_Wz.
    """

    name: str
    kind: ValueKind
    axes: Axes
    counted: tuple[str, ...] = ()
    timed: bool = False
    read_in: str = ""
    of: str = ""
    vector: str = ""

    def array(self, record: BatchRecord, *, after: bool = True) -> Array:
        """Return its array in a record: of all timesteps, (T, …), if it is timed. Writing into it changes the record.

        Weights are those after the update, or before it.
        """
        match self.kind.store:
            case Store.WEIGHTS:
                return (record.after if after else record.before)[self.name]
            case Store.GRADIENTS:
                return record.own_gradients[self.of]
            case Store.VECTORS:
                return record.vector(self.vector)[self.of]
        return record.array(self.name)

    def complete(self, record: BatchRecord, t: int | None = None) -> Array:
        """Return its value in a complete record: of one timestep, (B, ·), or of the whole batch; () for a scalar."""
        if self.kind.store is Store.NUMBERS:
            scalars = {"loss": record.loss, "grad_norm": record.grad_norm, "max_weight": record.max_weight}
            return np.asarray(scalars[self.name] if self.name in scalars else record.numbers[self.name], np.float64)
        array = self.array(record)
        return np.asarray(array if t is None or self.kind.per_batch else array[t])


def named_values(
    model: Model, schedule: Schedule, update: Sequence[ProgramLine], *, backward: bool = True, upstream: bool = False
) -> Mapping[str, ProgramName]:
    """Return every name of a model, in the order of the equations; without `backward`, of its forward pass only.

    `upstream` is True if the program has a line for the upstream gradients, those from outside. Raises `TuiGruError` if the
    cell has a name that every run has, such as epoch.
    """
    page, names = model.page, dict[str, ProgramName]()
    for name in (*NUMBERS[1:], *COUNTERS[:3], *CHARACTERS):  # the loss is a line of the model; a cell may have a step of its own
        if name in model.axes:
            error = EquationError(f"{name} is also a name of every run; choose another one here", page.places.get(name))
            raise TuiGruError(str(error), option="cell")

    def add(name: str, kind: ValueKind, axes: Axes, read_in: str = "", of: str = "", vector: str = "") -> None:
        row_axes = tuple(axis for axis in axes if axis != "T")
        words = [dict.fromkeys(axis_word(part, model) for part in axis.split("+")) for axis in row_axes]
        units = tuple("column" if len(axis_words) > 1 else next(iter(axis_words)) for axis_words in words)
        names.setdefault(name, ProgramName(name, kind, row_axes, units, "T" in axes, read_in, of, vector))

    def add_lines(phase: str, kind: ValueKind) -> None:
        gradients = {f"d{name}" for name in page.parameters}
        for line in schedule.phases[phase].lines:
            if line.target in gradients:
                continue
            for node in reversed(tuple(line.formula.walk())):  # inner parts first
                if node.label and schedule.named[node.label].phase == phase:
                    add(node.label, kind, schedule.named[node.label].axes)
            if line.target != "loss":
                add(line.target, kind, schedule.named[line.target].axes)

    for name in page.inputs:
        add(name, ValueKind.INPUT, model.axes[name])
    for state in page.states:
        add(page.before(state), ValueKind.STATE, model.axes[state], state)
    add_lines("forward", ValueKind.VALUE)
    for output in page.outputs if backward else ():
        add(with_word(f"d{output}", "given"), ValueKind.VALUE_GRADIENT, model.axes[output], "" if upstream else f"d{output}")
    for state in page.states if backward else ():
        add(page.received(state), ValueKind.VALUE_GRADIENT, model.axes[state], f"d{page.before(state)}")
    if backward:
        add_lines("backward", ValueKind.VALUE_GRADIENT)
    for name in page.parameters:
        add(name, ValueKind.PARAMETER, model.axes[name])
    for name in page.parameters if backward else ():
        add(f"d{name}", ValueKind.GRADIENT, model.axes[name], of=name)
    rule = model.rule
    targets = dict.fromkeys(line.target for line in rule.lines if rule.is_vector(line.target) and line.target != WEIGHT)
    for target in targets if update else ():
        for name in page.parameters:
            kind = ValueKind.OPTIMIZER_STATE if target in rule.states else ValueKind.UPDATE_VALUE
            add(rule.name_for(target, name), kind, model.axes[name], of=name, vector=target)
    for name in dict.fromkeys((*NUMBERS, *(rule.scalars if update else ()))):
        if backward or name != "grad_norm":
            add(name, ValueKind.NUMBER, ())
    for name in rule.settings if update else ():
        add(name, ValueKind.SETTING, ())
    for name in COUNTERS:
        add(name, ValueKind.COUNTER, ())
    for name, of_target in zip(CHARACTERS, (False, True), strict=True) if update else ():
        if any(declared.one_hot and declared.target == of_target for declared in page.inputs.values()):
            add(name, ValueKind.CHARACTER, ("T", "B"))
    return names


def unknown_name(name: str, names: Sequence[str]) -> str:
    """Return the message for an unknown name, with similar names."""
    return f"there is no value named {name!r}; {did_you_mean(name, names)}"


# ------------------------------------------------------------------------------
# The program being debugged: a table of every line of the training loop, derived from the equations of the model.
#
# The listing, stepping, breakpoints, the display of the current line and the derivations all use this table.


@dataclass(frozen=True)
class ProgramLine:
    """One line: it computes `target` (with `op` =, +=, or -=) from `formula`. With carry `notebook`, one line has no formula.

    `note` explains the line in a sentence; `block` is the number of its block.
    """

    target: str
    phase: str
    formula: Expression | None = field(default=None, compare=False)
    op: str = field(default="=", compare=False)
    note: str = field(default="", compare=False)
    writer: Writer | None = field(default=None, compare=False, repr=False)
    block: int = field(default=0, compare=False)

    @cached_property
    def text(self) -> str:
        """The line as on-screen text."""
        if self.formula is None or self.writer is None:
            return self.note
        return self.writer.line(self.target, self.op, self.formula)

    @cached_property
    def latex(self) -> str:
        if self.formula is None or self.writer is None:
            return rf"\text{{{self.note}}}"
        return self.writer.line_latex(self.target, self.op, self.formula)

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The names that it reads, each once, from left to right."""
        return tuple(dict.fromkeys(self.formula.names())) if self.formula is not None else ()


@dataclass(frozen=True, eq=False)
class LineBlock:
    """Lines that are executed together: `steps` times in a loop over t in the direction `direction`, or once (`direction` 0).

    `start` is the number of ticks of the batch before this block.
    """

    number: int
    phase: str
    direction: int
    lines: tuple[ProgramLine, ...]
    start: int
    steps: int

    @property
    def end(self) -> int:
        """The tick of its last line in its last step."""
        return self.start + self.steps * len(self.lines)

    def timestep(self, step: int) -> int:
        """Return the timestep of a step (both 0-based); the last one if the lines are executed once."""
        return step if self.direction > 0 else self.steps - 1 - step

    def step_of(self, t: int) -> int:
        """Return the step of timestep `t` (both 0-based)."""
        return 0 if not self.direction else t if self.direction > 0 else self.steps - 1 - t


class LossNames(NamedTuple):
    """The names of the loss: the prediction, and the terms per character, per row and per timestep; empty if there is none."""

    prediction: str
    entry: str
    row: str
    timestep: str


class Program:
    """The table for one config, and the arithmetic of its ticks.

    Every batch has `ticks` ticks, whether it learns or not: the lines of its blocks in order. At tick k of a batch (1-based), its
    k-th line has been executed.
    """

    def __init__(self, config: Config) -> None:
        self.config, self.model = config, config.model
        self.num_batches, self.seq_length = config.num_batches, config.seq_length
        self.writer = self.model.writer
        schedule = config.compiled.schedule
        blocks: list[LineBlock] = []

        def add(phase: str, direction: int, lines: tuple[ProgramLine, ...]) -> None:
            start = blocks[-1].end if blocks else 0
            blocks.append(LineBlock(len(blocks), phase, direction, lines, start, self.seq_length if direction else 1))

        def lines_of(segment_lines: tuple[equations.Equation, ...], phase: str) -> tuple[ProgramLine, ...]:
            number = len(blocks)
            return tuple(
                ProgramLine(x.target, phase, _shares(x) if x.op == "+=" else x.formula, x.op, x.note, self.writer, number)
                for x in segment_lines
            )

        def add_segments(segments: tuple[LineGroup, ...], phase: str) -> None:
            for segment in segments:
                once = phase == "forward" and not segment.direction and segment is segments[-1]
                add("loss" if once else phase, segment.direction, lines_of(segment.lines, "loss" if once else phase))

        add_segments(schedule.phases["forward"].segments, "forward")
        self.loss_tick = blocks[-1].end
        source = config.source
        self.goes_back, self.knows_loss = source.can(Ability.BACKWARD), source.can(Ability.LOSS)
        self.upstream: tuple[ProgramLine, ...] = ()
        if self.goes_back and not source.can(Ability.TRAIN):
            target = with_word(f"d{self.model.page.outputs[0]}", "given")
            words = f"{self.writer.name(target)} = from your head and loss"
            self.upstream = (ProgramLine(target, "backward", note=words, block=len(blocks)),)
            add("backward", 0, self.upstream)
        if self.goes_back:
            add_segments(schedule.phases["backward"].segments, "backward")
        self.earlier: tuple[ProgramLine, ...] = ()
        if config.carry == "notebook":
            words = "on into the batches before, back to the epoch's first"
            self.earlier = (ProgramLine("earlier", "backward", note=words, block=len(blocks)),)
            add("backward", 0, self.earlier)
        self.backward_end = blocks[-1].end
        trains = source.can(Ability.TRAIN)
        self.update = lines_of(self.model.rule.lines_of(self.model.parameters), "update") if trains else ()
        if self.update:
            add("update", 0, self.update)
        self.blocks = tuple(blocks)
        self.ticks = blocks[-1].end
        self._starts = [block.start for block in blocks]
        self._readable_from: dict[tuple[str, int], int | None] = {}
        self._place = {line.target: (block, i) for block in blocks for i, line in enumerate(block.lines)}
        self.names: Mapping[str, ProgramName] = named_values(
            self.model, schedule, self.update, backward=self.goes_back, upstream=bool(self.upstream)
        )

    # Names

    def __repr__(self) -> str:
        return f"<program of {self.model.title}: {len(self.rows)} rows, {self.ticks} ticks a batch>"

    @cached_property
    def readable(self) -> tuple[str, ...]:
        """Every name that a condition, a watch or `Session.value` can read."""
        return tuple(self.names)

    def names_of(self, *kinds: ValueKind) -> tuple[str, ...]:
        """Return the names of the given kinds, in the order of the equations."""
        return tuple(name for name, named in self.names.items() if named.kind in kinds)

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The names of all parameters."""
        return self.model.parameters

    @cached_property
    def weights(self) -> tuple[str, ...]:
        """The names of all parameters and of the states of the update rule."""
        return tuple(name for name, named in self.names.items() if named.kind.is_weight)

    @cached_property
    def values(self) -> tuple[str, ...]:
        """The names that the forward pass computes or reads at every timestep."""
        return self.names_of(ValueKind.INPUT, ValueKind.STATE, ValueKind.VALUE)

    @cached_property
    def deltas(self) -> tuple[str, ...]:
        """The names of the gradients of values, one per timestep."""
        return self.names_of(ValueKind.VALUE_GRADIENT)

    def direction_of(self, name: str) -> int:
        """Return the direction in which the timesteps of `name` are computed, 1 or −1; 0 for a value of the whole batch."""
        named = self.names[name]
        if not named.timed and name != "t":
            return 0
        place = self.place_of(named.read_in or name)
        return (place[0].direction or -1) if place is not None else 1

    # Lines

    @cached_property
    def lines(self) -> Mapping[str, ProgramLine]:
        """Every line with a formula, by target. A line of the update has the name of its parameter."""
        return {line.target: line for block in self.blocks for line in block.lines if line.formula is not None}

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """The names that lines compute, in the order of the listing, also of lines without a formula."""
        return tuple(self._place)

    @cached_property
    def _nodes(self) -> tuple[tuple[str, Expression], ...]:
        """Every part of every formula, with the target of its line."""
        lines = ((target, line.formula) for target, line in self.lines.items())
        return tuple((target, node) for target, formula in lines if formula is not None for node in formula.walk())

    @cached_property
    def _labelled(self) -> Mapping[str, tuple[str, Expression]]:
        parts: dict[str, tuple[str, Expression]] = {}
        for target, node in self._nodes:
            if node.label:
                parts.setdefault(node.label, (target, node))
        return parts

    @cached_property
    def parts(self) -> Mapping[str, Expression]:
        """The labelled parts of lines, by label: (1 − z), r⊙h_prev, pre-activations, paths of gradients."""
        return {label: part for label, (_, part) in self._labelled.items()}

    @cached_property
    def written_with(self) -> Mapping[str, str]:
        """For each labelled part, the target of the first line that contains it."""
        return {label: target for label, (target, _) in self._labelled.items()}

    @cached_property
    def factors(self) -> frozenset[str]:
        """The parts that are factors in parentheses, such as r⊙h_prev before Uh; a line can be written with their values."""
        return frozenset(factor.label for _, node in self._nodes for factor in bracketed(node) if factor.label)

    @cached_property
    def preactivations(self) -> frozenset[str]:
        """The parts that are arguments of a function: az, ar, ah."""
        return frozenset(part.label for _, node in self._nodes if isinstance(node, Apply) for part in node.parts if part.label)

    @cached_property
    def spellings(self) -> Spellings:
        """Every spelling of a readable name, in code and on screen, with its code spelling."""
        shown = {self.writer.name(name): name for name in self.names}
        spellings = Spellings({**shown, **{name: name for name in self.names}})
        spellings.program = self
        spellings.tokens = frozenset(token for token in self.config.vocabulary if len(token) > 1)
        return spellings

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each readable name: of its value at one timestep."""
        return {name: self.config.compiled.shape(named.axes) for name, named in self.names.items()}

    @cached_property
    def indices(self) -> Mapping[str, int]:
        """The index of each character or longer token of the vocabulary; empty without a vocabulary."""
        return index_of(self.config.vocabulary) if self.config.vocabulary else {}

    def code_name(self, typed: str) -> str:
        """Return the code spelling of a typed name: h_prev for hₜ₋₁. An unknown name is returned unchanged."""
        return self.spellings.get(normalize("NFC", typed), typed)

    def made_by(self, name: str) -> tuple[Expression, str]:
        """Return the formula of a line or labelled part, and its text."""
        if (line := self.lines.get(name)) is not None and line.formula is not None:
            return line.formula, line.text
        formula = self.parts[name]
        return formula, f"{self.writer.name(name)} = {self.writer.text(formula)}"

    @cached_property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """The range of the values of each name, as far as the equations bound it."""

        return ranges_of(self.model.page)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, each in one direction, in the order of the equations."""
        return self.model.composed.layers

    def layer_with(self, name: str) -> Layer | None:
        """Return the layer whose suffix a name has; None for a name without a suffix."""
        suffix = split(name)[1]
        return next((layer for layer in self.layers if suffix and layer.suffix == suffix), None)

    def parameters_with(self, layer: Layer) -> tuple[str, ...]:
        """Return the parameters of a layer, and those without a layer (of the input and of the head)."""
        return self._parameters_by_suffix[layer.suffix]

    @cached_property
    def _parameters_by_suffix(self) -> Mapping[str, tuple[str, ...]]:
        suffixes = {name: layer.suffix for name in self.parameters if (layer := self.layer_with(name)) is not None}
        return {
            layer.suffix: tuple(name for name in self.parameters if suffixes.get(name, layer.suffix) == layer.suffix)
            for layer in self.layers
        }

    @cached_property
    def main_layer(self) -> Layer:
        """The last layer that reads forwards, or the only layer."""
        return self.layers[-2 if self.config.bidirectional else -1]

    def layer_name(self, layer: Layer) -> str:
        """Return `layer 1 of 2`; in a bidirectional model `layer 1 of 2 ←`, or `backwards ←` if there is one layer."""
        count, arrow = self.layers[-1].number + 1, "←" if layer.backwards else "→"
        if count == 1:
            return f"{'backwards' if layer.backwards else 'forwards'} {arrow}"
        return f"layer {layer.number + 1} of {count}{f' {arrow}' if self.config.bidirectional else ''}"

    @cached_property
    def input(self) -> str:
        """The name of the input."""
        return next(name for name, variable in self.model.page.inputs.items() if not variable.target)

    @property
    def target(self) -> str:
        """The name of the target; empty without a loss."""
        return self.model.target

    def tokens_of(self, name: str) -> str | None:
        """Return the input whose tokens `name`, character or target, spells out; None if that input has none."""
        of_target = name == "target"
        inputs = self.model.page.inputs.items()
        return next((key for key, variable in inputs if variable.one_hot and variable.target == of_target), None)

    @cached_property
    def loss_names(self) -> LossNames:
        """The names that the loss computes, by their axes."""
        of_layers = {line.target for layer in self.layers for line in self.lines.values() if line.target in layer.lines}
        rest = [line for block in self.blocks if block.phase == "forward" for line in block.lines if line.target not in of_layers]
        after = [x.target for x in rest if self.target and self.target in self._read_by(x.target)]
        by_axes = {self.names[name].axes: name for name in reversed(after)}  # of several lines with the same axes, the first
        row = by_axes.get(("B",), "")
        match self.lines[row].formula if row else None:
            case Reduce(argument=Name(name=entry)):
                pass
            case _:
                entry = next((name for name in after if len(self.names[name].axes) == 2), "")
        return LossNames(self.model.prediction, entry, row, by_axes.get((), ""))

    def _read_by(self, name: str) -> set[str]:
        """Return all names that a line depends on."""
        names: set[str] = set()
        waiting = [name]
        while waiting:
            line = self.lines.get(waiting.pop())
            new = set(line.reads if line is not None and line.phase in ("forward", "loss") else ()) - names
            names |= new
            waiting += new
        return names

    @cached_property
    def of_head(self) -> tuple[str, ...]:
        """The parameters of the head: Wy and by."""
        in_layers = {name for layer in self.layers for target in layer.lines for name in self.lines[target].reads}
        before = self.model.page.inputs
        first = {name for line in self.lines.values() if any(read in before for read in line.reads) for name in line.reads}
        return tuple(name for name in self.parameters if name not in in_layers and name not in first)

    @cached_property
    def matrices_by_gate(self) -> tuple[tuple[str, ...], ...]:
        """The matrices outside the head, grouped by the line that reads them: Wz Uz, Wr Ur, Wh Uh."""
        matrices = [name for name in self.parameters if name not in self.of_head and len(self.names[name].axes) == 2]
        groups: list[tuple[str, ...]] = []
        for block in self.blocks:
            for line in block.lines if block.phase == "forward" else ():
                together = tuple(name for name in line.reads if name in matrices and not any(name in group for group in groups))
                groups += [together] if together else []
        return tuple(groups)

    @cached_property
    def main_state(self) -> str:
        """The state that the last layer outputs: h."""
        layer = self.main_layer
        return layer.output if layer.output in layer.states else layer.states[0]

    def state_receiving(self, name: str) -> str | None:
        """Return the state of which `name` is the gradient from the timestep that reads it; None for any other name."""
        return next((state for state in self.model.page.states if self.model.page.received(state) == name), None)

    # Ticks

    def block_at(self, k: int) -> tuple[LineBlock, int, int]:
        """Return the block of tick k of a batch (1 ≤ k ≤ ticks), the step in it, and the index of the line in it.

        Steps and indices are 0-based.
        """
        block = self.blocks[bisect_right(self._starts, k - 1) - 1]
        step, index = divmod(k - 1 - block.start, len(block.lines))
        return block, step, index

    def line_at(self, k: int) -> tuple[ProgramLine, int]:
        """Return the line executed at tick k of a batch, 1 ≤ k ≤ ticks, and its timestep (the last one outside loops over t)."""
        block, step, index = self.block_at(k)
        return block.lines[index], block.timestep(step) if block.direction else self.seq_length - 1

    def counter(self, name: str, batch: Any) -> Any:
        """Return epoch, batch or step of a batch, or of an array of them, as conditions count them: from 1.

        `batch` is counted through all epochs, 0-based. In a recording, a step has the number that it has there.
        """
        match name:
            case "epoch":
                return batch // self.num_batches + 1
            case "batch":
                return batch % self.num_batches + 1
        return self._steps[batch] if len(self._steps) else batch + 1

    @cached_property
    def _steps(self) -> Array:
        return np.array(self.config.source.steps, np.int64)

    def place_of(self, name: str) -> tuple[LineBlock, int] | None:
        """Return the block that computes `name`, and the index of the line in it; None for a name that no line computes."""
        return self._place.get(self.written_with.get(name, name))

    def tick_of(self, name: str, t: int | None = None) -> int | None:
        """Return the tick within a batch at which `name` is computed; `t` is the timestep for a line in a loop over t.

        A part of a line is computed with the line. None for a name that no line computes.
        """
        place = self.place_of(name)
        if place is None:
            return None
        block, index = place
        step = block.step_of(self.seq_length - 1 if t is None else t)
        return block.start + step * len(block.lines) + index + 1

    def readable_from(self, name: str, t: int | None = None) -> int | None:
        """Return the tick within a batch from which on `name` of timestep `t` can be read; None if it can always be read.

        This is when it is computed, or when the timestep that reads it begins.
        """
        key = name, self.seq_length - 1 if t is None else t
        if key not in self._readable_from:  # panels ask for each number that they show at each step
            self._readable_from[key] = self._begins_to_be_readable(*key)
        return self._readable_from[key]

    def _begins_to_be_readable(self, name: str, t: int) -> int | None:
        named = self.names[name]
        if named.kind.is_read and not named.read_in:  # an input
            return min(self.begin_of(block, t) for block in self.blocks if block.phase == "forward") + 1
        if named.read_in:
            place = self.place_of(named.read_in)
            assert place is not None
            return self.begin_of(place[0], t) + 1
        return self.tick_of(name, t)

    def begin_of(self, block: LineBlock, t: int) -> int:
        """Return the number of ticks of a batch before a block begins timestep `t`."""
        return block.start + block.step_of(t) * len(block.lines)

    def end_of_timestep(self, t: int) -> int:
        """Return the tick within a batch at which the forward pass has completed timestep `t`."""
        block = next(block for block in reversed(self.blocks) if block.phase == "forward" and block.direction)
        return self.begin_of(block, t) + len(block.lines)

    def steps_done(self, name: str, offset: int) -> int:
        """Return the number of steps that have executed the line of `name` after `offset` ticks of a batch."""
        place = self.place_of(name)
        assert place is not None
        block, index = place
        return min(max((offset - block.start - index - 1) // len(block.lines) + 1, 0), block.steps)

    def complete_at(self, name: str) -> int:
        """Return the tick within a batch at which the gradient of a parameter is complete.

        With carry `notebook` this is the end of the backward pass.
        """
        place = self.place_of(name)
        assert place is not None
        block, index = place
        return self.backward_end if self.earlier else block.end - len(block.lines) + index + 1

    def point_after(self, offset: int) -> Point:
        """Return the place in the engine's terms after `offset` ticks of a batch: what has been computed by then."""
        if offset >= self.backward_end:
            return Point("update", done=offset - self.backward_end)
        phase = "backward" if offset > self.loss_tick else "forward"
        blocks = [
            block for block in self.blocks if (block.phase == "backward") == (phase == "backward") and block.phase != "update"
        ]
        blocks = [block for block in blocks if block.lines not in (self.earlier, self.upstream)]
        for number, block in enumerate(blocks):
            if offset < block.end:
                step, done = divmod(max(offset - block.start, 0), len(block.lines))
                return Point(phase, number, step, done)
        return Point(phase, len(blocks) - 1, blocks[-1].steps - 1, len(blocks[-1].lines))

    def last_loss(self, tick: int) -> int:
        """Return the newest batch whose loss has been computed by a tick; −1 if none."""
        number, k = divmod(tick - 1, self.ticks)
        return number if k + 1 >= self.loss_tick else number - 1

    @cached_property
    def rows(self) -> tuple[ListingRow, ...]:
        """The listing, from top to bottom."""
        return listing(self)


def _shares(line: equations.Equation) -> Expression:
    """Return the contribution of one timestep to a gradient, without the labels of sums over all timesteps of several lines."""
    path = f"{split(line.target)[0]}_"
    paths = tuple(without_label(term) if term.label.startswith(path) else term for term in line.formula.terms)
    return line.formula.with_children(paths) if isinstance(line.formula, Sum) else line.formula


@lru_cache(maxsize=8)
def program_of(config: Config) -> Program:
    """Return the table of a config, cached."""
    return Program(config)


# ------------------------------------------------------------------------------
# The names along which the gradient of a state flows back through time.


class FlowNames(NamedTuple):
    """The names along which the gradient of a state flows through time.

    `delta` is the gradient of the state, `local` its part from this timestep (empty if it has no name), `received` its part from
    the timestep that reads the state. `handed_on` is the gradient passed on to the previous state, and `paths` are its terms. The
    gradient flows through the timesteps in `direction`, 1 or −1.
    """

    delta: str
    local: str
    received: str
    handed_on: str
    paths: tuple[str, ...]
    direction: int


def flow_names(program: Program, state: str) -> FlowNames:
    """Return the names along which the gradient of a state flows."""
    page = program.model.page
    received, handed_on = page.received(state), f"d{page.before(state)}"
    line = program.lines[f"d{state}"]
    assert line.formula is not None
    local_terms = [term.label for term in line.formula.terms if not (isinstance(term, Name) and term.name == received)]
    terms = program.lines[handed_on].formula
    assert terms is not None
    paths = tuple(term.label or (term.name if isinstance(term, Name) else "") for term in terms.terms)
    place = program.place_of(f"d{state}")
    assert place is not None
    named = paths if all(paths) else (handed_on,)
    return FlowNames(f"d{state}", local_terms[0] if len(local_terms) == 1 else "", received, handed_on, named, place[0].direction)


# ------------------------------------------------------------------------------
# Writes one entry of a value, in words and as it is typed, and shows characters of a text.


_SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\x7f": "␡", "\xa0": "⍽"}
_CONTROLS = "".join(chr(0x2400 + code) for code in range(0x20))
_MERGING = range(0x1160, 0x1200), range(0xD7B0, 0xD800)  # vowels and finals of Hangul, which combine with the consonant before them
#: Variation selectors and modifiers, which only change the character before them, and fillers.
_HIDDEN = frozenset((*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x1F3FB, 0x1F400), 0x3164, 0xFFA0))


def brackets(index: Sequence[int]) -> str:
    """Return an index as it is typed: `[2, 1]`."""
    return f"[{', '.join(map(str, index))}]"


def no_entry(program: Program, name: str, shape: Sequence[int], index: Sequence[int]) -> str:
    """Return the message for an index that an array of this shape does not have."""
    size, first = " x ".join(map(str, shape)), spoken_index(program, name, [0] * len(shape))
    if not shape:
        return f"{name} is one number and has no entry {brackets(index)}"
    if not index:
        return f"{name} has the shape {size}; name an entry of it, such as {name}[{first}]"
    return f"{name} has the shape {size} and no entry {brackets(index)}; numbers alone count from 0; its first entry is [{first}]"


def spoken_index(program: Program, name: str, index: Sequence[int | None]) -> str:
    """Return an index in words, counted from 1: `row 2, unit 1`; `“M”, unit 1` with a character. Empty for a scalar. None, which
    stands for all along its axis, is left out."""
    parts = zip(program.names[name].axes, index, strict=True)
    return ", ".join(axis_index_in_words(program, axis, i) for axis, i in parts if i is not None)


def spoken(program: Program, name: str, index: Sequence[int | None]) -> str:
    """Return one entry in words, counted from 1: `h[row 2, unit 1]`; or all of a row, a unit or a value: `h[unit 1]`, `h`."""
    where = spoken_index(program, name, index)
    return f"{program.writer.name(name)}[{where}]" if where else program.writer.name(name)


def number_along(program: Program, axis: str, i: int) -> tuple[str, int]:
    """Return what an index along an axis counts, and its number among those, 0-based: V+H counts characters, then units."""
    parts = axis.split("+")
    if len(parts) == 1 or i < 0:
        return (axis_word(axis, program.model) if len(parts) == 1 else "column"), i
    before: Counter[str] = Counter()
    for part in parts:
        word, size = axis_word(part, program.model), program.config.compiled.sizes[part]
        if i < size:
            return word, i if word == "character" else before[word] + i
        before[word] += size
        i -= size
    raise IndexError(axis)


def words_along(program: Program, axis: str) -> tuple[str, ...]:
    """Return what the indices along an axis count, in words: character and unit for V+H."""
    return tuple(dict.fromkeys(axis_word(part, program.model).strip() for part in axis.split("+")))


def index_along(program: Program, axis: str, word: str, number: int) -> int:
    """Return the index along an axis of the `number`-th row, unit and so on, 0-based: the inverse of `number_along`.

    Without a word, or for a column, all are counted. Raises `IndexError` with their number if there are fewer.
    """
    parts = axis.split("+")
    start = before = 0
    for part in parts:
        size = program.config.compiled.sizes[part]
        fits = word in ("", "column", "token") or axis_word(part, program.model).strip() == word
        if fits and 0 <= number < before + size:
            return start + number - before
        if len(parts) == 1 and -size <= number < 0:
            return number
        start, before = start + size, before + size * fits
    raise IndexError(before)


def axis_index_in_words(program: Program, axis: str, i: int) -> str:
    """Return one index (0-based) along an axis in words: `row 2`, `“M”`; a negative index as typed."""
    return index_in_words(*number_along(program, axis, i), program.config.vocabulary)


def index_in_words(axis: str, i: int, vocabulary: Text) -> str:
    """Return one index (0-based) along the axis `row`, `unit` or `character`, in words; a negative index as typed."""
    return character(i, vocabulary) if axis == "character" else f"{axis} {i + 1 if i >= 0 else i}"


def character(i: int, vocabulary: Text) -> str:
    """Return a character by its index (0-based): `“M”`; without a vocabulary `token 12`."""
    return f"“{shown_char(vocabulary[i])}”" if vocabulary else f"token {i}"


@lru_cache(maxsize=8192)
def shown_char(char: str) -> str:
    """Return a visible form of a character, one or two cells wide, independent of its neighbours.

    Spaces, newlines, tabs and other control characters have their own signs; a mark that would combine with the character before
    it is shown on a dotted circle; any other invisible character is `�`. For a longer token, each of its characters.
    """
    if len(char) > 1:
        return "".join(map(shown_char, char))
    code = ord(char)
    if char in _SIGNS:
        return _SIGNS[char]
    if code < len(_CONTROLS):
        return _CONTROLS[code]
    if code in _HIDDEN or not char.isprintable():
        return "\ufffd"
    merges = unicodedata.category(char)[0] == "M" or any(code in merging for merging in _MERGING)
    return f"◌{char}" if merges else char


def in_line(char: str) -> str:
    """Return a character or longer token for a line of text: a space unchanged, others as in `shown_char`."""
    return char if char == " " else shown_char(char)


def signed_sum(terms: Sequence[str]) -> list[str]:
    """Return summands with their signs: `a`, `+ b`, `− c`."""
    rest = [f"− {term[1:]}" if term.startswith("−") else f"+ {term}" for term in terms[1:]]
    return [*terms[:1], *rest]
