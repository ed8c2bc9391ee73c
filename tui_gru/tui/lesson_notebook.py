"""A lesson in Python and as a notebook: commands and answers are calls, and a wrong answer gets the same hint as on the screen."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from tui_gru.arguments import integer, string
from tui_gru.session.session import Session
from tui_gru.teaching.course import Course
from tui_gru.teaching.judging import Judgement
from tui_gru.teaching.lesson import LETTERS, CommandBlock, Lesson, Question, Words, read_lesson
from tui_gru.tui.console import Console

# ------------------------------------------------------------------------------
# A lesson in Python.


class Reply(str):
    """What is said about an answer; `right` says whether it is."""

    right: bool = False

    @classmethod
    def of(cls, judgement: Judgement) -> Reply:
        """Return the reply to an answer that has been judged."""
        sign = "✓" if judgement.right else "·" if judgement.unread else "✗"
        reply = cls(f"{sign} {judgement.hint or ('right' if judgement.right else '')}".rstrip())
        reply.right = judgement.right
        return reply

    def __repr__(self) -> str:
        return str(self)


class LessonWalkthrough:
    """A lesson that is gone through by calls: `run` executes what the reader presses next, `ask` judges an answer."""

    def __init__(self, opened: Lesson, seed: int | None = None) -> None:
        self._lesson, self._seed = opened, seed
        self._parts = [part for card in opened.cards for part in card.parts]
        self._course, self._passed = Course(opened, Console, seed), 0  # the number of parts whose commands are executed

    def __repr__(self) -> str:
        return f"<lesson {self._lesson.name}: {len(self._lesson.questions)} questions>"

    @property
    def session(self) -> Session:
        """The session of the current model, at the place where the lesson is."""
        return self._course.session

    def run(self) -> str:
        """Execute the next commands that the reader presses, with those before them, and return their answers."""
        while self._passed < len(self._parts):
            part, answers = self._parts[self._passed], self._execute_part()
            if isinstance(part, CommandBlock) and part.pressed:
                return "\n".join(filter(None, (answer.split("\n")[0] for answer in answers)))
        return "the lesson has no further commands"

    def ask(self, question: int, typed: str | float) -> Reply:
        """Return what is said about an answer to a question, by its number; its `right` says whether it is right.

        The commands before the question are executed first; for a question that the lesson has passed, from the beginning. Raises
        `TuiGruError` for an unknown question.
        """
        number = integer("the question", question, least=1, most=len(self._lesson.questions))
        asked = self._lesson.questions[number - 1]
        at = self._parts.index(asked)
        if any(isinstance(part, CommandBlock) for part in self._parts[at : self._passed]):
            self._course.close()
            self._course, self._passed = Course(self._lesson, Console, self._seed), 0
        while self._passed < at:
            self._execute_part()
        answer = string("the answer", typed if isinstance(typed, str) else repr(typed))
        return Reply.of(self._course.judge.judged(asked, answer))

    def _execute_part(self) -> list[str]:
        part = self._parts[self._passed]
        self._passed += 1
        return [self._course.execute(command) for command in part.commands] if isinstance(part, CommandBlock) else []


def lesson(name: str | Path, seed: int | None = None) -> LessonWalkthrough:
    """Open a shipped lesson, by its name, or the lesson in a file, with other numbers by another seed. Raises `TuiGruError`."""
    return LessonWalkthrough(read_lesson(name), seed)


# ------------------------------------------------------------------------------
# The notebook.


def notebook_of(opened: Lesson, typed: str, seed: int | None = None) -> str:
    """Return a lesson as a notebook: its words as text, its commands and questions as calls. `typed` is its name or file.

    The numbers in its words are computed here, with the seed. Raises `LessonError` if one cannot be.
    """
    cells: list[dict[str, Any]] = []
    given = "" if seed is None else f", seed={seed}"
    with closing(Course(opened, Console, seed)) as course:
        cells.append(_text(f"# {opened.title}"))
        cells.append(_code(f"import tui_gru\n\nlesson = tui_gru.lesson({typed!r}{given})"))
        for card in opened.cards:
            cells.append(_text(f"## {course.filled(card.heading, card.line)}"))
            for part in card.parts:
                match part:
                    case Words():
                        cells.append(_text(course.filled(part.text, part.line)))
                    case CommandBlock():
                        for command in part.commands:
                            course.execute(command)
                        if part.pressed:
                            words = "  ".join(command.text for command in part.commands)
                            cells.append(_code(f"print(lesson.run())  # {words}"))
                    case Question():
                        cells.append(_text(_question(course, part)))
                        cells.append(_code(f'lesson.ask({part.number}, "")'))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    numbered = [{"id": f"cell-{i}", **cell} for i, cell in enumerate(cells)]
    notebook = {"cells": numbered, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"


def _question(course: Course, question: Question) -> str:
    lines = [f"**{question.number}.** {course.filled(question.words, question.line)}"]
    if question.choices:
        choices = (f"- {LETTERS[i]}: {course.filled(choice.words, choice.line)}" for i, choice in enumerate(question.choices))
        lines += ["", *choices]
    return "\n".join(lines)


def _text(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _code(source: str) -> dict[str, Any]:
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}
