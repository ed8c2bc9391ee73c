"""Keys and commands for the screen, drawn after each of them, on every size; and every current line in every timestep and size.

python -m tests.soak.screen --count 100000 --seed 0

The blocks alternate: random keys faster than they are drawn, commands of random words, every key on models of other programs, a
key that is held down in a terminal, and the lines at work. They are the tests of tests/tui, which have a sample of this.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from contextlib import closing
from itertools import product
from pathlib import Path

from tests.soak.blocks import run_blocks
from tests.terminal import Terminal
from tests.tui.panels.sessions import every_line, large, tutorial
from tests.tui.panels.test_current_line import P
from tests.tui.test_imported_screen import OTHERS, SIZES
from tests.tui.test_imported_screen import driving as driving_given
from tests.tui.test_main_screen import driving
from tests.tui.test_storms import TEXTS, stormed
from tests.tui.test_terminal import held_down
from tests.tui.test_typed_commands import enter_junk
from tui_gru.tui.headless import until_checked
from tui_gru.tui.panel import View
from tui_gru.tui.panels.line import drawn_line

KEYS, COMMANDS, HELD = 400, 100, 1500
WALK = "s o f n N e E S O F v v v x x x r R L L z z ^ @ f o enter right escape s o o enter escape i escape tab tab enter escape"
MODELS = ({"make": tutorial, "reset": "after"}, {"make": large}, {"make": large, "reset": "after"}, {"cell": "lstm"}, {"layers": 2})


def random_keys(chance: random.Random, folder: Path) -> int:
    text, odd = chance.choice(list(TEXTS.values())), chance.random() < 0.5
    theme = chance.choice(("whiteboard", "blackboard"))
    size, seed = chance.choice(SIZES), chance.randrange(10**6)
    asyncio.run(stormed(size, text, ascii_=odd, theme=theme, drawn=True, keys=KEYS, seed=seed))
    return KEYS


def random_commands(chance: random.Random, folder: Path) -> int:
    async def typed() -> None:
        async with driving(chance.choice(SIZES)) as d:
            await d.type("l", "2n", "N")
            await enter_junk(d, chance, COMMANDS)

    asyncio.run(typed())
    return COMMANDS


def every_key(chance: random.Random, folder: Path) -> int:
    keys = [
        *WALK.split(),
        *["r", "tab", "tab", "i", "escape", "b", "c", "C", "B", "J", "escape", "e", "x", "x", "k", "escape", "?", "escape"],
    ]

    async def typed() -> None:
        async with driving_given(chance.choice(OTHERS)(folder), chance.choice(SIZES)) as d:
            for key in keys:
                await d.type(key)
            await until_checked(d.pilot)

    asyncio.run(typed())
    return len(keys)


def a_held_key(chance: random.Random, folder: Path) -> int:
    with closing(Terminal(size=chance.choice(((100, 30), (160, 50))))) as terminal:
        terminal.wait("training loop")
        held_down(terminal, HELD)
        terminal.type("q")
        assert terminal.wait_for_the_end() == 0
    return HELD


def every_line_at_work(chance: random.Random, folder: Path) -> int:
    done = 0
    sizes = list(product((36, 50, 78, 114, 160), (4, 6, 10, 20, 50)))
    for snapshot in every_line(**chance.choice(MODELS)):
        for width, height in sizes if snapshot.line.formula is not None else ():
            box = drawn_line(P, snapshot, snapshot.line, View(chance.choice((None, 0, 1))), width, height)[0]
            assert max(box.width - width, box.height - height) <= 0, (snapshot.line.text, width, height)
            done += 1
    return done


KINDS = (random_keys, random_commands, every_key, a_held_key, every_line_at_work)


def block(seed: int) -> int:
    """One of the kinds. How many keys, commands and drawn lines it had. A report of an error is a finding."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        os.chdir(folder)
        try:
            done = KINDS[seed % len(KINDS)](random.Random(seed), folder)
        finally:
            os.chdir("/")
        reports = [path.read_text() for path in folder.glob("state/tui-gru/reports/*")]
        assert not reports, "\n".join(reports)
    return done


if __name__ == "__main__":
    run_blocks(__doc__ or "", "keys, commands and lines", 10**5, block)
