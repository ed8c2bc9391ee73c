"""An independent training loop: plain PyTorch in float64, with autograd, that shares no code with the program.

It runs several times: once as it is, and a few times with a random error in the result of every operation and in the operands of
every product and sum, as large as one rounding of the run's dtype, in both passes and in the update. How far these runs are apart
is what rounding does to a number, whatever the model does to it (Monte Carlo arithmetic: Parker, Pierce and Eggert 2000, *Monte
Carlo arithmetic: how to gamble with floating point and win*). A sum of n terms has up to n roundings where the noise has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from tests.session.pairs.cells import Cell

NOISY = 3  # runs with noise
TERMS = 64  # roundings in the largest sum of a sweep, a sum over rows, timesteps and units
NOISE = {"float32": 2.0**-23, "float64": 2.0**-40}  # relative; far above the rounding of the loop itself
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "sum", "mean", "dot", "mv"}
Arrays = dict[str, np.ndarray]


class Rounding(TorchDispatchMode):
    """Gives each number that an operation computes a random relative error, and each that a product or a sum reads."""

    def __init__(self, size: float, seed: int) -> None:
        super().__init__()
        self._size, self._draw = size, torch.Generator().manual_seed(seed)

    def _changed(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        return value * (1 + self._size * torch.randn(value.shape, generator=self._draw, dtype=value.dtype))

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        read = {each.untyped_storage().data_ptr() for each in args if isinstance(each, torch.Tensor)}
        name = function.overloadpacket.__name__
        result = function(*(map(self._changed, args) if name in PRODUCTS else args), **kwargs)

        def rounded(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                return value
            if name.endswith("_"):
                return value.copy_(self._changed(value))
            return value if value.untyped_storage().data_ptr() in read else self._changed(value)

        return tree_map(rounded, result)


class Setup(NamedTuple):
    """What is trained: the cell, how it is stacked, what it learns, and how."""

    cell: Cell
    layers: int = 1
    bidirectional: bool = False
    embedding: bool = False
    loss: str = "cross-entropy"
    optimizer: str = "sgd"
    clip: float = 0.0
    carry: str = "detach"
    dtype: str = "float32"

    def suffix(self, layer: int, backwards: bool) -> str:
        several = self.layers > 1 or self.bidirectional
        return f"_l{layer}{'_reverse' if backwards else ''}" if several else ""

    @property
    def directions(self) -> tuple[bool, ...]:
        return (False, True) if self.bidirectional else (False,)

    @property
    def states(self) -> tuple[str, ...]:
        """The names of all states, layer by layer."""
        layers = [self.suffix(layer, backwards) for layer in range(self.layers) for backwards in self.directions]
        return tuple(state + suffix for suffix in layers for state in self.cell.states)


class Silent(NamedTuple):
    """A unit (0-based) of a value that is 0 after every character."""

    name: str
    unit: int


class Change(NamedTuple):
    """A number of a value at a timestep, or of the gradient of a value (`gradient`), that is replaced when it is computed.

    `index` counts the entries of the array.
    """

    name: str
    t: int
    index: int
    value: float
    gradient: bool = False


def _replaced(slope: torch.Tensor, change: Change) -> torch.Tensor:
    changed = slope.clone()
    changed.view(-1)[change.index] = change.value
    return changed


class _Parameters:
    def __init__(self, values: Mapping[str, torch.Tensor], suffix: str) -> None:
        self._values, self._suffix = values, suffix

    def __getattr__(self, name: str) -> torch.Tensor:
        return self._values[name + self._suffix]


class Kinks:
    """How near the arguments of relu and clamp came to where their slope jumps, without the places themselves."""

    nearest = 1.0

    def note(self, *distances: torch.Tensor) -> None:
        for each in distances:
            away = each.detach().abs()
            self.nearest = min(self.nearest, away[away > 0].min().item() if (away > 0).any() else 1.0)


KINKS = Kinks()


def relu(value: torch.Tensor) -> torch.Tensor:
    KINKS.note(value)
    return torch.relu(value)


def clamp(value: torch.Tensor) -> torch.Tensor:
    """Clamp to 0 … 1, with the slope 0 at both ends, where torch has 1."""
    KINKS.note(value, value - 1)
    return torch.where((value > 0) & (value < 1), value, (value >= 1).to(value.dtype))


@cache
def _compiled(text: str) -> Any:
    return compile(text, "<cell>", "exec")


@dataclass
class Pass:
    """A batch: values with a name, by name and timestep; the states after it, and the loss (None without one)."""

    values: dict[tuple[str, int], torch.Tensor] = field(default_factory=dict)
    states: dict[str, torch.Tensor] = field(default_factory=dict)
    reads: list[torch.Tensor] = field(default_factory=list)
    logits: list[torch.Tensor] = field(default_factory=list)
    gradients: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    rows: torch.Tensor | None = None  # the loss of each row at each timestep, (T, B)

    @property
    def loss(self) -> torch.Tensor:
        assert self.rows is not None
        return self.rows.mean()

    def value(self, name: str, t: int) -> np.ndarray:
        """Return a value, with two axes."""
        return self.values[name, t].detach().numpy()

    def backward(self, root: torch.Tensor, *, retain: bool = False) -> None:
        """Compute the gradients of a number."""
        root.backward(retain_graph=retain)
        self.gradients = {
            key: np.zeros(value.shape) if value.grad is None else value.grad.numpy() for key, value in self.values.items()
        }
        for value in self.values.values():
            value.grad = None

    def gradient(self, name: str, t: int) -> np.ndarray:
        """Return the gradient with respect to a value, after `backward`; 0 where nothing reads it."""
        return self.gradients[name, t]


def run(
    setup: Setup,
    parameters: Mapping[str, torch.Tensor],
    inputs: Sequence[torch.Tensor],
    targets: Sequence[torch.Tensor] | None,
    states: Mapping[str, torch.Tensor],
    *,
    silent: Silent | None = None,
    change: Change | None = None,
    reads: Sequence[torch.Tensor] | None = None,
) -> Pass:
    """Run the forward pass of a batch. `inputs` and `targets` are one-hot, (B, V) a timestep; with `reads`, the first layer reads
    these numbers in their place."""
    result = Pass()

    def record(name: str, t: int, value: torch.Tensor) -> torch.Tensor:
        if silent is not None and name == silent.name:
            value = value * (torch.arange(value.shape[-1]) != silent.unit)
        if change is not None and (name, t) == (change.name, change.t) and not change.gradient:
            offset = torch.zeros_like(value)
            offset.view(-1)[change.index] = change.value - value.flatten()[change.index].item()
            value = value + offset
        if value.requires_grad:
            if change is not None and (name, t) == (change.name, change.t) and change.gradient:
                value.register_hook(partial(_replaced, change=change))
            value.retain_grad()
        result.values[name, t] = value
        return value

    steps = range(len(inputs))
    if reads is None:
        reads = [one_hot @ parameters["E"] if setup.embedding else one_hot for one_hot in inputs]
    x = [record("x", t, each.detach().requires_grad_() if each.grad_fn is None else each) for t, each in enumerate(reads)]
    result.reads = list(x)
    for layer in range(setup.layers):
        outputs: list[list[torch.Tensor]] = [[] for _ in steps]
        for backwards in setup.directions:
            suffix, cell = setup.suffix(layer, backwards), setup.cell
            now = {state: states[state + suffix] for state in cell.states}
            if silent is not None:
                now = {
                    state: value * (torch.arange(value.shape[-1]) != silent.unit) if state + suffix == silent.name else value
                    for state, value in now.items()
                }
            for t in reversed(steps) if backwards else steps:
                word = "next" if backwards else "prev"
                names: dict[str, Any] = {
                    f"{state}_prev": record(f"{state}_{word}{suffix}", t, value.view_as(value)) for state, value in now.items()
                }
                names |= {"x": x[t], "p": _Parameters(parameters, suffix), "torch": torch, "relu": relu, "clamp": clamp}
                names["record"] = lambda name, value, t=t, suffix=suffix: record(name + suffix, t, value)
                exec(_compiled(cell.torch), names)
                now = {state: names[state] for state in cell.states}
                outputs[t].append(names[cell.output])
            result.states |= {state + suffix: value for state, value in now.items()}
        x = [record(f"out_l{layer}", t, torch.cat(both, 1)) if setup.bidirectional else both[0] for t, both in enumerate(outputs)]
    result.logits = [record("logits", t, each @ parameters["Wy"] + parameters["by"]) for t, each in enumerate(x)]
    if targets is None:
        return result
    rows = []
    for t, (logits, target) in enumerate(zip(result.logits, targets, strict=True)):
        if setup.loss == "cross-entropy":
            logarithms = torch.log_softmax(logits, 1)
            record("y_hat", t, logarithms.exp().detach())
            rows.append(-(target * logarithms).sum(1))
        else:
            error = record("e", t, logits - target)
            rows.append((error * error).mean(1))
    result.rows = torch.stack(rows)
    return result


class Event(NamedTuple):
    """What is done before a batch: a weight is set, the learning rate is set, or the batch does not learn."""

    batch: int
    parameter: str = ""
    index: tuple[int, ...] = ()
    value: float = 0.0
    rate: float | None = None
    learns: bool = True


class Trained(NamedTuple):
    """A batch of the training: its pass, the weights before and after it, the gradients, and the norm of all of them."""

    inputs: list[torch.Tensor]
    targets: list[torch.Tensor]
    states: dict[str, torch.Tensor]
    batch: Pass
    before: Arrays
    after: Arrays
    gradients: Arrays
    learns: bool
    memory: dict[str, Any]  # of the update rule, before the batch

    @property
    def loss(self) -> float:
        return self.batch.loss.item()

    @property
    def norm(self) -> float:
        return float(np.sqrt(sum(np.square(each).sum() for each in self.gradients.values())))


class Loop:
    """The training: `batches` has each batch so far. Weights have two axes; vectors are rows."""

    def __init__(self, setup: Setup, weights: Arrays, rate: float, seed: int | None = None) -> None:
        self.setup, self.rate, self.seed, self._first = setup, rate, seed, weights
        self.parameters = {
            name: torch.tensor(np.atleast_2d(np.asarray(value, np.float64))).requires_grad_() for name, value in weights.items()
        }
        self.batches: list[Trained] = []
        # The same memory with a version of its own, which an earlier graph does not notice when it changes.
        values = self._shadows = [value.data for value in self.parameters.values()]
        if setup.optimizer == "adam":
            self.optimizer: torch.optim.Optimizer = torch.optim.Adam(values, rate, foreach=False)
        else:
            self.optimizer = torch.optim.SGD(values, rate, momentum=0.9 if setup.optimizer == "momentum" else 0, foreach=False)
        self._draws, self._is_noisy = 0, False

    @contextmanager
    def rounding(self) -> Iterator[None]:
        """Compute with this loop's noise."""
        if self.seed is None or self._is_noisy:
            yield
            return
        self._draws, self._is_noisy = self._draws + 1, True
        try:
            with Rounding(NOISE[self.setup.dtype], self.seed + 1000 * self._draws):
                yield
        finally:
            self._is_noisy = False

    def zeros(self, rows: int) -> dict[str, torch.Tensor]:
        """Return states of 0, (B, H) each."""
        units = {state: self.parameters["Wy"].shape[0] // len(self.setup.directions) for state in self.setup.states}
        return {state: torch.zeros(rows, count, dtype=torch.float64, requires_grad=True) for state, count in units.items()}

    def arrays(self) -> Arrays:
        return {name: value.detach().numpy().copy() for name, value in self.parameters.items()}

    def train(
        self,
        inputs: Sequence[np.ndarray],
        targets: Sequence[np.ndarray],
        *,
        first: bool,
        learns: bool = True,
        gradient: Change | None = None,
        **options: Any,
    ) -> Trained:
        """Train on a batch of one-hot arrays; `first` is True for the first one of an epoch. `gradient` replaces an entry of the
        gradient of a parameter. `options` are those of `run`."""
        x, y = ([torch.tensor(np.asarray(each, np.float64)) for each in arrays] for arrays in (inputs, targets))
        states = (
            self.batches[-1].batch.states if self.batches and not first and self.setup.carry != "reset" else self.zeros(len(x[0]))
        )
        if self.setup.carry != "notebook":
            states = {name: value.detach().requires_grad_() for name, value in states.items()}
        before, memory = self.arrays(), deepcopy(self.optimizer.state_dict())
        with self.rounding():
            batch = run(self.setup, self.parameters, x, y, states, **options)
            for value in self.parameters.values():
                value.grad = None
            if learns:
                batch.backward(batch.loss, retain=self.setup.carry == "notebook")
            if gradient is not None:
                (slope,) = (value.grad for name, value in self.parameters.items() if name == gradient.name)
                assert slope is not None
                slope.view(-1)[gradient.index] = gradient.value
            gradients = {
                name: np.zeros(value.shape) if value.grad is None else value.grad.numpy().copy()
                for name, value in self.parameters.items()
            }
            if learns:
                self.update()
        done = Trained(
            x,
            y,
            {name: value.detach().requires_grad_() for name, value in states.items()},
            batch,
            before,
            self.arrays(),
            gradients,
            learns,
            memory,
        )
        self.batches.append(done)
        return done

    def update(self) -> None:
        """Change the weights by their gradients. Their graph does not notice: earlier batches are differentiated with the weights
        of now, as a script that changes `p.data` does it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        if self.setup.clip:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.setup.clip, foreach=False)
        for shadow, value in zip(self._shadows, self.parameters.values(), strict=True):
            shadow.grad = torch.zeros_like(value) if value.grad is None else value.grad
        self.optimizer.step()

    def before_last(self) -> Loop:
        """Return a loop before the last batch, which can be trained otherwise. Not with gradients into earlier batches."""
        last = self.batches[-1]
        loop = Loop(self.setup, last.before, self.rate, self.seed)
        loop.optimizer.load_state_dict(deepcopy(last.memory))
        loop.batches = self.batches[:-1]
        return loop

    def set(self, parameter: str, index: tuple[int, ...], value: float) -> None:
        """Set a weight."""
        self.parameters[parameter].data[(0, *index)[-2:]] = value

    def at(self, batch: int, weights: str = "before") -> dict[str, torch.Tensor]:
        """Return the weights before or after a batch, as leaves of a graph."""
        return {name: torch.tensor(value).requires_grad_() for name, value in getattr(self.batches[batch], weights).items()}


def bound(runs: Sequence[np.ndarray], dtype: str) -> float:
    """Return how far rounding takes an array from that of the first of these runs, the one without noise."""
    first, *noisy = runs
    eps = float(np.finfo(dtype).eps)
    apart = max((float(np.abs(each - first).max(initial=0.0)) for each in noisy), default=0.0)
    return TERMS * (apart * eps / NOISE[dtype] + eps * float(np.abs(first).max(initial=0.0)))
