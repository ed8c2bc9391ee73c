"""What commands share: options, the form of an error, the output file, and the opening of the screen."""

from __future__ import annotations

import codecs
import errno
import gc
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, TypeVar

import click

from tui_gru.cli.completion import session_completions, themes
from tui_gru.disk import saving
from tui_gru.errors import TuiGruError, cut_long_words, safe_text

if TYPE_CHECKING:
    from tui_gru.session.session import Session

# ------------------------------------------------------------------------------
# The output of a command: standard output, or a file that is replaced only when the new content is complete.


STANDARD_OUTPUT = "-"
#: Exit codes: done, an error of the program, bad usage or bad input (with one line), stopped by ctrl+c.
DONE, INTERNAL_ERROR, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


@contextmanager
def open_output(target: str, *, option: str | None = None) -> Iterator[BinaryIO]:
    """Open a binary stream to `target`. Raises a `TuiGruError` about `option` if it cannot be written."""
    try:
        with _standard_output() if target == STANDARD_OUTPUT else saving(Path(target)) as out:
            yield out
    except BrokenPipeError:
        raise
    except OSError as error:
        if target == STANDARD_OUTPUT:
            if os.name == "nt" and error.errno == errno.EINVAL:  # how Windows reports a pipe that its reader has closed
                raise BrokenPipeError from None
            abandon(sys.stdout)
        where = "standard output" if target == STANDARD_OUTPUT else target or "to an empty name"
        raise TuiGruError(f"cannot write {where}: {error.strerror}; write somewhere else", option=option) from None


def print_lines(lines: Iterable[str]) -> None:
    """Print lines, with escapes for what is not printable, and for what the terminal has no characters for."""
    with open_output(STANDARD_OUTPUT) as out:
        for line in lines:
            out.write(f"{safe_text(line)}\n".encode(sys.stdout.encoding, "backslashreplace"))


def abandon(stream: TextIO | None) -> None:
    """Discard the buffered output of a stream, so that the interpreter reports no error for it at exit."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    if sys.stdout is None:  # the shell closed it with >&-
        raise OSError(errno.EBADF, "it is closed")
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


LONGEST_FILE = 2**28  # bytes; the batches of a text take about twenty times as much memory

#: The program, which `commands` puts here: errors name its options.
PROGRAM: list[click.Group] = []


# ------------------------------------------------------------------------------
# Options that several commands share: the output file, a held-out text, and the appearance of the screen.


Command = TypeVar("Command", bound=Callable[..., Any])


def added(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that adds options to a command, in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


theme_option = click.option(
    "--theme", metavar="NAME", help="Colours; `:set theme` and tab in the debugger list the themes.", shell_complete=themes
)
learn_option = click.option(
    "--learn/--no-learn",
    default=None,
    help="End each batch with backward and update; default no for the tutorial's text, yes for any other.",
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


def session_option(words: str) -> Callable[[Command], Command]:
    """Return the option for the session of a command, by name or path."""
    return click.option("--session", metavar="NAME|PATH", help=words, shell_complete=session_completions)


def output_option(words: str) -> Callable[[Command], Command]:
    """Return the option for the output file of a command."""
    return click.option("-o", "--output", type=click.Path(allow_dash=True), default=STANDARD_OUTPUT, metavar="FILE", help=words)


# ------------------------------------------------------------------------------
# Formatting of errors as one line that names the option as the user types it.


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

    parameters = [parameter for command in (PROGRAM[0], *PROGRAM[0].commands.values()) for parameter in command.params]
    names = "|".join(sorted({parameter.name for parameter in parameters if parameter.name and "_" in parameter.name}))
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


# ------------------------------------------------------------------------------
# The terminal, and the opening of the screen in it. Textual is imported only when a screen is needed.


#: The longest time, in ms, between an escape and the rest of a key's sequence. Every press of `esc` is delayed by it. Textual's
#: default of 100 is meant for slower connections than today's.
ESCAPE_DELAY = 20

INSTEAD = "use `tui-gru trace` for the numbers or `tui-gru screenshot OUT.svg` for a picture"
# In the C locale, Python itself sets LC_CTYPE to one of these (PEP 538), so they tell nothing about the terminal.
_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")


def require_terminal() -> None:
    """Raise `TuiGruError` if Textual cannot run here. A driver named by TEXTUAL_DRIVER needs no terminal."""
    if "TEXTUAL_DRIVER" in os.environ and sys.stdin is not None and sys.stdout is not None:
        return
    for stream, name in ((sys.stdin, "input"), (sys.stdout, "output")):
        if stream is None or not stream.isatty():
            raise TuiGruError(f"standard {name} is not a terminal: open the debugger in one, or {INSTEAD}")
    kind = os.environ.get("TERM", "")
    if os.name == "posix" and kind in ("", "dumb", "unknown"):
        was = f"is {kind!r}" if kind else "is not set"
        raise TuiGruError(f"TERM {was}, so nothing can be drawn: set it (TERM=xterm-256color), or {INSTEAD}")


def speaks_utf8(environ: Mapping[str, str], encoding: str | None) -> bool:
    """Return True if the terminal can show UTF-8, according to the locale variables and the encoding of the stream."""
    try:
        if codecs.lookup(encoding or "utf-8").name != "utf-8":
            return False
    except LookupError:
        return False
    if os.name != "posix":
        return True
    names = ("LC_ALL", "LANG") if environ.get("LC_CTYPE") in _COERCED else ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next((value for name in names if (value := environ.get(name))), "UTF-8")
    return locale.upper().replace("-", "").partition("@")[0].endswith("UTF8")


def open_debugger(
    make: Callable[[], Session],
    *,
    theme: str | None = None,
    ascii_only: bool | None = None,
    keymap: Path | None = None,
    command: str = "",
) -> None:
    """Run the debugger in this terminal on the session that `make` creates, until the user quits; first execute `command`.

    Where `theme` or `ascii_only` is None, the user's file decides, and then the locale. Raises `TuiGruError` if the debugger cannot
    run here.
    """
    require_terminal()
    gc.disable()  # until the first screen is shown (TuiGruApp.on_ready), since objects created before stay alive
    os.environ.setdefault("ESCDELAY", str(ESCAPE_DELAY))  # Textual reads it when it is imported
    from tui_gru.tui.app import own_display, run

    own_theme, own_ascii, problem = own_display()
    if ascii_only is None:
        ascii_only = not speaks_utf8(os.environ, sys.stdout.encoding) if own_ascii is None else own_ascii
    session = make()
    if problem:
        session.add_notice(problem, warning=True)
    run(session, theme=own_theme if theme is None else theme, ascii=ascii_only, keys=keymap, command=command)


def quoted_value(value: object) -> str:
    """Return a value as a message quotes it, shortened."""
    text = str(value)
    return repr(text if len(text) <= 40 else text[:39] + "…")


def read_held_out(path: Path) -> str:
    """Return the held-out text of a file. Raises `TuiGruError` if it cannot be read or is empty."""
    text = read_text_file(path, option="held_out")
    if not text:
        raise TuiGruError(f"{path} is empty; name a file with a text that is not trained on", option="held_out")
    return text


def read_text_file(path: Path, option: str = "file") -> str:
    """Return the text of a UTF-8 file. Raises a `TuiGruError` about `option` if it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST_FILE + 1)
    except FileNotFoundError:
        raise TuiGruError(f"there is no file {path}; check the path", option=option) from None
    except IsADirectoryError:
        raise TuiGruError(f"{path} is a directory; name a text file in it", option=option) from None
    except OSError as error:
        raise TuiGruError(f"cannot read {path}: {error.strerror}; choose another file", option=option) from None
    if len(data) > LONGEST_FILE:
        raise TuiGruError(f"{path} is longer than {LONGEST_FILE >> 20} MiB; use a part of it", option=option)
    try:
        return data.decode().removeprefix("\ufeff")  # remove a byte order mark
    except UnicodeDecodeError as error:
        raise TuiGruError(
            f"{path} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}; convert it, for example with iconv",
            option=option,
        ) from None
