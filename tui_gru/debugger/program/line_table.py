"""The program being debugged: a table of every line of the training loop, derived from the equations of the model.

The listing, stepping, breakpoints, the display of the current line and the derivations all use this table.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple
from unicodedata import normalize

from tui_gru.debugger.program.listing import ListingRow, listing
from tui_gru.debugger.program.names import ProgramName, Spellings, ValueKind, named_values
from tui_gru.engine.compiling.segments import LineGroup
from tui_gru.engine.config import Config
from tui_gru.engine.running.computing import Point
from tui_gru.equations import page as equations
from tui_gru.equations.compose import Layer
from tui_gru.equations.expression import Apply, Expression, Sum, plain
from tui_gru.equations.names import split, with_word
from tui_gru.equations.writing import Writer, bracketed


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
    """Lines that are executed together: `steps` times in a loop over t in the direction `way`, or once (`way` 0).

    `start` is the number of ticks of the batch before this block.
    """

    number: int
    phase: str
    way: int
    lines: tuple[ProgramLine, ...]
    start: int
    steps: int

    @property
    def end(self) -> int:
        """The tick of its last line in its last step."""
        return self.start + self.steps * len(self.lines)

    def timestep(self, step: int) -> int:
        """Return the timestep of a step (both 0-based); the last one if the lines are executed once."""
        return step if self.way > 0 else self.steps - 1 - step

    def step_of(self, t: int) -> int:
        """Return the step of timestep `t` (both 0-based)."""
        return 0 if not self.way else t if self.way > 0 else self.steps - 1 - t


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

        def add(phase: str, way: int, lines: tuple[ProgramLine, ...]) -> None:
            start = blocks[-1].end if blocks else 0
            blocks.append(LineBlock(len(blocks), phase, way, lines, start, self.seq_length if way else 1))

        def lines_of(segment_lines: tuple[equations.Equation, ...], phase: str) -> tuple[ProgramLine, ...]:
            number = len(blocks)
            return tuple(
                ProgramLine(x.target, phase, _shares(x) if x.op == "+=" else x.formula, x.op, x.note, self.writer, number)
                for x in segment_lines
            )

        def add_segments(segments: tuple[LineGroup, ...], phase: str) -> None:
            for segment in segments:
                once = phase == "forward" and not segment.way and segment is segments[-1]
                add("loss" if once else phase, segment.way, lines_of(segment.lines, "loss" if once else phase))

        add_segments(schedule.phases["forward"].segments, "forward")
        self.loss_tick = blocks[-1].end
        given = config.given
        self.goes_back = given is None or given.learns
        self.knows_loss = given is None or given.knows_loss
        self.outside: tuple[ProgramLine, ...] = ()
        if given is not None and given.learns:
            target = with_word(f"d{self.model.page.outputs[0]}", "given")
            words = f"{self.writer.name(target)} = from your head and loss"
            self.outside = (ProgramLine(target, "backward", note=words, block=len(blocks)),)
            add("backward", 0, self.outside)
        if self.goes_back:
            add_segments(schedule.phases["backward"].segments, "backward")
        self.earlier: tuple[ProgramLine, ...] = ()
        if config.carry == "notebook":
            words = "on into the batches before, back to the epoch's first"
            self.earlier = (ProgramLine("earlier", "backward", note=words, block=len(blocks)),)
            add("backward", 0, self.earlier)
        self.backward_end = blocks[-1].end
        self.update = lines_of(self.model.rule.lines_of(self.model.parameters), "update") if given is None else ()
        if self.update:
            add("update", 0, self.update)
        self.blocks = tuple(blocks)
        self.ticks = blocks[-1].end
        self._starts = [block.start for block in blocks]
        self._place = {line.target: (block, i) for block in blocks for i, line in enumerate(block.lines)}
        self.names: Mapping[str, ProgramName] = named_values(
            self.model, schedule, self.update, backward=self.goes_back, outside=bool(self.outside)
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
    def values(self) -> tuple[str, ...]:
        """The names that the forward pass computes or reads at every timestep."""
        return self.names_of(ValueKind.INPUT, ValueKind.STATE, ValueKind.VALUE)

    @cached_property
    def deltas(self) -> tuple[str, ...]:
        """The names of the gradients of values, one per timestep."""
        return self.names_of(ValueKind.VALUE_GRADIENT)

    def update_step(self, name: str) -> tuple[str, str]:
        """Return the name in the update rule, and the parameter, of an intermediate value: m_hat and Wz for m_hat_Wz.

        Raises `KeyError` for a name that is none.
        """
        return self._update_steps[name]

    @cached_property
    def _update_steps(self) -> dict[str, tuple[str, str]]:
        rule = self.model.rule
        targets = dict.fromkeys(line.target for line in rule.lines)
        steps = [(target, parameter) for target in targets for parameter in self.parameters]
        return {rule.name_for(*step): step for step in reversed(steps)}  # of several with one name, the first

    def way_of(self, name: str) -> int:
        """Return the direction in which the timesteps of `name` are computed, 1 or −1; 0 for a value of the whole batch."""
        named = self.names[name]
        if not named.timed and name != "t":
            return 0
        place = self.place_of(named.read_in or name)
        return (place[0].way or -1) if place is not None else 1

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
    def parts(self) -> Mapping[str, Expression]:
        """The labelled parts of lines, by label: (1 − z), r⊙h_prev, pre-activations, paths of gradients."""
        found: dict[str, Expression] = {}
        for _, node in self._nodes:
            if node.label:
                found.setdefault(node.label, node)
        return found

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
        found = Spellings({**shown, **{name: name for name in self.names}})
        found.tokens = frozenset(token for token in self.config.vocabulary if len(token) > 1)
        return found

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each readable name: of its value at one timestep."""
        return {name: self.config.compiled.shape(named.axes) for name, named in self.names.items()}

    def code_name(self, typed: str) -> str:
        """Return the code spelling of a typed name: h_prev for hₜ₋₁. An unknown name is returned unchanged."""
        return self.spellings.get(normalize("NFC", typed), typed)

    @cached_property
    def written_with(self) -> Mapping[str, str]:
        """For each labelled part, the target of the first line that contains it."""
        found: dict[str, str] = {}
        for target, node in self._nodes:
            if node.label:
                found.setdefault(node.label, target)
        return found

    def made_by(self, name: str) -> tuple[Expression, str]:
        """Return the formula of a line or labelled part, and its text."""
        if (line := self.lines.get(name)) is not None and line.formula is not None:
            return line.formula, line.text
        formula = self.parts[name]
        return formula, f"{self.writer.name(name)} = {self.writer.text(formula)}"

    @cached_property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """The range of the values of each name, as far as the equations bound it."""
        from tui_gru.debugger.program.ranges import ranges_of

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
        return tuple(name for name in self.parameters if self.layer_with(name) in (None, layer))

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
        return next(name for name, given in self.model.page.inputs.items() if not given.target)

    @cached_property
    def target(self) -> str:
        """The name of the target; empty without a loss."""
        return next((name for name, given in self.model.page.inputs.items() if given.target), "")

    def tokens_of(self, name: str) -> str | None:
        """Return the input whose tokens `name`, character or target, spells out; None if that input has none."""
        of_target = name == "target"
        inputs = self.model.page.inputs.items()
        return next((key for key, given in inputs if given.one_hot and given.target == of_target), None)

    @cached_property
    def loss_names(self) -> LossNames:
        """The names that the loss computes, by their axes."""
        own = {line.target for layer in self.layers for line in self.lines.values() if line.target in layer.lines}
        rest = [line for block in self.blocks if block.phase == "forward" for line in block.lines if line.target not in own]
        softmax = [x.target for x in rest if isinstance(x.formula, Apply) and x.formula.function == "softmax"]
        after = [x.target for x in rest if self.target and self.target in self._read_by(x.target)]
        by_axes = {self.names[name].axes: name for name in reversed(after)}
        entry = next((name for name in after if len(self.names[name].axes) == 2 and name not in softmax), "")
        prediction = softmax[-1] if softmax else (self.model.page.output if not self.target else "")
        return LossNames(prediction, entry, by_axes.get(("B",), ""), by_axes.get((), ""))

    def _read_by(self, name: str) -> set[str]:
        """Return all names that a line depends on."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            line = self.lines.get(waiting.pop())
            new = set(line.reads if line is not None and line.phase in ("forward", "loss") else ()) - found
            found |= new
            waiting += new
        return found

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
        wanted = [name for name in self.parameters if name not in self.of_head and len(self.names[name].axes) == 2]
        found: list[tuple[str, ...]] = []
        for block in self.blocks:
            for line in block.lines if block.phase == "forward" else ():
                together = tuple(name for name in line.reads if name in wanted and not any(name in group for group in found))
                found += [together] if together else []
        return tuple(found)

    @cached_property
    def main_state(self) -> str:
        """The state that the last layer outputs: h."""
        layer = self.main_layer
        return layer.output if layer.output in layer.states else layer.states[0]

    def state_ahead(self, name: str) -> str | None:
        """Return the state of which `name` is the gradient from the timestep that reads it; None for any other name."""
        return next((state for state in self.model.page.states if self.model.page.ahead(state) == name), None)

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
        return block.lines[index], block.timestep(step) if block.way else self.seq_length - 1

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

    def there_at(self, name: str, t: int | None = None) -> int | None:
        """Return the tick within a batch from which on `name` of timestep `t` can be read; None if it can always be read.

        This is when it is computed, or when the timestep that reads it begins.
        """
        named, t = self.names[name], self.seq_length - 1 if t is None else t
        if named.kind is ValueKind.INPUT:
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
        block = next(block for block in reversed(self.blocks) if block.phase == "forward" and block.way)
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
        blocks = [block for block in blocks if block.lines not in (self.earlier, self.outside)]
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
    paths = tuple(plain(term) if term.label.startswith(path) else term for term in line.formula.terms)
    return line.formula.with_children(paths) if isinstance(line.formula, Sum) else line.formula


@lru_cache(maxsize=8)
def program_of(config: Config) -> Program:
    """Return the table of a config, cached."""
    return Program(config)
