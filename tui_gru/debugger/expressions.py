"""The language of conditions, watches and log points: parsed against a whitelist, and compiled to closures over arrays."""

import ast
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from keyword import iskeyword
from math import prod
from string import ascii_letters
from types import MappingProxyType
from typing import Any, TypeAlias
from unicodedata import normalize

import numpy as np
import numpy.typing as npt

from tui_gru.debugger.evaluate import function_in_float64
from tui_gru.debugger.position import TypedError, character_of, end_of_index, index_in_words_of
from tui_gru.debugger.program import CHARACTERS, Spellings, Store, spoken_index
from tui_gru.equations.syntax import did_you_mean, split

# ------------------------------------------------------------------------------
# Parses typed text as a Python expression whose nodes know their place in the text.
#
# Python's parser does the grammar. Before it, on-screen signs (`≤ ≥ ≠ − × · ⊙`), on-screen names that Python does not accept
# (`hₜ₋₁ dh← ①`), indices as on the screen (`[row 1, unit 2]`) and characters (`“M”`) are replaced, and common mistakes (`=`, `&&`,
# `!`) get a hint. After it, every node maps back to its column.


MAX_LENGTH = 1000
"""The most characters in one expression."""

MAX_DEPTH = 50
"""The most nested expressions; `a + b + c` is three deep."""

# Patterns are compiled when they are first used, since this module is loaded at the start.
_FORBIDDEN = "[\0-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]"

QUOTED = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
"""The pattern of a string."""

_TOKENS = rf"""(?P<text> {QUOTED} )
      | (?P<letter> “.+?” )
      | (?P<sign> [≤≥≠−×·⊙] )
      | (?P<slip> => | =< | <> | := | && | \|\| | (?<![=<>!])=(?!=) | (?<=[=<>!]=)= | !(?!=) | [&|^~@#] )"""

_SIGNS = {"≤": "<=", "≥": ">=", "≠": "!=", "−": "-", "×": "*", "·": "*", "⊙": "*"}

_SLIPS = {
    "=": "= assigns; use == to compare",
    ":=": ":= assigns; use == to compare",
    "=>": "=> is not a comparison; use >=",
    "=<": "=< is not a comparison; use <=",
    "<>": "<> is not a comparison; use !=",
    "&": "& is not allowed here; use and",
    "&&": "&& is not allowed here; use and",
    "|": "| is not allowed here; use or",
    "||": "|| is not allowed here; use or",
    "!": "! is not allowed here; use not",
    "~": "~ is not allowed here; use not",
    "^": "^ is not allowed here; use ** for a power",
    "@": "@ is not allowed here; sum(a * b) is the product of two vectors",
    "#": "a comment is not allowed here",
}


#: Letters to their wide forms. Python reads a name in them as the same name, but never as a word of its own: ｉｎ is a name.
_WIDE = {ord(letter): ord(letter) + 0xFEE0 for letter in ascii_letters}
#: From Python 3.13 on, the parser also refuses these as wide names. They get a letter that is not in their name.
_CONSTANTS, _MARK = frozenset({"None", "True", "False"}), "ˑ"


def _as_name(word: str) -> str:
    """Return a word of Python so that Python reads it as a name."""
    return word + _MARK if word in _CONSTANTS else word.translate(_WIDE)


def _is_word_of_python(name: str) -> bool:
    """Return True for a name that Python reads as a word of its own, such as `in`, and that conditions do not use as one."""
    return iskeyword(name) and name not in ("and", "or", "not")


class ConditionError(TypedError):
    """An expression that cannot be parsed or evaluated."""


@dataclass(frozen=True, slots=True)
class SourcePart:
    """A part of an expression: its column (1-based) and its text, as typed."""

    column: int
    text: str

    def __str__(self) -> str:
        return self.text if len(self.text) <= 40 else f"{self.text[:39]}…"

    def error(self, reason: str) -> ConditionError:
        return ConditionError(reason, self.column)


def refuse_unreadable(typed: str, first_column: int = 1) -> None:
    """Raise ConditionError if `typed` is longer than MAX_LENGTH, or has a control character or half a surrogate pair."""
    if len(typed) > MAX_LENGTH:
        raise ConditionError(f"more than {MAX_LENGTH} characters; shorten the expression", first_column + MAX_LENGTH)
    if forbidden := re.search(_FORBIDDEN, typed):
        sign = "a line break" if forbidden[0] in "\r\n" else "this character"
        raise ConditionError(f"{sign} is not allowed here", first_column + forbidden.start())


class ExpressionText:
    """The text of one expression and its syntax tree.

    `names` maps every spelling of a name to its code spelling; spellings that Python does not accept are replaced. `first_column`
    is the column of `typed` in the complete input, for an expression inside a template. Raises ConditionError if the text is not
    an expression, is longer than MAX_LENGTH, or is nested deeper than MAX_DEPTH.
    """

    def __init__(self, typed: str, first_column: int = 1, names: Mapping[str, str] = MappingProxyType({})) -> None:
        self._text, self._names = typed.strip(), names
        self._first_column = first_column + len(typed) - len(typed.lstrip())
        if not self._text:
            raise self._error("nothing to evaluate; write an expression such as loss < 0.5", 0)
        refuse_unreadable(self._text, self._first_column)
        python, self._origins = self._in_python()
        self._bytes = python.encode()
        self.tree = self._parse(python)
        self._refuse_deep_nesting()

    def place(self, node: ast.expr) -> SourcePart:
        """Return the place of `node` in the typed text."""
        start = self._origin(node.col_offset)
        end = len(self._text) if node.end_col_offset is None else self._origin(node.end_col_offset)
        return SourcePart(self._first_column + start, self._text[start:end])

    def _error(self, reason: str, index: int) -> ConditionError:
        return ConditionError(reason, self._first_column + index)

    def _origin(self, byte_offset: int) -> int:
        return self._origins[len(self._bytes[:byte_offset].decode())]

    def _in_python(self) -> tuple[str, list[int]]:
        """Return the text in Python syntax, and for each of its characters (and its end) the index in the typed text."""
        python: list[str] = []
        origins: list[int] = []
        done = 0
        for start, end, meant in self._replaced():
            python += self._text[done:start], meant
            origins += [*range(done, start), *[start] * len(meant)]
            done = end
        python.append(self._text[done:])
        origins += range(done, len(self._text) + 1)
        return "".join(python), origins

    def _replaced(self) -> Iterator[tuple[int, int, str]]:
        """Yield the signs and names to replace: start, end, and replacement of each."""
        spelled = sorted((name for name in self._names if not name.isidentifier()), key=len, reverse=True)
        words = [rf"(?<!\w){name}(?!\w)" for name in self._names if _is_word_of_python(name)]
        named = re.compile("|".join([*map(re.escape, spelled), *words])) if spelled or words else None
        tokens, at = re.compile(_TOKENS, re.VERBOSE), 0
        while at < len(self._text):
            if self._text[at] == "[" and (index := self._index_in_words(at + 1)) is not None:
                end, index_numbers = index
                yield at + 1, end, index_numbers
                at = end
                continue
            name = named.match(self._text, at) if named is not None else None
            token = None if name is not None else tokens.match(self._text, at)
            if name is not None:
                meant = self._names[name[0]]
                yield at, name.end(), _as_name(meant) if _is_word_of_python(meant) else meant
            elif token is not None and token["slip"]:
                raise self._error(_SLIPS[token["slip"]], at)
            elif token is not None and token["letter"]:
                yield at, token.end(), repr(self._character(token["letter"], at))
            elif token is not None and token["sign"]:
                yield at, token.end(), _SIGNS[token["sign"]]
            at = (name or token).end() if name or token else at + 1  # type: ignore[union-attr]

    def _index_in_words(self, begins: int) -> tuple[int, str] | None:
        """Return the end of an index that is written as on the screen, and its numbers; None if it is written otherwise."""
        if not isinstance(self._names, Spellings) or (end := end_of_index(self._text, begins)) is None:
            return None
        before = self._text[: begins - 1].rstrip().removesuffix(")").rstrip()
        fitting = [name for name in self._names if before.endswith(name) and not before[-len(name) - 1 : -len(name)].isalnum()]
        if not fitting:
            return None
        name, column = self._names[max(fitting, key=len)], self._first_column + begins
        try:
            index = index_in_words_of(self._names.program, name, self._text[begins:end], column)
        except TypedError as error:
            raise ConditionError(error.reason, error.column) from None
        return None if index is None else (end, ", ".join(map(str, index)))

    def _character(self, quoted: str, at: int) -> str:
        """Return the character that is written in the quotes of the screen."""
        if not isinstance(self._names, Spellings) or not self._names.program.indices:
            return quoted[1:-1]
        try:
            return character_of(self._names.program, quoted, self._first_column + at)
        except TypedError as error:
            raise ConditionError(error.reason, error.column) from None

    def _parse(self, python: str) -> ast.expr:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python warns about spellings such as 1or 2
                tree = ast.parse(python, mode="eval").body
        except SyntaxError as error:
            # The parser adds suggestions after a full stop ("Perhaps you forgot a comma?"), which are about programs.
            reason = (error.msg or "invalid syntax").split(". ")[0]
            if not error.offset or error.offset > len(python):
                raise self._error(f"{reason}: the expression ends too early", len(self._text)) from None
            raise self._error(reason, self._origins[error.offset - 1]) from None
        except (RecursionError, MemoryError):
            raise self._error("nested too deeply", 0) from None
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id.removesuffix(_MARK) in _CONSTANTS:
                node.id = node.id.removesuffix(_MARK)
        return tree

    def _refuse_deep_nesting(self) -> None:
        level = [self.tree]
        for _ in range(MAX_DEPTH):
            level = [child for node in level for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
            if not level:
                return
        raise self.place(level[0]).error(f"nested more than {MAX_DEPTH} deep; write a simpler expression")


# ------------------------------------------------------------------------------
# The values of the expression language and their operations.
#
# Every value is an array whose first axis is the moment in time, so that one code path serves a test at one moment and a search
# over a million: a number is (n,), a (B, H) matrix is (n, B, H). A first axis of 1 stands for the same value at every moment.
# Numbers are computed in float64, to which float32 widens exactly, with NumPy's rules for division by zero and nan. Nothing here
# writes to an array it was given.


AnyArray: TypeAlias = npt.NDArray[Any]
Operation: TypeAlias = Callable[[AnyArray, AnyArray], AnyArray]
"""An elementwise operation on two arrays."""

_LARGEST_INDEX = 2.0**53


class UnevenSliceError(Exception):
    """Raised if the bounds of a slice differ between moments; these moments are then evaluated one by one."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """The values that can be read at `count` moments: of the names as of the moment, `now`, and of those computed before it,
    `before`.

    `rows` selects moments from the arrays; None selects all.
    """

    count: int
    now: Mapping[str, AnyArray]
    before: Mapping[str, AnyArray]
    rows: AnyArray | None = None

    def value(self, name: str) -> AnyArray:
        return self._selected(self.now[name])

    def previous(self, name: str) -> AnyArray:
        return self._selected(self.before[name])

    def where(self, chosen: AnyArray) -> "Moments":
        """Return the moments for which `chosen` (count,) is true."""
        rows = np.flatnonzero(chosen) if self.rows is None else self.rows[chosen]
        return replace(self, count=len(rows), rows=rows)

    def _selected(self, values: AnyArray) -> AnyArray:
        return values if self.rows is None else where(values, self.rows)


class Verdict:
    """The truth of a condition with several parts, such as `a and b`, decided at each moment by the first part that can.

    `truth` (n,) is `undecided` until a part decides otherwise; `moments` are those not decided yet.
    """

    def __init__(self, moments: Moments, undecided: bool) -> None:
        self.moments = moments
        self.truth: AnyArray = np.full(moments.count, undecided)
        self._undecided = undecided
        self._open: AnyArray = np.arange(moments.count)

    @property
    def decided(self) -> bool:
        """True if no moment is undecided; False if there is none, which is a check of all parts."""
        return self.moments.count == 0 < len(self.truth)

    def decide(self, outcome: AnyArray) -> AnyArray:
        """Apply the `outcome` of a part at the undecided moments, (undecided,). Returns True for each that remains undecided."""
        still_open: AnyArray = outcome == self._undecided
        if np.count_nonzero(still_open) < len(still_open):
            self.truth[self._open[~still_open]] = not self._undecided
            self.moments, self._open = self.moments.where(still_open), self._open[still_open]
        return still_open


def where(values: AnyArray, rows: AnyArray) -> AnyArray:
    """Return the values at some of the moments, (rows, …), or (1, …) if they are the same at all."""
    return values if len(values) == 1 else values[rows]


def is_text(value: AnyArray) -> bool:
    return value.dtype.kind == "U"


def numbers(value: AnyArray, place: SourcePart) -> AnyArray:
    """Return the value in float64 and C order, which fixes the order of sums, in its shape. Raises ConditionError if it is text."""
    if is_text(value):
        raise place.error(f"{place} is text; a number is needed here")
    if value.dtype == np.float64 and value.flags.c_contiguous:
        return value  # the usual case
    return np.ascontiguousarray(value, np.float64)


def truth_values(value: AnyArray, count: int, place: SourcePart, advice: str = "use any(...) or all(...)") -> AnyArray:
    """Return one truth value for each of `count` moments, (count,).

    Raises ConditionError with `advice` if a moment has another number of values.
    """
    if is_text(value):
        raise place.error(f"{place} is text; compare it, as in char == 'a'")
    flat = value[:, np.newaxis] if value.ndim == 1 else _flat(value)
    if flat.shape[1] != 1:
        raise place.error(f"{place} has {flat.shape[1]} values; {advice}")
    single = flat[:, 0].astype(bool, copy=False)
    return single if len(single) == count else np.broadcast_to(single, count)


def combine(operation: Operation, left: AnyArray, right: AnyArray, place: SourcePart) -> AnyArray:
    """Apply an elementwise binary operation, (n, …); shapes within a moment broadcast as in NumPy.

    Raises ConditionError if they do not fit.
    """
    ndim = max(left.ndim, right.ndim)
    try:
        return operation(_with_ndim(left, ndim), _with_ndim(right, ndim))
    except ValueError:
        shapes = f"{_shape(left)} and {_shape(right)}"
        raise place.error(f"{place} combines the shapes {shapes}, which do not fit") from None


def compared_arrays(operation: Operation, left: AnyArray, right: AnyArray, place: SourcePart) -> AnyArray:
    """Compare numbers with numbers, or text with text, (n, …); NaN equals nothing.

    Raises ConditionError for text with a number, or shapes that do not fit.
    """
    if is_text(left) != is_text(right):
        raise place.error(f"{place} compares text with a number")
    if not is_text(left):
        left, right = numbers(left, place), numbers(right, place)
    return combine(operation, left, right, place)


def power(base: AnyArray, exponent: AnyArray) -> AnyArray:
    # Broadcast first: NumPy squares if a single exponent 2 serves all bases, which differs in the last bit from its power. A
    # search over many moments must find what a test at one moment finds.
    full = np.broadcast_arrays(base, exponent)
    return np.asarray(np.power(*map(np.ascontiguousarray, full)))


def pick(value: AnyArray, keys: Sequence[tuple[AnyArray | slice, SourcePart]], place: SourcePart) -> AnyArray:
    """Return the element or block at `keys`, one key per leading axis; an index (n,) can differ between moments.

    Raises ConditionError if there are too many keys, or an index is out of range.
    """
    shape = _shape(value)
    if not shape:
        raise place.error(f"{place}: a single value takes no index")
    if len(keys) > len(shape):
        raise place.error(f"{place} has {len(keys)} indices; there are {len(shape)} axes")
    for (key, at), size in zip(keys, shape, strict=False):
        if not isinstance(key, slice) and ((key < -size) | (key >= size)).any():
            raise at.error(f"index {at} is out of range: this axis has {size}, counted from 0")
    indices = [key for key, _ in keys]
    if all(isinstance(index, slice) for index in indices):
        return np.asarray(value[(slice(None), *indices)])
    # If the moments are indexed by an array as well, NumPy puts them first.
    return np.asarray(value[(np.arange(len(value)), *indices)])


def whole_indices(value: AnyArray, place: SourcePart) -> AnyArray:
    """Return indices (n,), one per moment. Raises ConditionError if a value is not a whole number."""
    index = numbers(value, place)
    if index.ndim != 1:
        raise place.error(f"{place} has the shape {_shape(index)}; an index is one whole number")
    if not (np.isfinite(index) & (index == np.floor(index))).all():
        raise place.error(f"{place} is not a whole number, as an index must be")
    return np.clip(index, -_LARGEST_INDEX, _LARGEST_INDEX).astype(np.int64)


def even_slice(bounds: Sequence[AnyArray | None], place: SourcePart) -> slice:
    """Return a slice from start, stop and step, (n,) each.

    Raises UnevenSliceError if they differ between moments, or are not known because there is no moment.
    """
    if any(bound is not None and (not len(bound) or (bound != bound[0]).any()) for bound in bounds):
        raise UnevenSliceError
    start, stop, step = (None if bound is None else int(bound[0]) for bound in bounds)
    if step == 0:
        raise place.error(f"{place} has a step of 0")
    return slice(start, stop, step)


ELEMENTWISE: Mapping[str, Callable[[AnyArray], AnyArray]] = {
    "abs": np.abs,
    "isfinite": np.isfinite,
    "isnan": np.isnan,
    **{name: partial(function_in_float64, name) for name in ("exp", "log", "sqrt", "sigmoid", "tanh")},
    "σ": partial(function_in_float64, "sigmoid"),
}
"""Elementwise functions."""

REDUCTIONS: Mapping[str, Callable[[AnyArray], AnyArray]] = {
    "any": lambda flat: np.asarray(flat.any(axis=1)),
    "all": lambda flat: np.asarray(flat.all(axis=1)),
    "min": lambda flat: flat.min(axis=1),
    "max": lambda flat: flat.max(axis=1),
    "sum": lambda flat: flat.sum(axis=1),
    "mean": lambda flat: flat.sum(axis=1) / flat.shape[1],
    "norm": lambda flat: np.sqrt((flat * flat).sum(axis=1)),
    "argmax": lambda flat: flat.argmax(axis=1).astype(np.float64),
}
"""Functions of all numbers of a moment, from (n, k) to (n,)."""


def reduce(name: str, value: AnyArray, place: SourcePart) -> AnyArray:
    """Apply a function of REDUCTIONS: one number a moment, (n,). Raises ConditionError for the min, max or mean of no numbers."""
    flat = _flat(numbers(value, place))
    if flat.shape[1] == 0 and name in ("min", "max", "mean", "argmax"):
        raise place.error(f"{place}: no values, so no {name}")
    return REDUCTIONS[name](flat)


def _shape(value: AnyArray) -> tuple[int, ...]:
    return value.shape[1:]


def _flat(value: AnyArray) -> AnyArray:
    """Return the values of each moment in one row, (n, k)."""
    return value.reshape(len(value), prod(_shape(value)))


def _with_ndim(value: AnyArray, ndim: int) -> AnyArray:
    return value if value.ndim == ndim else value.reshape(len(value), *[1] * (ndim - value.ndim), *_shape(value))


# ------------------------------------------------------------------------------
# The compiler of the expression language: it turns a syntax tree, whose node types are whitelisted, into a closure over arrays.
#
# Python's `eval` is never used; node types that are not listed here are refused. The run time is bounded by the size of the
# expression and of the arrays: there are no loops, all arithmetic is float64, and each node is evaluated once.


Evaluate: TypeAlias = Callable[[Moments], AnyArray]
Read: TypeAlias = Callable[[str], object]
"""Returns the value of a name: a read-only array, a number or a string; None if it is not computed yet."""

FUNCTIONS = (*REDUCTIONS, *ELEMENTWISE, "prev")

#: What people call a name otherwise, and what else there is to say of it.
_OTHER_WORDS: Mapping[str, frozenset[str]] = {
    "step": frozenset({"k", "n", "it", "iter", "iteration", "global_step", "steps", "update", "batch_idx", "i"}),
    "epoch": frozenset({"e", "ep", "epochs"}),
    "batch": frozenset({"b", "batches", "minibatch"}),
    "t": frozenset({"timestep", "time", "time_step", "ts"}),
    "char": frozenset({"input", "letter", "character", "token"}),
    "grad_norm": frozenset({"gradient", "grad", "grads", "gnorm", "gradnorm", "gradient_norm"}),
    "learning_rate": frozenset({"lr", "eta", "η", "rate"}),
}
_MEANINGS = {
    "step": "counts the batches of the whole run, batch those of the epoch",
    "char": "is the character of each row: char[0] == 'a'",
    "grad_norm": "is the norm of all gradients together; the gradient of a weight has a d before its name",
}

_ALWAYS_KNOWN = (Store.NOTHING, Store.SETTINGS, Store.WEIGHTS)

_CHAIN_ADVICE = "write the two comparisons separately, as in all(a < b) and all(b < c)"

_ARITHMETIC: Mapping[type[ast.AST], Operation] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.remainder,
    ast.Pow: power,
}

_COMPARISONS: Mapping[type[ast.AST], Operation] = {
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}

_REFUSED: Mapping[type[ast.AST], str] = {
    ast.Attribute: "an attribute",
    ast.Call: "calling a result",
    ast.Dict: "a dictionary",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.IfExp: "if … else",
    ast.In: "in",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.JoinedStr: "an f-string",
    ast.LShift: "<<",
    ast.Lambda: "lambda",
    ast.List: "a list",
    ast.ListComp: "a comprehension",
    ast.NotIn: "not in",
    ast.RShift: ">>",
    ast.Set: "a set",
    ast.SetComp: "a comprehension",
    ast.Tuple: "a comma",
}


@dataclass(frozen=True)
class CompiledExpression:
    """A compiled expression: its `source`, all `names` it reads, and those it reads as of the moment and through `prev()`.

    A name is read as of the moment; `prev(h)` is the value of h that was computed before that. An expression that is compiled as a
    condition, such as `loss < 0.5 and any(abs(h) > 0.9)`, has one truth value per moment.
    """

    source: str
    names: frozenset[str]
    previous: frozenset[str]
    current: frozenset[str] = field(repr=False, compare=False)
    _evaluate: Evaluate = field(repr=False, compare=False)

    def value(self, read: Read, read_previous: Read | None = None) -> AnyArray | float | str | None:
        """Return the value at one moment: a new read-only array in its shape, or a single number, truth value or character.

        None if one of the names is not computed yet. Raises ConditionError if the expression cannot be evaluated.
        """
        moments = self.moment(read, read_previous)
        if moments is None:
            return None
        value = np.array(self.evaluate(moments)[0])
        if value.ndim == 0:
            single: float | str = value.item()
            return single
        value.flags.writeable = False
        return value

    def test(self, read: Read, read_previous: Read | None = None) -> bool:
        """Return True if the condition holds at one moment.

        False if any of its names is not computed yet, in any order of its parts: in the first batch, which has no previous loss,
        `epoch == 1 or prev(loss) > 1` is False. Raises ConditionError if it cannot be evaluated.
        """
        moments = self.moment(read, read_previous)
        return moments is not None and bool(self.evaluate(moments)[0])

    def over_columns(self, columns: Mapping[str, AnyArray], previous: Mapping[str, AnyArray] | None = None) -> AnyArray:
        """Return True for each of n moments at which the condition holds, (n,): the result of `test` at each moment.

        `columns` has the values of each name at all moments, (n,) for a number and (n, B, H) for a matrix, or with a first axis
        of 1 if the value is the same at all moments; `previous` has the same for `prev()`. All values count as computed. Raises
        ConditionError if `test` would at any of the moments, without naming the moment.
        """
        before = previous or {}
        counts = {len(column) for column in (*columns.values(), *before.values())}
        count = 0 if 0 in counts else max(counts, default=0)
        if count == 0 or not self.previous <= before.keys():
            return np.zeros(count, bool)
        moments = self.moments(columns, before, count)
        try:
            return self.evaluate(moments)
        except UnevenSliceError:
            single_moments = (moments.where(np.arange(count) == moment) for moment in range(count))
            return np.concatenate([self.evaluate(moment) for moment in single_moments])

    def evaluate(self, moments: Moments) -> AnyArray:
        """Return the values at all moments, (n, …), or (1, …) if they are the same at all; without NumPy's warnings.

        Raises ConditionError if it cannot be evaluated at one of them, UnevenSliceError if the shape differs between them.
        """
        with np.errstate(all="ignore"):
            return self._evaluate(moments)

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise ConditionError if it cannot be evaluated on values of these shapes, whatever the values are."""
        kinds = {name: "U1" if name in CHARACTERS else "f8" for name in self.names}
        empty = {name: np.empty((0, *shapes[name]), kind) for name, kind in kinds.items()}
        with suppress(UnevenSliceError):
            self.evaluate(self.moments(empty, empty, 0))

    def moment(self, read: Read, read_previous: Read | None) -> Moments | None:
        """Return a single moment with the values from `read` and `read_previous`; None if a name is not computed yet."""
        now = {name: read(name) for name in self.current}
        before = {name: read_previous and read_previous(name) for name in self.previous}
        if any(value is None for value in (*now.values(), *before.values())):
            return None
        return Moments(1, _single(now), _single(before))

    def moments(self, now: Mapping[str, AnyArray], before: Mapping[str, AnyArray], count: int) -> Moments:
        """Return the moments of columns (n, …)."""
        return Moments(count, {name: now[name] for name in self.current}, {name: before[name] for name in self.previous})


def compile_expression(source: str, names: Collection[str], *, test: bool = False, first_column: int = 1) -> CompiledExpression:
    """Compile `source`, which may read `names`; with `test`, as a condition: to one truth value per moment.

    `names` can map every spelling of a name, in code and on screen, to its code spelling. Columns in errors are counted from
    `first_column`. Raises ConditionError if `source` is not a valid expression.
    """
    spellings = names if isinstance(names, Mapping) else {name: name for name in names}
    typed, t = at_one_timestep(source, spellings, first_column, test=test) if isinstance(spellings, Spellings) else (source, None)
    text = ExpressionText(typed, first_column, spellings)
    compiler = _Compiler(text, spellings)
    evaluate = compiler.truth(text.tree) if test else compiler.value(text.tree)
    if t is not None:
        evaluate = compiler.truth_at_timestep(text.tree, t)
    now, before = frozenset(compiler.now), frozenset(compiler.before)
    return CompiledExpression(source, now | before, before, now, evaluate)


def _single(read: Mapping[str, object]) -> dict[str, AnyArray]:
    return {name: np.asarray(value)[np.newaxis] for name, value in read.items()}


class _Compiler:
    """Turns the nodes of one expression into closures, and collects the names it reads: `now`, and `before` through `prev()`."""

    def __init__(self, text: ExpressionText, spellings: Mapping[str, str]) -> None:
        self._place = text.place
        self._names = frozenset(spellings.values())
        self._tokens = spellings.tokens if isinstance(spellings, Spellings) else frozenset()
        self._names_of_program = spellings.program if isinstance(spellings, Spellings) else None
        # Python's parser normalizes names (NFKC).
        self._spellings = {normalize("NFKC", spelled): name for spelled, name in spellings.items()}
        self.now: set[str] = set()
        self.before: set[str] = set()

    def value(self, node: ast.expr) -> Evaluate:
        """Return a closure that returns the value of `node`: (n, …), or (1, …) if it is the same at every moment."""
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                name = self._name(node)
                self.now.add(name)
                return lambda moments: moments.value(name)
            case ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                return self.truth(node)
            case ast.Compare(ops=[_]):
                return self._comparison(node)
            case ast.Compare():
                return self._chain(node)
            case ast.UnaryOp(op=ast.USub()):
                return self._negative(node)
            case ast.UnaryOp(op=ast.UAdd()):
                return self._numbers(node.operand)
            case ast.BinOp():
                return self._arithmetic(node)
            case ast.Subscript():
                return self._picked(self.value(node.value), node)
            case ast.Call():
                return self._call(node)
            case _:
                raise self._refusal(node, node)

    def truth(self, node: ast.expr) -> Evaluate:
        """Return a closure that returns one truth value per moment: (n,)."""
        match node:
            case ast.BoolOp():
                return self._junction(node)
            case ast.UnaryOp(op=ast.Not()):
                operand = self.truth(node.operand)
                return lambda moments: ~operand(moments)
        value, place = self.value(node), self._place(node)
        return lambda moments: truth_values(value(moments), moments.count, place)

    def truth_at_timestep(self, node: ast.expr, t: int) -> Evaluate:
        """Return a closure for a condition that can hold at timestep `t` only, from 1.

        Raises ConditionError for a value that is not known there.
        """
        program = self._names_of_program
        assert program is not None
        for part in (part for part in ast.walk(node) if isinstance(part, ast.Name)):
            name = self._spellings.get(part.id)
            if name is None or program.names[name].timed or program.names[name].kind.store in _ALWAYS_KNOWN:
                continue
            raise self._place(part).error(f"{name} is known after the last timestep only, not at timestep {t}")
        is_there = ast.Compare(ast.Name("t"), [ast.Eq()], [ast.Constant(t)])
        both = ast.BoolOp(ast.And(), [is_there, node])
        for made in (is_there, is_there.left, *is_there.comparators, both):
            ast.copy_location(made, node)
        return self.truth(both)

    def _constant(self, node: ast.Constant) -> Evaluate:
        match node.value:
            case str() as text if len(text) == 1 or text in self._tokens:
                constant = np.array([text])
            case str() as text if self._tokens:
                near = get_close_matches(text, self._tokens)
                advice = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
                raise self._error(node, f"there is no token {text!r} in the vocabulary{advice}")
            case str() as text:
                raise self._error(node, f"{len(text)} characters; text is compared one character at a time")
            case bool() as flag:
                constant = np.array([flag])
            case int() | float() as number:
                constant = np.array([self._number(node, number)])
            case _:
                raise self._error(node, f"{self._place(node)} is not allowed here; write a number or one character")
        constant.flags.writeable = False
        return lambda moments: constant

    def _number(self, node: ast.Constant, number: float) -> float:
        try:
            return float(number)
        except OverflowError:
            raise self._error(node, "this number is too large") from None

    def _name(self, node: ast.Name) -> str:
        if (name := self._spellings.get(node.id)) is not None:
            return name
        if node.id in FUNCTIONS:
            raise self._error(node, f"{node.id} is a function; write {node.id}(...)")
        raise self._error(node, f"unknown name {node.id}; {self._meant(node.id)}")

    def _meant(self, typed: str) -> str:
        """Return what an unknown name may mean: a word for a counter, a place, a layer, or a name that is spelled like it."""
        word = next((name for name, words in _OTHER_WORDS.items() if typed.lower() in words), "")
        if word in self._names:
            return f"{word} {_MEANINGS.get(word, 'is its name here')}"
        if (place := re.fullmatch(r"([ebt])(\d+)", typed)) is not None:
            counter = {"e": "epoch", "b": "batch", "t": "t"}[place[1]]
            return f"as a condition it is {counter} == {place[2]}, and go {typed} goes there"
        base, suffix = split(typed)
        layers = sorted(name for name in self._names if suffix and split(name)[0] == base)
        if layers:
            alone = (
                " has no layers here; write it without a suffix" if layers == [base] else f" is in these layers: {' '.join(layers)}"
            )
            return f"{base}{alone}"
        return did_you_mean(typed, sorted(self._names))

    def _junction(self, node: ast.BoolOp) -> Evaluate:
        """Compile `and` or `or`: each part is evaluated at the moments that the parts before it did not decide."""
        parts, undecided = [self.truth(part) for part in node.values], isinstance(node.op, ast.And)

        def evaluate(moments: Moments) -> AnyArray:
            verdict = Verdict(moments, undecided)
            for part in parts:
                if verdict.decided:
                    break
                verdict.decide(part(verdict.moments))
            return verdict.truth

        return evaluate

    def _comparison(self, node: ast.Compare) -> Evaluate:
        left, [(operation, right)], place = self.value(node.left), self._links(node), self._place(node)
        return lambda moments: compared_arrays(operation, left(moments), right(moments), place)

    def _chain(self, node: ast.Compare) -> Evaluate:
        """Compile `a < b < c` as `a < b and b < c`, but with each operand evaluated once."""
        first, links, place = self.value(node.left), self._links(node), self._place(node)

        def evaluate(moments: Moments) -> AnyArray:
            verdict = Verdict(moments, undecided=True)
            left = first(moments)
            for operation, operand in links:
                if verdict.decided:
                    break
                right = operand(verdict.moments)
                outcome = compared_arrays(operation, left, right, place)
                still_open = verdict.decide(truth_values(outcome, verdict.moments.count, place, _CHAIN_ADVICE))
                left = where(right, still_open)
            return verdict.truth

        return evaluate

    def _links(self, node: ast.Compare) -> list[tuple[Operation, Evaluate]]:
        return [
            (self._operation(_COMPARISONS, operator, node), self.value(operand))
            for operator, operand in zip(node.ops, node.comparators, strict=True)
        ]

    def _arithmetic(self, node: ast.BinOp) -> Evaluate:
        operation, place = self._operation(_ARITHMETIC, node.op, node), self._place(node)
        left, right = self._numbers(node.left), self._numbers(node.right)
        return lambda moments: combine(operation, left(moments), right(moments), place)

    def _numbers(self, node: ast.expr) -> Evaluate:
        value, place = self.value(node), self._place(node)
        return lambda moments: numbers(value(moments), place)

    def _negative(self, node: ast.UnaryOp) -> Evaluate:
        operand = self._numbers(node.operand)
        return lambda moments: -operand(moments)

    def _picked(self, value: Evaluate, node: ast.Subscript) -> Evaluate:
        place = self._place(node)
        self._refuse_index_of_number(node)
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        keys = [(self._slice(i) if isinstance(i, ast.Slice) else self._index(i), self._place(i)) for i in items]
        return lambda moments: pick(value(moments), [(key(moments), at) for key, at in keys], place)

    def _refuse_index_of_number(self, node: ast.Subscript) -> None:
        program = self._names_of_program
        name = self._spellings.get(node.value.id) if isinstance(node.value, ast.Name) else None
        if program is None or name is None or program.shapes.get(name, (1,)):  # a value at another timestep is not among them
            return
        term = program.loss_names.timestep if name == "loss" else name if program.names[name].timed else ""
        hint = f"; that of a timestep is {program.writer.name(term)} t 1" if term else ""
        raise self._error(node, f"{self._place(node)}: a single value takes no index{hint}")

    def _index(self, node: ast.expr) -> Evaluate:
        value, place = self.value(node), self._place(node)
        if isinstance(node, ast.Constant) and type(node.value) is int:
            index = whole_indices(np.array([self._number(node, node.value)]), place)
            return lambda moments: index
        return lambda moments: whole_indices(value(moments), place)

    def _slice(self, node: ast.Slice) -> Callable[[Moments], slice]:
        bounds = [None if bound is None else self._index(bound) for bound in (node.lower, node.upper, node.step)]
        place = self._place(node)
        return lambda moments: even_slice([bound and bound(moments) for bound in bounds], place)

    def _call(self, node: ast.Call) -> Evaluate:
        match node.func:
            case ast.Name(id=name) if name in FUNCTIONS:
                argument = self._only_argument(node, name)
            case ast.Name(id=name):
                raise self._error(node, f"no function {name}; the functions are {', '.join(FUNCTIONS)}")
            case ast.Attribute(attr=name) if name in FUNCTIONS:
                raise self._error(node, f"an attribute is not allowed here; write {name}(...)")
            case _:
                raise self._refusal(node.func, node.func)
        if name == "prev":
            return self._previous(argument)
        value, place = self.value(argument), self._place(node)
        if name in REDUCTIONS:
            return lambda moments: reduce(name, value(moments), place)
        function = ELEMENTWISE[name]
        return lambda moments: function(numbers(value(moments), place))

    def _only_argument(self, node: ast.Call, name: str) -> ast.expr:
        if len(node.args) != 1 or node.keywords:
            raise self._error(node, f"{name} takes one value, as in {name}(h)")
        return node.args[0]

    def _previous(self, node: ast.expr) -> Evaluate:
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):  # prev(h[0, 1]) is prev(h)[0, 1]
            return self._picked(self._previous(node.value), node)
        if not isinstance(node, ast.Name):
            raise self._error(node, "prev takes a name, as in prev(h)[0, 1]")
        name = self._name(node)
        self.before.add(name)
        return lambda moments: moments.previous(name)

    def _operation(self, operations: Mapping[type[ast.AST], Operation], operator: ast.AST, node: ast.expr) -> Operation:
        if type(operator) not in operations:
            raise self._refusal(operator, node)
        return operations[type(operator)]

    def _refusal(self, refused: ast.AST, node: ast.expr) -> ConditionError:
        return self._error(node, f"{_REFUSED.get(type(refused), 'this')} is not allowed here")

    def _error(self, node: ast.expr, reason: str) -> ConditionError:
        return self._place(node).error(reason)


def _timed_name(spellings: Spellings) -> re.Pattern[str]:
    """Return the pattern of a name at a timestep: `z t 3`, `z[row 1, unit 2] t 3`, and `z[t=3]`, `z[row 1, unit 2, t 3]`."""
    spelled = "|".join(map(re.escape, sorted(spellings, key=len, reverse=True)))
    inside = r"\[(?P<before>[^\[\]]*,)?\s*t\s*(?:=(?!=)|\s)\s*(?P<inner>\d{1,9})\s*\]"
    return re.compile(rf"(?<!\w)(?P<name>{spelled})(?:{inside}|(?P<index>\[[^\[\]]*\])? t (?P<t>\d{{1,9}})(?!\w))")


def _timestep_of(match: re.Match[str], spellings: Spellings, column: int) -> tuple[str, str, int]:
    """Return the code name, the index in brackets and the timestep, from 1, of a match of `_timed_name`.

    Raises ConditionError for a timestep that the batch does not have, or a value that has none.
    """
    program, name, t = spellings.program, spellings[match["name"]], int(match["t"] or match["inner"])
    named = program.names.get(name)
    if named is None or not named.timed:
        raise ConditionError(f"{match['name']} has no timesteps; leave out t {t}", column)
    if not 1 <= t <= program.seq_length:
        raise ConditionError(f"a batch has the timesteps 1 to {program.seq_length}, not {t}", column)
    index = match["index"] or (f"[{match['before'][:-1]}]" if match["before"] else "")
    return name, index, t


def at_one_timestep(source: str, spellings: Spellings, first_column: int = 1, *, test: bool = True) -> tuple[str, int | None]:
    """Return a condition on one timestep, `term3 t 1 > 1`, without it, in the same columns; and the timestep, from 1, or None.

    Raises ConditionError for two timesteps, one that the batch does not have, and, without `test`, for any.
    """
    times: dict[int, int] = {}  # columns, by timestep

    def without(match: re.Match[str]) -> str:
        column = first_column + match.start()
        _, index, t = _timestep_of(match, spellings, column)
        times.setdefault(t, column)
        return f"{match['name']}{index}".ljust(len(match[0]))

    if not re.search(r"(?<!\w)t[\s=]+\d", source):
        return source, None
    left = _timed_name(spellings).sub(without, source)
    if times and not test:
        reason = "this is read at the timestep you are in; leave out t, or use a condition such as t == 1"
        raise ConditionError(reason, min(times.values()))
    if len(times) > 1:
        one, other = sorted(times)[:2]
        reason = f"a condition is tested at one timestep, not at {one} and {other}; prev(z) is the z before"
        raise ConditionError(reason, max(times.values()))
    return left, next(iter(times), None)


class TimedExpression:
    """An expression whose names may be read at other timesteps of the batch: `norm(dh t 1)`, `z[row 1, unit 2] t 3`.

    Its values are read at one moment at a time, so it can be computed and plotted, but not searched for. Raises ConditionError for
    a text that is not an expression, a timestep that the batch does not have, or a value that has none.
    """

    def __init__(self, source: str, spellings: Spellings) -> None:
        self._timed: dict[str, tuple[str, int]] = {}  # names in code that stand for a name at a timestep, 0-based
        program = spellings.program

        def replaced(match: re.Match[str]) -> str:
            name, index, t = _timestep_of(match, spellings, match.start() + 1)
            stands_for = f"{name}_t_{t}"
            self._timed[stands_for] = name, t - 1
            if index:
                place = index_in_words_of(program, name, index[1:-1], match.end("name") + 2)
                index = index if place is None else f"[{', '.join(map(str, place))}]"
            return f"{stands_for}{index}".ljust(len(match[0]))

        typed = _timed_name(spellings).sub(replaced, source)
        names = Spellings({**spellings, **{name: name for name in self._timed}})
        names.program, names.tokens = program, spellings.tokens
        self._compiled = compile_expression(typed, names)
        shapes = {name: program.shapes[of] for name, (of, _) in self._timed.items()}
        self._compiled.check({**program.shapes, **shapes})

    @property
    def reads_before(self) -> bool:
        """True if it reads values before the moment, by prev()."""
        return bool(self._compiled.previous)

    def value(self, read: Callable[[str, int | None], Any], read_previous: Read | None = None) -> AnyArray | float | str | None:
        """Return the value at one moment, as `CompiledExpression.value`; `read` gets a name, and a timestep (0-based) or None."""
        return self._compiled.value(lambda name: read(*self._timed.get(name, (name, None))), read_previous)


def in_screen_spelling(source: str, names: Spellings) -> str:
    """Return an expression with the entries that it names by numbers, `z[0, 1]`, as the screen writes them, `z[row 1, unit 2]`.

    Other indices stay as they are, and so does an invalid expression.
    """
    try:
        text = ExpressionText(source, names=names)
    except ConditionError:
        return source
    shown, program = source, names.program
    for node in sorted(_entries(text.tree), key=lambda node: -text.place(node.slice).column):
        named = node.value.args[0] if isinstance(node.value, ast.Call) else node.value
        name = names.get(named.id, "") if isinstance(named, ast.Name) else ""
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        index = [part.value for part in parts if isinstance(part, ast.Constant) and type(part.value) is int]
        shape = program.shapes.get(name, ())
        if len(index) == len(parts) == len(shape) and all(i < size for i, size in zip(index, shape, strict=True)):
            place = text.place(node.slice)
            start = place.column - 1
            shown = f"{shown[:start]}{spoken_index(program, name, index)}{shown[start + len(place.text) :]}"
    return shown


def _entries(tree: ast.expr) -> Iterator[ast.Subscript]:
    """Yield the entries of names, `h[0, 1]` and `prev(h)[0, 1]`."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Name() | ast.Call(func=ast.Name(id="prev"), args=[ast.Name()])):
                yield node


def compile_condition(source: str, names: Collection[str]) -> CompiledExpression:
    """Compile a condition that may read `names`.

    Raises ConditionError with the column if `source` is not a valid expression.
    """
    return compile_expression(source, names, test=True)
