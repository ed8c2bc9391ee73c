"""Positions in time, the steps between them, and their typed form."""

from __future__ import annotations

import ast
import re
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from keyword import iskeyword
from typing import Annotated, Literal

from tui_gru import arguments, errors
from tui_gru.debugger.program import (
    Program,
    ProgramLine,
    axis_index_in_words,
    index_along,
    number_along,
    shown_char,
    spoken_index,
    words_along,
)
from tui_gru.equations.syntax import did_you_mean
from tui_gru.errors import TuiGruError
from tui_gru.schema import Whole, one_of

# ------------------------------------------------------------------------------
# Positions in time. A position is determined by one integer, its tick: the number of lines before it if every batch learned.
#
# So every batch has the same number of ticks, and a tick converts to a batch without a search. In a batch that does not learn, no
# line is executed at the ticks after the loss, and `Timeline.place` goes back from them to the loss. A tick belongs to the batch
# whose line it follows: of N ticks a batch, tick N is the end of the first batch, and the second one begins with the line of tick
# N + 1. Hence `tick - 1` wherever a tick is divided.


@dataclass(frozen=True, order=True)
class Position:
    """A moment in a run, just after a line has been executed. Positions are ordered by time.

    `epoch`, `batch` and `t` are 0-based, as indices in Python are; the screen, places such as `e3 b2 t1`, and conditions count from
    1. `phase` is start, forward, loss, backward or update. In the loss and the update, which are outside the loops over t, `t` is
    the last timestep.
    """

    tick: int
    epoch: int = field(compare=False)
    batch: int = field(compare=False)
    t: int = field(compare=False)
    phase: str = field(compare=False)
    line: ProgramLine | None = field(compare=False, repr=False)
    offset: int = field(compare=False, repr=False)  # ticks since the start of the batch; 0 only at the start of the run
    number: int = field(compare=False, repr=False)  # the batch, counted through all epochs, 0-based
    step: int | None = field(default=None, compare=False, repr=False)  # of a recording, counted as in its script; else None


def position_of(program: Program, tick: int) -> Position:
    """Return the position after `tick` ticks."""
    steps = program.config.source.steps
    if tick == 0:
        return Position(0, 0, 0, 0, "start", None, 0, 0, steps[0] if steps else None)
    number, k = divmod(tick - 1, program.ticks)
    line, t = program.line_at(k + 1)
    epoch, batch = divmod(number, program.num_batches)
    step = steps[number] if number < len(steps) else None
    return Position(tick, epoch, batch, t, line.phase, line, k + 1, number, step)


def tick_of(place: str | Position | int, current: Position, program: Program) -> int:
    """Return the tick of a place: `e3 b2 t1` (counted from 1; omitted parts are taken from `current`), a position, or a tick.

    In a recording, `step 300 t1` is a place as well. Without a timestep it is the start of the batch or epoch, where the batch
    before it has just ended; of a step of a recording, the first line in it. `e3 b2 t1 h̃`, or `h̃` alone, is just after the line
    that computes this name, by default in the current timestep. Raises `TuiGruError` for a place that does not exist in the
    program.
    """

    if isinstance(place, str) and (line := _line_at_end(place, program)):
        tick = _tick_of_line(place.rpartition(line)[0].strip(), program.code_name(line), current, program)
    elif isinstance(place, str):
        epoch, batch, t, in_step = _parts(place, program)
        if batch is None:
            batch = current.batch if epoch is None else 0
        epoch = current.epoch if epoch is None else epoch
        start = (epoch * program.num_batches + batch) * program.ticks
        tick = start + (in_step and start > 0) if t is None else start + program.end_of_timestep(t)
    else:
        tick = arguments.integer("a tick (or a place such as e3 b2 t1)", place.tick if isinstance(place, Position) else place)
    if tick > FAR:
        raise TuiGruError(f"tick {errors.shown(tick)} is beyond the largest tick, {FAR:,}")
    return max(tick, 0)


def _line_at_end(place: str, program: Program) -> str:
    """Return the name of a line at the end of a typed place, as typed; empty if there is none."""
    word = place.rpartition(" ")[2]
    return word if program.place_of(program.code_name(word)) is not None else ""


def _tick_of_line(place: str, name: str, current: Position, program: Program) -> int:
    """Return the tick just after a line of the batch at a typed place, which may be empty."""
    epoch, batch, t, _ = _parts(place, program) if place else (None, None, None, False)
    if batch is None:
        batch = current.batch if epoch is None else 0
    epoch = current.epoch if epoch is None else epoch
    block_and_index = program.place_of(name)
    assert block_and_index is not None
    looped = bool(block_and_index[0].direction)
    if t is not None and not looped:
        raise TuiGruError(f"{program.writer.name(name)} is computed once in a batch, not at each timestep; leave out t {t + 1}")
    within = program.tick_of(name, (current.t if t is None else t) if looped else None)
    assert within is not None
    return (epoch * program.num_batches + batch) * program.ticks + within


def in_words(epoch: int, batch: int, t: int | None = None, phase: str = "", *, step: int | None = None, between: str = ", ") -> str:
    """Return a place in words, from 0-based counts: `epoch 3, batch 2, t 1, forward`; without `t` and `phase`, the batch.

    A batch of a recording is named by its `step`, as its script counts it: `step 140, t 1, forward`.
    """
    where = [f"epoch {epoch + 1:,}", f"batch {batch + 1:,}"] if step is None else [f"step {step:,}"]
    return between.join([*where, *([] if t is None else [f"t {t + 1:,}"]), *filter(None, [phase])])


def batch_in_words(epoch: int, batch: int) -> str:
    """Return a batch inside a sentence, from 0-based counts: `batch 2 of epoch 3`."""
    return f"batch {batch + 1:,} of epoch {epoch + 1:,}"


def place_name(position: Position) -> str:
    """Return a place as typed in `:go`, `e12 b3 t2`, with its phase unless that is forward: `e12 b3 t2 ←`, `e12 b3 loss`."""
    where = _batch_as_typed(position)
    if position.phase in ("forward", "backward"):
        return f"{where} t{position.t + 1}" + (" ←" if position.phase == "backward" else "")
    return where if position.phase == "start" else f"{where} {position.phase}"


def as_typed(position: Position) -> str:
    """Return a place as `tick_of` reads it: `e3 b2 t1`, or `step 140 t1`."""
    return f"{_batch_as_typed(position)} t{position.t + 1}"


def _batch_as_typed(position: Position) -> str:
    return f"e{position.epoch + 1} b{position.batch + 1}" if position.step is None else f"step {position.step}"


def _parts(text: str, program: Program) -> tuple[int | None, int | None, int | None, bool]:
    """Parse `e3 b2 t1`, `e3`, `b2`, `e3 t1` …, or `step 300 t1` in a recording.

    Returns epoch, batch and timestep, 0-based; None for those omitted; and True for a step of a recording.
    """

    steps = program.config.source.steps
    reader = Reader(text, f"{f'step {steps[-1]} t1 or ' if steps else ''}e3 b2 t1 (epoch, batch, timestep, counted from 1)")
    if steps and reader.take("step"):
        number = reader.integer("a step", least=0)
        timestep = reader.timestep(program.seq_length)
        reader.end()
        return 0, _batch_of_step(number, steps), timestep, True
    limits = {"e": ("an epoch", FAR), "b": ("a batch", program.num_batches), "t": ("a timestep", program.seq_length)}
    parts: list[int | None] = []
    for letter, (counted, most) in limits.items():
        parts.append(reader.integer(counted, least=1, most=most) - 1 if reader.take(letter) else None)
    if reader.left or parts == [None, None, None]:
        raise reader.error(f"{errors.shown(text)} is not a place in time")
    epoch, batch, t = parts
    return epoch, batch, t, False


def _batch_of_step(number: int, steps: Sequence[int]) -> int:
    """Return the batch that is the step `number` of a recording. Raises `TuiGruError` for one that was not recorded."""
    at = bisect_left(steps, number)
    if at < len(steps) and steps[at] == number:
        return at
    near = " and ".join(f"{step:,}" for step in steps[max(at - 1, 0) : at + 1])
    raise TuiGruError(f"step {number:,} was not recorded; next to it are {near}")


# ------------------------------------------------------------------------------
# Computes where the steps of each level end, and how many steps lie between two moments, by arithmetic.
#
# Batches that learn have more steps than batches that do not, whose backward and update lines are skipped. So a timeline is
# divided into runs of batches that all learn or all do not.


Level = Literal["op", "line", "timestep", "phase", "batch", "epoch"]
LEVELS: tuple[Level, ...] = ("op", "timestep", "phase", "batch", "epoch")  # a line is an op


def check_level(level: Level) -> Level:
    """Return one of `LEVELS`. Raises `TuiGruError` for anything else than these and `line`."""
    if not isinstance(level, str) or level not in (*LEVELS, "line"):
        raise TuiGruError(f"there is no level {errors.shown(level)} to step by; there are line, {', '.join(LEVELS)}")
    return "op" if level == "line" else level


def ends_in_batch(program: Program, level: str, learns: bool) -> tuple[int, ...]:
    """Return the ticks within a batch at which a step of `level` ends.

    For `epoch` they are those of `batch`, and only the last batch of an epoch counts.
    """
    last = program.ticks if learns else program.loss_tick
    blocks = [block for block in program.blocks if block.end <= last]
    if level == "op":
        return tuple(range(1, last + 1))
    if level == "timestep":
        loops = [block for block in blocks if block.direction]
        ends = [block.start + (step + 1) * len(block.lines) for block in loops for step in range(block.steps)]
        return tuple(dict.fromkeys((*ends, last))) if learns else tuple(ends)
    if level == "phase":
        return tuple(dict.fromkeys((program.loss_tick, program.backward_end, last))) if learns else (last,)
    return (last,)


class StepIndex:
    """Counts the steps of one level along a timeline. `runs` lists (first batch, learns) in order, beginning with batch 0."""

    def __init__(self, program: Program, level: str, runs: Sequence[tuple[int, bool]]) -> None:
        self._program, self._every = program, program.num_batches if level == "epoch" else 1
        self._starts = [first for first, _ in runs]
        self._ends = [ends_in_batch(program, level, learns) for _, learns in runs]
        self._before = [0]  # steps before each run
        for i in range(1, len(runs)):
            self._before.append(self._before[-1] + self._steps_up_to(i - 1, self._starts[i]))

    def _counted(self, batch: int) -> int:
        """Return the number of batches before `batch` that count: all, or only the last of each epoch."""
        return batch // self._every

    def _steps_up_to(self, run: int, batch: int) -> int:
        return (self._counted(batch) - self._counted(self._starts[run])) * len(self._ends[run])

    def count(self, tick: int) -> int:
        """Return the number of steps that end at or before `tick`."""
        if tick <= 0:
            return 0
        batch, k = divmod(tick - 1, self._program.ticks)
        run = bisect_right(self._starts, batch) - 1
        inside = bisect_right(self._ends[run], k + 1) if (batch + 1) % self._every == 0 else 0
        return self._before[run] + self._steps_up_to(run, batch) + inside

    def tick(self, n: int) -> int:
        """Return the tick at which the n-th step ends, 1-based; 0, the beginning, for n ≤ 0."""
        if n <= 0:
            return 0
        run = bisect_right(self._before, n - 1) - 1  # the last run with fewer than n steps before it
        batches, index = divmod(n - 1 - self._before[run], len(self._ends[run]))
        counted = self._counted(self._starts[run]) + batches
        batch = (counted + 1) * self._every - 1
        return batch * self._program.ticks + self._ends[run][index]


@dataclass(frozen=True)
class StepMemory:
    """Consecutive steps at one level from `origin`, stored so that the same number of steps back returns to `origin`.

    `net` is the sum of the steps so far, `at` the tick that they reached. `cut` is True if the last call ended early, at the
    beginning, the end or a stop. Then only a complete reverse returns: of all steps to `origin`, of the last call, which began at
    the tick `begun` and asked for `last` steps, to `begun`; other steps begin from `at`.
    """

    level: Annotated[str, one_of("", *LEVELS)]
    origin: Whole
    net: int
    at: Whole
    cut: bool = False
    begun: Whole = 0
    last: int = 0

    @classmethod
    def begin(cls, level: str, tick: int) -> StepMemory:
        return cls(level, tick, 0, tick)

    def onwards(self, level: str, tick: int, count: int) -> StepMemory:
        """Return the memory for `count` steps from `tick`: this one if they continue it, otherwise a new one."""
        continues = (self.level, self.at) == (level, tick) and (not self.cut or -count in (self.net, self.last))
        return self if continues else StepMemory.begin(level, tick)

    def target(self, index: StepIndex, count: int) -> tuple[int, bool]:
        """Return the tick after `count` more steps, and whether they end early at the beginning of the run."""
        if self.cut and count == -self.last:
            return self.begun, False
        net, passed = self.net + count, index.count(self.origin)
        if net == 0:
            return self.origin, False
        if net < 0 and index.tick(passed) != self.origin:
            net += 1  # the first step back is to the last step end, less than a whole step away
        return index.tick(passed + net), passed + net < 0

    def uncut_steps(self, index: StepIndex, direction: int, most: int) -> int:
        """Return how many single steps, at most `most`, can be taken before one ends early at the beginning of the run."""
        if direction > 0:
            return most
        passed = index.count(self.origin)
        return min(most, passed + self.net + (index.tick(passed) != self.origin))

    def steps_to(self, index: StepIndex, direction: int, most: int, tick: int) -> int:
        """Return how many single steps, at most `most`, lead to `tick`, or to the nearest place before it."""
        return bisect_right(range(most + 1), direction * tick, key=lambda k: direction * self.target(index, direction * k)[0]) - 1

    def with_steps(self, count: int, tick: int, cut: bool) -> StepMemory:
        """Return the memory after `count` more steps, which reached `tick`."""
        begun, last = (self.at, count) if cut else (0, 0)
        return replace(self, net=self.net + count, at=tick, cut=cut, begun=begun, last=last)


# ------------------------------------------------------------------------------
# Parses the arguments of a typed command, from left to right: numbers, entries such as `Wz[0,1]`, timesteps, characters, words.


FAR = 10**15  # the largest whole number; no run reaches so many ticks, or steps of any level

_SPACE = re.compile(r"\s*")
_WHOLE = re.compile(r"[+\-−]?[0-9]+")
_NUMBER = re.compile(r"[+\-−]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+\-−]?[0-9]+)?|[+\-−]?(?:inf|nan)")
_NAME = re.compile(r"[^\s\[\]=,]+")
_WORD = re.compile(r"\S+")
_SHOWN = 20  # characters of the input shown in a message


class TypedError(TuiGruError):
    """Typed input that cannot be parsed: `reason` is one line, `column` (1-based) its place in the text."""

    def __init__(self, reason: str, column: int) -> None:
        super().__init__(f"column {column}: {reason}")
        self.reason = reason
        self.column = column

    def moved(self, columns: int) -> TypedError:
        """Return the same error in a longer text, with `columns` more characters in front."""
        return type(self)(self.reason, self.column + columns)


class Reader:
    """Parses a text piece by piece. `usage` is an example of the complete text, for messages.

    Every parsing method raises `TypedError` with the column if the next piece is something else.
    """

    def __init__(self, text: str, usage: str) -> None:
        self._text, self._usage, self._at = text, usage, 0
        self._skip_space()

    @property
    def left(self) -> str:
        """The rest of the text."""
        return self._text[self._at :]

    def take(self, sign: str) -> bool:
        """Read `sign`, in upper or lower case, if it comes next. Returns whether it did."""
        if self._text[self._at : self._at + len(sign)].lower() != sign:
            return False
        self._at += len(sign)
        self._skip_space()
        return True

    @property
    def next_word(self) -> str:
        """The text up to the next space; empty at the end."""
        match = _WORD.match(self._text, self._at)
        return match[0] if match else ""

    def word(self) -> str:
        """Read the text up to the next space."""
        return self._read(_WORD) or ""

    def next_is_integer(self) -> bool:
        """Return True if a whole number comes next."""
        return _WHOLE.match(self._text, self._at) is not None

    def integer(self, quantity: str, *, least: int = -FAR, most: int = FAR) -> int:
        """Read a whole number from `least` to `most`; `quantity` names it in messages."""
        start = self._at
        digits = self._read(_WHOLE)
        if digits is None:
            raise self.error(f"{quantity} is a whole number, not {self._shown}")
        if (fraction := _NUMBER.match(self._text, start)) is not None and len(fraction[0]) > len(digits):  # such as 1e9
            self._at = start
            raise self.error(f"{quantity} is a whole number, not {shortened_input(fraction[0])}")
        number = whole_number(digits)
        if number is None or not least <= number <= most:
            bounds = f"at least {least}" if number is not None and number < least else f"at most {most:,}"
            raise TypedError(f"{quantity} is {bounds}, not {digits[:_SHOWN]}", start + 1)
        return number

    def number(self, quantity: str, *, before: str = "") -> float:
        """Read a number that is followed by the sign `before`; `quantity` names it in messages."""
        start, number = self._at, self._read(_NUMBER)
        if number is None or not self.take(before) or not (self._at == len(self._text) or self._text[self._at - 1].isspace()):
            self._at = start
            raise self.error(f"{quantity} takes a number, not {self._shown}")
        return float(number.replace("−", "-"))

    def entry(self, program: Program) -> tuple[str, tuple[int, ...]]:
        """Read a name and the index in brackets after it, 0-based: `z[0,1]`, or as on the screen, counted from 1,
        `z[row 1, unit 2]`; the index is empty if there is none. A Δ before the name, as of a change on the screen, is left out."""
        name = self._read(_NAME)
        if name is None:
            raise self.error("the name of a value comes first")
        name = name.removeprefix("Δ")
        if not self.take("["):
            return name, ()
        if (end := end_of_index(self._text, self._at)) is not None:
            index = index_in_words_of(program, program.code_name(name), self._text[self._at : end], self._at + 1)
            if index is not None:
                self._at = end
                self.take("]")
                return name, index
        index = (self._index(),)
        while self.take(","):
            index += (self._index(),)
        if not self.take("]"):
            raise self.error(f"an index is whole numbers separated by commas and ends with ], not {self._shown}")
        return name, index

    def entries(self, program: Program) -> tuple[str, tuple[int | None, ...]]:
        """Read an entry as `entry` does, or a whole value, row or unit: `z`, `z[unit 2]`, `z[:, 1]`. None in the index stands for
        all along its axis."""
        begins = self._at
        try:
            name, index = self.entry(program)
        except TypedError:
            problem_at, self._at = self._at, begins
            name = (self._read(_NAME) or "").removeprefix("Δ")
            named = program.names.get(program.code_name(name))
            closes = self._text.find("]", self._at)
            if named is None or not self.take("[") or closes < 0:
                self._at = problem_at
                raise
            along = _some_of(program, program.code_name(name), self._text[self._at : closes], self._at + 1)
            if along is None:
                self._at = problem_at
                raise
            self._at = closes
            self.take("]")
            return name, along
        named = program.names.get(program.code_name(name))
        return name, index if index or named is None else (None,) * len(named.axes)

    def timestep(self, seq_length: int) -> int | None:
        """Read `t 2`, counted from 1, as a 0-based timestep; None at the end of the text."""
        if not self.left:
            return None
        if not self.take("t"):
            raise self.error(f"{self._shown} is not understood here")
        return self.integer("a timestep", least=1, most=seq_length) - 1

    def character(self, tokens: Collection[str] = ()) -> str:
        """Read a character or one of `tokens`, plain or in quotes; a space needs quotes: `' '`, `'\\n'`."""
        text, self._at = self.left, len(self._text)
        if len(text) == 1 or text in tokens:
            return text
        if len(text) > 2 and text[0] in "'\"" and text[-1] == text[0]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python warns about escapes such as `\q`
                try:
                    value = ast.literal_eval(text)
                except (ValueError, SyntaxError, RecursionError, MemoryError):  # an invalid escape, or no string
                    value = ""
            if isinstance(value, str) and (len(value) == 1 or value in tokens):
                return value
        self._at -= len(text)
        if tokens:
            raise self.error(f"a token is typed as it is, or in quotes, and {self._shown} is not in the vocabulary")
        raise self.error(f"a character is typed as a, or as ' ' in quotes, not {self._shown}")

    def end(self) -> None:
        """Raise `TypedError` unless the text has been read to its end."""
        if self.left:
            raise self.error(f"{self._shown} is not understood here")

    def error(self, reason: str) -> TypedError:
        """Return an error at the current place."""
        return TypedError(f"{reason}; write it as {self._usage}", self._at + 1)

    def _index(self) -> int:
        return self.integer("an index")

    def _read(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self._text, self._at)
        if match is None:
            return None
        self._at = match.end()
        self._skip_space()
        return match[0]

    def _skip_space(self) -> None:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()

    @property
    def _shown(self) -> str:
        return shortened_input(self.left) if self.left else "nothing"


# ------------------------------------------------------------------------------
# References to a number as the screen writes them: `z[row 1, unit 2]`, `Wz[“M”, unit 1]`. Everything that is typed is parsed here.


_QUOTED = "“.+?”|\".+?\"|'.+?'"
_PART = re.compile(rf"\s*(?:(?:{_QUOTED})(?=\s*[,\]])|[^,\[\]“”\"']+?)\s*(?=[,\]])")
_COUNTED = re.compile(r"([^\W\d]\w*)\s+([+\-−]?[0-9]{1,15})")


def end_of_index(text: str, begins: int) -> int | None:
    """Return the place of the bracket that closes an index as the screen writes it; None if it is another expression."""
    while (part := _PART.match(text, begins)) is not None:
        if text[part.end()] == "]":
            return part.end()
        begins = part.end() + 1
    return None


def index_in_words_of(program: Program, name: str, typed: str, column: int) -> tuple[int, ...] | None:
    """Return the index (0-based) of an entry of `name` that is typed as the screen writes it; None if it is written otherwise.

    It counts from 1, and has a word, as in `row 1, unit 2`, or a character, in quotes or bare, for at least one axis. `column` is
    the place of `typed`, from 1. Raises `TypedError` for an index that the value does not have.
    """
    named, parts, at = program.names.get(name), list[tuple[str, int]](), 0
    while (part := _PART.match(f"{typed}]", at)) is not None:
        parts.append((part[0].strip(), column + at + len(part[0]) - len(part[0].lstrip())))
        at = part.end() + 1
    axes = () if named is None else named.axes
    letters = [bool(program.indices) and "character" in words_along(program, axis) for axis in axes] + [False] * len(parts)
    if not any(_is_in_words(program, text, of_letters) for (text, _), of_letters in zip(parts, letters, strict=False)):
        return None
    if len(parts) != len(axes):
        problem = f"{name} is one number" if not axes else f"an entry of {name} has {len(axes)} indices: {_example(program, name)}"
        raise TypedError(problem, column)
    return tuple(_along_axis(program, name, axis, *part) for axis, part in zip(axes, parts, strict=True))


def _some_of(program: Program, name: str, typed: str, column: int) -> tuple[int | None, ...] | None:
    """Return the index of a row or a unit of `name`, with None for each other axis: `unit 2`, or `:, 1` counted from 0. None if
    it is neither; raises `TypedError` for a row or a unit that there is not."""
    axes, parts = program.names[name].axes, [part.strip() for part in typed.split(",")]
    if ":" in parts and len(parts) == len(axes) and all(part == ":" or _WHOLE.fullmatch(part) for part in parts):
        return tuple(None if part == ":" else whole_number(part) for part in parts)
    index: list[int | None] = [None] * len(axes)
    for part in parts:
        counted = _COUNTED.fullmatch(part)
        word = "character" if counted is None and part else counted[1] if counted is not None else ""
        at = next((i for i, axis in enumerate(axes) if word in words_along(program, axis) and index[i] is None), None)
        if at is None or len(parts) >= len(axes):
            return None
        index[at] = _along_axis(program, name, axes[at], part, column)
    return tuple(index)


def _is_in_words(program: Program, text: str, of_letters: bool) -> bool:
    """Return True for a part of an index that is written as on the screen, and in no other way."""
    if (counted := _COUNTED.fullmatch(text)) is not None:
        return not iskeyword(counted[1])
    is_letter = text in program.indices or (len(text) == 1 and text.isalpha())
    return text[0] in "“\"'" or (of_letters and is_letter and not _WHOLE.fullmatch(text))


def _along_axis(program: Program, name: str, axis: str, text: str, column: int) -> int:
    """Return an index (0-based) along an axis: `row 1`, `“M”`, `M`, or a number, from 1."""
    words = words_along(program, axis)
    if _WHOLE.fullmatch(text):
        word, number = "", whole_number(text)
    elif (counted := _COUNTED.fullmatch(text)) is not None:
        word, number = counted[1], whole_number(counted[2])
    else:
        if "character" not in words:
            raise TypedError(f"an index of {name} here is a {' or a '.join(words)}, not {shortened_input(text)}", column)
        return _character_index(program, text, column)
    assert number is not None
    if word and word not in ("", *words, "column", "token"):
        raise TypedError(f"{name} has no {word} here, but a {' or a '.join(words)}: {_example(program, name)}", column)
    number += word == "token"  # without a vocabulary, a token is written as its index
    try:
        if number == 0:
            raise IndexError(sum(program.config.compiled.sizes[part] for part in axis.split("+")))
        return index_along(program, axis, word, number - 1 if number > 0 else number)
    except IndexError as error:
        of = word or words[0]
        raise TypedError(
            f"{name} has the {of}s 1 to {error.args[0]:,} here, not {of} {number}; in words and characters they count from 1",
            column,
        ) from None


def _character_index(program: Program, text: str, column: int) -> int:
    """Return the index of a character, bare or in quotes: as it is, as the screen shows it, or with an escape such as `'\\n'`."""
    bare = text[1:-1] if text[0] in "“\"'" and len(text) > 2 else text
    if (at := program.indices.get(bare)) is not None:
        return at
    same = [i for i, token in enumerate(program.config.vocabulary) if shown_char(token) == bare]
    if len(same) == 1:
        return same[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            escaped = program.indices.get(ast.literal_eval(text if text[0] in "'\"" else repr(bare).replace("\\\\", "\\")))
    except (ValueError, SyntaxError, TypeError):
        escaped = None
    if escaped is not None:
        return escaped
    if same:
        raise TypedError(
            f"{len(same)} characters look like “{bare}”; write it with an escape, as {program.config.vocabulary[same[0]]!a}", column
        )
    raise TypedError(f"there is no {bare!r} in the vocabulary; {did_you_mean(bare, list(map(str, program.indices)))}", column)


def character_of(program: Program, text: str, column: int) -> str:
    """Return the character, or longer token, that is typed bare or in quotes. Raises `TypedError` for one that is not in the
    vocabulary."""
    return program.config.vocabulary[_character_index(program, text, column)]


def typed_index(program: Program, name: str, index: Sequence[int]) -> str:
    """Return an index as the screen writes it: `row 1, unit 2`; a character that looks like another one with an escape, as in
    `'\\xa0'`, so that it can be typed."""
    words = spoken_index(program, name, index)
    with suppress(TypedError):
        if index_in_words_of(program, name, words, 1) in (tuple(index), None):
            return words
    parts = []
    for axis, i in zip(program.names[name].axes, index, strict=True):
        word, number = number_along(program, axis, i)
        is_letter = word == "character" and program.indices
        parts.append(ascii(program.config.vocabulary[number]) if is_letter else axis_index_in_words(program, axis, i))
    return ", ".join(parts)


def typed_entry(program: Program, name: str, index: Sequence[int]) -> str:
    """Return one entry as it is typed on the `:` line: `Wz[“M”, unit 1]`; the name alone where the index is empty."""
    return f"{name}[{typed_index(program, name, index)}]" if index else name


def _example(program: Program, name: str) -> str:
    return f"{name}[{spoken_index(program, name, [0] * len(program.names[name].axes))}]"


def whole_number(text: str) -> int | None:
    """Return the whole number that a text represents, from −`FAR` to `FAR`; None for any other text."""
    if not _WHOLE.fullmatch(text):
        return None
    digits = text.lstrip("+-−").lstrip("0")
    if len(digits) > len(str(FAR)) or int(digits or 0) > FAR:
        return None
    return int(digits or 0) * (-1 if text[0] in "-−" else 1)


def is_number(text: str) -> bool:
    """Return True if a text is a number that `Reader.number` reads."""
    return _NUMBER.fullmatch(text) is not None


def quoted(char: str) -> str:
    """Return a character in the form that `Reader.character` reads."""
    return char if char.isprintable() and not char.isspace() else repr(char)


def shortened_input(text: str) -> str:
    """Return the input in a message, shortened."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
