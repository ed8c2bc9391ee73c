"""The `:` line's language: a verb and its arguments, parsed into what the main screen does."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tui_gru.engine.config import SAMPLERS
from tui_gru.engine.errors import TuiGruError

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen

LEVELS = {
    "o": "op", "op": "op", "line": "op", "s": "timestep", "t": "timestep", "timestep": "timestep", "f": "phase", "phase": "phase",
    "n": "batch", "b": "batch", "batch": "batch", "e": "epoch", "epoch": "epoch",
}  # fmt: skip


@dataclass(frozen=True)
class Command:
    """`usage` and `help` are what `?` shows; `run` is given the screen and what was typed after the name."""

    names: tuple[str, ...]
    usage: str
    help: str
    run: Callable[[MainScreen, str], None]


def execute(screen: MainScreen, typed: str) -> None:
    """Do what was typed on the `:` line. Raises `TuiGruError` where it cannot be understood or done."""
    name, _, rest = typed.strip().lstrip(":").strip().partition(" ")
    if not name:
        return
    for command in COMMANDS:
        if name in command.names:
            command.run(screen, rest.strip())
            return
    raise TuiGruError(f"there is no command {name!r}; there are: {', '.join(command.names[0] for command in COMMANDS)}")


def _step(screen: MainScreen, rest: str) -> None:
    match = re.fullmatch(r"(-?\d+)?\s*(\w+)?", rest)
    if match is None or (match[2] or "timestep") not in LEVELS:
        raise TuiGruError(f"step takes a count and one of line, timestep, phase, batch, epoch, not {rest!r}: step 3 batch")
    screen.walk(LEVELS[match[2] or "timestep"], int(match[1] or 1))


def _go(screen: MainScreen, rest: str) -> None:
    relative = re.fullmatch(r"([+-]\d+)\s*([a-z]*)", rest)
    if relative is not None and (relative[2] or "op") in LEVELS:
        screen.walk(LEVELS[relative[2] or "op"], int(relative[1]))
    elif percent := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", rest):
        screen.go(round(min(float(percent[1]), 100) / 100 * screen.span))
    elif rest.isdecimal():
        screen.go(int(rest))
    else:
        screen.go(rest)


def _until(screen: MainScreen, rest: str) -> None:
    screen.search(rest, forwards=True)


def _back(screen: MainScreen, rest: str) -> None:
    screen.search(rest, forwards=False)


def _set(screen: MainScreen, rest: str) -> None:
    match = re.fullmatch(r"(\w+)\s*(?:\[([\d,\s-]+)\])?\s*=?\s*(\S.*|'.')", rest)
    if match is None:
        raise TuiGruError(f"write it as Wz[0,1] 0.5, h[0,1] 0.5, learning_rate 0.1, or text[3] a, not {rest!r}")
    name, index, value = match.groups()
    screen.edit(name, tuple(int(part) for part in index.split(",")) if index else None, _value(value))


def _value(text: str) -> str | float:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, (int, float, str)) else text


def _learning(screen: MainScreen, rest: str) -> None:
    if rest not in ("", "on", "off"):
        raise TuiGruError(f"learning takes on or off, not {rest!r}")
    screen.set_learning({"on": True, "off": False}.get(rest))


def _sample(screen: MainScreen, rest: str) -> None:
    """A sampler by its name, a whole number as length, another number as temperature, else the primer; in any order."""
    primer, sampler, length, temperature = None, None, None, None
    for word in rest.split():
        if word in SAMPLERS:
            sampler = word
        elif word.isdecimal() and length is None:
            length = int(word)
        elif re.fullmatch(r"\d+|\d*\.\d+", word) and temperature is None:
            temperature = float(word)
        elif primer is None:
            primer = word
        else:
            raise TuiGruError(f"sample takes a primer, a length, a temperature such as 0.8, and a sampler, not also {word!r}")
    screen.draw_sample(
        primer=primer,
        length=10 if length is None else length,
        temperature=1.0 if temperature is None else temperature,
        sampler=sampler,
    )


def _file(rest: str) -> Path:
    if not rest:
        raise TuiGruError("name a file: save walk.tui-gru, open walk.tui-gru")
    return Path(rest).expanduser()


COMMANDS = (
    Command(("save",), "save FILE", "write this session, its branches and its past", lambda screen, rest: screen.save(_file(rest))),
    Command(("open",), "open FILE", "open a session where it was left", lambda screen, rest: screen.open(_file(rest))),
    Command(("step", "s"), "step 3 batch", "step, a negative count back in time: line, timestep, phase, batch, epoch", _step),
    Command(("go", "g"), "go e3 b2 t1", "go to a place: e3 b2 t1, 50%, +100, -2e, or a tick", _go),
    Command(("until",), "until loss < 0.5", "run until a condition holds: any(z > 0.9), epoch == 3, isnan(loss)", _until),
    Command(("back",), "back loss > 1", "back in time until a condition holds", _back),
    Command(("sgd", "a"), "sgd", "finish this batch, backward, update", lambda screen, rest: screen.action_sgd()),
    Command(("learning", "l"), "learning on", "whether batches end with backward and update", _learning),
    Command(("set",), "set Wz[0,1] 0.5", "change a weight, h, learning_rate, or a character of the text", _set),
    Command(("sample", "p"), "sample Ma 10 0.8 tutorial", "sample: primer, length, temperature, sampler", _sample),
    Command(("undo", "u"), "undo", "undo the last change", lambda screen, rest: screen.action_undo()),
    Command(("redo",), "redo", "redo it", lambda screen, rest: screen.action_redo()),
    Command(("branch",), "branch main~1", "go to another branch", lambda screen, rest: screen.switch(rest)),
    Command(
        ("theme",), "theme whiteboard", "blackboard, whiteboard, ansi-dark, ansi-light", lambda screen, rest: screen.set_theme(rest)
    ),
    Command(("help", "?"), "help", "all keys and commands", lambda screen, rest: screen.action_help()),
    Command(("quit", "q"), "quit", "quit", lambda screen, rest: screen.app.exit()),
)
