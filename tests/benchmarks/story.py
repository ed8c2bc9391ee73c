"""Time of the story of a run, of trials of learning rates, and of redrawing their panels: `python -m tests.benchmarks.story`.

The targets are 1 s of CPU for the story of 20,000 batches at H 64, 10 s at H 256, 3 s for the learning rates at H 64, and 50 ms for
a redraw at H 256. Two numbers after the command are the batches at H 64 and at H 256, by default 20,000.
"""

from __future__ import annotations

import asyncio
import random
import sys
from statistics import median

from tests.benchmarks.analysis import ROUNDS, cpu, draw
from tests.soak.healthy import random_text
from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import until_idle

LENGTH, BATCHES = 26_000, 20_000
SIZES = {"batch_size": 8, "seq_length": 16}


async def measure(hidden_size: int, batches: int) -> None:
    text = random_text(random.Random(1), LENGTH)
    app = make_app(Config.of(text=text, hidden_size=hidden_size, seed=1, **SIZES))
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.pause()
        session = app.screen.session
        session.learning, session.stop_on_nan = True, False
        print(f"H {hidden_size}: {batches:,} batches, trained in {cpu(lambda: session.step('batch', batches)):.1f} s of CPU")
        print(f"  the story: {cpu(session.story):.2f} s of CPU")
        print(f"  the learning rates: {cpu(session.rates):.2f} s of CPU")
        print(f"  the findings: {cpu(session.findings):.2f} s of CPU; what has gone again: {cpu(session.gone):.2f} s")
        app.screen.show_now()
        await pilot.press("H")
        await until_idle(pilot)
        await pilot.pause()
        panel = app.screen.overlay
        moved = median(cpu(lambda by=by: (panel.action_cursor(by), draw(panel))) for by in (-1, 1) * (ROUNDS // 2))
        print(f"  the story, its cursor moved and drawn: {1000 * moved:.1f} ms")
        await pilot.press("escape", "h")
        await until_idle(pilot)
        await pilot.pause()
        panel = app.screen.overlay
        for what, act in {
            "the next unit": lambda: panel.action_unit(1),
            "the next character": lambda: panel.action_character(1),
            "where it is on": panel.action_span,
        }.items():
            print(f"  units, {what}: {1000 * median(cpu(lambda act=act: (act(), draw(panel))) for _ in range(ROUNDS)):.1f} ms")
        print(f"  units, their plane at first: {1000 * cpu(lambda: (panel.action_plane(), draw(panel))):.1f} ms")
        moved = median(cpu(lambda: (panel.action_character(1), draw(panel))) for _ in range(ROUNDS))
        print(f"  units, the next character in the plane: {1000 * moved:.1f} ms")


if __name__ == "__main__":
    for size, count in zip((64, 256), (*map(int, sys.argv[1:]), BATCHES, BATCHES), strict=False):
        asyncio.run(measure(size, count))
