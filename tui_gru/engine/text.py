"""Texts as tokens of a vocabulary, and the exact output of numbers as JSON and npz."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from tui_gru import errors as arguments
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# Texts and vocabularies: strings of characters, or tuples of tokens that may be longer than a character.


Text: TypeAlias = str | tuple[str, ...]


class Classes(tuple[str, ...]):
    """The names of the classes that are predicted, in the place of a vocabulary, if they are no tokens of a text."""

    __slots__ = ()


def as_text(tokens: Iterable[str], like: Text) -> Text:
    """Return tokens as a text of the same type as `like`."""
    return "".join(tokens) if isinstance(like, str) else tuple(tokens)


def checked(value: Any, option: str) -> Text:
    """Return a string unchanged, and a sequence of non-empty strings as a tuple. Raises `TuiGruError` for any other value."""
    if isinstance(value, str):
        return value
    try:
        tokens = tuple(value)
    except TypeError:
        tokens = (value,)
    for token in tokens:
        if not isinstance(token, str) or not token:
            raise TuiGruError(f"the {option} must be characters or longer tokens, not {arguments.shown(token)}", option=option)
    return tokens


def alike(text: Text, vocabulary: Text) -> tuple[Text, Text]:
    """Return text and vocabulary as strings if every token has one character; otherwise as tuples, with the text cut into tokens.
    Raises `TuiGruError` if no token fits at a place in the text."""
    if all(len(token) == 1 for token in (*vocabulary, *text)):
        return "".join(text), "".join(vocabulary)
    vocabulary = tuple(vocabulary)
    return cut(text, vocabulary) if isinstance(text, str) else text, vocabulary


def as_string(text: Text, vocabulary: Text) -> str:
    """Return a text as one string. Tokens are separated by spaces, unless a token of the vocabulary contains white space."""
    return text if isinstance(text, str) else separator(vocabulary).join(text)


def cut(text: str, vocabulary: Text, option: str = "text") -> Text:
    """Return the tokens of a text that `as_string` joined: at each place the longest token of the vocabulary that fits.

    White space between tokens is skipped if no token has any. Raises `TuiGruError` if no token fits.
    """
    if isinstance(vocabulary, str):
        return text
    known, longest, skipped = frozenset(vocabulary), max(map(len, vocabulary), default=1), separator(vocabulary)
    found: list[str] = []
    at = 0
    while at < len(text):
        if skipped and text[at].isspace():
            at += 1
            continue
        token = next((text[at : at + n] for n in range(min(longest, len(text) - at), 0, -1) if text[at : at + n] in known), None)
        if token is None:
            raise TuiGruError(
                f"no token of the vocabulary begins at character {at + 1} of the {option}, {arguments.shown(text[at : at + 12])}",
                option=option,
            )
        found.append(token)
        at += len(token)
    return tuple(found)


def separator(vocabulary: Text) -> str:
    """Return the separator between two tokens of a text as one string."""
    return "" if isinstance(vocabulary, str) or any(map(_has_blank, vocabulary)) else " "


def _has_blank(token: str) -> bool:
    return any(map(str.isspace, token))


def token_word(vocabulary: Text) -> str:
    """Return the word for an entry of a vocabulary, `character`, `token` or `class`."""
    return "character" if isinstance(vocabulary, str) else "class" if isinstance(vocabulary, Classes) else "token"


def index_of(vocabulary: Text) -> dict[str, int]:
    """Return the index of each token."""
    return {token: i for i, token in enumerate(vocabulary)}


def picked(ids: Iterable[Any], vocabulary: Text) -> Text:
    """Return the tokens with these indices."""
    return as_text((vocabulary[i] for i in ids), vocabulary)
