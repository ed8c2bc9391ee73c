"""The tour: ten keys, one after the other, with a sentence on each; any other key leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from textual import events

from tui_gru.tui.look.key_signs import with_keys
from tui_gru.tui.verbs.table import BY_ID

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen


class Stop(NamedTuple):
    """The verb whose key is awaited, and what is said meanwhile: what the key before has shown, and what this one does."""

    verb: str
    words: str


STOPS = (
    Stop("step.line", "<step.line> executes one line of the program"),
    Stop("explain", "the line, with its numbers, and one of them worked out · <explain>: where does that come from?"),
    Stop("stop", "its terms, with their shares; each can be followed further · <stop> closes this"),
    Stop("step.timestep", "<step.timestep> executes the rest of this timestep: state, prediction, loss"),
    Stop("learn.sgd", "bars: what was predicted; ▸: what should have come · <learn.sgd>: backward, and a step of all weights"),
    Stop("largest.change", "<largest.change>: where is that change, and what are the others?"),
    Stop("learn.toggle", "<learn.toggle> turns learning on"),
    Stop("step.epoch", "<step.epoch> trains for an epoch; 9 0 0 before it, for 900"),
    Stop("sample", "<sample> has the model write, with the weights of now"),
    Stop("back.epoch", "a capital goes back in time, all numbers with it: <back.epoch>, by an epoch"),
)
END = "the end of the tour · <go.newest> goes to the newest moment · <help> explains, and lists all keys; <legend> the signs"


class Tour:
    """Does nothing of its own: each key does what it always does, and the tour says what comes next."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self._at: int | None = None  # in STOPS; after the last of them, the end is said

    @property
    def words(self) -> str:
        """What is said on the last row, after what the verb says; the empty text where no tour is taken."""
        if self._at is None:
            return ""
        if self._at == len(STOPS):
            return with_keys(self._screen, END)
        return f"tour {self._at + 1}/{len(STOPS)} · {with_keys(self._screen, STOPS[self._at].words)}"

    def begin(self) -> None:
        self._go_to(0)

    def take_key(self, event: events.Key) -> None:
        """Go on if this is the key awaited, else leave; in both cases the key then does what it always does."""
        if self._at is None:
            return
        if self._at < len(STOPS) and event.key in self._screen.keys_of(BY_ID[STOPS[self._at].verb]).split(","):
            self._go_to(self._at + 1)
        else:
            left = self._at < len(STOPS)
            self._at = None
            self._screen.say("the tour is left; :tour takes it from its beginning" if left else "")

    def _go_to(self, stop: int) -> None:
        self._at = stop
        self._screen.say("")
