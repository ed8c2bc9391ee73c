"""Checks the facts read from a session file: fields, types and ranges. All data from a file passes through these checks.

Each check returns its argument, or raises a `ValueError` that says what is wrong. References between facts are checked by
`state_reader`, which has all facts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tui_gru.debugger.program.steps import LEVELS
from tui_gru.debugger.storage.contents.given import LONGEST_PLACE
from tui_gru.debugger.storage.contents.state_writer import LATEST
from tui_gru.debugger.storage.encoding import from_json
from tui_gru.debugger.storage.session_errors import damaged
from tui_gru.debugger.storage.session_file import SessionFile
from tui_gru.debugger.timeline.branches import LONGEST_NAME
from tui_gru.engine.config import SAMPLERS, Config

FieldCheck = Callable[[Any], Any]

MOST = 2**53  # the largest tick, batch or number of bytes
NAME = LONGEST_NAME + 20  # characters; the name of a fork is longer by a number
MACHINE, HASH = 200, 32  # characters


def read(file: SessionFile, key: str, check: FieldCheck) -> Any:
    """Read and check the fact under `key`. Raises `DamagedSessionError` if it is missing or invalid."""
    text = file.fact(key)
    try:
        return check(from_json(text))
    except ValueError as error:
        raise damaged(file.path, f"{key}, which {error}") from None


def whole(least: int = 0, most: int | None = MOST) -> FieldCheck:
    """Return a check for an integer in a range; `most` None: no upper limit."""

    def check(value: Any) -> Any:
        if type(value) is not int or value < least or (most is not None and value > most):
            raise ValueError(f"is not a whole number from {least}{'' if most is None else f' to {most}'}")
        return value

    return check


def number(least: float = -math.inf, below: float = math.inf) -> FieldCheck:
    """Return a check for a finite number in a range; an integer stays an integer."""

    def check(value: Any) -> Any:
        if type(value) not in (int, float) or not math.isfinite(value) or not least <= value < below:
            raise ValueError("is not a number in its range")
        return value

    return check


def of_type(kind: type, otherwise: str) -> FieldCheck:
    """Return a check for a value of exactly this type; `otherwise` is the error message."""

    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(otherwise)
        return value

    return check


flag = of_type(bool, "is neither true nor false")
text = of_type(str, "is not a text")
mapping = of_type(dict, "is not an object")  # checked further by the modules that wrote them


def tokens(value: Any) -> Any:
    """Check a text, or a list of tokens that may be longer than a character."""
    return text(value) if type(value) is not list else listed(text)(value)


def line(longest: int) -> FieldCheck:
    """Return a check for a text on one line without control characters."""

    def check(value: Any) -> Any:
        if type(value) is not str or not 0 < len(value) <= longest or not value.isprintable():
            raise ValueError(f"is not a printable text of 1 to {longest} characters")
        return value

    return check


def name(value: Any) -> Any:
    """Check the name of a branch."""
    if line(NAME)(value).split() != [value]:
        raise ValueError("is not one word")
    return value


def one_of(*choices: str) -> FieldCheck:
    def check(value: Any) -> Any:
        if value not in choices or type(value) is not str:
            raise ValueError(f"is not one of {', '.join(map(repr, choices))}")
        return value

    return check


def optional(check: FieldCheck) -> FieldCheck:
    """Return a check that accepts null as well."""
    return lambda value: None if value is None else check(value)


def listed(check: FieldCheck) -> FieldCheck:
    """Return a check for a list whose items pass `check`."""

    def each(value: Any) -> Any:
        if type(value) is not list:
            raise ValueError("is not a list")
        return [check(item) for item in value]

    return each


def by_name(check: FieldCheck) -> FieldCheck:
    """Return a check for an object whose values pass `check`."""
    return lambda value: {name: check(item) for name, item in mapping(value).items()}


def row(*checks: FieldCheck) -> FieldCheck:
    """Return a check for a list with one item for each of `checks`."""

    def each(value: Any) -> Any:
        if type(value) is not list or len(value) != len(checks):
            raise ValueError(f"is not a list of {len(checks)}")
        return [check(item) for check, item in zip(checks, value, strict=True)]

    return each


def fields(needed: Mapping[str, FieldCheck], more: Mapping[str, FieldCheck] | None = None) -> FieldCheck:
    """Return a check for an object with the fields `needed` and, optionally, those in `more`; no others."""
    known = {**needed, **(more or {})}

    def check(value: Any) -> Any:
        if type(value) is not dict or not needed.keys() <= value.keys() <= known.keys():
            raise ValueError(f"does not have the fields {', '.join(needed)}")
        for field, item in value.items():
            try:
                known[field](item)
            except ValueError as error:
                raise ValueError(f"{field} {error}") from None
        return value

    return check


def action(value: Any) -> Any:
    """Check the journal entry of a segment: a kind, and the arguments of that kind."""
    fields({"kind": one_of(*ACTIONS), "args": mapping})(value)
    fields(ACTIONS[value["kind"]])(value["args"])
    return value


def edited(value: Any) -> Any:
    """Check the value of an edit: a number, or a character of the text."""
    return number()(value) if type(value) is not str else text(value)


SIZE = whole(1)
RATE = number(0)
CONFIG: dict[str, FieldCheck] = {
    "text": tokens, "vocabulary": tokens, "hidden_size": SIZE, "batch_size": SIZE, "seq_length": SIZE, "seed": whole(0, 2**63 - 1),
    "learning_rate": RATE, "carry": text, "dtype": text, "reset": text, "cell": text, "cell_text": text, "layers": SIZE,
    "bidirectional": flag, "embedding": whole(), "optimizer": text, "optimizer_text": text, "clip": number(0), "init": text,
    "layout": text,
}  # fmt: skip
assert CONFIG.keys() == Config.__dataclass_fields__.keys()

RUN = fields(
    {
        "config": fields({}, CONFIG),
        "epochs": optional(SIZE),
        "machine": line(MACHINE),
        "history_memory": whole(),
        "first_batch": line(HASH),
    },
    {
        "given": mapping,
        "recording": fields({"folder": text, "name": text, "steps": listed(row(whole(), line(HASH)))}),
        "machines": listed(row(line(MACHINE), line(HASH))),
        "ticks": SIZE,
    },
)
STEPS = fields(
    {"level": one_of("", *LEVELS), "origin": whole(), "net": whole(-MOST), "at": whole(), "cut": flag},
    {"begun": whole(), "last": whole(-MOST)},
)
HERE = fields(
    {
        "tick": whole(), "branch": name, "stride": STEPS, "stop_on_nan": flag, "done": whole(), "undone": whole(),
        "newest": whole(), "counted": optional(whole()), "written": whole(0, LATEST),
    },
    {"place": line(LONGEST_PLACE)},
)  # fmt: skip
BRANCH = row(whole(), whole())  # the number of the last segment, and the newest tick
BRANCHES = listed(row(name, whole(), whole()))
CHANGE = fields({"source": name, "target": name, "tick": whole(), "other": optional(BRANCH), "left": whole()})
ACTIONS: dict[str, dict[str, FieldCheck]] = {
    "begin": {},
    "learning": {"value": flag},
    "learning_rate": {"value": RATE},
    "sgd": {},
    "edit": {"name": line(NAME), "index": listed(whole(-MOST)), "value": edited},
}
SEGMENT = fields(
    {
        "before": optional(whole()), "start": whole(), "action": action, "learning": flag, "learning_rate": RATE,
        "once": optional(whole()),
    },
    {"rule": mapping},
)  # fmt: skip
HISTORY = fields({"length": SIZE, "checkpoints": whole()}, {"machines": listed(row(whole(), whole()))})
SAMPLES = listed(
    fields(
        {
            "at": whole(), "primer": tokens, "sampler": one_of(*SAMPLERS), "temperature": number(0), "seed": whole(most=None),
            "chars": tokens, "uniforms": listed(optional(number(0, below=1))),
        },
        {"tick": whole()},
    )
)  # fmt: skip
COUNTS = fields({"keys": listed(listed(text)), "doubtful": listed(listed(whole()))})
KEPT = mapping
STOPS = fields(
    {
        "breakpoints": listed(fields({"id": SIZE, "line": text, "condition": text, "hits": text, "log": text, "enabled": flag})),
        "watches": listed(fields({"id": SIZE, "expression": text, "stops": flag, "enabled": flag})),
        "last_id": whole(),
    }
)
MARKS = listed(fields({"letter": text, "branch": text, "tick": whole()}, {"text": text}))  # older files have no texts
LEFT = optional(row(text, whole()))
HITS, LOG = by_name(listed(whole())), by_name(listed(row(whole(), whole(), text)))
