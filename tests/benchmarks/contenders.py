"""One training batch, three ways: by this engine, by the tutorial's autograd loop, and by torch.nn.GRU.

The tutorial's loop keeps what its cell keeps, so that every number can be looked at afterwards, as the engine's record does.
torch.nn.GRU shows no gates, and is here as the speed of a library. Neither needs torch.optim: SGD is a line.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from tui_gru.engine.parameters import Parameters

from tui_gru.engine.config import Config
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.trainer import Trainer

torch.set_num_threads(1)

Batch = Callable[[], float]  # trains on one batch, returns its loss
LEARNING_RATE = 0.01


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


def _config(sizes: Sizes, reset: str = "before") -> Config:
    vocabulary = "".join(map(chr, range(0x4E00, 0x4E00 + sizes.V)))
    text = "".join(np.random.default_rng(0).choice(list(vocabulary), sizes.B * sizes.T + 1))
    return Config.of(
        text=text, vocabulary=vocabulary, hidden_size=sizes.H, batch_size=sizes.B, seq_length=sizes.T, reset=reset
    )  # fmt: skip


def _parameters(config: Config) -> Parameters:
    """Small enough for gradients to stay tame at every size."""
    flat = np.random.default_rng(1).normal(0, config.hidden_size**-0.5, config.parameter_count)
    return Parameters(flat.astype(np.float32), config.vocab_size, config.hidden_size, config.reset)


def engine(sizes: Sizes) -> Batch:
    """This engine, everything recorded."""
    config = _config(sizes)
    trainer, parameters = Trainer(config, Corpus(config)), _parameters(config)
    record, state = trainer.new_record(), trainer.initial_state()

    def batch() -> float:
        nonlocal parameters
        trainer.run(record, 0, parameters, state, learn=True, learning_rate=LEARNING_RATE)
        parameters = record.updated
        return record.loss

    return batch


def tutorial_loop(sizes: Sizes) -> Batch:
    """The tutorial's loop: one-hot products, a matrix a gate, lists of all that is computed, the loss term by term."""
    config = _config(sizes)
    corpus = Corpus(config)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in _parameters(config).items()}
    eye = torch.eye(sizes.V)
    X, Y = eye[torch.tensor(corpus.inputs[0])], eye[torch.tensor(corpus.targets[0])]
    zero = torch.zeros(sizes.B, sizes.H)

    def batch() -> float:
        for value in p.values():
            if value.grad is not None:
                value.grad.zero_()
        h, kept = zero, []
        outputs = []
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

    return batch


def torch_gru(sizes: Sizes) -> Batch:
    """torch.nn.GRU, Linear and cross_entropy, on one-hot input; nothing is kept but the states."""
    config = _config(sizes)
    corpus = Corpus(config)
    gru, linear = torch.nn.GRU(sizes.V, sizes.H), torch.nn.Linear(sizes.H, sizes.V)
    X, targets = torch.eye(sizes.V)[torch.tensor(corpus.inputs[0])], torch.tensor(corpus.targets[0]).flatten()
    parameters = [*gru.parameters(), *linear.parameters()]

    def batch() -> float:
        for value in parameters:
            if value.grad is not None:
                value.grad.zero_()
        h, _ = gru(X)
        loss = torch.nn.functional.cross_entropy(linear(h).flatten(0, 1), targets)
        loss.backward()
        with torch.no_grad():
            for value in parameters:
                value -= LEARNING_RATE * value.grad
        return loss.item()

    return batch


CONTENDERS = {"engine": engine, "tutorial's loop": tutorial_loop, "torch.nn.GRU": torch_gru}
