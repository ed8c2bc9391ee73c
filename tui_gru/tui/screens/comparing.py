"""A screen that shows two branches at once: both losses, and in every matrix the one minus the other."""

from __future__ import annotations

from dataclasses import replace

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.key_signs import sign_of_key
from tui_gru.tui.panels.gates import Gates
from tui_gru.tui.panels.loss_terms import LossTerms
from tui_gru.tui.panels.softmax import Softmax
from tui_gru.tui.panels.weights import Weights
from tui_gru.tui.screens.looking import LookingScreen

#: The panels that show differences. The line at work keeps its own numbers: what it is computed from must give what it gives.
OF_DIFFERENCES = (Gates, LossTerms, Softmax, Weights)


class ComparingScreen(LookingScreen):
    """`=` goes round: differences, this branch's own numbers beside both curves, no comparison."""

    def seen_by(self, panel: object) -> Snapshot:
        """What a panel is given to draw."""
        if self.snapshot.other is None or not (self.view.differences and isinstance(panel, OF_DIFFERENCES)):
            return self.snapshot
        from tui_gru.debugger.snapshots.differences import differences  # late, as all that the first picture does not need

        return differences(self.snapshot)

    def compare(self, name: str | None) -> None:
        """Compare with a branch; with the empty name, the nearest; None ends it."""

        said: list[str] = []

        def compare(_: object) -> None:
            other, here = self.session.compare(name), self.session.branch
            self.view = replace(self.view, differences=True)
            shown = f"{here} minus {other} in matrices · both losses in the curve · {sign_of_key(self, 'compare')} shows values"
            said.append("compared with no other branch" if other is None else shown)

        self.do(compare)
        compared = self.snapshot.other
        if said and compared is not None and compared.moment is None:
            self.say(f"{compared.name} has not come so far, so there is nothing to compare here but the losses")
        elif said:
            self.say(said[0])

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
