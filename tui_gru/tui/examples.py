"""Examples of what can be typed, with names that the model has."""

from __future__ import annotations

from string import Template

from tui_gru.debugger.program.line_table import Program


def example(program: Program, words: str) -> str:
    """Words in which `$W` stands for a weight, `$h` for the state that the last layer hands on, `$z` for the first value of that
    layer."""
    matrices = (name for group in program.matrices_by_gate for name in group)
    names = {"W": next(matrices, program.parameters[0]), "h": program.main_state, "z": program.main_layer.lines[0]}
    return Template(words).substitute(names)
