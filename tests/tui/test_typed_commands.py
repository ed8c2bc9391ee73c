"""Any input on the `:` line is executed or refused in one line; no input ends the program."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.tui.test_keyboard import settled
from tests.tui.test_main_screen import Driver, driving
from tui_gru.errors import TuiGruError
from tui_gru.tui.command import CommandLine, complete
from tui_gru.tui.keys import execute
from tui_gru.tui.screen import MainScreen
from tui_gru.tui.session_screen import BottomLine
from tui_gru.tui.terminal import drawn_once
from tui_gru.tui.verbs import VERBS

HUGE, LONG = "9" * 400, "9" * 5000
REFUSED = (
    "set Wz[,,] 1", "set Wz[1 2,0] 1", "set Wz[- -,0] 1", "set Wz[0,1] {[]}", f"set Wz[0,1] {'-' * 5000}1", "set Wz[,1] 0.5",
    f"set Wz[0,1] {'+'.join('1' * 3000)}", f"set Wz[0,1] {'(' * 300}1{')' * 300}", f"set learning_rate {HUGE}", "set Wz[0,1]",
    f"set Wz[{LONG},0] 1", "set Wz[٣,²] 1", "set text[0] ab", "set text[0] '\\x'", f"set text[{LONG}] a", "set lr nan", "set",
    "why Wz[,]", "why h[,9]", "why dz [ ]", "why h[0,0] t 0", f"why h[0,0] t {LONG}", f"why h[{LONG},0]", "why h[-1,0]",
    "what-if Wz[0,1] {[]}", "what-if z[0,] 0.5", f"what-if z[0,0] {'+'.join('1' * 3000)}", f"what-if z[0,0] 1 t {LONG}",
    "what-if z[0,0] 1 t 9", f"what-if z[0,0] {HUGE}", "what-if z[0,0]", "what-if", f"go e {LONG}", f"go e{HUGE}", f"go b{LONG}",
    f"go e1 b1 t{LONG}", f"go {LONG}", f"go +{LONG}", f"go -{HUGE}e", "go +1x", "go", "go 1 2", "go x%", f"step {LONG} batch",
    f"step -{LONG}", f"step {HUGE}", "step 3 days", "step batch 3", f"sample Ma {LONG}", f"sample Ma {HUGE}",
    "sample Ma 100000000", f"sample Ma 5 {HUGE}", "sample Ma 5 0.5 7", "sample q", f"sample {'Ma' * 600}", f"delete {LONG}",
    f"delete #{LONG}", "delete #", f"enable {LONG}", f"disable {LONG}", "enable ²", f"break #{LONG} z", f"watch #{LONG} z",
    "jump 1", "mark ab", "export ~nosuchuser/x.txt", "export \0.txt", "export \ud800.txt", f"export {LONG}.txt",
    "open ~nosuchuser/x copy", "open \ud800", "open \0", f"save {LONG}", f"save {LONG}/x", "save \ud800", "save ~nosuchuser/x",
    "compare \ud800", "branch \0", "theme \x1b[31m", f"set text[0] 'a'{'+-' * 20_000}'b'", "x" * 300_000,
)  # fmt: skip


async def enter(d: Driver, typed: str) -> None:
    """Type a command including control characters, and wait until it is done; an endless run is stopped."""
    with drawn_once(d.pilot.app):
        d.screen.post_message(CommandLine.Entered(typed))
        await d.pilot.pause()
        async with asyncio.timeout(60):
            while d.screen.running:
                d.session.interrupt()
                await asyncio.sleep(0.002)
        await settled(d)
    await d.pilot.pause()


async def test_what_cannot_be_done_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with driving((80, 24)) as d:
        await d.type("l", "n")
        here = d.session.position
        for typed in REFUSED:
            await enter(d, typed)
            assert d.says, typed
            assert d.screen.query_one(BottomLine).warning, f"{typed[:80]}: {d.says}"
            assert "internal error" not in d.says, typed
            assert d.session.position == here, typed
            await d.type("escape")
        assert d.session.branches == ("main",)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "repeated", "end", "sizes"),
    [
        ("why ", "x", " ", (2000, 32000)),
        ("why ", "x", "!", (2000, 32000)),
        ("compare ", "x", " ", (2000, 32000)),
        ("watch a", " ", "b", (2000, 32000)),
        ("set text[3] '", "\\", "", (12, 24)),
        ("set text[3] '", "\\", "'", (13, 25)),
    ],
)
async def test_a_long_argument_takes_a_time_that_grows_with_its_length(
    command: str, repeated: str, end: str, sizes: tuple[int, int]
) -> None:
    """It is completed and refused; a pattern that tries every beginning, or every division, would take 256 times as long."""

    def seconds(screen: MainScreen, count: int) -> float:
        typed = command + count * repeated + end
        begun = time.process_time()
        complete(screen, typed)
        with suppress(TuiGruError):
            execute(screen, typed)
        return time.process_time() - begun

    async with driving((80, 24)) as d:
        short, long = (min(seconds(d.screen, count) for _ in range(5)) for count in sizes)
        assert long < 60 * short


async def test_what_an_argument_should_be_is_said() -> None:
    async with driving((80, 24)) as d:
        for typed, words in (
            ("sample Ma 10 -1", "temperature must be finite and 0 or more, not -1.0"),
            ("sample Ma nan", "temperature must be finite and 0 or more, not nan"),
            ("step 1e9 batch", "a count is a whole number, not '1e9'; write it as step 3 batch"),
            ("go +1.5e", "a count is a whole number, not '+1.5'"),
            ("go 1e9", "a tick is a whole number, not '1e9'"),
            ("step 3 batc", "there is no level 'batc'; did you mean batch?"),
            ("step 3 days", "there is no level 'days'; there are line, timestep, phase, batch, epoch"),
        ):
            await enter(d, typed)
            assert words in d.says, typed
        assert d.session.position.tick == 0


SIZES = ((160, 50), (80, 24), (40, 12))
NAMES = ("Wz", "h", "z", "loss", "dWy", "x", "text", "lr", "hₜ₋₁", "grad_norm", "t", "epoch", "nan", "ĥ")
INDICES = ("[0,0]", "[0]", "[]", "[,]", "[-1,0]", "[0", "0]", "[²,0]", f"[{HUGE},0]", "[0:1]", "[[0,0]]", "")
VALUES = ("0", "0.5", "-1", "1e999", "nan", "3e38", LONG, "{[]}", "'a'", '"', "'\\x", "1+1", "①", "５", "--1", "()", "#1", "1_0")
WORDS = (
    "t 2", "t 9", "if", "hits", "log", "stop", "copy", "off", "on", "every", "=", "~", "~nobody/x", "%5", "{loss}", "{z",
    "e3 b2", "e0", "50%", "+2n", "main", "main~1", "a", "fed-back", "\0", "\x1b[31m", "\ud800", "\u202e", "x.txt", "x.svg",
)  # fmt: skip
SIGNS = "abWz[](){},.:;'\"\\-+*/%#@!~^&|<>=?_ 0123456789\t\0\x1b\x7fé²٣①\u202e\ud800名"


def junk(randomness: random.Random) -> str:
    """Return a command with random arguments."""

    def word() -> str:
        match randomness.randrange(5):
            case 0:
                return randomness.choice(NAMES) + randomness.choice(INDICES)
            case 1:
                return randomness.choice(VALUES)
            case 2:
                return "".join(randomness.choices(SIGNS, k=randomness.randrange(1, 20)))
            case _:
                return randomness.choice(WORDS)

    command = randomness.choice([verb for verb in VERBS if verb.names and verb.id != "quit"])
    usage = list(command.usage.partition(" ")[2])
    if usage and randomness.random() < 0.2:
        usage[randomness.randrange(len(usage))] = randomness.choice(SIGNS)
        return f"{command.names[0]} {''.join(usage)}"
    return f"{randomness.choice(command.names)} {' '.join(word() for _ in range(randomness.randrange(5)))}"


async def enter_junk(d: Driver, randomness: random.Random, count: int) -> None:
    for _ in range(count):
        typed = junk(randomness)
        await enter(d, typed)
        assert "internal error" not in d.says, typed
        assert d.pilot.app.is_running
        if d.pilot.app.screen is not d.screen or d.screen.overlay is not None:
            await d.type("escape")


@pytest.mark.parametrize("seed", range(3))
async def test_junk_is_done_or_refused(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No unexpected errors occur: the fixture of all tests checks for reports of them."""
    monkeypatch.chdir(tmp_path)
    randomness = random.Random(seed)
    async with driving(SIZES[seed % len(SIZES)]) as d:
        await d.type("l", "2n", "N")
        await enter_junk(d, randomness, 40)
