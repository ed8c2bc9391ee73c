"""The manual's table of keys and commands, generated from the verb table.

python -m tests.key_table writes it into the manual.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from tests.pages import FOLDER
from tui_gru.debugger.program import program_of
from tui_gru.engine.config import Config
from tui_gru.tui.keys import Verb, example, key_signs
from tui_gru.tui.verbs import VERBS

PAGE = FOLDER / "screens.md"
HEAD = "| key | on the `:` line | |\n|---|---|---|\n"


def key_table() -> str:
    """Return the table with a row for each verb; a verb and its reverse, or its counterpart for the previous item, share a row."""
    return HEAD + "".join(f"| {keys} | {typed} | {words} |\n" for keys, typed, words in rows())


def rows() -> Iterator[tuple[str, str, str]]:
    program = program_of(Config.of())
    verbs = [verb for verb in VERBS if verb.help]
    while verbs:
        together = [verbs.pop(0)]
        if verbs and counterparts(together[0], verbs[0]):
            together.append(verbs.pop(0))
        keys = " ".join(f"`{sign}`" for verb in together if verb.keys for sign in key_signs(verb.keys))
        typed = " ".join(f"`{example(program, verb.usage)}`" for verb in together if verb.names)
        yield keys, typed, "; ".join(example(program, verb.typed_help) for verb in together)


def counterparts(verb: Verb, other: Verb) -> bool:
    """Return True if the keys of two verbs are a letter and its capital, or one verb is the other's counterpart for the previous
    item."""
    capital = len(other.keys.partition(",")[0]) == 1 and other.keys[0] == verb.keys[:1].upper() != verb.keys[:1]
    return capital or other.id == f"{verb.id.partition('.')[0]}.back"


def in_page(text: str) -> tuple[str, str, str]:
    """Return a page before its key table, the table, and the text after it."""
    before, head, rest = text.partition(HEAD)
    assert head, "the page has no key table"
    table = "".join(takewhile(lambda line: line.startswith("|"), rest.splitlines(keepends=True)))
    return before, head + table, rest[len(table) :]


if __name__ == "__main__":
    before, _, after = in_page(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(before + key_table() + after, encoding="utf-8")
