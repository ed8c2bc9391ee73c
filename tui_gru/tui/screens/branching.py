"""A screen with branches: a list of them, to go to one, to rename it, and to delete it when that was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual import events

from tui_gru.debugger.session.session import Session
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui import answers
from tui_gru.tui.screens.looking import LookingScreen

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.branches_apart import Apart
    from tui_gru.tui.panels.branch_list import BranchList
    from tui_gru.tui.panels.branches_apart import BranchesApart


class BranchingScreen(LookingScreen):
    """Subclasses open the `:` line with a command begun (`action_command`)."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._doomed = ""  # a branch that is to be deleted if the next key says so

    def go(self, place: str | int) -> None:
        """Go to a place in time."""
        raise NotImplementedError

    async def action_command(self, text: str) -> None:
        """Begin a command."""
        raise NotImplementedError

    async def action_branches(self) -> None:
        """The list of branches, or, where that is shown, what it covers."""
        from tui_gru.tui.panels.branch_list import BranchList  # late, as all that the first picture does not need

        if isinstance(self.overlay, BranchList):
            self.lift()
        else:
            await self.lay(BranchList())

    def show_apart(self, name: str) -> None:
        """Lay over the blackboard how this branch and another differ; with the empty name, the one compared with or the nearest."""
        found: list[Apart] = []

        def compare(progress: Any) -> None:
            found.append(self.session.apart(name, progress=progress))

        self.do(compare, batches=None, then=lambda: self._cover_apart(found[0]), opens=True)

    def _cover_apart(self, apart: Apart) -> None:
        from tui_gru.tui.panels.branches_apart import BranchesApart  # late, too

        self.cover(BranchesApart(apart, self.session.program))

    def on_branches_apart_chosen(self, event: BranchesApart.Chosen) -> None:
        self.lift()
        self.go(event.tick)

    def switch(self, branch: str) -> None:
        """Go to another branch."""

        def say() -> None:
            self.answer(f"on branch {self.snapshot.branch} · {answers.place(self.snapshot)}")

        self.do(lambda _: self.session.switch(branch), batches=self.session.batches_to(), then=say)

    def rename(self, old: str, new: str) -> None:
        """Give a branch another name."""
        self.do(lambda _: self.session.rename_branch(old, new), then=lambda: self.answer(f"{old} is {new} now"))

    def ask_to_delete(self, name: str) -> None:
        """Ask whether a branch is to go; the next key is the answer. Raises `TuiGruError` where it cannot."""
        if self.running:
            return
        fork = next((fork for fork in self.snapshot.forks if fork.name == name), None)
        if fork is None:
            raise TuiGruError(f"there is no branch {name!r}; there are: {', '.join(self.snapshot.branches)}")
        if name == self.snapshot.branch:
            raise TuiGruError(f"you are on {name}, so it cannot be deleted; switch to another branch first")
        program = self.snapshot.program
        batches = max(fork.newest - 1, 0) // program.ticks - max(fork.tick - 1, 0) // program.ticks
        what = {0: "its part of a batch", 1: "its batch"}.get(batches, f"its {batches:,} batches")
        self.pause()
        self.say(f"delete {name} with {what}, for good? y/n", warning=True)
        self._doomed = name

    @property
    def asking(self) -> bool:
        """Whether the next key is an answer."""
        return bool(self._doomed)

    def withdraw(self) -> bool:
        """Ask no longer, if something was asked. Whether it was."""
        name, self._doomed = self._doomed, ""
        if name:
            self.say(f"{name} stays")
        return bool(name)

    async def on_branch_list_chosen(self, event: BranchList.Chosen) -> None:
        if event.verb == "switch":
            self.switch(event.name)
        elif event.verb == "apart":
            self.show_apart("" if event.name == self.snapshot.branch else event.name)
        elif event.verb == "rename":
            await self.action_command(f"rename {event.name} ")
        else:
            self.ask_to_delete(event.name)

    def on_key(self, event: events.Key) -> None:
        """The answer to what was asked; any key but y is no."""
        name = self._doomed
        if not name:
            return
        event.stop()
        event.prevent_default()
        self.withdraw()
        if event.key == "y":

            def delete(_: object) -> None:
                self.session.delete_branch(name)
                self.session.notice = f"{name} is deleted"

            self.do(delete)
