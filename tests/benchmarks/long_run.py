"""Time and memory of a run of 10^7 batches under the default limit: `python -m tests.benchmarks.long_run [BATCHES [MIB]]`.

The history is assembled, not computed: with a learning rate of 0 and a zero state at the start of each batch, all epochs are equal,
so that their numbers and checkpoints are known. Replays do the same work as those of another run. Milliseconds are CPU time.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import random
import resource
import sys

import numpy as np

from tests.benchmarks.history import MIB, milliseconds, show
from tui_gru.debugger.history import BLOCK, BLOCK_BYTES
from tui_gru.session.session import Session
from tui_gru.tui.plots import Envelope

PIECE = 2**16  # batches
SEEKS = 300
NOWHERE = "loss < 0"


def put_together(batches: int, limit: int) -> Session:
    """Return a session at the end of so many batches of the tutorial."""
    session = Session(carry="reset", learning_rate=0, history_memory=limit)
    session.learning = True
    epoch = session.program.num_batches
    session.step("batch", epoch)
    history, budget = session.state.timeline.last.checkpoints, session.state.timeline.memory.budget
    numbers = np.array([history.numbers(batch) for batch in range(epoch)])
    begun = session.state.timeline.beginning.checkpoints.before(0)
    assert begun is not None
    while history.length < batches:
        first = history.length
        count = min(PIECE, batches - first)
        history.add_all(numbers[np.arange(first, first + count) % epoch])
        batch = max(-(-first // budget.spacing), 1) * budget.spacing
        while batch < first + count:
            history.keep(batch, begun[1])
            batch = (batch // budget.spacing + 1) * budget.spacing
    session.seek(batches * session.program.ticks)
    return session


def memory() -> str:
    """Return the current and the largest memory use of this process."""
    with open("/proc/self/status", encoding="utf-8") as status:
        now = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return f"{now / 1024:.0f} MiB, at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}"


def main(batches: int = 10**7, mib: int = 256) -> None:
    show("memory before", memory())
    session = put_together(batches, mib * MIB)
    budget, scalars = session.state.timeline.memory.budget, session.state.timeline.memory.scalars
    show(f"{batches:,} batches, limit {mib} MiB: memory", memory(), f"a checkpoint every {budget.spacing}")
    show("numbers in the temporary file", f"{scalars.count // BLOCK * BLOCK_BYTES / MIB:.0f} MiB")
    rng, times = random.Random(1), []
    for _ in range(SEEKS):
        tick = rng.randrange(batches * session.program.ticks)
        times.append(milliseconds(lambda tick=tick: (session.seek(tick), session.snapshot())))  # type: ignore[misc]
    for name, figure in zip(("p50", "p99", "worst"), np.percentile(times, (50, 99, 100)), strict=True):
        show(f"seek anywhere and snapshot, {name}", f"{figure:.1f} ms", "at most 50")
    session.seek(session.newest)
    show("a step and snapshot at the end", f"{milliseconds(lambda: (session.step('op', -1), session.snapshot())):.2f} ms")
    show(f"run back until {NOWHERE}", f"{milliseconds(lambda: session.run_back_until(NOWHERE)):.0f} ms")
    session.seek(session.newest)
    session.break_at("loss", condition=NOWHERE)
    show(f"reverse-continue, loss where {NOWHERE}", f"{milliseconds(session.reverse_continue):.0f} ms")
    session.seek(session.newest)
    show("the curve of all losses, the first time", f"{milliseconds(lambda: Envelope(session.snapshot().losses)):.0f} ms")
    show("memory after", memory())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
