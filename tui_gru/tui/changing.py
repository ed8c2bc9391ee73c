"""Verbs that change something: the run, its branches, its stops, or files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_gru.debugger.expressions import compile_expression, in_screen_spelling
from tui_gru.debugger.position import (
    Reader,
    TypedError,
    as_typed,
    is_number,
    place_name,
    position_of,
    shortened_input,
    whole_number,
)
from tui_gru.debugger.possible import refuse_impossible
from tui_gru.debugger.program import Program, in_line, spoken
from tui_gru.debugger.state import Mark
from tui_gru.debugger.stops import Breakpoint, HitCount, LogPoint, Watch, command_of, described, is_plain
from tui_gru.engine.config import SAMPLERS, TUTORIAL_TEXT, Sampler, first_word
from tui_gru.engine.numbers import counted
from tui_gru.equations.syntax import did_you_mean
from tui_gru.errors import TuiGruError
from tui_gru.paths import is_permitted, permitted
from tui_gru.session import answers
from tui_gru.session.answers import place_in_words
from tui_gru.tui import looking, panels
from tui_gru.tui.keys import Arguments, Step, example, sign_of_key, with_keys
from tui_gru.tui.moving import go_to, jump_to, run_on, split_names, without_learning

if TYPE_CHECKING:
    from tui_gru.analysis.report import RunComparison
    from tui_gru.analysis.what_if import BranchComparison
    from tui_gru.debugger.edits import JournalEntry
    from tui_gru.debugger.timeline import BranchInfo
    from tui_gru.engine.sampling import NextChances, Sample
    from tui_gru.session.session import Session
    from tui_gru.tui.panels.lists import StopOrMark
    from tui_gru.tui.screen import MainScreen

# ------------------------------------------------------------------------------
# Verbs that change the run: learning, SGD steps, edits, undo, redo; and the verb that samples text.


SMALL_RECORD = 2**18  # bytes; up to this size of a batch, findings are searched in the UI thread
FEW_STEPS = 200  # steps of sampling (one character each); up to this number, sampling runs in the UI thread
SAMPLE_LENGTH, SAMPLE_TEMPERATURE = 120, 0.5  # of a text of one's own: long enough for words, cold enough to spell them


def sgd(screen: MainScreen, rest: Arguments) -> None:
    count, before = screen.pending.take_count(), screen.snapshot

    def say(_: object) -> None:
        if screen.snapshot.position != before.position and screen.notice is None:
            screen.answer(answers.largest_change(screen.snapshot) + answers.branched(before, screen.snapshot))

    screen.do(partial(screen.session.sgd, count), batches=count, then=say)


def learning(screen: MainScreen, rest: Arguments) -> None:
    """Turn learning `on` or `off`; toggle it without an argument."""
    if rest not in ("", "on", "off"):
        raise TuiGruError(f"learning takes on or off, not {str(rest)!r}")
    before = screen.snapshot
    value = {"on": True, "off": False}.get(rest, not before.settings.learning)
    words = "on: batches end with backward and update" if value else "off: batches end with the loss"

    def say(_: object) -> None:
        screen.answer(f"learning {words}{answers.branched(before, screen.snapshot)}")

    screen.do(lambda progress: setattr(screen.session, "learning", value), then=say)


def set_value(screen: MainScreen, rest: Arguments) -> None:
    """Set a weight, a state, a rate, or a character of the text: `NAME[INDEX] VALUE`; or the theme."""
    from tui_gru.session.session import ALIASES

    if rest.split(maxsplit=1)[:1] == ["theme"]:
        looking.theme(screen, Arguments(rest.partition("theme")[2].strip()))
        return
    program, before, last = screen.session.program, screen.snapshot, screen.session.state.branches.last_change
    reader = Reader(rest, example(program, "$W[0,1] 0.5, $h[0,1] 0.5, learning_rate 0.1, or text[3] a"))
    typed, index = reader.entry(program)
    if len(reader.left) > 1:
        reader.take("=")
    value: str | float
    if typed == "text":
        value = reader.character(screen.session.program.spellings.tokens)
    else:
        value = reader.number(typed)
        reader.end()
    name = ALIASES.get(typed, program.code_name(typed))

    def say(_: object) -> None:
        if screen.session.state.branches.last_change is not last:  # otherwise the notice says that nothing has changed
            screen.answer(answers.edited(name, index or (), before, screen.snapshot) + answers.branched(before, screen.snapshot))
            _show_changed(screen, name)

    screen.do(lambda progress: screen.session.edit(name, index, value), then=say)


def _show_changed(screen: MainScreen, name: str) -> None:
    """Turn to the page of the panel that shows a name that was changed."""
    named = screen.session.program.names.get(name)
    if name == "text":
        screen.show_page_of("Sequence")
    elif named is not None:
        screen.show_page_of("WeightsPanel" if named.kind.per_batch else "Gates")


def undo(screen: MainScreen, rest: Arguments) -> None:
    _restore(screen, "undo", screen.session.state.branches.last_change, screen.session.undo)


def redo(screen: MainScreen, rest: Arguments) -> None:
    _restore(screen, "redo", screen.session.state.branches.next_change, screen.session.redo)


def _restore(screen: MainScreen, name: str, change: JournalEntry | None, verb: Callable[[], bool]) -> None:
    """Undo or redo a change, and show which change it was and which place it led to."""
    before = screen.snapshot

    def say(_: object) -> None:
        if change is None:
            screen.answer(f"there is no change to {name}")
        else:
            words = f"{'undid' if name == 'undo' else 'redid'} {answers.change(change, before.program)}"
            words += answers.setting(change, screen.snapshot)
            if name == "undo":
                words += f" · {sign_of_key(screen, 'redo')} restores it{_batches_redone(screen)}"
            screen.answer(words + answers.branched(before, screen.snapshot) + answers.new_place(before, screen.snapshot))
            _show_changed(screen, change.name)

    screen.do(lambda progress: verb(), batches=screen.session.batches_to(), then=say)


def _batches_redone(screen: MainScreen) -> str:
    """Say how many batches, run after the change that was just undone, redo brings back with it; empty if there are none."""
    undone = screen.session.state.branches.undone
    if not undone or undone[-1].other is None:
        return ""
    program, change, branch = screen.session.program, undone[-1], undone[-1].other
    after = -((change.tick - branch.newest) // program.ticks)
    if after <= 0:
        return ""
    epochs, rest = divmod(after, program.num_batches)
    count, unit = (epochs, "epoch") if epochs and not rest else (after, "batch")
    return f" with the {counted(count, unit)} after it"


# Samples


def show_sample(screen: MainScreen, rest: Arguments) -> None:
    """Sample text: `[PRIMER] [LENGTH] [TEMPERATURE] [SAMPLER]`, in any order.

    The name of a sampler is the sampler, a whole number the length, another number the temperature, any other word the primer.
    """
    if _names_a_number(screen.session.program, rest):  # p and print of gdb
        explain = screen.verbs["explain"].do
        assert not isinstance(explain, Step)
        explain(screen, rest)
        return
    reader = Reader(rest, "sample Ma 10 0.8 tutorial")
    primer, sampler, length, temperature = None, None, None, None
    while reader.left:
        word = reader.next_word
        named = next((candidate for candidate in SAMPLERS if candidate == word), None)
        number = is_number(word) and (word[0] in "0123456789." or primer is not None)  # a text may contain -1 and nan
        if number and length is None and word.isdecimal():
            length = reader.integer("a length")
        elif number and temperature is None:
            temperature = reader.number("a temperature")
        elif sampler is None and named is not None:
            reader.word()
            sampler = named
        elif primer is None:
            primer = reader.word()
        else:
            raise reader.error(f"sample takes a primer, a length, a temperature and a sampler, not also {shortened_input(word)}")
    config, text = screen.snapshot.config, screen.snapshot.corpus.text
    is_tutorial = config.text == TUTORIAL_TEXT
    usual_length, usual_temperature = (10, 1.0) if is_tutorial else (SAMPLE_LENGTH, SAMPLE_TEMPERATURE)
    draw_sample(
        screen,
        primer=primer or config.as_string(text[:2] if is_tutorial else first_word(text)),
        length=usual_length if length is None else length,
        temperature=usual_temperature if temperature is None else temperature,
        sampler=sampler,
    )


def predict(screen: MainScreen, rest: Arguments) -> None:
    """Show the probabilities of what comes after a text, typed as it is or in quotes."""
    text = str(rest)
    if len(text) > 2 and (text[0], text[-1]) in (("“", "”"), ('"', '"'), ("'", "'")):
        text = text[1:-1]

    def show(prediction: NextChances) -> None:
        screen.overlays.cover(panels.influence.NextCharacter(prediction), of_this_moment=True)

    screen.do(lambda progress: screen.session.predict(text), batches=0, then=show, opens=True)


def _names_a_number(program: Program, typed: str) -> bool:
    """Return True for a name with an index, or the longer name of one number such as the loss, which no text to continue is."""
    name, bracket, _ = typed.partition("[")
    code = program.code_name(name.strip())
    return code in program.names and (
        bool(bracket) or (len(code) > 1 and not program.names[code].axes and not set(typed) <= set(program.indices))
    )


def draw_sample(screen: MainScreen, *, primer: str, length: int, temperature: float, sampler: Sampler | None) -> None:
    """Sample text with a new seed; without a sampler, on the tutorial's text with both, so that they can be compared, on another
    fed back: a sampler that does not read what it says is the tutorial's alone."""
    session = screen.session
    both = SAMPLERS if session.config.text == TUTORIAL_TEXT else SAMPLERS[:1]
    samplers = (sampler,) if sampler else both
    seed = 1 + max((sample.seed for sample in session.samples), default=-1)

    def draw(progress: Any) -> Sequence[Sample]:
        drawn: list[Sample] = []
        for kind in samplers:
            text = session.sample(primer, length, sampler=kind, temperature=temperature, seed=seed, progress=progress)
            if len(text) < len(primer) + length:  # it was interrupted
                return drawn
            drawn.append(session.samples[-1])
        with suppress(TuiGruError):  # it was interrupted
            session.findings()
        return drawn

    quick = (length + 1) * len(primer) * len(samplers) <= FEW_STEPS and session.config.record_bytes <= SMALL_RECORD
    screen.do(draw, batches=0 if quick else None, then=lambda _: _say_sample(screen))


def _say_sample(screen: MainScreen) -> None:
    """Show the new samples in the message line, and turn to the page of their panel."""
    samples = screen.snapshot.state.samples
    newest = samples[-1]
    drawn = [sample for sample in samples[-len(SAMPLERS) :] if (sample.seed, sample.tick) == (newest.seed, newest.tick)]
    words = [f"{sample.sampler} “{''.join(map(in_line, sample.text))}”" for sample in drawn]
    screen.show_page_of("Samples")
    screen.answer(" · ".join(words))


# ------------------------------------------------------------------------------
# Verbs of branches: list, switch, rename, delete, and compare two.


def branches(screen: MainScreen, rest: Arguments) -> None:
    """Show the list of branches, or hide it if it is shown; with a name, go to that branch."""
    if rest:
        switch(screen, rest)
        return
    screen.overlays.toggle(panels.lists.BranchList)


def branch_named(screen: MainScreen, name: str) -> str:
    """Return the name of a branch. Raises `TuiGruError`, with similar names, if there is no such branch."""
    if name not in screen.snapshot.state.branches.names:
        raise TuiGruError(f"there is no branch {name!r}; {did_you_mean(name, screen.snapshot.state.branches.names)}")
    return str(name)


def switch(screen: MainScreen, rest: Arguments) -> None:
    """Go to another branch."""
    name = branch_named(screen, rest)

    def say(_: object) -> None:
        screen.answer(f"on branch {screen.snapshot.state.branch} · {place_in_words(screen.snapshot)}")

    screen.do(lambda progress: screen.session.switch(name), batches=screen.session.batches_to(), then=say)


def rename(screen: MainScreen, rest: Arguments) -> None:
    """Rename a branch: `OLD NEW`."""
    names = rest.split()
    if len(names) != 2:
        raise TuiGruError(f"rename takes two words, a branch and its new name, not {str(rest)!r}; for example rename main~1 warmer")
    branch_named(screen, names[0])
    old, new = names
    screen.do(lambda progress: screen.session.rename_branch(old, new), then=lambda _: screen.answer(f"renamed {old} to {new}"))


def delete_branch(screen: MainScreen, rest: Arguments) -> None:
    """Ask whether to delete a branch; the next key is the answer. Raises `TuiGruError` if the branch cannot be deleted."""
    if screen.running:
        return
    name, snapshot = branch_named(screen, rest), screen.snapshot
    fork = next(fork for fork in snapshot.forks if fork.name == name)
    if name == snapshot.state.branch:
        raise TuiGruError(f"{name} is the current branch and cannot be deleted; switch to another branch first")
    screen.play.pause()
    screen.say(f"delete {name} with {_own_batches(snapshot.program, fork)}? This cannot be undone. y/n", warning=True)

    def delete(progress: object) -> None:
        screen.session.delete_branch(name)
        screen.note(f"{name} is deleted")

    screen.pending.ask(lambda: screen.do(delete), otherwise=f"{name} is not deleted")


def _own_batches(program: Program, fork: BranchInfo) -> str:
    """Say how many batches a branch has that its source does not have, each of them whole or in part."""
    if fork.newest == fork.tick:
        return "nothing run on it"
    first, last = position_of(program, fork.tick + 1), position_of(program, fork.newest)
    batches = last.number - first.number + 1
    is_complete = first.offset == 1 and last.offset == program.ticks
    return f"its {batches:,} batches" if batches > 1 else "its batch" if is_complete else "its part of a batch"


async def branch_chosen(screen: MainScreen, verb: str, name: str) -> None:
    """Execute a verb with a branch of the list: `switch`, `apart`, `rename` or `delete`."""
    if verb == "switch":
        switch(screen, Arguments(name))
    elif verb == "apart":
        show_apart(screen, "" if name == screen.snapshot.state.branch else name)
    elif verb == "rename":
        await screen.open_line(f"rename {name} ")
    else:
        delete_branch(screen, Arguments(name))


# Comparing


def compare_runs(screen: MainScreen, rest: Arguments) -> None:
    """Compare with a branch, by default the nearest, or with another run: a session by name or file, a recording by its folder.

    `off` ends the comparison with a branch.
    """
    if rest and rest != "off" and rest not in screen.snapshot.state.branches.names and (path := _run_at(rest)) is not None:
        compare_with_run(screen, path)
    else:
        compare_with(screen, None if rest == "off" else branch_named(screen, rest) if rest else "")


def _run_at(name: Arguments) -> Path | None:
    """Return the file of a session, or the folder of a recording; None if there is neither."""
    from tui_gru.capture.format import holds_a_recording
    from tui_gru.storage import store as library

    with suppress(OSError, ValueError):  # such as a name that is too long for a file, or has a null byte
        path = permitted(name) if is_permitted(name) else None
        if path is not None and path.is_dir():
            return path if holds_a_recording(path) else None
        session_file = library.find_session(str(name))
        return session_file if session_file.exists() else None
    return None


def compare_with_run(screen: MainScreen, path: Path) -> None:
    """Compare this run with that of a session or a recording, which is read and not changed."""

    def compare(progress: Any) -> RunComparison:
        from tui_gru.session.opening import to_read

        with closing(to_read(path)) as other:
            return screen.session.compared(other, ("this run", path.stem), progress=progress)

    def show(compared: RunComparison) -> None:
        screen.overlays.cover(panels.story.RunsCompared(compared))

    screen.do(compare, batches=None, then=show, opens=True)


def compare_with(screen: MainScreen, name: str | None) -> None:
    """Compare with the branch `name`, or with the nearest if `name` is empty; None ends the comparison."""

    def compare(progress: object) -> BranchComparison | None:
        other = screen.session.compare(name)
        screen.view = replace(screen.view, differences=True)
        return None if other is None else screen.session.apart(other)

    def say(comparison: BranchComparison | None) -> None:
        compared = screen.snapshot.other
        if comparison is None or compared is None:
            screen.say("compared with no other branch")
        elif compared.moment is None:
            screen.say(f"{compared.name} has not reached this batch, so only the losses can be compared")
        else:
            first, key = _first_of(comparison, screen.session.program), sign_of_key(screen, "compare")
            minus = f"{screen.session.branch} minus {compared.name} in matrices"
            screen.say(f"{minus} · {first} · both losses in the curve · {key} shows values")

    screen.do(compare, then=say)


def _first_of(comparison: BranchComparison, program: Program) -> str:
    """Describe where two branches first differ."""
    first = comparison.first
    if first is None:
        return "no difference up to where both have been run"
    if first.entry is None:
        return f"first differ at {place_name(position_of(program, first.batch * program.ticks + 1))}, where only one of them learns"
    entry = first.entry
    return f"first differ at {place_name(position_of(program, entry.tick))}: {spoken(program, entry.name, entry.index)}"


def press_compare(screen: MainScreen) -> None:
    """Switch to the next state: differences; values of this branch with both loss curves; where the two first differ; no
    comparison."""
    key = sign_of_key(screen, "compare")
    if screen.session.state.comparing is None:
        compare_with(screen, "")
    elif screen.view.differences:
        screen.set_view(replace(screen.view, differences=False))
        shown = f"values of {screen.session.branch} in matrices · both losses in the curve"
        screen.say(f"{shown} · {key} shows where they first differ")
    elif not (isinstance(screen.overlay, panels.lists.BranchesApart) or screen.overlays.expecting):
        show_apart(screen, "")
    else:
        if screen.overlay is not None:
            screen.overlays.lift()
        compare_with(screen, None)


def branches_apart(screen: MainScreen, rest: Arguments) -> None:
    """Show how this branch and another differ, by default the one it is compared with or the nearest."""
    show_apart(screen, branch_named(screen, rest) if rest else "")


def show_apart(screen: MainScreen, name: str) -> None:
    def show(comparison: BranchComparison) -> None:
        screen.overlays.cover(panels.lists.BranchesApart(comparison, screen.session.program))

    screen.do(partial(screen.session.apart, name), batches=None, then=show, opens=True)


def apart_chosen(screen: MainScreen, tick: int) -> None:
    screen.overlays.lift()
    go_to(screen, tick)


# ------------------------------------------------------------------------------
# Verbs that read and write files: save, open, export, and read a model file in another convention.


def save_session(screen: MainScreen, rest: Arguments, *, overwrite: bool = False) -> None:
    """Write the session to a file. Where it is recorded does not change.

    If the file exists, is not one of this session, and `overwrite` is False, ask; where nobody could answer, raise `TuiGruError`.
    """
    name = _named(rest, "save walk")
    if not overwrite and screen.is_watched:
        from tui_gru.storage import store as library

        path = library.session_path(name)
        if os.path.exists(path) and not screen.session.recorder.owns(path):
            _ask_to_overwrite(screen, path, partial(save_session, screen, rest, overwrite=True))
            return

    def save(progress: object) -> None:
        from tui_gru.storage.store import session_path

        path, session = session_path(name), screen.session
        if not overwrite and os.path.exists(path) and not session.recorder.owns(path):
            raise TuiGruError(f"{path} exists and is left as it is; name another, or overwrite it with save! {name}")
        session.save(path)
        is_recorded = screen.session.recorder.records_to(path)
        screen.note(f"saved to {path}" if is_recorded else f"saved to {path}; `open {name}` opens it")

    screen.do(save, batches=None)


def _ask_to_overwrite(screen: MainScreen, path: Path, overwrite: Callable[[], None]) -> None:
    screen.say(f"{path} exists. Overwrite it? y/n", warning=True)
    screen.pending.ask(overwrite, otherwise=f"{path} is left as it is")


def open_(screen: MainScreen, rest: Arguments) -> None:
    """Replace this session by that of a file, or by a copy of it: `NAME [copy]`."""
    name, _, last = rest.rpartition(" ")
    copy = last == "copy" and bool(name.strip()) and not (is_permitted(rest) and permitted(rest).exists())
    name = _named(name.strip() if copy else rest, "open walk")
    if screen.session.recorder.undecided:
        raise TuiGruError("this session has changes that are not recorded yet; answer first where to record them")

    def open_(progress: object) -> None:
        session = _opened(screen, name, copy)
        if session is not screen.session:
            screen.session.close()
            screen.session = session

    screen.do(open_, batches=None)


def _opened(screen: MainScreen, name: str, copy: bool) -> Session:
    """Return the session of a name or path. Raises `TuiGruError` if it cannot be opened; the current session stays open then."""
    from tui_gru.session import opening
    from tui_gru.storage import store as library
    from tui_gru.storage.file import SessionInUseError

    path, now = library.find_session(name), screen.session
    if not copy and now.recorder.records_to(path):
        screen.note(f"{path} is the session that is open here")
        return now
    try:
        return opening.copied(path) if copy else opening.open_session(path)
    except SessionInUseError:
        raise TuiGruError(f"{path} is open in another tui-gru; `open {name} copy` opens a copy of it") from None


def _named(rest: str, usage: str) -> str:
    """Return the name of a session, or a path. Raises `TuiGruError`, with an example, if there is none."""
    if not rest:
        raise TuiGruError(f"type a name or a file, for example {usage}")
    return str(rest)


def next_convention(screen: MainScreen, rest: Arguments) -> None:
    """Read the model file in the next convention; the position does not change."""

    def read(progress: object) -> None:
        from tui_gru.session.opening import other_reading

        screen.session = other_reading(screen.session)

    screen.do(read, batches=None)


def module(screen: MainScreen, rest: Arguments) -> None:
    """Show the module called `NAME` of the same batch or recording, by default the next one; of a model file with one module, the
    next convention in which it can be read."""
    if not rest and getattr(screen.session.config.source, "again", None) is not None:
        next_convention(screen, rest)
        return

    def open_module(progress: object) -> None:
        from tui_gru.session.opening import other_module

        screen.session = other_module(screen.session, rest)

    screen.do(open_module, batches=None)


def export_to_file(screen: MainScreen, rest: Arguments, *, overwrite: bool = False) -> None:
    """Export the derivation, the panel in focus or the screen to `FILE`, in the format of its suffix."""
    if not rest:
        raise TuiGruError("type a file: export here.txt, export here.tex, export here.svg")
    from tui_gru.tui.export import SUFFIXES, write_export

    path = permitted(rest)
    if not overwrite and screen.is_watched and path.suffix in SUFFIXES and os.path.exists(path):
        _ask_to_overwrite(screen, path, partial(export_to_file, screen, rest, overwrite=True))
        return
    screen.say(f"wrote {write_export(screen, path, overwrite=overwrite)} to {path}")


def export_preview(screen: MainScreen, rest: Arguments, *, overwrite: bool = False) -> str:
    from tui_gru.tui.export import preview

    try:
        return preview(screen, permitted(rest), overwrite=overwrite)
    except TuiGruError as error:  # what the export would say
        return str(error)


# ------------------------------------------------------------------------------
# Verbs of breakpoints, watches and marks, and of runs to them.


def change_stops(screen: MainScreen, change: Callable[[Session], object]) -> None:
    """Change the session's stops or marks in this thread, and redraw. Raises `TuiGruError` during a run or if `change` does."""
    if screen.running:
        raise TuiGruError(with_keys(screen, "a run is under way; <stop> stops it"))
    screen.forget_notice()
    change(screen.session)
    screen.show_now()


# Breakpoints and watches


def break_(screen: MainScreen, rest: Arguments) -> None:
    """Set or change a breakpoint: `[#ID] [LINE] [if CONDITION] [hits COUNT] [log TEMPLATE]`; by default on the current line."""
    if not rest and screen.focused is not None and isinstance(screen.focused, panels.listing.Listing) and screen.focused.pointed:
        toggle_breakpoint(screen, screen.focused.pointed)
        return
    if not rest and screen.snapshot.line is not None:
        toggle_breakpoint(screen, screen.snapshot.line.target)
        return
    if not rest:
        words = "no line has been executed yet; press <step.line> to execute one, or click beside a line of the program"
        screen.say(with_keys(screen, words), warning=True)
        return
    id, start = _id(screen.session, rest, Breakpoint)
    fields, columns = _clauses(rest, start)
    fields["line"] = _line(screen.session.program, fields["line"], columns["line"])
    _check(screen.session, fields, columns)
    if id is None:
        add_breakpoint(screen, **fields)
    else:
        change_stop(screen, id, **fields)


def toggle_breakpoint(screen: MainScreen, target: str) -> None:
    """Toggle the breakpoint on a line.

    Adds one if the line has none, deletes a plain one, and shows one with a condition, hit count or log in the list.
    """
    line = next(row.line for row in screen.session.program.rows if row.line is not None and row.line.target == target)
    stops = screen.snapshot.stops_on(line)
    if not stops:
        add_breakpoint(screen, target)
    elif (bare := next(filter(is_plain, stops), None)) is not None:
        delete_stop(screen, bare.id)
    else:
        list_stops(screen, at=stops[0].id)
        stop, verb = described(stops[0], screen.session.program), "disables" if stops[0].enabled else "enables"
        screen.say(f"{stop} · d deletes it, e edits it, space {verb} it")


def gutter_chosen(screen: MainScreen, target: str) -> None:
    if not screen.running:
        toggle_breakpoint(screen, target)


def add_breakpoint(screen: MainScreen, line: str = "", *, condition: str = "", hits: str = "", log: str = "") -> None:
    change_stops(screen, lambda session: session.break_at(line, condition=condition, hits=hits, log=log))
    if log:
        screen.show_page_of("Log")
    made = described(screen.session.stops.breakpoints[-1], screen.session.program)
    screen.say(f"{made} · {sign_of_key(screen, 'continue')} {'continues and writes its lines' if log else 'runs to it'}")


def watch_typed(screen: MainScreen, rest: Arguments) -> None:
    """Add or change a watch: `[#ID] EXPRESSION [stop]`."""

    id, expression, stops = watch_of(screen.session, rest)
    if id is not None:
        change_stop(screen, id, expression=expression, stops=stops)
        return
    change_stops(screen, lambda session: session.watch(expression, stops=stops))
    screen.show_page_of("Watches")
    screen.say(f"watching {in_screen_spelling(expression, screen.session.program.spellings)}")


def change_stop(screen: MainScreen, id: int, **changes: Any) -> None:
    change_stops(screen, lambda session: session.change_stop(id, **changes))


def delete_stop(screen: MainScreen, id: int) -> None:
    """Delete a breakpoint or watch, and show the command that sets it again."""
    command = command_of(screen.session.stops.get(id))
    change_stops(screen, lambda session: session.delete_stop(id))
    screen.say(f"deleted; set it again with :{command}")


def delete_stops(screen: MainScreen, rest: Arguments) -> None:
    """Delete breakpoints and watches by number, and marks by letter."""

    for name in split_names(rest, "delete 3, delete a"):
        if name.isalpha():
            delete_mark(screen, name)
        else:
            delete_stop(screen, number_of(name))


def enable(screen: MainScreen, rest: Arguments, *, value: bool) -> None:

    names = split_names(rest, "enable 3" if value else "disable 3")
    for name in names:
        change_stop(screen, number_of(name), enabled=value)
    screen.say(f"{', '.join(names)}: {'enabled' if value else 'disabled'}")


# Runs to breakpoints


def continue_(screen: MainScreen, rest: Arguments) -> None:
    """Run to the next stop. A run that has no end and that nothing could stop is refused."""
    stops = screen.snapshot.state.stops
    if stops.active or screen.snapshot.last is not None:
        run_on(screen, screen.session.continue_, lambda: _not_stopped(screen))
        return
    screen.pending.take_count()
    cure = "<breakpoint> sets one here, <command>break if loss < 0.5 one anywhere"
    if _settable(screen):
        cure = "<stops> lists them, to enable one"
    screen.say(with_keys(screen, f"{_why_not_stopped(screen)}, so nothing would stop this run · {cure}"), warning=True)


def reverse(screen: MainScreen, rest: Arguments) -> None:
    run_on(screen, screen.session.reverse_continue, lambda: f"reached the beginning; {_why_not_stopped(screen)}")


def _settable(screen: MainScreen) -> bool:
    """True if there is a breakpoint, or a watch that stops runs, enabled or not."""
    stops = screen.snapshot.state.stops
    return bool(stops.breakpoints) or any(watch.stops for watch in stops.watches)


def _not_stopped(screen: MainScreen) -> str:
    """Say why a run forwards ended without a stop: at its end, or by an interrupt."""
    end = "reached the end; " if screen.session.position == screen.session.end else ""
    return f"{end}{_why_not_stopped(screen)}{without_learning(screen)}"


def _why_not_stopped(screen: MainScreen) -> str:
    if not _settable(screen):
        return "no breakpoints are set"
    return "no breakpoint was hit" if screen.snapshot.state.stops.active else "all breakpoints are disabled"


# Marks


def mark_typed(screen: MainScreen, rest: Arguments) -> None:
    """Mark this place: `LETTER [TEXT]`; in the text, `\\n` begins a new line."""

    split_names(rest, "mark a, mark a what to see here")
    letter, _, text = rest.partition(" ")
    mark_here(screen, letter, text.replace("\\n", "\n"))


def press_mark(screen: MainScreen) -> None:
    screen.pending.take_count()
    screen.pending.wait_for_letter(lambda letter: mark_here(screen, letter), sign_of_key(screen, "mark"))
    screen.say(f"type a letter to mark this place · {sign_of_key(screen, 'stop')} cancels")


def mark_here(screen: MainScreen, letter: str, text: str = "") -> None:
    """Mark this place. Raises `TuiGruError` if it cannot be marked."""
    change_stops(screen, lambda session: session.mark(letter, text))
    screen.kept.keep_layout_of_mark(letter)
    more = "" if text else f" · :mark {letter} TEXT adds a text that is shown here"
    screen.say(f"{letter} marks {as_typed(screen.session.position)}{more}")


def delete_mark(screen: MainScreen, letter: str) -> None:
    change_stops(screen, lambda session: session.delete_mark(letter))
    screen.say(f"mark {letter} is deleted")


# The list


def list_marks(screen: MainScreen, rest: Arguments) -> None:
    list_stops(screen, at=next((mark.letter for mark in screen.snapshot.state.marks.sorted), None))


def list_stops(screen: MainScreen, *, at: int | str | None = None) -> None:
    """Show the list of breakpoints, watches and marks, with the cursor at one of them."""
    screen.overlays.cover(panels.lists.StopsList(at=at))


async def stop_chosen(screen: MainScreen, verb: str, entry: StopOrMark) -> None:
    """Execute a verb with an entry of the list: `toggled`, `opened` or `deleted`."""
    if verb == "deleted":
        delete_mark(screen, entry.letter) if isinstance(entry, Mark) else delete_stop(screen, entry.id)
    elif isinstance(entry, Mark):
        if verb == "opened":
            jump_to(screen, entry.letter)
    elif verb == "toggled":
        change_stop(screen, entry.id, enabled=not entry.enabled)
    else:
        await screen.open_line(command_of(entry, id=True))


# ------------------------------------------------------------------------------
# Parsers of the arguments of `:break`, `:watch`, `:delete`, `:enable` and `:disable`.


_ID = re.compile(r"#(\d+)\s*")
_KEYWORDS = re.compile(r"(?<!\S)(?:if|hits|log)(?!\S)")
_CLAUSES = {"if": "condition", "hits": "hits", "log": "log"}
_KEYWORD = {field: keyword for keyword, field in _CLAUSES.items()}
_EXAMPLE = "break loss if loss < 0.5 hits >3 log {loss:.3f}"


def watch_of(session: Session, rest: str) -> tuple[int | None, str, bool]:
    """Return the id of the watch to change, None for a new one, its expression, and whether it stops runs.

    Raises `TuiGruError` if there is no expression or it cannot be compiled.
    """
    id, start = _id(session, rest, Watch)
    typed = rest[start:]
    before = typed.removesuffix("stop")
    stops = before != typed and before[-1:].isspace()
    expression = before.rstrip() if stops else typed
    if not expression or expression == "stop":
        raise TuiGruError(example(session.program, "type an expression to watch: loss, max(abs($h)), or $z[0,1] stop"))
    _check(session, {"expression": expression}, {"expression": start})
    return id, expression, stops


def number_of(name: str) -> int:
    """Parse the number of a breakpoint or watch, `3` or `#3`. Raises `TuiGruError` if it is no number."""
    number = whole_number(name.removeprefix("#"))
    if number is None:
        raise TuiGruError(f"{shortened_input(name)} is not the number of a breakpoint or watch; :stops lists all")
    return number


def _id(session: Session, rest: str, kind: type[Breakpoint] | type[Watch]) -> tuple[int | None, int]:
    """Return the id of the stop to change, None for a new one, and the column at which the other arguments begin."""
    match = _ID.match(rest)
    if match is None:
        return None, 0
    id = number_of(match[1])
    if not isinstance(session.stops.get(id), kind):
        other = "a watch; change it with watch" if kind is Breakpoint else "a breakpoint; change it with break"
        raise TypedError(f"{id} is {other} #{id} …", 1)
    return id, match.end()


def _clauses(rest: str, start: int) -> tuple[dict[str, str], dict[str, int]]:
    """Return the text of each field of a breakpoint, and the column at which each begins, 0-based."""
    fields = {"line": "", "condition": "", "hits": "", "log": ""}
    columns = dict.fromkeys(fields, start)
    field, begins = "line", start
    for match in _KEYWORDS.finditer(rest, start):
        if field == "log":  # in a template, keywords are text
            break
        _take(rest[begins : match.start()], field, begins, fields, columns)
        keyword, field, begins = match[0], _CLAUSES[match[0]], match.end()
        if fields[field]:
            raise TypedError(f"{keyword} is given twice; type, for example, {_EXAMPLE}", match.start() + 1)
    _take(rest[begins:], field, begins, fields, columns)
    return fields, columns


def _take(text: str, field: str, begins: int, fields: dict[str, str], columns: dict[str, int]) -> None:
    fields[field] = text.strip()
    columns[field] = begins + len(text) - len(text.lstrip())
    if field != "line" and not fields[field]:
        raise TypedError(f"nothing follows {_KEYWORD[field]}; type, for example, {_EXAMPLE}", begins + len(text) + 1)


def _line(program: Program, typed: str, column: int) -> str:
    """Return the target of a line, typed as in code, as on screen, or as in ASCII. Raises `TypedError` if no line has it."""
    if not typed:
        return ""
    target = program.code_name(typed)
    if target not in program.targets:
        from difflib import get_close_matches

        close = get_close_matches(typed.split()[0], program.targets, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else example(program, "name a line by its value: break $z")
        raise TypedError(f"no line computes {typed!r}; {hint}", column + 1)
    return target


def _check(session: Session, fields: dict[str, str], columns: dict[str, int]) -> None:
    """Raise a `TypedError`, with the column in the typed text, if a field cannot be parsed."""
    names, shapes = session.program.spellings, session.program.shapes
    checks: dict[str, Callable[[str], object]] = {
        "condition": lambda text: refuse_impossible(text, session.program, epochs=session.state.epochs),
        "hits": HitCount.parse,
        "log": lambda text: LogPoint.parse(text, names).check(shapes),
        "expression": lambda text: compile_expression(text, names).check(shapes),
    }
    for name, text in fields.items():
        if text and name in checks:
            try:
                checks[name](text)
            except TypedError as error:
                raise error.moved(columns[name]) from None
