"""The panel of trials: steps of a script's own loop, computed again with a change, beside those of the run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from rich.segment import Segment
from textual.binding import BindingType

from tui_gru.analysis.trials import is_lower, loss_after
from tui_gru.engine import numbers
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui.draw import TableColumn, styled_row, table
from tui_gru.tui.keys import with_keys
from tui_gru.tui.panel import ListOverlay, ListRow, Titles
from tui_gru.tui.plots import plot
from tui_gru.tui.theme import folded

_CURVES, _LEAST_CURVES, _MOST_CURVES = 8, 24, 100  # rows of the chart, and its columns


class TrialsList(ListOverlay):
    """The trials of this pause, the newest last: each change, the loss after it and without it, both curves."""

    ABOUT = (
        "The last steps of your own loop, computed again with a change; the script itself stands still and is as it was. Enter "
        "goes to a trial, a branch that can be compared with the run; k lets the script go on from its end."
    )
    ASKING = frozenset({"choose", "adopt"})
    BINDINGS: ClassVar[list[BindingType]] = [("k", "adopt")]

    def __init__(self, trials: Sequence[Any], doing: str = "") -> None:
        """Create a list; `doing` says what is being computed."""
        super().__init__()
        self.trials, self.doing = tuple(trials), doing
        self.cursor = max(len(self.trials) - 1, 0)

    def tell(self, trials: Sequence[Any], doing: str = "") -> None:
        """Show the trials so far, with the cursor at the newest."""
        self.trials, self.doing = tuple(trials), doing
        self.cursor = max(len(self.trials) - 1, 0)
        self.show_again()

    def titles(self, snapshot: Snapshot) -> Titles:
        hints = [with_keys(self, "<stop> closes")]
        if self.trials:
            hints = ["enter opens it", "k keeps it", *hints]
        return Titles("trials in your own loop", hints)

    def lines(self, width: int) -> Sequence[ListRow]:
        palette, rows = self.palette, list[ListRow]()
        cells = []
        for trial in self.trials:
            loss, usual = after(trial.losses), after(trial.own)
            ink = palette.warning if trial.why else palette.strong if is_lower(trial.losses, trial.own, 0) else palette.plain
            shown = f"{loss_text(usual)} → {loss_text(loss)}"
            cells.append(
                [styled_row(palette, cell) for cell in ((trial.words or "unchanged", ink), (shown, ink), (outcome_of(trial), ink))]
            )
        columns = TableColumn(gap=2, least=8), TableColumn(gap=2), TableColumn(need=0)
        for place, row in enumerate(table(palette, cells, columns, width)):
            rows.append(ListRow(row, place))
            trial = self.trials[place]
            notes = [trial.why] if trial.why else []
            notes += [f"left out: {', '.join(trial.left_out)}"] if trial.left_out else []
            rows += [
                ListRow(styled_row(palette, ("  " + line, palette.dim)), place)
                for note in notes
                for line in folded(note, width - 2)
            ]
        if self.doing:
            rows.append(ListRow(styled_row(palette, (self.doing, palette.dim))))
        return [*rows, *self._chart(width)]

    def _chart(self, width: int) -> Iterator[ListRow]:
        """Yield the losses of the trial under the cursor, and dotted those of the run."""
        palette = self.palette
        trial = self.trials[self.cursor] if self.cursor < len(self.trials) else None
        if trial is None or width < _LEAST_CURVES or sum(map(math.isfinite, trial.losses)) < 2:
            return
        drawn = plot(palette, trial.losses, min(width - 2, _MOST_CURVES), _CURVES, second=trial.own)
        yield ListRow(())
        heads = ("loss  ", palette.dim), (trial.words or "unchanged", palette.gate), ("  as it was", palette.second)
        yield ListRow(styled_row(palette, "  ", *heads))
        yield from (ListRow((Segment("  "), *row)) for row in drawn.box.rows)

    def choose(self) -> None:
        if self.trials:
            self.request("trial.open", self.trials[self.cursor])

    def action_adopt(self) -> None:
        if self.trials:
            self.request("trial.adopt", self.trials[self.cursor])


def after(losses: Sequence[float]) -> float:
    """Return the loss after some steps; NaN if none of them has one."""
    own_losses = [loss for loss in losses if not math.isnan(loss)]
    return loss_after(own_losses) if own_losses else math.nan


def loss_text(loss: float) -> str:
    return "–" if math.isnan(loss) else numbers.plain(loss) if math.isfinite(loss) else "not finite"


def outcome_of(trial: Any) -> str:
    """Say how many steps a trial has, and what it shows."""
    steps = f"{len(trial.losses)} step{'s' if len(trial.losses) != 1 else ''} from {trial.since} on"
    if trial.why:
        return f"{steps}, ended early"
    if trial.is_equal:
        return f"{steps}, all losses equal bit for bit"
    if is_lower(trial.losses, trial.own, 0):
        return f"{steps}, surely lower"
    if is_lower(trial.own, trial.losses, 0):
        return f"{steps}, surely higher"
    return steps


def trial_in_words(trial: Any) -> str:
    """Say what a trial has shown, in a line."""
    if trial.why:
        return str(trial.why)
    if trial.is_equal:
        return f"{len(trial.losses)} steps run again: all losses equal bit for bit"
    return f"from step {trial.since}: loss {loss_text(after(trial.own))} → {loss_text(after(trial.losses))}; {outcome_of(trial)}"
