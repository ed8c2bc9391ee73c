"""Errors for models, modules and recordings that cannot be read. Each message is one line that says what is wrong, where, and what
to do."""

from __future__ import annotations

from tui_gru.engine.errors import TuiGruError


class ModelFileError(TuiGruError):
    """A model file, or a GRU in it, cannot be read."""


class CaptureError(TuiGruError):
    """A module of a script cannot be captured, or its recording cannot be written."""


class RecordingError(TuiGruError):
    """A recording, or a part of one, cannot be read."""


def printable(text: object, limit: int = 120) -> str:
    """Return a text from a file for a message or a name, with escapes such as `\\x1b` for characters that move the cursor or hide
    text."""
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text)[: limit + 1])
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"
