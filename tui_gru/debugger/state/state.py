"""Everything of a session that survives the process: what is written to its file, and what it goes on from."""

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
    from tui_gru.debugger.state.hit_counts import HitCounts, Key
    from tui_gru.engine.running.sampling import Sample

Place = tuple[str, int]  # a branch, by name, and a tick


@dataclass(frozen=True, eq=False)
class State:
    """A session between two verbs. Immutable; each verb leads to another state.

    The run: `config`, `epochs` (None: without an end), `branches`. Where the session is on the current branch: `tick`, and the
    steps that led there, `stride`. `left` is where it was before the last jump, `compared` the two branches that are compared, if
    any are. `hits` are the ticks of each branch at which runs have stopped, the latest stop last, and `log` the lines that
    breakpoints have written on it, in the order of time. `kept` are values of JSON that a front end keeps, by name. `hit_counts`
    has the hits of counted breakpoints on the current timeline, filled in when it is saved: counting them again takes long.
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
    left: Place | None = None
    last_condition: str = ""
    compared: tuple[str, ...] = ()
    hits: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    log: Mapping[str, tuple[LogLine, ...]] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)
    hit_counts: Mapping[Key, HitCounts] = field(default_factory=dict)

    @property
    def timeline(self) -> Timeline:
        """The timeline of the current branch."""
        return self.branches.timeline

    @property
    def branch(self) -> str:
        """The name of the current branch."""
        return self.branches.current

    def replaced(self, **changes: Any) -> State:
        """The state with other values of these fields: `dataclasses.replace`, without its time, which every step would take."""
        fields = self.__dict__
        state = object.__new__(State)
        state.__dict__.update(fields)
        state.__dict__.update(changes)
        if len(state.__dict__) > len(fields):
            raise TypeError(f"a state has no {', '.join(changes.keys() - fields.keys())}")
        return state
