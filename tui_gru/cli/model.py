"""The options that choose the text and the model. Every command that runs a model has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tui_gru.cli.completion import Candidates, cells_and_files, rules
from tui_gru.cli.failures import given_as, option_name
from tui_gru.cli.options import Command, added
from tui_gru.engine.config import (
    CARRIES,
    DTYPES,
    INITS,
    LAYOUTS,
    OPTIMIZERS,
    OWN_TEXT,
    RESETS,
    TUTORIAL_TEXT,
    TUTORIAL_VOCABULARY,
    Config,
)
from tui_gru.engine.errors import TuiGruError

LONGEST_FILE = 2**28  # bytes; the batches of a text take about twenty times as much memory
_GIVEN = "tui_gru.model"


def whole_number(value: str | int) -> int:
    """Convert to an integer below 2^64; a click type. The engine checks the range."""
    try:
        number = int(value)
    except ValueError:
        raise click.BadParameter(f"{shortened(value)} is not a whole number") from None
    if abs(number) >= 2**64:
        raise click.BadParameter(f"{shortened(value)} is too large a number")
    return number


def number(value: str | float) -> float:
    """Convert to a floating-point number; a click type. The engine refuses NaN and infinities."""
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f"{shortened(value)} is not a number") from None


def shortened(value: object) -> str:
    """Return a value as a message quotes it, shortened."""
    text = str(value)
    return repr(text if len(text) <= 40 else text[:39] + "…")


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        _given(context)[str(parameter.name)] = value


def _given(context: click.Context) -> dict[str, Any]:
    # The group and its subcommand share `meta`, so an option can be given before and after the subcommand. The last one counts.
    given: dict[str, Any] = context.meta.setdefault(_GIVEN, {})
    return given


def _remember_flag(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        _remember(context, parameter, value)


def _by_text(option: str) -> str:
    """Return the description of a default that depends on the text."""
    return f"{getattr(Config, option)} for the tutorial's text, {OWN_TEXT[option]} for any other"


def _option(
    name: str, kind: Any, description: str, metavar: str | None = None, complete: Candidates | None = None
) -> Callable[[Command], Command]:
    return click.option(
        name, type=kind, help=description, metavar=metavar, callback=_remember, expose_value=False, shell_complete=complete
    )


#: The options of the model; `chosen_config` reads them.
model_options = added(
    _option("--text", str, f"The text to learn; default {TUTORIAL_TEXT}."),
    _option("--file", click.Path(), "Read the text from a UTF-8 file instead.", "PATH"),
    _option(
        "--vocabulary",
        str,
        f"The characters of the text in index order; default: sorted; for the tutorial's text {TUTORIAL_VOCABULARY}.",
        "CHARS",
    ),
    _option("--hidden-size", whole_number, f"Hidden units; default {Config.hidden_size}.", "N"),
    _option("--batch-size", whole_number, f"Rows in a batch; default {Config.batch_size}.", "N"),
    _option("--seq-length", whole_number, f"Timesteps in a batch; default {Config.seq_length}.", "N"),
    _option("--seed", whole_number, f"Seed of the initial weights; default {Config.seed}.", "N"),
    _option("--learning-rate", number, f"Learning rate; default {Config.learning_rate}.", "X"),
    _option(
        "--carry",
        click.Choice(CARRIES),
        f"State between batches; default {Config.carry}. The time of notebook grows with the square of the batches.",
    ),
    _option("--dtype", click.Choice(DTYPES), f"Precision; default {Config.dtype}."),
    _option("--reset", click.Choice(RESETS), f"Reset gate before or after the product with Uh; default {Config.reset}."),
    _option(
        "--cell",
        str,
        f"A built-in cell (`tui-gru cells` lists them), or your own .cell file; default {Config.cell}.",
        "NAME|FILE",
        cells_and_files,
    ),
    _option("--layers", whole_number, f"Number of layers; default {Config.layers}.", "N"),
    click.option(
        "--bidirectional", is_flag=True, help="Read in both directions in every layer.", callback=_remember_flag, expose_value=False
    ),
    _option("--embedding", whole_number, "Size of a character embedding; default 0, one-hot characters.", "D"),
    _option(
        "--optimizer",
        str,
        f"Update rule: {', '.join(OPTIMIZERS)}, or your own .update file; default {_by_text('optimizer')}.",
        "NAME|FILE",
        rules,
    ),
    _option("--clip", number, f"Largest norm of the gradient, 0 for no limit; default {_by_text('clip')}.", "NORM"),
    _option("--init", click.Choice(INITS), f"Initial weights as the tutorial or as torch draws them; default {_by_text('init')}."),
    _option(
        "--layout",
        click.Choice(LAYOUTS),
        f"Rows of a batch cut as in the tutorial, or each continuing where it ended; default {_by_text('layout')}.",
    ),
)


def given_model() -> dict[str, Any]:
    """Return the options of the model on this command line; `file` is replaced by the text in it. Raises `TuiGruError`."""
    options = _given_options()
    if "file" in options:
        options["file"] = read_text_file(Path(options["file"]))
    return options


def chosen_config() -> Config:
    """Return the config from the options of this command line. Raises `TuiGruError`."""
    options = _given_options()
    # The error about a too short text names an option that the user gave; the tutorial's text was not given.
    blamed = next((field for field in ("file", "text", "batch_size", "seq_length") if field in options), "text")
    with given_as(blamed, field="text"):
        if "file" in options:
            options["text"] = read_text_file(Path(options.pop("file")))
        return Config.of(**options)


def model_arguments() -> list[str]:
    """Return the options of the model on this command line as arguments for another one."""
    return [option_name(field) if value is True else f"{option_name(field)}={value}" for field, value in _given_options().items()]


def for_a_file(*allowed: str) -> dict[str, Any]:
    """Return the options of the model that also apply to a model file. Raises `TuiGruError` if others are given."""
    given = _given(click.get_current_context())
    if other := next((name for name in given if name not in allowed), None):
        raise TuiGruError("it cannot be used with --model, whose file defines the model; remove it", option=other)
    return dict(given)


def _given_options() -> dict[str, Any]:
    options = dict(_given(click.get_current_context()))
    if "text" in options and "file" in options:
        raise TuiGruError("--text and --file are both given; keep one of them")
    for field in ("text", "vocabulary"):
        _check_decoded(field, options.get(field, ""))
    return options


def _check_decoded(field: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise TuiGruError(
            f"the bytes at character {error.start + 1} are not valid in this locale's encoding", option=field
        ) from None


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
