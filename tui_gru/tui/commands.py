"""The `:` line's language: a verb and its arguments, parsed into what the main screen does."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tui_gru.debugger.derivation.origin import ValueRef
from tui_gru.debugger.program.position import tick_of
from tui_gru.debugger.program.typed import Reader, TypedError, is_number, shortened
from tui_gru.engine.config import SAMPLERS
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui import stop_commands
from tui_gru.tui.examples import example
from tui_gru.tui.key_signs import with_keys
from tui_gru.tui.screens.walking import LARGEST_COUNT

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
    """`usage` and `help` are what `?` shows, with names of the model (`example`); `run` is given the screen, and what was typed
    after the name."""

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
            except TypedError as error:  # its column is counted from the arguments' first
                raise error.moved(arguments.begins) from None
            return
    from difflib import get_close_matches

    close = get_close_matches(name, [command.names[0] for command in COMMANDS], n=3)
    cure = f"did you mean {' or '.join(close)}?" if close else with_keys(screen, "<help> lists all")
    raise TuiGruError(f"there is no command {name!r}; {cure}")


def _step(screen: MainScreen, rest: str) -> None:
    reader = Reader(rest, "step 3 batch")
    count = reader.whole("a count", least=-LARGEST_COUNT, most=LARGEST_COUNT) if reader.next_whole() else 1
    screen.walk(_level(reader, "timestep"), count)


def _level(reader: Reader, default: str) -> str:
    """The level that is left to read, or the default where nothing is."""
    name = reader.left or default
    if name not in LEVELS:
        raise reader.error(f"there is no level {shortened(name)}; there are line, timestep, phase, batch, epoch")
    return LEVELS[name]


def _go(screen: MainScreen, rest: str) -> None:
    reader = Reader(rest, "go e3 b2 t1, go 50%, go +100, go -2e, or a tick")
    if rest[:1] in ("+", "-", "−"):
        count = reader.whole("a count", least=-LARGEST_COUNT, most=LARGEST_COUNT)
        screen.walk(_level(reader, "op"), count)
    elif rest.endswith("%"):
        percent = reader.number("a part of the run", before="%")
        screen.go(round(min(max(percent, 0), 100) / 100 * screen.span))
    elif reader.next_whole():
        tick = reader.whole("a tick")
        reader.end()
        screen.go(tick)
    else:
        screen.go(tick_of(rest, screen.snapshot.position, screen.snapshot.program))


def _until(screen: MainScreen, rest: Arguments) -> None:
    screen.search(rest, forwards=True, begins=rest.begins)


def _back(screen: MainScreen, rest: Arguments) -> None:
    screen.search(rest, forwards=False, begins=rest.begins)


def _set(screen: MainScreen, rest: str) -> None:
    reader = Reader(rest, example(screen.session.program, "$W[0,1] 0.5, $h[0,1] 0.5, learning_rate 0.1, or text[3] a"))
    name, index = reader.entry()
    if len(reader.left) > 1:
        reader.take("=")
    value: str | float
    if name == "text":
        value = reader.character()
    else:
        value = reader.number(name)
        reader.end()
    screen.edit(name, index, value)


def _why(screen: MainScreen, rest: str) -> None:
    reader = Reader(rest, example(screen.session.program, "$h[1,0], $W[3,0], loss, or $z[0,1] t 2 for another timestep"))
    name, index = reader.entry()
    screen.ask(ValueRef(name, index, reader.timestep(screen.snapshot.program.seq_length), screen.snapshot.position.tick))


def _what_if(screen: MainScreen, rest: str) -> None:
    reader = Reader(rest, example(screen.session.program, "$z[0,1] 0.5, $W[3,0] -1, or $h[1,0] 0 t 2 for another timestep"))
    name, index = reader.entry()
    reader.take("=")
    value = reader.number(name)
    screen.suppose(name, index, value, reader.timestep(screen.snapshot.program.seq_length))


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
    reader = Reader(rest, "sample Ma 10 0.8 tutorial")
    primer, sampler, length, temperature = None, None, None, None
    while reader.left:
        word = reader.next_word
        number = word[0] in "0123456789." and is_number(word)
        if number and length is None and word.isdecimal():
            length = reader.whole("a length")
        elif number and temperature is None:
            temperature = reader.number("a temperature")
        elif sampler is None and word in SAMPLERS:
            sampler = reader.word()
        elif primer is None:
            primer = reader.word()
        else:
            raise reader.error(f"sample takes a primer, a length, a temperature and a sampler, not also {shortened(word)}")
    screen.draw_sample(
        primer=primer,
        length=10 if length is None else length,
        temperature=1.0 if temperature is None else temperature,
        sampler=sampler,
    )


def _units(screen: MainScreen, rest: str) -> None:
    program = screen.session.program
    reader = Reader(rest, example(program, "units, units $z, or units $z row 1"))
    name = program.main_state if not reader.left or reader.next_word == "row" else program.code_name(reader.word())
    row = None
    if reader.left:
        if reader.word() != "row":
            raise reader.error(f"units takes a name and a row, not {shortened(rest)}")
        row = reader.whole("a row", least=1, most=program.config.batch_size) - 1
        reader.end()
    screen.show_units(name, row)


def _influence(screen: MainScreen, rest: str) -> None:
    reader = Reader(rest, "influence, or influence t (a space as ' ')")
    character = reader.character() if reader.left else None
    screen.action_influence(character)


def _class(screen: MainScreen, rest: str) -> None:
    screen.sort_units(rest)


def _compare(screen: MainScreen, rest: str) -> None:
    screen.compare(None if rest == "off" else rest)


def _apart(screen: MainScreen, rest: str) -> None:
    screen.show_apart(rest)


def _help(screen: MainScreen, rest: str) -> None:
    if rest:
        screen.explain_word(rest)
    else:
        screen.action_help()


def _branches(screen: MainScreen) -> None:
    screen.call_next(screen.action_branches)


def _rename(screen: MainScreen, rest: str) -> None:
    names = rest.split()
    if len(names) != 2:
        raise TuiGruError(f"rename takes a branch and its new name, each of one word, not {rest!r}: rename main~1 warmer")
    screen.rename(*names)


def _open(screen: MainScreen, rest: str) -> None:
    name, _, last = rest.rpartition(" ")
    copy = last == "copy" and bool(name.strip()) and not os.path.exists(os.path.expanduser(rest))
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

    path = Path(os.path.expanduser(rest))
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
    Command(("until",), "until loss < 0.5", "run until a condition holds: any($z > 0.9), epoch == 3, isnan(loss)", _until),
    Command(("back",), "back loss > 1", "back in time until a condition holds", _back),
    Command(
        ("break", "b"),
        "break $h if any($h > 0.9) hits %5",
        "stop on a line, on a condition, at a hit count; log TEMPLATE only writes",
        stop_commands.break_,
    ),
    Command(("watch", "w"), "watch max(abs($h)) stop", "show a value; stop: runs stop when it changes", stop_commands.watch),
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
    Command(("set",), "set $W[0,1] 0.5", "change a weight, $h, learning_rate, or a character of the text", _set),
    Command(("why", "explain"), "why $h[1,0]", "where a number comes from; t 2 after it for another timestep", _why),
    Command(("what-if", "whatif"), "what-if $z[0,1] 0.5", "what would follow in this batch from another number", _what_if),
    Command(("sample", "p"), "sample Ma 10 0.8 tutorial", "sample: primer, length, temperature, sampler", _sample),
    Command(("check", "k"), "check every on", "check this batch against PyTorch, or every batch while training", _check),
    Command(
        ("findings",), "findings", "what is wrong with this run, why, and the cure", lambda screen, rest: screen.action_findings()
    ),
    Command(("units",), "units $h", "a value of every unit over the text; row 1 after it: over a row of the batch", _units),
    Command(("class",), "class quotes", "sort the units by a class of characters, or by the characters typed", _class),
    Command(("influence",), "influence", "what this prediction depends on; a character after it: of that one", _influence),
    Command(("losses",), "losses", "where the loss is made, and the hardest places", lambda screen, rest: screen.action_losses()),
    Command(("arrays",), "arrays", "every array in a line", lambda screen, rest: screen.action_arrays()),
    Command(("undo", "u"), "undo", "undo the last change", lambda screen, rest: screen.action_undo()),
    Command(("redo",), "redo", "redo it", lambda screen, rest: screen.action_redo()),
    Command(("branches",), "branches", "the list of branches", lambda screen, rest: _branches(screen)),
    Command(("branch",), "branch main~1", "go to another branch", lambda screen, rest: screen.switch(rest)),
    Command(("compare",), "compare main", "show how this branch differs from another; off ends it", _compare),
    Command(("apart",), "apart main", "where two branches first differ, and how far apart losses and samples are", _apart),
    Command(("rename",), "rename main~1 warmer", "give a branch another name", _rename),
    Command(
        ("delete-branch",), "delete-branch main~1", "delete a branch, when asked", lambda screen, rest: screen.ask_to_delete(rest)
    ),
    Command(
        ("theme",), "theme whiteboard", "blackboard, whiteboard, ansi-dark, ansi-light", lambda screen, rest: screen.set_theme(rest)
    ),
    Command(("help", "?"), "help $z", "what a name, a sign or a panel is; without one, all keys and commands", _help),
    Command(("legend",), "legend", "what colours and signs mean", lambda screen, rest: screen.action_legend()),
    Command(("quit", "q"), "quit", "quit", lambda screen, rest: screen.action_quit()),
)
