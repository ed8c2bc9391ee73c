"""Executes keys and commands on a session without a screen, and returns their answers.

Textual is loaded only for a verb that needs a screen: to open a panel, to move a cursor. From then on, commands are executed on the
main screen, which nobody sees.
"""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from tui_gru.debugger.derivation import derivation_text, first_opened
from tui_gru.debugger.position import shortened_input
from tui_gru.engine.numbers import duration, plain
from tui_gru.errors import TuiGruError, safe_text
from tui_gru.session.answers import PlainResults, computed_in_words, place_in_words, position_facts
from tui_gru.session.session import Session
from tui_gru.session.snapshot import Snapshot, View
from tui_gru.tui.keys import (
    KEY_SIGNS,
    LARGEST_COUNT,
    NO_ARGUMENTS,
    Desk,
    Pending,
    Step,
    Verb,
    abbreviated,
    by_name,
    example,
    execute,
    with_keys,
)
from tui_gru.tui.verbs import BY_ID, KEYS

if TYPE_CHECKING:
    from tui_gru.debugger.derivation import Node, ValueRef
    from tui_gru.debugger.position import Position
    from tui_gru.session.travel import SearchProgress
    from tui_gru.tui.headless import UnseenScreen

# ------------------------------------------------------------------------------
# What is typed: keys with counts, and commands of the `:` line, separated by semicolons.


LISTED = 12  # questions, in the answer of `ask`
MEASURED, LONG = 0.5, 60.0  # seconds: after which the time of a run is estimated, and above which the estimate is announced
SIZE = 120, 50  # columns and rows of the screen that nobody sees; panels are written as wide as they are drawn there
#: The keys of the verb table, by their signs and their names.
_KEYS = {name: key for keys in KEYS.values() for key in keys.split(",") for name in (key, KEY_SIGNS.get(key, key))}
#: Other keys with a name, which panels know.
_KEYS |= {name: name for name in ("up", "down", "home", "end", "pageup", "pagedown", "backspace")} | {"esc": "escape"}
_VERB_OF = {key: id for id, keys in KEYS.items() for key in keys.split(",")}
_TYPED = re.compile(r"(\d*)\s*(\S+)")
_LETTER = re.compile(r"'\s*(\S)")  # the key of a jump, and the letter of its mark
_NEEDS_EYES = {
    "play": "play goes on by itself on a screen; without one, give a step a count: 10s",
    "play.faster": "play needs a screen; without one, give a step a count: 10s",
    "play.slower": "play needs a screen; without one, give a step a count: 10s",
    "command": "type the command itself, with or without a colon: until loss < 0.5",
}


class Typed(NamedTuple):
    """A command: a key with the count before it (0: none), or a line for the `:` line."""

    times: int = 0
    key: str = ""
    line: str = ""

    @classmethod
    def of(cls, command: str) -> Typed:
        if letter := _LETTER.fullmatch(command):
            return cls(line=f"go {letter[1]}")
        typed = _TYPED.fullmatch(command)
        if typed is not None and typed[2] in _KEYS:
            times = int(typed[1][:12] or 0)
            if times > LARGEST_COUNT:
                raise TuiGruError(f"a count is at most {LARGEST_COUNT:,}, not {shortened_input(typed[1])}")
            return cls(times, _KEYS[typed[2]])
        return cls(line=command)


class Answer(NamedTuple):
    """What a command answers: the words of the row of answers and panels, as lines; and data that JSON can represent."""

    text: str
    data: Any
    place: Mapping[str, Any]


# ------------------------------------------------------------------------------
# The verbs without a screen.


class ScreenNeededError(Exception):
    """Raised where a verb needs what only a screen has."""


class Console(Desk):
    """A session that executes commands. `progress` is called with the progress of long runs, `announce` with the estimate of a run
    that would take longer than a minute, as soon as it can be estimated.

    `ended` is True after `quit`. Commands raise `TuiGruError` if they are refused.
    """

    running = playing = is_watched = False
    command = ""
    overlay: None = None
    focused: None = None
    maximized: None = None
    verbs = BY_ID

    def __init__(
        self, session: Session, *, progress: SearchProgress | None = None, announce: Callable[[str], None] | None = None
    ) -> None:
        self.session = session
        self.snapshot: Snapshot = session.snapshot()
        self.view = View()
        self.panel = ""  # text of a panel that the command has opened
        self.ended = False
        self.pending, self._last = Pending(self.say), Step("timestep", 1)
        self.play = self.derivations = self  # what a screen has objects for
        self.runner = SimpleNamespace(expect=lambda seconds: None)  # only a screen has to know how long a verb takes
        # The session is not recorded, so nothing is asked; and a screen that is not there has no layout to keep.
        self.kept = SimpleNamespace(
            question="", decline=lambda: False, keep_layout_of_mark=lambda letter: None, show_layout_of_mark=lambda letter: None
        )
        self._progress, self._announce = progress, announce
        self._text, self._refused, self._result = "", False, None
        self._screen: UnseenScreen | None = None

    def __getattr__(self, name: str) -> Any:
        """Raise `ScreenNeededError`: what a verb needs beyond this class, only a screen has."""
        if name.startswith("_"):
            raise AttributeError(name)
        raise ScreenNeededError(name)

    def execute(self, command: str) -> Answer:
        """Execute a command: a key with or without a count, or a command of the `:` line. Raises `TuiGruError` if it is refused."""
        typed = Typed.of(command)
        verb = abbreviated(typed.line.lstrip(": ").partition(" ")[0], by_name(self.verbs)) or BY_ID.get(_VERB_OF.get(typed.key, ""))
        if verb is not None and verb.id in _NEEDS_EYES:
            raise TuiGruError(_NEEDS_EYES[verb.id])
        if verb is not None and verb.needs_arguments and typed.key:
            usage = example(self.session.program, verb.usage)
            raise TuiGruError(with_keys(self, f"<{verb.id}> needs more: type, for example, {usage}"))
        if verb is not None and verb.id == "quit":
            self.ended = True
            return Answer("", None, position_facts(self.snapshot.position))
        if verb is not None and verb.id == "help":
            return self._asked(typed.line.lstrip(": ").partition(" ")[2].strip())
        if self._screen is None:
            try:
                return self._execute(typed)
            except ScreenNeededError:
                pass
        screen = self._unseen_screen()
        before, answer = self.snapshot.position, screen.execute(*typed)
        self.session, self.snapshot = screen.session, screen.session.snapshot()
        return self._answered(*answer, moved=self.snapshot.position != before)

    def rows(self, size: tuple[int, int] = SIZE) -> list[str]:
        """Return the screen at this moment as text, a string a row, at a size (columns, rows)."""
        return self._unseen_screen().rows(size)

    def _unseen_screen(self) -> UnseenScreen:
        """Return the screen that nobody sees. From its start, commands are executed on it."""
        if self._screen is None:
            from tui_gru.tui.headless import UnseenScreen

            self._screen = UnseenScreen(self.session, self.view, SIZE)
        return self._screen

    def _asked(self, typed: str) -> Answer:
        """Answer with the questions that fit what is typed, and their commands, the best first; nothing is executed."""
        from tui_gru.tui.asking import matching, of_this_moment

        matched = matching(self.snapshot, typed) if typed else of_this_moment(self.snapshot)
        if not matched:
            raise TuiGruError(f"no question has any of these words: {shortened_input(typed)}; ask lists those of this moment")
        width = max(len(match.question) for match in matched[:LISTED])
        lines = (f"{match.question:<{width}}  {match.command}" for match in matched[:LISTED])
        data = {"questions": [{"question": match.question, "command": match.command} for match in matched]}
        return Answer(
            "\n".join(map(safe_text, lines)),
            data,
            {**position_facts(self.snapshot.position), "words": place_in_words(self.snapshot)},
        )

    def close(self) -> None:
        """End the screen that nobody sees, if there is one."""
        if self._screen is not None:
            self._screen.close()
            self._screen = None

    def _execute(self, typed: Typed) -> Answer:
        before = self.snapshot.position
        self._text, self._refused, self.panel, self._result = "", False, "", None
        self.forget_notice()
        letter = typed.line or typed.key
        if self.pending.take_key(letter, letter if len(letter) == 1 else None):
            pass
        elif typed.line:
            execute(self, typed.line)
        elif typed.key not in _VERB_OF:
            raise ScreenNeededError(typed.key)
        else:
            self.pending.count(typed.times)
            self._press(BY_ID[_VERB_OF[typed.key]])
            self.pending.count(0)
        if self._refused and not self.pending.awaited:
            raise TuiGruError(self._text)
        return self._answered(self._text, self.panel, self._result, moved=self.snapshot.position != before)

    def _press(self, verb: Verb[Any]) -> None:
        if isinstance(verb.do, Step):
            self.play.walk(verb.do, self.pending.take_count())
        elif verb.press is None:
            verb.do(self, NO_ARGUMENTS)
        else:
            done: Any = verb.press(self)
            if inspect.iscoroutine(done):  # opens the `:` line, or asks for a number under a cursor
                with suppress(StopIteration):
                    done.send(None)

    def _answered(self, text: str, panel: str, result: Any, *, moved: bool) -> Answer:
        snapshot = self.snapshot
        place, loss = place_in_words(snapshot), snapshot.value("loss")
        line = None if snapshot.line is None else snapshot.line.text
        if not text and (moved or not panel):
            is_computed = moved and loss is not None and snapshot.position.offset >= snapshot.program.loss_tick
            text = " · ".join(filter(None, (place, (line or "") * moved, f"loss {plain(loss)}" if is_computed else "")))
        text = " · ".join(
            filter(None, (text, *(mark_text for mark_text in snapshot.texts_here if safe_text(mark_text) not in text)))
        )
        words = "\n".join(map(safe_text, filter(None, (text, *panel.rstrip("\n").split("\n")))))
        result = getattr(result, "root", result)  # of a derivation with its view, the derivation
        data = PlainResults(snapshot.program).plain(result)
        if data is None or type(result).__name__ == "Position" or isinstance(data, bool):
            data = {"loss": None if loss is None else float(loss), "line": line, "branch": snapshot.state.branch}
        return Answer(words, data, {**position_facts(snapshot.position), "words": place})

    # What verbs use

    @property
    def app(self) -> Console:
        return self

    def keys_of(self, verb: str) -> str:
        return KEYS[verb]

    def do(
        self, verb: Callable[..., Any], *, batches: int | None = 1, then: Callable[[Any], object] | None = None, opens: bool = False
    ) -> None:
        """Execute a verb of the session, then `then` with its result."""
        self.say("")
        self.forget_notice()
        self._result = verb(progress=self._estimated(batches))
        self.show_now()
        if then is not None:
            then(self._result)

    def _estimated(self, batches: int | None) -> SearchProgress | None:
        """Return what a run of so many batches reports its progress to, which announces once how long a long run takes."""
        announce, end, first, begun = self._announce, self.session.end, self.session.position.number, time.monotonic()
        if announce is None or not batches or batches < 0:
            return self._progress
        total = batches if end is None else min(batches, max(end.number - first, 0) + 1)
        waits = True

        def progress(place: Position | str) -> None:
            nonlocal waits
            if self._progress is not None:
                self._progress(place)
            done = 0 if isinstance(place, str) else abs(place.number - first)
            if waits and done and (elapsed := time.monotonic() - begun) >= MEASURED:
                waits, seconds = False, elapsed * total / done
                if seconds > LONG:
                    announce(f"about {total:,} batches, {duration(seconds)} at this speed; ctrl+c ends with what is reached")

        return progress

    def say(self, message: str, *, warning: bool = False) -> None:
        self._text = " ".join(message.split())
        self._refused = warning and not (self.notice is not None and self.notice.warning)

    def show_now(self) -> None:
        self.snapshot = self.session.snapshot()
        if self.notice is not None:
            self.say_notice()

    def set_view(self, view: View) -> None:
        self.view = view

    def show_page_of(self, panel: str) -> None:
        pass

    def walk(self, step: Step, times: int = 1) -> None:
        self._last = step
        self.do(partial(self.session.step, step.level, step.direction * times), batches=step.batches(self.session, times))

    def repeat(self, times: int) -> None:
        self.walk(self._last, times)

    def pause(self) -> None:
        pass  # nothing plays

    def ask(self, number: ValueRef) -> None:
        """Write the derivation of a number."""
        renamed = replace(number, name=self.session.program.code_name(number.name))

        def write(root: Node) -> None:
            self.panel = derivation_text(root, first_opened(root), computed_in_words(self.session.program, root))

        self.do(partial(self.session.derive, renamed), then=write)
