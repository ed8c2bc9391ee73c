"""Reads outlines of steps: a step with zeros in place of all numbers, which takes no memory.

Most steps of a run have the same calls with the same shapes. Their headers differ in a few numbers only, and are checked once.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tui_gru.interop.capture.calls import CapturedStep
from tui_gru.interop.containers.opened import open_file
from tui_gru.interop.errors import ModelFileError
from tui_gru.interop.formats import safetensors
from tui_gru.interop.recording.encoding import decoded, number
from tui_gru.interop.recording.folder import shard_name
from tui_gru.interop.recording.shards import KEY, read_shard
from tui_gru.interop.tensors import without_numbers

_BEGIN = '{"__metadata__":'
_NUMBERS = ("number", "loss", "norm", "why")  # the parts of a description that differ from step to step

Key = tuple[str, str]


class Outlines:
    """The outlines of the steps of one recording."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[int, CapturedStep]] = {}  # the bytes of its numbers, and the outline

    def read(self, path: Path) -> CapturedStep:
        """The outline of a step. Raises `ModelFileError` if the header is damaged, or `OSError`."""
        file = open_file(path)
        text = safetensors.header_text(file)
        size = file.size - 8 - len(text)
        about, key = _described(text)
        known = None if key is None else self._known.get(key)
        if known is not None and known[0] == size and path.name == shard_name(about["number"], known[1].rank):
            return replace(known[1], number=about["number"])
        about, tensors = read_shard(path)
        step = decoded({name: without_numbers(tensor) for name, tensor in tensors.items()}, about)
        if shard_name(step.number, step.rank) != path.name:
            raise ModelFileError(f"it contains step {step.number} of rank {step.rank}, which does not match its name")
        if key is not None:
            self._known[key] = size, step
        return step


def _described(text: bytes) -> tuple[dict[str, Any], Key | None]:
    """The description of a step and what it shares with others; None for a header that is written in another way."""
    try:
        header = text.decode()
        metadata, end = json.JSONDecoder().raw_decode(header, len(_BEGIN))
        about = json.loads(metadata[KEY])
        shared = {name: value for name, value in about.items() if name not in _NUMBERS}
        number(about["loss"])
        usual = header.startswith(_BEGIN) and type(about["number"]) is int
        return about, (header[end:].rstrip(), json.dumps(shared)) if usual else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}, None
