"""A lesson under way: the sessions of its models, the commands that it executes, and the questions at their places."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_type_hints

from tui_gru.engine.config import Options
from tui_gru.errors import TuiGruError, safe_text
from tui_gru.paths import permitted
from tui_gru.session.session import Session
from tui_gru.teaching.judging import Judge, Judgement
from tui_gru.teaching.lesson import SHIPPED, CommandBlock, Lesson, LessonCard, LessonModel, Part, Question, SourceLine
from tui_gru.teaching.values import LessonValues

# ------------------------------------------------------------------------------
# The sessions of the models.


_FLAGS = ("bidirectional", "learn")
_FILES = ("cell", "head", "loss", "optimizer", "input", "target")
LONGEST_TEXT = 2**28  # bytes


def model_session(lesson: Lesson, model: LessonModel, seed: int | None = None) -> Session:
    """Return a new session on a model of a lesson; `seed` is in the place of the seed of the options. Raises `LessonError`."""
    try:
        options = _options(model.options, lesson.folder)
        if seed is not None:
            options["seed"] = seed
        learn = options.pop("learn", None)
        session = Session(**options)
        if learn is not None:
            session.learning = learn
        return session
    except TuiGruError as error:
        raise lesson.error(model.line, f"model: {error}") from None


def _options(typed: str, folder: Path) -> dict[str, Any]:
    """Return the options of a session as they are typed after `tui-gru`; files lie in the folder of the lesson."""
    try:
        words = shlex.split(typed)
    except ValueError as error:
        raise TuiGruError(f"{typed}: {error}") from None
    hints, options = get_type_hints(Options), dict[str, Any]()
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--") and "=" in word else (word,))]
    at = 0
    while at < len(words):
        name = words[at].removeprefix("--").replace("-", "_")
        if not words[at].startswith("--") or not (name in hints or name in ("file", "no_learn", *_FLAGS)):
            raise TuiGruError(f"{words[at]} is no option of a model; `tui-gru --help` lists them")
        if name in (*_FLAGS, "no_learn"):
            options["learn" if name == "no_learn" else name] = name != "no_learn"
            at += 1
            continue
        if at + 1 == len(words):
            raise TuiGruError(f"{words[at]} needs a value after it")
        value = words[at + 1]
        if name == "file":
            options["text"] = _text(_file_beside(folder, value))
        elif name in _FILES and (Path(value).suffix or Path(value).name != value):
            options[name] = str(_file_beside(folder, value))
        else:
            options[name] = _number_or_word(name, value)
        at += 2
    return options


_WHOLE = ("hidden_size", "batch_size", "seq_length", "seed", "layers", "embedding")
_REAL = ("learning_rate", "clip")


def _number_or_word(name: str, value: str) -> int | float | str:
    try:
        return int(value) if name in _WHOLE else float(value) if name in _REAL else value
    except ValueError:
        kind = "whole number" if name in _WHOLE else "number"
        raise TuiGruError(f"{value!r} is not a {kind}", option=name) from None


def _file_beside(folder: Path, name: str) -> Path:
    """Return a file that a model reads. A page of a server may use only those of its folder, and those of shipped lessons."""
    is_shipped = folder == SHIPPED and Path(name).name == name
    return folder / name if is_shipped else permitted(folder / name)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST_TEXT + 1)
        if len(data) > LONGEST_TEXT:
            raise TuiGruError(f"{path} is longer than {LONGEST_TEXT >> 20} MiB; use a part of it")
        return data.decode().removeprefix("\ufeff")
    except OSError as error:
        raise TuiGruError(f"cannot read {path}: {error.strerror}; the files of a model lie beside its lesson") from None
    except UnicodeDecodeError:
        raise TuiGruError(f"{path} is not UTF-8; convert it, for example with iconv") from None


# ------------------------------------------------------------------------------
# The course through the cards.


class Executor(Protocol):
    """Executes keys with counts and commands of the `:` line on a session, which a command may replace."""

    session: Session

    def execute(self, command: str) -> Any:
        """Execute a command; the result has the answer as `text`. Raises `TuiGruError` if it is refused."""

    def close(self) -> None: ...


KEEP = re.compile(r"keep ([^\W\d]\w*) = (.+)")
_TO = re.compile(r"to (\S+)")


class ReachedPart(NamedTuple):
    """A part of a card that has been reached, and, of commands, their answers."""

    card: LessonCard
    part: Part
    answers: tuple[str, ...] = ()


class Course:
    """A walk through a lesson. `begin` returns what executes the commands of a session."""

    def __init__(self, lesson: Lesson, begin: Callable[[Session], Executor], seed: int | None = None) -> None:
        self.lesson = lesson
        self._executors: dict[str, Executor] = {}
        try:
            for model in lesson.models:
                self._executors[model.name] = begin(model_session(lesson, model, seed))
        except BaseException:
            self.close()
            raise
        self.values = LessonValues(self._sessions, lesson.models[0].name)
        self.judge = Judge(lesson, self.values)

    @property
    def _sessions(self) -> Mapping[str, Session]:
        return {name: executor.session for name, executor in self._executors.items()}

    @property
    def session(self) -> Session:
        """The session of the current model."""
        return self._executors[self.values.current].session

    def close(self) -> None:
        for executor in self._executors.values():
            executor.close()

    def execute(self, command: SourceLine) -> str:
        """Execute a command of the lesson, and return its answer. Raises `LessonError`.

        It is a command of the `:` line, a key with a count, `keep NAME = EXPRESSION`, `to LINE`, or the name of a model, to which
        later commands go.
        """
        try:
            return self._execute(command.text)
        except TuiGruError as error:
            raise self.lesson.error(command.number, f"{command.text}: {error}") from None
        finally:
            self.values.sessions = self._sessions

    def _execute(self, command: str) -> str:
        if command in self._executors:
            self.values.current = command
            return ""
        if (kept := KEEP.fullmatch(command)) is not None:
            self.values.numbers[kept[1]] = self.values.value(kept[2])
            return ""
        executor = self._executors[self.values.current]
        if (line := _TO.fullmatch(command)) is not None:
            executor.session.run_to(line[1])
            executor.show_now() if hasattr(executor, "show_now") else None
            return ""
        return str(executor.execute(command).text)

    def steps(self) -> Iterator[ReachedPart]:
        """Go through all cards, and yield their parts; a part with commands after these have been executed."""
        for card in self.lesson.cards:
            for part in card.parts:
                answers = tuple(map(self.execute, part.commands)) if isinstance(part, CommandBlock) else ()
                yield ReachedPart(card, part, answers)

    def filled(self, words: str, line: int) -> str:
        """Return words with the values of their expressions. Raises `LessonError`."""
        try:
            return self.values.filled(words)
        except TuiGruError as error:
            raise self.lesson.error(line, str(error)) from None


class Answered(NamedTuple):
    """A question of a sheet, what was typed, and the verdict."""

    question: Question
    typed: str
    verdict: Judgement


_NUMBERED = re.compile(r"\s*(\d+)\s*:(.*)")


def typed_answers(text: str, file: str, lesson: Lesson) -> dict[int, str]:
    """Return the answers of a sheet, by the number of their question: one a line, `3: 1.7905`. Empty lines and comments, after #,
    are skipped. Raises `LessonError`."""
    answers: dict[int, str] = {}
    numbers = [question.number for question in lesson.questions]
    for i, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _NUMBERED.fullmatch(line)
        error = TuiGruError
        if match is None:
            raise error(f"{file}:{i}: an answer is the number of its question, a colon and what is typed, as in 3: 1.7905")
        number = int(match[1][:9])
        if number not in numbers:
            raise error(f"{file}:{i}: there is no question {number}; {lesson.name} has {len(numbers)}, from 1")
        if number in answers:
            raise error(f"{file}:{i}: question {number} is answered twice; keep one of the lines")
        answers[number] = match[2].strip()
    return answers


def graded(course: Course, answers: Mapping[int, str]) -> Iterator[Answered]:
    """Go through a lesson, and yield each of its questions with the verdict on its answer, if there is one."""
    for step in course.steps():
        if isinstance(step.part, Question):
            typed = answers.get(step.part.number, "")
            verdict = course.judge.judged(step.part, typed) if typed else Judgement(False, "no answer", unread=True)
            yield Answered(step.part, typed, verdict)


class QuestionResult(NamedTuple):
    """What a reader has done for a question: the last answer, the tries, what was shown (1 a hint, 2 the answer), and whether it is
    right."""

    number: int
    typed: str = ""
    tries: int = 0
    told: int = 0
    right: bool = False


def results_text(lesson: Lesson, results: Mapping[int, QuestionResult], seed: int | None) -> str:
    """Return the results of a lesson as Markdown. An answer that was shown before it was typed is not counted as right."""
    rows, count = list[str](), 0
    for question in lesson.questions:
        result = results.get(question.number, QuestionResult(question.number))
        alone = result.right and result.told < 2
        count += alone
        typed = safe_text(result.typed).replace("\\", "\\\\").replace("|", "\\|")
        told = ("", "hint", "answer")[result.told]
        rows.append(f"| {result.number} | {typed} | {result.tries} | {told} | {'yes' if alone else 'no'} |")
    numbers = f", with the seed {seed}" if seed is not None else ""
    head = f"# Results: {lesson.title}\n\n{count} of {len(lesson.questions)} right{numbers}.\n\n"
    return f"{head}| question | answer | tries | shown | right |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
