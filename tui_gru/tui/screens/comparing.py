"""A screen that shows two branches at once: both losses, and in every matrix the one minus the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.naming import spoken
from tui_gru.debugger.program.position import position_of
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.key_signs import sign_of_key
from tui_gru.tui.panels.gates import Gates
from tui_gru.tui.panels.listing import Listing
from tui_gru.tui.panels.loss_curve import LossCurve
from tui_gru.tui.panels.loss_terms import LossTerms
from tui_gru.tui.panels.samples import Samples
from tui_gru.tui.panels.softmax import Softmax
from tui_gru.tui.panels.weights import Weights
from tui_gru.tui.screens.looking import LookingScreen
from tui_gru.tui.widgets.time_scale import place_name

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.branches_apart import Apart

#: The panels that show differences. The line at work keeps its own numbers: what it is computed from must give what it gives.
OF_DIFFERENCES = (Gates, LossTerms, Softmax, Weights)
#: Those, the panels that name branches or places themselves, and the one without values.
SAYING_IT = (*OF_DIFFERENCES, LossCurve, Listing, Samples)


class ComparingScreen(LookingScreen):
    """`=` goes round: differences, this branch's own numbers beside both curves, no comparison."""

    def seen_by(self, panel: object) -> Snapshot:
        """What a panel is given to draw."""
        if self.snapshot.other is None or not (self.view.differences and isinstance(panel, OF_DIFFERENCES)):
            return self.snapshot
        from tui_gru.debugger.snapshots.differences import differences  # late, as all that the first picture does not need

        return differences(self.snapshot)

    def remark_on(self, panel: object) -> str:
        """What the border of a panel says that shows no differences where others do; empty for those that say it themselves."""
        shown = self.snapshot.other is not None and self.view.differences
        return f"{self.snapshot.branch} alone" if shown and not isinstance(panel, SAYING_IT) else ""

    def compare(self, name: str | None) -> None:
        """Compare with a branch; with the empty name, the nearest; None ends it."""

        said: list[str] = []

        def compare(_: object) -> None:
            other, here = self.session.compare(name), self.session.branch
            self.view = replace(self.view, differences=True)
            said.append("compared with no other branch" if other is None else f"{here} minus {other} in matrices")
            if other is not None:
                said.append(_first_of(self.session.apart(other), self.session.program))
                said.extend(["both losses in the curve", f"{sign_of_key(self, 'compare')} shows values", ":apart says more"])

        self.do(compare)
        compared = self.snapshot.other
        if said and compared is not None and compared.moment is None:
            self.say(f"{compared.name} has not come so far, so there is nothing to compare here but the losses")
        elif said:
            self.say(" · ".join(said))

    def action_compare(self) -> None:
        other = self.session.comparing
        if other is None:
            self.compare("")
        elif self.view.differences:
            self.view = replace(self.view, differences=False)
            self.show_view()
            shown = f"values of {self.session.branch} in matrices · both losses in the curve"
            self.say(f"{shown} · {sign_of_key(self, 'compare')} compares no more")
        else:
            self.compare(None)


def _first_of(apart: Apart, program: Program) -> str:
    """Where two branches first differ, in a few words."""
    first = apart.first
    if first is None:
        return "the same as far as both have come"
    if first.entry is None:
        return f"first differ at {place_name(position_of(program, first.batch * program.ticks + 1))}, where one alone learns"
    entry = first.entry
    return f"first differ at {place_name(position_of(program, entry.tick))}: {spoken(program, entry.name, entry.index)}"
