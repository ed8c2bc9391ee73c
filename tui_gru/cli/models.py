"""What commands do with models: the options of a model, the GRUs in a file, and the module of a running script."""

from __future__ import annotations

import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tui_gru.cli.completion import MODEL_FILES, SESSION_FILE, Candidates, files, pieces
from tui_gru.cli.options import (
    Command,
    added,
    given_as,
    open_debugger,
    option_name,
    print_lines,
    quoted_value,
    read_text_file,
    require_terminal,
    screen_options,
)
from tui_gru.engine.config import CARRIES, DTYPES, INITS, LAYOUTS, OWN_TEXT, RESETS, TUTORIAL_TEXT, TUTORIAL_VOCABULARY, Config
from tui_gru.engine.numbers import counted
from tui_gru.equations.functions import GATE_NAMES, STATE_FUNCTIONS, Gate
from tui_gru.equations.page import choices
from tui_gru.errors import CaptureError, TuiGruError

if TYPE_CHECKING:
    from torch.nn import Linear, Module

    from tui_gru.capture.calls import GivenCell
    from tui_gru.capture.hooks import Optimizers
    from tui_gru.engine.source import Imported
    from tui_gru.files.arrays import FileLayers, FoundGRU
    from tui_gru.files.kinds import ResetPlace, ZMeaning
    from tui_gru.session.session import Session

# ------------------------------------------------------------------------------
# The options that choose the text and the model. Every command that runs a model has them.


_GIVEN = "tui_gru.model"


def click_integer(value: str | int) -> int:
    """Convert to an integer below 2^64; a click type. The engine checks the range."""
    try:
        number = int(value)
    except ValueError:
        raise click.BadParameter(f"{quoted_value(value)} is not a whole number") from None
    if abs(number) >= 2**64:
        raise click.BadParameter(f"{quoted_value(value)} is too large a number")
    return number


def click_float(value: str | float) -> float:
    """Convert to a floating-point number; a click type. The engine refuses NaN and infinities."""
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f"{quoted_value(value)} is not a number") from None


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        _typed_options(context)[str(parameter.name)] = value


def _typed_options(context: click.Context) -> dict[str, Any]:
    # The group and its subcommand share `meta`, so an option can be given before and after the subcommand. The last one counts.
    options: dict[str, Any] = context.meta.setdefault(_GIVEN, {})
    return options


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
    _option("--input", str, "In the place of a text: numbers (time, features), or (rows, time, features).", "X.npy", files(".npy")),
    _option(
        "--target",
        str,
        "What each timestep of --input should give: numbers (…, outputs), or classes from 0.",
        "Y.npy",
        files(".npy"),
    ),
    click.option(
        "--batch-first",
        is_flag=True,
        help="The rows of --input come before the timesteps, which they always do here, but not in a model file.",
        callback=_remember_flag,
        expose_value=False,
    ),
    _option("--hidden-size", click_integer, f"Hidden units; default {_by_text('hidden_size')}.", "N"),
    _option("--batch-size", click_integer, f"Rows in a batch; default {_by_text('batch_size')}.", "N"),
    _option("--seq-length", click_integer, f"Timesteps in a batch; default {_by_text('seq_length')}.", "N"),
    _option("--seed", click_integer, f"Seed of the initial weights; default {Config.seed}.", "N"),
    _option("--learning-rate", click_float, f"Learning rate; default {Config.learning_rate}.", "X"),
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
        pieces("cell"),
    ),
    _option(
        "--head",
        str,
        f"What turns the last layer's output into predictions, or your own .head file; default {Config.head}.",
        "NAME|FILE",
        pieces("head"),
    ),
    _option(
        "--loss",
        str,
        f"What is minimised: {' or '.join(choices('loss'))}, or your own .loss file; default: the one that fits the target.",
        "NAME|FILE",
        pieces("loss"),
    ),
    _option("--layers", click_integer, f"Number of layers; default {Config.layers}.", "N"),
    click.option(
        "--bidirectional", is_flag=True, help="Read in both directions in every layer.", callback=_remember_flag, expose_value=False
    ),
    _option("--embedding", click_integer, "Size of a character embedding; default 0, one-hot characters.", "D"),
    _option(
        "--optimizer",
        str,
        f"Update rule: {', '.join(choices('update'))}, or your own .update file; default {_by_text('optimizer')}.",
        "NAME|FILE",
        pieces("update"),
    ),
    _option("--clip", click_float, f"Largest norm of the gradient, 0 for no limit; default {_by_text('clip')}.", "NORM"),
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
    if "input" in options or "target" in options:
        from tui_gru.engine.data import config_from

        return config_from(options)
    # The error about a too short text names an option that the user gave; the tutorial's text was not given.
    blamed = next((field for field in ("file", "text", "batch_size", "seq_length") if field in options), "text")
    with given_as(blamed, field="text"):
        if "file" in options:
            options["text"] = read_text_file(Path(options.pop("file")))
        return Config.of(**options)


def lacks_target() -> bool:
    """Return True if this command line has an input without a target, as for a model file."""
    return "input" in (options := _typed_options(click.get_current_context())) and "target" not in options


def model_arguments() -> list[str]:
    """Return the options of the model on this command line as arguments for another one."""
    return [option_name(field) if value is True else f"{option_name(field)}={value}" for field, value in _given_options().items()]


def for_a_file(*allowed: str) -> dict[str, Any]:
    """Return the options of the model that also apply to a model file. Raises `TuiGruError` if others are given."""
    options = _typed_options(click.get_current_context())
    if other := next((name for name in options if name not in allowed), None):
        raise TuiGruError("it cannot be used with --model, whose file defines the model; remove it", option=other)
    return dict(options)


def _given_options() -> dict[str, Any]:
    options = dict(_typed_options(click.get_current_context()))
    if "text" in options and "file" in options:
        raise TuiGruError("--text and --file are both given; keep one of them")
    if "file" in options and (both := next((name for name in ("input", "target") if name in options), None)):
        raise TuiGruError("--file belongs to a text; keep one of the two", option=both)
    if options.pop("batch_first", False) and "input" not in options:
        raise TuiGruError("it says how --input is read; name the numbers with --input", option="batch_first")
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


# ------------------------------------------------------------------------------
# The commands for trained models: list the recurrent layers in a file, and open them.


_RESETS, _Z = ("before", "after"), ("keeps", "takes")


def _array(name: str, metavar: str, words: str) -> Callable[[Command], Command]:
    """Return an option for an array in a .npy file."""
    destination = ["inputs"] if name == "--input" else []
    return click.option(name, *destination, metavar=metavar, help=words, shell_complete=files(".npy"))


convention_options = added(
    click.option("--order", metavar="rzn|ifgo|…", help="The order of the gates in the file: r z n of a GRU, i f g o of an LSTM."),
    click.option("--reset", type=click.Choice(_RESETS), help="The reset gate acts before or after the product with U."),
    click.option("--z", type=click.Choice(_Z), help="z keeps the old state, or takes the new one."),
    click.option("--gate", type=click.Choice((*GATE_NAMES, *STATE_FUNCTIONS)), help="The function of the gates, or of an RNN."),
)
batch_first_option = click.option(
    "--batch-first",
    is_flag=True,
    default=None,
    help="The rows of --input and --expect come before their timesteps: (B, T, I), as in torch.",
)
input_option = added(
    _array("--input", "X.npy", "Inputs (T, B, I): timesteps, rows, input size; with --head, ids (N)."), batch_first_option
)
number_options = added(
    click.option("--name", metavar="NAME", help="The layers of the file by name; optional if there are no others."),
    _array("--h0", "H.npy", "First states (layers · directions, B, H), of an LSTM (2, …): h, c; default zero."),
    _array("--lengths", "L.npy", "Timesteps of each row (B); default all."),
    _array("--expect", "Y.npy", "The output of the original model: proves the convention, and is compared."),
)
going_on_options = added(
    _array("--embedding", "NAME|E.npy", "The embedding table (V, I) for tokens: a tensor of the file."),
    _array("--head", "NAME|W.npy", "The linear layer of the predictions: a tensor of the file; needs a text."),
    click.option("--text", help="A text to predict and to train on."),
    click.option("--file", type=click.Path(path_type=Path), metavar="PATH", help="Read the text from a UTF-8 file instead."),
    click.option("--vocabulary", metavar="CHARS", help="The characters of the text, in the order of the model's indices."),
    click.option(
        "--tokens",
        metavar="FILE",
        help="Instead of --vocabulary: tokens of any length, one per line, or JSON.",
        shell_complete=files(""),
    ),
    click.option("--seq-length", type=int, metavar="N", help="Timesteps in a batch of the text."),
    click.option("--batch-size", type=int, metavar="N", help="Rows in a batch of the text."),
)


@click.command(
    "inspect",
    short_help="List the GRUs, LSTMs and RNNs in a model file.",
    epilog="Example: tui-gru inspect model.pt",
)
@click.argument("path", metavar="FILE", shell_complete=files(*MODEL_FILES))
@convention_options
def inspect_command(path: str, order: str | None, reset: ResetPlace | None, z: ZMeaning | None, gate: Gate | None) -> None:
    """List every GRU, LSTM and RNN in a model file, with its convention and the evidence for it. No framework is loaded, and no
    code in the file is run.

    It reads torch checkpoints, safetensors, ONNX, npz and Keras files.
    """
    from tui_gru.imported.inspect import inspect, survey

    with _options_of_the_command():
        layers_of_file = survey(path, order=order, reset=reset, z=z, gate=gate)
        if not layers_of_file.layers:
            inspect(path, order=order, reset=reset, z=z, gate=gate)  # raises an error with the reason
    print_lines(_listed(layers_of_file))


def _listed(layers_of_file: FileLayers) -> Iterator[str]:
    from tui_gru.imported.inspect import lines_of_python

    for gru in layers_of_file.layers:
        yield gru.name
        yield f"  {gru.kind.upper()}, {_shape(gru)}, {gru.dtype}, {gru.format}"
        yield f"  {gru.convention}; biases: {gru.biases}"
        yield f"  known by: {gru.evidence}"
        if gru.warning:
            yield f"  warning: {gru.warning}"
    for line in layers_of_file.refused:
        yield f"not opened: {line}"
    gru = layers_of_file.layers[0]
    name = f" --name {shlex.quote(gru.name)}" if len(layers_of_file.layers) > 1 else ""
    yield ""
    yield f"To compare {gru.name} with the original, run these lines where the model is, with one of its batches:"
    yield from (f"  {line}" for line in lines_of_python(gru))
    yield f"and then: tui-gru check {shlex.quote(str(gru.path))}{name} --input x.npy --expect y.npy"


def _shape(gru: FoundGRU) -> str:
    ways = "both directions" if gru.bidirectional else "backwards" if gru.directions == ("reverse",) else ""
    return ", ".join(filter(None, (counted(gru.layers, "layer"), ways, f"{gru.input_size} inputs", f"{gru.hidden_size} units")))


@click.command(
    "open",
    short_help="Step through a trained GRU, LSTM or RNN, a recording, or a saved session.",
    epilog="""\b
Examples:
  tui-gru open model.pt --name encoder --input x.npy
  tui-gru open model.onnx --input x.npy --expect y.npy
  tui-gru open chars.pt --head fc --embedding embed --file book.txt --vocabulary 'abc …'
  tui-gru open words.pt --head fc --embedding embed --input ids.npy --tokens words.txt
  tui-gru open run.gru
  tui-gru open run.gru --follow
  tui-gru open lesson.tui-gru""",
)
@click.argument("path", metavar="FILE|RUN", shell_complete=files(*MODEL_FILES, SESSION_FILE))  # and folders, such as recordings
@input_option
@number_options
@going_on_options
@convention_options
@click.option("--follow", is_flag=True, help="Show the steps of a recording as they are written, by a script that trains.")
@click.option(
    "--features",
    metavar="F.npy",
    multiple=True,
    help="What units are compared with: numbers (T, B) for each timestep and row, or (T, B, K); can be given more than once.",
    shell_complete=files(".npy"),
)
@screen_options
def open_command(
    path: str,
    follow: bool,
    features: tuple[str, ...],
    theme: str | None,
    ascii_only: bool | None,
    keymap: Path | None,
    **options: Any,
) -> None:
    """Step through a trained GRU, LSTM or RNN on your own inputs: its gates and states, line by line, as the file computes them.

    Without inputs it runs on random numbers. RUN is a folder written by `tui_gru.record`; its recorded steps are the batches. A
    FILE that ends with .tui-gru is a saved session, as for --session.
    """
    session = session_on_file(path, follow=follow, features=features, **options)
    open_debugger(lambda: session, theme=theme, ascii_only=ascii_only, keymap=keymap)


def session_on_file(path: str, *, follow: bool = False, features: Sequence[str] = (), **options: Any) -> Session:
    """Return the session that `open` opens, on a model file, a recording or a saved session, which knows features for its units.

    Raises `TuiGruError`.
    """
    session = _session_on_file(path, options, follow=follow)
    for feature in features:
        session.feature(feature)
    return session


def _session_on_file(path: str, options: dict[str, Any], *, follow: bool) -> Session:
    if follow and not os.path.isdir(path):
        raise TuiGruError(f"{path} does not grow: it is no folder of a recording; leave the option out", option="follow")
    if path.endswith(SESSION_FILE) and not os.path.isdir(path):
        return _reopened(path, options)
    if options["text"] is not None and options["file"] is not None:
        raise TuiGruError("--text and --file are both given; keep one of them")
    if (file := options.pop("file")) is not None:
        options["text"] = read_text_file(file)
    with _options_of_the_command():
        return _opened(path, {name: value for name, value in options.items() if value is not None}, follow=follow)


@click.command(
    "check",
    short_help="Compare a trained model with the output of the original.",
    epilog="Example: tui-gru check model.pt --input x.npy --expect y.npy",
)
@click.argument("path", metavar="FILE", shell_complete=files(*MODEL_FILES))
@input_option
@number_options
@convention_options
def check_command(path: str, **options: Any) -> None:
    """Compare the output of the layers in a model file, as the file says that they are computed, with that of the original program.

    Ends with 0 if they are equal to rounding, one step at a time; with 1 if not, and the line says which convention would fit, or
    what else explains the difference.
    """
    from tui_gru.imported.files import run_with_expected

    if missing := next((name for name in ("inputs", "expect") if options.get(name) is None), None):
        raise TuiGruError("there is nothing to compare; give the inputs and the output of the original", option=missing.rstrip("s"))
    convention = {name: options.pop(name) for name in ("order", "reset", "z", "gate")}
    with _options_of_the_command():
        session, fitting = _opened_on(*run_with_expected(path, options.pop("name"), convention, options))
    expected = session.expected
    assert expected is not None
    words = expected.sentence
    if not expected.agrees and (why := fitting or _cause(session)):
        words += f"; {why}"
    print_lines([words])
    click.get_current_context().exit(0 if expected.agrees else 1)


def _cause(session: Session) -> str:
    """Return what explains that the output is not the expected one, and the cure; "" if nothing is known to."""
    cause = next((finding for finding in session.findings() if finding.name != "output-not-expected"), None)
    return "" if cause is None else f"{cause.title}: {cause.cure}"


def _opened_on(source: Imported, words: str) -> tuple[Session, str]:
    """Return a session at the end of the batch, and the words."""
    from tui_gru.engine.data import ImportedConfig
    from tui_gru.session.session import Session

    session = Session.on(ImportedConfig.of_source(source))
    session.step("batch")
    return session, words


def _reopened(path: str, options: dict[str, Any]) -> Session:
    """Return the session in a session file. Raises `TuiGruError` if options are given that the session does not agree with."""
    from tui_gru.cli.sessions import continued_session, existing

    if other := next((name for name, value in options.items() if value is not None), None):
        raise TuiGruError("a session has its own model and inputs; remove it", option={"inputs": "input"}.get(other, other))
    return continued_session(existing(path), given_model(), copy=False, history_memory=None)


def _opened(path: str, options: dict[str, Any], *, follow: bool = False) -> Session:
    """Return the session on a model file, or on the folder of a recording; with `follow`, once it has a step."""
    if not os.path.isdir(path):  # unlike Path.is_dir, False for a name that is too long
        from tui_gru.session.opening import load

        return load(path, **options)
    if other := next((name for name in options if name != "name"), None):
        raise TuiGruError("a recording has its own inputs and torch's convention; remove it", option=other)
    from tui_gru.session.opening import on_recording

    if follow and not _has_a_step_or_ended(path):
        print(f"waiting for the first step of {path}; ctrl+c ends", file=sys.stderr)
        while not _has_a_step_or_ended(path):
            time.sleep(WAITING)
    return on_recording(path, options.get("name"), follow=follow)


WAITING = 0.2  # seconds


def _has_a_step_or_ended(folder: str) -> bool:
    from tui_gru.imported.recordings import open_recording

    recording = open_recording(folder)
    return bool(recording.steps) or recording.closed


@contextmanager
def _options_of_the_command(file: str | None = None) -> Iterator[None]:
    """Turn errors about the inputs into errors about --input, and those about the file, which name it, into errors about `file`."""
    try:
        yield
    except TuiGruError as error:
        option = {"inputs": "input", "path": file}.get(str(error.option), error.option)
        raise TuiGruError(str(error), option=option) from None


def config_of(path: str, **options: Any) -> Config:
    """Return the config of a run on layers from a file. Raises `TuiGruError`."""
    from tui_gru.engine.data import ImportedConfig
    from tui_gru.imported.files import on_numbers

    convention: dict[str, str | None] = {name: options.pop(name) for name in ("order", "reset", "z", "gate") if name in options}
    with _options_of_the_command("model"):
        return ImportedConfig.of_source(on_numbers(path, options.pop("name"), convention, options)[0])


# ------------------------------------------------------------------------------
# `tui_gru.debug`, which pauses a training script and opens the debugger on the batch just computed.


WATCHING = (
    "tui_gru.debug: nothing to show yet. PyTorch does not keep what a GRU has computed, so the first call of debug only sets hooks "
    "on the module; the next call opens on the batch computed before it"
)
INSTEAD = (
    "screen=False gives the session, and tui_gru.record(folder, module, optimizer) writes a recording for `tui-gru open` elsewhere"
)


def debug(
    module: Module,
    optimizer: Optimizers = None,
    head: Linear | None = None,
    screen: bool = True,
    name: str | None = None,
    cell: GivenCell | None = None,
) -> Session | None:
    """Open the debugger on the batch that `module` has just computed; like breakpoint(), in a training script.

        tui_gru.debug(model, optimizer)  # before the loop: capture from here on
        for x, y in batches:
            …; loss.backward(); optimizer.step()
            tui_gru.debug(model, optimizer)  # opens on this batch; q continues the script

    Hooks on every torch.nn.GRU, LSTM and RNN of the module, and on cells, capture the batch. The first call only sets the hooks,
    because PyTorch does not keep what was computed before; it prints a message to standard error and returns None. The hooks do not
    change what the script computes. `head` is the torch.nn.Linear that reads the output of the module, `name` the module if there
    are several; it may be called again for the same batch with another name. Later calls return the session; with screen=False, in
    a notebook or without a terminal, no screen opens.

    A hand-written cell, a module that computes a timestep from x and h, is captured if it computes what a GRU, an LSTM or a plain
    RNN does, in any convention: a copy of it is called once on random numbers. `cell` is its name, where it is not found; or a
    `.cell` file with its equations, where it computes something else, alone or with the names of the module's parameters by those
    in the file where they differ: `("mine.cell", {"Wz": "update.weight"})`.

    Raises `TuiGruError` for a wrong argument, one line that names it and says what to do. If a batch cannot be shown, it warns and
    returns None.
    """
    from tui_gru.capture.trial import in_trial
    from tui_gru.session.opening import on_module
    from tui_gru.torch_loading import require_torch

    require_torch("tui_gru.debug")
    if in_trial():
        return None
    try:
        session = on_module(module, optimizer, head, name, cell)
    except CaptureError as error:
        if error.option is not None:
            raise
        warnings.warn(f"tui_gru.debug: {error}; the script goes on", stacklevel=2)
        return None
    if session is None:
        print(WATCHING, file=sys.stderr)
    if session is None or not screen:
        return session
    try:
        require_terminal()
    except TuiGruError as error:
        why = "a notebook is not a terminal" if "ipykernel" in sys.modules else str(error).partition(":")[0]
        print(f"tui_gru.debug: {why}: {INSTEAD}", file=sys.stderr)
        return session
    open_debugger(lambda: session)
    return session
