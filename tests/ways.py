"""The way of a key through the program: the functions that it calls, in their order.

python -m tests.ways n n s prints those of the last key.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import tui_gru
from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless, until_idle

FOLDER = Path(tui_gru.__file__).parent


async def way_of(*keys: str) -> list[tuple[str, str]]:
    """Return the file and the qualified name of every function that the last key calls until the screen is drawn."""
    called: list[tuple[str, str]] = []
    folder = f"{FOLDER}/"

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(folder) and not code.co_filename.endswith("/headless.py"):
            called.append((code.co_filename.removeprefix(folder), code.co_qualname))

    app = make_app(Config.of())
    async with headless(app, (160, 50)) as pilot:
        await until_idle(pilot)
        for key in keys[:-1]:
            await pilot.press(key)
            await until_idle(pilot)
        sys.setprofile(profile)
        try:
            await pilot.press(keys[-1])
            await until_idle(pilot)
            await pilot.pause()
        finally:
            sys.setprofile(None)
    return called


if __name__ == "__main__":
    for file, function in dict.fromkeys(asyncio.run(way_of(*sys.argv[1:]))):
        print(file, function)
