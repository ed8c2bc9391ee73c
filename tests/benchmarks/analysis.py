"""Time of the analysis commands at H 256, B 32, T 64, V 96: `python -m tests.benchmarks.analysis`.

A redraw is the CPU time to rebuild a panel and draw every visible row, at 160x50. The targets are 50 ms for a redraw, 16 ms from a
key to the largest entry, 5 s for all units over a text of 100 kB, and a tenth of the run for the findings.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from textual.geometry import Region

from tests.soak.healthy import random_text
from tui_gru.analysis.summaries import largest_entry
from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import until_idle
from tui_gru.tui.keys import execute
from tui_gru.tui.panel import Panel
from tui_gru.tui.panels.sequence import Sequence
from tui_gru.tui.panels.values import Gates
from tui_gru.tui.panels.weights import WeightsPanel
from tui_gru.tui.running import MANY_BATCHES

ROUNDS = 15
BATCHES = 40
LENGTH = 100_000
SIZES = {"hidden_size": 256, "batch_size": 32, "seq_length": 64}
VOCABULARY = "".join(map(chr, range(32, 127))) + "\n"
OVERLAYS = {"findings": "!", "units": "h", "influence": "y", "losses": "d", "arrays": "W"}


def cpu(call: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def redrawn(panel: Any) -> float:
    """Return the median of the CPU seconds in which a panel shows a batch after the one that it shows, all rows in view drawn."""
    screen = panel.screen

    def once() -> float:
        screen.session.step("batch")
        snapshot = screen.session.snapshot()
        return cpu(lambda: (panel.show(snapshot, screen.view), draw(panel)))

    return median(once() for _ in range(ROUNDS))


def draw(widget: Any) -> None:
    """Draw every row of a panel, or of the panels in a container, that is in view."""
    for panel in (widget,) if isinstance(widget, Panel) else [panel for panel in widget.query(Panel) if panel.region]:
        panel.render_lines(Region(0, 0, panel.size.width, panel.size.height))


async def measure() -> None:
    text = random_text(random.Random(1), LENGTH)
    app = make_app(Config.of(text=text, vocabulary=VOCABULARY, seed=1, **SIZES))
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.pause()
        session = app.screen.session
        session.learning = True
        run = cpu(lambda: session.step("batch", BATCHES))
        print(f"{BATCHES} batches: {run:.2f} s")
        found = cpu(session.findings)
        share = found / (run / BATCHES * MANY_BATCHES)
        print(f"findings: {found:.2f} s, {share:.3f} of the shortest run after which they are looked for unasked   at most 0.1")
        print(f"units over {LENGTH:,} characters: {cpu(session.units):.2f} s of CPU")
        session.step("timestep", 9)
        app.screen.show_now()
        for name, key in OVERLAYS.items():
            begun = time.process_time()
            await pilot.press(key)
            while app.screen.running or app.screen.expecting:
                await asyncio.sleep(0.02)
            await until_idle(pilot)
            await pilot.pause()
            opened = time.process_time() - begun
            panel = app.screen.overlay
            print(f"{name:10} opened in {opened:.2f} s of CPU, redrawn in {1000 * redrawn(panel):.1f} ms")
            if name == "units":
                moved = median(cpu(lambda panel=panel: (panel.action_unit(1), draw(panel))) for _ in range(ROUNDS))
                print(f"{'':10} the next unit {1000 * moved:.1f} ms")
        await pilot.press("escape")
        await until_idle(pilot)
        session.step("batch", 1)
        app.screen.show_now()
        await until_idle(pilot)
        screen = app.screen
        for kind in (Sequence, Gates, WeightsPanel):
            panel = screen.query_one(kind)
            print(f"{kind.__name__:10} redrawn in {1000 * redrawn(panel):.1f} ms")
        screen.query_one(WeightsPanel).chosen = "Uz"
        for words, press in {
            "largest": lambda: execute(screen, "largest"),
            "largest gradient": lambda: execute(screen, "largest-gradient"),
            "sorted by size": lambda: execute(screen, "sort"),
        }.items():
            moved = median(cpu(lambda press=press: (press(), draw(screen.query_one(WeightsPanel)))) for _ in range(ROUNDS))
            print(f"{words:16} {1000 * moved:.1f} ms, drawn")
        weights = session.parameter("Uz")
        print(
            f"largest entry of {weights.shape}: {1000 * median(cpu(lambda: largest_entry(weights)) for _ in range(ROUNDS)):.2f} ms"
        )


if __name__ == "__main__":
    asyncio.run(measure())
