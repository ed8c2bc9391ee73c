"""The current step of a capture: its calls, which of them received gradients, and p.grad before the step."""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tui_gru.interop.capture.calls import CapturedStep, Note
from tui_gru.interop.capture.pending import PendingCall
from tui_gru.interop.capture.weights import UsedWeights
from tui_gru.interop.tensors import AnyArray

if TYPE_CHECKING:
    from torch.nn import Module


MOST_ENTRIES = 10_000  # of one step, such as a long validation; then those of calls that can receive no gradient are removed


@dataclass(eq=False)
class OpenCall:
    """An entry for a call. Until the call receives a gradient, only the script's graph holds it; if the graph is freed, the call
    cannot receive one.

    A call under no_grad has no graph, and `waiting` is None. Checkpointing can compute the call again in a backward pass, with a
    graph; the new call replaces the first and receives the gradient.
    """

    part: Module
    waiting: weakref.ref[PendingCall] | None = None

    @property
    def call(self) -> PendingCall | None:
        return None if self.waiting is None else self.waiting()


@dataclass(eq=False)
class OpenStep:
    """The data of the current step.

    `latest` has the latest calls without a gradient; its length is set by the user. If the step is not `wanted`, no data is
    collected.
    """

    number: int
    wanted: bool
    latest: deque[PendingCall]
    entries: list[OpenCall] = field(default_factory=list)
    learned: dict[int, PendingCall] = field(default_factory=dict)  # the calls that received a gradient, by id
    weights: dict[Module, UsedWeights] = field(default_factory=dict)  # the latest weights of each module
    gradients: dict[str, AnyArray] = field(default_factory=dict)
    before: dict[str, AnyArray] = field(default_factory=dict)
    passes: set[int] = field(default_factory=set)
    updated: bool = False
    not_kept: int = 0  # the number of calls whose entries were removed
    loss: float | None = None
    settings: dict[str, float] = field(default_factory=dict)
    notes: dict[Note, None] = field(default_factory=dict)
    token: int = field(default_factory=itertools.count(1).__next__)

    def place(self, part: Module, *, again: bool) -> OpenCall | None:
        """Return the entry for a call: a new one, or with `again` (a call in a backward pass) that of its first call, which is None
        if the first call had a graph."""
        if again:
            return next((e for e in reversed(self.entries) if e.part is part and e.waiting is None), None)
        if len(self.entries) >= MOST_ENTRIES:
            self._forget_dead()
        self.entries.append(OpenCall(part))
        return self.entries[-1]

    def _forget_dead(self) -> None:
        """Count the older calls that can no longer receive a gradient, and remove their entries."""
        older, self.entries = self.entries[: -MOST_ENTRIES // 2], self.entries[-MOST_ENTRIES // 2 :]
        alive = [entry for entry in older if entry.call is not None]
        self.not_kept += len(older) - len(alive)
        self.entries = alive + self.entries

    def take(self, entry: OpenCall, call: PendingCall) -> None:
        """Store the call of an entry."""
        entry.waiting, call.step = weakref.ref(call), self.token
        self.latest.append(call)

    def parts_learned(self) -> Sequence[Module]:
        """Return the modules that received a gradient."""
        return list(dict.fromkeys(call.part for call in self.learned.values()))

    def split_off(self, following: OpenStep) -> None:
        """Move all calls after the last one that received a gradient to the following step."""
        last = max(i for i, entry in enumerate(self.entries) if id(entry.call) in self.learned)
        self.entries, following.entries = self.entries[: last + 1], self.entries[last + 1 :]
        following.weights = dict(self.weights)
        for call in (entry.call for entry in following.entries):
            if call is not None:
                call.step = following.token
                following.latest.append(call)

    def freeze(self, rank: int, ranks: int) -> CapturedStep:
        """Return the collected step. Calls without a gradient are only counted, unless they are among the latest."""
        kept = self.learned.keys() | set(map(id, self.latest))
        calls = [call for entry in self.entries if (call := entry.call) is not None and id(call) in kept]
        return CapturedStep(
            self.number,
            tuple(call.frozen(i) for i, call in enumerate(calls)),
            self.gradients,
            self.before,
            self.loss,
            self.updated,
            self.settings,
            rank,
            ranks,
            self.not_kept + len(self.entries) - len(calls),
            tuple(self.notes),
        )
