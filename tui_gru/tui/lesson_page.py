"""Writes a lesson as one HTML file, in which questions are answered without a network: with the screen at every question."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

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
from tui_gru.tui.lessons import paragraphs

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
        cards = "\n".join(writer.cards())
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


class _PageWriter:
    """Writes the cards of a course as it goes through them."""

    def __init__(self, course: Course) -> None:
        self._course, self._lesson = course, course.lesson
        self.batches: list[dict[str, Any]] = []  # the values of the batches of the lines that are asked for
        self._batch_of: dict[tuple[str, int], int] = {}

    def cards(self) -> Iterator[str]:
        for card in self._lesson.cards:
            parts = [f"<section>\n<h2>{_inline(self._course.filled(card.heading, card.line))}</h2>"]
            for part in card.parts:
                match part:
                    case Words():
                        text = self._course.filled(part.text, part.line)
                        parts += [f"<p>{_inline(paragraph)}</p>" for paragraph in paragraphs(text)]
                    case CommandBlock():
                        answers = [(command.text, self._course.execute(command)) for command in part.commands]
                        if part.pressed:
                            parts += [self._pressed(command, answer) for command, answer in answers]
                    case Question():
                        parts.append(self._question(part))
            yield "\n".join([*parts, "</section>"])

    def _pressed(self, command: str, answer: str) -> str:
        said = answer.split("\n")[0]
        return f'<p class="press"><kbd>{html.escape(command)}</kbd> <span>{html.escape(said)}</span></p>'

    # Questions

    def _question(self, question: Question) -> str:
        judge, total = self._course.judge, len(self._lesson.questions)
        data: dict[str, Any] = {"number": question.number, "kind": question.kind}
        data |= {"hint": judge.hint(question), "why": judge.why(question)}
        field = ""
        match question.kind:
            case "choice":
                data["right"] = judge.right_choice(question)
                after = judge.after(question)
                for i, choice in enumerate(question.choices):
                    words = _inline(self._course.filled(choice.words, choice.line))
                    more = f" <i>{_inline(after[i])}</i>" if question.right or i == data["right"] else ""
                    field += f'<label><input type="radio" name="q{question.number}" value="{i}"> {words}{more}</label>\n'
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
            field = f'<input class="typed" size="{40 if question.kind == "line" else 16}" aria-label="answer"> '
        hint = ' <button class="hint" type="button">a hint</button>' if data["hint"] else ""
        words = "".join(f"<p>{_inline(part)}</p>" for part in paragraphs(self._course.filled(question.words, question.line)))
        return (
            f"{self._screen(question)}"
            f'<div class="question">\n<span class="number">{question.number} of {total}</span>\n{words}\n{field}'
            f'<button class="answer" type="button">answer</button>{hint}\n<span class="reply" role="status"></span>\n'
            f'<script type="application/json">{_json(data)}</script>\n</div>'
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

    def _screen(self, question: Question) -> str:
        """Return the rows of the screen at a question, with `?` in the place of what it asks for."""
        session = self._course.values.session(question.model)
        screen = UnseenScreen(session, View(), SIZE)
        try:
            rows = screen.rows(SIZE)[:-BELOW]
        finally:
            screen.close()
        mask = mask_of(self._course.judge, question)
        drawn = "\n".join(_masked(row.rstrip(), mask, question.number) for row in rows)
        opened = " open" if question.kind != "choice" else ""
        return f'<details{opened}><summary>the screen here</summary><pre class="screen">{drawn}</pre></details>\n'


def _masked(row: str, mask: AnswerMask, number: int) -> str:
    """Return a row of the screen as HTML, with `?` in the place of what is hidden until a question is answered."""
    written, at = "", 0
    for begins, ends in mask.spans(row):
        text = row[begins:ends]
        sign = "?".center(ends - begins)
        hidden = f'<span class="hidden" data-question="{number}" data-text="{html.escape(text)}">{sign}</span>'
        written += html.escape(row[at:begins]) + hidden
        at = ends
    return written + html.escape(row[at:])


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
