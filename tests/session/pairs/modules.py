"""Modules of random source text, trained a step by a script, and what a session on them says, against autograd of the module.

The text is that of a script: a module of torch, or a random cell (cells.py) as a module, called in a loop outside of it or inside.
The numbers of the truth come from copies of the module in float64; copies with noise say what rounding does (oracle.py).
"""

from __future__ import annotations

import io
import random
import re
import warnings
from collections.abc import Callable
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import tui_gru
from tests.session.pairs import oracle
from tests.session.pairs.cells import Cell, random_cell
from tests.session.pairs.oracle import NOISE, NOISY, Rounding
from tests.session.pairs.sweep import Left
from tui_gru import Session
from tui_gru.errors import CaptureError
from tui_gru.imported.module import forget

_CELL = """
class RandomCell(nn.Module):
    def __init__(self, X, H):
        super().__init__()
        self.H = H
{parameters}
    def {method}(self, x, {before}):
        p = self
{lines}
        return {states}
"""
_LOOP_OUTSIDE = """
class Net(nn.Module):
    def __init__(self, X, H):
        super().__init__()
        self.cell, self.head, self.H = RandomCell(X, H), nn.Linear(H, 2), H
    def forward(self, xs):
        {states} = torch.zeros(xs.shape[1], self.H, dtype=xs.dtype)
        self.outs, read = [], []
        for x in xs:
            {assigned} = self.cell(x, {given})
            self.outs.append({shown})
            read.append({output})
        return torch.stack([self.head(h) for h in read])
"""
_LOOP_INSIDE = """
    def forward(self, xs):
        {states} = torch.zeros(xs.shape[1], self.H, dtype=xs.dtype)
        outs, self.shown = [], []
        for x in xs:
            {assigned} = self.step(x, {given})
            outs.append({output})
            self.shown.append({shown})
        return torch.stack(outs), {output}
class Net(nn.Module):
    def __init__(self, X, H):
        super().__init__()
        self.rnn, self.head = RandomCell(X, H), nn.Linear(H, 2)
    def forward(self, xs):
        outs, _ = self.rnn(xs)
        self.outs = {listed}
        return self.head(outs)
"""
_OF_TORCH = """
class Net(nn.Module):
    def __init__(self, X, H):
        super().__init__()
        self.rnn = nn.{name}(X, H, {layers}, bidirectional={both}, batch_first={rows_first}, bias={bias})
        self.head = nn.Linear(H * {directions}, 2)
    def forward(self, xs):
        outs, _ = self.rnn(xs.transpose(0, 1) if {rows_first} else xs)
        self.outs = list(outs.transpose(0, 1) if {rows_first} else outs)
        return torch.stack([self.head(h) for h in self.outs])
"""
_LOOP_OF_TORCH = """
class Net(nn.Module):
    def __init__(self, X, H):
        super().__init__()
        self.cell, self.head, self.H = nn.{name}Cell(X, H), nn.Linear(H, 2), H
    def forward(self, xs):
        h = c = torch.zeros(xs.shape[1], self.H, dtype=xs.dtype)
        self.outs = []
        for t, x in enumerate(xs):
            if t == {cut}:
                h, c = h.detach(), c.detach()
            {call}
            self.outs.append(h)
        return torch.stack([self.head(h) for h in self.outs])
"""


def clamp(value: torch.Tensor) -> torch.Tensor:
    return torch.clamp(value, 0, 1)


def source(draw: random.Random, seed: int, T: int) -> tuple[str, Cell | None]:
    """Return the text of a module, and the cell in it if it is a random one."""
    kind = draw.choice(["torch", "loop of torch", "loop outside", "loop outside", "loop inside", "loop inside"])
    name = draw.choice(["GRU", "LSTM", "RNN"])
    if kind == "torch":
        both = draw.random() < 0.4
        text = _OF_TORCH.format(
            name=name, layers=draw.choice([1, 1, 2]), both=both, rows_first=draw.random() < 0.5, bias=draw.random() < 0.8,
            directions=2 if both else 1,
        )  # fmt: skip
        return text, None
    if kind == "loop of torch":
        call = "h, c = self.cell(x, (h, c))" if name == "LSTM" else "h = self.cell(x, h)"
        return _LOOP_OF_TORCH.format(name=name, call=call, cut=draw.choice([-1, -1, draw.randrange(T)])), None
    cell = random_cell(seed, rows=False, names=False)
    lines = [re.sub(r"^(\w+) = record\('\1', (.*)\)$", r"\1 = \2", line) for line in cell.torch.split("\n")]
    read = [name for name in cell.shapes if any(re.search(rf"\bp\.{name}\b", line) for line in lines)]
    shapes = {name: ", ".join(axis.replace("+", " + ") for axis in cell.shapes[name]) for name in read}
    values = {
        "parameters": "\n".join(
            f"        self.{name} = nn.Parameter(torch.randn({shape}) * 0.4)" for name, shape in shapes.items()
        ),
        "method": "step" if kind == "loop inside" else "forward",
        "before": ", ".join(f"{state}_prev" for state in cell.states),
        "lines": "\n".join(f"        {line}" for line in lines),
        "states": ", ".join((*cell.states, *([cell.output] if cell.output not in cell.states else []))),
    }
    joined = ", ".join(cell.states)
    loop = _LOOP_INSIDE if kind == "loop inside" else _LOOP_OUTSIDE
    return _CELL.format(**values) + loop.format(
        states=" = ".join(cell.states), assigned=values["states"], given=joined, output=cell.output,
        shown=cell.output if cell.output in cell.states else cell.states[0],
        listed="list(outs)" if cell.output in cell.states else "self.rnn.shown",
    ), cell  # fmt: skip


@dataclass
class Truth:
    """A copy of the module in float64 that has run the step: its outputs (T), the gradients of its parameters, and its input."""

    net: Any
    x: torch.Tensor
    loss: torch.Tensor

    def gradient(self, name: str) -> np.ndarray:
        value = dict(self.net.named_parameters())[name]
        return np.zeros(value.shape) if value.grad is None else value.grad.numpy()


@dataclass(frozen=True)
class Place:
    """Where a parameter of the session is in one of the module: its entry (0, 0), and whether it is transposed."""

    name: str
    first: tuple[int, ...]
    is_turned: bool

    def of(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        turned = array.T if self.is_turned else array
        return turned[tuple(slice(i, i + n) for i, n in zip(self.first, shape, strict=True))]


class ScriptSweep:
    """A session on a step of a random module, `session`, and one on the recording of two steps, `recording`."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.chance, self.comparisons = seed, random.Random(f"script {seed}"), 0
        draw = self.chance
        self.T, self.B, self.X, self.H = draw.randint(2, 5), draw.randint(1, 3), draw.randint(2, 4), draw.randint(2, 3)
        self.dtype = draw.choice(["float32", "float64"])
        self.text, self.cell = source(draw, seed, self.T)
        names: dict[str, Any] = {"torch": torch, "nn": nn, "relu": torch.relu, "clamp": clamp, "__name__": "script"}
        exec(compile(self.text, "<script>", "exec"), names)
        torch.manual_seed(seed)
        self._make = lambda: names["Net"](self.X, self.H)
        net = self._make().to(getattr(torch, self.dtype))
        self.xs = [torch.randn(self.T, self.B, self.X).to(getattr(torch, self.dtype)) for _ in range(2)]
        optimizer = torch.optim.SGD(net.parameters(), 0.05)
        self.steps: list[list[Truth]] = []
        self.losses: list[float] = []
        self.gradients: list[dict[str, np.ndarray]] = []
        self.weights: list[dict[str, np.ndarray]] = []
        words = io.StringIO()
        with warnings.catch_warnings(record=True) as warned, redirect_stderr(words):
            warnings.simplefilter("always")
            try:
                net(self.xs[0])
            except (IndexError, RuntimeError) as error:
                raise Left(f"the script fails: {error}") from None
            try:
                recorder = tui_gru.record(folder / "run.gru", net, optimizer, every=1)
            except CaptureError as error:  # refused at once, since no operation has a matrix
                if "there is no torch.nn.GRU, LSTM, RNN or cell of them in Net" not in str(error):
                    raise
                raise Left("it has no matrix") from None
            tui_gru.debug(net, optimizer, screen=False)
            for step, x in enumerate(self.xs):
                self.weights.append({name: value.detach().numpy().copy() for name, value in net.named_parameters()})
                self.steps.append([self._truth(step, seed) for seed in (None, *range(NOISY))])
                optimizer.zero_grad()
                loss = self.loss(net(x))
                loss.backward()
                self.gradients.append(
                    {name: value.grad.numpy().copy() for name, value in net.named_parameters() if value.grad is not None}
                )
                optimizer.step()
                recorder.step(loss)
                self.losses.append(loss.item())
                session = tui_gru.debug(net, optimizer, screen=False)
            recorder.close()
            forget(net)
        if session is None:
            assert warned or words.getvalue(), "a module is not captured, and nothing says so"
            raise Left("it is no cell")
        if "misread" in session.remarks:  # which is said in the place of numbers that would be wrong
            assert not [name for name in session.parameter_names if Session(state=session.state).gradient(name) is not None]
            raise Left("it is misread, and said to be")
        self.session: Session = session
        self.derives = "the loss reads that" not in session.remarks  # what a cell returns besides its states, by the same weights
        self.recording = Session.open(recorder.folder)
        self.places = {name: self._place(name) for name in session.parameter_names}
        numbers = [truth.loss for truth in self.steps[-1]]
        if not all(torch.isfinite(number) for number in numbers) or max(map(abs, self.losses)) > 1e4:
            raise Left("its numbers grow too large")

    @staticmethod
    def loss(outputs: torch.Tensor) -> torch.Tensor:
        return ((outputs - 0.3) ** 2).mean() + outputs[-1].sum() * 0.1

    def _truth(self, step: int, seed: int | None, name: str = "", index: tuple[int, ...] = (), value: float = 0.0) -> Truth:
        """Run a step on a new module with its weights, in float64, with one of them changed."""
        net, x = self._make().double(), self.xs[step].double().requires_grad_()
        for other, parameter in net.named_parameters():
            parameter.data[...] = torch.tensor(self.weights[step][other])
            if other == name:
                parameter.data[index] = value
        with nullcontext() if seed is None else Rounding(NOISE[self.dtype], seed):
            loss = self.loss(net(x))
            loss.backward(retain_graph=True)
        return Truth(net, x, loss)

    @property
    def keeps_outputs(self) -> bool:
        """True if the outputs of the module's loop are the states that it goes on with, and not copies of them."""
        return "self.cell" in self.text

    @staticmethod
    def slope(truth: Truth, t: int) -> torch.Tensor:
        """Return the gradient of the loss with respect to an output."""
        (slope,) = torch.autograd.grad(truth.loss, truth.net.outs[t], retain_graph=True)
        return slope

    def changed(self, step: int, name: str, index: tuple[int, ...], value: float) -> list[Truth]:
        """Return the step with a number of a parameter changed."""
        return [self._truth(step, seed, name, index, value) for seed in (None, *range(NOISY))]

    def _place(self, name: str) -> Place | None:
        """Find a parameter of the session in the module by its numbers."""
        value = np.asarray(self.session.parameter(name))
        for other, array in self.weights[-1].items():
            for is_turned in (False, True)[: array.ndim]:
                turned = array.T if is_turned else array
                if turned.ndim != value.ndim or any(n > m for n, m in zip(value.shape, turned.shape, strict=True)):
                    continue
                for first in np.ndindex(*(m - n + 1 for n, m in zip(value.shape, turned.shape, strict=True))):
                    place = Place(other, first, is_turned)
                    if np.array_equal(place.of(array, value.shape), value):
                        return place
        return None

    def same(self, words: str, ours: Any, theirs: Callable[[Truth], Any], truths: list[Truth] | None = None) -> None:
        """Compare numbers of the session with those of the module: no further apart than rounding explains."""
        value, runs = np.asarray(ours, np.float64).ravel(), []
        for truth in self.steps[-1] if truths is None else truths:
            number = theirs(truth)
            runs.append(np.asarray(number.detach() if isinstance(number, torch.Tensor) else number, np.float64).ravel())
        assert value.shape == runs[0].shape, (words, value.shape, runs[0].shape)
        self.comparisons += 1
        apart, allowed = float(np.abs(value - runs[0]).max(initial=0.0)), oracle.bound(runs, self.dtype)
        assert apart <= allowed, (
            f"{words}: {value} is not {runs[0]}: {apart:.3g} apart, rounding explains {allowed:.3g}\n{self.text}"
        )
