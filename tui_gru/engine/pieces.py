"""The pieces of a model as files of equations: the kinds of pieces, the built-in ones, and those of the user."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

from tui_gru import errors as arguments
from tui_gru.equations.page import LONGEST, Page, read_page
from tui_gru.equations.syntax import did_you_mean
from tui_gru.errors import TuiGruError

FOLDER = Path(__file__).parent.parent / "models"


@dataclass(frozen=True)
class PieceKind:
    """A kind of piece. `folder` has the files of the built-in ones; `option` is the option of a run that names one of them or a
    user's file, which ends in a dot and the name of the kind; empty if other options imply the piece. `names` are those that the
    option takes if not every file of the folder is a piece of its own, and `wanted` says what the option takes."""

    folder: str
    option: str = ""
    wanted: str = ""
    names: tuple[str, ...] = ()


KINDS = {
    "cell": PieceKind("cells", "cell", "the name of a cell or of a .cell file"),
    "head": PieceKind("heads", "head", "the name of a head or of a .head file"),
    "loss": PieceKind("losses", "loss", "the name of a loss or of a .loss file"),
    "update": PieceKind(  # clip.update is a part of each of these
        "updates", "optimizer", "sgd, momentum, adam or the name of an .update file", ("sgd", "momentum", "adam")
    ),
    "input": PieceKind("inputs"),
}


def choices(kind: str) -> tuple[str, ...]:
    """Return the names of the built-in pieces of one kind that an option takes."""
    return KINDS[kind].names or names_of(kind)


def checked_piece(kind: str, options: Mapping[str, Any], default: str) -> dict[str, str]:
    """Return the option that names a piece and the option with its text, which is empty for a built-in piece; the file of a user
    is read if its text is not among the options. Raises a `TuiGruError` about the option."""
    row = KINDS[kind]
    name, text = options.get(row.option, default), options.get(f"{row.option}_text", "")
    is_name = isinstance(name, str) and name != ""
    if is_name and name.endswith(f".{kind}") and not text:
        name, text = PurePath(name).name, read_file(name, row.option)
    if not is_name or not isinstance(text, str) or (row.names and not text and name not in row.names):
        raise TuiGruError(f"{row.option} must be {row.wanted}, not {arguments.shown(name)}", option=row.option)
    if not name.isprintable():
        words = f"the name {arguments.shown(name)} has characters that cannot be shown; rename the {row.option}"
        raise TuiGruError(words, option=row.option)
    return {row.option: name, f"{row.option}_text": text}


@lru_cache(maxsize=32)
def shipped(kind: str, name: str) -> Page:
    """Return the page of a built-in piece. Raises `TuiGruError` for an unknown name."""
    return read_page(text_of(kind, name), f"{name}.{kind}")


def text_of(kind: str, name: str) -> str:
    """Return the text of a built-in piece. Raises `TuiGruError` for an unknown name."""
    if not name or name not in names_of(kind):
        raise TuiGruError(f"there is no {kind} {name!r}; {did_you_mean(name, names_of(kind))}", option=KINDS[kind].option or kind)
    return (FOLDER / KINDS[kind].folder / f"{name}.{kind}").read_text(encoding="utf-8")


def names_of(kind: str) -> tuple[str, ...]:
    """Return the names of the built-in pieces of one kind, sorted."""
    ending = f".{kind}"
    return tuple(sorted(file.removesuffix(ending) for file in os.listdir(FOLDER / KINDS[kind].folder) if file.endswith(ending)))


@lru_cache(maxsize=1)
def symbols() -> dict[str, str]:
    """Return the symbols that the built-in pieces declare, with the names they stand for: ① → term1."""
    pages = (shipped(kind, name) for kind in KINDS for name in names_of(kind))
    return {text: name for page in pages for name, (text, _) in page.symbols.items()}


def read_file(path: str | Path, option: str) -> str:
    """Return the text of an equation file. Raises `TuiGruError` if it cannot be read."""
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except OSError as error:
        raise TuiGruError(f"{path}: {error.strerror or error}; check the name", option=option) from None
    except UnicodeDecodeError:
        raise TuiGruError(f"{path}: not a text file in UTF-8", option=option) from None
    except ValueError as error:  # a null byte in the name
        raise TuiGruError(f"{path}: {error}; check the name", option=option) from None
    if not text:
        raise TuiGruError(f"{path}: it is empty; write equations in it", option=option)
    if len(text) > LONGEST:
        raise TuiGruError(f"{path}: an equation file has at most {LONGEST:,} characters", option=option)
    return text
