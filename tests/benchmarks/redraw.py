"""CPU time from a key to the complete redraw of the screen at 160x50, and the backlog that a held key leaves.

python -m tests.benchmarks.redraw
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from typing import Any

from textual.events import Key
from textual.pilot import Pilot

from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app

SIZE = (160, 50)
ROUNDS = 60


def large() -> dict[str, Any]:
    """H 64, B 16, V 64 on random text."""
    characters = "".join(chr(40 + i) for i in range(64))
    text = "".join(random.Random(0).choices(characters, k=4000))
    return {"text": text, "vocabulary": characters, "hidden_size": 64, "batch_size": 16, "seq_length": 32}


async def cost(options: dict[str, Any], key: str) -> list[float]:
    """Return the CPU seconds of each of ROUNDS presses, from the key to the picture, with keys sent as by a terminal."""
    app = make_app(Config.of(**options))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        times = []
        for _ in range(ROUNDS):
            begun = time.process_time()
            await press(pilot, key)
            times.append(time.process_time() - begun)
        return times


async def press(pilot: Pilot[None], key: str) -> None:
    """Press a key as `Pilot.press` does, without its pauses."""
    app, before = pilot.app, pilot.app.screen.snapshot
    app.post_message(Key(key, key))
    while app.screen.snapshot is before or not app.screen.drawn:
        await asyncio.sleep(0)
    await asyncio.sleep(1 / 60)  # a frame: the screen paints


async def backlog(options: dict[str, Any], keys: int) -> float:
    """Return the seconds from the last of many keys until the screen is idle."""
    app = make_app(Config.of(**options))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        for _ in range(keys):
            app.post_message(Key("o", "o"))
            await asyncio.sleep(1 / 30)  # a keyboard's repeat
        begun = time.perf_counter()
        while app.screen.session.position.tick < keys or not app.screen.drawn:
            await asyncio.sleep(0.001)
        return time.perf_counter() - begun


def main() -> None:
    for name, options, limit in (("tutorial", {}, 12), ("H64 B16 T32 V64", large(), 18)):
        for key in ("o", "s"):
            times = asyncio.run(cost(options, key))
            print(f"{name}: key {key} to screen {statistics.median(times) * 1e3:.1f} ms of CPU (at most {limit})")
        print(f"{name}: 60 keys held down, at rest {asyncio.run(backlog(options, 60)) * 1e3:.0f} ms after the last")


if __name__ == "__main__":
    main()
