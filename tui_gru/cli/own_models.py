"""The commands for trained models: list the GRUs in a file, and open one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tui_gru.cli.completion import MODEL_FILES, files
from tui_gru.cli.model import read_text_file
from tui_gru.cli.options import Command, added, screen_options
from tui_gru.cli.output import STANDARD_OUTPUT, opened
from tui_gru.cli.screen import open_debugger
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.safe_text import safe_text

if TYPE_CHECKING:
    from tui_gru.debugger.session.session import Session
    from tui_gru.engine.config import Config
    from tui_gru.interop.found import Findings, FoundGRU, Gate, ResetPlace, ZMeaning

_RESETS, _Z, _GATES = ("before", "after"), ("keeps", "takes"), ("sigmoid", "hard_sigmoid", "hard_sigmoid_6")


def _array(name: str, metavar: str, words: str) -> Callable[[Command], Command]:
    """Return an option for an array in a .npy file."""
    destination = ["inputs"] if name == "--input" else []
    return click.option(name, *destination, metavar=metavar, help=words, shell_complete=files(".npy"))


convention_options = added(
    click.option("--order", metavar="rzn|zrn|…", help="The order of the gates in the file: r reset, z update, n candidate."),
    click.option("--reset", type=click.Choice(_RESETS), help="The reset gate acts before or after the product with U."),
    click.option("--z", type=click.Choice(_Z), help="z keeps the old state, or takes the new one."),
    click.option("--gate", type=click.Choice(_GATES), help="The function of the gates."),
)
number_options = added(
    click.option("--name", metavar="NAME", help="The GRU of the file by name; optional if there is only one."),
    _array("--input", "X.npy", "Inputs (T, B, I): timesteps, rows, input size; with --head, ids (N)."),
    _array("--h0", "H.npy", "First states (layers · directions, B, H); default zero."),
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
    short_help="List the GRUs in a model file.",
    epilog="Example: tui-gru inspect model.pt",
)
@click.argument("path", metavar="FILE", shell_complete=files(*MODEL_FILES))
@convention_options
def inspect_command(path: str, order: str | None, reset: ResetPlace | None, z: ZMeaning | None, gate: Gate | None) -> None:
    """List every GRU in a model file, with its convention and the evidence for it. No framework is loaded, and no code in the file
    is run.

    It reads torch checkpoints, safetensors, ONNX, npz and Keras files.
    """
    from tui_gru.interop.inspection import inspect, survey

    with _options_of_the_command():
        findings = survey(path, order=order, reset=reset, z=z, gate=gate)
        if not findings.found:
            inspect(path, order=order, reset=reset, z=z, gate=gate)  # raises an error with the reason
    with opened(STANDARD_OUTPUT) as out:
        for line in _listed(findings):
            out.write(f"{safe_text(line)}\n".encode(sys.stdout.encoding, "backslashreplace"))


def _listed(findings: Findings) -> Iterator[str]:
    for gru in findings.found:
        yield gru.name
        yield f"  {_shape(gru)}, {gru.dtype}, {gru.format}"
        yield f"  gates {' '.join(gru.order)}, reset {gru.reset}, z {gru.z}, {gru.gate}; biases: {gru.biases}"
        yield f"  known by: {gru.evidence}"
        if gru.warning:
            yield f"  warning: {gru.warning}"
    for line in findings.refused:
        yield f"not opened: {line}"


def _shape(gru: FoundGRU) -> str:
    layers = "1 layer" if gru.layers == 1 else f"{gru.layers} layers"
    ways = "both directions" if gru.bidirectional else "backwards" if gru.directions == ("reverse",) else ""
    return ", ".join(filter(None, (layers, ways, f"{gru.input_size} inputs", f"{gru.hidden_size} units")))


@click.command(
    "open",
    short_help="Step through a trained GRU, or a recording.",
    epilog="""\b
Examples:
  tui-gru open model.pt --name encoder --input x.npy
  tui-gru open model.onnx --input x.npy --expect y.npy
  tui-gru open chars.pt --head fc --embedding embed --file book.txt --vocabulary 'abc …'
  tui-gru open words.pt --head fc --embedding embed --input ids.npy --tokens words.txt
  tui-gru open run.gru""",
)
@click.argument("path", metavar="FILE|RUN", shell_complete=files(*MODEL_FILES))  # and folders, such as recordings
@number_options
@going_on_options
@convention_options
@screen_options
def open_command(path: str, theme: str | None, ascii_only: bool | None, keymap: Path | None, **options: Any) -> None:
    """Step through a trained GRU on your own inputs: its gates and states, line by line, in the convention of the file.

    Without inputs it runs on random numbers. RUN is a folder written by `tui_gru.record`; its recorded steps are the batches.
    """
    if options["text"] is not None and options["file"] is not None:
        raise TuiGruError("--text and --file are both given; keep one of them")
    if (file := options.pop("file")) is not None:
        options["text"] = read_text_file(file)
    with _options_of_the_command():
        session = _opened(path, {name: value for name, value in options.items() if value is not None})
    open_debugger(lambda: session, theme=theme, ascii_only=ascii_only, keymap=keymap)


def _opened(path: str, options: dict[str, Any]) -> Session:
    """Return the session on a model file, or on the folder of a recording."""
    if not os.path.isdir(path):  # unlike Path.is_dir, False for a name that is too long
        from tui_gru.debugger.session.loading import load

        return load(path, **options)
    if other := next((name for name in options if name != "name"), None):
        raise TuiGruError("a recording has its own inputs and torch's convention; remove it", option=other)
    from tui_gru.debugger.session.loading import on_recording

    return on_recording(path, options.get("name"))


@contextmanager
def _options_of_the_command(file: str | None = None) -> Iterator[None]:
    """Turn errors about the inputs into errors about --input, and those about the file, which name it, into errors about `file`."""
    try:
        yield
    except TuiGruError as error:
        option = {"inputs": "input", "path": file}.get(str(error.option), error.option)
        raise TuiGruError(str(error), option=option) from None


def config_of(path: str, **options: Any) -> Config:
    """Return the config of a run on a GRU from a file. Raises `TuiGruError`."""
    from tui_gru.engine.data.given import GivenConfig
    from tui_gru.interop.opening.loading import on_numbers

    convention: dict[str, str | None] = {name: options.pop(name) for name in ("order", "reset", "z", "gate") if name in options}
    with _options_of_the_command("model"):
        return GivenConfig.of_given(on_numbers(path, options.pop("name"), convention, options)[0])
