"""Which key is bound to a verb, written as people know it: for all that names a key on the screen."""

from __future__ import annotations

import re

from textual.dom import DOMNode

VERB = re.compile(r"<([\w.]+)>")
KEY_SIGNS = {
    "space": "space", "question_mark": "?", "colon": ":", "full_stop": ".", "plus": "+", "minus": "-", "escape": "esc",
    "right": "→", "left": "←", "up": "↑", "down": "↓", "shift+tab": "shift+tab",
    "right_square_bracket": "]", "left_square_bracket": "[", "apostrophe": "'",
    "equals_sign": "=", "comma": ",", "semicolon": ";", "exclamation_mark": "!", "circumflex_accent": "^", "at": "@",
    "asterisk": "*", "ampersand": "&", "percent_sign": "%", "tilde": "~", "underscore": "_",
}  # fmt: skip


def key_sign(keys: str) -> str:
    """Keys as people know them: `full_stop` is `.`, of `s,right` the first."""
    return key_signs(keys)[0]


def key_signs(keys: str) -> list[str]:
    """All of them."""
    return [KEY_SIGNS.get(key, key) for key in keys.split(",")]


def sign_of_key(node: DOMNode, verb: str) -> str:
    """The key that this person has for a verb, by its id; of several the first."""
    from tui_gru.tui.verbs.table import KEYS  # late: its functions know the panels, which know this

    own: dict[str, str] = getattr(node.app, "own_keys", {})
    return key_sign(own.get(verb, KEYS[verb]))


def with_keys(node: DOMNode, words: str) -> str:
    """Words in which a verb's id in angle brackets stands for its key: `<step.line> executes one`."""
    return VERB.sub(lambda match: sign_of_key(node, match[1]), words)
