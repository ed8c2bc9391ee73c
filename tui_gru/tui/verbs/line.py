"""The `:` line: executes the typed verb, and completes verbs, names, branches, files and so on, each with a short description."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from tui_gru.debugger.expressions.parser import FUNCTIONS
from tui_gru.debugger.program.names import ProgramName, ValueKind
from tui_gru.debugger.program.position import as_typed, position_of
from tui_gru.debugger.program.typed import TypedError, shortened
from tui_gru.debugger.storage.confinement import is_permitted, permitted
from tui_gru.engine.config import SAMPLERS
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.verbs.table import VERBS
from tui_gru.tui.verbs.verb import Arguments, Verb, example, with_keys

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen

NAMED = {name: verb for verb in VERBS for name in verb.names}
MOST_FILES = 500  # read from a folder


def execute(screen: MainScreen, typed: str) -> None:
    """Execute what was typed on the `:` line. Raises `TuiGruError` if it cannot be parsed or executed."""
    name, _, rest = typed.strip().lstrip(":").strip().partition(" ")
    if not name:
        return
    verb, arguments = _verb(screen, name), Arguments.of(rest, typed)
    if arguments and not verb.typed.has_arguments:
        raise TuiGruError(f"{name} takes no argument; leave out {shortened(arguments)}")
    try:
        verb.do(screen, arguments)
    except TypedError as error:  # its column is relative to the start of the arguments
        raise error.moved(arguments.begins) from None


def _verb(screen: MainScreen, name: str) -> Verb:
    if name in NAMED:
        return NAMED[name]
    from difflib import get_close_matches

    close = get_close_matches(name, [verb.names[0] for verb in VERBS if verb.names], n=3)
    cure = f"did you mean {' or '.join(close)}?" if close else with_keys(screen, "<help> lists all")
    raise TuiGruError(f"there is no command {name!r}; {cure}")


# Completion


class Candidate(NamedTuple):
    """A completion and its description."""

    text: str
    words: str = ""


class Completion(NamedTuple):
    """The candidates that can replace the text between column `begins` (0-based) and the cursor.

    `verb` is an example of the verb whose arguments are typed, and what it does.
    """

    begins: int
    candidates: tuple[Candidate, ...] = ()
    verb: Candidate | None = None


def complete(screen: MainScreen, typed: str) -> Completion:
    """Return the completions of the text before the cursor."""
    command = typed.lstrip(": ")
    name, space, rest = command.partition(" ")
    if not space:
        return _of(len(typed) - len(command), name, _verbs(screen))
    verb = NAMED.get(name)
    if verb is None:
        return Completion(len(typed))
    about = _about(screen, verb, Arguments.of(rest, typed))
    if not verb.typed.completes:
        return Completion(len(typed), verb=about)
    done = len(rest.split()) - (bool(rest) and not rest[-1].isspace())
    kind = verb.typed.completes[min(done, len(verb.typed.completes) - 1)]
    return completed(screen, kind, typed)._replace(verb=about)


def _about(screen: MainScreen, verb: Verb, arguments: Arguments) -> Candidate:
    """Return an example of a verb, and what it does: with these arguments, if the verb can tell."""
    program = screen.session.program
    words = example(program, verb.typed_help) if verb.preview is None else verb.preview(screen, arguments)
    return Candidate(example(program, verb.usage), words)


def completed(screen: MainScreen, kind: str, typed: str) -> Completion:
    """Return the completions of the last argument, which is of this kind; in an expression, those of the name at its end."""
    begins = (_name_begins if kind in EXPRESSIONS else _word_begins)(typed)
    word = typed[begins:]
    path = kind == "file" or (kind == "session" and ("/" in word or os.sep in word))
    candidates = _files(word) if path else COMPLETIONS[kind](screen)
    return _of(begins, word, candidates)


def _word_begins(typed: str) -> int:
    """Return the column at which the word at the end begins. A regular expression would try every column of a long word."""
    begins = len(typed)
    while begins and not typed[begins - 1].isspace():
        begins -= 1
    return begins


def _name_begins(typed: str) -> int:
    """Return the column at which the name at the end begins: letters, digits and _, but no digit first."""
    begins = len(typed)
    while begins and (typed[begins - 1].isalnum() or typed[begins - 1] == "_"):
        begins -= 1
    while begins < len(typed) and typed[begins].isdecimal():
        begins += 1
    return begins


def _of(begins: int, word: str, candidates: Iterable[Candidate]) -> Completion:
    fitting = {each.text: each for each in candidates if each.text.startswith(word)}
    return Completion(begins, tuple(fitting.values()))


# The candidates of each kind


def _verbs(screen: MainScreen) -> Iterator[Candidate]:
    program = screen.session.program
    for verb in VERBS:
        if verb.names:
            yield Candidate(verb.names[0], example(program, verb.help))


def _words(*pairs: tuple[str, str]) -> Callable[[MainScreen], Iterator[Candidate]]:
    return lambda screen: iter(Candidate(*pair) for pair in pairs)


def _named(screen: MainScreen, belongs: Callable[[ProgramName], bool] = lambda named: True) -> Iterator[Candidate]:
    program = screen.session.program
    for name, named in program.names.items():
        if belongs(named):
            axes = " and ".join(axis.strip() for axis in named.counted)
            words = program.model.rule.meanings[name] if named.kind is ValueKind.SETTING else named.kind.value
            yield Candidate(name, f"{words}, by {axes}" if axes else words)


def _in_expressions(screen: MainScreen) -> Iterator[Candidate]:
    yield from _named(screen)
    yield from (Candidate(name, "function") for name in FUNCTIONS)


def _changeable(screen: MainScreen) -> Iterator[Candidate]:
    yield from _named(screen, lambda named: named.kind in (ValueKind.PARAMETER, ValueKind.STATE, ValueKind.SETTING))
    yield Candidate("text", "a character of the text, by its index")


def _unit_values(screen: MainScreen) -> Iterator[Candidate]:
    yield from _named(screen, lambda named: named.timed and "unit" in named.counted)


def _lines(screen: MainScreen) -> Iterator[Candidate]:
    for row in screen.session.program.rows:
        if row.line is not None:
            yield Candidate(row.line.target, row.line.note or row.line.text)


def _stops(screen: MainScreen) -> Iterator[Candidate]:
    from tui_gru.tui.panels.program.listing import described

    for stop in screen.snapshot.stops.breakpoints:
        yield Candidate(str(stop.id), described(stop, screen.session.program))
    for watch in screen.snapshot.stops.watches:
        yield Candidate(str(watch.id), f"watch {watch.expression}")


def _marks(screen: MainScreen) -> Iterator[Candidate]:
    for mark in screen.snapshot.marks:
        place = f"{as_typed(position_of(screen.session.program, mark.tick))} on {mark.branch}"
        yield Candidate(mark.letter, ": ".join(filter(None, (place, mark.text))))


def _stops_and_marks(screen: MainScreen) -> Iterator[Candidate]:
    yield from _stops(screen)
    yield from _marks(screen)


def _branches(screen: MainScreen) -> Iterator[Candidate]:
    for fork in screen.snapshot.forks:
        left = "the first branch" if fork.source is None else f"left {fork.source}"
        yield Candidate(fork.name, left if fork.loss is None else f"{left}, loss {fork.loss:.4f}")


def _other_branches(screen: MainScreen) -> Iterator[Candidate]:
    yield from (each for each in _branches(screen) if each.text != screen.snapshot.branch)


def _compared(screen: MainScreen) -> Iterator[Candidate]:
    yield from _other_branches(screen)
    yield Candidate("off", "end the comparison")


def _themes(screen: MainScreen) -> Iterator[Candidate]:
    yield from (Candidate(name) for name in screen.app.available_themes)


def _classes(screen: MainScreen) -> Iterator[Candidate]:
    from tui_gru.debugger.analysis.classes import CLASSES

    yield from (Candidate(name, each.words) for name, each in CLASSES.items())


def _sessions(screen: MainScreen) -> Iterator[Candidate]:
    from tui_gru.debugger.storage.store import named_files

    yield from (Candidate(path.stem, "session") for path in named_files())
    yield Candidate("last", "the session that was written last")


def _files(word: str) -> Iterator[Candidate]:
    """Yield the files and folders in the typed folder, with the folder spelled as typed."""
    typed = word[: max(word.rfind("/"), word.rfind(os.sep)) + 1]
    try:
        with os.scandir(permitted(typed or ".")) as entries:
            some = (entry for entry, _ in zip(entries, range(MOST_FILES), strict=False) if is_permitted(entry.path))
            found = sorted((entry.name, entry.is_dir()) for entry in some)
    except (OSError, ValueError):  # the error of `permitted` is a ValueError as well
        return
    for name, is_folder in found:
        if name.isprintable() and not name.startswith("."):
            yield Candidate(f"{typed}{name}{'/' if is_folder else ''}", "folder" if is_folder else "file")


#: The kinds of arguments that are expressions, of which the name at the end is completed.
EXPRESSIONS = frozenset({"name", "entry", "changeable"})
COMPLETIONS: Mapping[str, Callable[[MainScreen], Iterator[Candidate]]] = {
    "": _words(),
    "branch": _branches,
    "changeable": _changeable,
    "class": _classes,
    "clause": _words(("if", "a condition follows"), ("hits", "a count follows"), ("log", "a template follows; runs do not stop")),
    "copy": _words(("copy", "open a copy of it")),
    "entry": _named,
    "every": _words(("every", "every batch while training")),
    "file": _words(),
    "level": _words(("line", ""), ("timestep", ""), ("phase", ""), ("batch", ""), ("epoch", "")),
    "line": _lines,
    "mark": _marks,
    "name": _in_expressions,
    "other branch": _other_branches,
    "other branch or off": _compared,
    "row": _words(("row", "the number of a row follows")),
    "sampler": _words(*((sampler, "sampler") for sampler in SAMPLERS)),
    "session": _sessions,
    "stop": _stops,
    "stop or mark": _stops_and_marks,
    "switch": _words(("on", ""), ("off", "")),
    "t": _words(("t", "the number of a timestep follows")),
    "theme": _themes,
    "value": _unit_values,
}
