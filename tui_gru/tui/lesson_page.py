"""Writes a lesson as one HTML file, in which questions are answered without a network: with the screen at every question."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
from rich.cells import cell_len

from tui_gru.disk import save_bytes
from tui_gru.errors import TuiGruError, safe_text
from tui_gru.paths import FilePath
from tui_gru.session.snapshot import View
from tui_gru.teaching.course import Course
from tui_gru.teaching.formulas import BatchValues, LineJudge, MisfitError
from tui_gru.teaching.judging import place_key
from tui_gru.teaching.lesson import CommandBlock, Lesson, Question, Words
from tui_gru.teaching.masking import AnswerMask, mask_of
from tui_gru.teaching.slips import readings, slips_of
from tui_gru.tui.console import Console
from tui_gru.tui.headless import UnseenScreen
from tui_gru.tui.lessons import CODE, paragraphs
from tui_gru.tui.terminal import NumberInView

# ------------------------------------------------------------------------------
# The page.


PAGE = Path(__file__).with_name("lesson.html")
SIZE = (100, 34)  # of the screen beside a question
BELOW = 4  # rows of the time line, of messages and of keys, which a page does not need
MOST_SLIPS = 120  # of a question; the likeliest are kept
MOST_NUMBERS = 40_000  # of all values of a batch that a line is evaluated on
DIGITS = 9


def write_lesson(lesson: Lesson, path: FilePath, *, seed: int | None = None, force: bool = False) -> int:
    """Write a lesson as a page, and return its size in bytes. Raises `TuiGruError` if it cannot be computed or written."""
    page = lesson_page(lesson, seed=seed).encode()
    target = Path(path)
    if target.exists() and not force:
        raise TuiGruError(f"{target} exists and is left as it is; name another file, or add --force", option="o")
    save_bytes(target, page)
    return len(page)


def lesson_page(lesson: Lesson, *, seed: int | None = None) -> str:
    """Return a lesson as a page. Raises `TuiGruError` if it cannot be computed."""
    with closing(Course(lesson, Console, seed)) as course:
        writer = _PageWriter(course)
        cards = "".join(writer.cards())
    minutes = f"{lesson.minutes} minutes" if lesson.minutes else ""
    return Template(PAGE.read_text(encoding="utf-8")).safe_substitute(
        title=html.escape(lesson.title),
        audience=html.escape(" · ".join(filter(None, (f"for: {lesson.audience}" * bool(lesson.audience), minutes)))),
        cards=cards,
        values=_json(writer.batches),
    )


def _json(data: Any) -> str:
    """Return data as JSON that can stand in an element of a page."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _inline(text: str) -> str:
    """Return Markdown text with its code and emphasis as elements."""
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(safe_text(text), quote=False))
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", escaped)


class HiddenText(NamedTuple):
    """A text of the page, in which answers are hidden: that of the screen, or one with Markdown. `place` counts the commands before
    it; `own` is the question whose words it is, 0 for other texts."""

    text: str
    place: int
    own: int = 0
    is_screen: bool = False
    numbers: tuple[NumberInView, ...] = ()

    def spans(self, mask: AnswerMask) -> list[tuple[int, int]]:
        """Return the places that a mask hides, of numbers by their values."""
        spans = mask.spans(self.text)
        for number in self.numbers:
            begins, ends = (index_of_cell(self.text, cell) for cell in (number.x, number.x + number.width))
            spans = [span for span in spans if not (span[0] < ends and begins < span[1])]
            if mask.hides(number.name, number.value):
                spans.append((begins, ends))
        return spans


def index_of_cell(text: str, cell: int) -> int:
    """Return the index of the character that begins at a cell of a text, or its length."""
    at = 0
    for i, char in enumerate(text):
        if at >= cell and cell_len(char):
            return i
        at += cell_len(char)
    return len(text)


class _PageWriter:
    """Writes the cards of a course as it goes through them."""

    def __init__(self, course: Course) -> None:
        self._course, self._lesson = course, course.lesson
        self.batches: list[dict[str, Any]] = []  # the values of the batches of the lines that are asked for
        self._batch_of: dict[tuple[str, int], int] = {}
        self._masks: dict[int, tuple[int, AnswerMask]] = {}  # by question, with its place
        self._place = 0  # the commands so far

    def cards(self) -> Iterator[str]:
        """Yield the cards, with `?` in the place of each answer, in all that comes after the last command before its question."""
        parts = list(self._parts())  # all masks are computed before the first text is written
        yield from (part if isinstance(part, str) else self._written(part) for part in parts)

    def _parts(self) -> Iterator[str | HiddenText]:
        for card in self._lesson.cards:
            yield "<section>\n<h2>"
            yield self._text(self._course.filled(card.heading, card.line))
            yield "</h2>\n"
            for part in card.parts:
                match part:
                    case Words():
                        for paragraph in paragraphs(self._course.filled(part.text, part.line)):
                            opening = '<p class="code">' if paragraph.startswith(CODE) else "<p>"
                            yield from (opening, self._text(paragraph), "</p>\n")
                    case CommandBlock():
                        for command in part.commands:
                            answer = self._course.execute(command).split("\n")[0]
                            self._place += 1
                            if part.pressed:
                                yield f'<p class="press"><kbd>{html.escape(command.text)}</kbd> <span>'
                                yield from (self._text(answer), "</span></p>\n")
                    case Question():
                        self._masks[part.number] = self._place, mask_of(self._course.judge, part)
                        yield from self._question(part)
            yield "</section>\n"

    def _text(self, text: str, own: int = 0) -> HiddenText:
        return HiddenText(text, self._place, own)

    def _written(self, hidden: HiddenText) -> str:
        """Return a text as HTML, with `?` in the place of answers until their questions are answered."""
        spans: list[tuple[int, int, int]] = []
        for number, (place, mask) in self._masks.items():
            if number != hidden.own and hidden.place >= place:
                new = ((*span, number) for span in hidden.spans(mask))
                spans += [span for span in new if not any(a < span[1] and span[0] < b for a, b, _ in spans)]
        write = html.escape if hidden.is_screen else _inline
        written, at = "", 0
        for begins, ends, number in sorted(spans):
            text = hidden.text[begins:ends]
            sign = "?".center(ends - begins) if hidden.is_screen else "?"
            shown = f'<span class="hidden" data-question="{number}" data-text="{html.escape(text)}">{sign}</span>'
            written, at = f"{written}{write(hidden.text[at:begins])}{shown}", ends
        return written + write(hidden.text[at:])

    # Questions

    def _question(self, question: Question) -> Iterator[str | HiddenText]:
        judge, total, number = self._course.judge, len(self._lesson.questions), question.number
        data: dict[str, Any] = {"number": number, "kind": question.kind}
        data |= {"hint": judge.hint(question), "why": judge.why(question)}
        yield from self._screen(question)
        yield f'<div class="question">\n<span class="number">{number} of {total}</span>\n'
        for paragraph in paragraphs(self._course.filled(question.words, question.line)):
            yield from ("<p>", self._text(paragraph, number), "</p>\n")
        match question.kind:
            case "choice":
                data["right"] = judge.right_choice(question)
                data["after"] = [
                    text * (bool(question.right) or i == data["right"]) for i, text in enumerate(judge.after(question))
                ]
                for i, choice in enumerate(question.choices):
                    yield f'<label><input type="radio" name="q{number}" value="{i}"> '
                    yield self._text(self._course.filled(choice.words, choice.line), number)
                    yield " <i></i></label>\n"
            case "place":
                program = self._course.values.session(question.model).program
                right = judge.answer(question)
                spelled = {right, *(name for name in program.spellings if place_key(program, name) == place_key(program, right))}
                data["places"] = sorted(spelled)
            case "line":
                data |= self._line(judge.line_judge(question))
            case _:
                data |= self._number(question)
        if question.kind != "choice":
            yield f'<input class="typed" size="{40 if question.kind == "line" else 16}" aria-label="answer"> '
        hint = ' <button class="hint" type="button">a hint</button>' if data["hint"] else ""
        yield (
            f'<button class="answer" type="button">answer</button>{hint}\n<span class="reply" role="status"></span>\n'
            f'<script type="application/json">{_json(data)}</script>\n</div>\n'
        )

    def _number(self, question: Question) -> dict[str, Any]:
        judge, values = self._course.judge, self._course.values
        value = judge.value(question)
        if isinstance(value, str):
            return {"text": value}
        true = float(np.asarray(value).reshape(-1)[0])
        slips = [[slip.value, slip.words, slip.rank] for slip in slips_of(values, question.answer, true, question.model)]
        return {
            "value": true,
            "readings": [number for number in readings(values, question.answer, true, question.model) if np.isfinite(number)],
            "wrong": [list(pair) for pair in judge.foreseen(question)],
            "slips": slips[:MOST_SLIPS],
        }

    def _line(self, line: LineJudge) -> dict[str, Any]:
        """Return a line with the formulas of its mutants; the values of the batch are stored once."""
        write = line.program.writer.text
        before = write(line.formula)
        asked = write(line.asked)
        data = {
            "formula": before,
            "before": "" if line.asked is line.formula else before.replace(asked, "____", 1),
            "mistakes": [[words, write(mistaken)] for words, mistaken in line.plain_mistakes()],
            "mutants": [[words, write(mistaken)] for words, mistaken in line.mutants()],
            "size": max(line.sizes),
            "batch": self._batch(line),
        }
        return data

    def _batch(self, line: LineJudge) -> int:
        first = line.batch[0]
        key = self._course.values.current, first.session.position.tick
        if key not in self._batch_of:
            self._batch_of[key] = len(self.batches)
            self.batches.append(_values_of(line))
        return self._batch_of[key]

    def _screen(self, question: Question) -> Iterator[str | HiddenText]:
        """Yield the rows of the screen at a question; folded where it asks for a choice."""
        session = self._course.values.session(question.model)
        screen = UnseenScreen(session, View(), SIZE)
        try:
            rows, numbers = screen.rows(SIZE)[:-BELOW], screen.numbers()
        finally:
            screen.close()
        opened = " open" if question.kind != "choice" else ""
        yield f'<details{opened}><summary>the screen here</summary><pre class="screen">'
        for y, row in enumerate(rows):
            in_row = tuple(number for number in numbers if number.y == y)
            yield from (HiddenText(row.rstrip(), self._place, is_screen=True, numbers=in_row), "\n")
        yield "</pre></details>\n"


def _values_of(line: LineJudge) -> dict[str, Any]:
    """Return the values of a batch by the names on the screen and in code, at all timesteps."""
    program, steps = line.program, range(line.program.seq_length)
    names: dict[str, Any] = {axis: {"timed": False, "at": size} for axis, size in program.config.compiled.sizes.items()}
    room = MOST_NUMBERS
    wanted = [*dict.fromkeys([*line.formula.names(), *program.names])]
    for name in wanted:
        named = program.names.get(name)
        if named is None:
            continue
        try:
            at = [_rounded(BatchValues(line.batch[0].session, t).read(name)) for t in (steps if named.timed else (0,))]
        except (MisfitError, ValueError, TypeError):  # it is not computed in this batch, or no number
            continue
        room -= sum(np.size(value) for value in at)
        if room < 0:
            break
        entry = {"timed": named.timed, "at": at if named.timed else at[0]}
        for spelling in {name, program.writer.name(name)}:
            names[spelling] = entry
    return {"steps": list(steps), "names": names}


def _rounded(value: Any) -> Any:
    array = np.asarray(value, np.float64)
    if not array.ndim:
        return float(f"{float(array):.{DIGITS}g}")
    return [_rounded(part) for part in array]
