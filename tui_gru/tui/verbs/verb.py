"""A verb of the screen: its keys, its name on the `:` line, and the function that carries it out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.binding import Binding

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen


class Arguments(str):
    """What was typed after the name of a verb; `begins` is its column on the `:` line, counted from 0."""

    begins: int = 0

    @classmethod
    def of(cls, rest: str, typed: str) -> Arguments:
        arguments = cls(rest.strip())
        arguments.begins = typed.rindex(arguments)
        return arguments


NO_ARGUMENTS = Arguments()


def always(screen: MainScreen) -> bool:
    """For verbs that apply at any time."""
    return True


@dataclass(frozen=True)
class Typed:
    """How a verb is typed on the `:` line.

    `names` are separated by spaces, the first is the one that is completed. `usage` is an example, with names of the model
    (`example`). `help` is what it does with arguments besides what its key does. `completes` names the completion of
    each argument in turn (`completion.COMPLETIONS`, the empty text for none); the last one holds for all that follow.
    """

    names: str
    usage: str = ""
    help: str = ""
    completes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verb:
    """A row of the verb table.

    `id` is what a key file remaps. `do` carries the verb out with the arguments that were typed; a key calls it without
    arguments, or opens the `:` line where the verb needs arguments (`needs_arguments`), or calls `press` where the key does
    something else. `help` is one sentence, with names of the model (`example`); without one the verb is not among the keys of `?`.

    `label` is the word in the footer; without a label the verb is not in the footer. `rank` orders the footer: what does not fit
    is dropped, the highest rank first. `applies` says whether the verb can do something at this moment: otherwise its key is dim.
    `offered` says whether it can do something in this run at all: otherwise it is not in the footer, and its key says why it does
    nothing.
    """

    id: str
    keys: str
    do: Callable[[MainScreen, Arguments], object]
    help: str
    group: str
    typed: Typed
    label: str = ""
    rank: int = 9
    press: Callable[[MainScreen], Awaitable[None] | None] | None = None
    needs_arguments: bool = False
    applies: Callable[[MainScreen], bool] = always
    offered: Callable[[MainScreen], bool] = always
    while_running: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Its names on the `:` line."""
        return tuple(self.typed.names.split())

    @property
    def usage(self) -> str:
        """An example of it on the `:` line."""
        return self.typed.usage or self.names[0]

    @property
    def typed_help(self) -> str:
        """What it does, with arguments as well."""
        return "; ".join(filter(None, (self.help, self.typed.help)))

    @property
    def action(self) -> str:
        """The action of the main screen that carries it out."""
        return f"verb({self.id!r})"

    @property
    def binding(self) -> Binding:
        return Binding(self.keys, self.action, self.label, show=bool(self.label), id=self.id, tooltip=self.help)
