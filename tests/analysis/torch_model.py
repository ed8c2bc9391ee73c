"""Any model in PyTorch's autograd, computed from its page one name and timestep at a time; the reference for influence."""

from __future__ import annotations

from functools import cache

import torch

from tui_gru.engine.model import Model
from tui_gru.engine.reference import Value, evaluated
from tui_gru.equations.syntax import Expression


class TorchModel:
    """A model on numbers x (T, B, I) from first states (B, ·), in float64. Its values are differentiable, by name and timestep."""

    def __init__(self, model: Model, weights, x: torch.Tensor, states) -> None:
        self.page, self.axes, self.x = model.page, model.axes, x
        self.weights = {name: torch.tensor(weights[name], dtype=torch.float64) for name in model.parameters}
        self.states = {name: torch.tensor(state, dtype=torch.float64) for name, state in states.items()}
        self.lines = {line.target: line.formula for line in self.page.lines}
        self.before = {self.page.before(state): state for state in self.page.states}
        self.value = cache(self._value)

    def _value(self, name: str, t: int) -> torch.Tensor:
        if name in self.before:
            state = self.before[name]
            source = t + 1 if self.page.states[state].backwards else t - 1
            return self.value(state, source) if 0 <= source < len(self.x) else self.states[state]
        if name in self.page.inputs:
            return self.x[t]
        return self._evaluated(self.lines[name], t).tensor

    def _evaluated(self, formula: Expression, t: int) -> Value:
        def read(name: str) -> Value:
            if name in self.weights:
                return Value(self.weights[name], self.axes[name])
            return Value(self.value(name, t), tuple(axis for axis in self.axes[name] if axis != "T"))

        return evaluated(formula, read, {})

    def prediction(self, t: int, row: int, character: int) -> torch.Tensor:
        """Return the log-probability of a character in the softmax of the output of a row."""
        for step in range(t):  # in order of time, so that no value is computed by a recursion over all timesteps
            self.value(self.page.output, step)
        return torch.log_softmax(self.value(self.page.output, t)[row], -1)[character]
