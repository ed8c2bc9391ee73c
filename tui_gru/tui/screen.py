"""The main screen and its parts that use the others: the kept layout, and derivations."""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.errors import NoWidget
from textual.geometry import Offset, Region
from textual.widget import Widget

from tui_gru import analysis
from tui_gru.debugger.drafts import can_draft
from tui_gru.debugger.position import position_of, typed_entry
from tui_gru.debugger.program import in_line
from tui_gru.engine.config import TUTORIAL_TEXT
from tui_gru.engine.source import Ability, Imported
from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session
from tui_gru.session.snapshot import RunPace, Snapshot, View
from tui_gru.tui import panels
from tui_gru.tui.jump import Jump
from tui_gru.tui.keys import NO_ARGUMENTS, Pending, Step, execute, key_sign, sign_of_key, with_keys
from tui_gru.tui.layout import PLACES, OverlayHost, PanelHost
from tui_gru.tui.panel import Panel, Request, SnapshotPanel
from tui_gru.tui.panels.time import TimeLine
from tui_gru.tui.panels.weights import MODES, WeightsPanel
from tui_gru.tui.running import FEW, Finished, Play, Progressed, Runner, look_after_run
from tui_gru.tui.session_screen import LEAST_WIDTH, LOW, Card, CardText, Hint, SessionScreen, marked_here, offer_marks, texts_here
from tui_gru.tui.terminal import being_removed
from tui_gru.tui.theme import palette_of

if TYPE_CHECKING:
    from tui_gru.debugger.derivation import Node, Path, ValueRef
    from tui_gru.session.travel import SearchProgress
    from tui_gru.teaching.lesson import Lesson
    from tui_gru.teaching.masking import AnswerMask
    from tui_gru.tui.command import CommandLine
    from tui_gru.tui.lessons import LessonWalk
    from tui_gru.tui.panels.derivation import DerivationPanel, Leaf

# ------------------------------------------------------------------------------
# Saves with a session its layout and typed commands, and asks where to record a session that was opened from a file.


MOST_COMMANDS = 200


class ScreenLayout(NamedTuple):
    """What is singled out, shown and zoomed.

    `row` is 0-based, None if no row is singled out. `zoomed` is the name of the class of a panel, empty if none is zoomed. `layer`
    is counted through all directions; None follows the current line.
    """

    page: int = 1
    row: int | None = None
    speed: int = 2
    weights: str = MODES[0]
    parameter: str = ""
    zoomed: str = ""
    layer: int | None = None

    @classmethod
    def of(cls, screen: MainScreen) -> Self:
        """Return the current layout of the screen."""
        weights, zoomed = screen.query_one(WeightsPanel), screen.maximized
        return cls(
            screen.panels.page,
            screen.view.row,
            screen.play.speed,
            weights.mode,
            weights.chosen,
            "" if zoomed is None else type(zoomed).__name__,
            screen.view.layer,
        )

    @classmethod
    def read(cls, stored: Any) -> Self:
        """Return a layout that was saved with a session. Invalid parts are replaced by defaults."""
        layout = cls()
        if not isinstance(stored, dict):
            return layout
        pairs = [(name, stored[name], usual) for name, usual in layout._asdict().items() if name in stored]
        return cls(
            **{name: value for name, value, usual in pairs if type(value) is type(usual) or (usual is None and type(value) is int)}
        )

    def apply(self, screen: MainScreen) -> None:
        """Apply the layout to the screen, as far as the session allows."""
        config, weights = screen.snapshot.config, screen.query_one(WeightsPanel)
        if weights.mode != self.weights and self.weights in MODES:
            weights.mode = self.weights
        if self.parameter in screen.snapshot.program.parameters:
            weights.chosen = self.parameter
        screen.panels.turn_to(self.page)
        screen.play.set_speed(self.speed)
        rows, layers = range(config.batch_size), range(len(screen.snapshot.program.layers))
        row = self.row if self.row in rows else None
        layer = self.layer if self.layer in layers else None
        screen.set_view(replace(screen.view, row=row, layer=layer))
        zoomable = (panel for panel in screen.query(Panel) if type(panel).__name__ == self.zoomed)
        if (zoomed := next(zoomable, None)) is not None:
            screen.maximize(zoomed)
        elif screen.maximized is not None:
            screen.minimize()


def command_of_overlay(overlay: SnapshotPanel, tick: int) -> str:
    """Return the command that opens an overlay again at its place, a tick."""
    from tui_gru.tui.panels.derivation import DerivationPanel

    number = overlay.leaf.root.number if isinstance(overlay, DerivationPanel) else None
    if number is None or number.tick != tick:
        return overlay.command
    program = overlay.snapshot.program
    t = "" if number.t is None or not program.names[number.name].timed else f" t {number.t + 1}"
    return f"why {typed_entry(program, number.name, number.index)}{t}"


class KeptWithSession:
    """Restores layout and commands from the session, and saves every change of them in the session."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self._laid_out: Session | None = None  # the session that `_layout` belongs to
        self._layout = ScreenLayout()

    # The layout

    @property
    def is_other(self) -> bool:
        """True if the screen shows another session than the one whose layout it has."""
        return self._screen.session is not self._laid_out

    def lay_out(self) -> None:
        """Restore the layout and the commands that are saved in the session."""
        self._laid_out = self._screen.session
        stored = self._laid_out.kept("layout")
        if stored is not None:
            self._layout = ScreenLayout.read(stored)
            self._layout.apply(self._screen)
        self.recall_commands()
        offer_marks(self._screen)

    def keep_layout(self) -> None:
        """Save the layout in the session if it has changed."""
        if self.is_other or not self._screen.is_mounted:
            return
        layout = ScreenLayout.of(self._screen)
        if layout != self._layout:
            self._layout = layout
            self._keep("layout", layout._asdict())

    # What a mark was set at: the layout and the panel in focus

    def keep_layout_of_mark(self, letter: str) -> None:
        """Keep with a mark how the screen looks: page, zoom, focus, and the command that has opened the overlay."""
        screen, mark = self._screen, self._screen.session.state.marks.get(letter)
        same_type = [panel for panel in screen.query(Panel) if type(panel) is type(screen.in_use)]
        focus = [type(screen.in_use).__name__, same_type.index(screen.in_use)] if screen.in_use in same_type else None
        overlay = "" if screen.overlay is None else command_of_overlay(screen.overlay, mark.tick)
        layout = {**ScreenLayout.of(screen)._asdict(), "focus": focus, "overlay": overlay, "place": [mark.branch, mark.tick]}
        self._keep("looks", {**self._layouts, letter: layout})

    def show_layout_of_mark(self, letter: str) -> None:
        """Show the mark of a letter, or for an empty one the first at this place, as the screen looked when it was set."""
        screen, marks = self._screen, self._screen.snapshot.marks_here
        mark = next((mark for mark in marks if letter in ("", mark.letter)), None)
        layout = self._layouts.get(mark.letter) if mark is not None else None
        if mark is None or not isinstance(layout, dict) or layout.get("place") != [mark.branch, mark.tick]:
            return
        ScreenLayout.read(layout).apply(screen)
        if screen.overlay is not None and screen.overlay is screen.focused:
            return  # a list in which the mark was chosen
        if isinstance(overlay := layout.get("overlay"), str) and overlay:
            with suppress(TuiGruError):  # the command needs what is not there any more, such as another branch
                execute(screen, overlay)
            return
        match layout.get("focus"):
            case [str(kind), int(nth)]:
                same_type = [panel for panel in screen.query(Panel) if type(panel).__name__ == kind]
                screen.set_focus(same_type[nth] if 0 <= nth < len(same_type) else None)
            case _:
                screen.set_focus(None)

    @property
    def _layouts(self) -> dict[str, Any]:
        stored = self._screen.session.kept("looks", {})
        return stored if isinstance(stored, dict) else {}

    # Commands

    @property
    def commands(self) -> list[str]:
        """The commands typed in this session, newest last."""
        stored = self._screen.session.kept("commands", [])
        if not isinstance(stored, list):
            return []
        return [command for command in stored if isinstance(command, str) and command.isprintable()]

    def keep_command(self, command: str) -> None:
        if command:
            self._keep("commands", [*self.commands, command][-MOST_COMMANDS:])

    def recall_commands(self) -> None:
        """Load the commands of this session into the history of the `:` line."""
        if lines := self._screen.query("CommandLine"):
            from tui_gru.tui.command import CommandLine

            lines.only_one(CommandLine).history = self.commands

    def _keep(self, name: str, value: Any) -> None:
        before = self._screen.notice
        self._screen.session.keep(name, value, begin=False)
        if self._screen.notice not in (None, before):
            self._screen.say_notice()

    # Recording of a session that was opened from a file

    @property
    def question(self) -> str:
        """The question where to record changes, shown until it is answered; empty if there are no unrecorded changes."""
        session = self._screen.session
        path = session.recorder.opened_from
        if path is None or not session.recorder.undecided or self._screen.running:
            return ""
        return f"not recorded: y writes to {path.name}, c to a copy, {sign_of_key(self._screen, 'stop')} continues in memory"

    def take_key(self, event: events.Key) -> bool:
        """Handle a key that answers `question`. Return True if the key was an answer; any other key keeps its meaning."""
        answered = bool(self.question) and event.key in ("y", "c")
        if answered:
            self._record(copy=event.key == "c")
        return answered

    def _record(self, *, copy: bool) -> None:
        """Record the session to the file that it was opened from, or to a new file beside it."""
        session = self._screen.session

        def record(progress: object) -> None:
            from tui_gru.storage.store import free_path

            path = session.recorder.opened_from
            assert path is not None
            session.record_to(free_path(path) if copy else path)
            self._screen.note(f"recorded to {session.recording}")

        self._screen.do(record, batches=None)

    def decline(self) -> bool:
        """Continue in memory if `question` is asked. Return True if it was."""
        has_question = bool(self.question)
        if has_question:
            self._screen.forget_notice()
            self._screen.session.recorder.stay_in_memory()
            self._screen.show_now()
        return has_question


# ------------------------------------------------------------------------------
# Derivations of numbers: shows one over the blackboard, follows numbers from it, and goes back.


class Derivations:
    """Shows derivations. Following a number goes to the place where it was computed; going back returns from there."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self._trail: tuple[tuple[Session, Leaf], ...] = ()

    @property
    def _panel(self) -> DerivationPanel | None:
        overlay = self._screen.overlay
        return overlay if isinstance(overlay, panels.derivation.DerivationPanel) else None

    def ask(self, number: ValueRef) -> None:
        """Show the derivation of a number. If another is shown already, `leave` returns to it."""
        name = self._screen.session.program.code_name(number.name)
        self._derive(replace(number, name=name), follow=False)

    def follow(self, number: ValueRef) -> None:
        self._derive(number, follow=True)

    def _derive(self, number: ValueRef, *, follow: bool) -> None:
        before = self._screen.session

        def derive(progress: SearchProgress | None) -> tuple[Session, panels.derivation.Leaf]:
            session = before
            root = session.derive(number, progress=progress)
            while follow and root.derivation.kind == "copy" and root.terms[0].number is not None:
                # A value that is only copied is followed to the line that computed it.
                root = session.derive(root.terms[0].number, progress=progress)
            assert root.number is not None
            if follow and (link := root.derivation.link) is not None:  # to the module that computed it
                from tui_gru.debugger.derivation import ValueRef
                from tui_gru.session.opening import other_module

                session = other_module(session, link.module)
                end = (session.position.number + 1) * session.program.ticks
                root = session.derive(ValueRef(link.name, root.number.index, link.t, end), progress=progress)
            assert root.number is not None
            tick = root.number.tick if root.derivation.tick is None else root.derivation.tick
            if follow:
                session.seek(tick)
            _work_out(root)
            return session, panels.derivation.Leaf.of(root, position_of(session.program, tick), session.anchor(tick))

        turn = partial(self._turn_to, before)
        self._screen.do(derive, batches=before.batches_to(number.tick), then=turn, opens=True)

    def _show_session(self, session: Session) -> None:
        """Turn the screen to a session. The panel, whose moment is of the one before, stays until it is turned as well."""
        if session is not self._screen.session:
            if self._panel is not None:
                self._panel.read_at = None
            self._screen.session = session
            self._screen.show_now()

    def _turn_to(self, before: Session, session_and_leaf: tuple[Session, Leaf]) -> None:
        session, leaf = session_and_leaf
        self._screen.runner.result = leaf
        self._show_session(session)
        panel = self._panel
        if panel is None:
            self._trail = ()
            self._screen.overlays.cover(panels.derivation.DerivationPanel(leaf))
        else:
            self._trail = (*self._trail, (before, panel.leaf))
            panel.turn_to(leaf)

    def leave(self) -> None:
        """Return to the previous derivation and to the place where its number was computed, or close the only one."""
        panel = self._panel
        if panel is None:
            return
        trail = [(session, leaf) for session, leaf in self._trail if leaf.anchor is None or session.holds(leaf.anchor)]
        if not trail:
            self._screen.overlays.lift()
            return
        *earlier, (session, leaf) = trail
        self._trail = tuple(earlier)

        def turn(_: object) -> None:
            self._show_session(session)  # of another module, if the number was followed from there
            panel.turn_to(leaf)

        batches = session.batches_to(leaf.place.tick)
        self._screen.do(lambda progress: session.seek(leaf.place), batches=batches, then=turn, opens=True)

    def open(self, node: Node, path: Path) -> None:
        """Compute and open the terms of the node at `path`, which belongs to another batch."""
        panel = self._panel
        if panel is not None:
            self._screen.do(lambda progress: _work_out(node), then=lambda _: panel.open_at(path), opens=True)

    def copy(self, text: str, kind: str) -> None:
        self._screen.app.copy_to_clipboard(text)
        self._screen.say(f"copied as {kind}: {len(text.splitlines())} lines")


def _work_out(node: Node) -> None:
    """Compute the derivations of the terms of a node, such that drawing does not need to."""
    for term in node.terms:
        term.derivation  # noqa: B018 - the property caches it


# ------------------------------------------------------------------------------
# A recording that another process writes: its new steps are shown as they come.


FOLLOWED = 1.0  # seconds between two reads, and as many times as long as the last reading took
PATIENT = 10


class NewerSteps:
    """Reads the newer steps of a recording in a thread, and shows them once nothing is open or under way."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self._next, self._reading, self._refused = 0.0, False, ""
        self._read: tuple[Session, Imported, str] | None = None

    def poll(self) -> None:
        """Read newer steps if there are any, and show those that were read."""
        screen, source = self._screen, self._screen.session.config.source
        if not isinstance(source, Imported) or source.newer is None or self._reading:
            return
        if self._read is None and time.monotonic() >= self._next:
            self._reading = True
            screen.run_worker(partial(self._read_newer, screen.session, source.newer), thread=True, group="newer steps")
        elif self._read is not None and not (screen.running or screen.expecting or screen.awaits_key or screen.typing):
            self._show(*self._read)

    def _read_newer(self, session: Session, newer: Callable[[], tuple[Imported, str] | None]) -> None:
        begun, problem = time.monotonic(), ""
        try:
            newest = newer()
        except TuiGruError as error:
            newest, problem = None, str(error)
        self._next = begun + max(FOLLOWED, PATIENT * (time.monotonic() - begun))
        self._read, self._reading = None if newest is None else (session, *newest), False
        if problem and problem != self._refused:
            self._refused = problem
            self._screen.app.call_from_thread(self._screen.say, problem, warning=True)

    def _show(self, session: Session, source: Imported, words: str) -> None:
        screen = self._screen
        if screen.session is not session or screen.overlay is not None:
            self._read = None if screen.session is not session else self._read  # of another module, which looks for itself
            return
        from tui_gru.session.opening import with_newer_steps

        try:
            screen.session = with_newer_steps(session, source)
        except TuiGruError as error:
            if str(error) != self._refused:
                self._refused = str(error)
                screen.say(self._refused, warning=True)
            return
        self._read, self._refused = None, ""
        screen.session.notice = words
        screen.show_now()


# ------------------------------------------------------------------------------
# The main screen: executes verbs of the session on keys, and has the panels draw the session's snapshot.


QUOTED = 30  # characters of a draft in an answer


def _learns(snapshot: Snapshot) -> bool:
    """Return True if the run is learning to write or to predict numbers."""
    config = snapshot.config
    if not (config.source.can(Ability.TRAIN) and snapshot.settings.learning):
        return False
    return can_draft(config) if config.text else bool(snapshot.program.target)


class MainScreen(SessionScreen):
    """The session, its snapshot, the view of it (`view`), and the parts that work on them.

    A verb is a function that takes this screen. The app's subclass binds the verbs to keys, and adds the requests of panels.
    """

    AUTO_FOCUS = ""
    BLANK = True  # Textual's name: it draws nothing itself
    ALLOW_IN_MAXIMIZED_VIEW = "Header, BottomLine, CommandLine, CompletionList, Card"

    #: The verbs that the footer offers; None for all. A page of moments has only a few.
    only_verbs: frozenset[str] | None = None

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        waiting = lambda: int(getattr(getattr(self.app, "keyboard", None), "waiting", 0))  # noqa: E731
        self.runner = Runner(self, partial(look_after_run, self), waiting)
        self.pending = Pending(self.say, lambda prefix: setattr(self.bottom, "prefix", prefix))
        self.play = Play(self, self.runner)
        self.panels = PanelHost(self)
        self.overlays = OverlayHost(self, self.panels)
        self.derivations = Derivations(self)
        self.newer = NewerSteps(self)
        self.kept = KeptWithSession(self)
        self.jump = Jump(self, self.panels)
        self.next_remarkable: Callable[[], None] | None = None  # goes to the next remarkable number; made by the verb
        self.walk: LessonWalk | None = None  # made when the first lesson begins
        self._card: Card | None = None  # made when there is something to say on it
        self.do = self.runner.do
        self._queued = deque[str]()  # commands that wait for the one before
        self._due = False
        self._tells = False  # the next moment is the end of a long run, of which the answer says what the model writes
        self._pressed: Offset | None = None  # where the mouse was pressed
        self._came_from: Widget | None = None  # the widget that had the focus before the command line

    def compose(self) -> ComposeResult:
        self.panels.size_up()
        yield from self.panels.compose()
        yield self.bottom

    def on_mount(self) -> None:
        self._show()
        if self.snapshot.config.carry == "notebook":
            self.say("carry notebook: gradients flow into earlier batches of the epoch; the cost grows with their number squared")
        self.kept.lay_out()
        if self.notice is not None or self.standing():
            self.say_notice()
        self._show_card()
        if command := str(getattr(self.app, "first_command", "")):
            self.call_after_refresh(self._execute, command)
        if isinstance(source := self.session.config.source, Imported) and source.newer is not None:
            self.set_interval(FOLLOWED / 2, self.newer.poll)

    def on_resize(self, event: events.Resize) -> None:
        if self._card is not None:
            self._card.size_up()  # before the panels, which get the rows that it leaves
        self.panels.size_up()
        self.bottom.make_room()
        self._show_card()
        if event.size == self.outer_size:  # Textual says it again after each layout, and twice at the start
            event.prevent_default()

    def on_idle(self) -> None:
        self.kept.keep_layout()

    @property
    def running(self) -> bool:
        """True while a thread works on the session, which must not be used meanwhile."""
        return self.runner.running or bool(self._queued)

    @property
    def expecting(self) -> bool:
        """True while something is about to open or to be drawn that the next key may be meant for."""
        return self.runner.expecting or self.overlays.expecting or self.panels.expecting

    @property
    def awaits_key(self) -> bool:
        """True if the next key may be an answer, a letter or a step of a lesson, or belong to a count."""
        return (
            self.jump.waits or self.pending.awaited or bool(self.kept.question) or (self.walk is not None and self.walk.awaits_key)
        )

    @property
    def overlay(self) -> SnapshotPanel | None:
        """The overlay that covers the blackboard, None if there is none."""
        return self.overlays.overlay

    # Showing

    def show_now(self) -> None:
        """Take a new snapshot, and schedule drawing it after the waiting keys have been handled."""
        self.snapshot, self.pending.leaving = self.session.snapshot(), False
        if self.view.live and not (_learns(self.snapshot) and self.snapshot.position.tick % self.snapshot.program.ticks == 0):
            self.view = replace(self.view, live=False)
        self.session.add_notice(self.overlays.lift_what_is_gone())
        if self.notice is not None:
            self.say_notice()
        elif self.standing() != self._stood:
            self.say("")
        if self._tells and self.view.live and self.notice is None:
            self.say(self.play.in_words) if self.play.playing else self.answer(self._draft_in_words())
        self._tells = False
        self._show_card()
        if not self._due:
            self._due = True
            self.call_later(self._show)

    def show_passing(self, snapshot: Snapshot, pace: RunPace | None = None) -> None:
        self.view = replace(self.view, live=self.view.live or _learns(snapshot), pace=pace)
        if snapshot.has_arrays:
            self.snapshot = snapshot
            self.panels.show()
        else:
            self.panels.show_results(snapshot)

    @property
    def follows_runs(self) -> bool:
        return _learns(self.snapshot) and self.snapshot.config.text != TUTORIAL_TEXT

    def follow(self) -> None:
        if not self.view.live:
            self.set_view(replace(self.view, live=True, pace=None))

    def follow_on(self, batches: int, pace: RunPace) -> None:
        self._tells = self.follows_runs and batches > FEW
        self.view = replace(self.view, live=self._tells, pace=pace)

    def _draft_in_words(self) -> str:
        """Return what the model writes here, and how much of it stands in the text; empty if it does not write."""
        draft, text = self.snapshot.draft, self.snapshot.corpus.text
        if draft is None:
            return ""
        batches = draft.tick // self.snapshot.program.ticks
        words = f"batch {batches:,} writes “{''.join(map(in_line, (draft.primer + draft.text)[:QUOTED]))}…”"
        standing = analysis.drafts.counted_pieces(draft.text, text)
        if standing is None:
            return words
        return f"{words} · {standing[0]} of {standing[1]} {'words' if analysis.drafts.words_of(text) else 'characters'} of the text"

    @property
    def drawn(self) -> bool:
        """True if the panels show the newest snapshot."""
        return not self._due

    def set_view(self, view: View) -> None:
        """Show the same snapshot with another view."""
        self.view = view
        self._show()

    def _show(self) -> None:
        self._due = False
        self.panels.show()
        self.bottom.refresh_hints()
        if self.session.steps:  # a recording
            self.call_after_refresh(self._prefetch)

    def _prefetch(self) -> None:
        if not (self.runner.running or self._due):
            self.session.prefetch()

    @property
    def question(self) -> str:
        return self.kept.question

    def standing(self) -> str:
        """The open question; where there is no room for a card, also what that would say."""
        card = self._card_here()
        walk = self.walk
        texts = "" if card is not None and (walk is None or walk.card is None) else texts_here(self)
        words = "" if card is not None or walk is None else walk.words
        return " · ".join(filter(None, (self.kept.question, texts, words)))

    # The card

    def tells_of(self, panel: type[object]) -> bool:
        return self.walk is not None and self.walk.tells_of(panel)

    @property
    def card_rows(self) -> int:
        """The rows that the card takes from the panels, 0 without one."""
        return 0 if self._card is None else self._card.rows

    def _card_here(self) -> CardText | None:
        """Return what the card says; None if there is nothing to say, or no room for a card."""
        width, height = self.app.size
        if height < LOW or width < LEAST_WIDTH:
            return None
        return (None if self.walk is None else self.walk.card) or marked_here(self)

    def take_lesson(self, lesson: Lesson, seed: int | None = None) -> None:
        """Begin a lesson, with other numbers by another seed. Raises `LessonError` if one of its models cannot be made."""
        if self.walk is None:
            from tui_gru.tui.lessons import LessonScreen, LessonWalk

            self.walk = LessonWalk(cast(LessonScreen, self))
        self.walk.begin(lesson, seed)

    def hide(self, mask: AnswerMask | None) -> None:
        """Draw `?` in the place of what a question of a lesson asks for, everywhere but on its card; None: in no place."""
        dim, colours = palette_of(self.app).dim, self.app.get_css_variables()
        ink = dim + Style(color=colours["background"], bgcolor=dim.color or colours["foreground"], bold=True)
        self.mask_text(mask, Card, ink)

    def _show_card(self) -> None:
        text = self._card_here()
        if text is not None and self._card is None:
            self._card = Card()
            self.mount(self._card, before=self.query_one(TimeLine))
        if self._card is not None:
            self._card.say(text)
            self.set_class(text is not None, "-with-card")
            self.panels.resized()

    def say(self, message: str, *, warning: bool = False) -> None:
        super().say(message, warning=warning)
        self._show_card()

    # Verbs

    async def action_verb(self, id: str) -> None:
        """Execute the verb of this id as its key does, or open the `:` line if it needs arguments."""
        verb = self.verbs[id]
        self.command = verb.names[0] if verb.names else ""
        if isinstance(verb.do, Step):
            self.play.walk(verb.do, self.pending.take_count())
        elif verb.needs_arguments:
            await self.open_line(f"{verb.names[0]} ")
        else:
            done = verb.do(self, NO_ARGUMENTS) if verb.press is None else verb.press(self)
            if inspect.isawaitable(done):
                await done

    def show_section(self, words: str) -> None:
        """Open the section of the manual about these words over this screen; without words, all keys and commands."""
        raise NotImplementedError

    def execute_each(self, commands: Sequence[str]) -> None:
        """Execute commands of the `:` line one after another, each when the one before is over."""
        self._queued.extend(commands)
        self._execute_queued()

    def _execute_queued(self) -> None:
        """Execute the next command that waits, once what the one before has opened is there."""
        if not self._queued or self.runner.running or not self.is_attached:
            return
        if self.overlays.expecting or self.panels.expecting:
            self.call_after_refresh(self._execute_queued)
            return
        command = self._queued.popleft()
        try:
            execute(self, command)
        except Exception as error:
            self._queued.clear()
            self.failed(error, f"the command {command!r}")
        if self._queued:
            self.call_after_refresh(self._execute_queued)

    def action_digit(self, digit: int) -> None:
        self.pending.digit(digit)

    def action_pace(self, change: int) -> None:
        """Play faster or slower."""
        self.play.change_speed(change)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return None, which lets keys wait, if the action has to wait for the end of a run.

        A verb that does not apply now is executed, and says why it does nothing.
        """
        if action == "pace":
            return self.play.playing
        if action != "verb":
            return None if self.running and action != "digit" else super().check_action(action, parameters)
        return True if not self.running or self.verbs[str(parameters[0])].while_running else None

    # What the answers of verbs depend on

    def show_page_of(self, panel: str) -> None:
        if self.overlay is None:
            self.panels.show_page_of(next(place.panel for place in PLACES if place.panel.__name__ == panel))

    def hints(self) -> list[Hint]:
        """Return the hints for the footer: the keys of the panel in focus, then those of the verbs offered in this run.

        Keys of the panel that have no word for the footer are in its border, as those of all overlays.
        """
        above = [] if self.focused is None else self.focused.ancestors_with_self
        nodes = [node for node in above if node is not self and isinstance(node, Widget)]  # from the one in focus up
        bindings = [(binding, enabled) for node, binding, enabled, _ in self.active_bindings.values() if node in nodes]
        hints = [
            Hint(binding.key_display or key_sign(binding.key), binding.description.lower(), enabled)
            for binding, enabled in bindings
            if binding.show
        ]
        signs = {key_sign(binding.key) for binding, _ in bindings}
        for verb in self.verbs.values():
            if self.only_verbs is not None and verb.id not in self.only_verbs:
                continue
            sign = sign_of_key(self, verb.id) if verb.label else ""
            if verb.label and sign not in signs and verb.offered(self):
                applies = verb.while_running if self.running else verb.applies(self)
                number = f" {self.panels.page}/{self.panels.pages}" if verb.id == "page" and self.panels.pages > 1 else ""
                hints.append(Hint(sign, f"{verb.label}{number}", applies, verb.rank))
        return hints

    # The `:` line

    @property
    def in_use(self) -> Widget | None:
        """The widget in focus; while the `:` line is open, the one that had the focus before."""
        from tui_gru.tui.command import CommandLine

        return self._came_from if isinstance(self.focused, CommandLine) else self.focused

    @property
    def typing(self) -> bool:
        """True while the `:` line is open."""
        from tui_gru.tui.command import CommandLine

        return isinstance(self.focused, CommandLine)

    async def open_line(self, text: str = "", value: str = "", rest: str = "") -> None:
        """Open the `:` line with `text`, then `value`, which is selected, then `rest`."""
        from tui_gru.tui.command import CommandLine

        if not self.typing:
            self._came_from = self.focused
        self.say("")  # the line and its list cover the message
        if not self.query(CommandLine):
            from tui_gru.tui.command import CompletionList, complete

            listed = CompletionList()
            await self.mount(listed, CommandLine(partial(complete, self), listed))
            self.kept.recall_commands()
        self.query_one(CommandLine).open(text, value, rest)

    def on_command_line_entered(self, event: CommandLine.Entered) -> None:
        self.set_focus(self._came_from)
        self.say("")
        self._execute(event.command)
        self.kept.keep_command(event.command)

    def _execute(self, command: str) -> None:
        try:
            execute(self, command)
        except Exception as error:
            self.failed(error, f"the command {command!r}")

    def on_command_line_left(self) -> None:
        self.set_focus(self._came_from)

    # Keys and runs

    def on_key(self, event: events.Key) -> None:
        """Give a key to the lesson and to what waits for one, before its binding is executed. Say so if it has none."""
        typed = event.character if event.is_printable else None
        is_taken = self.jump.waits and self.jump.take_key(event)
        is_taken = is_taken or (self.walk is not None and self.walk.take_key(event))
        if is_taken or self.pending.take_key(event.key, typed) or self.kept.take_key(event):
            event.stop()
            event.prevent_default()
        elif event.is_printable and event.key not in self.active_bindings and not self.running:
            self.say(with_keys(self, f"{event.character} has no meaning here · <help> lists the keys"))

    def on_progressed(self, event: Progressed) -> None:
        self.runner.progressed(event)

    def on_finished(self, event: Finished) -> None:
        if self.kept.is_other:
            self.call_after_refresh(self.kept.lay_out)
        self.runner.finished(event)
        if event.problem:
            self._queued.clear()
        self._execute_queued()
        if self.walk is not None:
            self.walk.ran()

    def on_paste(self, event: events.Paste) -> None:
        if self.walk is not None and self.walk.paste(event.text):
            event.stop()

    # The mouse

    def on_mouse_down(self, event: events.MouseDown) -> None:
        self._pressed = event.screen_offset

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Say how text is selected to who drags over it. A panel in which something can be dragged keeps these events."""
        if event.button == 1 and self._pressed is not None and self.app.mouse_captured is None:
            moved = event.screen_offset - self._pressed
            if abs(moved.x) + abs(moved.y) > 2:
                self._pressed = None
                self.say("to select text, hold shift while you drag (option on a Mac) · :export writes a panel to a file")

    # Requests of panels

    async def on_request(self, event: Request) -> None:
        try:
            done = self.requests[event.name](self, *event.arguments)
            if inspect.isawaitable(done):
                await done
        except Exception as error:
            self.failed(error, f"the request {event.name!r}")

    def show_on(self, panel: SnapshotPanel, show: Callable[[], object]) -> None:
        """Show on a panel what a thread has computed for it. May be called in that thread."""
        self.post_message(Request("show", panel, show))

    def show_if_open(self, panel: SnapshotPanel, show: Callable[[], object]) -> None:
        """Show what has been computed for a panel, unless that has been closed."""
        if panel is self.overlay:
            show()

    # Clicks and keys on widgets that have been removed but are still on the screen

    def get_widget_at(self, x: int, y: int) -> tuple[Widget, Region]:
        """Return the widget at a cell as Textual does. Raises `NoWidget` if it has been removed."""
        widget, region = super().get_widget_at(x, y)
        if not widget.is_attached:
            raise NoWidget(f"the widget at {x}, {y} has been removed")
        return widget, region

    def set_focus(self, widget: Widget | None, scroll_visible: bool = True, from_app_focus: bool = False) -> None:
        """Set the focus as Textual does, unless the widget has been removed, or is about to be."""
        if widget is None or (widget.is_attached and not being_removed(widget)):
            super().set_focus(widget, scroll_visible, from_app_focus)
            self.bottom.refresh()

    def minimize(self) -> None:
        super().minimize()
        self.panels.minimized()
