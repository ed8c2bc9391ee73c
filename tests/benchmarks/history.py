"""CPU time of stepping, running, searching and seeking: `python -m tests.benchmarks.history [BATCHES [BATCHES]]`.

The first number is the length of the tutorial's run (10^6 takes two minutes), the second that of a run of a larger model (10^5).
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import random
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tui_gru.session.session import Session

MIB = 2**20
SEEKS = 300
CHARACTERS = "".join(chr(40 + i) for i in range(64))
LARGE = {
    "text": "".join(random.Random(0).choices(CHARACTERS, k=4000)), "vocabulary": CHARACTERS, "hidden_size": 32,
    "seq_length": 16, "batch_size": 4,
}  # fmt: skip
TENSOR, SCALAR = "any(abs(h) > 2)", "loss < 0"


def learning(**options: Any) -> Session:
    session = Session(**options)
    session.learning = True
    return session


def milliseconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return 1000 * (time.process_time() - begin)


def show(what: str, figure: str, target: str = "") -> None:
    print(f"{what:<58}{figure:>22}   {target}", flush=True)


def stepping() -> None:
    """Measure a step of each kind, with the snapshot that a screen draws."""
    session = learning()
    session.step("batch", 2000)
    for level, count in (("op", 1), ("op", -1), ("timestep", 1), ("timestep", -1), ("batch", 1), ("batch", -1)):

        def step(level: str = level, count: int = count) -> None:
            session.step(level, count)
            session.snapshot()

        figure = sum(milliseconds(step) for _ in range(1000)) / 1000
        target = "at most 0.3" if level != "batch" else ""
        show(f"step {level} {count:+d} and snapshot", f"{figure:.3f} ms", target)


def searching(batches: int = 3000, rounds: int = 5) -> None:
    """Measure searches through a whole run and the run itself, in turn; print the best of several rounds."""
    times: dict[str, list[float]] = {"run": [], "until": [], "back": [], "stops": []}
    for _ in range(rounds):
        run, search, stops = (learning(epochs=batches // 3) for _ in range(3))
        stops.break_at("h", condition=TENSOR)
        times["run"].append(milliseconds(lambda run=run: run.step("epoch", batches // 3)))  # type: ignore[misc]
        times["until"].append(milliseconds(lambda search=search: search.run_until(TENSOR)))  # type: ignore[misc]
        times["back"].append(milliseconds(lambda search=search: search.run_back_until(TENSOR)))  # type: ignore[misc]
        times["stops"].append(milliseconds(stops.continue_))
    best = {name: min(each) for name, each in times.items()}
    show("running forward, a batch, history kept", f"{best['run'] / batches:.3f} ms", "at most 0.13")
    show(f"run until {TENSOR}, against running", f"{best['until'] / best['run']:.2f} times", "at most 1.2")
    show(f"run back until {TENSOR}, against running", f"{best['back'] / best['run']:.2f} times", "at most 1.2")
    show(f"continue, a breakpoint on {TENSOR}, against running", f"{best['stops'] / best['run']:.2f} times", "at most 1.2")


def seeking(name: str, batches: int, memory: int, targets: tuple[int, int], **options: Any) -> None:
    """Measure seeks to random places of a long run, and a reverse search through all of it."""
    session = learning(history_memory=memory, **options)
    running = milliseconds(lambda: session.step("batch", batches))
    show(f"{name}: running {batches:,} batches, a batch", f"{running / batches:.3f} ms")
    history, budget = session.state.timeline.last.checkpoints, session.state.timeline.memory.budget
    show(f"{name}: checkpoints", f"{history.nbytes / MIB:.1f} MiB", f"limit {memory // MIB}; one every {budget.spacing}")
    rng = random.Random(1)
    times = []
    for _ in range(SEEKS):
        tick = rng.randrange(batches * session.program.ticks)
        times.append(milliseconds(lambda tick=tick: (session.seek(tick), session.snapshot())))  # type: ignore[misc]
    middle, worst = np.percentile(times, (50, 99))
    show(f"{name}: seek anywhere and snapshot, p50", f"{middle:.1f} ms", f"at most {targets[0]}")
    show(f"{name}: seek anywhere and snapshot, p99", f"{worst:.1f} ms", f"at most {targets[1]}")
    session.seek(session.newest)
    backwards = milliseconds(lambda: session.run_back_until(SCALAR))
    show(f"{name}: run back until {SCALAR}, nowhere", f"{backwards:.1f} ms", "at most 100")
    session.seek(session.newest)
    session.break_at("dWz", condition=SCALAR)
    backwards = milliseconds(session.reverse_continue)
    show(f"{name}: reverse-continue, dWz where {SCALAR}", f"{backwards:.1f} ms", "at most 100")
    session.seek(session.newest)
    session.break_at("loss", hits="5")
    backwards = milliseconds(session.reverse_continue)
    show(f"{name}: reverse-continue to the fifth loss", f"{backwards:.1f} ms", "at most 100")


def main(long: int = 10**6, large: int = 10**5) -> None:
    stepping()
    searching()
    seeking("V64 H32 T16 B4", large, 256 * MIB, (150, 450), **LARGE)
    seeking("tutorial", long, 64 * MIB, (16, 50))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
