"""Time to check one batch, to check every batch, and to handle a key while PyTorch is loaded.

python -m tests.benchmarks.check
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from textual.events import Key

from tests.benchmarks.redraw import large
from tui_gru.analysis.check import ENTRIES
from tui_gru.engine.config import Config
from tui_gru.session.session import Session
from tui_gru.tui.app import make_app
from tui_gru.tui.panels.check import CheckReport

ROUNDS = 7
MODELS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("tutorial (H2 B2 T3 V4)", {}),
    ("H64 B16 T32 V64", {**large(), "learning_rate": 1e-9}),
)


def median(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median in milliseconds."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3


async def keys(options: dict[str, Any], *, checking: bool) -> None:
    """Measure the milliseconds from each key to its picture, while a check loads PyTorch and computes, and without one."""
    app = make_app(Config.of(**options))
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.pause()
        screen: Any = app.screen
        if checking:
            app.post_message(Key("k", "k"))
            while screen.overlay is None:
                await asyncio.sleep(0)
        times: list[float] = []
        begun = time.perf_counter()
        while time.perf_counter() - begun < 5 and (len(times) < 40 or checking):
            panel = screen.overlay
            if isinstance(panel, CheckReport) and panel.report is not None:
                break
            before, pressed = screen.snapshot, time.perf_counter()
            app.post_message(Key("o", "o"))
            while screen.snapshot is before or not screen.drawn:
                await asyncio.sleep(0)
            await asyncio.sleep(1 / 60)  # a frame: the screen paints
            times.append((time.perf_counter() - pressed) * 1e3)
            await asyncio.sleep(0.01)
        what = f"during a check of {time.perf_counter() - begun:.1f} s, PyTorch loaded with it" if checking else "without a check"
        ordered = sorted(times)
        print(
            f"  a key to its picture {what}: {statistics.median(times):.0f} ms, "
            f"the slowest {', '.join(f'{t:.0f}' for t in ordered[:-4:-1])} of {len(times)}"
        )


def cost(name: str, options: dict[str, Any]) -> None:
    session = Session(**options)
    session.learning = True
    session.step("batch", 3)
    check = session.batch_check()
    check.run()
    print(f"{name}")
    print(f"  one batch, finite differences on {ENTRIES} entries of each array: {median(check.run):.0f} ms (at most 1000)")
    print(f"  one batch, autograd alone: {median(lambda: check.run(entries=0)):.1f} ms")
    plain = median(lambda: session.step("batch", 10), 5) / 10
    session.check_every_batch = True
    print(f"  a batch of training {plain:.2f} ms, checked {median(lambda: session.step('batch', 10), 5) / 10:.2f} ms")


def main() -> None:
    if sys.argv[1:]:
        index, checking = int(sys.argv[1]), sys.argv[2] == "check"
        asyncio.run(keys(MODELS[index][1], checking=checking))
        return
    for i, (name, options) in enumerate(MODELS):
        cost(name, options)
        for checking in ("plain", "check"):  # in a process of its own, where PyTorch is not loaded yet
            subprocess.run([sys.executable, "-m", "tests.benchmarks.check", str(i), checking], check=True)


if __name__ == "__main__":
    main()
