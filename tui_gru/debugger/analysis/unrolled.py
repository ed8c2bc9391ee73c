"""A model without its loss, in float64, to derive gradients of its output, or to run on any numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.program.line_table import Program
from tui_gru.engine import arguments
from tui_gru.engine.compiling.compiled import compiled
from tui_gru.engine.data.given import weights_for
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.computing import compute
from tui_gru.engine.running.weights import Array, Float64Array, Weights
from tui_gru.equations.expression import Apply
from tui_gru.equations.names import with_word


class Differentiable:
    """A model without its loss, in float64, that computes the gradient of its input from a gradient of its output.

    With `width` its inputs are numbers (T, B, width), whatever the model reads, so that an input can be zero.
    """

    def __init__(self, program: Program, weights: Weights, timesteps: int, rows: int, width: int = 0) -> None:
        self._program = program
        structure = replace(program.config.structure, loss="", input_gradient=True)
        sizes = program.config.sizes | {"T": timesteps, "B": rows}
        if width:
            structure, sizes = replace(structure, input="dense", input_gradient=False), sizes | {"I": width}
        self.compiled = compiled(structure, sizes, "float64")
        self.record = BatchRecord(self.compiled)
        self.record.before = weights_for(structure, sizes, "float64", dict(weights.items()))
        self.reads = self.compiled.model.composed.layers[0].reads
        (self.output,) = self.compiled.model.page.outputs

    def forward(self, x: NDArray[Any], states: Mapping[str, Array]) -> Array:
        """Return the output (T, B, ·) from these inputs, (T, B) indices or (T, B, I) numbers, and first states; a view."""
        for name, given in self.compiled.model.page.inputs.items():
            if given.one_hot:
                self.record.ids(name)[...] = x
                self.record.array(name)[...] = x[..., None] == np.arange(self.record.array(name).shape[-1])
            else:
                self.record.array(name)[...] = x
        _begin(self.record, states)
        self.record.cut("forward")
        self.compiled.cut(self.record.before, "forward")
        self.compiled.functions["forward"].run(self.record, self.record.before, None)
        return self.record.array(self.output)

    def backward(self, slope: Array) -> BatchRecord:
        """Compute all deltas from the gradient of the output, (T, B, ·)."""
        self.record.array(with_word(f"d{self.output}", "given"))[...] = slope
        compute(self.record, None, learn=True)
        return self.record

    def run(self, x: NDArray[Any], states: Mapping[str, Array], t: int, row: int, character: int | None) -> tuple[float, int]:
        """Return the prediction of a row after timestep `t`, and its index in the output.

        Afterwards the record has its gradients.
        """
        output = self.forward(x, states)
        value, chosen = prediction(self._program, output[t, row], character)
        slope = np.zeros_like(output)
        slope[t, row] = prediction_slope(self._program, output[t, row], chosen)
        self.backward(slope)
        return value, chosen


def given_to(program: Program, record: BatchRecord) -> NDArray[Any]:
    """Return the inputs of a batch, a view: indices (T, B), or numbers (T, B, I)."""
    name = program.input
    return record.ids(name) if program.model.page.inputs[name].one_hot else record.array(name)


def prediction(program: Program, output: Array, character: int | None) -> tuple[float, int]:
    """Return a prediction from an output (·): the log-probability of a character if the loss takes a softmax, otherwise the entry.

    `character` defaults to the largest entry. Returns the prediction and the character. Raises `TuiGruError` for an unknown one.
    """
    chosen = int(np.argmax(output)) if character is None else character
    chosen = arguments.whole("the character", chosen, least=0, most=len(output) - 1)
    wide = np.asarray(output, np.float64)
    if not _takes_softmax(program):
        return float(wide[chosen]), chosen
    top = wide.max()
    return float(wide[chosen] - top - np.log(np.exp(wide - top).sum())), chosen


def prediction_slope(program: Program, output: Array, chosen: int) -> Float64Array:
    """Return the gradient of a prediction with respect to the output (·)."""
    slope = np.zeros(len(output))
    slope[chosen] = 1
    if _takes_softmax(program):
        powers = np.exp(output - output.max())
        slope -= powers / powers.sum()
    return slope


def _takes_softmax(program: Program) -> bool:
    line = program.lines.get(program.loss_names.prediction)
    return line is not None and isinstance(line.formula, Apply) and line.formula.function == "softmax"


def _begin(record: BatchRecord, states: Mapping[str, Array]) -> None:
    for state in record.compiled.states:
        record.border(state, end=False)[...] = states[state]
