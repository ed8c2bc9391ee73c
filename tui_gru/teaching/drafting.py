"""Lessons to begin with: an example of each kind of card, and a draft made from the marks of a session."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from tui_gru.debugger.position import position_of
from tui_gru.debugger.state import Mark
from tui_gru.engine.config import OWN_TEXT, TUTORIAL_TEXT, Config
from tui_gru.engine.source import Imported
from tui_gru.errors import TuiGruError, safe_text
from tui_gru.session.session import Session
from tui_gru.teaching.lesson import SHIPPED, SUFFIX

# ------------------------------------------------------------------------------
# The example that an author copies.


def template_text() -> str:
    """Return the text of an example lesson, with a card of each kind."""
    return (SHIPPED / "template" / f"mine{SUFFIX}").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------
# The draft from marks.


LONGEST_TYPED = 200  # characters of a text that is written into the lesson; a longer one gets a file


class Draft(NamedTuple):
    """The text of a lesson, and the texts of the files that its models read, by name."""

    text: str
    files: dict[str, str]


def lesson_draft(session: Session, title: str) -> Draft:
    """Return a lesson whose cards are the marks of a session, in the order of time. Raises `TuiGruError` if it has none."""
    if isinstance(session.config.source, Imported) or not isinstance(session.config.text, str):
        raise TuiGruError("a lesson trains a model on a text; this session is of a recording, a model file, or of other data")
    marks = sorted((mark for mark in session.state.marks.sorted if mark.branch == session.branch), key=lambda mark: mark.tick)
    if not marks:
        raise TuiGruError("the session has no marks on this branch; set some with :mark a TEXT, each of which becomes a card")
    options, files = _model_options(session, title)
    learns = any(_learned(session, mark) for mark in marks)
    model = f"model: {options}{' --learn' * learns}".rstrip()
    head = f"# {safe_text(title)}\n\n```lesson\nfor: everybody\nminutes: {max(2, len(marks))}\n{model}\n```\n"
    return Draft(head + "".join(_card(session, mark) for mark in marks), files)


def _learned(session: Session, mark: Mark) -> bool:
    copy = Session(state=session.state)
    copy.seek(mark.tick)
    return copy.snapshot().moment.learned


def _model_options(session: Session, title: str) -> tuple[str, dict[str, str]]:
    """Return the options that differ from the defaults, as they are typed, and the files that they name."""
    config, files, words = session.config, dict[str, str](), list[str]()
    text = config.text
    assert isinstance(text, str)
    if text != TUTORIAL_TEXT:
        if len(text) <= LONGEST_TYPED and text.isprintable():
            words += ["--text", shlex.quote(text)]
        else:
            name = f"{_file_name(title)}.txt"
            files[name] = text
            words += ["--file", name]
    by_text = () if text == TUTORIAL_TEXT else (*OWN_TEXT, "hidden_size", "batch_size", "seq_length", "learning_rate")
    for name, value in config.options.items():
        if name in ("text", "vocabulary", "reset") or name.endswith("_text"):
            continue
        if (source := getattr(config, f"{name}_text", "")) and value.endswith(f".{name}"):
            files[Path(value).name] = source
            value = Path(value).name
        elif value == getattr(Config, name) and name not in by_text:
            continue
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [] if value is False else [option, shlex.quote(str(value))]
    return " ".join(words), files


def _file_name(title: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in title.lower()).strip("-") or "text"


def _card(session: Session, mark: Mark) -> str:
    lines = mark.text.strip().split("\n")
    heading, rest = safe_text(lines[0]).strip() or f"Mark {mark.letter}", "\n".join(map(safe_text, lines[1:])).strip()
    commands = "\n".join(_way_to(session, mark.tick))
    body = f"{_literal(rest)}\n" if rest else ""
    return f"\n## {_literal(heading)}\n```do\n{commands}\n```\n{body}"


def _literal(text: str) -> str:
    """Return a text in which no braces begin an expression."""
    return text.replace("{", "(").replace("}", ")")


def _way_to(session: Session, tick: int) -> tuple[str, ...]:
    """Return the commands that lead to a tick: to a place, and from there to a line."""
    program, place = session.program, position_of(session.program, tick)
    where = f"go e{place.epoch + 1} b{place.batch + 1}"
    if place.offset in (0, program.ticks):
        return (where,) if not place.offset else (where, "n")
    if place.offset == program.end_of_timestep(place.t):
        return (f"{where} t{place.t + 1}",)
    line = program.line_at(place.offset)[0]
    ticks = [program.tick_of(line.target, step) for step in range(program.seq_length)]
    before = sorted({step for step in ticks if step is not None and step < place.offset})
    return (where, *[f"to {program.writer.name(line.target)}"] * (len(before) + 1))
