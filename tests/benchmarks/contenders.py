"""One training batch, computed by a session with its history, by the engine alone, by the tutorial's loop, and by PyTorch's
modules.

The tutorial's loop stores all values of its cell, so that every number can be read afterwards, as in the engine's record.
torch.nn.GRU and torch.nn.LSTM give no access to the gates; they show the speed of a library. None needs torch.optim, since SGD is
one line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from tui_gru import Session
from tui_gru.engine.config import Config
from tui_gru.engine.data import Corpus
from tui_gru.engine.training import Trainer, initial_weights

torch.set_num_threads(1)

Run = Callable[[int], float]  # trains on this many batches, and returns the loss of the last one
LEARNING_RATE = 0.01
BATCHES = 4  # in an epoch


@dataclass(frozen=True)
class Sizes:
    """H units, B rows, T timesteps, V characters."""

    H: int
    B: int
    T: int
    V: int

    def __str__(self) -> str:
        return f"H{self.H} B{self.B} T{self.T} V{self.V}"


SIZES = (Sizes(2, 2, 3, 4), Sizes(64, 16, 32, 64), Sizes(256, 32, 64, 96))


def _config(sizes: Sizes, cell: str, dtype: str = "float32") -> Config:
    """Return a config with a text of random characters, and initial weights for which gradients stay bounded at every size."""
    vocabulary = "".join(map(chr, range(0x4E00, 0x4E00 + sizes.V)))
    text = "".join(np.random.default_rng(0).choice(list(vocabulary), BATCHES * sizes.B * sizes.T + 1))
    return Config.of(
        text=text, vocabulary=vocabulary, hidden_size=sizes.H, batch_size=sizes.B, seq_length=sizes.T, cell=cell,
        optimizer="sgd", clip=0.0, init="torch", layout="tutorial", learning_rate=LEARNING_RATE, dtype=dtype,
    )  # fmt: skip


def session(sizes: Sizes, cell: str = "gru", dtype: str = "float32") -> Run:
    """A session that records everything and stores the history of the run."""
    it = Session(**asdict(_config(sizes, cell, dtype)))
    it.learning = True

    def run(batches: int) -> float:
        it.step("batch", batches)
        return float(it.value("loss"))

    return run


def engine(sizes: Sizes, cell: str = "gru") -> Run:
    """The engine alone, with everything recorded."""
    config = _config(sizes, cell)
    trainer = Trainer(config, Corpus(config))
    records, state, weights = (trainer.new_record(), trainer.new_record()), trainer.initial_state(), initial_weights(config)
    settings = config.settings
    at = 0

    def run(batches: int) -> float:
        nonlocal at, state, weights
        for _ in range(batches):
            record = records[at % 2]
            trainer.run(record, at, weights, trainer.carried(at, state), learn=True, settings=settings)
            state, weights, at = record.states(end=True), record.after, (at + 1) % BATCHES
        return float(record.array("loss"))

    return run


def tutorial_loop(sizes: Sizes, cell: str = "gru") -> Run:
    """The tutorial's loop: one-hot products, a matrix per gate, lists of all computed values, the loss term by term."""
    assert cell == "gru"
    config = _config(sizes, cell)
    corpus = Corpus(config)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in initial_weights(config).items()}
    eye = torch.eye(sizes.V)
    pairs = [(eye[torch.tensor(X)], eye[torch.tensor(Y)]) for X, Y in zip(corpus.inputs, corpus.targets, strict=True)]
    h, at = torch.zeros(sizes.B, sizes.H), 0

    def batch() -> float:
        nonlocal h, at
        if at == 0:
            h = torch.zeros(sizes.B, sizes.H)
        X, Y = pairs[at]
        at = (at + 1) % BATCHES
        for value in p.values():
            if value.grad is not None:
                value.grad.zero_()
        h, kept, outputs = h.detach(), [], []
        for x in X:
            z = torch.sigmoid(x @ p["Wz"] + h @ p["Uz"] + p["bz"])
            r = torch.sigmoid(x @ p["Wr"] + h @ p["Ur"] + p["br"])
            h_tilde = torch.tanh(x @ p["Wh"] + (r * h) @ p["Uh"] + p["bh"])
            h = z * h + (1 - z) * h_tilde
            logits = h @ p["Wy"] + p["by"]
            y_hat = torch.softmax(logits, 1)
            outputs.append(y_hat)
            kept.append((z, r, h_tilde, h, logits, y_hat))
        term1 = Y * torch.log(torch.stack(outputs))
        term2 = term1.sum(2)
        term3 = -term2.mean(1)
        loss = term3.mean()
        loss.backward()
        with torch.no_grad():
            for value in p.values():
                value -= LEARNING_RATE * value.grad
        return loss.item()

    return lambda batches: [batch() for _ in range(batches)][-1]


def torch_module(sizes: Sizes, cell: str = "gru", dtype: str = "float32") -> Run:
    """torch.nn.GRU or torch.nn.LSTM, Linear and cross_entropy, on one-hot input; only the states are stored."""
    corpus = Corpus(_config(sizes, cell))
    kind = {"float32": torch.float32, "float64": torch.float64}[dtype]
    module = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](sizes.V, sizes.H, dtype=kind)
    linear, eye = torch.nn.Linear(sizes.H, sizes.V, dtype=kind), torch.eye(sizes.V, dtype=kind)
    pairs = [(eye[torch.tensor(X)], torch.tensor(Y).flatten()) for X, Y in zip(corpus.inputs, corpus.targets, strict=True)]
    parameters = [*module.parameters(), *linear.parameters()]
    at = 0

    def batch() -> float:
        nonlocal at
        X, targets = pairs[at]
        at = (at + 1) % BATCHES
        for value in parameters:
            if value.grad is not None:
                value.grad.zero_()
        h, _ = module(X)
        loss = torch.nn.functional.cross_entropy(linear(h).flatten(0, 1), targets)
        loss.backward()
        with torch.no_grad():
            for value in parameters:
                value -= LEARNING_RATE * value.grad
        return loss.item()

    return lambda batches: [batch() for _ in range(batches)][-1]


def in_two_threads(run: Run) -> Run:
    """Return a run of PyTorch in two threads."""

    def run_in_two(batches: int) -> float:
        torch.set_num_threads(2)
        try:
            return run(batches)
        finally:
            torch.set_num_threads(1)

    return run_in_two


CONTENDERS = {"session": session, "engine": engine, "tutorial's loop": tutorial_loop, "torch": torch_module}
OF_CELL = {"gru": tuple(CONTENDERS), "lstm": ("session", "engine", "torch")}
