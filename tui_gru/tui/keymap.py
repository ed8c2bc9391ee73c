"""The user's key file: TOML with a table `[keys]` from ids of verbs to keys."""

from __future__ import annotations

import tomllib
from pathlib import Path

from textual.keys import KEY_TO_UNICODE_NAME, Keys

from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.verbs.table import VERBS

LONGEST = 2**16  # bytes of a key file
KEY_NAMES = {key.value for key in Keys} | {"space", "plus", "minus", "full_stop", "colon", "question_mark", "comma", "semicolon"}


def load(path: Path) -> dict[str, str]:
    """Return the keys by verb id. Raises `TuiGruError` if the file cannot be read or is no valid key file."""
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
    except OSError as error:
        raise TuiGruError(f"{path} cannot be read: {error.strerror}", option="keymap") from None
    if len(data) > LONGEST:
        raise _problem(path, f"it is longer than {LONGEST >> 10} KiB, so it is no key file")
    try:
        content = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TuiGruError(f"{path} is not a TOML file: {error}", option="keymap") from None
    except (ValueError, RecursionError):
        raise _problem(path, "a number in it has too many digits, or brackets are too deep; write only [keys] in it") from None
    return _checked(content.get("keys", {}), path)


def _checked(keys: object, path: Path) -> dict[str, str]:
    known = {verb.id: verb for verb in VERBS if verb.keys}
    if not isinstance(keys, dict):
        raise TuiGruError(f'{path}: [keys] must be a table of verb = "keys"', option="keymap")
    for verb, value in keys.items():
        if verb not in known:
            raise TuiGruError(f"{path}: there is no verb {verb!r}; there are: {', '.join(known)}", option="keymap")
        if not isinstance(value, str) or not all(_is_key(key) for key in value.split(",")):
            raise _problem(path, f"{value!r} is not a valid key for {verb}; write it as x, X, ctrl+x, f5, right or space")
    _check_collisions({verb.id: str(keys.get(verb.id, verb.keys)) for verb in VERBS if verb.keys}, path)
    return {str(verb): str(value) for verb, value in keys.items()}


def _check_collisions(keys: dict[str, str], path: Path) -> None:
    taken: dict[str, str] = {}
    for verb, value in keys.items():
        for key in value.split(","):
            if key in taken:
                raise _problem(path, f"the key {key!r} is both {taken[key]} and {verb}; give one of them another")
            taken[key] = verb


def _is_key(key: str) -> bool:
    name = key.split("+")[-1]
    return len(name) == 1 or name in KEY_NAMES or name in KEY_TO_UNICODE_NAME.values()


def _problem(path: Path, what: str) -> TuiGruError:
    return TuiGruError(f"{path}: {what}", option="keymap")
