"""A screen that says what a run shows: its findings, and what its units, influences and losses are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tui_gru.debugger.program.position import in_words
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.key_signs import with_keys
from tui_gru.tui.screens.explaining import ExplainingScreen

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.activity import Activity, Correlated
    from tui_gru.debugger.analysis.findings.finding import Finding
    from tui_gru.debugger.analysis.influence import Influence, RowInfluence
    from tui_gru.tui.panels.findings_list import FindingsList
    from tui_gru.tui.panels.influence_map import InfluenceMap
    from tui_gru.tui.panels.loss_places import LossPlaces
    from tui_gru.tui.panels.units_map import UnitsMap
    from tui_gru.tui.widgets.overlay import Overlay


FEW_CHARACTERS = 1000  # a text of no more is read at once, without a thread
MANY_BATCHES = 250  # looking for findings takes as long as two dozen batches: after a run ten times as long it is done unasked


class AnalysingScreen(ExplainingScreen):
    """Subclasses go to places in time (`go`)."""

    def go(self, place: str | int) -> None:
        """Go to a place in time."""
        raise NotImplementedError

    def after_run(self, batches: int) -> None:
        """Look for findings after a long run, so that the top line can say that there are some."""
        if batches >= MANY_BATCHES:
            self.look_for_findings()

    def look_for_findings(self) -> None:
        """Look for findings after a run or a sample. An interrupt is not an error here."""
        with suppress(TuiGruError):
            self.session.findings()

    def action_findings(self) -> None:
        """Look for what is wrong with the run up to here, and list it."""
        found: list[Finding] = []

        def look(progress: Any) -> None:
            found.extend(self.session.findings(progress=progress))

        self.do(look, batches=None, then=lambda: self._list_findings(found), opens=True)

    def _list_findings(self, found: list[Finding]) -> None:
        from tui_gru.tui.panels.findings_list import FindingsList  # late, as all that the first picture does not need

        self.cover(FindingsList(found))

    def on_findings_list_chosen(self, event: FindingsList.Chosen) -> None:
        if event.evidence is not None and event.evidence.number is not None:
            self.ask(event.evidence.number)
        elif event.finding.tick is not None:
            self.go(event.finding.tick)
        else:
            self.say("the whole run shows it; no place in particular")

    # Units over time

    def action_units(self) -> None:
        """The units of the last layer's state over the whole text, with the weights of now; in a model that does not read
        characters, over a row of the batch."""
        self.show_units(self.session.program.main_state)

    def show_units(self, name: str, row: int | None = None) -> None:
        """A value over the whole text, or over a row of the batch, 0-based. Raises `TuiGruError`."""
        from tui_gru.debugger.analysis.activity import over_row

        if row is not None:
            self._cover_units(over_row(self.snapshot.moment, name, row), [])
            return
        found: list[tuple[Activity, list[Correlated]]] = []

        def read(progress: Any) -> None:
            activity = self.session.units(name, progress=progress)
            found.append((activity, activity.goes_with()))

        few = len(self.snapshot.corpus.text) <= FEW_CHARACTERS
        self.do(read, batches=1 if few else None, then=lambda: self._cover_units(*found[0]) if found else None, opens=True)

    def _cover_units(self, activity: Activity, notes: list[Correlated]) -> None:
        from tui_gru.tui.panels.units_map import UnitsMap

        panel = UnitsMap(activity, notes, of=self._when)
        panel.read_at = self.session.anchor() if activity.row is None else None
        self.cover(panel)

    def on_units_map_row_asked(self, event: UnitsMap.RowAsked) -> None:
        self.show_units(event.name, event.row)

    async def on_units_map_class_asked(self) -> None:
        await self.run_action("command('class ')")

    def on_units_map_place_asked(self, event: UnitsMap.PlaceAsked) -> None:
        self._go_to_character(event.at)

    def sort_units(self, typed: str) -> None:
        """Sort the units that are shown by what they have to do with a class of characters. Raises `TuiGruError`."""
        from tui_gru.debugger.analysis.classes import class_of
        from tui_gru.tui.panels.units_map import UnitsMap

        panel = self.overlay
        if not isinstance(panel, UnitsMap):
            raise TuiGruError(with_keys(self, "no units are shown; <units> shows them"))
        panel.go_with(class_of(typed))
        self.set_focus(panel)

    # What a prediction depends on

    def action_influence(self, character: str | None = None) -> None:
        self.show_influence(self.view.row or 0, self.snapshot.position.t, character)

    def show_influence(self, row: int, t: int, character: str | None = None) -> None:
        """What the prediction of a row after a timestep of this batch depends on, 0-based; of a character, or the likeliest."""
        found: list[tuple[Influence, RowInfluence]] = []

        def look(progress: Any) -> None:
            found.append((self.session.influence(row, t, character=character), self.session.influence_of_rows(row, t)))

        self.do(look, batches=None, then=lambda: self._cover_influence(*found[0]) if found else None, opens=True)

    def _cover_influence(self, influence: Influence, rows: RowInfluence) -> None:
        from tui_gru.tui.panels.influence_map import InfluenceMap

        panel = self.overlay
        if isinstance(panel, InfluenceMap):
            panel.turn_to(influence, rows)
            panel.read_at = self.session.anchor()
            return
        panel = InfluenceMap(influence, rows)
        panel.read_at = self.session.anchor()
        self.cover(panel)

    def on_influence_map_asked(self, event: InfluenceMap.Asked) -> None:
        self.show_influence(event.row, event.t)

    # Where the loss is made

    def action_losses(self) -> None:
        from tui_gru.debugger.analysis.baselines import baselines

        found: list[LossPlaces] = []
        text, config, when = self.snapshot.corpus.text, self.snapshot.config, self._when

        def read(progress: Any) -> None:
            from tui_gru.tui.panels.loss_places import LossPlaces

            losses = self.session.losses(text=text, progress=progress)
            found.append(LossPlaces(losses, baselines(text, config.vocab_size), of=when))

        self.do(read, batches=1 if len(text) <= FEW_CHARACTERS else None, then=lambda: self._cover_all(found), opens=True)

    def on_loss_places_chosen(self, event: LossPlaces.Chosen) -> None:
        self._go_to_character(event.at)

    # Every array in a line

    def action_arrays(self) -> None:
        from tui_gru.tui.panels.array_list import ArrayList

        self.cover(ArrayList())

    def _cover_all(self, found: Sequence[Overlay]) -> None:
        for panel in found:
            panel.read_at = self.session.anchor()
            self.cover(panel)

    @property
    def _when(self) -> str:
        at = self.snapshot.position
        return f"read at {in_words(at.epoch, at.batch)}"

    def _go_to_character(self, at: int) -> None:
        """Go to where this epoch reads a character of the text, 0-based, and single out its row."""
        corpus, program, here = self.snapshot.corpus, self.session.program, self.snapshot.position
        cell = corpus.cell_of(at) if isinstance(corpus, Corpus) else None
        if cell is None:
            self.say("no batch reads this character: it stands behind the last whole one", warning=True)
            return
        batch, t, row = cell
        self.single_out(row)
        self.go((here.epoch * program.num_batches + batch) * program.ticks + program.end_of_timestep(t))
