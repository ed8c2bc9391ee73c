"""The listing of the training loop: its lines under the headings of loops and layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tui_gru.equations.compose import Layer
from tui_gru.equations.names import split

if TYPE_CHECKING:
    from tui_gru.debugger.program.line_table import Program, ProgramLine


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
    T, reset, given = program.seq_length, program.config.carry == "reset", program.config.given
    begin = "0" if given is None else "h0"
    first = ListingRow(" = ".join((*(program.writer.name(state) for state in program.model.page.states), begin)), 2 if reset else 1)
    rows = [ListingRow("for epoch in 1, 2, …:" if given is None else f"for epoch in 1: # {given.title}", 0, counter="epoch")]
    if not reset:
        rows.append(first)
    rows.append(ListingRow(f"for batch in 1…{program.num_batches}:", 1, counter="batch"))
    if reset:
        rows.append(first)
    for block in program.blocks:
        if block.way:
            heading = f"for t in 1…{T}:" if block.way > 0 else f"for t in {T}…1:"
            rows.append(ListingRow(heading, 2, counter="t", block=block.number))
        heading = ""
        for line in block.lines:
            heading, before = _heading(program, line) if block.way else "", heading
            if heading != before:
                rows.append(ListingRow(f"# {heading}", 3, block=block.number))
            rows.append(ListingRow(line.text, 3 if block.way else 2, line, block=block.number))
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
