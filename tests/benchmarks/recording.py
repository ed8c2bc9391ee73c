"""Overhead of recording for a training script, and time to open a recording: `python -m tests.benchmarks.recording [ROUNDS]`.

CPU time of a script with torch.nn.GRU at H256 B32 T64, with the steps of all variants in turn; of scripts that call it for one
timestep at a time, at the sizes of char-rnn and at small ones; then of a recording of 1,000 kept steps, 8 GB.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tui_gru.capture.format import StepRecord, encoded_step, lines_name, shard_name, write_shard
from tui_gru.capture.record import record
from tui_gru.imported.recordings import open_recording

torch.set_num_threads(1)
H, B, T = 256, 32, 64
KEPT = 1000
WAYS: dict[str, dict[str, Any] | None] = {
    "the script alone": None,
    "every step kept": {"every": 1},
    "in memory only": {"every": 0},
    "every 100th step kept, nothing in memory": {"every": 100, "last": 0, "on": ""},
    "as by default": {},
}
TARGETS = {"every step kept": "at most 1.10", "in memory only": "at most 1.05", "every 100th step kept, nothing in memory": "1.00"}
PICTURE = """
import gc, os, sys
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
gc.disable()
from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app, new_session
def session_of(folder):
    from tui_gru.session.opening import on_recording
    return on_recording(folder)
app = make_app(session_of(sys.argv[1]) if sys.argv[1] else new_session(Config.of()))
app.call_after_refresh(lambda: app.call_after_refresh(app.exit))
app.run(headless=True)
assert "torch" not in sys.modules
"""
ROUNDS = 9


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(H, H), nn.Linear(H, 96)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.gru(x)[0])
        return out


class Loop(nn.Module):
    """Calls a GRU for one timestep at a time, as char-rnn and decoders do."""

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(inputs, hidden, layers), nn.Linear(hidden, 96)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, outs = None, []
        for one in x:
            out, h = self.gru(one[None], h)
            outs.append(self.head(out[0]))
        return torch.stack(outs)


#: T, B, I, H and layers of loops, and the overhead at which is aimed.
LOOPS = {
    "char-rnn": (100, 50, 100, 128, 2, 1.2),
    "a small one": (100, 16, 64, 64, 1, 1.2),
    "a large one": (64, 32, 256, 256, 1, 1.2),
}


def script(
    folder: Path, options: dict[str, Any] | None, model: Callable[[], nn.Module] = Model, shape: tuple[int, ...] = (T, B, H)
) -> Callable[[], None]:
    """Return a function that does one step of training, recorded or not."""
    torch.manual_seed(0)
    own = model()
    optimizer = torch.optim.SGD(own.parameters(), 1e-3)
    x, targets = torch.randn(shape), torch.randint(96, (shape[0] * shape[1],))
    recorder = None if options is None else record(folder, own, optimizer, **options)

    def step() -> None:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(own(x).flatten(0, 1), targets)
        loss.backward()
        optimizer.step()
        if recorder is not None:
            recorder.step(loss)
            if recorder.kept:  # the disk is small
                newest = recorder.kept.pop()
                (folder / f"step-{newest:08d}.rank0.safetensors").unlink()

    return step


def overhead(rounds: int) -> None:
    """Measure each variant relative to the script alone: the median over rounds of one step of each in turn."""
    with tempfile.TemporaryDirectory() as place:
        steps = {name: script(Path(place) / str(i), options) for i, (name, options) in enumerate(WAYS.items())}
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        for number in range(rounds + 12):
            for name, step in steps.items():
                begun = time.process_time()
                step()
                if number >= 12:  # after the first steps, when memory is reused
                    times[name].append(time.process_time() - begun)
    alone = times["the script alone"]
    print(f"{'the script alone':<44}{1e3 * statistics.median(alone):8.1f} ms a step")
    for name in list(WAYS)[1:]:
        ratio = statistics.median(own / base for own, base in zip(times[name], alone, strict=True))
        best = min(times[name]) / min(alone)
        print(f"{name:<44}{ratio:8.3f} times, fastest by fastest {best:.3f}   {TARGETS.get(name, '')}")


def loops(rounds: int) -> None:
    """Measure the overhead by default for calls of one timestep."""
    for name, (timesteps, rows, inputs, hidden, layers, wanted) in LOOPS.items():
        with tempfile.TemporaryDirectory() as place:
            ways = [
                script(Path(place) / "run.gru", options, partial(Loop, inputs, hidden, layers), (timesteps, rows, inputs))
                for options in (None, {})
            ]
            times: list[list[float]] = [[], []]
            for number in range(rounds + 12):
                for step, own in zip(ways, times, strict=True):
                    begun = time.process_time()
                    step()
                    if number >= 12:
                        own.append(time.process_time() - begun)
            ratio = statistics.median(recorded / alone for alone, recorded in zip(*times, strict=True))
            print(f"{f'calls of one timestep, {name}':<44}{ratio:8.3f} times   at most {wanted}")


def opening() -> None:
    """Measure the opening of a recording of 1,000 kept steps, in processes without torch, whose modules are compiled, as what is
    installed is."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run.gru"
        make(folder)
        size = sum(path.stat().st_size for path in folder.iterdir())
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(place) / "compiled")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        code = f"from tests.benchmarks.open_recording import open_it; open_it({str(folder)!r})"
        for _ in range(2):  # the first one compiles, and fills the disk cache
            printed = run(code, environment)
        print(f"a recording of {KEPT} kept steps, {size / 1e9:.1f} GB\n{printed}", end="")
        first_picture(folder, environment)


def run(code: str, environment: dict[str, str], *arguments: str) -> str:
    """Run a program in a fresh process, and return what it prints."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2], env=environment
    ).stdout


def first_picture(folder: Path, environment: dict[str, str]) -> None:
    """From the start of the program to its first picture: of the recording, against the tutorial, in fresh processes in turn."""
    times: dict[str, list[float]] = {"": [], str(folder): []}
    for _ in range(ROUNDS + 1):
        for name, own in times.items():
            begun = resource.getrusage(resource.RUSAGE_CHILDREN)
            run(PICTURE, environment, name)
            done = resource.getrusage(resource.RUSAGE_CHILDREN)
            own.append(done.ru_utime + done.ru_stime - begun.ru_utime - begun.ru_stime)
    tutorial, recording = (statistics.median(own[1:]) for own in times.values())
    print(f"{'to the first picture, of the tutorial':<44}{1e3 * tutorial:8.1f} ms of CPU")
    print(f"{'to the first picture, of the recording':<44}{recording / tutorial:8.3f} times   at most 1.5")


def make(folder: Path) -> None:
    """Write one recorded step under a thousand numbers, with another loss, norm and learning rate each, since training them would
    take longer."""
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with record(folder, model, optimizer, every=1) as recorder:
        model(torch.randn(T, B, H)).sum().backward()
        optimizer.step()
        recorder.step(1.0)
    step = open_recording(folder).load(0)
    with open(folder / lines_name(0), "a", encoding="utf-8") as lines:
        for number in range(1, KEPT):
            loss, norm, rate = 1 / (1 + number), 1 + 1 / number, 1e-3 * 0.999**number
            arrays, about = encoded_step(replace(step, number=number, loss=loss, settings={**step.settings, "lr": rate}))
            write_shard(folder / shard_name(number, 0), arrays, {**about, "why": "every", "norm": norm})
            lines.write(StepRecord(number, "every", loss, norm, (loss,)).written())


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    overhead(count)
    loops(count)
    opening()
