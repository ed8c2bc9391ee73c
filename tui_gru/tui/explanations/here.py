"""Explanations of what has the focus: the number under the cursor, its panel, the current line and the panel's signs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from inspect import isclass
from pkgutil import walk_packages
from typing import Any

import numpy as np

import tui_gru.tui.panels as panels
from tui_gru.debugger.program.line_table import Program, ProgramLine
from tui_gru.debugger.program.naming import spoken
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine.numbers import exact
from tui_gru.tui.explanations.signs import SIGNS, meanings, signs_of, signs_with
from tui_gru.tui.explanations.values import about
from tui_gru.tui.widgets.refs import Ref

#: What is explained, and the sentence.
HelpText = tuple[str, str]
#: Replaces verbs in angle brackets by the keys bound to them.
Keys = Callable[[str], str]
#: The words by which panels are known on the screen and in commands, where they are not the name of the class.
WORDS = {
    "training loop": "Listing", "program": "Listing", "the current line": "CurrentLine", "gates": "Gates", "values": "Gates",
    "ŷ": "Softmax", "loss": "LossTerms", "loss, term by term": "LossTerms", "weights": "Overview", "gradients": "Overview",
    "origin": "OriginPanel", "derivation": "OriginPanel", "stops": "StopsList", "marks": "StopsList", "branches": "BranchList",
    "apart": "BranchesApart", "check": "CheckReport", "what if": "WhatIfPanel", "what-if": "WhatIfPanel",
    "findings": "FindingsList", "arrays": "ArrayList", "units": "UnitsMap", "influence": "InfluenceMap", "losses": "LossPlaces",
}  # fmt: skip


def rows_here(snapshot: Snapshot, focused: object, ref: Ref | None, keys: Keys) -> Iterator[HelpText]:
    """Yield the explanations of what has the focus: the number `ref`, the panel, the current line, the signs of the panel."""
    if ref is not None and ref.name in snapshot.program.names:
        yield _number(snapshot, ref), _sentence(_value(snapshot.program, ref))
    words = about_panel(focused)
    if words:
        yield "this panel", keys(words)
    if snapshot.line is not None:
        yield snapshot.line.text, _sentence(about_line(snapshot.program, snapshot.line))
    for sign in signs_of(focused):
        yield sign.sign.strip(), _sentence(keys(sign.meaning))


def every_row(program: Program, keys: Keys) -> Iterator[HelpText]:
    """Yield the explanations of all values, panels and signs."""
    for name in program.names:
        yield program.writer.name(name), _sentence(about(program, name))
    words = {kind: word for word, kind in reversed(WORDS.items())}  # the first word of each panel
    for kind, sentence in explanations().items():
        yield words.get(kind, re.sub(r"(?<!^)(?=[A-Z])", " ", kind).lower()), keys(sentence)
    for _, signs in SIGNS:
        yield from ((sign.sign.strip(), _sentence(keys(sign.meaning))) for sign in signs)


def about_line(program: Program, line: ProgramLine) -> str:
    """Explain a line of the listing by its comment in the file of the model, otherwise by the value that it computes."""
    if line.note or line.target not in program.names:
        return line.note
    return about(program, line.target)


def explain(program: Program, words: str, keys: Keys) -> str:
    """Explain a typed name of the model, sign or panel, or the sign whose explanation has the word; else return the empty text."""
    name = program.code_name(words.strip())
    if name in program.names:
        return f"{program.writer.name(name)}: {about(program, name)}"
    if found := meanings(words.strip()):
        return f"{words.strip()}: {keys('; or '.join(found))}"
    panel = WORDS.get(words.strip().lower(), words.replace(" ", "")).lower()
    known = (keys(sentence) for name, sentence in explanations().items() if name.lower() == panel)
    return next(known, "") or keys(next(iter(signs_with(words.strip())), ""))


def _value(program: Program, ref: Ref) -> str:
    if ref.change:
        return f"the change of {program.writer.name(ref.name)}"
    return about(program, ref.name)


def _number(snapshot: Snapshot, ref: Ref) -> str:
    """Return `z[row 1, unit 2] = 0.93014`, without the number if it is not computed yet."""
    named = spoken(snapshot.program, ref.name, ref.index)
    value: Any = snapshot.last_step(ref.name) if ref.change else snapshot.value(ref.name, ref.t)
    if value is None:
        return named
    change = "the last change of " if ref.change else ""
    return f"{change}{named} = {exact(np.asarray(value)[ref.index] if ref.index else value).removeprefix('+')}"


def _sentence(words: str) -> str:
    """Add a full stop, and a capital letter unless the words begin with a name of the model."""
    first = words.split(" ")[0]
    begun = f"{words[:1].upper()}{words[1:]}" if len(first) > 3 or first in ("a", "an", "the", "how", "what") else words
    return f"{begun}{'' if begun.endswith('.') else '.'}" if words else ""


def about_panel(panel: object) -> str:
    """Return the explanation of a panel; empty if it has none."""
    return str(getattr(panel, "ABOUT", ""))


@cache
def explanations() -> dict[str, str]:
    """Return the explanation of every class of a panel by its name."""
    found = {}
    for info in walk_packages(panels.__path__, f"{panels.__name__}."):
        for kind in vars(import_module(info.name)).values():
            if isclass(kind) and kind.__module__ == info.name and "ABOUT" in vars(kind):
                found[kind.__name__] = about_panel(kind)
    return found
