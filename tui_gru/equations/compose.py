"""Composition of a model from pieces: an input, layers of a cell in one or two directions, a head and a loss, each from its own
page.

An instance of a piece is its page with other names in the expression trees; a model is one page that joins all instances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tui_gru.equations import expression as e
from tui_gru.equations.errors import EquationError
from tui_gru.equations.expression import ONE, Expression, Name
from tui_gru.equations.names import with_word
from tui_gru.equations.page import CarriedState, Equation, Input, Page

LIVE = "live"  # the mask of row lengths: 1 inside a row, 0 after its end


@dataclass(frozen=True)
class Layer:
    """One layer in one direction (0-based `number`): the suffix of its names, its input and output, its states and its lines."""

    number: int
    backwards: bool
    suffix: str
    reads: str
    output: str
    states: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def name(self) -> str:
        """The layer in words, `layer 2 ←`: counted from 1, with an arrow if it runs backwards."""
        return f"layer {self.number + 1}{' ←' if self.backwards else ''}"


@dataclass(frozen=True)
class Composed:
    """A page joined from pieces, and its layers in the order of its lines."""

    page: Page
    layers: tuple[Layer, ...]


def compose(
    source: Page,
    cell: Page,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    backwards: bool = False,
    head: Page | None = None,
    loss: Page | None = None,
    lengths: bool = False,
    dropout: bool = False,
    input_gradient: bool = False,
) -> Composed:
    """Return a complete model. Without a loss, the gradient of the last layer's output is given from outside.

    `backwards` makes a model of one direction read from the last timestep to the first. `lengths` adds a mask of row lengths,
    `dropout` a mask between each layer and the next. `input_gradient` also derives the gradient of the first layer's input. Raises
    `EquationError` if a piece cannot be used or two pieces share a name.
    """
    _check_cell(cell)
    pieces = [instance(source)]
    reads = pieces[0].output
    if lengths:
        pieces.append(Page(inputs={LIVE: Input("")}, symbols={LIVE: (LIVE, rf"\mathit{{{LIVE}}}")}))
    stack: list[Layer] = []
    directions = (False, True) if bidirectional else (backwards,)
    for number in range(layers):
        outputs = []
        for backwards in directions:
            suffix = f"_l{number}{'_reverse' if backwards else ''}" if layers > 1 or bidirectional else ""
            piece = instance(cell, reads, suffix, backwards=backwards)
            pieces.append(_masked(piece) if lengths else piece)
            stack.append(_layer(pieces[-1], number, backwards, suffix, reads))
            outputs.append(piece.output)
        reads = outputs[0]
        if bidirectional:
            reads = f"out_l{number}"
            pieces.append(_out(reads, e.Join(tuple(map(Name, outputs))), "both directions joined along the units"))
        if dropout and number < layers - 1:
            pieces.append(_dropout(reads, "+".join("H" for _ in outputs), f"_l{number}"))
            reads = pieces[-1].output
    if lengths:
        pieces.append(_out("out", e.Times((Name(LIVE), Name(reads))), "0 after the end of a row"))
        reads = "out"
    for behind in (head, loss):
        if behind is not None:
            pieces.append(instance(behind, reads))
            reads = pieces[-1].output
    if loss is None:
        pieces.append(Page(outputs=(reads,)))
    page = joined(pieces, cell.source)
    if not page.parameters:
        raise EquationError("there is nothing to learn; a model needs parameters", source=cell.source)
    if input_gradient:
        page = replace(page, wanted=tuple(page.inputs)[:1])
    return Composed(page, tuple(stack))


def _layer(piece: Page, number: int, backwards: bool, suffix: str, reads: str) -> Layer:
    targets = tuple(line.target for line in piece.lines)
    return Layer(number, backwards, suffix, reads, piece.output, tuple(piece.states), targets)


def _out(name: str, formula: Expression, note: str) -> Page:
    """Return the page of one line that computes an output from layers."""
    return Page(lines=(Equation(name, formula, note=note),), symbols={"out": ("out", r"\mathit{out}")})


def _check_cell(cell: Page) -> None:
    """Raise `EquationError` for a page that cannot be used as a cell."""
    if not cell.states:
        raise EquationError(
            "a cell needs a state that is carried from one timestep to the next; declare one, state h : H", source=cell.source
        )
    if not cell.lines:
        raise EquationError("a cell needs at least one equation", source=cell.source)
    for kind, names, cure in (
        ("an input", cell.inputs, "a cell reads the output of the layer below: reads x"),
        ("a setting", cell.settings, "write the number itself"),
        ("an output", cell.outputs, "the last line of a cell is its output"),
    ):
        for name in names:
            raise EquationError(f"{name} is declared as {kind}, but a cell cannot declare one; {cure}", cell.places[name])
    for name, state in cell.states.items():
        if state.axis != "H":
            raise EquationError(f"a state of a cell has the axis H: state {name} : H", cell.places[name])


def instance(piece: Page, reads: str = "", suffix: str = "", *, backwards: bool = False) -> Page:
    """Return the piece with a suffix on its names, reading `reads`; with `backwards` it reads its states from the next timestep."""
    states = {name + suffix: CarriedState(state.axis, state.backwards != backwards) for name, state in piece.states.items()}
    new = Page(states=states)
    change = {piece.before(name): new.before(name + suffix) for name in piece.states}
    if reads:
        change[piece.reads] = reads

    def name(old: str) -> str:
        return change.get(old) or old + suffix

    if not suffix and not backwards and (not reads or reads == piece.reads):
        return piece
    return replace(
        piece,
        states=states,
        places={name(old): place for old, place in piece.places.items()},
        inputs={name(old): given for old, given in piece.inputs.items()},
        parameters={name(old): axes for old, axes in piece.parameters.items()},
        lines=tuple(replace(line, target=name(line.target), formula=renamed(line.formula, name)) for line in piece.lines),
        outputs=tuple(map(name, piece.outputs)),
    )


def renamed(node: Expression, name: Any) -> Expression:
    """Return the same tree with every name and label replaced by `name(old)`."""
    if isinstance(node, Name):
        return replace(node, name=name(node.name))
    if node.label:
        node = replace(node, label=name(node.label))
    return node.with_children(tuple(renamed(child, name) for child in node.children)) if node.children else node


def _masked(piece: Page) -> Page:
    """Return a layer whose states stay unchanged after the end of a row: `h = live ⊙ h_new + (1 − live) ⊙ h_prev`."""
    lines: list[Equation] = []
    live = Name(LIVE)
    for line in piece.lines:
        if line.target in piece.states:
            new = with_word(line.target, "new")
            lines.append(replace(line, target=new))
            kept = e.Times((e.Sum((ONE, e.Negative(live))), Name(piece.before(line.target))))
            formula = e.Sum((e.Times((live, Name(new))), kept))
            line = Equation(line.target, formula, label="held", note="the new state, or the old one after the end of a row")
        lines.append(line)
    return replace(piece, lines=tuple(lines))


def _dropout(reads: str, axis: str, suffix: str) -> Page:
    """Return the page that multiplies the input of the next layer by a dropout mask."""
    mask = f"mask{suffix}"
    note = "the value after dropout: 0, or the value / (1 − p)"
    line = Equation(f"dropped{suffix}", e.Times((Name(mask), Name(reads))), note=note)
    return Page(inputs={mask: Input(axis)}, lines=(line,))


def joined(pieces: Sequence[Page], cell: str = "") -> Page:
    """Return one page that joins several.

    Raises `EquationError` if two of them use the same name. The error points into the file `cell` if one of the two pages comes
    from it.
    """
    owner: dict[str, Page] = {}
    for piece in pieces:
        own = {*piece.inputs, *piece.states, *piece.parameters, *(line.target for line in piece.lines)}
        own |= {node.label for line in piece.lines for node in line.formula.walk() if node.label}
        for name in sorted(own):
            if name in owner:
                here, other = (owner[name], piece) if owner[name].source == cell else (piece, owner[name])
                message = f"{name} is also a name of {other.source or 'the model'}; choose another one here"
                raise EquationError(message, here.places.get(name), source=here.source)
            owner[name] = piece

    def merged(field: str) -> Mapping[str, Any]:
        return {name: value for piece in pieces for name, value in getattr(piece, field).items()}

    return Page(
        title=" · ".join(piece.title for piece in pieces if piece.title),
        source=cell,
        inputs=merged("inputs"),
        states=merged("states"),
        parameters=merged("parameters"),
        symbols=merged("symbols"),
        lines=tuple(line for piece in pieces for line in piece.lines),
        outputs=tuple(name for piece in pieces for name in piece.outputs),
        places=merged("places"),
    )
