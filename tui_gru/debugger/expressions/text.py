"""Parses typed text as a Python expression whose nodes know their place in the text.

Python's parser does the grammar. Before it, on-screen signs (`≤ ≥ ≠ − × · ⊙`) and on-screen names that Python does not accept
(`hₜ₋₁ dh← ①`) are replaced, and common mistakes (`=`, `&&`, `!`) get a hint. After it, every node maps back to its column.
"""

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from keyword import iskeyword
from string import ascii_letters
from types import MappingProxyType

from tui_gru.debugger.program.typed import TypedError

MAX_LENGTH = 1000
"""The most characters in one expression."""

MAX_DEPTH = 50
"""The most nested expressions; `a + b + c` is three deep."""

_FORBIDDEN = re.compile("[\0-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")

QUOTED = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
"""The pattern of a string."""

_TOKENS = re.compile(
    rf"""(?P<text> {QUOTED} )
      | (?P<sign> [≤≥≠−×·⊙] )
      | (?P<slip> => | =< | <> | := | && | \|\| | (?<![=<>!])=(?!=) | (?<=[=<>!]=)= | !(?!=) | [&|^~@#] )""",
    re.VERBOSE,
)

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
    if found := _FORBIDDEN.search(typed):
        what = "a line break" if found[0] in "\r\n" else "this character"
        raise ConditionError(f"{what} is not allowed here", first_column + found.start())


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
        at = 0
        while at < len(self._text):
            name = named.match(self._text, at) if named is not None else None
            token = None if name is not None else _TOKENS.match(self._text, at)
            if name is not None:
                meant = self._names[name[0]]
                yield at, name.end(), _as_name(meant) if _is_word_of_python(meant) else meant
            elif token is not None and token["slip"]:
                raise self._error(_SLIPS[token["slip"]], at)
            elif token is not None and token["sign"]:
                yield at, token.end(), _SIGNS[token["sign"]]
            at = (name or token).end() if name or token else at + 1  # type: ignore[union-attr]

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
