"""A row of the verb table: its keys, its name on the `:` line, and the function that executes it; keys and examples in words."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from string import Template
from typing import Generic, NamedTuple, Protocol, TypeVar, cast

from textual.binding import Binding
from textual.dom import DOMNode

from tui_gru.debugger.position import Level, typed_entry
from tui_gru.debugger.program import Program

S = TypeVar("S")  # the screen that a verb works on
_ENTRY = re.compile(r"\$([Whz])\[(\d+),(\d+)\]")
VERB = re.compile(r"<([\w.]+)>")
KEY_SIGNS = {
    "space": "space", "question_mark": "?", "colon": ":", "full_stop": ".", "plus": "+", "minus": "-", "escape": "esc",
    "right": "→", "left": "←", "up": "↑", "down": "↓", "shift+tab": "shift+tab",
    "right_square_bracket": "]", "left_square_bracket": "[", "right_curly_bracket": "}", "left_curly_bracket": "{",
    "apostrophe": "'",
    "equals_sign": "=", "comma": ",", "semicolon": ";", "exclamation_mark": "!", "circumflex_accent": "^", "at": "@",
    "asterisk": "*", "ampersand": "&", "percent_sign": "%", "tilde": "~", "underscore": "_",
}  # fmt: skip


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


class Step(NamedTuple):
    """A step of a level, forwards if `direction` is 1, back in time if it is -1."""

    level: Level
    direction: int


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
    `cycle` returns after how many presses the key is back where it was, if it goes round.
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
    def has_arguments(self) -> bool:
        """True if something can be typed after the name."""
        return bool(self.typed or self.more or self.completes)

    @property
    def action(self) -> str:
        """The Textual action of the main screen that executes the verb."""
        return f"verb({self.id!r})"

    @property
    def binding(self) -> Binding:
        return Binding(self.keys, self.action, self.label, show=bool(self.label), id=self.id, tooltip=self.help)


def key_sign(keys: str) -> str:
    """Return the sign of the first key: `.` for `full_stop`, `s` for `s,right`."""
    return key_signs(keys)[0]


def key_signs(keys: str) -> list[str]:
    """Return the signs of all keys."""
    return [KEY_SIGNS.get(key, key) for key in keys.split(",")]


class HasKeys(Protocol):
    """What panels ask an app that knows the verb table, which is above them."""

    def keys_of(self, verb: str) -> str:
        """Return the keys of the verb of this id, separated by commas."""
        raise NotImplementedError


def keys_of(node: DOMNode, verb: str) -> str:
    """Return the keys of the verb of this id, separated by commas: those of the user's key file, otherwise those of the table."""
    return cast(HasKeys, node.app).keys_of(verb)


def sign_of_key(node: DOMNode, verb: str) -> str:
    """Return the sign of the first key of the verb of this id."""
    return key_sign(keys_of(node, verb))


def with_keys(node: DOMNode, words: str) -> str:
    """Replace ids of verbs in angle brackets by their keys: `<step.line> executes one` to `o executes one`."""
    return VERB.sub(lambda match: sign_of_key(node, match[1]), words)


def example(program: Program, words: str) -> str:
    """Replace `$W` by a weight, `$h` by the state of the last layer, and `$z` by the first value of that layer; an entry of them
    with an index from 0, `$z[0,1]`, by the same entry as the screen writes it."""
    matrices = (name for group in program.matrices_by_gate for name in group)
    names = {"W": next(matrices, program.parameters[0]), "h": program.main_state, "z": program.main_layer.lines[0]}

    def entry(found: re.Match[str]) -> str:
        name = names[found[1]]
        index = [min(int(i), size - 1) for i, size in zip(found.group(2, 3), program.shapes[name], strict=False)]
        return typed_entry(program, name, index)

    return Template(_ENTRY.sub(entry, words)).substitute(names)
