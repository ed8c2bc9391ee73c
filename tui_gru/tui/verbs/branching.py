"""Verbs of branches: list, switch, rename, delete, and compare two."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tui_gru.debugger.program.position import position_of
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui import answers
from tui_gru.tui.verbs.stepping import go_to
from tui_gru.tui.verbs.verb import Arguments, sign_of_key

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.branches_apart import BranchComparison
    from tui_gru.debugger.program.line_table import Program
    from tui_gru.debugger.timeline.branches import BranchInfo
    from tui_gru.tui.panels.lists.branch_list import BranchList
    from tui_gru.tui.panels.lists.branches_apart import BranchesApart
    from tui_gru.tui.screens.main import MainScreen


def branches(screen: MainScreen, rest: Arguments) -> None:
    """Show the list of branches, or hide it if it is shown."""
    from tui_gru.tui.panels.lists.branch_list import BranchList  # imported late: not needed for the first screen

    screen.overlays.toggle(BranchList)


def known(screen: MainScreen, name: str) -> str:
    """Return the name of a branch. Raises `TuiGruError`, with similar names, if there is no such branch."""
    from tui_gru.equations.errors import did_you_mean

    if name not in screen.snapshot.branches:
        raise TuiGruError(f"there is no branch {name!r}; {did_you_mean(name, screen.snapshot.branches)}")
    return str(name)


def switch(screen: MainScreen, rest: Arguments) -> None:
    """Go to another branch."""
    name = known(screen, rest)

    def say(_: object) -> None:
        screen.answer(f"on branch {screen.snapshot.branch} · {answers.place_in_words(screen.snapshot)}")

    screen.do(lambda _: screen.session.switch(name), batches=screen.session.batches_to(), then=say)


def rename(screen: MainScreen, rest: Arguments) -> None:
    """Rename a branch: `OLD NEW`."""
    names = rest.split()
    if len(names) != 2:
        raise TuiGruError(f"rename takes two words, a branch and its new name, not {str(rest)!r}; for example rename main~1 warmer")
    known(screen, names[0])
    old, new = names
    screen.do(lambda _: screen.session.rename_branch(old, new), then=lambda _: screen.answer(f"renamed {old} to {new}"))


def delete_branch(screen: MainScreen, rest: Arguments) -> None:
    """Ask whether to delete a branch; the next key is the answer. Raises `TuiGruError` if the branch cannot be deleted."""
    if screen.running:
        return
    name, snapshot = known(screen, rest), screen.snapshot
    fork = next(fork for fork in snapshot.forks if fork.name == name)
    if name == snapshot.branch:
        raise TuiGruError(f"{name} is the current branch and cannot be deleted; switch to another branch first")
    screen.play.pause()
    screen.say(f"delete {name} with {_own_batches(snapshot.program, fork)}? This cannot be undone. y/n", warning=True)
    screen.pending.ask(lambda: _delete(screen, name), otherwise=f"{name} is not deleted")


def _own_batches(program: Program, fork: BranchInfo) -> str:
    """Say how many batches a branch has that its source does not have, each of them whole or in part."""
    if fork.newest == fork.tick:
        return "nothing run on it"
    first, last = position_of(program, fork.tick + 1), position_of(program, fork.newest)
    batches = last.number - first.number + 1
    whole = first.offset == 1 and last.offset == program.ticks
    return f"its {batches:,} batches" if batches > 1 else "its batch" if whole else "its part of a batch"


def _delete(screen: MainScreen, name: str) -> None:
    def delete_branch(_: object) -> None:
        screen.session.delete_branch(name)
        screen.note(f"{name} is deleted")

    screen.do(delete_branch)


async def branch_chosen(screen: MainScreen, event: BranchList.Chosen) -> None:
    if event.verb == "switch":
        switch(screen, Arguments(event.name))
    elif event.verb == "apart":
        show_apart(screen, "" if event.name == screen.snapshot.branch else event.name)
    elif event.verb == "rename":
        await screen.open_line(f"rename {event.name} ")
    else:
        delete_branch(screen, Arguments(event.name))


# Comparing


def compare(screen: MainScreen, rest: Arguments) -> None:
    """Compare with a branch, by default the nearest; `off` ends the comparison."""
    compare_with(screen, None if rest == "off" else known(screen, rest) if rest else "")


def compare_with(screen: MainScreen, name: str | None) -> None:
    """Compare with the branch `name`, or with the nearest if `name` is empty; None ends the comparison."""

    def compare(_: object) -> BranchComparison | None:
        other = screen.session.compare(name)
        screen.view = replace(screen.view, differences=True)
        return None if other is None else screen.session.apart(other)

    def say(apart: BranchComparison | None) -> None:
        compared = screen.snapshot.other
        if apart is None or compared is None:
            screen.say("compared with no other branch")
        elif compared.moment is None:
            screen.say(f"{compared.name} has not reached this batch, so only the losses can be compared")
        else:
            first, key = _first_of(apart, screen.session.program), sign_of_key(screen, "compare")
            minus = f"{screen.session.branch} minus {compared.name} in matrices"
            screen.say(f"{minus} · {first} · both losses in the curve · {key} shows values · :apart says more")

    screen.do(compare, then=say)


def _first_of(apart: BranchComparison, program: Program) -> str:
    """Describe where two branches first differ."""
    from tui_gru.debugger.program.naming import spoken
    from tui_gru.tui.widgets.plots.time_scale import place_name

    first = apart.first
    if first is None:
        return "no difference up to where both have been run"
    if first.entry is None:
        return f"first differ at {place_name(position_of(program, first.batch * program.ticks + 1))}, where only one of them learns"
    entry = first.entry
    return f"first differ at {place_name(position_of(program, entry.tick))}: {spoken(program, entry.name, entry.index)}"


def press_compare(screen: MainScreen) -> None:
    """Switch to the next state: differences; values of this branch with both loss curves; no comparison."""
    if screen.session.comparing is None:
        compare_with(screen, "")
    elif screen.view.differences:
        screen.look(replace(screen.view, differences=False))
        shown = f"values of {screen.session.branch} in matrices · both losses in the curve"
        screen.say(f"{shown} · {sign_of_key(screen, 'compare')} ends the comparison")
    else:
        compare_with(screen, None)


def apart(screen: MainScreen, rest: Arguments) -> None:
    """Show how this branch and another differ, by default the one it is compared with or the nearest."""
    show_apart(screen, known(screen, rest) if rest else "")


def show_apart(screen: MainScreen, name: str) -> None:
    def show(apart: BranchComparison) -> None:
        from tui_gru.tui.panels.lists.branches_apart import BranchesApart  # imported late: not needed for the first screen

        screen.overlays.cover(BranchesApart(apart, screen.session.program))

    screen.do(lambda progress: screen.session.apart(name, progress=progress), batches=None, then=show, opens=True)


def apart_chosen(screen: MainScreen, event: BranchesApart.Chosen) -> None:
    screen.overlays.lift()
    go_to(screen, event.tick)
