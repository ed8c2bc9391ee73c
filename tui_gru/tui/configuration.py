"""The user's files in the configuration folder, in TOML: `keys.toml` has keys by ids of verbs, `config.toml` the usual display.

An error in them names the file and, where there is one, the line.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from textual.keys import KEY_TO_UNICODE_NAME, Keys
from textual.theme import BUILTIN_THEMES

from tui_gru.equations.syntax import did_you_mean
from tui_gru.errors import TuiGruError, shown
from tui_gru.tui.theme import OWN_THEMES
from tui_gru.tui.verbs import VERBS

LONGEST = 2**16  # bytes of a file
KEY_NAMES = {key.value for key in Keys} | {"space", "plus", "minus", "full_stop", "colon", "question_mark", "comma", "semicolon"}


@dataclass(frozen=True)
class Display:
    """How the screen is drawn unless an option of the command line says otherwise; None where the file does not say it."""

    theme: str | None = None
    ascii: bool | None = None


def load_keys(path: Path) -> dict[str, str]:
    """Return the keys by verb id. Raises `TuiGruError` if the file cannot be read or is no valid key file."""
    file = _File(path, "keymap")
    keys, verbs = file.table("keys"), {verb.id: verb for verb in VERBS if verb.keys}
    for verb, value in keys.items():
        if verb not in verbs:
            raise file.problem(f"there is no verb {verb!r}; there are: {', '.join(verbs)}", verb)
        if not isinstance(value, str) or not all(_is_key(key) for key in value.split(",")):
            raise file.problem(f"{shown(value)} is not a valid key for {verb}; write it as x, X, ctrl+x, f5, right or space", verb)
    _check_collisions({verb.id: str(keys.get(verb.id, verb.keys)) for verb in verbs.values()}, file, keys)
    return {verb: str(value) for verb, value in keys.items()}


def load_display(path: Path) -> Display:
    """Return the table `[display]`. Raises `TuiGruError` if the file cannot be read or has other contents."""
    file = _File(path)
    values: dict[str, Any] = file.table("display")
    names = [field.name for field in fields(Display)]
    for name in file.content.keys() - {"display"}:
        raise file.problem(f"there is no table [{name}]; write [display], with {' and '.join(names)} in it", name)
    for name, value in values.items():
        if name not in names:
            raise file.problem(f"there is no {name!r} in [display]; {did_you_mean(name, names)}", name)
        themes = (*OWN_THEMES, *BUILTIN_THEMES)
        if name == "theme" and value not in themes:
            raise file.problem(f"there is no theme {shown(value)}; {did_you_mean(str(value), OWN_THEMES, themes)}", name)
        if name == "ascii" and not isinstance(value, bool):
            raise file.problem(f"ascii is true or false, not {shown(value)}", name)
    return Display(**values)


class _File:
    """The contents of a TOML file. Its errors are about `option`, if an option can name the file."""

    def __init__(self, path: Path, option: str | None = None) -> None:
        self.path, self._option = path, option
        try:
            with path.open("rb") as file:
                data = file.read(LONGEST + 1)
        except OSError as error:
            raise TuiGruError(f"{path} cannot be read: {error.strerror}", option=option) from None
        if len(data) > LONGEST:
            raise self.problem(f"it is longer than {LONGEST >> 10} KiB, which is more than it can have to say")
        try:
            self._text = data.decode("utf-8-sig")
            self.content = tomllib.loads(self._text)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:  # the first names the line
            raise TuiGruError(f"{path} is not a TOML file: {error}", option=option) from None
        except (ValueError, RecursionError):
            raise self.problem("a number in it has too many digits, or brackets are too deep") from None

    def table(self, name: str) -> dict[str, object]:
        values = self.content.get(name, {})
        if not isinstance(values, dict):
            raise self.problem(f'[{name}] must be a table of name = "value"', name)
        return values

    def problem(self, words: str, name: str = "") -> TuiGruError:
        """Return an error about the line that sets `name`; about the file if there is no such line."""
        sets = re.compile(rf"""\s*\[?\s*["']?{re.escape(name)}["']?\s*[]=]""")
        lines = self._text.splitlines() if name else []
        line = next((f":{number}" for number, line in enumerate(lines, 1) if sets.match(line)), "")
        return TuiGruError(f"{self.path}{line}: {words}", option=self._option)


def _check_collisions(keys: dict[str, str], file: _File, set_keys: dict[str, object]) -> None:
    verb_of: dict[str, str] = {}
    for verb, value in keys.items():
        for key in value.split(","):
            if key in verb_of:
                named = verb if verb in set_keys else verb_of[key]
                raise file.problem(f"the key {key!r} is both {verb_of[key]} and {verb}; give one of them another", named)
            verb_of[key] = verb


def _is_key(key: str) -> bool:
    name = key.split("+")[-1]
    return len(name) == 1 or name in KEY_NAMES or name in KEY_TO_UNICODE_NAME.values()
