"""Verbs that analyse a run: findings, units over the text, influence, losses by place, summaries of all arrays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tui_gru.debugger.program.position import in_words
from tui_gru.engine.data.corpus import Corpus
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.verbs.stepping import go_to
from tui_gru.tui.verbs.verb import Arguments, with_keys

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.activity import Activity, Correlated
    from tui_gru.debugger.analysis.findings.finding import Finding
    from tui_gru.debugger.analysis.influence import Influence, RowInfluence
    from tui_gru.tui.panels.analysis.findings_list import FindingsList
    from tui_gru.tui.panels.analysis.influence_map import InfluenceMap
    from tui_gru.tui.panels.analysis.loss_places import LossPlaces
    from tui_gru.tui.panels.analysis.units_map import UnitsMap
    from tui_gru.tui.screens.main import MainScreen

FEW_CHARACTERS = 1000  # up to this length, a text is read in the UI thread
MANY_BATCHES = 250  # findings are searched after runs of this length: the search takes about as long as 24 batches, 10 % of it


def look_after_run(screen: MainScreen, batches: int) -> None:
    """Look for findings after a long run, such that the header can show their number. Called in the thread of the run."""
    if batches >= MANY_BATCHES:
        look_for_findings(screen)


def look_for_findings(screen: MainScreen) -> None:
    """Look for findings after a run or a sample, ignoring an interrupt."""
    with suppress(TuiGruError):
        screen.session.findings()


def findings(screen: MainScreen, rest: Arguments) -> None:
    """List what is wrong with the run up to the current position."""

    def show(found: Sequence[Finding]) -> None:
        from tui_gru.tui.panels.analysis.findings_list import FindingsList  # imported late: not needed for the first screen

        screen.overlays.cover(FindingsList(found))

    screen.do(lambda progress: screen.session.findings(progress=progress), batches=None, then=show, opens=True)


def finding_chosen(screen: MainScreen, event: FindingsList.Chosen) -> None:
    if event.evidence is not None and event.evidence.number is not None:
        screen.derivations.ask(event.evidence.number)
    elif event.finding.tick is not None:
        go_to(screen, event.finding.tick)
    else:
        screen.say("this finding is about the whole run, not about one place")


# Units over time


def units(screen: MainScreen, rest: Arguments) -> None:
    """Show units over the text: `[NAME] [row ROW]`; by default the state of the last layer, with `row` over a row of the batch."""
    from tui_gru.debugger.program.typed import Reader, shortened
    from tui_gru.tui.verbs.verb import example

    program = screen.session.program
    reader = Reader(rest, example(program, "units, units $z, or units $z row 1"))
    name = program.main_state if not reader.left or reader.next_word == "row" else program.code_name(reader.word())
    row = None
    if reader.left:
        if reader.word() != "row":
            raise reader.error(f"units takes a name and a row, not {shortened(rest)}")
        row = reader.whole("a row", least=1, most=program.config.batch_size) - 1
        reader.end()
    show_units(screen, name, row)


def show_units(screen: MainScreen, name: str, row: int | None = None) -> None:
    """Show a value over the whole text, or over a row of the batch, 0-based. Raises `TuiGruError` if it has no units."""
    from tui_gru.debugger.analysis.activity import over_row

    if row is not None:
        _cover_units(screen, over_row(screen.snapshot.moment, name, row), [])
        return

    def read(progress: Any) -> tuple[Activity, list[Correlated]]:
        activity = screen.session.units(name, progress=progress)
        _ = activity.pairs  # such that no key waits for a correlation
        return activity, activity.goes_with()

    few = len(screen.snapshot.corpus.text) <= FEW_CHARACTERS
    screen.do(read, batches=1 if few else None, then=lambda found: _cover_units(screen, *found), opens=True)


def _cover_units(screen: MainScreen, activity: Activity, notes: list[Correlated]) -> None:
    from tui_gru.tui.panels.analysis.units_map import UnitsMap

    screen.overlays.cover(UnitsMap(activity, notes, of=_when(screen)), of_this_moment=activity.row is None)


def units_row_asked(screen: MainScreen, event: UnitsMap.RowAsked) -> None:
    show_units(screen, event.name, event.row)


async def units_class_asked(screen: MainScreen) -> None:
    await screen.open_line("class ")


def units_place_asked(screen: MainScreen, event: UnitsMap.PlaceAsked) -> None:
    _go_to_character(screen, event.at)


def class_(screen: MainScreen, rest: Arguments) -> None:
    """Sort the shown units by their correlation with a class of characters. Raises `TuiGruError` if no units are shown."""
    from tui_gru.debugger.analysis.classes import class_of
    from tui_gru.tui.panels.analysis.units_map import UnitsMap

    panel = screen.overlay
    if not isinstance(panel, UnitsMap):
        raise TuiGruError(with_keys(screen, "no units are shown; <units> shows them"))
    panel.go_with(class_of(rest))
    screen.set_focus(panel)


# Influence on a prediction


def influence(screen: MainScreen, rest: Arguments) -> None:
    """Show the influence on the prediction of `[CHARACTER]`, by default of the likeliest one."""
    from tui_gru.debugger.program.typed import Reader

    reader = Reader(rest, "influence, or influence t (a space as ' ')")
    character = reader.character(screen.session.program.spellings.tokens) if reader.left else None
    show_influence(screen, screen.view.row or 0, screen.snapshot.position.t, character)


def show_influence(screen: MainScreen, row: int, t: int, character: str | None = None) -> None:
    """Show what the prediction after timestep `t` in a row of this batch depends on, both 0-based.

    `character` is the predicted character, by default the likeliest one.
    """

    def look(_: object) -> tuple[Influence, RowInfluence]:
        return screen.session.influence(row, t, character=character), screen.session.influence_of_rows(row, t)

    screen.do(look, batches=None, then=lambda found: _cover_influence(screen, *found), opens=True)


def _cover_influence(screen: MainScreen, influence: Influence, rows: RowInfluence) -> None:
    from tui_gru.tui.panels.analysis.influence_map import InfluenceMap

    panel = screen.overlay
    if isinstance(panel, InfluenceMap):
        panel.turn_to(influence, rows)
        panel.read_at = screen.session.anchor()
    else:
        screen.overlays.cover(InfluenceMap(influence, rows), of_this_moment=True)


def influence_asked(screen: MainScreen, event: InfluenceMap.Asked) -> None:
    show_influence(screen, event.row, event.t)


# Losses by place


def losses(screen: MainScreen, rest: Arguments) -> None:
    from tui_gru.debugger.analysis.baselines import baselines

    text, config, when = screen.snapshot.corpus.text, screen.snapshot.config, _when(screen)

    def read(progress: Any) -> LossPlaces:
        from tui_gru.tui.panels.analysis.loss_places import LossPlaces

        losses = screen.session.losses(text=text, progress=progress)
        return LossPlaces(losses, baselines(text, config.vocab_size), of=when)

    def show(panel: LossPlaces) -> None:
        screen.overlays.cover(panel, of_this_moment=True)

    screen.do(read, batches=1 if len(text) <= FEW_CHARACTERS else None, then=show, opens=True)


def loss_place_chosen(screen: MainScreen, event: LossPlaces.Chosen) -> None:
    _go_to_character(screen, event.at)


# Summaries of all arrays


def arrays(screen: MainScreen, rest: Arguments) -> None:
    from tui_gru.tui.panels.analysis.array_list import ArrayList

    screen.overlays.cover(ArrayList())


def _when(screen: MainScreen) -> str:
    at = screen.snapshot.position
    return f"read at {in_words(at.epoch, at.batch)}"


def _go_to_character(screen: MainScreen, at: int) -> None:
    """Go to where this epoch reads the character at this index of the text, 0-based, and single out its row."""
    corpus, program, here = screen.snapshot.corpus, screen.session.program, screen.snapshot.position
    cell = corpus.cell_of(at) if isinstance(corpus, Corpus) else None
    if cell is None:
        screen.say("no batch reads this character: it comes after the last full batch", warning=True)
        return
    batch, t, row = cell
    screen.look(replace(screen.view, row=row))
    go_to(screen, (here.epoch * program.num_batches + batch) * program.ticks + program.end_of_timestep(t))
