"""Says of a typed answer whether it is right, and if not, what it is: from the author, the derivation, or mutants of the line."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import numpy as np

from tui_gru.debugger.position import TypedError, index_in_words_of, position_of, tick_of
from tui_gru.debugger.program import Program
from tui_gru.errors import TuiGruError
from tui_gru.teaching.formulas import LineJudge
from tui_gru.teaching.lesson import LETTERS, Lesson, Question
from tui_gru.teaching.slips import readings, slips_of
from tui_gru.teaching.values import WORD, LessonValues, number_in_text

# ------------------------------------------------------------------------------
# Numbers as people type them.


MOST_TYPED = 1000  # characters of an answer
ENOUGH = 2  # significant digits that an answer has at least, unless it is exact
_DECIMAL = re.compile(r"([-+]?)(\d*)\.?(\d*)(?:e([-+]?\d{1,3}))?", re.IGNORECASE)


class TypedNumber(NamedTuple):
    """A number with as many digits as were typed: `unit` is that of its last digit, 0 for a whole number without a point that is
    meant exactly."""

    value: float
    unit: float
    digits: int

    def fits(self, other: float) -> bool:
        """Return True if another number is this one, rounded to the digits typed; cut off after them counts as rounded."""
        if not math.isfinite(other):
            return False
        return abs(self.value - other) <= 0.5 * self.unit * (1 + 1e-9) + 1e-6 * abs(other)


def typed_number(typed: str) -> TypedNumber | None:
    """Return a typed number, in decimal notation or as a percentage; None if it is none."""
    text = typed.strip().replace("−", "-").replace(" ", "").replace("·10^", "e").replace("*10^", "e").replace("*10**", "e")
    if "," in text and "." not in text and text.count(",") == 1:
        text = text.replace(",", ".")
    percent = text.endswith("%")
    match = _DECIMAL.fullmatch(text.removesuffix("%"))
    if match is None or not match[2] + match[3]:
        return None
    exponent = int(match[4] or 0) - 2 * percent
    digits = len((match[2] + match[3]).lstrip("0"))
    if not -320 < exponent < 300 or len(match[2] + match[3]) > 40:
        return None
    value = float(f"{match[1]}{match[2] or 0}.{match[3] or 0}e{exponent}")
    return TypedNumber(value, 10.0 ** (exponent - len(match[3])), digits)


def calculated_number(values: LessonValues, typed: str) -> TypedNumber | None:
    """Return the result of a typed calculation, such as `-log(0.1669)` or `1/6`, to three digits; None if it is none."""
    text = typed.strip().replace("−", "-")
    if not re.search(r"\d", text) or len(text) > 200:
        return None
    try:
        value = values.session().calculate(re.sub(r"\bln\b", "log", text.replace("^", "**")))
        number = float(value)
    except (TuiGruError, TypeError, ValueError):
        return None
    if names_in(text) - _FUNCTIONS or not math.isfinite(number) or not number:
        return TypedNumber(0.0, 0.0, 3) if number == 0 and not names_in(text) - _FUNCTIONS else None
    unit = 10.0 ** (math.floor(math.log10(abs(number))) - 2)
    return TypedNumber(round(number / unit) * unit, unit, 3)


_FUNCTIONS = {"log", "ln", "exp", "sqrt", "abs", "tanh", "sigmoid", "σ", "e", "min", "max"}


def names_in(text: str) -> set[str]:
    """Return the words in a calculation."""
    return set(re.findall(r"[^\W\d]\w*", re.sub(r"\d\.?\d*e[-+]?\d+", "0", text, flags=re.IGNORECASE)))


# ------------------------------------------------------------------------------
# The judge.


class Judgement(NamedTuple):
    """Whether an answer is right, and what is said about it: why, or a hint. `unread` is True for what is no answer of this kind,
    and does not count as one."""

    right: bool
    hint: str = ""
    unread: bool = False


NOT_YET, NOT_THIS = "not yet", "not this one"
MORE_DIGITS = "write a digit more: with these, another number fits as well"


class Judge:
    """Judges answers to the questions of a lesson at the places where its sessions are."""

    def __init__(self, lesson: Lesson, values: LessonValues) -> None:
        self._lesson, self._values = lesson, values

    def judged(self, question: Question, typed: str) -> Judgement:
        """Return what is to be said about an answer. Raises `LessonError` if the question itself cannot be computed."""
        typed = typed.strip()
        if not typed:
            return Judgement(False, "type an answer", unread=True)
        if len(typed) > MOST_TYPED:
            return Judgement(False, f"an answer has at most {MOST_TYPED} characters", unread=True)
        match question.kind:
            case "choice":
                return self._choice(question, typed)
            case "line":
                return self._line(question, typed)
            case "place":
                return self._place(question, typed)
        return self._number(question, typed)

    def answer(self, question: Question) -> str:
        """Return the right answer as a reader may type it. Raises `LessonError`."""
        match question.kind:
            case "choice":
                return LETTERS[self.right_choice(question)]
            case "line":
                return self.line_judge(question).answer
            case "place":
                return self._filled(question.answer, question)
        return number_in_text(self.value(question))

    def value(self, question: Question) -> Any:
        """Return the right number, or text, of a question that asks for one."""
        return self._computed(question.answer, question, question.line)

    def names(self, question: Question) -> dict[str, tuple[str, ...]]:
        """Return the names of the program that the answer reads, each with its spellings."""
        model, expression = self._values.model_of(question.answer, question.model)
        program = self._values.session(model).program
        words = {program.code_name(word) for word in WORD.findall(expression)}
        spelled: dict[str, tuple[str, ...]] = {}
        for name in sorted(words & program.names.keys()):
            spelled[name] = tuple({name, program.writer.name(name)})
        return spelled

    def right_choice(self, question: Question) -> int:
        """Return the place of the choice that is right. Raises `LessonError` unless it is exactly one."""
        decided = [self._decided(choice.decides, question, choice.line) for choice in question.choices]
        if question.right:
            best = max(decided) if question.right == "largest" else min(decided)
            right = [i for i, number in enumerate(decided) if number == best]
        else:
            right = [i for i, holds in enumerate(decided) if holds]
        if len(right) != 1:
            listed = ", ".join(f"{LETTERS[i]} {choice.decides.partition(' ')[2]}" for i, choice in enumerate(question.choices))
            reason = f"{len(right) or 'none'} of the choices {'hold' if len(right) > 1 else 'holds'}; exactly one must: {listed}"
            raise self._lesson.error(question.line, reason)
        return right[0]

    def after(self, question: Question) -> tuple[str, ...]:
        """Return what is shown after each choice once the question is answered."""
        written = []
        for choice in question.choices:
            number = (
                number_in_text(self._decided(choice.decides, question, choice.line)) if question.right and not choice.after else ""
            )
            written.append(self._filled(choice.after, question) if choice.after else number)
        return tuple(written)

    def line_judge(self, question: Question) -> LineJudge:
        try:
            return LineJudge(self._values.session(question.model), question.answer, question.hidden)
        except TuiGruError as error:
            raise self._lesson.error(question.line, str(error)) from None

    def why(self, question: Question) -> str:
        return self._filled(question.why, question)

    def hint(self, question: Question) -> str:
        return self._filled(question.hint, question)

    # Kinds of questions

    def _choice(self, question: Question, typed: str) -> Judgement:
        plain = typed.lower().rstrip(").")
        chosen = next((i for i, choice in enumerate(question.choices) if plain in (LETTERS[i], choice.words.lower())), None)
        if chosen is None:
            begins = [i for i, choice in enumerate(question.choices) if len(plain) > 1 and plain in choice.words.lower()]
            if len(begins) != 1:
                last = LETTERS[len(question.choices) - 1]
                return Judgement(False, f"type a letter, a to {last}", unread=True)
            chosen = begins[0]
        if chosen == self.right_choice(question):
            return Judgement(True, self.why(question))
        return Judgement(False, self.hint(question) or NOT_THIS)

    def _line(self, question: Question, typed: str) -> Judgement:
        judge = self.line_judge(question)
        right, words = judge.judged(typed)
        if right:
            return Judgement(True, self.why(question))
        for wrong in question.wrong:
            try:
                is_foreseen = judge.judged_as(typed, wrong.expression)
            except TuiGruError as error:
                raise self._lesson.error(wrong.line, str(error)) from None
            if is_foreseen:
                return Judgement(False, self._filled(wrong.words, question, wrong.line))
        return Judgement(False, words or self.hint(question) or NOT_YET)

    def _place(self, question: Question, typed: str) -> Judgement:
        program = self._values.session(question.model).program
        right = self._filled(question.answer, question)
        if place_key(program, typed) == place_key(program, right):
            return Judgement(True, self.why(question))
        for wrong in question.wrong:
            if place_key(program, self._filled(wrong.expression, question, wrong.line)) == place_key(program, typed):
                return Judgement(False, self._filled(wrong.words, question, wrong.line))
        return Judgement(False, self.hint(question) or NOT_YET)

    def _number(self, question: Question, typed: str) -> Judgement:
        value = self.value(question)
        if isinstance(value, str):
            is_right = typed.strip("“”\"'") == value or typed == value
            return Judgement(is_right, self.why(question) if is_right else self.hint(question) or NOT_YET)
        true = _one_number(value)
        if true is None:
            raise self._lesson.error(question.line, f"answer: {question.answer} is not one number; ask for one of its entries")
        number = typed_number(typed) or calculated_number(self._values, typed)
        if number is None:
            return Judgement(False, "type a number, such as 0.5 or 5.4e-6", unread=True)
        foreseen = self.foreseen(question)
        texts = readings(self._values, question.answer, true, question.model)
        if any(number.fits(reading) for reading in texts):
            if not _is_exact(number, true) and number.digits < ENOUGH:
                return Judgement(False, "so far it fits; write at least two digits")
            if any(number.fits(wrong) for wrong, _ in foreseen):
                return Judgement(False, MORE_DIGITS)
            return Judgement(True, self.why(question))
        for wrong, words in foreseen:
            if number.fits(wrong):
                return Judgement(False, words)
        return Judgement(False, self._named(question, true, number) or self.hint(question) or NOT_YET)

    def foreseen(self, question: Question) -> list[tuple[float, str]]:
        """Return the numbers of the mistakes that the author foresees, as far as they look otherwise than the right one, and what
        is said about them."""
        foreseen, right = [], number_in_text(self.value(question))
        for wrong in question.wrong:
            number = _one_number(self._computed(wrong.expression, question, wrong.line))
            if number is None:
                raise self._lesson.error(wrong.line, f"wrong: {wrong.expression} is not one number")
            if number_in_text(number) != right:
                foreseen.append((number, self._filled(wrong.words, question, wrong.line)))
        return foreseen

    def _named(self, question: Question, true: float, number: TypedNumber) -> str:
        """Return what the typed number is: the likeliest slip that fits all of its digits; empty if none does, or too many do."""
        if number.digits < ENOUGH:
            return ""
        slips = slips_of(self._values, question.answer, true, question.model)
        matches = [slip for slip in slips if number.fits(slip.value) and abs(slip.value - true) > 1e-6 * abs(true)]
        if not matches:
            return ""
        best = matches[0].rank
        likeliest = list(dict.fromkeys(slip.words for slip in matches if slip.rank == best))
        if len({slip.words for slip in matches}) > 2 and number.digits < 4:
            return MORE_DIGITS
        return " or ".join(likeliest[:2]) if len(likeliest) <= 2 else ""

    # Values, with the line of the file in their errors

    def _computed(self, expression: str, question: Question, line: int) -> Any:
        try:
            return self._values.value(expression, question.model)
        except TuiGruError as error:
            raise self._lesson.error(line, f"{expression}: {error}") from None

    def _decided(self, decides: str, question: Question, line: int) -> float:
        word, _, expression = decides.partition(" ")
        number = _one_number(self._computed(expression, question, line))
        if number is None or math.isnan(number):
            raise self._lesson.error(line, f"{word} {expression} is not one {'condition' if word == 'if' else 'number'}")
        return number

    def _filled(self, words: str, question: Question, line: int = 0) -> str:
        current, self._values.current = self._values.current, question.model or self._values.current
        try:
            return self._values.filled(words)
        except TuiGruError as error:
            raise self._lesson.error(line or question.line, str(error)) from None
        finally:
            self._values.current = current


def _one_number(value: Any) -> float | None:
    array = np.asarray(value)
    return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "bifu" else None


def _is_exact(number: TypedNumber, true: float) -> bool:
    return number.value == true or abs(number.value - true) <= 1e-3 * abs(true)


def place_key(program: Program, typed: str) -> tuple[Any, ...]:
    """Return what makes two spellings of a place equal: a line or a name, an entry of one, or a place in time."""
    text = typed.strip().removeprefix("the line ").strip()
    name, bracket, rest = text.partition("[")
    name = program.code_name(name.strip())
    if bracket and rest.endswith("]") and name in program.names:
        try:
            index = index_in_words_of(program, name, rest[:-1], 1)
        except TypedError:
            return (text,)
        if index is None:
            parts = [part.strip() for part in rest[:-1].split(",")]
            index = tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else None
        return (name, index) if index is not None else (text,)
    if name in program.names or name in program.lines:
        return (name,)
    try:
        return ("tick", tick_of(text, position_of(program, 0), program))
    except TuiGruError:
        return ("".join(re.sub(r"[“”\"']", "", text).lower().split()),)
