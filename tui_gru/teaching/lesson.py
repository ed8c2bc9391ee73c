"""A lesson as a Markdown file with four kinds of fenced blocks: its parts, its reader, and the lessons that are shipped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from tui_gru.errors import TuiGruError, safe_text, shown
from tui_gru.paths import permitted

# ------------------------------------------------------------------------------
# The parts of a lesson.


SHIPPED = Path(__file__).parents[1] / "lessons"
SUFFIX = ".md"
BLOCKS = ("lesson", "do", "press", "ask")
LONGEST = 2**20  # bytes of a lesson file
LETTERS = "abcdefgh"
MOST_CHOICES = len(LETTERS)


class LessonError(TuiGruError):
    """A lesson that cannot be read or executed. The message names the file, the line and the cure."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}:{line}: {reason}" if line else f"{file}: {reason}")


class SourceLine(NamedTuple):
    """A text of the file, and the number of its first line, from 1."""

    text: str
    number: int


@dataclass(frozen=True)
class Words:
    """Text of a card, in which `{expressions}` are replaced by their values."""

    text: str
    line: int


@dataclass(frozen=True)
class CommandBlock:
    """Commands that the program executes silently, or, with `pressed`, that the reader executes."""

    commands: tuple[SourceLine, ...]
    pressed: bool
    line: int


class Choice(NamedTuple):
    """A choice of a question: its words, what is shown once it is answered, and the expression that decides whether it is right."""

    words: str
    after: str
    decides: str
    line: int


class WrongAnswer(NamedTuple):
    """A mistake that the author foresees: an expression of its value, and what is said about it."""

    expression: str
    words: str
    line: int


#: The kinds of questions, by the field that has the answer.
ANSWERS = ("answer", "line", "place")


@dataclass(frozen=True)
class Question:
    """A question. `number` counts them through the lesson, from 1; `kind` is one of `ANSWERS`, or `choice`.

    `answer` is the expression of a number or letter, the target of a line, or a place. `hidden` is the term of a line that is
    asked for, empty for the complete line. With `right`, the choice with the largest or smallest number is right; without it, the
    one whose condition holds. `model` is the name of the model that it is about, empty for the current one. With `visible`, the
    number is one to be found on the screen, and is not hidden there.
    """

    number: int
    words: str
    kind: str
    answer: str
    line: int
    choices: tuple[Choice, ...] = ()
    right: str = ""
    hidden: str = ""
    model: str = ""
    wrong: tuple[WrongAnswer, ...] = ()
    hint: str = ""
    why: str = ""
    visible: bool = False


Part = Words | CommandBlock | Question


@dataclass(frozen=True)
class LessonCard:
    """A card: its heading, and its parts in their order."""

    heading: str
    parts: tuple[Part, ...]
    line: int


@dataclass(frozen=True)
class LessonModel:
    """A model of a lesson: the options as they are typed after `tui-gru`."""

    name: str
    options: str
    line: int


@dataclass(frozen=True)
class Lesson:
    """A lesson. `name` is that of its file, without the suffix; `folder` has the files that its models read."""

    name: str
    file: str
    folder: Path
    title: str
    audience: str
    minutes: int
    models: tuple[LessonModel, ...]
    cards: tuple[LessonCard, ...]

    @property
    def questions(self) -> tuple[Question, ...]:
        """All questions, in their order."""
        return tuple(part for card in self.cards for part in card.parts if isinstance(part, Question))

    def error(self, line: int, reason: str) -> LessonError:
        return LessonError(self.file, line, reason)


# ------------------------------------------------------------------------------
# The reader.


_FENCE = re.compile(r"(`{3,}|~{3,})\s*(\S*)\s*(.*)")
_FIELD = re.compile(r"([a-z]+):(?:\s+(.*))?")
_FIELDS = ("answer", "line", "place", "hide", "right", "on", "wrong", "hint", "why", "visible")
_REPEATED = ("wrong",)
_MODEL = re.compile(r"model(?:\s+([^\W\d]\w*))?")
_DECIDES = re.compile(r"(.*)\s(if|by)\s(.*)")
_QUITS = re.compile(r":?\s*(?:\d*\s*)(?:q|ctrl\+z|ctrl\+c)")
_REFUSED = ("save", "save!", "export", "export!", "open", "quit", "suspend")
MAIN = "main"  # the name of the only model
_ANY_BLOCK = f"a block is one of {', '.join(BLOCKS[:-1])} and {BLOCKS[-1]}"


def lesson_of(text: str, file: str, folder: Path) -> Lesson:
    """Return the lesson that a text describes; `file` is its name in errors. Raises `LessonError`."""
    return _LessonReader(text, file, folder).read()


def read_lesson(typed: str | Path) -> Lesson:
    """Return a shipped lesson, by its name, or the lesson in a file. Raises `LessonError` or `TuiGruError`."""
    path = shipped_lessons().get(str(typed)) or permitted(typed)
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
    except FileNotFoundError:
        near = get_close_matches(str(typed), shipped_lessons(), 1)
        cure = f"did you mean {near[0]}?" if near else f"the lessons are {', '.join(shipped_lessons())}, or name a .md file"
        raise TuiGruError(f"there is no lesson and no file {typed}; {cure}") from None
    except ValueError:  # a zero byte, or half a surrogate pair
        raise TuiGruError(f"{shown(str(typed))} is not a file name; name a lesson, or the .md file of one") from None
    except OSError as error:
        raise TuiGruError(f"cannot read {path}: {error.strerror}; name a lesson, or the .md file of one") from None
    if len(data) > LONGEST:
        raise LessonError(str(path), 0, f"is longer than {LONGEST >> 20} MiB; a lesson is a few pages of text")
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise LessonError(str(path), line, f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8") from None
    return lesson_of(text, path.name if path.parent == SHIPPED else str(path), path.parent)


def shipped_lessons() -> dict[str, Path]:
    """Return the files of the shipped lessons by their names, in the order in which they are taught."""
    order = (SHIPPED / "order.txt").read_text(encoding="utf-8").split()
    paths = {path.stem: path for path in sorted(SHIPPED.glob(f"*{SUFFIX}"))}
    return {name: paths[name] for name in (*(name for name in order if name in paths), *(n for n in paths if n not in order))}


def refused_in_lessons(command: str) -> bool:
    """Return True for a command that ends the program, or reads or writes files of the reader: lessons come from others."""
    word = command.lstrip(": ").partition(" ")[0].lower()
    return _QUITS.fullmatch(command.strip()) is not None or any(name.startswith(word) for name in _REFUSED if len(word) > 2)


class _LessonReader:
    """Reads a lesson from top to bottom."""

    def __init__(self, text: str, file: str, folder: Path) -> None:
        self._lines = text.splitlines()
        self._file, self._folder = file, folder
        self._title = ""
        self._options: list[SourceLine] = []
        self._cards: list[tuple[str, int, list[Part]]] = []
        self._paragraphs: list[SourceLine] = []
        self._questions = 0

    def read(self) -> Lesson:
        at = 0
        while at < len(self._lines):
            line, number = self._lines[at], at + 1
            if (fence := _FENCE.fullmatch(line)) is not None:
                at = self._block(at, fence[1], fence[2], fence[3])
                continue
            if line.startswith("# "):
                self._set_title(line[2:].strip(), number)
            elif line.startswith("## "):
                self._end_words()
                self._cards.append((line[3:].strip(), number, []))
            else:
                self._paragraphs.append(SourceLine(line.rstrip(), number))
            at += 1
        self._end_words()
        if not self._title:
            raise self._error(1, "a lesson begins with its title; write # and the title on the first line")
        if not self._cards:
            raise self._error(len(self._lines), "there is no card; write ## and a heading, then what the card says")
        cards = tuple(LessonCard(heading, tuple(parts), number) for heading, number, parts in self._cards)
        audience, minutes, models = self._header()
        name = Path(self._file).stem
        return Lesson(name, self._file, self._folder, self._title, audience, minutes, models, cards)

    def _error(self, number: int, reason: str) -> LessonError:
        return LessonError(self._file, number, reason)

    def _set_title(self, title: str, number: int) -> None:
        if self._title:
            raise self._error(number, "this is a second title; write ## for the heading of a card")
        self._title = title

    def _end_words(self) -> None:
        """End the text before a block or a heading."""
        lines, self._paragraphs = self._paragraphs, []
        while lines and not lines[0].text:
            lines.pop(0)
        if text := "\n".join(line.text for line in lines).strip():
            self._parts(lines[0].number).append(Words(text, lines[0].number))

    def _parts(self, number: int) -> list[Part]:
        if not self._cards:
            if not self._title:
                raise self._error(number, "a lesson begins with its title; write # and the title on the first line")
            self._cards.append((self._title, number, []))  # what stands before the first heading
        return self._cards[-1][2]

    def _block(self, at: int, fence: str, kind: str, rest: str) -> int:
        """Read the block that begins at a line (0-based); return the line after it."""
        begins, number = at, at + 1
        at += 1
        while at < len(self._lines) and self._lines[at].rstrip() != fence:
            at += 1
        if at == len(self._lines):
            raise self._error(number, f"this block has no end; close it with {fence} on a line of its own")
        if kind not in BLOCKS or rest:
            near = get_close_matches(kind, BLOCKS, 1)
            cure = f"did you mean {near[0]}?" if near and not rest else "indent what is only to be shown by four spaces"
            raise self._error(number, f"{_ANY_BLOCK}, not {safe_text(' '.join((kind, rest)).strip()) or 'without a word'}; {cure}")
        body = [SourceLine(line.rstrip(), begins + 2 + i) for i, line in enumerate(self._lines[begins + 1 : at])]
        self._end_words()
        if kind == "lesson":
            if self._options:
                raise self._error(number, "this is a second block lesson; write all options in the first")
            self._options = body
        elif kind == "ask":
            self._parts(number).append(self._question(body, number))
        else:
            commands = tuple(SourceLine(line.text.strip(), line.number) for line in body if line.text.strip())
            if not commands:
                raise self._error(number, f"this block {kind} has no command; write one a line, or remove it")
            for command in commands:
                if refused_in_lessons(command.text):
                    reason = f"{safe_text(command.text)}: a lesson neither ends the program nor reads or writes files; leave it out"
                    raise self._error(command.number, reason)
            self._parts(number).append(CommandBlock(commands, kind == "press", number))
        return at + 1

    def _header(self) -> tuple[str, int, tuple[LessonModel, ...]]:
        audience, minutes, models = "", 0, list[LessonModel]()
        for text, number in self._options:
            if not text.strip():
                continue
            name, colon, value = (part.strip() for part in text.partition(":"))
            if not colon:
                raise self._error(number, f"{safe_text(text)!r} is no option; write a name, a colon and a value, as in minutes: 10")
            if name == "for":
                audience = value
            elif name == "minutes":
                if not value.isdecimal() or not 0 < int(value) < 1000:
                    raise self._error(number, f"minutes is a whole number such as 10, not {safe_text(value)!r}")
                minutes = int(value)
            elif (named := _MODEL.fullmatch(name)) is not None:
                models.append(LessonModel(named[1] or MAIN, value.strip("` "), number))
                if len({model.name for model in models}) < len(models):
                    raise self._error(number, f"there are two models {models[-1].name}; write model NAME: to tell them apart")
            else:
                raise self._error(
                    number, f"there is no option {safe_text(name)!r}; the options are for, minutes, model and model NAME"
                )
        return audience, minutes, tuple(models) or (LessonModel(MAIN, "", 0),)

    # Questions

    def _question(self, body: Sequence[SourceLine], number: int) -> Question:
        words: list[str] = []
        fields: list[tuple[str, SourceLine]] = []
        choices: list[Choice] = []
        for kind, line in self._joined(body):
            if kind == "words":
                if fields or choices:
                    reason = "the question stands above its answer; move this line up, or indent it to continue the line before it"
                    raise self._error(line.number, reason)
                words.append(line.text)
            elif kind == "choice":
                choices.append(self._choice(line))
            else:
                if not line.text:
                    raise self._error(line.number, f"{kind}: has no value; write it after the colon, or remove the line")
                if kind not in _REPEATED and any(kind == name for name, _ in fields):
                    raise self._error(line.number, f"{kind}: stands twice in this question; keep one")
                fields.append((kind, line))
        if not words:
            raise self._error(number, "this block has no question; write it above its answer")
        values = {name: line for name, line in fields if name not in _REPEATED}
        kind, answer = self._answer(values, choices, number)
        right = self._right(values.get("right"), choices)
        if (hide := values.get("hide")) is not None and kind != "line":
            raise self._error(hide.number, "hide: belongs to line:, the line of which a term is asked for")
        self._questions += 1
        question = Question(self._questions, "\n".join(words), kind, answer, number, tuple(choices), right)
        wrong = tuple(self._wrong(line, kind) for name, line in fields if name == "wrong")
        hidden, model, hint, why = (values[name].text if name in values else "" for name in ("hide", "on", "hint", "why"))
        if (visible := values.get("visible")) is not None and (visible.text != "yes" or kind not in ("answer", "line")):
            cure = "write visible: yes where the reader is to find the number on the screen, or leave the line out"
            raise self._error(visible.number, f"visible: belongs to answer: and line:; {cure}")
        return replace(question, hidden=hidden, model=model, wrong=wrong, hint=hint, why=why, visible=visible is not None)

    def _joined(self, body: Sequence[SourceLine]) -> Iterator[tuple[str, SourceLine]]:
        """Yield the lines of a question with their kinds: words, choice, or the name of a field. An indented line continues the one
        before it."""
        pending: tuple[str, SourceLine] | None = None
        for line in body:
            if not line.text.strip():
                continue
            if line.text[0].isspace() and pending is not None and pending[0] != "words":
                kind, before = pending
                pending = kind, SourceLine(f"{before.text} {line.text.strip()}", before.number)
                continue
            if pending is not None:
                yield pending
            field = _FIELD.fullmatch(line.text)
            if line.text.startswith(("- ", "* ")):
                pending = "choice", SourceLine(line.text[2:].strip(), line.number)
            elif field is not None and field[1] in _FIELDS:
                pending = field[1], SourceLine((field[2] or "").strip(), line.number)
            else:
                if field is not None and (near := get_close_matches(field[1], _FIELDS, 1, 0.75)):
                    raise self._error(line.number, f"there is no {field[1]}: in a question; did you mean {near[0]}:?")
                pending = "words", SourceLine(line.text.strip(), line.number)
        if pending is not None:
            yield pending

    def _choice(self, line: SourceLine) -> Choice:
        decided = _DECIDES.fullmatch(line.text)
        if decided is None or "}" in decided[3]:
            reason = "a choice ends with what decides it: if and a condition, as in - yes if loss < 1, or by and a number"
            raise self._error(line.number, reason)
        words, _, after = decided[1].partition(" -> ")
        return Choice(words.strip(), after.strip(), f"{decided[2]} {decided[3].strip()}", line.number)

    def _answer(self, values: dict[str, SourceLine], choices: list[Choice], number: int) -> tuple[str, str]:
        kinds = [name for name in ANSWERS if name in values] + ["choice"] * bool(choices)
        if not kinds:
            cure = "add answer: and an expression, line: and a line, place: and a name, or choices that begin with -"
            reason = f"this question has no answer; {cure}"
            raise self._error(number, reason)
        if len(kinds) > 1:
            raise self._error(values[kinds[0]].number, f"this question has {' and '.join(kinds)}; keep one of them")
        if choices and not 2 <= len(choices) <= MOST_CHOICES:
            count = "one choice" if len(choices) == 1 else f"{len(choices)} choices"
            raise self._error(choices[0].line, f"this question has {count}; write 2 to {MOST_CHOICES}")
        return kinds[0], values[kinds[0]].text if kinds[0] in values else ""

    def _right(self, right: SourceLine | None, choices: list[Choice]) -> str:
        if right is not None and (right.text not in ("largest", "smallest") or not choices):
            raise self._error(right.number, "right: is largest or smallest, for choices that end with by and a number")
        word = "if" if right is None else "by"
        for choice in choices:
            if not choice.decides.startswith(f"{word} "):
                cure = "add right: largest or right: smallest" if right is None else "write by and a number"
                raise self._error(choice.line, f"this choice does not end with {word}; {cure}")
        return "" if right is None else right.text

    def _wrong(self, line: SourceLine, kind: str) -> WrongAnswer:
        expression, arrow, words = (part.strip() for part in line.text.partition("->"))
        if not arrow or not expression or not words:
            raise self._error(
                line.number, "wrong: is an expression, ->, and what is said about it, as in wrong: loss * 2 -> Halve it."
            )
        if kind == "choice":
            raise self._error(
                line.number, "wrong: belongs to a question with answer:, line: or place:; say it after -> of the choice"
            )
        return WrongAnswer(expression, words, line.number)
