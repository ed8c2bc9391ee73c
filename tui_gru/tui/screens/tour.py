"""The tour: ten keys with a sentence about each; any other key ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from textual import events

from tui_gru.tui.verbs.verb import keys_of, with_keys

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen


class TourStep(NamedTuple):
    """A step of the tour: the verb whose key is awaited, and words about the result of the last key and the effect of this one."""

    verb: str
    words: str


STOPS = (
    TourStep("step.line", "<step.line> executes one line of the program · any other key ends the tour"),
    TourStep("explain", "the line with its numbers, and the computation of one of them · <explain> shows where it comes from"),
    TourStep("stop", "its terms with their shares; each can be followed · <stop> closes the panel"),
    TourStep("step.timestep", "<step.timestep> executes the rest of this timestep: state, prediction, loss"),
    TourStep("learn.sgd", "bars: predictions; ▸: targets · <learn.sgd> executes the backward pass and updates all weights"),
    TourStep("largest.change", "<largest.change> goes to the largest change of a weight"),
    TourStep("learn.toggle", "<learn.toggle> turns learning on"),
    TourStep("step.epoch", "<step.epoch> trains for an epoch; typed after 9 0 0, for 900 epochs"),
    TourStep("sample", "<sample> samples text with the current weights"),
    TourStep("back.epoch", "capital letters go back in time, with all numbers: <back.epoch> goes back an epoch"),
)
END = "the end of the tour · <go.newest> goes to the newest moment · <help> lists all keys; <legend> explains the signs"

LEFT = "the tour has ended; :tour starts it again"


class Tour:
    """Shows what to press next. It executes nothing itself: each key has its usual effect."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self._at: int | None = None  # index into STOPS, None outside the tour
        self._last = ""  # the words after the tour, until the next key

    @property
    def words(self) -> str:
        """The words of the tour for the last row, empty without a tour."""
        if self._at is None:
            return self._last
        return f"tour {self._at + 1}/{len(STOPS)} · {with_keys(self._screen, STOPS[self._at].words)}"

    def begin(self) -> None:
        self._at = 0
        self._screen.say("")

    def take_key(self, event: events.Key) -> None:
        """Continue if this is the awaited key, otherwise end the tour. The key has its usual effect in both cases."""
        if self._at is not None and event.key.isdigit():  # a count for the awaited key
            return
        before = self.words
        if self._at is None:
            self._last = ""
        elif event.key not in keys_of(self._screen, STOPS[self._at].verb).split(","):
            self._at, self._last = None, LEFT
        elif self._at + 1 == len(STOPS):
            self._at, self._last = None, with_keys(self._screen, END)
        else:
            self._at += 1
        if self.words != before:
            self._screen.say("")
