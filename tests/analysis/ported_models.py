"""GRUs ported from PyTorch, correct or with one mistake, each with the output of the original."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import tui_gru
from tui_gru import Session

T, B, IN, H = 7, 5, 3, 4
LENGTHS = np.array([7, 3, 5, 7, 2])
IN_GATES = torch.arange(3 * H) < 2 * H  # of the entries of a bias: those of z and r
Weights = dict[str, Tensor]

_folder = tempfile.TemporaryDirectory()
atexit.register(_folder.cleanup)


def module(**options: Any) -> nn.GRU:
    torch.manual_seed(3)
    return nn.GRU(IN, H, **options)


def lstm(forget_bias: float = 0, second_bias: float = 1) -> nn.LSTM:
    """Return an LSTM with a number added to the bias of its forget gate, and its second bias times another number."""
    torch.manual_seed(3)
    found = nn.LSTM(IN, H)
    with torch.no_grad():
        found.bias_ih_l0[H : 2 * H] += forget_bias
        found.bias_hh_l0 *= second_bias
    return found


def lstm_on_output(of: Callable[[Tensor], tuple[Tensor, ...]], **said: Any) -> Session:
    """Return a session on the LSTM with the output of another program, in a convention that is not proved."""
    return opened(lstm(), of(inputs())[0], **{"order": "ifgo", "gate": "sigmoid", **said})


def relu_network(**said: Any) -> Session:
    torch.manual_seed(3)
    return opened(nn.RNN(IN, H, nonlinearity="relu"), **said)


def inputs() -> Tensor:
    return torch.randn(T, B, IN, generator=torch.Generator().manual_seed(4))


def with_weights(values: Mapping[str, Tensor]) -> nn.GRU:
    found = module()
    found.load_state_dict(values)
    return found


def changed(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Weights:
    """Return the weights of the module with other biases: `changed` maps those of x W and of h U."""
    values = dict(module().state_dict())
    values["bias_ih_l0"], values["bias_hh_l0"] = change(values["bias_ih_l0"], values["bias_hh_l0"])
    return values


def opened(
    gru: nn.RNNBase, y: Tensor | None = None, *, weights: Weights | None = None, x: Tensor | None = None, **said: Any
) -> Session:
    """Return a session on a file of these weights with the output y; both default to those of the module."""
    path = Path(tempfile.mkstemp(".pt", dir=_folder.name)[1])
    torch.save(weights or gru.state_dict(), path)
    x = inputs() if x is None else x
    y = gru(x)[0] if y is None else y
    session = tui_gru.load(path, inputs=x.numpy(), expect=y.detach().numpy(), **said)
    session.step("batch")
    return session


def reading(gru: nn.GRU | None = None, **said: str) -> Session:
    """Return a session on an output that torch computed, with the file read in the given convention."""
    return opened(gru or module(), **said)


def other_output(give: Callable[[nn.GRU, Tensor], Tensor], gru: nn.GRU | None = None, **said: Any) -> Session:
    """Return a session with the output of another program, a function of the module and the input."""
    gru = gru or module()
    return opened(gru, give(gru, inputs()), **said)


def biases(
    stored: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], used: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], **said: Any
) -> Session:
    """Return a session on a file with changed biases, with the output of biases changed in another way."""
    return opened(with_weights(changed(used)), weights=changed(stored), **said)


def kept(b: Tensor, b_h: Tensor) -> tuple[Tensor, Tensor]:
    return b, b_h


def summed(b: Tensor, b_h: Tensor) -> tuple[Tensor, Tensor]:
    return b + b_h, 0 * b_h


def copied(b: Tensor, b_h: Tensor) -> tuple[Tensor, Tensor]:
    return b + b_h, b + b_h


def summed_in_gates(b: Tensor, b_h: Tensor) -> tuple[Tensor, Tensor]:
    """Merge the two biases of z and r, which does not change the output."""
    return torch.where(IN_GATES, b + b_h, b), torch.where(IN_GATES, 0, b_h)


def without_second(b: Tensor, b_h: Tensor) -> tuple[Tensor, Tensor]:
    return b, 0 * b_h


def packed(gru: nn.GRU, x: Tensor) -> Tensor:
    together = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(gru(together)[0], total_length=T)[0]


def padded_with_zeros(*, within: bool = False, gru: nn.GRU | None = None) -> Session:
    """Rows of different lengths, padded with zeros; with `within`, zeros also occur between other inputs and are real inputs."""
    x = inputs() * torch.tensor(np.arange(T)[:, None] < LENGTHS)[..., None]
    if within:
        x[1, 0] = 0
    gru = gru or module()
    return opened(gru, x=x.to(gru.weight_ih_l0.dtype))


class Adam(torch.optim.Optimizer):
    """Adam, with or without bias correction. All but a share of the entries of each parameter go `farther` than they should."""

    def __init__(
        self,
        parameters: Any,
        *,
        corrected: bool,
        betas: tuple[float, float] = (0.9, 0.999),
        share: float = 1.0,
        farther: float = 1.0,
    ) -> None:
        super().__init__(parameters, {"lr": 0.01, "betas": betas})
        self.corrected, self.betas, self.share, self.farther = corrected, betas, share, farther

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for p in self.param_groups[0]["params"]:
            state = self.state[p]
            n = state["n"] = state.get("n", 0) + 1
            beta1, beta2 = self.betas
            m = state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * p.grad
            v = state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * p.grad**2
            if self.corrected:
                m, v = m / (1 - beta1**n), v / (1 - beta2**n)
            others = torch.linspace(0, 1, p.numel()).reshape(p.shape) > self.share
            p -= 0.01 * m / (v.sqrt() + 1e-8) * torch.where(others, self.farther, 1.0)


def recorded(*, corrected: bool, first: int = 0, **options: Any) -> Session:
    """Return a recording of a few steps of Adam."""
    folder = Path(tempfile.mkdtemp(dir=_folder.name)) / "run.gru"
    gru = module()
    optimizer = Adam(gru.parameters(), corrected=corrected, **options)
    for _ in range(first):
        _learn(gru, optimizer)
    with tui_gru.record(folder, gru, optimizer, every=1) as recorder:
        for _ in range(4):
            _learn(gru, optimizer)
            recorder.step()
    session = Session.open(folder)
    session.step("batch")
    return session


def padded_in_a_script(*, masked: bool, beyond: int = 0) -> Session:
    """Return a recording of rows padded with zeros and not packed; the loss is that of the rows and so many timesteps beyond, or of
    all padding."""
    folder = Path(tempfile.mkdtemp(dir=_folder.name)) / "run.gru"
    gru, there = module(), torch.tensor(np.arange(T)[:, None] < LENGTHS)[..., None]
    optimizer = torch.optim.SGD(gru.parameters(), 0.1)
    with tui_gru.record(folder, gru, optimizer, every=1) as recorder:
        out = gru(inputs() * there)[0]
        counts = torch.tensor(np.arange(T)[:, None] < LENGTHS + beyond)[..., None] if masked else 1
        ((out - 0.3).pow(2) * counts).mean().backward()
        optimizer.step()
        recorder.step()
    session = Session.open(folder)
    session.step("batch")
    return session


def _learn(gru: nn.GRU, optimizer: Adam) -> None:
    optimizer.zero_grad()
    (gru(inputs())[0] - 0.3).pow(2).mean().backward()
    optimizer.step()
