"""The tour: ten keys with a sentence about each; any other key ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from textual import events

from tui_gru.tui.verbs.verb import keys_of, with_keys

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen


class Stop(NamedTuple):
    """A step of the tour: the verb whose key is awaited, and words about the result of the last key and the effect of this one."""

    verb: str
    words: str


STOPS = (
    Stop("step.line", "<step.line> executes one line of the program"),
    Stop("explain", "the line with its numbers, and the computation of one of them · <explain> shows where it comes from"),
    Stop("stop", "its terms with their shares; each can be followed · <stop> closes the panel"),
    Stop("step.timestep", "<step.timestep> executes the rest of this timestep: state, prediction, loss"),
    Stop("learn.sgd", "bars: predictions; ▸: targets · <learn.sgd> executes the backward pass and updates all weights"),
    Stop("largest.change", "<largest.change> goes to the largest change of a weight"),
    Stop("learn.toggle", "<learn.toggle> turns learning on"),
    Stop("step.epoch", "<step.epoch> trains for an epoch; typed after 9 0 0, for 900 epochs"),
    Stop("sample", "<sample> samples text with the current weights"),
    Stop("back.epoch", "capital letters go back in time, with all numbers: <back.epoch> goes back an epoch"),
)
END = "the end of the tour · <go.newest> goes to the newest moment · <help> lists all keys; <legend> explains the signs"


class Tour:
    """Shows what to press next. It executes nothing itself: each key has its usual effect."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self._at: int | None = None  # index into STOPS, len(STOPS) at the end, None without a tour

    @property
    def words(self) -> str:
        """The words of the tour for the last row, empty without a tour."""
        if self._at is None:
            return ""
        if self._at == len(STOPS):
            return with_keys(self._screen, END)
        return f"tour {self._at + 1}/{len(STOPS)} · {with_keys(self._screen, STOPS[self._at].words)}"

    def begin(self) -> None:
        self._go_to(0)

    def take_key(self, event: events.Key) -> None:
        """Continue if this is the awaited key, otherwise end the tour. The key has its usual effect in both cases."""
        if self._at is None or (event.key.isdigit() and self._at < len(STOPS)):  # a count for the awaited key
            return
        if self._at < len(STOPS) and event.key in keys_of(self._screen, STOPS[self._at].verb).split(","):
            self._go_to(self._at + 1)
        else:
            left = self._at < len(STOPS)
            self._at = None
            self._screen.say("the tour has ended; :tour starts it again" if left else "")

    def _go_to(self, stop: int) -> None:
        self._at = stop
        self._screen.say("")
