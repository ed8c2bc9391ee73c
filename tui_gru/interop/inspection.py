"""Search for the GRUs in a model file, with their conventions and the evidence for them."""

from __future__ import annotations

import os
from dataclasses import replace
from os import PathLike
from pathlib import Path

from tui_gru.interop.containers.opened import open_file
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.formats.table import FORMATS
from tui_gru.interop.found import Findings, FoundGRU, Gate, ResetPlace, ZMeaning, checked_convention
from tui_gru.interop.recording.folder import holds_a_recording

READ = "torch checkpoints, safetensors, ONNX, npz and Keras files are read"


def inspect(
    path: str | PathLike[str],
    *,
    order: str | None = None,
    reset: ResetPlace | None = None,
    z: ZMeaning | None = None,
    gate: Gate | None = None,
) -> list[FoundGRU]:
    """Return the GRUs in the file at `path`. No framework is loaded, no code in the file is run, and the weights are not read yet.

    order, reset, z, gate: read them in this convention, regardless of the file; `order` also finds GRUs whose names say nothing.
    Raises `ModelFileError`, one line that says what to do, if there is no GRU or the file cannot be read.
    """
    findings = survey(path, order=order, reset=reset, z=z, gate=gate)
    if not findings.found:
        raise ModelFileError(f"{printable(path, 250)}: {_nothing(findings.refused)}", option="path")
    return list(findings.found)


def survey(
    path: str | PathLike[str],
    *,
    order: str | None = None,
    reset: ResetPlace | None = None,
    z: ZMeaning | None = None,
    gate: Gate | None = None,
) -> Findings:
    """Return what `inspect` returns, and a line for each network that is not opened. Raises `ModelFileError` if the file cannot be
    read."""
    given = checked_convention(order, reset, z, gate)
    if not isinstance(path, (str, PathLike)):
        raise ModelFileError(f"path must be the name of a file, not {type(path).__name__}", option="path")
    try:
        expanded = Path(os.path.expanduser(path))
        if holds_a_recording(expanded):
            raise ModelFileError("it is a recording, not a model file; open it with tui-gru open or tui_gru.Session.open")
        file = open_file(expanded)
        for format_ in FORMATS:
            if format_.fits(file):
                findings = format_.find(file, given.get("order"))
                break
        else:
            raise ModelFileError(f"its format is not known, or it is cut off; {READ}")
    except ModelFileError as error:
        raise ModelFileError(f"{printable(path, 250)}: {error}", option="path") from None
    except OSError as error:
        raise ModelFileError(f"{printable(path, 250)}: it cannot be read: {error.strerror or error}", option="path") from None
    return replace(findings, found=tuple(gru.read_as(**given) for gru in _distinct(findings.found)))


def _nothing(refused: tuple[str, ...]) -> str:
    if not refused:
        return "there is no GRU in it; name a file with the weights of one"
    more = f" (and {len(refused) - 1} more that cannot be opened)" if len(refused) > 1 else ""
    return f"there is no GRU in it that can be opened: {refused[0]}{more}"


def _distinct(found: tuple[FoundGRU, ...]) -> list[FoundGRU]:
    """Return the same GRUs with unique names."""
    names: dict[str, int] = {}
    distinct = []
    for gru in found:
        names[gru.name] = count = names.get(gru.name, 0) + 1
        distinct.append(gru if count == 1 else replace(gru, name=f"{gru.name}#{count}"))
    return distinct
