"""The main screen: a key becomes a verb of the session, its snapshot goes to the panels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual import actions
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.widget import Widget

from tui_gru.debugger.program.naming import printable
from tui_gru.debugger.session.changes import ALIASES
from tui_gru.debugger.session.session import Session
from tui_gru.engine.config import SAMPLERS
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui import answers, keys
from tui_gru.tui.key_signs import with_keys
from tui_gru.tui.keys import Verb
from tui_gru.tui.panels.bottom_line import BottomLine
from tui_gru.tui.panels.gates import Gates
from tui_gru.tui.panels.header import Header
from tui_gru.tui.panels.line_at_work import LineAtWork
from tui_gru.tui.panels.listing import Listing
from tui_gru.tui.panels.loss_curve import LossCurve
from tui_gru.tui.panels.loss_terms import LossTerms
from tui_gru.tui.panels.samples import Samples
from tui_gru.tui.panels.sequence import Sequence
from tui_gru.tui.panels.softmax import Softmax
from tui_gru.tui.panels.time_line import TimeLine
from tui_gru.tui.panels.weights import Weights
from tui_gru.tui.screens.analysing import AnalysingScreen
from tui_gru.tui.screens.branching import BranchingScreen
from tui_gru.tui.screens.checking import CheckingScreen
from tui_gru.tui.screens.comparing import ComparingScreen
from tui_gru.tui.screens.stopping import StoppingScreen
from tui_gru.tui.screens.supposing import SupposingScreen
from tui_gru.tui.screens.surviving import SurvivingScreen
from tui_gru.tui.themes import checked_theme
from tui_gru.tui.view import Shows
from tui_gru.tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui_gru.debugger.timeline.journal import JournalEntry
    from tui_gru.tui.panels.command_line import CommandLine

WHILE_RUNNING = frozenset({
    "escape", "help", "legend", "row", "layer", "weights", "page", "zoom", "focus_panel", "digit", "interrupt", "quit",
    "largest", "saturated", "sort", "near_zero",
})  # fmt: skip
SMALL_RECORD = 2**18  # bytes of a batch up to which findings are looked for without a thread
FEW_STEPS = 200  # of sampling, each the cell on one character: no more are done at once


class MainScreen(
    AnalysingScreen, SupposingScreen, StoppingScreen, BranchingScreen, ComparingScreen, CheckingScreen, SurvivingScreen
):
    """Holds the session and what one looks at. Every verb ends in `show_now`."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [*keys.BINDINGS, ("ctrl+c", "interrupt", "")]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._due = False
        self._time_lines: list[TimeLine] = []
        self._leaving = False  # it was said that what was done would be lost
        self._came_from: Widget | None = None  # what had the focus before the command line

    def compose(self) -> ComposeResult:
        self.size_up()
        gates = Gates(self.session.program)
        yield Header()
        with Container(id="body"):
            with Container(id="program"):
                yield Listing()
            with Container(id="blackboard", classes="-many" if gates.many else ""):
                with Container(id="top"):
                    yield Sequence()
                    yield LossTerms()
                yield LineAtWork()
                yield gates
                with Container(id="middle"):
                    yield Softmax()
                    yield LossCurve()
                with Container(id="bottom"):
                    yield Weights()
                    yield Samples()
        self._time_lines = [TimeLine()]
        yield from self._time_lines
        yield BottomLine(keys.footer_verbs(), self._keys_of, self._applies, self._label_of)

    def on_mount(self) -> None:
        self._show()
        if self.snapshot.config.carry == "notebook":
            self.say("carry notebook: gradients run on into the epoch's earlier batches, so its cost grows with their square")

    # Showing

    def show_now(self) -> None:
        """Take a new snapshot, and have it drawn once all keys that wait have been dealt with."""
        self.snapshot, self._leaving = self.session.snapshot(), False
        self.session.add_notice(self.lift_what_is_gone())
        if self.session.notice:
            self.say_notice()
        elif self.question and self.question not in self.query_one(BottomLine).message:
            self.say("")
        if not self._due:
            self._due = True
            self.call_later(self._show)

    def show_view(self) -> None:
        self._show()

    def _show(self) -> None:
        self._due = False
        for panel in self._panels():
            panel.show(self.seen_by(panel), self.view)
            if isinstance(panel, Panel):
                panel.set_remark(self.remark_on(panel))
        self.query_one(BottomLine).refresh()

    def _panels(self) -> Iterator[Shows]:
        panels: tuple[type[Widget], ...] = (
            Header, Listing, Sequence, LossTerms, LineAtWork, Gates, Softmax, LossCurve, Weights, Samples, TimeLine,
        )  # fmt: skip
        for kind in panels:
            panel = self.query_one(kind)
            assert isinstance(panel, Shows)
            yield panel
        yield from self.stop_panels()
        if self.overlay is not None:
            yield self.overlay

    @property
    def expecting(self) -> bool:
        return super().expecting or any(line.expecting for line in self._time_lines)

    @property
    def waiting(self) -> int:
        return int(getattr(getattr(self.app, "keyboard", None), "waiting", 0))

    def show_count(self, count: int) -> None:
        self.show_prefix(str(count) if count else "")

    def show_prefix(self, prefix: str) -> None:
        self.query_one(BottomLine).prefix = prefix

    def say(self, message: str, *, warning: bool = False) -> None:
        """Say something on the last row, until the next key; a question stays until it is answered."""
        question = self.question
        self.query_one(BottomLine).say(" · ".join(filter(None, (message, question))), warning=warning or bool(question))

    # Doing

    def go(self, place: str | int, *, along: bool = False) -> None:
        """Go to a place in time, and say which it is; `along` goes on with the jump before it."""

        def say() -> None:
            if self.session.outcome.stopped_by is None:  # else it says why the run did not come there
                self.answer(answers.place(self.snapshot))

        batches = self.session.batches_to(place) if isinstance(place, int) else None
        self.do(lambda progress: self.session.seek(place, progress=progress, along=along), batches=batches, then=say)

    @property
    def span(self) -> int:
        """The ticks of the whole run: to its end where it has one, else to the newest moment reached."""
        return (self.snapshot.last or self.snapshot.newest).tick

    def edit(self, name: str, index: tuple[int, ...] | None, value: Any) -> None:
        name, before = ALIASES.get(name, self.session.program.code_name(name)), self.snapshot

        def say() -> None:
            self.answer(answers.edited(name, index or (), before, self.snapshot) + answers.branched(before, self.snapshot))

        self.do(lambda _: self.session.edit(name, index, value), then=say)

    def set_learning(self, value: bool | None) -> None:
        """Learning on or off; None turns it over."""
        before = self.snapshot
        value = not before.learning if value is None else value
        words = "on: batches end with backward and update" if value else "off: batches end with the loss"

        def say() -> None:
            self.answer(f"learning {words}{answers.branched(before, self.snapshot)}")

        self.do(lambda _: setattr(self.session, "learning", value), then=say)

    def draw_sample(self, *, primer: str | None, length: int, temperature: float, sampler: str | None) -> None:
        """Sample text; with no sampler named, both, so that they can be compared. A new seed each time."""
        seed = 1 + max((sample.seed for sample in self.session.samples), default=-1)
        primer, samplers = primer or self.config_primer, (sampler,) if sampler else SAMPLERS

        def draw(progress: Any) -> None:
            for kind in samplers:
                text = self.session.sample(primer, length, sampler=kind, temperature=temperature, seed=seed, progress=progress)
                if len(text) < len(primer) + length:  # it was stopped
                    return
            self.look_for_findings()

        quick = (length + 1) * len(primer) * len(samplers) <= FEW_STEPS and self.session.config.record_bytes <= SMALL_RECORD
        self.do(draw, batches=0 if quick else None, then=self._say_sample)

    def _say_sample(self) -> None:
        """The samples just drawn, since their panel may be on another page; and how to come to it."""
        newest = self.snapshot.samples[-1]
        drawn = [each for each in self.snapshot.samples[-len(SAMPLERS) :] if (each.seed, each.tick) == (newest.seed, newest.tick)]
        words = [f"{each.sampler} “{''.join(map(printable, each.text))}”" for each in drawn]
        if self.pages > 1 and self.overlay is None and not self.query_one(Samples).region:
            words.append(with_keys(self, "<page> turns to them"))
        self.answer(" · ".join(words))

    @property
    def config_primer(self) -> str:
        """What is sampled after: the text's first two characters."""
        return self.snapshot.config.as_string(self.snapshot.corpus.text[:2])

    def set_theme(self, name: str) -> None:
        self.app.theme = checked_theme(self.app, name)
        self.say(f"the theme is {name}")

    # Keys

    def action_sgd(self) -> None:
        count, before = self.take_count(), self.snapshot

        def say() -> None:
            if self.snapshot.position != before.position and not self.session.notice:
                self.answer(answers.stepped(self.snapshot) + answers.branched(before, self.snapshot))

        self.do(lambda progress: self.session.sgd(count, progress=progress), batches=count, then=say)

    def action_learning(self) -> None:
        self.set_learning(None)

    def action_sample(self) -> None:
        self.draw_sample(primer=None, length=10, temperature=1.0, sampler=None)

    def action_undo(self) -> None:
        self._restore("undone", self.session.last_change, self.session.undo)

    def action_redo(self) -> None:
        self._restore("done again", self.session.next_change, self.session.redo)

    def _restore(self, said: str, change: JournalEntry | None, verb: Callable[[], bool]) -> None:
        """Undo or redo a change, and say which it was, and where one is then."""
        before = self.snapshot

        def say() -> None:
            if change is None:
                self.answer("there is no change to be undone" if said == "undone" else "there is no change to be done again")
            else:
                words = f"{answers.change(change, before.program)} is {said}"
                self.answer(words + answers.branched(before, self.snapshot) + answers.moved(before, self.snapshot))

        self.do(lambda _: verb(), batches=self.session.batches_to(), then=say)

    def action_newest(self) -> None:
        self.go(self.snapshot.newest.tick)

    async def action_command(self, text: str, value: str = "", rest: str = "") -> None:
        from tui_gru.tui.panels.command_line import CommandLine  # late, as all that the first picture does not need

        if not isinstance(self.focused, CommandLine):
            self._came_from = self.focused
        self.say("")  # the line lies over the last row of what was said
        if not self.query(CommandLine):
            await self.mount(CommandLine())
            self.remember(self.typed)
        self.query_one(CommandLine).open(text, value, rest)

    def on_command_line_entered(self, event: CommandLine.Entered) -> None:
        from tui_gru.tui.commands import execute

        self.set_focus(self._came_from)
        self.say("")
        try:
            execute(self, event.command)
        except Exception as error:
            self.say_problem(error, f"the command {event.command!r}")

    def on_command_line_left(self) -> None:
        self.set_focus(self._came_from)

    def on_listing_line_chosen(self, event: Listing.LineChosen) -> None:
        self.do(lambda progress: self.session.run_to(event.line.target, progress=progress))

    def on_time_line_sought(self, event: TimeLine.Sought) -> None:
        self.go(event.tick, along=event.along)

    def action_help(self) -> None:
        from tui_gru.tui.explanations.here import rows_here
        from tui_gru.tui.screens.help import HelpScreen

        focused = self.overlay if self.focused is None else self.focused
        here = list(rows_here(self.snapshot, focused, self._under_cursor(), partial(with_keys, self)))
        if focused is None:
            words = "<panel.next> goes from panel to panel, the arrows from number to number: <help> then explains it here"
            here.append(("more", with_keys(self, words)))
        self.app.push_screen(HelpScreen(self.app_keymap, self.session.program, here))

    def action_legend(self) -> None:
        """What colours and signs mean, over the blackboard; again, what it covers."""
        from tui_gru.tui.panels.legend import Legend  # late, as all that the first picture does not need

        if isinstance(self.overlay, Legend):
            self.lift()
        else:
            self.cover(Legend())

    def explain_word(self, words: str) -> None:
        """Say what a name, a sign or a panel is. Raises `TuiGruError` where there is no sentence for it."""
        from tui_gru.tui.explanations.here import explain

        found = explain(self.session.program, words, partial(with_keys, self))
        if not found:
            cure = with_keys(self, "type a name of the listing, a sign or a panel; <help> explains what has the focus")
            raise TuiGruError(f"there is no explanation of {words!r}; {cure}")
        self.say(found)

    @property
    def app_keymap(self) -> dict[str, str]:
        """The person's own keys, by verb id."""
        return getattr(self.app, "own_keys", {})

    def action_escape(self) -> None:
        """Stop what runs; else close what is open: a count, play, a zoomed panel, an overlay, the focus, the message."""
        if self.running:
            self.session.interrupt()
        elif self.withdraw():
            pass
        elif self.counting:
            self.take_count()
        elif self.playing:
            self.pause()
        elif self.maximized is not None:
            self.minimize()
        elif self.overlay is not None:
            self.lift()
        elif self.focused is not None:
            self.set_focus(None)
        elif not self.decline():
            self.say("")

    def action_interrupt(self) -> None:
        if self.running:
            self.session.interrupt()
        else:
            self.say(with_keys(self, "nothing is running; <quit> quits"))

    def action_quit(self) -> None:
        if self.question and not self._leaving:
            self._leaving = True
            self.say(with_keys(self, "<quit> again quits, and what was done is lost"))
            return
        self.session.interrupt()
        self.app.exit()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None dims a key that does not apply now."""
        if self.running:
            return True if action in WHILE_RUNNING else None
        if action == "page":
            return True if self.pages > 1 else None
        if action == "undo":
            return True if self.snapshot.can_undo else None
        if action == "redo":
            return True if self.snapshot.can_redo else None
        return super().check_action(action, parameters)

    def _applies(self, verb: Verb) -> bool:
        _, action, parameters = actions.parse(verb.action)
        return bool(self.check_action(action, parameters))

    def _label_of(self, verb: Verb) -> str:
        """The word beside a key in the footer; beside the one that turns pages, also which of how many is shown."""
        return f"{verb.label} {self.page}/{self.pages}" if verb.id == "page" and self.pages > 1 else verb.label

    def _keys_of(self, verb: Verb) -> str:
        return self.app_keymap.get(verb.id, verb.keys)
