"""What a session is made of: all that has to be written down, and all that is needed to go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tui_gru.debugger.program.steps import StepMemory
from tui_gru.debugger.timeline.branches import Branches
from tui_gru.engine.config import Config

if TYPE_CHECKING:
    from tui_gru.debugger.state.tallies import Key, Tally
    from tui_gru.engine.sampling import Sample


@dataclass(frozen=True, eq=False)
class State:
    """One moment of a session: its run, its branches, where one is, and what was sampled and kept.

    `hit_counts` has the hits of counted breakpoints on the current timeline; they can be counted again, which takes long.
    """

    config: Config
    epochs: int | None
    branches: Branches
    tick: int = 0
    stride: StepMemory = field(default_factory=lambda: StepMemory.begin("", 0))
    stop_on_nan: bool = False
    samples: tuple[Sample, ...] = ()
    kept: Mapping[str, Any] = field(default_factory=dict)
    hit_counts: Mapping[Key, Tally] = field(default_factory=dict)
