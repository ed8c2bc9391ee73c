"""Verbs that analyse a run: what it shows, what units do, where its loss comes from, whether its batches agree with PyTorch."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru import analysis
from tui_gru.arguments import LARGEST
from tui_gru.debugger.expressions import TimedExpression
from tui_gru.debugger.position import Reader, in_words, position_of, shortened_input
from tui_gru.engine.data import Corpus
from tui_gru.engine.numbers import counted, decimals, significant
from tui_gru.engine.source import Ability, Imported, Source
from tui_gru.errors import TuiGruError
from tui_gru.session import answers
from tui_gru.session.answers import ToldStory
from tui_gru.torch_loading import is_installed, require_torch
from tui_gru.tui import panels
from tui_gru.tui.keys import Arguments, example, execute, with_keys
from tui_gru.tui.looking import ask_about, end_silence, under_cursor
from tui_gru.tui.moving import go_to

if TYPE_CHECKING:
    from tui_gru.analysis.check import Check
    from tui_gru.analysis.examined import Evidence, Finding
    from tui_gru.analysis.influence import ContextMemory, Influence, RowInfluence
    from tui_gru.analysis.learning import LearningMap
    from tui_gru.analysis.losses import TextLosses
    from tui_gru.analysis.story import Story
    from tui_gru.analysis.timesteps import TimestepPlace
    from tui_gru.analysis.trials import Cure, RateTrial, TriedOption
    from tui_gru.analysis.units import Activity, Correlated, Feature, Probe
    from tui_gru.debugger.program import Program
    from tui_gru.engine.config import Text
    from tui_gru.engine.weights import Float64Array, Weights
    from tui_gru.session.travel import SearchProgress
    from tui_gru.tui.panel import SnapshotPanel
    from tui_gru.tui.panels.check import CheckReport
    from tui_gru.tui.panels.influence import InfluenceMap
    from tui_gru.tui.panels.units import UnitsMap
    from tui_gru.tui.screen import MainScreen

# ------------------------------------------------------------------------------
# Verbs that analyse a run: findings, units over the text, influence, losses by place, summaries of all arrays.


FEW_CHARACTERS = 1000  # up to this length, a text is read in the UI thread


def findings(screen: MainScreen, rest: Arguments) -> None:
    """List what is wrong with the run up to the current position."""

    def show(problems: Sequence[Finding]) -> None:
        panel = panels.lists.FindingsList(problems, rates=screen.session.tried_rates)
        panel.waiting = screen.snapshot.config.source.can(Ability.TRAIN)

        def look_back(progress: SearchProgress | None) -> Sequence[Finding]:
            try:
                screen.session.gone(progress=progress)
            except TuiGruError:
                screen.show_on(panel, partial(panel.show_gone, ()))
                raise
            return problems

        def tell(_: object) -> None:
            panel.show_gone(getattr(screen.session.found, "gone", ()))

        then = partial(screen.do, look_back, batches=None, then=tell)
        screen.overlays.cover(panel, then=then if panel.waiting else None)

    screen.do(screen.session.findings, batches=None, then=show, opens=True)


def diagnose(screen: MainScreen, rest: Arguments) -> None:
    """List the causes of what is wrong with the run, sorted by proof, after trials on copies; the cursor stays at its finding."""
    at = screen.overlay.chosen if isinstance(screen.overlay, panels.lists.FindingsList) else ""

    def show(causes: Sequence[Finding]) -> None:
        screen.overlays.cover(panels.lists.FindingsList(causes, at=at, rates=screen.session.tried_rates))

    screen.do(screen.session.diagnose, batches=None, then=show, opens=True)


def facts(screen: MainScreen, rest: Arguments) -> None:
    """Show what was measured of the training: all parts in short, or the one that is typed. Raises `TuiGruError` for another."""
    tables = partial(screen.session.facts, str(rest))
    screen.do(tables, batches=0, then=lambda parts: screen.overlays.cover(panels.lists.FactList(parts)), opens=True)


def finding_chosen(screen: MainScreen, finding: Finding, evidence: Evidence | None) -> None:
    """Show where the number that is evidence comes from, otherwise go to the place in the run that shows the finding."""
    if evidence is not None and evidence.number is not None:
        screen.derivations.ask(evidence.number)
    elif finding.tick is not None:
        go_to(screen, finding.tick)
    else:
        screen.say("this finding is about the whole run, not about one place")


# Cures and learning rates, tried on copies


def cures_asked(screen: MainScreen, finding: Finding) -> None:
    """Try the cures of a finding in a thread, and list each in its panel as it is known."""
    panel = screen.overlay
    if not isinstance(panel, panels.lists.FindingsList):
        return
    if not finding.cures:
        screen.say(f"this finding has no option to try; its cure: {finding.cure}", warning=True)
        return

    def attempt(progress: SearchProgress | None) -> None:
        def report(trials: tuple[TriedOption, ...]) -> None:
            if progress is not None:
                progress(f"trying cures: {len(trials) - 1} of {len(finding.cures)}")
            screen.show_on(panel, partial(panel.show_trials, finding, trials))

        screen.session.tried_options(finding, progress=report)

    screen.do(attempt, batches=None)


def _none_tried(finding: Finding) -> str:
    """Say why a finding has no cure that was tried."""
    return f"no cure of this finding {'has been tried yet; t tries them' if finding.cures else 'can be tried'}"


def cure_copied(screen: MainScreen, finding: Finding, cure: Cure | None) -> None:
    """Copy the command that starts a run with a cure that was tried, or the changed line of the user's cell, and say it."""
    if cure is None:
        screen.say(_none_tried(finding), warning=True)
        return
    if cure.name == analysis.trials.UNDO:
        screen.say("no command takes a change back in a new run; enter or b does, on a branch", warning=True)
        return
    if cure.name == "cell_text":
        command = analysis.trials.changed_line(screen.session.config, cure)
    else:
        command = finding.cure if cure.name == "sampler" else analysis.trials.command_line(screen.session.config, cure.typed)
    screen.app.copy_to_clipboard(command)
    screen.say(f"copied: {command}")


def cure_kept(screen: MainScreen, finding: Finding, cure: Cure | None) -> None:
    """Run the batches so far again with a cure, or without some changes, on a branch, or sample with it; what only a new run can
    have is refused."""
    from tui_gru.analysis.trials import UNDO, put_back
    from tui_gru.debugger.edits import JournalEntry

    before = screen.snapshot
    if cure is None:
        screen.say(_none_tried(finding), warning=True)
        return
    if cure.name == "sampler":
        execute(screen, finding.cure)
        return
    setting = {"clip": "limit"}.get(cure.name, cure.name)
    if setting not in before.settings.rule and cure.name != UNDO:
        copied = "the changed line" if cure.name == "cell_text" else "its command"
        screen.say(f"{cure.typed} needs a new run, which no branch can be; y copies {copied}", warning=True)
        return
    timeline = screen.session.state.timeline
    count = timeline.completed(before.position)

    def run(progress: SearchProgress | None) -> None:
        session = screen.session
        session.seek(cure.value if cure.name == UNDO else timeline.end_of(finding.since - 1) if finding.since else 0)
        for entry in put_back(timeline, cure.value) if cure.name == UNDO else [JournalEntry("edit", setting, (), cure.value)]:
            if entry.kind == "edit":
                session.edit(entry.name, entry.index, entry.value)
        session.learning = True
        session.step("batch", count - timeline.completed(session.position), progress=progress)

    def say(_: object) -> None:
        now, was = (snapshot.losses[-1] if len(snapshot.losses) else math.nan for snapshot in (screen.snapshot, before))
        branch = answers.branched(before, screen.snapshot)
        screen.answer(f"with {cure.typed} the last loss is {decimals(now, 4)} instead of {decimals(was, 4)}{branch}")

    screen.overlays.lift()
    screen.do(run, batches=count, then=say)


def show_rates(screen: MainScreen, rest: Arguments) -> None:
    """Try learning rates on copies from here on, and show each as it is known."""
    live = screen.session.live
    current = screen.snapshot.settings.rule.get("learning_rate") if live is None else live.rate
    if current is None or (live is None and not screen.snapshot.config.source.can(Ability.TRAIN)):
        raise TuiGruError("this run has no learning rate to be tried")
    panel = panels.story.RatesPanel(current, live=live is not None)

    def attempt(progress: SearchProgress | None) -> tuple[RateTrial, ...]:
        trials: list[RateTrial] = []

        def report(trial: RateTrial) -> None:
            trials.append(trial)
            if progress is not None:
                progress(f"{len(trials)} learning rates tried")
            screen.show_on(panel, partial(panel.tell, tuple(trials), done=False))

        screen.session.rates(progress=report)
        screen.show_on(panel, partial(panel.tell, tuple(trials), done=True))
        return tuple(trials)

    screen.overlays.cover(panel, of_this_moment=True, then=partial(screen.do, attempt, batches=None))


# Units over time


def units(screen: MainScreen, rest: Arguments) -> None:
    """Show units over the text: `[NAME] [row ROW]`; by default the state of the last layer, with `row` over a row of the batch."""

    program = screen.session.program
    reader = Reader(rest, example(program, "units, units $z, or units $z row 1"))
    if rest in analysis.units.FEATURES or "(" in rest:
        _sorted_units(screen, rest)
        return
    name = program.main_state if not reader.left or reader.next_word == "row" else program.code_name(reader.word())
    row = None
    if reader.left:
        if reader.word() != "row":
            raise reader.error(f"units takes a name and a row, not {shortened_input(rest)}")
        row = reader.integer("a row", least=1, most=program.config.batch_size) - 1
        reader.end()
    show_units(screen, name, row)


def _sorted_units(screen: MainScreen, rest: Arguments) -> None:
    """Sort the shown units by a feature of the text, those of the last state if none are shown."""
    if isinstance(screen.overlay, panels.units.UnitsMap):
        class_(screen, rest)
        return
    session = screen.session
    session.feature(str(rest))  # before the units are shown, since it may be refused
    show_units(screen, session.program.main_state, then=lambda: class_(screen, rest))


def show_units(screen: MainScreen, name: str, row: int | None = None, *, then: Callable[[], object] | None = None) -> None:
    """Show a value over the whole text, or over a row of the batch, 0-based; then call `then`. Raises `TuiGruError` if it has no
    units."""
    if row is not None:
        _cover_units(screen, analysis.units.over_row(screen.snapshot.moment, name, row), [])
        return

    def read(progress: Any) -> tuple[Activity, list[Correlated], list[Probe]]:
        activity = screen.session.units(name, progress=progress)
        _ = activity.pairs, activity.plane  # such that no key waits for them
        return activity, activity.goes_with(), activity.probes()

    def show(read_units: tuple[Activity, list[Correlated], list[Probe]]) -> None:
        _cover_units(screen, *read_units)
        if then is not None:
            screen.call_after_refresh(then)

    screen.do(read, batches=1 if _is_read_at_once(screen) else None, then=show, opens=True)


def _is_read_at_once(screen: MainScreen) -> bool:
    """Return True if what there is to read is so little that no progress is shown."""
    source = screen.snapshot.config.source
    return len(screen.snapshot.corpus.text) <= FEW_CHARACTERS if source.can(Ability.TEXT) else not isinstance(source, Imported)


def _cover_units(screen: MainScreen, activity: Activity, notes: list[Correlated], probes: Sequence[Probe] = ()) -> None:
    panel, program = panels.units.UnitsMap(activity, notes, probes, of=_when(screen)), screen.session.program
    ablated = bool(activity.text) and activity.row is None and screen.session.silent is None and bool(program.loss_names.row)
    panel.ablating = ablated = ablated and analysis.units.can_be_silent(program.model, activity.name)
    work = partial(_ablate, screen, panel, program, screen.snapshot.moment.weights)
    start = partial(screen.run_worker, work, thread=True, group="ablation", exit_on_error=True)
    screen.overlays.cover(panel, of_this_moment=activity.row is None, then=start if ablated else None)


def _ablate(screen: MainScreen, panel: UnitsMap, program: Program, weights: Weights) -> None:
    """Read the start of the text without each unit, in a thread, and tell the panel; end when the panel has been closed.

    Of a large layer, the panel is told an estimate first.
    """
    activity = panel.activity
    text = activity.text[: analysis.losses.ABLATED]

    def tell(loss: float, without: Float64Array, *, exact: bool = True, done: bool = False) -> None:
        def show() -> None:
            panel.tell(loss, without, exact=exact, done=done)
            screen.runner.result = panel.activity, panel.notes, panel.probes

        screen.show_on(panel, show)

    try:
        if activity.units > analysis.losses.AT_ONCE:
            tell(0.0, analysis.losses.estimate_without_units(program, weights, text, activity.name), exact=False)
        stop = partial(_is_closed, screen, panel)
        tell(*analysis.losses.without_each_unit(program, weights, text, activity.name, progress=tell, stop=stop), done=True)
    except analysis.units.StoppedError:
        pass


def _is_closed(screen: MainScreen, panel: SnapshotPanel) -> bool:
    return panel is not screen.overlay


def class_(screen: MainScreen, rest: Arguments) -> None:
    """Sort the shown units by their correlation with a feature of the text. Raises `TuiGruError` if no units are shown."""
    panel = screen.overlay
    if not isinstance(panel, panels.units.UnitsMap):
        raise TuiGruError(with_keys(screen, "no units are shown; <units> shows them"))

    def show(chosen: Feature) -> None:
        panel.go_with(chosen)
        screen.set_focus(panel)

    # A feature by its name, or of characters, is there at once; an expression reads the text.
    batches = 1 if _is_read_at_once(screen) or ("(" not in rest and "[" not in rest) else None
    screen.do(partial(screen.session.feature, str(rest)), batches=batches, then=show, opens=True)


# A unit held at 0 in all panels


def silence(screen: MainScreen, rest: Arguments) -> None:
    """Show the model with a unit at 0: `NAME[unit UNIT]`, by default the one under the cursor; while one is held at 0, the run."""
    session, program = screen.session, screen.session.program
    if not rest and session.silent is not None:
        end_silence(screen)
        return
    name, unit = _unit_at_cursor(screen)
    if rest:
        typed = rest.translate(dict.fromkeys(map(ord, "[]"), " "))
        value, *others = typed.split() or [program.main_state]
        reader = Reader(typed, f"silence {value}[unit {next(filter(str.isdecimal, others), '1')}]")
        name = program.code_name(reader.word())
        if reader.word() != "unit":
            raise reader.error("a unit is counted from 1")
        silenced = name in program.names and analysis.units.can_be_silent(program.model, name)
        most = program.config.compiled.shape(program.model.axes[name])[-1] if silenced else LARGEST
        unit = reader.integer("a unit", least=1, most=most) - 1
        reader.end()
    if unit is None:
        words = "put the cursor on a number of a unit first, or on the unit in the map that <units> shows"
        screen.say(with_keys(screen, words), warning=True)
        return
    before = screen.session.loss if session.silent is None else None

    def say(_: object) -> None:
        loss = session.loss
        changed = f": the loss is {decimals(loss, 4)}, not {decimals(before, 4)}" if loss is not None and before is not None else ""
        silenced_unit = session.silent.written(program) if session.silent is not None else name
        screen.answer(with_keys(screen, f"{silenced_unit} is held at 0 in all panels{changed} · <stop> shows the run again"))

    if screen.overlay is not None:
        screen.overlays.lift()
    screen.do(lambda progress: session.silence(name, unit), batches=1, then=say)


def _unit_at_cursor(screen: MainScreen) -> tuple[str, int | None]:
    """Return the value and the unit (0-based) under the cursor: in the map of units, or of a number with a unit."""
    if screen.overlay is not None and isinstance(screen.overlay, panels.units.UnitsMap):  # which is not loaded without it
        return screen.overlay.activity.name, screen.overlay.unit
    ref = under_cursor(screen)
    return ("", None) if ref is None or not ref.index else (ref.name, ref.index[-1])


# Influence on a prediction


def open_influence(screen: MainScreen, rest: Arguments) -> None:
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

    screen.do(compute, batches=None, then=lambda influences: _cover_influence(screen, *influences), opens=True)


def _cover_influence(screen: MainScreen, influence: Influence, rows: RowInfluence) -> None:
    panel = screen.overlay
    if isinstance(panel, panels.influence.InfluenceMap):
        panel.turn_to(influence, rows)
        panel.read_at = screen.session.anchor()
        return
    panel = panels.influence.InfluenceMap(influence, rows)
    program, row = screen.session.program, screen.session.program.loss_names.row
    # As for `memory`: a model that reads each row forwards, and on its own.
    panel.waiting = bool(influence.text) and bool(row) and not program.config.bidirectional
    work = partial(_remember, screen, panel, program, screen.snapshot.moment.weights, screen.snapshot.corpus.text)
    start = partial(screen.run_worker, work, thread=True, group="memory", exit_on_error=True)
    screen.overlays.cover(panel, of_this_moment=True, then=start if panel.waiting else None)


def _remember(screen: MainScreen, panel: InfluenceMap, program: Program, weights: Weights, text: Text) -> None:
    """Compute how far back the model remembers, in a thread, and tell the panel; end when the panel has been closed."""
    memory: ContextMemory | None = None
    with suppress(TuiGruError):  # the panel was closed, or the model has none
        memory = analysis.influence.memory(program, weights, text[: analysis.units.PROBED], stop=partial(_is_closed, screen, panel))

    def show() -> None:
        panel.tell(memory)
        screen.runner.result = panel.influence, panel.rows, memory

    screen.show_on(panel, show)


# Losses by place


def losses(screen: MainScreen, rest: Arguments) -> None:
    """Show the loss of each character; of a run that reads numbers, the rows with the largest gradients."""
    source = screen.snapshot.config.source
    if not source.can(Ability.TEXT):
        find = screen.session.largest_gradients
        screen.do(lambda progress: find(_ROWS_LISTED), then=partial(_say_rows, screen), opens=True)
        return
    text, config, when = screen.snapshot.corpus.text, screen.snapshot.config, _when(screen)

    def show(losses: TextLosses) -> None:
        screen.overlays.cover(
            panels.influence.LossPlaces(losses, analysis.losses.baselines(text, config.vocab_size), of=when), of_this_moment=True
        )

    screen.do(partial(screen.session.losses, text=text), batches=1 if len(text) <= FEW_CHARACTERS else None, then=show, opens=True)


_ROWS_LISTED = 3


def _say_rows(screen: MainScreen, rows: Sequence[tuple[TimestepPlace, float]]) -> None:
    source = screen.snapshot.config.source
    course = _course_of_losses(source)
    if not rows[0][1]:
        screen.say(f"{course}no loss reaches the output of any row: its gradient is exactly 0; facts criterion shows what it reads")
        return
    named = (
        f"{source.step(at.batch) or f'batch {at.batch + 1:,}'} row {at.row + 1}: {significant(norm, 3)}, most at t {at.t + 1}"
        for at, norm in rows
    )
    screen.say(f"{course}the head and the loss give the largest gradients to {'; '.join(named)}")


def _course_of_losses(source: Source) -> str:
    """Return the first, the lowest and the last loss of the steps of a recording in words; empty for others."""
    from tui_gru.imported.captured import RecordedBatches

    if not isinstance(source, Imported) or not isinstance(source.batches, RecordedBatches):
        return ""
    course = source.batches.recording.losses
    steps = np.flatnonzero(np.isfinite(np.ma.filled(course, np.nan)))
    if not len(steps):
        return ""
    lowest = steps[int(np.argmin(course[steps]))]
    places = (("first", steps[0]), ("lowest", lowest), ("last", steps[-1]))
    words = ", ".join(f"{word} {significant(course[step], 4)} in step {step:,}" for word, step in places)
    return f"loss of {counted(len(steps), 'step')}: {words} · "


# The story of the run


_MOMENTS = 120  # of the story on each scale: about one for each column
PLOTTED = "plotted"  # the name under which the expressions of `:plot` are kept with the session


def story(screen: MainScreen, rest: Arguments) -> None:
    """Show the story of the run, or close it if it is shown up to the newest batch; with an expression, add or remove its chart."""
    if rest:
        plot_expression(screen, rest)
        return
    panel, newest = screen.overlay, screen.snapshot.newest
    if isinstance(panel, panels.story.StoryPanel) and panel.told_at == newest:
        screen.overlays.lift()
    else:
        _tell(screen, list(screen.session.kept(PLOTTED, [])))


def learned(screen: MainScreen, rest: Arguments) -> None:
    """Show what was learned when."""

    def show(told: LearningMap) -> None:
        screen.overlays.cover(panels.learning.LearningPanel(told))

    screen.do(screen.session.learned, batches=None, then=show, opens=True)


def plot_expression(screen: MainScreen, rest: Arguments) -> None:
    """Add a chart of an expression to the story, or remove it if it is there."""
    plotted = list(screen.session.kept(PLOTTED, []))
    expression = str(rest)
    _tell(screen, [shown for shown in plotted if shown != expression] if expression in plotted else [*plotted, expression])


def _tell(screen: MainScreen, expressions: Sequence[str]) -> None:
    """Cover the blackboard with what is known of the story at once, and compute the rest in a thread."""
    session, snapshot, overlay = screen.session, screen.snapshot, screen.overlay
    for expression in expressions:
        TimedExpression(expression, session.program.spellings)  # refused before anything is shown
    panel = overlay if isinstance(overlay, panels.story.StoryPanel) else panels.story.StoryPanel(at=snapshot.position.number)
    panel.told_at = snapshot.newest
    marks = [mark.tick for mark in snapshot.state.marks.sorted if mark.branch == snapshot.state.branch]

    def tell(progress: SearchProgress | None) -> ToldStory:
        plotted: tuple[panels.story.PlottedExpression, ...] = ()

        def report(story: Story) -> None:
            if progress is not None:
                progress(f"{len(story.moments)} of {story.planned} moments")
            screen.show_on(panel, partial(panel.tell, story, plotted))

        also = [position_of(session.program, tick).number for tick in marks]
        final = session.story(_MOMENTS, also=also, progress=report)
        problems = session.found or (session.findings(progress=progress) if final.count else ())
        session.gone(progress=progress)
        also += [min(finding.first_seen.number, final.count - 1) for finding in problems if finding.first_seen is not None]
        final = session.story(_MOMENTS, also=also)
        for expression in expressions:
            batches, values = session.history(expression, at=final.batches.tolist(), masked=True)
            plotted = (*plotted, panels.story.PlottedExpression(expression, batches, values))
            report(final)
        session.keep(PLOTTED, list(expressions), begin=False)
        report(final)
        return ToldStory(final, {curve.expression: curve.values for curve in plotted})

    start = partial(screen.do, tell, batches=None)
    if panel is overlay:
        start()
    else:
        screen.overlays.cover(panel, of_this_moment=True, then=start)


def go_to_batch(screen: MainScreen, batch: int) -> None:
    """Go to the end of a batch, counted through all epochs, 0-based."""
    go_to(screen, screen.session.state.timeline.end_of(batch))


# Summaries of all arrays


def arrays(screen: MainScreen, rest: Arguments) -> None:
    screen.overlays.cover(panels.lists.ArrayList())


def _when(screen: MainScreen) -> str:
    at = screen.snapshot.position
    return f"read at {in_words(at.epoch, at.batch, step=at.step)}"


def go_to_character(screen: MainScreen, at: int) -> None:
    """Go to where this epoch reads the character at this index of the text, 0-based, and single out its row."""
    corpus, program, position = screen.snapshot.corpus, screen.session.program, screen.snapshot.position
    cell = corpus.cell_of(at) if isinstance(corpus, Corpus) else None
    if cell is None:
        screen.say("no batch reads this character: it comes after the last full batch", warning=True)
        return
    batch, t, row = cell
    screen.set_view(replace(screen.view, row=row))
    go_to(screen, (position.epoch * program.num_batches + batch) * program.ticks + program.end_of_timestep(t))


# ------------------------------------------------------------------------------
# Verbs that check batches against PyTorch: one batch in the background, or every batch while training.


LOADING = 1.0  # seconds, approximately: the time to load PyTorch for the first checked batch


def checking(screen: MainScreen) -> bool:
    """True while a panel still waits for what a thread computes: a check, the loss without each unit."""
    from tui_gru.tui.panel import SnapshotPanel

    return any(getattr(overlay, "waiting", False) for overlay in screen.query(SnapshotPanel))


def check_batch(screen: MainScreen, rest: Arguments) -> None:
    """Check this batch; with `every`, `every on` or `every off`, toggle or set the check of every batch while training."""
    choices = {"every": not screen.session.check_every_batch, "every on": True, "every off": False}
    words = " ".join(rest.split())
    if not words:
        if not screen.running:
            if not is_installed():
                require_torch("the check")
            check = screen.session.batch_check()
            panel = panels.check.CheckReport(check.position)
            work = partial(_carry_out, screen, panel, check)
            start = partial(screen.run_worker, work, thread=True, group="check", exit_on_error=True)
            screen.overlays.cover(panel, of_this_moment=True, then=start)
    elif words in choices:
        check_every(screen, choices[words])
    else:
        raise TuiGruError(f"check takes no argument, or every on, or every off; not {str(rest)!r}")


def _carry_out(screen: MainScreen, panel: CheckReport, check: Check) -> None:
    """Check a batch, in a thread. The report is discarded if its panel has been closed by then."""
    from tui_gru.torch_loading import load_torch
    from tui_gru.tui.session_screen import problem_of

    try:
        load_torch()
        screen.show_on(panel, partial(panel.is_doing, "comparing with autograd, and with finite differences"))
        show = partial(panel.show_report, check.run())
    except Exception as error:
        show = partial(panel.show_problem, problem_of(error, "a check"))
    screen.show_on(panel, show)


def entry_chosen(screen: MainScreen, name: str, index: tuple[int, ...], t: int | None) -> None:
    """Show where the number of a row comes from, if it belongs to the batch that is shown; `t` is None for a whole batch."""
    panel = screen.overlay
    report = panel.report if isinstance(panel, panels.check.CheckReport) else None
    if report is None or report.position.number != screen.snapshot.position.number:
        screen.say("this report is about another batch; go to that batch to see where its numbers come from", warning=True)
    else:
        ask_about(screen, name, index, t)


def check_every(screen: MainScreen, value: bool) -> None:
    """Turn the check of every batch while training on or off."""
    slow = "every batch is checked from now on; training takes ten to twenty times as long"
    words = slow if value else "batches are no longer checked"
    set_value = partial(setattr, screen.session, "check_every_batch", value)
    screen.do(lambda progress: set_value(), batches=0, then=lambda _: screen.say(words))
    if value and "torch" not in sys.modules:
        screen.runner.expect(LOADING)  # otherwise the screen would wait for the next step
