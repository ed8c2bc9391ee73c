"""Format safetensors: tensors by name, under the names of the framework that wrote them."""

from __future__ import annotations

from tui_gru.interop.containers.opened import Opened
from tui_gru.interop.containers.safetensors import fits, tensors
from tui_gru.interop.findings import Findings, Format
from tui_gru.interop.matching.named_arrays import find_by_name

NAME = "safetensors"


def find(file: Opened, order: str | None) -> Findings:
    return find_by_name(tensors(file), NAME, file.path, order)


FORMAT = Format(NAME, fits, find)
