"""The `:` line's language: a verb and its arguments, parsed into what the main screen does."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tui_gru.debugger.expression_text import ConditionError
from tui_gru.debugger.origin import Number
from tui_gru.engine.config import SAMPLERS
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui import stop_commands
from tui_gru.tui.key_signs import with_keys

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen

LEVELS = {
    "o": "op", "op": "op", "line": "op", "s": "timestep", "t": "timestep", "timestep": "timestep", "f": "phase", "phase": "phase",
    "n": "batch", "b": "batch", "batch": "batch", "e": "epoch", "epoch": "epoch",
}  # fmt: skip


class Arguments(str):
    """What was typed after the name of a command; `begins` is where in the line, counted from 0."""

    begins: int

    @classmethod
    def of(cls, rest: str, typed: str) -> Arguments:
        arguments = cls(rest.strip())
        arguments.begins = typed.rindex(arguments)
        return arguments


@dataclass(frozen=True)
class Command:
    """`usage` and `help` are what `?` shows; `run` is given the screen and what was typed after the name."""

    names: tuple[str, ...]
    usage: str
    help: str
    run: Callable[[MainScreen, Arguments], None]


def execute(screen: MainScreen, typed: str) -> None:
    """Do what was typed on the `:` line. Raises `TuiGruError` where it cannot be understood or done."""
    name, _, rest = typed.strip().lstrip(":").strip().partition(" ")
    if not name:
        return
    for command in COMMANDS:
        if name in command.names:
            arguments = Arguments.of(rest, typed)
            try:
                command.run(screen, arguments)
            except ConditionError as error:  # its column is counted from the arguments' first
                raise ConditionError(error.reason, error.column + arguments.begins) from None
            return
    from difflib import get_close_matches

    close = get_close_matches(name, [command.names[0] for command in COMMANDS], n=3)
    cure = f"did you mean {' or '.join(close)}?" if close else with_keys(screen, "<help> lists all")
    raise TuiGruError(f"there is no command {name!r}; {cure}")


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


def _until(screen: MainScreen, rest: Arguments) -> None:
    screen.search(rest, forwards=True, begins=rest.begins)


def _back(screen: MainScreen, rest: Arguments) -> None:
    screen.search(rest, forwards=False, begins=rest.begins)


def _set(screen: MainScreen, rest: str) -> None:
    match = re.fullmatch(r"([^\s\[\]=,]+)\s*(?:\[([\d,\s-]+)\])?\s*=?\s*(\S.*|'.')", rest)
    if match is None:
        raise TuiGruError(f"write it as Wz[0,1] 0.5, h[0,1] 0.5, learning_rate 0.1, or text[3] a, not {rest!r}")
    name, index, value = match.groups()
    screen.edit(name, tuple(int(part) for part in index.split(",")) if index else None, _value(value))


def _why(screen: MainScreen, rest: str) -> None:
    match = re.fullmatch(r"([^\s\[\]=,]+)\s*(?:\[([\d,\s]+)\])?(?:\s+t\s*(\d+))?", rest)
    if match is None:
        raise TuiGruError(f"write it as h[1,0], Wz[3,0], loss, or z[0,1] t 2 for another timestep, not {rest!r}")
    index = tuple(int(part) for part in match[2].split(",")) if match[2] else ()
    screen.ask(Number(match[1], index, None if match[3] is None else int(match[3]) - 1, screen.snapshot.position.tick))


def _what_if(screen: MainScreen, rest: str) -> None:
    match = re.fullmatch(r"([^\s\[\]=,]+)\s*(?:\[([\d,\s]+)\])?\s*=?\s*(\S+)(?:\s+t\s*(\d+))?", rest)
    value = _value(match[3]) if match is not None else ""
    if match is None or isinstance(value, str):
        raise TuiGruError(f"write it as z[0,1] 0.5, Wz[3,0] -1, or h[1,0] 0 t 2 for another timestep, not {rest!r}")
    index = tuple(int(part) for part in match[2].split(",")) if match[2] else ()
    screen.suppose(match[1], index, value, None if match[4] is None else int(match[4]) - 1)


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


def _check(screen: MainScreen, rest: str) -> None:
    choices = {"every": None, "every on": True, "every off": False}
    if not rest:
        screen.call_later(screen.action_check)
    elif " ".join(rest.split()) in choices:
        screen.check_every(choices[" ".join(rest.split())])
    else:
        raise TuiGruError(f"check takes nothing, or every on, every off; not {rest!r}")


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


def _compare(screen: MainScreen, rest: str) -> None:
    screen.compare(None if rest == "off" else rest)


def _branches(screen: MainScreen) -> None:
    screen.call_next(screen.action_branches)


def _rename(screen: MainScreen, rest: str) -> None:
    names = rest.split()
    if len(names) != 2:
        raise TuiGruError(f"rename takes a branch and its new name, each of one word, not {rest!r}: rename main~1 warmer")
    screen.rename(*names)


def _open(screen: MainScreen, rest: str) -> None:
    name, _, last = rest.rpartition(" ")
    copy = last == "copy" and bool(name.strip()) and not Path(rest).expanduser().exists()
    screen.open(_named(name.strip() if copy else rest, "open walk"), copy=copy)


def _named(rest: str, usage: str) -> str:
    """What a command names, a session of its own folder or a path."""
    if not rest:
        raise TuiGruError(f"name a session, or a file: {usage}")
    return rest


def _export(screen: MainScreen, rest: str, *, overwrite: bool = False) -> None:
    if not rest:
        raise TuiGruError("name a file: export here.txt, export here.tex, export here.svg")
    from tui_gru.tui.exporting import export  # late: it draws on panels that are not there before they are asked for

    path = Path(rest).expanduser()
    screen.say(f"wrote {export(screen, path, overwrite=overwrite)} to {path}")


COMMANDS = (
    Command(
        ("save",),
        "save walk",
        "write this session, its branches and its past, to a name or a file",
        lambda screen, rest: screen.save(_named(rest, "save walk")),
    ),
    Command(("open",), "open walk copy", "open a session, or a copy of it, where it was left", _open),
    Command(("export",), "export here.tex", "write the derivation, the panel in focus or the screen: .txt, .tex, .svg", _export),
    Command(("export!",), "export! here.tex", "the same over a file that exists", partial(_export, overwrite=True)),
    Command(("step", "s"), "step 3 batch", "step, a negative count back in time: line, timestep, phase, batch, epoch", _step),
    Command(("go", "g"), "go e3 b2 t1", "go to a place: e3 b2 t1, 50%, +100, -2e, or a tick", _go),
    Command(("until",), "until loss < 0.5", "run until a condition holds: any(z > 0.9), epoch == 3, isnan(loss)", _until),
    Command(("back",), "back loss > 1", "back in time until a condition holds", _back),
    Command(
        ("break", "b"),
        "break h if any(h > 0.9) hits %5",
        "stop on a line, on a condition, at a hit count; log TEMPLATE only writes",
        stop_commands.break_,
    ),
    Command(("watch", "w"), "watch max(abs(h)) stop", "show a value; stop: runs stop when it changes", stop_commands.watch),
    Command(("stops",), "stops", "the list of breakpoints, watches and marks", lambda screen, rest: screen.list_stops()),
    Command(("delete", "d"), "delete 3", "delete a breakpoint or watch by its number, a mark by its letter", stop_commands.delete),
    Command(("enable",), "enable 3", "enable a breakpoint or watch", stop_commands.enable),
    Command(("disable",), "disable 3", "disable it, and keep it", stop_commands.disable),
    Command(("continue", "c"), "continue", "run to the next stop", lambda screen, rest: screen.action_continue(1)),
    Command(("reverse",), "reverse", "back in time to the last stop", lambda screen, rest: screen.action_continue(-1)),
    Command(("mark", "m"), "mark a", "mark this place", stop_commands.mark),
    Command(("jump",), "jump a", "to a mark; jump ' goes back to where one was", stop_commands.jump),
    Command(("marks",), "marks", "the list, at the marks", lambda screen, rest: screen.list_stops(marks=True)),
    Command(("sgd", "a"), "sgd", "finish this batch, backward, update", lambda screen, rest: screen.action_sgd()),
    Command(("learning", "l"), "learning on", "whether batches end with backward and update", _learning),
    Command(("set",), "set Wz[0,1] 0.5", "change a weight, h, learning_rate, or a character of the text", _set),
    Command(("why", "explain"), "why h[1,0]", "where a number comes from; t 2 after it for another timestep", _why),
    Command(("what-if", "whatif"), "what-if z[0,1] 0.5", "what would follow in this batch from another number", _what_if),
    Command(("sample", "p"), "sample Ma 10 0.8 tutorial", "sample: primer, length, temperature, sampler", _sample),
    Command(("check", "k"), "check every on", "check this batch against PyTorch, or every batch while training", _check),
    Command(("undo", "u"), "undo", "undo the last change", lambda screen, rest: screen.action_undo()),
    Command(("redo",), "redo", "redo it", lambda screen, rest: screen.action_redo()),
    Command(("branches",), "branches", "the list of branches", lambda screen, rest: _branches(screen)),
    Command(("branch",), "branch main~1", "go to another branch", lambda screen, rest: screen.switch(rest)),
    Command(("compare",), "compare main", "show how this branch differs from another; off ends it", _compare),
    Command(("rename",), "rename main~1 warmer", "give a branch another name", _rename),
    Command(
        ("delete-branch",), "delete-branch main~1", "delete a branch, when asked", lambda screen, rest: screen.ask_to_delete(rest)
    ),
    Command(
        ("theme",), "theme whiteboard", "blackboard, whiteboard, ansi-dark, ansi-light", lambda screen, rest: screen.set_theme(rest)
    ),
    Command(("help", "?"), "help", "all keys and commands", lambda screen, rest: screen.action_help()),
    Command(("quit", "q"), "quit", "quit", lambda screen, rest: screen.action_quit()),
)
