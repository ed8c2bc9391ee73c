"""Verbs that change the run: learning, SGD steps, edits, undo, redo; and the verb that samples text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tui_gru.engine.config import SAMPLERS, Sampler
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui import answers
from tui_gru.tui.verbs.analysing import look_for_findings
from tui_gru.tui.verbs.verb import Arguments

if TYPE_CHECKING:
    from tui_gru.debugger.timeline.journal import JournalEntry
    from tui_gru.tui.screens.main import MainScreen

SMALL_RECORD = 2**18  # bytes; up to this size of a batch, findings are searched in the UI thread
FEW_STEPS = 200  # steps of sampling (one character each); up to this number, sampling runs in the UI thread


def sgd(screen: MainScreen, rest: Arguments) -> None:
    count, before = screen.pending.take_count(), screen.snapshot

    def say(_: object) -> None:
        if screen.snapshot.position != before.position and screen.notice is None:
            screen.answer(answers.stepped(screen.snapshot) + answers.branched(before, screen.snapshot))

    screen.do(lambda progress: screen.session.sgd(count, progress=progress), batches=count, then=say)


def learning(screen: MainScreen, rest: Arguments) -> None:
    """Turn learning `on` or `off`; toggle it without an argument."""
    if rest not in ("", "on", "off"):
        raise TuiGruError(f"learning takes on or off, not {str(rest)!r}")
    before = screen.snapshot
    value = {"on": True, "off": False}.get(rest, not before.learning)
    words = "on: batches end with backward and update" if value else "off: batches end with the loss"

    def say(_: object) -> None:
        screen.answer(f"learning {words}{answers.branched(before, screen.snapshot)}")

    screen.do(lambda _: setattr(screen.session, "learning", value), then=say)


def set_value(screen: MainScreen, rest: Arguments) -> None:
    """Set a weight, a state, a rate, or a character of the text: `NAME[INDEX] VALUE`."""
    from tui_gru.debugger.program.typed import Reader
    from tui_gru.debugger.session.verbs.changes import ALIASES
    from tui_gru.tui.verbs.verb import example

    program, before, last = screen.session.program, screen.snapshot, screen.session.last_change
    reader = Reader(rest, example(program, "$W[0,1] 0.5, $h[0,1] 0.5, learning_rate 0.1, or text[3] a"))
    typed, index = reader.entry()
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
        if screen.session.last_change is not last:  # otherwise the notice says that nothing has changed
            screen.answer(answers.edited(name, index or (), before, screen.snapshot) + answers.branched(before, screen.snapshot))

    screen.do(lambda _: screen.session.edit(name, index, value), then=say)


def undo(screen: MainScreen, rest: Arguments) -> None:
    _restore(screen, "undo", screen.session.last_change, screen.session.undo)


def redo(screen: MainScreen, rest: Arguments) -> None:
    _restore(screen, "redo", screen.session.next_change, screen.session.redo)


def _restore(screen: MainScreen, name: str, change: JournalEntry | None, verb: Callable[[], bool]) -> None:
    """Undo or redo a change, and show which change it was and which place it led to."""
    before = screen.snapshot

    def say(_: object) -> None:
        if change is None:
            screen.answer(f"there is no change to {name}")
        else:
            words = f"{'undid' if name == 'undo' else 'redid'} {answers.change(change, before.program)}"
            words += answers.setting(change, screen.snapshot)
            screen.answer(words + answers.branched(before, screen.snapshot) + answers.moved(before, screen.snapshot))

    screen.do(lambda _: verb(), batches=screen.session.batches_to(), then=say)


def can_undo(screen: MainScreen) -> bool:
    return screen.snapshot.can_undo


def can_redo(screen: MainScreen) -> bool:
    return screen.snapshot.can_redo


def trains(screen: MainScreen) -> bool:
    """True if this run can be trained: not a recording, and not a model file."""
    return screen.snapshot.config.given is None


# Samples


def sample(screen: MainScreen, rest: Arguments) -> None:
    """Sample text: `[PRIMER] [LENGTH] [TEMPERATURE] [SAMPLER]`, in any order.

    The name of a sampler is the sampler, a whole number the length, another number the temperature, any other word the primer.
    """
    from tui_gru.debugger.program.typed import Reader, is_number, shortened

    reader = Reader(rest, "sample Ma 10 0.8 tutorial")
    primer, sampler, length, temperature = None, None, None, None
    while reader.left:
        word = reader.next_word
        known = next((each for each in SAMPLERS if each == word), None)
        number = is_number(word) and (word[0] in "0123456789." or primer is not None)  # a text may contain -1 and nan
        if number and length is None and word.isdecimal():
            length = reader.whole("a length")
        elif number and temperature is None:
            temperature = reader.number("a temperature")
        elif sampler is None and known is not None:
            reader.word()
            sampler = known
        elif primer is None:
            primer = reader.word()
        else:
            raise reader.error(f"sample takes a primer, a length, a temperature and a sampler, not also {shortened(word)}")
    draw_sample(
        screen,
        primer=primer or screen.snapshot.config.as_string(screen.snapshot.corpus.text[:2]),
        length=10 if length is None else length,
        temperature=1.0 if temperature is None else temperature,
        sampler=sampler,
    )


def draw_sample(screen: MainScreen, *, primer: str, length: int, temperature: float, sampler: Sampler | None) -> None:
    """Sample text with a new seed; without a sampler, with both, so that they can be compared."""
    session, samplers = screen.session, (sampler,) if sampler else SAMPLERS
    seed = 1 + max((sample.seed for sample in session.samples), default=-1)

    def draw(progress: Any) -> None:
        for kind in samplers:
            text = session.sample(primer, length, sampler=kind, temperature=temperature, seed=seed, progress=progress)
            if len(text) < len(primer) + length:  # it was interrupted
                return
        look_for_findings(screen)

    quick = (length + 1) * len(primer) * len(samplers) <= FEW_STEPS and session.config.record_bytes <= SMALL_RECORD
    screen.do(draw, batches=0 if quick else None, then=lambda _: _say_sample(screen))


def _say_sample(screen: MainScreen) -> None:
    """Show the new samples in the message line, with the key to their panel if that is on another page."""
    from tui_gru.debugger.program.naming import printable
    from tui_gru.tui.panels.values.samples import Samples
    from tui_gru.tui.verbs.verb import with_keys

    samples = screen.snapshot.samples
    newest = samples[-1]
    drawn = [each for each in samples[-len(SAMPLERS) :] if (each.seed, each.tick) == (newest.seed, newest.tick)]
    words = [f"{each.sampler} “{''.join(map(printable, each.text))}”" for each in drawn]
    if screen.panels.pages > 1 and screen.overlay is None and not screen.query_one(Samples).region:
        words.append(with_keys(screen, "<page> shows their page"))
    screen.answer(" · ".join(words))
