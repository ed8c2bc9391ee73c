"""Verbs that look: at another part of the screen, at findings and influences, at a check, at where a number comes from."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tui_gru.debugger.evaluate import ValueRef
from tui_gru.debugger.expressions import compile_expression
from tui_gru.debugger.position import Reader, in_words, position_of, quoted, shortened, typed_entry
from tui_gru.debugger.program import spoken
from tui_gru.engine.data import Corpus
from tui_gru.engine.sampling import refused
from tui_gru.engine.source import Ability
from tui_gru.errors import LARGEST, TuiGruError
from tui_gru.session import answers
from tui_gru.session.answers import ToldStory
from tui_gru.tui.keys import NO_ARGUMENTS, Arguments, Verb, example, execute, with_keys
from tui_gru.tui.moving import go_to

if TYPE_CHECKING:
    from tui_gru.analysis.check import Check
    from tui_gru.analysis.examined import Finding
    from tui_gru.analysis.influence import ContextMemory, Influence, RowInfluence
    from tui_gru.analysis.losses import TextLosses
    from tui_gru.analysis.story import Story
    from tui_gru.analysis.trials import RateTrial, TriedOption
    from tui_gru.analysis.units import Activity, Correlated, Feature, Probe
    from tui_gru.analysis.what_if import WhatIf
    from tui_gru.debugger.program import Program
    from tui_gru.engine.config import Text
    from tui_gru.engine.weights import Float64Array, Weights
    from tui_gru.session.snapshot import Snapshot
    from tui_gru.session.travel import SearchProgress
    from tui_gru.tui.draw import Ref
    from tui_gru.tui.panel import NumberAsked, PanelResult, SnapshotPanel
    from tui_gru.tui.panels.check import CheckReport
    from tui_gru.tui.panels.derivation import WhatIfPanel
    from tui_gru.tui.panels.influence import InfluenceMap, LossPlaces
    from tui_gru.tui.panels.lists import FindingsList
    from tui_gru.tui.panels.story import StoryPanel
    from tui_gru.tui.panels.units import UnitsMap
    from tui_gru.tui.screen import MainScreen

# ------------------------------------------------------------------------------
# Verbs that change what is shown: row, layer, page, zoom, focus, theme, help; and escape and quit.


def row(screen: MainScreen, rest: Arguments, *, direction: int) -> None:
    """Single out the next or the previous row of the batch; between the last and the first, no row is singled out."""
    rows = screen.snapshot.config.batch_size
    now = -1 if screen.view.row is None else screen.view.row
    chosen = (now + 1 + direction) % (rows + 1) - 1
    screen.set_view(replace(screen.view, row=None if chosen < 0 else chosen))
    screen.say("no row is singled out" if chosen < 0 else f"row {chosen + 1} of {rows} is singled out")


def rows(screen: MainScreen) -> int:
    return screen.snapshot.config.batch_size + 1


def layer(screen: MainScreen, rest: Arguments) -> None:
    """Show the next layer or direction; after the last, that of the current line."""
    program = screen.session.program
    if len(program.layers) == 1:
        screen.say("this model has one layer, in one direction")
        return
    after = 0 if screen.view.layer is None else screen.view.layer + 1
    screen.set_view(replace(screen.view, layer=after if after < len(program.layers) else None))
    shown = "the layer of the current line" if screen.view.layer is None else program.layer_name(program.layers[after])
    screen.say(f"gates, weights and gradient flow show {shown}")


def layers(screen: MainScreen) -> int:
    return len(screen.session.program.layers) + 1


def page(screen: MainScreen, rest: Arguments) -> None:
    from tui_gru.tui.layout import page_words

    panels = screen.panels
    panels.turn_to(panels.page + 1)
    one = "all panels are on this page"
    screen.say(page_words(panels.on_pages, panels.page) if panels.pages > 1 else one)


def pages(screen: MainScreen) -> int:
    return screen.panels.pages


def zoom(screen: MainScreen, rest: Arguments) -> None:
    screen.panels.zoom()


def focus_panel(screen: MainScreen, rest: Arguments, *, direction: int) -> None:
    if direction > 0:
        screen.focus_next()
    else:
        screen.focus_previous()


def panels(screen: MainScreen) -> int:
    return max(len(screen.focus_chain), 1)


def theme(screen: MainScreen, rest: Arguments) -> None:
    from tui_gru.tui.theme import checked_theme

    screen.app.theme = checked_theme(screen.app, str(rest))
    screen.say(f"the theme is {rest}")


# Explanations


def help_(screen: MainScreen, rest: Arguments) -> None:
    """Open the help; with arguments, show the explanation of that name in the message line, or the section of the manual about
    these words in the help. Raises `TuiGruError` if there is neither."""
    if rest and _explain_words(screen, rest):
        return
    from tui_gru.tui.help import HelpScreen, every_row, rows_here

    focused = screen.overlay if screen.focused is None else screen.focused
    keys, program = partial(with_keys, screen), screen.session.program
    here = list(rows_here(screen.snapshot, focused, under_cursor(screen), keys))
    if focused is None:
        words = "<panel.next> goes from panel to panel, the arrows from number to number: <help> then explains it here"
        here.append(("more", with_keys(screen, words)))

    async def execute(found: Verb[Any] | None) -> None:
        if found is not None:
            await screen.run_action(found.action)

    explained = partial(every_row, program, keys)
    screen.app.push_screen(HelpScreen(tuple(screen.verbs.values()), program, here, explained, str(rest)), execute)


def _explain_words(screen: MainScreen, words: str) -> bool:
    """Explain a name, a sign or a panel; return False if the manual says more about these words than the signs do.

    Raises `TuiGruError` if neither says anything.
    """
    from tui_gru.tui import manual
    from tui_gru.tui.about import TERMS
    from tui_gru.tui.help import WORDS, explain, explain_named

    program, keys = screen.session.program, partial(with_keys, screen)
    found, sections = explain_named(program, words, keys), manual.search(words)
    if not found and not (sections and manual.is_about(sections[0], words)):
        found = explain(program, words, keys)
    if found:
        screen.say(found)
    elif not sections:
        cure = manual.suggestion(words, (*program.names, *WORDS, *TERMS))
        cure = cure or keys("type the name of a value, a sign or a panel; <help> explains what has the focus")
        raise TuiGruError(f"there is no explanation of {str(words)!r}; {cure}")
    return bool(found)


def legend(screen: MainScreen, rest: Arguments) -> None:
    """Show the legend of colours and signs over the blackboard, or hide it if it is shown."""
    from tui_gru.tui.help import Legend

    screen.overlays.toggle(Legend)


def tour(screen: MainScreen, rest: Arguments) -> None:
    """Start the tour. Raises `TuiGruError` if the run cannot be trained, or no text can be sampled from it."""
    if not screen.snapshot.config.source.can(Ability.TRAIN):
        raise TuiGruError("the tour trains a model, but this run cannot be trained; start tui-gru without a file for the tour")
    if (reason := refused(screen.snapshot.config)) is not None:
        raise TuiGruError(f"the tour ends with a sample, but {reason.words}; start tui-gru without options for the tour")
    screen.tour.begin()


# Escape and quit


async def command(screen: MainScreen, rest: Arguments) -> None:
    await screen.open_line()


def escape(screen: MainScreen, rest: Arguments) -> None:
    """Stop a run; without one, end the first of these: a question, a count, play, zoom, an overlay, the focus, a unit held at 0,
    a message."""
    if screen.running:
        screen.session.interrupt()
    elif screen.pending.withdraw():
        pass
    elif screen.pending.counting:
        screen.pending.take_count()
    elif screen.play.playing:
        screen.play.pause()
    elif screen.maximized is not None:
        screen.minimize()
    elif screen.overlay is not None:
        screen.overlays.lift()
    elif screen.focused is not None:
        screen.set_focus(None)
    elif screen.session.silent is not None:
        _end_silence(screen)
    elif not screen.kept.decline():
        screen.say("")


def interrupt(screen: MainScreen, rest: Arguments) -> None:
    if screen.running:
        screen.session.interrupt()
    else:
        screen.say(with_keys(screen, "nothing is running; <quit> quits"))


def quit_(screen: MainScreen, rest: Arguments) -> None:
    """Quit; if there is unrecorded work, only on the second call in a row."""
    if screen.kept.question and not screen.pending.leaving:
        screen.pending.leaving = True
        screen.say(with_keys(screen, "press <quit> again to quit and lose the changes that are not recorded"))
        return
    screen.session.interrupt()
    screen.app.exit()


# ------------------------------------------------------------------------------
# Verbs that analyse a run: findings, units over the text, influence, losses by place, summaries of all arrays.


FEW_CHARACTERS = 1000  # up to this length, a text is read in the UI thread


def findings(screen: MainScreen, rest: Arguments) -> None:
    """List what is wrong with the run up to the current position."""

    def show(found: Sequence[Finding]) -> None:
        from tui_gru.tui.panel import PanelResult
        from tui_gru.tui.panels.lists import FindingsList

        panel = FindingsList(found)
        panel.waiting = screen.snapshot.config.source.can(Ability.TRAIN)

        def look_back(progress: SearchProgress | None) -> Sequence[Finding]:
            try:
                screen.session.gone(progress=progress)
            except TuiGruError:
                screen.post_message(PanelResult(panel, partial(panel.show_gone, ())))
                raise
            return found

        def tell(_: object) -> None:
            panel.show_gone(getattr(screen.session.found, "gone", ()))

        then = partial(screen.do, look_back, batches=None, then=tell)
        screen.overlays.cover(panel, then=then if panel.waiting else None)

    screen.do(screen.session.findings, batches=None, then=show, opens=True)


def finding_chosen(screen: MainScreen, event: FindingsList.Chosen) -> None:
    if event.evidence is not None and event.evidence.number is not None:
        screen.derivations.ask(event.evidence.number)
    elif event.finding.tick is not None:
        go_to(screen, event.finding.tick)
    else:
        screen.say("this finding is about the whole run, not about one place")


# Cures and learning rates, tried on copies


def cures_asked(screen: MainScreen, event: FindingsList.CuresAsked) -> None:
    """Try the cures of a finding in a thread, and list each in its panel as it is known."""
    from tui_gru.tui.panel import PanelResult
    from tui_gru.tui.panels.lists import FindingsList

    panel, finding = screen.overlay, event.finding
    if not isinstance(panel, FindingsList):
        return
    if not finding.cures:
        screen.say(f"this finding has no option to try; its cure: {finding.cure}", warning=True)
        return

    def attempt(progress: SearchProgress | None) -> None:
        def seen(tried: tuple[TriedOption, ...]) -> None:
            if progress is not None:
                progress(f"trying cures: {len(tried) - 1} of {len(finding.cures)}")
            screen.post_message(PanelResult(panel, partial(panel.show_trials, finding, tried)))

        screen.session.tried_options(finding, progress=seen)

    screen.do(attempt, batches=None)


def cure_copied(screen: MainScreen, event: FindingsList.Copied) -> None:
    """Copy the command that starts a run with a cure that was tried, and say it."""
    from tui_gru.analysis.trials import command_line

    if event.cure is None:
        screen.say("no cure of this finding has been tried yet; t tries them", warning=True)
        return
    sampled = event.cure.name == "sampler"
    command = event.finding.cure if sampled else command_line(screen.session.config, event.cure.typed)
    screen.app.copy_to_clipboard(command)
    screen.say(f"copied: {command}")


def cure_kept(screen: MainScreen, event: FindingsList.Kept) -> None:
    """Run the batches so far again with a cure, on a branch, or sample with it; what only a new run can have is refused."""
    cure, before = event.cure, screen.snapshot
    if cure is None:
        screen.say("no cure of this finding has been tried yet; t tries them", warning=True)
        return
    if cure.name == "sampler":
        execute(screen, event.finding.cure)
        return
    setting = {"clip": "limit"}.get(cure.name, cure.name)
    if setting not in before.settings.rule:
        screen.say(f"{cure.typed} needs a new run, which no branch can be; y copies its command", warning=True)
        return
    count = screen.session.state.timeline.completed(before.position)

    def run(progress: SearchProgress | None) -> None:
        session = screen.session
        session.seek(0)
        session.edit(setting, cure.value)
        session.learning = True
        session.step("batch", count, progress=progress)

    def say(_: object) -> None:
        now, was = (each.losses[-1] if len(each.losses) else math.nan for each in (screen.snapshot, before))
        branch = answers.branched(before, screen.snapshot)
        screen.answer(f"with {cure.typed} the last loss is {now:.4f} instead of {was:.4f}{branch}")

    screen.overlays.lift()
    screen.do(run, batches=count, then=say)


def rates(screen: MainScreen, rest: Arguments) -> None:
    """Try learning rates on copies from here on, and show each as it is known."""
    from tui_gru.tui.panel import PanelResult
    from tui_gru.tui.panels.story import RatesPanel

    own = screen.snapshot.settings.rule.get("learning_rate")
    if own is None or not screen.snapshot.config.source.can(Ability.TRAIN):
        raise TuiGruError("this run has no learning rate to be tried")
    panel = RatesPanel(own)

    def attempt(progress: SearchProgress | None) -> tuple[RateTrial, ...]:
        found: list[RateTrial] = []

        def seen(trial: RateTrial) -> None:
            found.append(trial)
            if progress is not None:
                progress(f"{len(found)} learning rates tried")
            screen.post_message(PanelResult(panel, partial(panel.tell, tuple(found), done=False)))

        screen.session.rates(progress=seen)
        screen.post_message(PanelResult(panel, partial(panel.tell, tuple(found), done=True)))
        return tuple(found)

    screen.overlays.cover(panel, of_this_moment=True, then=partial(screen.do, attempt, batches=None))


# Units over time


def units(screen: MainScreen, rest: Arguments) -> None:
    """Show units over the text: `[NAME] [row ROW]`; by default the state of the last layer, with `row` over a row of the batch."""

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
    from tui_gru.analysis.units import over_row

    if row is not None:
        _cover_units(screen, over_row(screen.snapshot.moment, name, row), [])
        return

    def read(progress: Any) -> tuple[Activity, list[Correlated], list[Probe]]:
        activity = screen.session.units(name, progress=progress)
        _ = activity.pairs, activity.plane  # such that no key waits for them
        return activity, activity.goes_with(), activity.probes()

    few = len(screen.snapshot.corpus.text) <= FEW_CHARACTERS
    screen.do(read, batches=1 if few else None, then=lambda found: _cover_units(screen, *found), opens=True)


def _cover_units(screen: MainScreen, activity: Activity, notes: list[Correlated], probes: Sequence[Probe] = ()) -> None:
    from tui_gru.analysis.units import can_be_silent
    from tui_gru.tui.panels.units import UnitsMap

    panel, program = UnitsMap(activity, notes, probes, of=_when(screen)), screen.session.program
    ablated = activity.row is None and screen.session.silent is None and bool(program.loss_names.row)
    panel.ablating = ablated = ablated and can_be_silent(program.model, activity.name)
    work = partial(_ablate, screen, panel, program, screen.snapshot.moment.weights)
    start = partial(screen.run_worker, work, thread=True, group="ablation", exit_on_error=True)
    screen.overlays.cover(panel, of_this_moment=activity.row is None, then=start if ablated else None)


def _ablate(screen: MainScreen, panel: UnitsMap, program: Program, weights: Weights) -> None:
    """Read the start of the text without each unit, in a thread, and tell the panel; end when the panel has been closed.

    Of a large layer, the panel is told an estimate first.
    """
    from tui_gru.analysis import losses
    from tui_gru.analysis.units import StoppedError
    from tui_gru.tui.panel import PanelResult

    activity = panel.activity
    text = activity.text[: losses.ABLATED]

    def tell(loss: float, without: Float64Array, *, exact: bool = True, done: bool = False) -> None:
        def show() -> None:
            panel.tell(loss, without, exact=exact, done=done)
            screen.runner.result = panel.activity, panel.notes, panel.probes

        screen.post_message(PanelResult(panel, show))

    try:
        if activity.units > losses.AT_ONCE:
            tell(0.0, losses.estimate_without_units(program, weights, text, activity.name), exact=False)
        stop = partial(_is_closed, screen, panel)
        tell(*losses.without_each_unit(program, weights, text, activity.name, seen=tell, stop=stop), done=True)
    except StoppedError:
        pass


def _is_closed(screen: MainScreen, panel: SnapshotPanel) -> bool:
    return panel is not screen.overlay


def units_row_asked(screen: MainScreen, event: UnitsMap.RowAsked) -> None:
    show_units(screen, event.name, event.row)


async def units_class_asked(screen: MainScreen) -> None:
    await screen.open_line("class ")


def units_place_asked(screen: MainScreen, event: UnitsMap.PlaceAsked) -> None:
    _go_to_character(screen, event.at)


def class_(screen: MainScreen, rest: Arguments) -> None:
    """Sort the shown units by their correlation with a feature of the text. Raises `TuiGruError` if no units are shown."""
    from tui_gru.tui.panels.units import UnitsMap

    panel = screen.overlay
    if not isinstance(panel, UnitsMap):
        raise TuiGruError(with_keys(screen, "no units are shown; <units> shows them"))

    def show(chosen: Feature) -> None:
        panel.go_with(chosen)
        screen.set_focus(panel)

    # A feature by its name, or of characters, is there at once; an expression reads the text.
    batches = 1 if len(screen.snapshot.corpus.text) <= FEW_CHARACTERS or ("(" not in rest and "[" not in rest) else None
    screen.do(partial(screen.session.feature, str(rest)), batches=batches, then=show, opens=True)


# A unit held at 0 in all panels


def silence(screen: MainScreen, rest: Arguments) -> None:
    """Show the model with a unit at 0: `NAME[unit UNIT]`, by default the one under the cursor; while one is held at 0, the run."""
    from tui_gru.analysis.units import can_be_silent

    session, program = screen.session, screen.session.program
    if not rest and session.silent is not None:
        _end_silence(screen)
        return
    name, unit = _unit_at_cursor(screen)
    if rest:
        usage = example(program, "silence $h[unit 3]")
        reader = Reader(rest.translate(dict.fromkeys(map(ord, "[]"), " ")), usage)
        name = program.code_name(reader.word())
        if reader.word() != "unit":
            raise reader.error("a unit is counted from 1")
        silenced = name in program.names and can_be_silent(program.model, name)
        most = program.config.compiled.shape(program.model.axes[name])[-1] if silenced else LARGEST
        unit = reader.whole("a unit", least=1, most=most) - 1
        reader.end()
    if unit is None:
        words = "put the cursor on a number of a unit first, or on the unit in the map that <units> shows"
        screen.say(with_keys(screen, words), warning=True)
        return
    before = screen.session.loss if session.silent is None else None

    def say(_: object) -> None:
        loss = session.loss
        changed = f": the loss is {loss:.4f}, not {before:.4f}" if loss is not None and before is not None else ""
        held = session.silent.written(program) if session.silent is not None else name
        screen.answer(with_keys(screen, f"{held} is held at 0 in all panels{changed} · <stop> shows the run again"))

    if screen.overlay is not None:
        screen.overlays.lift()
    screen.do(lambda progress: session.silence(name, unit), batches=1, then=say)


def units_silence_asked(screen: MainScreen) -> None:
    silence(screen, NO_ARGUMENTS)


def _end_silence(screen: MainScreen) -> None:
    screen.do(lambda progress: screen.session.silence(), batches=0, then=lambda _: screen.answer("all units, as the run has them"))


def _unit_at_cursor(screen: MainScreen) -> tuple[str, int | None]:
    """Return the value and the unit (0-based) under the cursor: in the map of units, or of a number with a unit."""
    if screen.overlay is not None:
        from tui_gru.tui.panels.units import UnitsMap

        if isinstance(screen.overlay, UnitsMap):
            return screen.overlay.activity.name, screen.overlay.unit
    ref = under_cursor(screen)
    return ("", None) if ref is None or not ref.index else (ref.name, ref.index[-1])


# Influence on a prediction


def influence(screen: MainScreen, rest: Arguments) -> None:
    """Show the influence on the prediction of `[CHARACTER]`, by default of the likeliest one."""

    reader = Reader(rest, "influence, or influence t (a space as ' ')")
    character = reader.character(screen.session.program.spellings.tokens) if reader.left else None
    show_influence(screen, screen.view.row or 0, screen.snapshot.position.t, character)


def show_influence(screen: MainScreen, row: int, t: int, character: str | None = None) -> None:
    """Show what the prediction after timestep `t` in a row of this batch depends on, both 0-based.

    `character` is the predicted character, by default the likeliest one.
    """

    def compute(progress: object) -> tuple[Influence, RowInfluence]:
        return screen.session.influence(row, t, character=character), screen.session.influence_of_rows(row, t)

    screen.do(compute, batches=None, then=lambda found: _cover_influence(screen, *found), opens=True)


def _cover_influence(screen: MainScreen, influence: Influence, rows: RowInfluence) -> None:
    from tui_gru.tui.panels.influence import InfluenceMap

    panel = screen.overlay
    if isinstance(panel, InfluenceMap):
        panel.turn_to(influence, rows)
        panel.read_at = screen.session.anchor()
        return
    panel = InfluenceMap(influence, rows)
    program, row = screen.session.program, screen.session.program.loss_names.row
    # As for `memory`: a model that reads each row forwards, and on its own.
    panel.waiting = bool(influence.text) and bool(row) and not program.config.bidirectional
    work = partial(_remember, screen, panel, program, screen.snapshot.moment.weights, screen.snapshot.corpus.text)
    start = partial(screen.run_worker, work, thread=True, group="memory", exit_on_error=True)
    screen.overlays.cover(panel, of_this_moment=True, then=start if panel.waiting else None)


def _remember(screen: MainScreen, panel: InfluenceMap, program: Program, weights: Weights, text: Text) -> None:
    """Compute how far back the model remembers, in a thread, and tell the panel; end when the panel has been closed."""
    from tui_gru.analysis.influence import memory
    from tui_gru.analysis.units import PROBED
    from tui_gru.tui.panel import PanelResult

    found: ContextMemory | None = None
    with suppress(TuiGruError):  # the panel was closed, or the model has none
        found = memory(program, weights, text[:PROBED], stop=partial(_is_closed, screen, panel))

    def show() -> None:
        panel.tell(found)
        screen.runner.result = panel.influence, panel.rows, found

    screen.post_message(PanelResult(panel, show))


def influence_asked(screen: MainScreen, event: InfluenceMap.Asked) -> None:
    show_influence(screen, event.row, event.t)


# Losses by place


def losses(screen: MainScreen, rest: Arguments) -> None:
    from tui_gru.analysis.losses import baselines

    text, config, when = screen.snapshot.corpus.text, screen.snapshot.config, _when(screen)

    def show(losses: TextLosses) -> None:
        from tui_gru.tui.panels.influence import LossPlaces

        screen.overlays.cover(LossPlaces(losses, baselines(text, config.vocab_size), of=when), of_this_moment=True)

    screen.do(partial(screen.session.losses, text=text), batches=1 if len(text) <= FEW_CHARACTERS else None, then=show, opens=True)


def loss_place_chosen(screen: MainScreen, event: LossPlaces.Chosen) -> None:
    _go_to_character(screen, event.at)


# The story of the run


PLOTTED = "plotted"  # the name under which the expressions of `:plot` are kept with the session


def story(screen: MainScreen, rest: Arguments) -> None:
    """Show the story of the run, or close it if it is shown up to the newest batch."""
    from tui_gru.tui.panels.story import StoryPanel

    panel, newest = screen.overlay, screen.snapshot.newest
    if isinstance(panel, StoryPanel) and panel.told_at == newest:
        screen.overlays.lift()
    else:
        _tell(screen, list(screen.session.kept(PLOTTED, [])))


def plot(screen: MainScreen, rest: Arguments) -> None:
    """Add a chart of an expression to the story, or remove it if it is there."""
    plotted = list(screen.session.kept(PLOTTED, []))
    expression = str(rest)
    _tell(screen, [each for each in plotted if each != expression] if expression in plotted else [*plotted, expression])


def _tell(screen: MainScreen, expressions: Sequence[str]) -> None:
    """Cover the blackboard with what is known of the story at once, and compute the rest in a thread."""
    from tui_gru.tui.panel import PanelResult
    from tui_gru.tui.panels.story import PlottedExpression, StoryPanel

    session, snapshot, overlay = screen.session, screen.snapshot, screen.overlay
    for expression in expressions:
        compile_expression(expression, session.program.spellings).check(session.program.shapes)
    panel = overlay if isinstance(overlay, StoryPanel) else StoryPanel(at=snapshot.position.number)
    panel.told_at = snapshot.newest
    marks = [mark.tick for mark in snapshot.state.marks.sorted if mark.branch == snapshot.state.branch]

    def tell(progress: SearchProgress | None) -> ToldStory:
        plotted: tuple[PlottedExpression, ...] = ()

        def seen(story: Story) -> None:
            if progress is not None:
                progress(f"{len(story.moments)} of {story.wanted} moments")
            screen.post_message(PanelResult(panel, partial(panel.tell, story, plotted)))

        also = [position_of(session.program, tick).number for tick in marks]
        told = session.story(also=also, progress=seen)
        found = session.found or (session.findings(progress=progress) if told.count else ())
        session.gone(progress=progress)
        also += [min(each.first_seen.number, told.count - 1) for each in found if each.first_seen is not None]
        told = session.story(also=also)
        for expression in expressions:
            batches, values = session.history(expression, at=told.batches.tolist())
            plotted = (*plotted, PlottedExpression(expression, batches, values))
            seen(told)
        session.keep(PLOTTED, list(expressions), begin=False)
        seen(told)
        return ToldStory(told, {each.expression: each.values for each in plotted})

    start = partial(screen.do, tell, batches=None)
    if panel is overlay:
        start()
    else:
        screen.overlays.cover(panel, of_this_moment=True, then=start)


def story_chosen(screen: MainScreen, event: StoryPanel.Chosen) -> None:
    go_to(screen, screen.session.state.timeline.end_of(event.batch))


# Summaries of all arrays


def arrays(screen: MainScreen, rest: Arguments) -> None:
    from tui_gru.tui.panels.lists import ArrayList

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
    screen.set_view(replace(screen.view, row=row))
    go_to(screen, (here.epoch * program.num_batches + batch) * program.ticks + program.end_of_timestep(t))


# ------------------------------------------------------------------------------
# Verbs that check batches against PyTorch: one batch in the background, or every batch while training.


LOADING = 1.0  # seconds, approximately: the time to load PyTorch for the first checked batch


def checking(screen: MainScreen) -> bool:
    """True while a panel still waits for what a thread computes: a check, the loss without each unit."""
    from tui_gru.tui.panel import SnapshotPanel

    return any(getattr(overlay, "waiting", False) for overlay in screen.query(SnapshotPanel))


def check(screen: MainScreen, rest: Arguments) -> None:
    """Check this batch; with `every`, `every on` or `every off`, toggle or set the check of every batch while training."""
    choices = {"every": not screen.session.check_every_batch, "every on": True, "every off": False}
    words = " ".join(rest.split())
    if not words:
        _check_batch(screen)
    elif words in choices:
        check_every(screen, choices[words])
    else:
        raise TuiGruError(f"check takes no argument, or every on, or every off; not {str(rest)!r}")


def _check_batch(screen: MainScreen) -> None:
    """Check this batch in a thread. The report is discarded if its panel has been closed by then."""
    from tui_gru.tui.panels.check import CheckReport

    if screen.running:
        return
    check = screen.session.batch_check()
    panel = CheckReport(check.position)
    work = partial(_carry_out, screen, panel, check)
    start = partial(screen.run_worker, work, thread=True, group="check", exit_on_error=True)
    screen.overlays.cover(panel, of_this_moment=True, then=start)


def _carry_out(screen: MainScreen, panel: CheckReport, check: Check) -> None:
    from tui_gru.torch_loading import load_torch
    from tui_gru.tui.panel import PanelResult
    from tui_gru.tui.session_screen import problem_of

    try:
        load_torch()
        screen.post_message(PanelResult(panel, partial(panel.is_doing, "comparing with autograd, and with finite differences")))
        show = partial(panel.show_report, check.run())
    except Exception as error:
        show = partial(panel.show_problem, problem_of(error, "a check"))
    screen.post_message(PanelResult(panel, show))


def panel_result(screen: MainScreen, event: PanelResult) -> None:
    """Show what a thread has computed for a panel, unless the panel has been closed."""
    if event.panel is screen.overlay:
        event.show()


def entry_chosen(screen: MainScreen, event: CheckReport.EntryChosen) -> None:
    """Show where the number of the row comes from, if it belongs to the batch that is shown."""
    from tui_gru.tui.panels.check import CheckReport

    panel = screen.overlay
    report = panel.report if isinstance(panel, CheckReport) else None
    if report is None or report.position.number != screen.snapshot.position.number:
        screen.say("this report is about another batch; go to that batch to see where its numbers come from", warning=True)
    else:
        ask_about(screen, event.name, event.index, event.t)


def every_batch_asked(screen: MainScreen) -> None:
    check_every(screen, not screen.session.check_every_batch)


def check_every(screen: MainScreen, value: bool) -> None:
    """Turn the check of every batch while training on or off."""
    slow = "every batch is checked from now on; training takes ten to twenty times as long"
    words = slow if value else "batches are no longer checked"
    set_value = partial(setattr, screen.session, "check_every_batch", value)
    screen.do(lambda progress: set_value(), batches=0, then=lambda _: screen.say(words))
    if value and "torch" not in sys.modules:
        screen.runner.expect(LOADING)  # otherwise the screen would wait for the next step


# ------------------------------------------------------------------------------
# Verbs that show where a number comes from, and what would change if it were another.


def why(screen: MainScreen, rest: Arguments) -> None:
    """Show where a number comes from: `NAME[INDEX] [t TIMESTEP]`; by default the result of the current line."""
    if not rest:
        _explain_line(screen)
        return

    program = screen.session.program
    reader = Reader(rest, example(program, "$h[1,0], $W[3,0], loss, or $z[0,1] t 2 for another timestep"))
    name, index = reader.entry(program)
    screen.derivations.ask(ValueRef(name, index, reader.timestep(program.seq_length), screen.snapshot.position.tick))


def number_asked(screen: MainScreen, event: NumberAsked) -> None:
    ask_about(screen, event.ref.name, event.ref.index, event.ref.t, before=event.ref.before)


def ask_about(screen: MainScreen, name: str, index: tuple[int, ...], t: int | None, *, before: bool = False) -> None:
    """Show where a number of this moment comes from; with `before`, of the moment before the line just executed."""
    screen.derivations.ask(ValueRef(name, index, t, screen.snapshot.position.tick - before))


def explain(screen: MainScreen) -> None:
    """Show where the number under the cursor comes from; without a cursor, the result of the current line."""
    focused = screen.focused
    if focused is None:
        _explain_line(screen)
        return
    from tui_gru.tui.matrix import MatrixView
    from tui_gru.tui.panel import CellPanel
    from tui_gru.tui.panels.line import CurrentLine
    from tui_gru.tui.panels.listing import Listing
    from tui_gru.tui.panels.time import LossCurve

    focused = screen.focused
    if isinstance(focused, MatrixView) or (isinstance(focused, CellPanel) and focused.spot is not None):
        focused.choose()
    elif isinstance(focused, LossCurve):
        _explain_loss(screen, focused.pointed)
    elif isinstance(focused, (Listing, CurrentLine)):
        _explain_line(screen)
    else:
        screen.say(with_keys(screen, "there is no number to ask about here; <panel.next> goes to the next panel"), warning=True)


def _explain_loss(screen: MainScreen, batch: int | None) -> None:
    """Show where a loss comes from.

    `batch` is the batch under the pointer, counted from 0 over the run. If it is None, the loss is that of the current batch, or
    of the previous one if the current batch has none yet.
    """
    position, ticks = screen.snapshot.position, screen.snapshot.program.ticks
    tick = position.tick if screen.snapshot.value("loss") is not None else position.number * ticks
    if batch is not None and batch != position.number:
        tick = batch * ticks + screen.snapshot.program.loss_tick
    if tick:
        screen.derivations.ask(ValueRef("loss", (), None, tick))
    else:
        screen.say(with_keys(screen, "no loss has been computed yet; <step.batch> runs a batch"), warning=True)


def _explain_line(screen: MainScreen) -> None:
    """Show where the result of the line just executed comes from, in the selected row; before the first line, start the tour."""
    line = screen.snapshot.line
    config = screen.snapshot.config
    if screen.snapshot.position.tick == 0 and config.source.can(Ability.TRAIN) and refused(config) is None:
        screen.tour.begin()
        return
    if line is None or line.formula is None:
        words = "no value has been computed yet: step first, then <explain> shows where a number comes from"
        screen.say(with_keys(screen, words), warning=True)
        return
    row = screen.view.row or 0
    index = tuple(row if axis == "row" else 0 for axis in screen.session.program.names[line.target].counted)
    ask_about(screen, line.target, index, None)
    if not screen.running and (words := _paths_of(screen.snapshot, line.target)):
        screen.say(words)


def _paths_of(snapshot: Snapshot, target: str) -> str:
    """Return the shares of the paths of a gradient that is passed back to another timestep; empty for another value."""
    from tui_gru.analysis.influence import flow_names, paths_of

    program, t = snapshot.program, snapshot.timestep
    if not snapshot.flowing:
        return ""
    state = next((each for each in program.model.page.states if flow_names(program, each).handed_on == target), None)
    flow = None if state is None or t is None else snapshot.flow(state=state)[t]
    shares = None if flow is None else flow.shares
    if state is None or shares is None or len(shares) < 2:
        return ""
    paths = zip(paths_of(program, state), shares, strict=True)
    return f"of the gradient passed back: {', '.join(f'{word} {share:.0%}'.replace('%', ' %') for (_, word), share in paths)}"


# What-if


def what_if(screen: MainScreen, rest: Arguments) -> None:
    """Suppose another value: `NAME[INDEX] VALUE [t TIMESTEP]`."""

    program, session = screen.session.program, screen.session
    reader = Reader(rest, example(program, "$z[0,1] 0.5, $W[3,0] -1, or $h[1,0] 0 t 2 for another timestep"))
    name, index = reader.entry(program)
    reader.take("=")
    value = reader.number(name)
    t = reader.timestep(program.seq_length)

    def show(what_if: WhatIf) -> None:
        from tui_gru.tui.panels.derivation import WhatIfPanel

        screen.overlays.cover(WhatIfPanel(what_if), of_this_moment=True)

    screen.do(lambda progress: session.what_if(program.code_name(name), index, value, t), then=show, opens=True)


def what_if_nudged(screen: MainScreen, event: WhatIfPanel.Nudged) -> None:
    """Suppose a value a number of steps away; the number is the count typed before the key."""
    from tui_gru.tui.panels.derivation import WhatIfPanel

    panel, what_if, steps = screen.overlay, event.what_if, event.direction * screen.pending.take_count()
    if not isinstance(panel, WhatIfPanel):
        return
    if screen.snapshot.position.number != what_if.now.position.number:
        screen.say("this what-if belongs to another batch; ask again in the current one", warning=True)
        return

    def suppose(progress: object) -> WhatIf:
        return screen.session.what_if(what_if.name, what_if.index, what_if.nudged(steps), what_if.t)

    screen.do(suppose, then=panel.turn_to, opens=True)


def what_if_kept(screen: MainScreen, event: WhatIfPanel.Kept) -> None:
    """Go to where the number was computed, and change it there. In the past, this starts a branch."""
    from tui_gru.engine.numbers import given

    what_if, before = event.what_if, screen.snapshot

    def say(_: object) -> None:
        named = spoken(screen.snapshot.program, what_if.name, what_if.index)
        where = answers.moved(before, screen.snapshot) + answers.branched(before, screen.snapshot)
        screen.answer(f"{named} is {given(what_if.value + 0)} from here on{where}")

    screen.overlays.lift()
    screen.do(lambda progress: screen.session.adopt(what_if), batches=screen.session.batches_to(), then=say)


async def suppose(screen: MainScreen) -> None:
    """Open the `:` line with the command that replaces the number under the cursor."""
    ref = under_cursor(screen)
    if ref is None:
        words = "put the cursor on a number first: <panel.next> goes from panel to panel, the arrows to a number"
        screen.say(with_keys(screen, words), warning=True)
        return
    snapshot = screen.snapshot
    given = snapshot.program.model.page.inputs.get(ref.name)
    if given is not None and given.one_hot:
        if snapshot.config.source.can(Ability.TEXT):
            await screen.open_line(*_character(screen, ref))
        else:
            screen.say("tokens are input and cannot be changed; change the row of the embedding table instead", warning=True)
        return
    value = snapshot.value(ref.name, ref.t)
    if value is None:
        screen.say(f"{ref.name} has not been computed yet; step to the line that computes it", warning=True)
        return
    t = "" if ref.t is None or ref.t == snapshot.position.t else f" t {ref.t + 1}"
    number = value[ref.index] if ref.index else value
    await screen.open_line(f"what-if {typed_entry(snapshot.program, ref.name, ref.index)} ", str(number), t)


def _character(screen: MainScreen, ref: Ref) -> tuple[str, str]:
    """Return the command that changes a character of the text, and the present character."""
    snapshot = screen.snapshot
    assert isinstance(snapshot.corpus, Corpus)  # only a text has characters
    t = snapshot.position.t if ref.t is None else ref.t
    place = snapshot.corpus.position_in_text(snapshot.position.batch, t, ref.index[0]) + (ref.name == snapshot.program.target)
    return f"set text[{place}] ", quoted(snapshot.corpus.text[place])


def under_cursor(screen: MainScreen) -> Ref | None:
    """Return the number of this moment under the cursor, None if there is none."""
    from tui_gru.tui.matrix import MatrixView
    from tui_gru.tui.panel import CellPanel
    from tui_gru.tui.panels.derivation import DerivationPanel

    focused = screen.focused
    if isinstance(focused, DerivationPanel):
        number = focused.number
        return None if number is None else _of_this_batch(screen, number)
    if isinstance(focused, MatrixView):
        return None if focused.refs is None else focused.refs(*focused.cursor)
    if isinstance(focused, CellPanel):
        return None if focused.spot is None else focused.spot.ref
    return None


def _of_this_batch(screen: MainScreen, number: ValueRef) -> Ref | None:
    """Return the reference to a number of a derivation, None if it belongs to another batch than the shown one."""
    from tui_gru.tui.draw import Ref

    same = (number.tick - 1) // screen.snapshot.program.ticks == screen.snapshot.position.number
    return Ref(number.name, number.index, number.t) if same else None
