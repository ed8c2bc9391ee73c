"""The reading half of a session that asks where numbers come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui_gru.debugger.travelling import Progress, Travelling
from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.findings.finding import Finding
    from tui_gru.debugger.explainer import Explainer
    from tui_gru.debugger.origin import Node, Number
    from tui_gru.engine.batch import BatchRecord
    from tui_gru.engine.sampling import Sample


class Explaining(Travelling):
    """Nothing that is asked here changes anything."""

    samples: tuple[Sample, ...]

    def explain(self, name: str, index: Any = (), t: int | None = None) -> Node:
        """Where entry `index` of `name` comes from, at timestep `t` (0-based; default: the position's), as of the position.

        `explain("h", (1, 0)).terms` are what it is the sum of, and each can be asked in turn. Raises `TuiGruError`.
        """
        from tui_gru.debugger.edits import as_index
        from tui_gru.debugger.origin import Number

        if t is not None:
            t = arguments.whole("the timestep t", t, least=0, most=self.config.seq_length - 1)
        number = Number(arguments.text("a name", name), as_index(index), t, self.position.tick)
        return self._explainer.explain(number)

    def origin(self, number: Number, *, progress: Progress | None = None) -> Node:
        """Where a number of this branch comes from, wherever in time it is. Raises `TuiGruError`, also where it is interrupted."""
        from tui_gru.debugger.explainer import Explainer

        def monitor(batch: int, record: BatchRecord) -> bool:
            if self._interrupted.is_set():
                raise TuiGruError("stopped before it was worked out")
            if progress is not None:
                progress(self._timeline.position((batch + 1) * self.program.ticks))
            return False

        return Explainer(self._timeline, monitor).explain(number)

    def findings(self, *, held_out: str = "", progress: Progress | None = None) -> tuple[Finding, ...]:
        """The mistakes that the run shows up to the position, each with its numbers and the cure; none in a healthy run.

        `held_out` is a text that was not trained on, to look for overfitting. Replays the last batches. Raises `TuiGruError`, also
        where it is interrupted.
        """
        from tui_gru.debugger.analysis.findings.table import find

        def monitor(batch: int, record: BatchRecord) -> bool:
            if self._interrupted.is_set():
                raise TuiGruError("stopped before everything had been looked at")
            return False

        held_out = arguments.text("the text that was held out", held_out, option="held_out")
        return find(self._timeline, self._moment, self.samples, held_out=held_out, monitor=monitor, progress=progress)

    @property
    def _explainer(self) -> Explainer:
        from tui_gru.debugger.explainer import Explainer  # late: nobody asks before the first picture

        return Explainer(self._timeline)
