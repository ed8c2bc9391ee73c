"""A row of the verb table: its keys, its name on the `:` line, and the function that executes it; keys and examples in words."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from tui_gru.debugger.position import Level, TypedError, shortened_input, typed_entry
from tui_gru.debugger.program import Program
from tui_gru.debugger.state import Notice
from tui_gru.engine.source import Ability
from tui_gru.errors import TuiGruError

if TYPE_CHECKING:
    from textual.binding import Binding

    from tui_gru.session.session import Session
    from tui_gru.session.snapshot import Snapshot, View

S = TypeVar("S")  # the screen that a verb works on
_ENTRY = re.compile(r"\$([Whz])\[(\d+),(\d+)\]")
LARGEST_COUNT = 10**9  # typed before a key
VERB = re.compile(r"<([\w.]+)>")
KEY_SIGNS = {
    "space": "space", "question_mark": "?", "colon": ":", "full_stop": ".", "plus": "+", "minus": "-", "escape": "esc",
    "right": "→", "left": "←", "up": "↑", "down": "↓", "shift+tab": "shift+tab",
    "right_square_bracket": "]", "left_square_bracket": "[", "right_curly_bracket": "}", "left_curly_bracket": "{",
    "apostrophe": "'",
    "equals_sign": "=", "comma": ",", "semicolon": ";", "exclamation_mark": "!", "circumflex_accent": "^", "at": "@",
    "asterisk": "*", "ampersand": "&", "percent_sign": "%", "tilde": "~", "underscore": "_",
}  # fmt: skip


class Desk(Protocol):
    """A session, its snapshot, the view of it, and the answer of a verb: the main screen, or what takes its place without one.

    The functions of verbs are called with it. What they need beyond these names, only a screen has. It is a protocol whose
    methods both have, since the class of a screen is Textual's.
    """

    session: Session
    snapshot: Snapshot
    view: View
    is_watched: bool  # True if someone sees what is asked, and can answer

    def say(self, message: str, *, warning: bool = False) -> None:
        """Show a message. A verb that refuses what it was asked for says why in a warning."""
        raise NotImplementedError

    def show_page_of(self, panel: str) -> None:
        """Turn to a page with the panel of this class, by its name, unless the page in view has it, or another panel covers it."""
        raise NotImplementedError

    # Notices of the session

    @property
    def notice(self) -> Notice | None:
        """The session's notice about the last verb, None if there is none."""
        return self.session.outcome.notice

    def note(self, words: str) -> None:
        """Set the notice that is shown when the current verb ends. May be called in the thread of a run."""
        self.session.notice = words

    def note_if_not_stopped(self, words: str) -> None:
        """Add to the notice, unless a breakpoint or watch stopped the run."""
        if self.session.outcome.stopped_by is None:
            self.session.add_notice(words)

    def forget_notice(self) -> None:
        self.note("")

    def say_notice(self) -> None:
        """Show the session's notice, as a warning if it is one."""
        notice = self.notice or Notice("")
        self.say(notice.text, warning=notice.warning)

    def answer(self, words: str) -> None:
        """Show the answer of a verb, followed by the session's notice."""
        self.session.add_notice(words, first=True)
        self.say_notice()


class Arguments(str):
    """The arguments typed after the name of a verb. `begins` is the column at which they start on the `:` line, 0-based."""

    begins: int = 0

    @classmethod
    def of(cls, rest: str, typed: str) -> Arguments:
        arguments = cls(rest.strip())
        arguments.begins = typed.rindex(arguments)
        return arguments


NO_ARGUMENTS = Arguments()


def always(screen: object) -> bool:
    """Return True; the default of `Verb.applies` and `Verb.offered`."""
    return True


def trains(desk: Desk) -> bool:
    """Return True if this run can be trained: it is not a recording, and not a model file."""
    return desk.snapshot.config.source.can(Ability.TRAIN)


def can_undo(desk: Desk) -> bool:
    return bool(desk.snapshot.state.branches.done)


def can_redo(desk: Desk) -> bool:
    return bool(desk.snapshot.state.branches.undone)


def has_matches(desk: Desk) -> bool:
    """Return True if a condition has been searched for, or a place is marked."""
    return bool(desk.session.state.last_condition or desk.snapshot.state.marks.sorted)


def has_pages(screen: Any) -> bool:
    """Return True if not all panels of the main screen are on one page."""
    return bool(screen.panels.pages > 1)


class Step(NamedTuple):
    """A step of a level, forwards if `direction` is 1, back in time if it is -1."""

    level: Level
    direction: int

    def batches(self, session: Session, times: int = 1) -> int | None:
        """Return the approximate number of batches that so many steps compute, None if it is unknown."""
        program, position = session.program, session.position
        per = {"epoch": program.num_batches, "batch": 1}.get(self.level, 1 / program.seq_length)
        batches = max(1, round(times * per))
        if self.direction < 0:
            batches = session.batches_to(max(position.tick - batches * program.ticks, 0))
        return None if session.counts_first else batches


@dataclass(frozen=True)
class Verb(Generic[S]):
    """A row of the verb table.

    `id` is the name by which a key file remaps the verb. `keys` are separated by commas; `named`, its names on the `:` line, by
    spaces, and completion offers the first. `do` executes the verb with the typed arguments, or is the step of a key that only
    steps. A key calls `press` if it is given, opens the `:` line if the verb needs arguments (`needs_arguments`), and otherwise
    calls `do` without arguments. `help` is one sentence; a verb without it is not listed in the help.

    `typed` is an example with arguments, and `more` describes what they add to what the key does. `help`, `typed` and `more` may
    contain placeholders for names of the model (see `example`). `completes` names the completion of each argument in order (a key
    of `COMPLETIONS`, empty for none); the last entry applies to all further arguments.

    `label` is the word in the footer; a verb without a label is not in the footer. Labels that do not fit are dropped, those of
    the highest `rank` first. `applies` returns whether the verb can do something at this moment; if not, its key is dimmed.
    `offered` returns whether it can do something in this run at all; if not, it is not in the footer. In both cases the verb itself
    says why it does nothing. `while_running` is True if the verb may be used during a run. `preview` returns what the verb would do
    with the arguments typed so far, which is shown above the `:` line; by default that is the usage and what the verb does.
    `cycle` returns after how many presses the key is back where it was, if it goes round. Without `listed`, a verb can
    be typed, but neither the help nor the completions list it.
    """

    id: str
    keys: str
    named: str
    group: str
    do: Callable[[S, Arguments], object] | Step
    help: str
    label: str = ""
    rank: int = 9
    typed: str = ""
    more: str = ""
    completes: tuple[str, ...] = ()
    press: Callable[[S], Awaitable[None] | None] | None = None
    needs_arguments: bool = False
    applies: Callable[[S], bool] = always
    offered: Callable[[S], bool] = always
    while_running: bool = False
    preview: Callable[[S, Arguments], str] | None = None
    cycle: Callable[[S], int] | None = None
    listed: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the verb on the `:` line."""
        return tuple(self.named.split())

    @property
    def usage(self) -> str:
        """An example of the verb on the `:` line."""
        return self.typed or self.names[0]

    @property
    def typed_help(self) -> str:
        """What the verb does, without and with arguments."""
        return "; ".join(filter(None, (self.help, self.more)))

    @property
    def action(self) -> str:
        """The Textual action of the main screen that executes the verb."""
        return f"verb({self.id!r})"

    @property
    def binding(self) -> Binding:
        from textual.binding import Binding  # late, since verbs run without a screen as well

        return Binding(self.keys, self.action, self.label, show=bool(self.label), id=self.id, tooltip=self.help)


def key_sign(keys: str) -> str:
    """Return the sign of the first key: `.` for `full_stop`, `s` for `s,right`."""
    return key_signs(keys)[0]


def key_signs(keys: str) -> list[str]:
    """Return the signs of all keys."""
    return [KEY_SIGNS.get(key, key) for key in keys.split(",")]


class KeyUser(Protocol):
    """A widget, or what takes its place without a screen."""

    @property
    def app(self) -> Any:
        """What has the keys of the verbs (`keys_of`): the app, or what takes its place without a screen."""
        raise NotImplementedError


def keys_of(node: KeyUser, verb: str) -> str:
    """Return the keys of the verb of this id, separated by commas: those of the user's key file, otherwise those of the table."""
    return str(node.app.keys_of(verb))


def sign_of_key(node: KeyUser, verb: str) -> str:
    """Return the sign of the first key of the verb of this id."""
    return key_sign(keys_of(node, verb))


def with_keys(node: KeyUser, words: str) -> str:
    """Replace ids of verbs in angle brackets by their keys: `<step.line> executes one` to `o executes one`."""
    return VERB.sub(lambda match: sign_of_key(node, match[1]), words)


def example(program: Program, words: str) -> str:
    """Replace `$W` by a weight, `$h` by the state of the last layer, and `$z` by the first value of that layer; an entry of them
    with an index from 0, `$z[0,1]`, by the same entry as the screen writes it."""
    matrices = (name for group in program.matrices_by_gate for name in group)
    names = {"W": next(matrices, program.parameters[0]), "h": program.main_state, "z": program.main_layer.lines[0]}

    def entry(match: re.Match[str]) -> str:
        name = names[match[1]]
        index = [min(int(i), size - 1) for i, size in zip(match.group(2, 3), program.shapes[name], strict=False)]
        return typed_entry(program, name, index)

    return Template(_ENTRY.sub(entry, words)).substitute(names)


# ------------------------------------------------------------------------------
# Input that a verb waits for or uses: a count before a key, a letter after it, the answer to a question.


class Pending:
    """At most one count, one letter and one question. `leaving` is True after the warning that quitting loses work.

    `say` shows a message; `show` shows the count, or the sign of the key that waits for a letter, until the next key.
    """

    def __init__(self, say: Callable[[str], None], show: Callable[[str], None] = lambda prefix: None) -> None:
        self._say, self._show = say, show
        self._count = 0
        self._letter: Callable[[str], None] | None = None
        self._yes: Callable[[], None] | None = None
        self._no = ""  # the message if the answer is not yes
        self.leaving = False

    @property
    def counting(self) -> bool:
        """True if a count has been typed for the next key."""
        return self._count > 0

    @property
    def awaited(self) -> bool:
        """True if the next key is taken as a letter, as an answer or with a count."""
        return self.counting or self._letter is not None or self._yes is not None

    def digit(self, digit: int) -> None:
        self.count(self._count * 10 + digit)

    def count(self, count: int) -> None:
        """Set the count for the next key; 0 resets it. A larger one than `LARGEST_COUNT` becomes that, and the screen says so."""
        self._count = min(count, LARGEST_COUNT)
        self._show(str(self._count) if self._count else "")
        if count > LARGEST_COUNT:
            self._say(f"a count is at most {LARGEST_COUNT:,}")

    def take_count(self) -> int:
        """Return the count typed before this key, 1 if there was none, and reset it."""
        count, self._count = self._count or 1, 0
        self._show("")
        return count

    def wait_for_letter(self, then: Callable[[str], None], sign: str) -> None:
        """Call `then` with the letter typed next, and show `sign` until then."""
        self._letter = then
        self._show(sign)

    def ask(self, yes: Callable[[], None], *, otherwise: str) -> None:
        """Call `yes` if the next key is y, otherwise show `otherwise`."""
        self._yes, self._no = yes, otherwise

    def withdraw(self) -> bool:
        """Withdraw the question. Return True if there was one."""
        has_question, self._yes = self._yes is not None, None
        if has_question:
            self._say(self._no)
        return has_question

    def take_key(self, key: str, character: str | None) -> bool:
        """Handle a key, or the character that it types, as the awaited letter or answer. Return True if it has no other meaning."""
        then, yes = self._letter, self._yes
        if then is not None:
            self._letter = None
            self._show("")
            self._say("")
            if character is not None:
                then(character)
            return key == "escape" or character is not None
        if yes is not None:
            self.withdraw()
            if key == "y":
                yes()
        return yes is not None


# ------------------------------------------------------------------------------
# Splits what is typed into commands, and executes what is typed on the `:` line.


def commands_of(text: str) -> list[str]:
    """Split a text into commands at `;` and at the ends of lines.

    A `;` in quotes does not separate. A quote begins after a space or one of `,([=`, and has an end; so neither the key `'` nor an
    apostrophe is one.
    """
    commands, at = [""], 0
    while at < len(text):
        char, end, before = text[at], at + 1, commands[-1]
        opens = char in "'\"“" and before.strip() and (before[-1].isspace() or before[-1] in ",([=")
        if opens and (close := text.find("”" if char == "“" else char, end)) > 0:
            end = close + 1
        if char in ";\n":
            commands.append("")
        else:
            commands[-1] += text[at:end]
        at = end
    return [command.strip() for command in commands if command.strip()]


class HasVerbs(KeyUser, Protocol):
    """What a typed verb works on: the main screen, or what takes its place without one. `verbs` is the verb table by ids, `command`
    the command executed last, as it is typed."""

    command: str

    @property
    def verbs(self) -> Mapping[str, Verb[Any]]:
        raise NotImplementedError


def execute(screen: HasVerbs, typed: str) -> None:
    """Execute what was typed on the `:` line: a verb with its arguments, or an entry of a value, `z[row 1, unit 2]`, which is
    explained. Raises `TuiGruError` if it cannot be parsed or executed."""
    text = typed.strip().lstrip(":").strip()
    name, _, rest = text.partition(" ")
    if not name:
        return
    is_entry = "[" in name  # which no verb has
    verb = screen.verbs["explain"] if is_entry else _verb(screen, name)
    arguments = Arguments.of(text if is_entry else rest, typed)
    screen.command = text
    if arguments and not (verb.typed or verb.more or verb.completes):
        raise TuiGruError(f"{name} takes no argument; leave out {shortened_input(arguments)}")
    try:
        assert not isinstance(verb.do, Step)  # the verb of a key that only steps has no name
        verb.do(screen, arguments)
    except TypedError as error:  # its column is relative to the start of the arguments
        raise error.moved(arguments.begins) from None


def by_name(verbs: Mapping[str, Verb[Any]]) -> dict[str, Verb[Any]]:
    """Return the verbs by their names on the `:` line."""
    return {name: verb for verb in verbs.values() for name in verb.names}


def abbreviated(name: str, verbs: Mapping[str, Verb[Any]]) -> Verb[Any] | None:
    """Return the verb of a name, or of the beginning of names of one verb only, as in gdb; None if there is no such verb."""
    if name in verbs:
        return verbs[name]
    begun = {verb.id: verb for full, verb in verbs.items() if name and full.startswith(name)}
    return next(iter(begun.values())) if len(begun) == 1 else None


def _verb(screen: HasVerbs, name: str) -> Verb[Any]:
    verbs = by_name(screen.verbs)
    if (verb := abbreviated(name, verbs)) is not None:
        return verb
    longer = sorted(full for full in verbs if name and full.startswith(name))
    if longer:
        raise TuiGruError(f":{name} is short for {', '.join(longer[:-1])} or {longer[-1]}; type more of it")
    from difflib import get_close_matches

    close = get_close_matches(name, [verb.names[0] for verb in screen.verbs.values() if verb.names and verb.listed], n=3)
    cure = f"did you mean {' or '.join(close)}?" if close else with_keys(screen, "<help> lists all")
    raise TuiGruError(f"there is no command {name!r}; {cure}")
