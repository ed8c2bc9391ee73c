"""The identity of a recording, by which it is found again: its folder, and a hash of the header of every recorded step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path, PureWindowsPath
from typing import Any

from tui_gru.interop.containers import safetensors
from tui_gru.interop.errors import ModelFileError, RecordingError, printable
from tui_gru.interop.recording.folder import shard_name
from tui_gru.interop.recording.reading import Recording, open_recording
from tui_gru.interop.recording.shards import open_shard

HASH = 16  # bytes


def identity_of(recording: Recording, name: str) -> dict[str, Any]:
    """Return the identity of the GRU called `name` in a recording, as JSON. Raises `RecordingError` for a step that cannot be
    read."""
    steps = [[step.number, _hash(recording.folder, step.number, recording.intact_ranks(step.number))] for step in recording.steps]
    return {"folder": str(recording.folder.resolve()), "name": name, "steps": steps}


def recognised(identity: Mapping[str, Any], beside: Path | None = None) -> Recording:
    """Return the recording with this identity, with the steps that it had when the identity was created; later steps are omitted.

    If it is not where it was, as on another machine, a folder of its name in the folder `beside` takes its place. Raises
    `RecordingError`, one line that says what has moved or changed, and `ValueError` for an invalid identity.
    """
    numbers = [number for number, _ in identity["steps"]]
    if numbers != sorted(set(numbers)):
        raise ValueError("the steps of a recording are not in order")
    folder = Path(identity["folder"])
    shown = printable(folder, 250)
    if not folder.is_dir() and beside is not None:
        folder = beside / PureWindowsPath(identity["folder"]).name  # which splits a path of any system
    if not folder.is_dir():
        raise RecordingError(f"its recording is not at {shown} any more; move it back there, or open the recording where it is now")
    recording = open_recording(folder)
    kept = {step.number: step for step in recording.steps}
    for number, known in identity["steps"]:
        if number not in kept:
            raise RecordingError(f"step {number:,} of its recording {shown} was deleted; open the recording itself")
        if _hash(folder, number, recording.intact_ranks(number)) != known:
            raise RecordingError(f"step {number:,} of its recording {shown} has changed; open the recording itself")
    return replace(recording, steps=tuple(kept[number] for number, _ in identity["steps"]))


def _hash(folder: Path, number: int, ranks: tuple[int, ...]) -> str:
    """Return the hash of the sizes and headers of a step's files. A header has the loss, the norm, and the name, type and shape of
    every array."""
    found = blake2b(digest_size=HASH)
    for rank in ranks:
        path = folder / shard_name(number, rank)
        try:
            file = open_shard(path)
            found.update(f"{rank} {file.size} ".encode() + safetensors.header_text(file))
        except ModelFileError as error:
            raise RecordingError(f"{printable(path, 250)}: {error}") from None
        except OSError as error:
            raise RecordingError(
                f"{printable(path, 250)}: it cannot be read: {error.strerror or error}; open the recording again"
            ) from None
    return found.hexdigest()
