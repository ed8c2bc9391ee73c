"""Examples of commands with names of the current model."""

from __future__ import annotations

from string import Template

from tui_gru.debugger.program.line_table import Program


def example(program: Program, words: str) -> str:
    """Replace `$W` by a weight, `$h` by the state of the last layer, and `$z` by the first value of that layer."""
    matrices = (name for group in program.matrices_by_gate for name in group)
    names = {"W": next(matrices, program.parameters[0]), "h": program.main_state, "z": program.main_layer.lines[0]}
    return Template(words).substitute(names)
