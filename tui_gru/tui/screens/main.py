"""The main screen: executes verbs of the session on keys, and has the panels draw the session's snapshot."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.errors import NoWidget
from textual.geometry import Region
from textual.widget import Widget

from tui_gru.debugger.session.session import Session
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.state.outcome import Notice
from tui_gru.tui.panels.typing.bottom_line import BottomLine, Hint
from tui_gru.tui.screens.derivations import Derivations
from tui_gru.tui.screens.kept import KeptWithSession
from tui_gru.tui.screens.overlay_host import OverlayHost
from tui_gru.tui.screens.panel_host import PanelHost
from tui_gru.tui.screens.pending import Pending
from tui_gru.tui.screens.play import Play
from tui_gru.tui.screens.runner import Finished, Progressed, Runner, problem_of
from tui_gru.tui.screens.tour import Tour
from tui_gru.tui.terminal.guarded import GuardedScreen, being_removed
from tui_gru.tui.verbs import analysing, branching, checking, explaining, stepping, stops
from tui_gru.tui.verbs.table import BY_ID, VERBS
from tui_gru.tui.verbs.verb import NO_ARGUMENTS, Verb, key_sign, sign_of_key, with_keys
from tui_gru.tui.widgets.snapshot_panel import SnapshotPanel, View

if TYPE_CHECKING:
    from tui_gru.tui.panels.lists.origin import OriginPanel
    from tui_gru.tui.panels.typing.command_line import CommandLine

COUNTS = tuple((str(digit), f"digit({digit})") for digit in range(10))


class MainScreen(GuardedScreen):
    """The session, its snapshot, the view of it (`view`), and the parts that work on them.

    A verb of `verbs/table.py` is a function that takes this screen. The messages of panels are handled by such functions too.
    """

    AUTO_FOCUS = ""
    BLANK = True  # Textual's name: it draws nothing itself
    BINDINGS: ClassVar[list[BindingType]] = [*(verb.binding for verb in VERBS if verb.keys), *COUNTS]
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (100, "-normal"), (150, "-wide")]  # noqa: RUF012 - as Textual has it
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-middle"), (44, "-tall")]  # noqa: RUF012
    ALLOW_IN_MAXIMIZED_VIEW = "Header, BottomLine, CommandLine, CompletionList"

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.snapshot: Snapshot = session.snapshot()
        self.view = View()
        self.bottom = BottomLine(self._hints)
        self.runner = Runner(self, partial(analysing.look_after_run, self), lambda: self._keys_waiting)
        self.pending = Pending(self)
        self.play = Play(self)
        self.overlays = OverlayHost(self)
        self.panels = PanelHost(self)
        self.derivations = Derivations(self)
        self.kept = KeptWithSession(self)
        self.tour = Tour(self)
        self.do = self.runner.do
        self._due = False
        self._stood = ""  # the words that stay in the last row, as last shown
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
        if self.notice is not None or self._standing():
            self.say_notice()

    def on_resize(self) -> None:
        self.panels.resized()

    def on_idle(self) -> None:
        self.kept.keep_layout()

    @property
    def running(self) -> bool:
        """True while a thread works on the session, which must not be used meanwhile."""
        return self.runner.running

    @property
    def expecting(self) -> bool:
        """True while something is about to open or to be drawn that the next key may be meant for."""
        return self.runner.expecting or self.overlays.expecting or self.panels.expecting

    @property
    def overlay(self) -> SnapshotPanel | None:
        """The overlay that covers the blackboard, None if there is none."""
        return self.overlays.overlay

    # Showing

    def show_now(self) -> None:
        """Take a new snapshot, and schedule drawing it after the waiting keys have been handled."""
        self.snapshot, self.pending.leaving = self.session.snapshot(), False
        self.session.add_notice(self.overlays.lift_what_is_gone())
        if self.notice is not None:
            self.say_notice()
        elif self._standing() != self._stood:
            self.say("")
        if not self._due:
            self._due = True
            self.call_later(self._show)

    @property
    def drawn(self) -> bool:
        """True if the panels show the newest snapshot."""
        return not self._due

    def look(self, view: View) -> None:
        """Show the same snapshot with another view."""
        self.view = view
        self._show()

    def _show(self) -> None:
        self._due = False
        self.panels.show()
        self.bottom.refresh()
        if self.session.steps:  # a recording
            self.call_after_refresh(self._work_ahead)

    def _work_ahead(self) -> None:
        if not (self.runner.running or self._due):
            self.session.work_ahead()

    # Messages

    def say(self, message: str, *, warning: bool = False) -> None:
        """Show a message in the last row until the next key, before the words that stay there."""
        self._stood = self._standing()
        self.bottom.say(" · ".join(filter(None, (message, self._stood))), warning=warning or bool(self.kept.question))

    def _standing(self) -> str:
        """Return the words that stay in the last row: an open question, the texts of the marks at this place, the tour."""
        return " · ".join(filter(None, (self.kept.question, stops.texts_here(self), self.tour.words)))

    def failed(self, error: Exception, doing: str) -> None:
        """Show an error, and write a report if it is an internal one. `doing` is what failed, in words."""
        problem = problem_of(error, doing)
        if self.is_attached:  # otherwise the program is about to end
            self.say(problem, warning=True)

    @property
    def notice(self) -> Notice | None:
        """The session's notice about the last verb, None if there is none."""
        return self.session.outcome.notice

    def note(self, words: str) -> None:
        """Set the notice that is shown when the current verb ends. May be called in the thread of a run."""
        self.session.notice = words

    def note_if_not_stopped(self, words: str) -> None:
        """Add to the notice, unless a breakpoint or watch stopped the run."""
        if self.session.outcome.stopped_by is None:
            self.session.add_notice(words)

    def forget_notice(self) -> None:
        self.note("")

    def say_notice(self) -> None:
        """Show the session's notice, as a warning if it is one."""
        notice = self.notice or Notice("")
        self.say(notice.text, warning=notice.warning)

    def answer(self, words: str) -> None:
        """Show the answer of a verb, followed by the session's notice."""
        self.session.add_notice(words, first=True)
        self.say_notice()

    # Verbs

    async def action_verb(self, id: str) -> None:
        """Execute the verb of this id as its key does."""
        await self.press(BY_ID[id])

    async def press(self, verb: Verb) -> None:
        """Execute a verb as its key does, or open the `:` line if it needs arguments."""
        if verb.needs_arguments:
            await self.open_line(f"{verb.names[0]} ")
            return
        done = verb.do(self, NO_ARGUMENTS) if verb.press is None else verb.press(self)
        if inspect.isawaitable(done):
            await done

    def action_digit(self, digit: int) -> None:
        self.pending.digit(digit)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return None, which lets keys wait, if the action has to wait for the end of a run.

        A verb that does not apply now is executed, and says why it does nothing.
        """
        if action != "verb":
            return None if self.running and action != "digit" else super().check_action(action, parameters)
        return True if not self.running or BY_ID[str(parameters[0])].while_running else None

    def _applies(self, verb: Verb) -> bool:
        return verb.while_running if self.running else verb.applies(self)

    def _hints(self) -> list[Hint]:
        """Return the hints for the footer: the keys of the panel in focus, then those of the verbs offered in this run.

        Keys of the panel that have no word for the footer are in its border, as those of all overlays.
        """
        own = self._bindings_of_focus()
        hints = [
            Hint(binding.key_display or key_sign(binding.key), binding.description.lower(), enabled)
            for binding, enabled in own
            if binding.show
        ]
        taken = {key_sign(binding.key) for binding, _ in own}
        for verb in VERBS:
            sign = sign_of_key(self, verb.id) if verb.label else ""
            if verb.label and sign not in taken and verb.offered(self):
                hints.append(Hint(sign, self._label_of(verb), self._applies(verb), verb.rank))
        return hints

    def _bindings_of_focus(self) -> list[tuple[Binding, bool]]:
        """Return the bindings of the widget in focus and of its ancestors below this screen, and whether each is enabled."""
        if self.focused is None:
            return []
        own = [node for node in self.focused.ancestors_with_self if node is not self and isinstance(node, Widget)]
        return [(binding, enabled) for node, binding, enabled, _ in self.active_bindings.values() if node in own]

    def _label_of(self, verb: Verb) -> str:
        """Return the word beside a key in the footer; for the page verb, with the number of the page."""
        if verb.id != "page" or self.panels.pages == 1:
            return verb.label
        return f"{verb.label} {self.panels.page}/{self.panels.pages}"

    @property
    def _keys_waiting(self) -> int:
        return int(getattr(getattr(self.app, "keyboard", None), "waiting", 0))

    # The `:` line

    @property
    def in_use(self) -> Widget | None:
        """The widget in focus; while the `:` line is open, the one that had the focus before."""
        from tui_gru.tui.panels.typing.command_line import CommandLine

        return self._came_from if isinstance(self.focused, CommandLine) else self.focused

    async def open_line(self, text: str = "", value: str = "", rest: str = "") -> None:
        """Open the `:` line with `text`, then `value`, which is selected, then `rest`."""
        from tui_gru.tui.panels.typing.command_line import CommandLine  # imported late: not needed for the first screen

        if not isinstance(self.focused, CommandLine):
            self._came_from = self.focused
        self.say("")  # the line covers the last row of the message
        if not self.query(CommandLine):
            from tui_gru.tui.panels.typing.command_line import CompletionList
            from tui_gru.tui.verbs.line import complete

            listed = CompletionList()
            await self.mount(listed, CommandLine(partial(complete, self), listed))
            self.kept.recall_commands()
        self.query_one(CommandLine).open(text, value, rest)

    def on_command_line_entered(self, event: CommandLine.Entered) -> None:
        from tui_gru.tui.verbs.line import execute

        self.set_focus(self._came_from)
        self.say("")
        try:
            execute(self, event.command)
        except Exception as error:
            self.failed(error, f"the command {event.command!r}")
        self.kept.keep_command(event.command)

    def on_command_line_left(self) -> None:
        self.set_focus(self._came_from)

    # Keys and runs

    def on_key(self, event: events.Key) -> None:
        """Give a key to the tour and to what waits for one, before its binding is executed. Say so if it has none."""
        self.tour.take_key(event)
        if self.pending.take_key(event) or self.kept.take_key(event):
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

    # Messages of panels

    on_branch_list_chosen = branching.branch_chosen
    on_branches_apart_chosen = branching.apart_chosen
    on_check_report_entry_chosen = checking.entry_chosen
    on_check_report_every_batch = checking.every_batch_asked
    on_checked = checking.checked
    on_computing = checking.computing
    on_findings_list_chosen = analysing.finding_chosen
    on_influence_map_asked = analysing.influence_asked
    on_listing_gutter_chosen = stops.gutter_chosen
    on_listing_line_chosen = stepping.line_chosen
    on_loss_places_chosen = analysing.loss_place_chosen
    on_number_asked = explaining.number_asked
    on_stops_list_chosen = stops.stop_chosen
    on_time_line_sought = stepping.time_sought
    on_units_map_class_asked = analysing.units_class_asked
    on_units_map_place_asked = analysing.units_place_asked
    on_units_map_row_asked = analysing.units_row_asked
    on_what_if_panel_kept = explaining.what_if_kept
    on_what_if_panel_nudged = explaining.what_if_nudged

    def on_origin_panel_followed(self, event: OriginPanel.Followed) -> None:
        self.derivations.followed(event)

    def on_origin_panel_left(self) -> None:
        self.derivations.left()

    def on_origin_panel_opened(self, event: OriginPanel.Opened) -> None:
        self.derivations.opened(event)

    async def on_origin_panel_changes_asked(self, event: OriginPanel.ChangesAsked) -> None:
        await self.derivations.changes_asked(event)

    def on_origin_panel_copied(self, event: OriginPanel.Copied) -> None:
        self.derivations.copied(event)

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
