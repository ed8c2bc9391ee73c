"""Formatting of errors as one line that names the option as the user types it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import click

from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.safe_text import cut_long_words

_LONGEST = 250  # characters of an argument that a message quotes


def line_of(error: TuiGruError | click.ClickException, arguments: Iterable[str] = ()) -> str:
    """Return the error as one line of text, which quotes long `arguments` of the command line and long words shortened."""
    text = _of_engine(error) if isinstance(error, TuiGruError) else _of_click(error)
    for argument in arguments:
        for value in (argument, *argument.partition("=")):
            for written in (value, repr(value)[1:-1]) if len(value) > _LONGEST else ():
                text = text.replace(written, f"{written[:_LONGEST]}…")
    return cut_long_words(" ".join(text.split()))


@contextmanager
def given_as(option: str, field: str) -> Iterator[None]:
    """Turn errors about the config field `field`, raised in this block, into errors about `option`, which set the field."""
    try:
        yield
    except TuiGruError as error:
        if error.option != field:
            raise
        raise TuiGruError(str(error), option=option) from None


def _of_engine(error: TuiGruError) -> str:
    message = _fields().sub(lambda field: option_name(field[0]), str(error))
    if error.option is None:
        return message
    option = option_name(error.option)
    if message.startswith(f"{error.option} "):  # "seed must be" becomes "--seed must be"
        return option + message.removeprefix(error.option)
    return message if message.startswith(f"{option} ") else f"{option}: {message}"


@cache
def _fields() -> re.Pattern[str]:
    """Return a pattern for the names of fields that are options, outside of quotes and file names."""
    from tui_gru.cli.commands import program  # imported late because it imports this module

    parameters = [each for command in (program, *program.commands.values()) for each in command.params]
    names = "|".join(sorted({each.name for each in parameters if each.name and "_" in each.name}))
    return re.compile(rf"""(?<!['"\w./-])(?:{names})(?!['"\w/-]|\.\w)""")


def option_name(field: str) -> str:
    """Return the option that sets a field, as the user types it."""
    return f"-{field}" if len(field) == 1 else "--" + field.replace("_", "-")


def _of_click(error: click.ClickException) -> str:
    message = error.format_message()
    if isinstance(error, click.BadParameter) and error.param and not isinstance(error, click.MissingParameter):
        name = error.param.opts[0] if isinstance(error.param, click.Option) else error.param.human_readable_name
        return f"{name}: {error.message.rstrip('.')}"
    if isinstance(error, click.UsageError) and error.ctx:
        see = f"see {error.ctx.command_path} --help"
        return f"{message} ({see})" if message.endswith("?") else f"{message.rstrip('.')}; {see}"
    return message
