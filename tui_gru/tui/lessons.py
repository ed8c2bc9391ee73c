"""A lesson on the main screen: its cards, the keys that it waits for, the answers that are typed, and what is hidden until then."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from textual import events
from textual.widget import Widget

from tui_gru.debugger.program import Program, ValueKind
from tui_gru.disk import saving
from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session
from tui_gru.storage.store import sessions_folder
from tui_gru.teaching.course import KEEP, QuestionResult, model_session, results_text
from tui_gru.teaching.judging import Judge, Judgement
from tui_gru.teaching.lesson import (
    LETTERS,
    CommandBlock,
    Lesson,
    LessonCard,
    Question,
    SourceLine,
    Words,
    shipped_lessons,
)
from tui_gru.teaching.masking import AnswerMask, mask_of
from tui_gru.teaching.values import LessonValues, inserted
from tui_gru.tui.keys import KEY_SIGNS, LARGEST_COUNT, NO_ARGUMENTS, Step, execute, keys_of, sign_of_key, with_keys
from tui_gru.tui.panels.sequence import Samples
from tui_gru.tui.panels.values import Gates, LossTerms, Softmax
from tui_gru.tui.panels.weights import WeightsPanel
from tui_gru.tui.session_screen import CardText
from tui_gru.tui.theme import transliterate

# ------------------------------------------------------------------------------
# What readers have done, in a file of their own.


PROGRESS = "lessons.json"


def progress_file() -> Path:
    """Return the file that remembers which questions have been answered."""
    return sessions_folder().parent / PROGRESS


def finished_lessons() -> dict[str, int]:
    """Return how many questions of each lesson have been answered right at last; -1 for a lesson that was read to its end."""
    try:
        stored = json.loads(progress_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    pairs = stored.items() if isinstance(stored, dict) else ()
    return {name: count for name, count in pairs if isinstance(name, str) and type(count) is int}


def remember_progress(name: str, count: int) -> None:
    """Remember the progress in a lesson; a folder that cannot be written is no reason to disturb it."""
    stored = finished_lessons()
    if name in shipped_lessons() and stored.get(name, 0) not in (-1, count):
        try:
            progress_file().parent.mkdir(parents=True, exist_ok=True)
            with saving(progress_file()) as out:
                out.write(json.dumps({**stored, name: count}).encode())
        except (OSError, TuiGruError):
            pass


# ------------------------------------------------------------------------------
# The places at which a lesson waits.


class RunPlace(NamedTuple):
    """A place of the run of one model, and the number of changes before."""

    tick: int
    changes: int


@dataclass(frozen=True)
class LessonStop:
    """Where a lesson waits: for a key or a command (`press`), an answer (`question`), or for the reader to go on.

    `card` and `part` are where the card continues (0-based); `lines` are the texts of the card so far. With `looks`, the reader
    looks at what the last command has opened. `places`, `model` and `numbers` are what is restored when the reader comes back.
    """

    card: int
    part: int
    lines: tuple[str, ...]
    press: SourceLine | None = None
    then: tuple[SourceLine, ...] = ()
    question: Question | None = None
    is_end: bool = False
    looks: bool = False
    model: str = ""
    places: dict[str, RunPlace] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


class Answering(NamedTuple):
    """The answer to a question so far: what is typed, the last judgement, the tries, and how many hints were shown."""

    typed: str = ""
    judgement: Judgement | None = None
    judged: str = ""
    tries: int = 0
    hints: int = 0


class LessonScreen(Protocol):
    """What a lesson uses of the main screen."""

    session: Session
    snapshot: Any
    command: str
    pending: Any
    play: Any
    panels: Any
    overlays: Any
    do: Any

    @property
    def app(self) -> Any: ...
    @property
    def verbs(self) -> Any: ...

    @property
    def overlay(self) -> Any: ...
    @property
    def running(self) -> bool: ...
    @property
    def maximized(self) -> Any: ...

    def say(self, message: str, *, warning: bool = False) -> None: ...
    def show_now(self) -> None: ...
    def set_focus(self, widget: Widget | None) -> None: ...
    def minimize(self) -> None: ...
    def forget_notice(self) -> None: ...
    def hide(self, mask: AnswerMask | None) -> None:
        """Draw `?` in the place of what a mask hides, everywhere but on the card."""


_KEY = re.compile(r"(\d*)\s*(\S+)")
_TO = re.compile(r"to (\S+)")
LOW_CARD = 30  # rows of a screen on which words and a question do not fit on one card
LONG_WORDS = 3  # rows of words from which on they have a card of their own there
MOST_TYPED = 200  # characters of an answer
_LEAVES = "escape"
LOOKING = "Look at what it shows; arrows move in it."
CODE = "    "  # before a line that is shown as it is written


class LessonWalk:
    """The lesson under way, if there is one. Keys do what they always do; those that the card waits for go on with it."""

    def __init__(self, screen: LessonScreen) -> None:
        self._screen = screen
        self.lesson: Lesson | None = None
        self._own: Session | None = None  # the session before the lesson, to which its end returns
        self._sessions: dict[str, Session] = {}
        self._values = LessonValues({}, "")
        self._judge: Judge | None = None
        self._stops: list[LessonStop] = []
        self._paused = False
        self._queue: list[SourceLine] = []  # commands that are still to be executed
        self._after: Callable[[], None] | None = None  # called once they have been
        self._answering = Answering()
        self._answered: dict[int, bool] = {}  # question numbers, True if answered without being told
        self._results: dict[int, QuestionResult] = {}
        self._seed: int | None = None
        self._heading = ""
        self.mask: AnswerMask | None = None

    # What the screen asks

    @property
    def stop(self) -> LessonStop | None:
        """Where the lesson waits, None outside of one."""
        return self._stops[-1] if self._stops else None

    @property
    def awaits_key(self) -> bool:
        """True if the next key goes on with the lesson or pauses it."""
        return bool(self._stops) and not self._paused

    @property
    def asks(self) -> bool:
        """True while an answer is typed."""
        return self.awaits_key and self._stops[-1].question is not None

    def tells_of(self, panel: type[object]) -> bool:
        """Return True for a panel that has the numbers that the card speaks of."""
        return self.awaits_key and panel in self._panels()

    # Beginning and end

    def begin(self, lesson: Lesson, seed: int | None = None) -> None:
        """Begin a lesson on new sessions of its models, or on this one, if it is the model's before its first line.

        Raises `LessonError` if a model cannot be made.
        """
        screen, first = self._screen, lesson.models[0].name
        sessions = {model.name: model_session(lesson, model, seed) for model in lesson.models}
        session, mine = screen.session, sessions[first]
        if (
            len(sessions) == 1
            and session.position.tick == 0
            and session.config == mine.config
            and session.learning == mine.learning
        ):
            sessions[first] = session
        if self._own is None or sessions[first] is session:
            self._own = session
        self.lesson, self._sessions = lesson, sessions
        self._values = LessonValues(sessions, first)
        self._judge = Judge(lesson, self._values)
        self._stops, self._paused, self._queue, self._answered, self._results, self._seed = [], False, [], {}, {}, seed
        if screen.overlay is not None:
            screen.overlays.lift()
        self._turn_to(first)
        self._go_on(0, 0, ())

    def leave(self) -> None:
        """End the lesson, and return to the session before it."""
        screen, session = self._screen, self._own
        self.lesson, self._judge, self._stops, self._queue, self._after, self._own = None, None, [], [], None, None
        self._hide(None)
        if session is not None and session is not screen.session:
            screen.session = session
            screen.forget_notice()
        screen.show_now()

    def _turn_to(self, model: str) -> None:
        self._values.current = model
        if self._screen.session is not self._sessions[model]:
            self._screen.session = self._sessions[model]
            self._screen.forget_notice()
        self._screen.show_now()

    # The walk through the cards

    def _go_on(self, card: int, part: int, lines: tuple[str, ...]) -> None:
        """Go through the parts of the cards up to the next that waits."""
        lesson = self.lesson
        assert lesson is not None
        try:
            while card < len(lesson.cards):
                parts = lesson.cards[card].parts
                if part == 0 and not lines:
                    self._heading = self._values.filled(lesson.cards[card].heading)
                if part == len(parts):
                    if not lines:  # the card has ended with a key or an answer
                        card, part = card + 1, 0
                        continue
                    self._wait(LessonStop(card, part, lines))
                    return
                match parts[part]:
                    case Words() as words:
                        lines = (*lines, *paragraphs(self._values.filled(words.text)))
                    case CommandBlock(pressed=False) as block:
                        self._queue = list(block.commands)
                        self._after = partial(self._go_on, card, part + 1, lines)
                        self._execute_next()
                        return
                    case CommandBlock() as block:
                        first, *then = block.commands
                        self._wait(LessonStop(card, part + 1, lines, first, tuple(then)))
                        return
                    case Question() as question:
                        if self._is_long(lines):
                            self._wait(LessonStop(card, part, lines))
                            return
                        self._wait(LessonStop(card, part + 1, lines, question=question))
                        return
                part += 1
            self._wait(LessonStop(card, 0, (), is_end=True))
        except TuiGruError as error:
            self._screen.say(str(error), warning=True)
            self._wait(LessonStop(card, part, (*lines, str(error))))

    def _is_long(self, lines: Sequence[str]) -> bool:
        """Return True for words that leave no room for a question on the card."""
        width, height = self._screen.app.size
        return bool(height < LOW_CARD) and sum(-(-len(line) // max(width - 4, 1)) for line in lines) >= LONG_WORDS

    def _wait(self, stop: LessonStop) -> None:
        """Wait at a stop, with what is restored when the reader comes back to it."""
        places = {
            name: RunPlace(session.position.tick, len(session.state.branches.done)) for name, session in self._sessions.items()
        }
        stop = replace(stop, model=self._values.current, places=places, numbers=dict(self._values.numbers))
        self._stops.append(stop)
        self._arrive(stop)

    def _arrive(self, stop: LessonStop) -> None:
        """Show the card of a stop."""
        screen = self._screen
        self._paused, self._answering = False, Answering()
        if stop.is_end and self.lesson is not None:
            remember_progress(self.lesson.name, -1)
        if stop.question is not None:
            screen.set_focus(None)
        self._hide_asked(stop)
        if screen.panels.small:
            for panel in self._panels():
                screen.panels.show_page_of(panel)
        screen.say("")

    def _hide_asked(self, stop: LessonStop) -> None:
        """Hide what is asked for here, up to the next command."""
        mask, glyphs = AnswerMask(), getattr(self._screen.app, "glyphs", None)
        written: Callable[[str], str] = str if glyphs is None else partial(transliterate, glyphs=glyphs)
        for question in self._asked_here(stop) if self._judge is not None else ():
            assert self._judge is not None
            try:
                mask = mask_of(self._judge, question, written) | mask
            except TuiGruError as error:
                if question == stop.question:  # a later one may need what a question before it leads to
                    self._screen.say(str(error), warning=True)
        self._hide(mask)

    def _asked_here(self, stop: LessonStop) -> Iterator[Question]:
        """Yield the questions that are not answered yet, from a stop up to the next command."""
        if self.lesson is None or stop.press is not None or stop.is_end:
            return
        if stop.question is not None and stop.question.number not in self._answered:
            yield stop.question
        for card in range(stop.card, len(self.lesson.cards)):
            for part in self.lesson.cards[card].parts[stop.part if card == stop.card else 0 :]:
                if isinstance(part, CommandBlock):
                    return
                if isinstance(part, Question) and part.number not in self._answered:
                    yield part

    def _hide(self, mask: AnswerMask | None) -> None:
        self.mask = mask or None
        self._screen.hide(self.mask)

    def _next(self) -> None:
        """Go on from the stop at which the lesson waits."""
        stop = self._stops[-1]
        if stop.is_end:
            self.leave()
            return
        if stop.then:
            self._wait(LessonStop(stop.card, stop.part, (), stop.then[0], stop.then[1:]))
            return
        lesson, card, part = self.lesson, stop.card, stop.part
        assert lesson is not None
        if stop.looks and self._screen.overlay is not None:
            self._screen.overlays.lift()
        is_last = part == len(lesson.cards[card].parts) and card + 1 == len(lesson.cards)
        opens = self._screen.overlay is not None or self._screen.overlays.expecting
        if stop.press is not None and opens and not is_last:
            lines, part = self._words_from(card, part)
            self._wait(LessonStop(card, part, lines or (LOOKING,), looks=True))
            return
        if stop.press is None and stop.question is None and not stop.looks and part < len(lesson.cards[card].parts):
            self._wait_for_part(stop)  # a question whose words had a card of their own
            return
        self._go_on(card, part, ())

    def _words_from(self, card: int, part: int) -> tuple[tuple[str, ...], int]:
        """Return the words that come next on a card, which are about what a command has opened, and the part after them."""
        assert self.lesson is not None
        lines: list[str] = []
        for words in self.lesson.cards[card].parts[part:]:
            if not isinstance(words, Words):
                break
            lines += paragraphs(self._filled(words.text))
            part += 1
        return tuple(lines), part

    def _wait_for_part(self, stop: LessonStop) -> None:
        lesson = self.lesson
        assert lesson is not None
        part = lesson.cards[stop.card].parts[stop.part]
        assert isinstance(part, Question)
        self._wait(LessonStop(stop.card, stop.part + 1, (), question=part))

    # Commands

    def _execute_next(self) -> None:
        """Execute the commands that wait, one after the other, each when the one before has ended; then go on."""
        while self._queue and not self._screen.running:
            command = self._queue.pop(0)
            try:
                self._execute(command.text)
            except Exception as error:
                reason = str(error) if isinstance(error, TuiGruError) else type(error).__name__
                self._queue = []
                self._screen.say(f"{command.text}: {reason}", warning=True)
        after = self._after
        if not self._queue and not self._screen.running and after is not None:
            self._after = None
            self._synchronize()
            after()

    def ran(self) -> None:
        """Go on with commands that have waited for the end of a run."""
        if self._stops or self.lesson is not None:
            self._synchronize()
            self._execute_next()

    def _synchronize(self) -> None:
        """Take the session of the screen, which a command may have replaced, as that of the current model."""
        if self._values.current in self._sessions:
            self._sessions[self._values.current] = self._screen.session

    def _execute(self, command: str) -> None:
        screen = self._screen
        if command in self._sessions:
            self._synchronize()
            if screen.overlay is not None:  # it is about the model before
                screen.overlays.lift()
            self._turn_to(command)
        elif (keep := KEEP.fullmatch(command)) is not None:
            self._synchronize()
            self._values.numbers[keep[1]] = self._values.value(keep[2])
        elif (line := _TO.fullmatch(command)) is not None:
            screen.do(lambda progress: screen.session.run_to(line[1], progress=progress), batches=2)
        elif (pressed := self._verb_of(command)) is not None:
            times, verb = pressed
            if isinstance(verb.do, Step):
                screen.play.walk(verb.do, times)
            elif verb.press is None:
                verb.do(screen, NO_ARGUMENTS)
            else:
                verb.press(screen)
        else:
            execute(screen, command)

    def _verb_of(self, command: str) -> tuple[int, Any] | None:
        """Return the count and the verb of a key as lessons write it; None for a command."""
        match = _KEY.fullmatch(command)
        if match is None or command in self._sessions:
            return None
        for verb in self._screen.verbs.values():
            for key in verb.keys.split(",") if verb.keys else ():
                if match[2] in (key, KEY_SIGNS.get(key, key)):
                    return min(int(match[1][:12] or 1), LARGEST_COUNT), verb
        return None

    # Keys

    def take_key(self, event: events.Key) -> bool:
        """Take a key that the lesson waits for. Return True if it has no other effect."""
        screen = self._screen
        if self._after is not None and not self._queue and not screen.running:
            self._execute_next()  # what the key before has led to
        stop = self.stop
        if stop is None:
            return False
        key, leaves = event.key, event.key == _LEAVES or event.key in keys_of(screen, "stop").split(",")
        if self._queue or screen.running:
            return False
        if self._paused:
            if key == "backspace":
                self._return_to(stop)
                return True
            if leaves and screen.overlay is None and screen.maximized is None and getattr(screen, "focused", None) is None:
                self.leave()
                return True
            return False
        if stop.question is not None:
            return self._take_answer(stop.question, event, leaves)
        if key == "backspace":
            self._back()
            return True
        if leaves:
            if screen.overlay is not None or screen.maximized is not None:
                return False
            self._pause()
            return True
        if stop.press is None:
            if key in ("enter", "space"):
                self._next()
                return True
            if key.isdigit():
                return False
            self._pause()
            return False
        return self._take_press(stop.press, event)

    def _take_press(self, press: SourceLine, event: events.Key) -> bool:
        screen, key = self._screen, event.key
        pressed = self._verb_of(press.text)
        simple = pressed is not None and pressed[0] == 1
        is_key = pressed is not None and key in keys_of(screen, pressed[1].id).split(",")
        if key.isdigit() and not simple:
            return False
        if is_key and (simple or screen.pending.counting):
            self._queue, self._after = [], self._next
            # After the key has had its usual effect: the app handles it after this one's call, and before the call of that.
            screen.app.call_later(screen.app.call_later, self._execute_next)
            return False
        if key == "enter" and not simple:
            self._queue, self._after = [press], self._next
            self._execute_next()
            return True
        self._pause()
        return False

    def _pause(self) -> None:
        self._paused = True
        self._screen.say("")

    def _back(self) -> None:
        """Return to the stop before."""
        if len(self._stops) > 1:
            self._stops.pop()
        self._return_to(self._stops[-1])

    def _return_to(self, stop: LessonStop) -> None:
        """Show a stop again, at its places of the runs and without the changes since."""
        screen = self._screen
        if screen.overlay is not None:
            screen.overlays.lift()
        self._synchronize()
        self._values.numbers = dict(stop.numbers)
        sessions = self._sessions

        def restore(progress: Any) -> None:
            for name, place in stop.places.items():
                session = sessions[name]
                while len(session.state.branches.done) > place.changes:
                    session.undo()
                if session.position.tick != place.tick:
                    session.seek(place.tick, progress=progress)

        def show(_: object) -> None:
            self._turn_to(stop.model)
            if self.lesson is not None and stop.card < len(self.lesson.cards):
                self._heading = self._values.filled(self.lesson.cards[stop.card].heading)
            self._arrive(stop)

        distance = max((sessions[name].batches_to(place.tick) or 0 for name, place in stop.places.items()), default=0)
        screen.do(restore, batches=distance, then=show)

    # Answers

    def paste(self, text: str) -> bool:
        """Add pasted text to the answer. Return True if an answer is being typed."""
        if self.asks:
            self._type(text)
        return self.asks

    def _type(self, text: str) -> None:
        question = self._stops[-1].question
        assert question is not None
        if self._is_done(question):
            return
        added = "".join(char for char in text if char.isprintable())
        self._answering = self._answering._replace(typed=(self._answering.typed + added)[:MOST_TYPED])
        self._screen.say("")

    def _is_done(self, question: Question) -> bool:
        judgement = self._answering.judgement
        return judgement is not None and judgement.right

    def _take_answer(self, question: Question, event: events.Key, leaves: bool) -> bool:
        key, answering = event.key, self._answering
        if leaves:
            self._pause()
        elif key == "enter":
            self._next() if self._is_done(question) else self._judge_typed(question)
        elif key == "tab":
            self._help(question)
        elif key == "backspace":
            if answering.typed and not self._is_done(question):
                self._answering = answering._replace(typed=answering.typed[:-1])
                self._screen.say("")
            else:
                self._back()
        elif key == "ctrl+u":
            self._answering = answering._replace(typed="")
            self._screen.say("")
        elif question.kind == "choice" and key in ("up", "down"):
            letters = LETTERS[: len(question.choices)]
            at = letters.find(answering.typed) if answering.typed in letters else -1 if key == "down" else 0
            self._answering = answering._replace(typed=letters[(at + (1 if key == "down" else -1)) % len(letters)])
            self._screen.say("")
        elif event.is_printable and event.character is not None:
            if question.kind == "choice" and event.character.lower() in LETTERS[: len(question.choices)]:
                self._answering = answering._replace(typed="")
            self._type(event.character)
        else:
            return False  # ctrl+c, a function key
        return True

    def _judge_typed(self, question: Question) -> None:
        assert self._judge is not None
        assert self.lesson is not None
        answering = self._answering
        try:
            judgement = self._judge.judged(question, answering.typed)
        except TuiGruError as error:
            judgement = Judgement(False, str(error), unread=True)
        self._answering = answering._replace(
            judgement=judgement, judged=answering.typed.strip(), tries=answering.tries + (not judgement.unread)
        )
        self._note_result(question)
        if judgement.right:
            self._answered.setdefault(question.number, answering.hints < 2)
            remember_progress(self.lesson.name, sum(self._answered.values()))
            self._hide_asked(self._stops[-1])
        self._screen.say("")

    def _note_result(self, question: Question) -> None:
        """Note what has been done for a question; what came before it was first answered right stays."""
        noted, answering = self._results.get(question.number), self._answering
        if noted is None or not noted.right:
            right = answering.judgement is not None and answering.judgement.right
            typed = answering.judged or (noted.typed if noted else "")
            before = noted or QuestionResult(question.number)
            told = max(before.told, answering.hints)
            tries = before.tries + (1 if answering.judged and answering.judgement and not answering.judgement.unread else 0)
            self._results[question.number] = QuestionResult(question.number, typed, tries, told, right)

    def write_results(self, path: Path) -> str:
        """Write the results so far to a new Markdown file, and return what was written, in words. Raises `TuiGruError`."""
        assert self.lesson is not None
        text = results_text(self.lesson, self._results, self._seed)
        try:
            with saving(path, overwrite=False) as out:
                out.write(text.encode())
        except FileExistsError:
            raise TuiGruError(f"{path} exists and is left as it is; name another file, as in lesson results mine.md") from None
        except OSError as error:
            raise TuiGruError(f"cannot write {path}: {error.strerror}; write somewhere else") from None
        return f"the results of {len(self._results)} of {len(self.lesson.questions)} questions"

    def _help(self, question: Question) -> None:
        """Show the author's hint, then the answer."""
        assert self._judge is not None
        answering = self._answering
        if self._is_done(question):
            return
        try:
            hint, answer = self._judge.hint(question), self._judge.answer(question)
        except TuiGruError as error:
            hint, answer = str(error), ""
        if answering.hints == 0 and hint:
            self._answering = answering._replace(hints=1, judgement=Judgement(False, hint, unread=True), judged="")
        else:
            shown = f"The answer is {answer}. Type it to go on."
            self._answering = answering._replace(hints=2, judgement=Judgement(False, shown, unread=True), judged="")
        self._note_result(question)
        self._screen.say("")

    # The card

    @property
    def card(self) -> CardText | None:
        """What the card says; None without a lesson."""
        lesson, stop = self.lesson, self.stop
        if lesson is None or stop is None:
            return None
        screen = self._screen
        title, dots = f"lesson  {lesson.title}", self._dots(stop)
        leaves = sign_of_key(screen, "stop")
        if self._paused:
            words = "Other keys do what they always do. backspace goes on where the lesson was."
            return CardText(f"{title}, paused", (words,), place=dots, keys=f"backspace goes on  {leaves} leaves")
        if stop.is_end:
            right = f"{sum(self._answered.values())} of {len(lesson.questions)} right. " if lesson.questions else ""
            keeps = " `:lesson results` writes what you have answered to results.md." if lesson.questions else ""
            words = f"{right}Capital letters go back in time, with all numbers; :lesson lists the others.{keeps}"
            return CardText(title, (words,), "That was the lesson.", "enter", "enter closes the card", dots, "backspace back")
        keys = f"{'backspace back  ' if len(self._stops) > 1 else ''}{leaves} looks around"
        if stop.question is not None:
            return self._question_card(stop, stop.question, title, dots)
        if stop.press is None:
            return CardText(title, stop.lines, self._heading, "enter", "enter goes on", dots, keys)
        sign, press = self._press_words(stop.press.text)
        return CardText(title, stop.lines, self._heading, sign, press, dots, keys, "any other key pauses the lesson")

    def _press_words(self, command: str) -> tuple[str, str]:
        """Return the key that is drawn large, and what it does."""
        screen, pressed = self._screen, self._verb_of(command)
        if pressed is None:
            what = f"shows the model {command}" if command in self._sessions else f"executes :{command.lstrip(':')}"
            return "enter", f"enter {what}"
        times, verb = pressed
        sign = sign_of_key(screen, verb.id)
        words = with_keys(screen, verb.help.split(";")[0])
        return (sign, f"{sign}  {words}") if times == 1 else ("enter", f"enter types {times}{sign}: {words}, {times:,} times")

    def _question_card(self, stop: LessonStop, question: Question, title: str, dots: str) -> CardText:
        assert self.lesson is not None
        answering, judgement = self._answering, self._answering.judgement
        lines = [*stop.lines, *paragraphs(self._filled(question.words))]
        done = self._is_done(question)
        after: Sequence[str] = self._after_choices(question) if done and question.choices else ()
        for i, choice in enumerate(question.choices):
            more = f" · {after[i]}" if after and after[i] and self._is_right_choice(question, i) else ""
            number = f" · {after[i]}" if after and after[i] and question.right else more
            lines.append(
                f"{'▸' if answering.typed.lower() == LETTERS[i] else ' '} {LETTERS[i]}  {self._filled(choice.words)}{number}"
            )
        reply = "" if judgement is None else judgement.hint or ("right" if judgement.right else "")
        keys = "enter goes on" if done else f"enter answers  tab {'a hint' if answering.hints == 0 else 'the answer'}"
        keys += f"  {sign_of_key(self._screen, 'stop')} looks around  backspace back"
        tries = f"{answering.tries} {'try' if answering.tries == 1 else 'tries'}   " * (answering.tries > 0)
        right = f"{tries}{sum(self._answered.values())} of {len(self._answered)} right" if self._answered else tries.strip()
        number = f"question {question.number} of {len(self.lesson.questions)}  {dots}"
        mark = "" if judgement is None else "✓" if judgement.right else "·" if judgement.unread else "✗"
        return CardText(
            title, tuple(lines), self._heading, place=number, keys=keys, data=right,
            typed=answering.typed, mark=mark, reply=reply,
        )  # fmt: skip

    def _filled(self, words: str) -> str:
        try:
            return self._values.filled(words)
        except TuiGruError as error:
            return str(error)

    def _after_choices(self, question: Question) -> tuple[str, ...]:
        assert self._judge is not None
        try:
            return self._judge.after(question)
        except TuiGruError:
            return ()

    def _is_right_choice(self, question: Question, at: int) -> bool:
        assert self._judge is not None
        try:
            return self._judge.right_choice(question) == at
        except TuiGruError:
            return False

    def _dots(self, stop: LessonStop) -> str:
        assert self.lesson is not None
        count = len(self.lesson.cards)
        at = min(stop.card, count)
        return "●" * at + "◐" * (at < count) + "○" * (count - at - 1)

    @property
    def words(self) -> str:
        """The card in a few words, for a screen that has no room for it; empty without a lesson."""
        card, stop = self.card, self.stop
        if card is None or stop is None:
            return ""
        assert self.lesson is not None
        number = f"lesson {min(stop.card + 1, len(self.lesson.cards))}/{len(self.lesson.cards)}"
        if self._paused:
            return f"{number} · {card.lines[0]}"
        if stop.question is not None:
            parts = [  # the question last, since a long one is cut
                f"[{self._answering.typed}]",
                f"{card.mark} {card.reply}".strip(),
                self._filled(stop.question.words).replace("\n", " "),
            ]
            return " · ".join(filter(None, (number, *parts)))
        return " · ".join(filter(None, (number, card.head, card.press)))

    # Which panels the card speaks of

    def _panels(self) -> tuple[type[Widget], ...]:
        stop = self.stop
        if stop is None or self.lesson is None or stop.is_end or stop.card >= len(self.lesson.cards):
            return ()
        card: LessonCard = self.lesson.cards[stop.card]
        texts = [part.text for part in card.parts[: stop.part] if isinstance(part, Words)]
        expressions = [expression for text in texts for expression in inserted(text)]
        if stop.question is not None:
            expressions += [*inserted(stop.question.words), stop.question.answer]
        return panels_of(" ".join(expressions), self._screen.snapshot.program)


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a Markdown text, each on one line; an item of a list is one, and so is a line of code, which keeps
    its indentation."""
    lines: list[str] = []
    begins = True
    for written in text.split("\n"):
        line = written.strip()
        if line and written.startswith(CODE) and (begins or lines[-1].startswith(CODE)):
            lines.append(written.rstrip())
            begins = False
            continue
        if begins or line.startswith(("- ", "* ")):
            lines.append(line)
        elif line:
            lines[-1] += f" {line}"
        begins = not line
    return [line for line in lines if line]


def panels_of(expressions: str, program: Program) -> tuple[type[Widget], ...]:
    """Return the panels that have the numbers of expressions, each once."""
    panels: list[type[Widget]] = []
    names = {program.code_name(word) for word in re.findall(r"[^\W\d][\w₋₊←→\u0300-\u036f]*|[①②③]", expressions)}
    if names & {*program.loss_names[1:], "loss"}:
        panels.append(LossTerms)
    if program.loss_names.prediction in names:
        panels.append(Softmax)
    kinds = {program.names[name].kind for name in names if name in program.names}
    if any(kind.is_weight or kind is ValueKind.GRADIENT for kind in kinds):
        panels.append(WeightsPanel)
    if kinds & {ValueKind.VALUE, ValueKind.STATE, ValueKind.VALUE_GRADIENT}:
        panels.append(Gates)
    if "say" in expressions.split():
        panels.append(Samples)
    return tuple(dict.fromkeys(panels))
