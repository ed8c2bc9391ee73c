"""Checks a lesson as its readers will meet it: all expressions compute, one choice is right, and nothing gives an answer away."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session
from tui_gru.teaching.course import Course, Executor
from tui_gru.teaching.judging import typed_number
from tui_gru.teaching.lesson import CommandBlock, Lesson, LessonError, Question, Words
from tui_gru.teaching.values import number_in_text

# ------------------------------------------------------------------------------
# The check of one lesson, with several seeds.


SEEDS = (1, 2, 3, 4, 5)
LEAST_DIGITS = 3  # significant digits of a number by which a text gives an answer away
_NUMBER = re.compile(r"(?<![\w.])[-−+]?\d+(?:[.,]\d+)?(?:e[-−]?\d+)?(?: ?%)?(?![\w])")


class Problem(NamedTuple):
    """What is wrong with a lesson, with the seed at which it was met."""

    seed: int
    text: str


class CheckedQuestion(NamedTuple):
    """A question with its right answer, as a seed gives it."""

    question: Question
    words: str
    answer: str


def lesson_problems(
    lesson: Lesson,
    begin: Callable[[Session], Executor],
    seed: int,
    list_question: Callable[[CheckedQuestion], object] | None = None,
) -> Iterator[Problem]:
    """Go through a lesson with a seed, and yield its problems; `list_question` is called with each question.

    The walk ends at the first problem that a reader could not get past.
    """
    try:
        course = Course(lesson, begin, seed)
    except TuiGruError as error:
        yield Problem(seed, str(error))
        return
    try:
        for problem in _problems(course, list_question):
            yield Problem(seed, str(problem))
    except TuiGruError as error:
        yield Problem(seed, str(error))
    finally:
        course.close()


def _problems(course: Course, list_question: Callable[[CheckedQuestion], object] | None) -> Iterator[LessonError]:
    lesson, judge = course.lesson, course.judge
    for card in lesson.cards:
        heading, texts = course.filled(card.heading, card.line), list[tuple[str, int]]()
        texts.append((heading, card.line))
        for part in card.parts:
            match part:
                case Words():
                    texts.append((course.filled(part.text, part.line), part.line))
                case CommandBlock():
                    for command in part.commands:
                        course.execute(command)
                    texts = []  # what stands above has been read before
                case Question():
                    words = course.filled(part.words, part.line)
                    answer = judge.answer(part)
                    if list_question is not None:
                        list_question(CheckedQuestion(part, words, answer))
                    yield from _of_question(course, part, answer, [*texts, (words, part.line)])


def _of_question(course: Course, question: Question, answer: str, texts: list[tuple[str, int]]) -> Iterator[LessonError]:
    lesson, judge = course.lesson, course.judge
    verdict = judge.judged(question, answer)
    if not verdict.right:
        yield lesson.error(question.line, f"the right answer {answer} is not taken: {verdict.hint}")
    judge.after(question)
    judge.why(question)
    hint = judge.hint(question)
    texts += [(course.filled(choice.words, choice.line), choice.line) for choice in question.choices]
    numbers = _wrong_numbers(course, question)
    if question.kind == "answer" and not isinstance(value := judge.value(question), str):
        true = float(np.asarray(value).reshape(-1)[0])
        if not math.isfinite(true):
            yield lesson.error(
                question.line, f"answer: {question.answer} is {number_in_text(true)} with this seed; ask for another number"
            )
        for number, line in numbers:
            if math.isclose(number, true, rel_tol=1e-6, abs_tol=1e-12):
                yield lesson.error(
                    line, f"wrong: gives {number_in_text(number)}, which is the answer; another expression, or leave it out"
                )
        for words, line in [*texts, (hint, question.line)]:
            if (leak := gives_away(words, true)) is not None:
                where = "the hint" if words is hint else "the text"
                yield lesson.error(line, f"{where} gives the answer away: {leak}")
    elif question.kind == "line":
        asked = judge.line_judge(question).answer
        for words, line in [*texts, (hint, question.line)]:
            if asked.replace(" ", "") in words.replace("-", "−").replace(" ", "") and len(asked) > 2:
                yield lesson.error(line, f"the text gives the line away: {asked}")
        for wrong in question.wrong:
            if judge.line_judge(question).judged(wrong.expression)[0]:
                yield lesson.error(wrong.line, f"wrong: {wrong.expression} is right; write another formula, or leave it out")


def _wrong_numbers(course: Course, question: Question) -> list[tuple[float, int]]:
    numbers = []
    for wrong in question.wrong:
        try:
            course.filled(wrong.words, wrong.line)
            if question.kind == "answer":
                value: Any = np.asarray(course.values.value(wrong.expression, question.model))
                numbers.append((float(value.reshape(-1)[0]), wrong.line))
        except (TuiGruError, ValueError, IndexError) as error:
            reason = str(error) if str(error).startswith(course.lesson.file) else f"{wrong.expression}: {error}"
            raise TuiGruError(
                reason if reason.startswith(course.lesson.file) else f"{course.lesson.file}:{wrong.line}: {reason}"
            ) from None
    return numbers


def gives_away(words: str, true: float) -> str | None:
    """Return the number in a text that is the answer, to at least three significant digits; None if there is none."""
    for match in _NUMBER.finditer(words):
        number = typed_number(match[0])
        if number is not None and number.digits >= LEAST_DIGITS and number.value and number.fits(true):
            return match[0].strip()
    return None
