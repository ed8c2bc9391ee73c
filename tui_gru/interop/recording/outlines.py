"""Reads outlines of steps: a step with zeros in place of all numbers, which takes no memory.

Most steps of a run have the same calls with the same shapes. Their headers differ in a few numbers only, and are checked once.
"""

from __future__ import annotations

import re
from pathlib import Path

from tui_gru.interop.capture.calls import CapturedStep
from tui_gru.interop.containers import safetensors
from tui_gru.interop.recording.folder import shard_name, step_in
from tui_gru.interop.recording.shards import checked_header, described, open_shard
from tui_gru.interop.tensors import without_numbers

_COUNT = rb"(?:0|[1-9]\d{0,14})"
_VALUE = rb'(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|null|\\"(?:nan|-?inf)\\")'
_WORDS = rb'\\"(?:every|trigger|before)\\"'
_SETTINGS = rb'\{(?:\\"\w+\\": %s(?:, (?=\\"))?)*\}' % _VALUE
#: The parts of a description that differ from step to step, as they stand in the header: JSON in a string of JSON.
_DIFFERENT = re.compile(
    rb'(?:\\"(?:(number|not_kept)\\": %s|(loss|norm)\\": %s|(why)\\": %s|(settings)\\": %s)|%s)(?=[,}])'
    % (_COUNT, _VALUE, _WORDS, _SETTINGS, rb'"checksums":"[0-9a-f ]*"')
)
_NUMBER = re.compile(rb'\\"number\\": (%s)[,}]' % _COUNT)

OutlineKey = tuple[bytes | int | None, ...]  # the header without its numbers, and the size of what follows it


class Outlines:
    """The outlines of the steps of one recording. Steps with the same calls and shapes share one."""

    def __init__(self) -> None:
        self._known: dict[OutlineKey, CapturedStep] = {}

    def read(self, path: Path) -> CapturedStep:
        """Return the outline of a step, whose number, loss and settings may be those of another step. Raises `ModelFileError` if
        the header is damaged, or `OSError`."""
        file = open_shard(path)
        text = safetensors.header_text(file)
        checked_header(text)
        key = *_DIFFERENT.split(text.rstrip(b" ")), file.size - len(text)
        known, number = self._known.get(key), _NUMBER.search(text)
        if known is not None and number is not None and path.name == shard_name(int(number[1]), known.rank):
            return known
        about, tensors = described(file)
        step = step_in(path, {name: without_numbers(tensor) for name, tensor in tensors.items()}, about)
        self._known[key] = step
        return step
