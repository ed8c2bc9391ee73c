"""The complete state of a session that is saved in its file and restored from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tui_gru.debugger.program.steps import StepMemory
from tui_gru.debugger.state.marks import Marks
from tui_gru.debugger.state.stops import LogLine, Stops
from tui_gru.debugger.timeline.branches import Branches
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.config import Config

if TYPE_CHECKING:
    from tui_gru.debugger.state.hit_counts import HitCounts, HitKey
    from tui_gru.engine.running.sampling import Sample

BranchTick = tuple[str, int]  # a branch, by name, and a tick


@dataclass(frozen=True, eq=False)
class State:
    """A session between two verbs. Immutable; each verb creates a new state.

    The run: `config`, `epochs` (None: no end), `branches`. The position on the current branch: `tick`, and `stride`, the memory
    of the steps that led there. `left` is the place before the last jump, `compared` the two branches being compared, if any.
    `hits` has the ticks of each branch at which runs have stopped, the latest stop last, and `log` the lines that log points have
    written on it, in the order of time. `kept` has the JSON values of the front end, by name. `hit_counts` has the hits of
    counted breakpoints on the current timeline; it is filled in when the state is saved, because counting them again takes long.
    """

    config: Config
    epochs: int | None
    branches: Branches
    tick: int = 0
    stride: StepMemory = field(default_factory=lambda: StepMemory.begin("", 0))
    stop_on_nan: bool = False
    samples: tuple[Sample, ...] = ()
    stops: Stops = field(default_factory=Stops)
    marks: Marks = field(default_factory=Marks)
    left: BranchTick | None = None
    last_condition: str = ""
    compared: tuple[str, ...] = ()
    hits: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    log: Mapping[str, tuple[LogLine, ...]] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)
    hit_counts: Mapping[HitKey, HitCounts] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<state at tick {self.tick} on {self.branch} of {self.config!r}>"

    @property
    def timeline(self) -> Timeline:
        """The timeline of the current branch."""
        return self.branches.timeline

    @property
    def branch(self) -> str:
        """The name of the current branch."""
        return self.branches.current

    def replaced(self, **changes: Any) -> State:
        """Return the state with other values of these fields: like `dataclasses.replace`, but faster, since every step calls it."""
        fields = self.__dict__
        state = object.__new__(State)
        state.__dict__.update(fields)
        state.__dict__.update(changes)
        if len(state.__dict__) > len(fields):
            raise TypeError(f"a state has no {', '.join(changes.keys() - fields.keys())}")
        return state
