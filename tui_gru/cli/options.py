"""Options that several commands share: the output file, a held-out text, and the look of the screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tui_gru.cli.completion import themes
from tui_gru.cli.output import STANDARD_OUTPUT

Command = TypeVar("Command", bound=Callable[..., Any])


def added(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that adds options to a command, in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


theme_option = click.option(
    "--theme", metavar="NAME", help="Colours; `:theme` and tab in the debugger list the themes.", shell_complete=themes
)
held_out_option = click.option(
    "--held-out",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="PATH",
    help="A text (UTF-8) that is not trained on, to look for overfitting.",
)
screen_options = added(
    theme_option,
    click.option(
        "--ascii/--no-ascii",
        "ascii_only",
        default=None,
        help="Draw with ASCII only; default: if the locale is not UTF-8.",
    ),
    click.option(
        "--keymap", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="PATH", help="Remap keys from a file."
    ),
)


def output_option(words: str) -> Callable[[Command], Command]:
    """Return the option for the output file of a command."""
    return click.option("-o", "--output", type=click.Path(allow_dash=True), default=STANDARD_OUTPUT, metavar="FILE", help=words)
