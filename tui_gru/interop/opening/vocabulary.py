"""The tokens of a model in the order of its indices, from a sequence, a mapping, or a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from tui_gru.interop.errors import ModelFileError, printable

MOST_BYTES = 1 << 26
FILE = "give one token a line, or JSON: a list of them, or an object with their indices"


def read_vocabulary(path: str | PathLike[str]) -> list[str]:
    """Return the tokens in a UTF-8 file: one token per line, or a JSON list of them, or a JSON object with the index of each.

    Of a tokenizer.json, the vocabulary of its model is read. Raises `ModelFileError` that says what is wrong and where.
    """
    name = printable(path, 250)
    try:
        with Path(os.path.expanduser(path)).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be read"
        raise ModelFileError(f"{name}: {reason.lower()}; check the name", option="tokens") from None
    if len(data) > MOST_BYTES:
        raise ModelFileError(f"{name} is longer than {MOST_BYTES >> 20} MiB; {FILE}", option="tokens")
    try:
        content = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ModelFileError(
            f"{name} is not UTF-8 at byte {error.start}; convert it, for example with iconv", option="tokens"
        ) from None
    found = _of_json(content) if content.lstrip()[:1] in ("{", "[") else None
    if found is None and Path(path).suffix == ".json":
        raise ModelFileError(f"{name} is not JSON, or it is cut off; {FILE}", option="tokens")
    if found is None:
        lines = content.removesuffix("\n").split("\n")
        found = [line.removesuffix("\r") for line in lines]
    try:
        return in_order(found)
    except ModelFileError as error:
        raise ModelFileError(f"{name}: {error}", option="tokens") from None


def _of_json(content: str) -> Any:
    """Return the tokens or the mapping in JSON; None if the text is not JSON, for example a list of tokens that begins with a
    bracket."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    model = found.get("model") if isinstance(found, dict) else None
    if not isinstance(model, dict) or "vocab" not in model:
        return found
    added = found.get("added_tokens", [])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict) and isinstance(added, list):
        known = {each["content"]: each["id"] for each in added if isinstance(each, dict) and {"content", "id"} <= each.keys()}
        vocabulary = vocabulary | known
    return vocabulary


def in_order(tokens: Any) -> list[str]:
    """Return the tokens in the order of their indices, from a sequence or a mapping to indices. Raises `ModelFileError`."""
    if isinstance(tokens, Mapping):
        tokens = _of_mapping(tokens)
    if isinstance(tokens, str) or not isinstance(tokens, Iterable):
        raise ModelFileError(f"{printable(tokens, 40)} is not a list of tokens; {FILE}", option="vocabulary")
    found = list(tokens)
    for i, token in enumerate(found):
        if not isinstance(token, str) or not token:
            raise ModelFileError(f"token {i + 1} is {printable(repr(token), 40)}, and no text; {FILE}", option="vocabulary")
    _check_different(found)
    return found


def _of_mapping(tokens: Mapping[Any, Any]) -> Sequence[Any]:
    found = sorted(tokens.items(), key=lambda pair: pair[1] if type(pair[1]) is int else -1)
    for i, (token, index) in enumerate(found):
        if index != i or type(index) is not int:
            raise ModelFileError(
                f"token {printable(token, 40)} has the index {printable(index, 40)}, and {i} is expected: the indices are 0 to "
                f"{len(found) - 1}, each once",
                option="vocabulary",
            )
    return [token for token, _ in found]


def _check_different(tokens: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for i, token in enumerate(tokens):
        if token in seen:
            raise ModelFileError(
                f"{printable(token, 40)} occurs twice, as token {seen[token] + 1} and {i + 1}", option="vocabulary"
            )
        seen[token] = i
