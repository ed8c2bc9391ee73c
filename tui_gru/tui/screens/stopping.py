"""A screen on which runs stop where one wants: breakpoints, watches, continue, matches of a condition, and marks to jump to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from textual import events
from textual.containers import Container

from tui_gru.debugger.program.position import as_typed
from tui_gru.debugger.program.typed import TypedError
from tui_gru.debugger.session.session import Session
from tui_gru.debugger.state.marks import Mark
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui import answers
from tui_gru.tui.key_signs import sign_of_key, with_keys
from tui_gru.tui.panels.listing import Listing, stops_on
from tui_gru.tui.panels.stop_signs import command_of, described, plain
from tui_gru.tui.screens.looking import LookingScreen
from tui_gru.tui.view import Shows

if TYPE_CHECKING:
    from tui_gru.tui.panels.stops_list import StopsList

#: What is said while a letter is waited for.
_LETTERS = {"mark": "a letter marks this place", "jump": "a letter jumps to its mark"}


class StoppingScreen(LookingScreen):
    """Subclasses also open the `:` line (`action_command`)."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._letter_for = ""
        self._ever_watching = False

    async def action_command(self, text: str) -> None:
        """Open the `:` line with `text`."""
        raise NotImplementedError

    # Breakpoints and watches

    def change_stops(self, change: Callable[[Session], object]) -> None:
        """Do something to the session's stops or marks, which takes no time, and show it. Raises `TuiGruError`."""
        if self.running:
            raise TuiGruError(with_keys(self, "a run is under way; <stop> stops it"))
        self.session.notice = ""
        change(self.session)
        self.show_now()

    def add_breakpoint(self, line: str = "", *, condition: str = "", hits: str = "", log: str = "") -> None:
        self.change_stops(lambda session: session.break_at(line, condition=condition, hits=hits, log=log))
        made = described(self.session.stops.breakpoints[-1], self.session.program)
        self.say(f"{made} · {sign_of_key(self, 'continue')} {'runs on, and it writes' if log else 'runs to it'}")

    def add_watch(self, expression: str, *, stops: bool) -> None:
        self.change_stops(lambda session: session.watch(expression, stops=stops))
        page = sign_of_key(self, "page")
        self.say(f"watching {expression}{f' · {page} turns to its page' if self._small else ''}")

    def change_stop(self, id: int, **changes: Any) -> None:
        self.change_stops(lambda session: session.change_stop(id, **changes))

    def delete_stop(self, id: int) -> None:
        """Delete a stop, and say how to have it back."""
        command = command_of(self.session.stops.get(id))
        self.change_stops(lambda session: session.delete_stop(id))
        self.say(f"deleted; made again by :{command}")

    def toggle_breakpoint(self, target: str) -> None:
        """A breakpoint on a line; a plain one that is there is deleted, and one that says more is shown in the list."""
        line = next(row.line for row in self.session.program.rows if row.line is not None and row.line.target == target)
        there = stops_on(self.snapshot, line)
        if not there:
            self.add_breakpoint(target)
        elif (bare := next(filter(plain, there), None)) is not None:
            self.delete_stop(bare.id)
        else:
            self.list_stops(at=there[0].id)
            what, to = described(there[0], self.session.program), "off" if there[0].enabled else "on"
            self.say(f"{what} · d deletes it, e edits it, space turns it {to}")

    def action_breakpoint(self) -> None:
        if self.snapshot.line is None:
            self.say(
                with_keys(self, "no line has been executed yet; <step.line> executes one, or click beside a line of the program"),
                warning=True,
            )
        else:
            self.toggle_breakpoint(self.snapshot.line.target)

    def on_listing_gutter_chosen(self, event: Listing.GutterChosen) -> None:
        if not self.running:
            self.toggle_breakpoint(event.line.target)

    # Runs that stop

    def action_not_finite(self) -> None:
        self.do(lambda progress: self.session.run_to_not_finite(progress=progress), batches=None)

    def action_continue(self, direction: int) -> None:
        """Run to the next stop. Where nothing could stop it, a run without an end is not begun: nobody could mean that."""
        stops = self.snapshot.stops
        settable = (*stops.breakpoints, *(watch for watch in stops.watches if watch.stops))
        why = "no breakpoints are set" if not settable else "nothing stopped it" if stops.active else "all breakpoints are off"
        if direction < 0:
            self._run_on(self.session.reverse_continue, f"came to the beginning; {why}")
        elif stops.active or self.snapshot.last is not None:
            self._run_on(self.session.continue_, f"came to the end; {why}")
        else:
            self.take_count()
            cure = "<breakpoint> sets one here, <command>break if loss < 0.5 one anywhere"
            if settable:
                cure = "<stops> lists them, to turn one on"
            self.say(with_keys(self, f"{why}, so nothing would stop this run · {cure}"), warning=True)

    def action_match(self, direction: int) -> None:
        way = "further on" if direction > 0 else "before"
        self._run_on(
            lambda progress: self.session.next_match(direction > 0, progress=progress),
            f"{self.session.last_condition!r} did not hold {way}",
            then=lambda: self._say_held(self.session.last_condition),
        )

    def _say_held(self, condition: str) -> None:
        """Say where a condition holds, unless there is something else to say: why the run ended elsewhere."""
        if not self.session.notice:
            self.answer(f"{condition} holds {answers.place(self.snapshot)}")

    def search(self, condition: str, *, forwards: bool, begins: int = 0) -> None:
        """Run until a condition holds, or back in time until it does. `begins` is where in what was typed it begins, from 0."""
        verb = self.session.run_until if forwards else self.session.run_back_until

        def run(progress: Any) -> None:
            try:
                held = verb(condition, progress=progress)
            except TypedError as error:
                raise error.moved(begins) from None
            if not held and self.session.outcome.stopped_by is None:
                self.session.add_notice(f"{str(condition)!r} did not hold {'on the way' if forwards else 'before'}")

        self.do(run, batches=None, then=lambda: self._say_held(condition))

    def _run_on(self, verb: Callable[[Any], bool], otherwise: str, then: Callable[[], None] | None = None) -> None:
        """Do it as often as was typed, while it stops at something; `otherwise` is said where it does not."""
        count = self.take_count()

        def run(progress: Any) -> None:
            # The session forgets an interrupt once a verb has ended, even one that had come to a stop by itself.
            interrupts = self.session.interrupts
            stopped = all(verb(progress) and self.session.interrupts == interrupts for _ in range(count))
            if not stopped and self.session.outcome.stopped_by is None:
                self.session.add_notice(otherwise)

        self.do(run, batches=None, then=then)

    # Marks: a key, and then a letter

    def action_letter(self, purpose: str) -> None:
        """Wait for the letter of a mark to set or to jump to."""
        self.take_count()
        self._letter_for = purpose
        message = _LETTERS[purpose]
        if purpose == "jump":
            marks = " ".join(mark.letter for mark in self.snapshot.marks)
            message = f"{message}{f' ({marks})' if marks else '; none is set yet'} · ' to where one was"
        self.show_prefix(sign_of_key(self, purpose))
        self.say(f"{message} · {sign_of_key(self, 'stop')} forgets")

    def show_prefix(self, prefix: str) -> None:
        """Show what has been typed of a verb that needs more."""
        raise NotImplementedError

    def on_key(self, event: events.Key) -> None:
        """The letter that is waited for, whatever else the key does."""
        purpose, self._letter_for = self._letter_for, ""
        if not purpose:
            return
        self.show_prefix("")
        self.say("")
        if event.key == "escape" or event.is_printable:
            event.stop()
            event.prevent_default()
        if event.is_printable and event.character is not None:
            (self.mark if purpose == "mark" else self.jump)(event.character)

    def mark(self, letter: str) -> None:
        """Mark this place. Raises `TuiGruError`."""
        self.change_stops(lambda session: session.mark(letter))
        self.say(f"{letter} marks {as_typed(self.session.position)}")

    def jump(self, letter: str) -> None:
        """Go to the place of a mark, or with `'` to where one was before the last jump; and say where that is."""
        before = self.snapshot

        def say() -> None:
            if self.session.outcome.stopped_by is None:
                self.answer(answers.place(self.snapshot) + answers.branched(before, self.snapshot))

        self.do(lambda progress: self.session.jump(letter, progress=progress), batches=self.session.batches_to(), then=say)

    def delete_mark(self, letter: str) -> None:
        self.change_stops(lambda session: session.delete_mark(letter))

    # The list, and the panels

    def action_stops(self) -> None:
        self.list_stops()

    def list_stops(self, *, marks: bool = False, at: int | str | None = None) -> None:
        """Lay the list of breakpoints, watches and marks over the blackboard."""
        from tui_gru.tui.panels.stops_list import StopsList  # late, as all that the first picture does not need

        if marks:
            at = next((mark.letter for mark in self.snapshot.marks), None)
        self.cover(StopsList(at=at))

    async def on_stops_list_chosen(self, event: StopsList.Chosen) -> None:
        entry = event.entry
        if event.verb == "deleted":
            self.delete_mark(entry.letter) if isinstance(entry, Mark) else self.delete_stop(entry.id)
        elif isinstance(entry, Mark):
            if event.verb == "opened":
                self.jump(entry.letter)
        elif event.verb == "toggled":
            self.change_stop(entry.id, enabled=not entry.enabled)
        else:
            await self.action_command(command_of(entry, id=True))

    def stop_panels(self) -> Iterator[Shows]:
        """The panels of watches and of the log, made when there is first something in them, and hidden when there no longer is."""
        snapshot = self.snapshot
        watches = any(watch.enabled for watch in snapshot.stops.watches)
        logs = bool(snapshot.log) or any(stop.log for stop in snapshot.stops.breakpoints)
        if not (watches or logs or self._ever_watching):
            return
        from tui_gru.tui.panels.log import Log  # late, too
        from tui_gru.tui.panels.watches import Watches

        self._ever_watching = True
        kinds: tuple[tuple[type[Watches] | type[Log], bool], ...] = ((Watches, watches), (Log, logs))
        for kind, needed in kinds:
            panel = next(iter(self.query(kind)), None)
            if panel is None and needed:
                panel = kind()
                self.query_one("#program", Container).mount(panel, after=0 if kind is Watches else -1)
            if panel is not None:
                panel.set_class(not needed, "-empty")
                yield panel
        self.set_class(watches or logs, "-watching")
        if self.page > self.pages:  # there was a page for them alone
            self.turn_to(1)

    @property
    def _small(self) -> bool:
        return self.has_class("-narrow") or self.has_class("-tiny")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None dims a key that does not apply now."""
        if action == "match":
            return True if self.session.last_condition else None
        return super().check_action(action, parameters)
