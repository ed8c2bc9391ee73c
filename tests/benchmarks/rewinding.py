"""What `tui_gru.steps` costs while a script trains: `python -m tests.benchmarks.rewinding [ROUNDS]`.

The share of the steps of a large model. CPU time of a step of three ways to write a loop, plainly and watched in turn; medians of
the ratios. Then learning rates tried over the last steps, beside the time of these steps.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import statistics
import sys
import time
import unittest.mock as mock
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import tui_gru
from tui_gru.rewind.loop import TrainingLoop

torch.set_num_threads(1)
H, B, T, INPUTS = 64, 16, 20, 16
STEPS, ROUNDS = 400, 9


class Model(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.rnn = nn.GRUCell(INPUTS, H) if way == "nn.GRUCell" else nn.GRU(INPUTS, H)
        self.head = nn.Linear(H, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.way == "nn.GRU":
            return self.head(self.rnn(x)[0])
        outputs, h = [], None if self.way == "one timestep" else torch.zeros(B, H)
        for t in range(T):
            if self.way == "one timestep":
                out, h = self.rnn(x[t : t + 1], h)
                outputs.append(out[0])
            else:
                h = self.rnn(x[t], h)
                outputs.append(h)
        return self.head(torch.stack(outputs))


def trained(way: str, wrap: Callable[..., Any]) -> float:
    """Train, and return the CPU seconds."""
    torch.manual_seed(0)
    model = Model(way)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    begin = time.process_time()
    for _ in wrap(range(STEPS), model, optimizer):
        x = torch.randn(T, B, INPUTS)
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
    return time.process_time() - begin


def rates(way: str) -> float:
    """Return the CPU time of the rates beside that of the steps over which they are tried."""
    ratios = []

    def measure(run: Any) -> None:
        begin = time.process_time()
        run.again()
        again = time.process_time() - begin
        begin = time.process_time()
        run.rates()
        ratios.append((time.process_time() - begin) / again)

    trained(way, lambda loader, *stateful: tui_gru.steps(loader, *stateful, pause=[60, 180, 300], screen=measure))
    return statistics.median(ratios)


LARGE_H, LARGE_STEPS = 2048, 40


def share_of_a_large_model() -> tuple[float, float, int]:
    """Train a model of 100 MB with Adam; return the CPU seconds of a step, the share of them in which steps are kept, and the
    number of states."""
    torch.manual_seed(0)
    model = nn.GRU(LARGE_H, LARGE_H)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    kept, states = [0.0], [0]

    def timed(name: str) -> Any:
        function = getattr(TrainingLoop, name)

        def measured(*arguments: Any, **named: Any) -> Any:
            begin = time.process_time()
            states[0] += name == "_keep_state"
            try:
                return function(*arguments, **named)
            finally:
                kept[0] += (time.process_time() - begin) * (name != "_keep_state")  # which start_step calls

        return mock.patch.object(TrainingLoop, name, measured)

    with timed("start_step"), timed("end_step"), timed("_keep_state"):
        begin = time.process_time()
        for _ in tui_gru.steps(range(LARGE_STEPS), model, optimizer, screen=False):
            optimizer.zero_grad()
            model(torch.randn(8, 16, LARGE_H))[0].pow(2).mean().backward()
            optimizer.step()
        seconds = (time.process_time() - begin) / LARGE_STEPS
    return seconds, kept[0] / LARGE_STEPS / seconds, states[0]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    seconds, share, states = share_of_a_large_model()
    print(f"a model of 100 MB with Adam: a step {seconds:.2f} s of CPU, of it {share:.1%} (wanted ≤ 3 %), {states} states")
    for way in ("nn.GRU", "one timestep", "nn.GRUCell"):
        pairs = []
        for _ in range(rounds):
            plain = trained(way, lambda loader, *stateful: loader)
            pairs.append((plain, trained(way, lambda loader, *stateful: tui_gru.steps(loader, *stateful, screen=False))))
        plain = statistics.median(plain for plain, _ in pairs) / STEPS
        ratio = statistics.median(watched / plain for plain, watched in pairs)
        print(f"{way}: a step {1e3 * plain:.2f} ms of CPU, watched ×{ratio:.3f} (wanted ≤ 1.15)", flush=True)
        print(f"{way}: seven rates ×{rates(way):.1f} of the steps computed again (wanted ≤ 8)", flush=True)


if __name__ == "__main__":
    main()
