"""The keys bound to verbs, as written on the screen."""

from __future__ import annotations

import re

from textual.dom import DOMNode

VERB = re.compile(r"<([\w.]+)>")
KEY_SIGNS = {
    "space": "space", "question_mark": "?", "colon": ":", "full_stop": ".", "plus": "+", "minus": "-", "escape": "esc",
    "right": "→", "left": "←", "up": "↑", "down": "↓", "shift+tab": "shift+tab",
    "right_square_bracket": "]", "left_square_bracket": "[", "right_curly_bracket": "}", "left_curly_bracket": "{",
    "apostrophe": "'",
    "equals_sign": "=", "comma": ",", "semicolon": ";", "exclamation_mark": "!", "circumflex_accent": "^", "at": "@",
    "asterisk": "*", "ampersand": "&", "percent_sign": "%", "tilde": "~", "underscore": "_",
}  # fmt: skip


def key_sign(keys: str) -> str:
    """Return the sign of the first key: `.` for `full_stop`, `s` for `s,right`."""
    return key_signs(keys)[0]


def key_signs(keys: str) -> list[str]:
    """Return the signs of all keys."""
    return [KEY_SIGNS.get(key, key) for key in keys.split(",")]


def sign_of_key(node: DOMNode, verb: str) -> str:
    """Return the sign of the first key that is bound to the verb of this id, in the user's key file or by default."""
    from tui_gru.tui.verbs.table import KEYS  # imported late: its functions import panels, which import this

    own: dict[str, str] = getattr(node.app, "own_keys", {})
    return key_sign(own.get(verb, KEYS[verb]))


def with_keys(node: DOMNode, words: str) -> str:
    """Replace ids of verbs in angle brackets by their keys: `<step.line> executes one` to `o executes one`."""
    return VERB.sub(lambda match: sign_of_key(node, match[1]), words)
