"""The captures of scripts on whatever device is there, as a table: python -m tests.gpu [cuda|xpu|mps|cpu]

A row is a module in a training loop, followed in one way: `debug` after each step, a recording of all steps, and the same under
autocast, with TF32, in a CUDA graph. Everything runs on the device; the states that are shown are compared with a copy of the
module in float64 on the CPU. Further rows count what makes Python wait for the device within a step: nothing may but what does
without the program. Ends with 1 if a row is wrong.
"""

from __future__ import annotations

import copy
import io
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tests.device import let_copies_be_late, reads_in
from tui_gru import Session
from tui_gru.capture.facts import FIRST_WATCHED

T, B, IN, H = 6, 3, 4, 5
STEPS = 3


class InLoop(nn.Module):
    """A cell in a loop over the timesteps."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state, out = None, []
        for row in x:
            state = self.cell(row, state) if state is not None else self.cell(row)
            out.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(out)


class Whole(nn.Module):
    """A module that reads all timesteps at once."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x)[0]


MODULES: dict[str, Callable[[], nn.Module]] = {
    "nn.GRU": lambda: Whole(nn.GRU(IN, H)),
    "nn.GRU, two layers, both directions": lambda: Whole(nn.GRU(IN, H, 2, bidirectional=True)),
    "nn.LSTM": lambda: Whole(nn.LSTM(IN, H)),
    "nn.RNN": lambda: Whole(nn.RNN(IN, H)),
    "nn.GRUCell in a loop": lambda: InLoop(nn.GRUCell(IN, H)),
    "nn.LSTMCell in a loop": lambda: InLoop(nn.LSTMCell(IN, H)),
}
#: The bits of a number. A product of n numbers that are rounded to p bits is off by n 2**-p at most, relative to the sum of its
#: absolute values; n is IN + H, and T timesteps follow each other.
BITS = {"float32": 24, "float16": 11, "bfloat16": 8, "tf32": 11}


class Row(NamedTuple):
    """A row of the table: the module, the way in which it is followed, what came of it, and the seconds of a step."""

    module: str
    how: str
    outcome: str
    seconds: float

    @property
    def is_wrong(self) -> bool:
        return self.outcome.startswith("WRONG")


def tolerance(numbers: str) -> float:
    """Return the largest difference that rounding explains, relative to the largest entry."""
    return min(T * (IN + H) * 2.0 ** -BITS[numbers], 0.5)


def inputs() -> torch.Tensor:
    """Return the inputs of all steps, (STEPS, T, B, IN)."""
    return torch.randn(STEPS, T, B, IN, generator=torch.Generator().manual_seed(1))


def trained(module: nn.Module, device: str, after: Callable[[torch.Tensor], object], context: Callable[[], Any]) -> float:
    """Train the module for a few steps on the device, with `after` called on the loss of each; return the seconds of the last."""
    optimizer, x = module.optimizer, inputs().to(device)
    seconds = 0.0
    for step in range(STEPS):
        begun = time.perf_counter()
        optimizer.zero_grad()
        with context():
            loss = module(x[step]).float().pow(2).mean()
        loss.backward()
        optimizer.step()
        after(loss)
        seconds = time.perf_counter() - begun
    return seconds


def states_in_float64(module: nn.Module) -> np.ndarray:
    """Return the output of the module for the last step on the CPU in float64, (T, B, directions · H)."""
    x = inputs()[-1]
    return copy.deepcopy(module).cpu().double()(x.double()).detach().numpy()


def shown_states(session: Session) -> np.ndarray:
    """Return the states of the last layer that a session shows, (T, B, directions · H)."""
    names = [name for name in session.program.values if name.split("_l")[0] == "h" and name in session.program.values]
    last = max((name.split("_l")[1][0] for name in names if "_l" in name), default="")
    chosen = [name for name in names if f"_l{last}" in name or not last]
    return np.stack([np.concatenate([session.value(name, t=t) for name in chosen], axis=-1) for t in range(T)])


def judged(session: Session | None, before: nn.Module, numbers: str, said: list[str]) -> str:
    """Return what came of a capture: equal to float64 within rounding, refused with its reason, or wrong by how much."""
    if session is None:
        return f"refused: {said[-1] if said else 'without a word'}"
    if session.end is not None:
        session.seek(session.end)
    right, states = states_in_float64(before), shown_states(session)
    off = float(np.abs(states - right).max() / np.abs(right).max())
    words = f"{off:.1e} from float64, {tolerance(numbers):.1e} is rounding"
    return f"right: {words}" if off <= tolerance(numbers) else f"WRONG: {words}"


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Let products on CUDA round their inputs to TF32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def made(name: str, device: str) -> nn.Module:
    torch.manual_seed(0)
    module = MODULES[name]().to(device)
    module.optimizer = torch.optim.SGD(module.parameters(), 0.1)
    return module


def by_debug(name: str, device: str, numbers: str, context: Callable[[], Any]) -> Row:
    """Follow the module by `tui_gru.debug`, called after each step."""
    module, weights, sessions = made(name, device), list[nn.Module](), list[Session | None]()
    with warnings.catch_warnings(record=True) as said, redirect_stderr(io.StringIO()):
        warnings.simplefilter("always")
        tui_gru.debug(module, module.optimizer, screen=False)
        hook = module.register_forward_pre_hook(lambda *_: weights.append(plain_copy(name, module)))
        seconds = trained(
            module, device, lambda loss: sessions.append(tui_gru.debug(module, module.optimizer, screen=False)), context
        )
        hook.remove()
    return Row(
        name, f"debug, {numbers}", judged(sessions[-1], weights[-1], numbers, [str(warning.message) for warning in said]), seconds
    )


def plain_copy(name: str, module: nn.Module) -> nn.Module:
    """Return a copy with the weights of this moment, on the CPU and without hooks."""
    fresh = MODULES[name]()
    fresh.load_state_dict({entry: tensor.detach().cpu() for entry, tensor in module.state_dict().items()})
    return fresh


def by_recording(name: str, device: str, numbers: str, context: Callable[[], Any]) -> Row:
    """Record every step, and open the last."""
    module, weights = made(name, device), list[nn.Module]()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        hook = module.register_forward_pre_hook(lambda *_: weights.append(plain_copy(name, module)))
        with tui_gru.record(Path(folder) / "run.gru", module, module.optimizer, every=1) as recorder:
            seconds = trained(module, device, lambda loss: recorder.step(loss), context)
        hook.remove()
        session = Session.open(Path(folder) / "run.gru")
        outcome = judged(session, weights[-1], numbers, [str(warning.message) for warning in said])
    return Row(name, f"record, {numbers}", outcome, seconds)


def by_steps(name: str, device: str, numbers: str, context: Callable[[], Any]) -> Row:
    """Train in a loop over `tui_gru.steps`, and show its last steps."""
    model, weights = made(name, device), list[nn.Module]()
    optimizer, x, seconds = model.optimizer, inputs().to(device), 0.0
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run = tui_gru.steps(list(x), model, optimizer, screen=False)
        for batch in run:
            begun = time.perf_counter()
            optimizer.zero_grad()
            with context():
                loss = model(batch).float().pow(2).mean()
            loss.backward()
            weights.append(plain_copy(name, model))
            optimizer.step()
            seconds = time.perf_counter() - begun
        session = run.session()
    return Row(
        name, f"steps, {numbers}", judged(session, weights[-1], numbers, [str(warning.message) for warning in said]), seconds
    )


def by_counting(name: str, device: str) -> Row:
    """Record a module, and count the reads of a step that would make Python wait for the device."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if device == "cpu":  # whose numbers are there at once
            let_copies_be_late(patch)
        models, x = [made(name, device) for _ in range(2)], inputs()[0].to(device)

        def step(model: nn.Module) -> torch.Tensor:
            model.optimizer.zero_grad()
            loss = model(x).pow(2).mean()
            loss.backward()
            model.optimizer.step()
            return loss.detach()

        seconds = 0.0
        with tui_gru.record(Path(folder) / "run.gru", models[0], models[0].optimizer, every=1) as recorder:
            for _ in range(FIRST_WATCHED + 1):  # the first steps are looked at for facts about the script
                begun = time.perf_counter()
                recorder.step(step(models[0]))
                seconds = time.perf_counter() - begun
                step(models[1])
            loss, reads = reads_in(partial(step, models[0]))
            recorder.step(loss)
        alone = reads_in(partial(step, models[1]))[1]
    words = f"a step waits {len(reads)} times, without the program {len(alone)} times"
    outcome = f"right: {words}" if sorted(reads) == sorted(alone) else f"WRONG: {words}: {', '.join(reads)}"
    return Row(name, "record, waiting", outcome, seconds)


def in_a_graph(device: str) -> Row:
    """Call the module inside of a CUDA graph, whose calls cannot be followed: it must be said, and nothing may break."""
    name = "nn.GRU"
    module = made(name, device)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        tui_gru.debug(module, module.optimizer, screen=False)
        x = torch.randn(T, B, IN, device=device)
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                module(x)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = module(x)
        graph.replay()
        torch.cuda.synchronize()
        finite = bool(out.isfinite().all())
        session = tui_gru.debug(module, module.optimizer, screen=False)
    words = "; ".join(str(warning.message) for warning in said)
    good = finite and (session is not None or words)
    return Row(name, "debug in a CUDA graph", f"{'right' if good else 'WRONG'}: {words or 'followed outside of the graph'}", 0.0)


def rows(device: str) -> Iterator[Row]:
    """Yield the rows of a device as they are known."""
    kinds: list[tuple[str, Callable[[], Any]]] = [("float32", nullcontext)]
    kinds += [
        (low, lambda low=low: torch.autocast(device, getattr(torch, low)))
        for low in ("bfloat16", "float16")[: 1 + (device == "cuda")]
    ]
    kinds += [("tf32", partial(tf32, True))] if device == "cuda" else []
    for name in MODULES:
        for numbers, context in kinds:
            try:
                trained(made(name, device), device, lambda loss: None, context)
            except RuntimeError as error:
                yield Row(name, f"alone, {numbers}", f"cannot run here: {str(error).splitlines()[0]}", 0.0)
                continue
            for follow in (by_debug, by_recording, by_steps):
                try:
                    with tf32(False):
                        yield follow(name, device, numbers, context)
                except Exception as error:  # a row that fails does not hide the others
                    yield Row(name, f"{follow.__name__}, {numbers}", f"WRONG: {type(error).__name__}: {error}", 0.0)
    for name in MODULES:
        try:
            yield by_counting(name, device)
        except Exception as error:
            yield Row(name, "record, waiting", f"WRONG: {type(error).__name__}: {error}", 0.0)
    if device == "cuda":
        yield in_a_graph(device)


def accelerator() -> str:
    """Return the accelerator of this machine, or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "xpu" if hasattr(torch, "xpu") and torch.xpu.is_available() else "cpu"


def main() -> int:
    device = sys.argv[1] if len(sys.argv) > 1 else accelerator()
    name = torch.cuda.get_device_name() if device == "cuda" else device
    print(f"tui-gru {tui_gru.__version__}, torch {torch.__version__}, on {name}\n")
    wrong = 0
    for row in rows(device):
        wrong += row.is_wrong
        print(f"{row.module:<38}{row.how:<24}{row.seconds * 1e3:8.1f} ms  {row.outcome}", flush=True)
    print(f"\n{wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
