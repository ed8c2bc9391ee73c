"""Joining of layers and directions into one GRU."""

from __future__ import annotations

from collections.abc import Mapping

from tui_gru.interop.found import Convention, FoundGRU
from tui_gru.interop.matching.cells import CellArrays, NotAGRUError


def stack(
    name: str,
    cells: Mapping[tuple[int, bool], CellArrays],
    convention: Convention,
    evidence: str,
    warning: str = "",
    batch_first: bool | None = None,
) -> FoundGRU:
    """Return one GRU made of `cells`, whose keys are the layer and True for the reverse direction. Raises `NotAGRUError` if they do
    not fit."""
    reverse = sorted({reverse for _, reverse in cells})
    layers = 1 + max(layer for layer, _ in cells)
    if layers * len(reverse) != len(cells):
        raise NotAGRUError("a layer or direction of it is missing; save all of them")
    first = cells[0, reverse[0]]
    for (layer, _), cell in sorted(cells.items()):
        expected = first.input_size if layer == 0 else first.hidden_size * len(reverse)
        if (cell.input_size, cell.hidden_size) != (expected, first.hidden_size):
            raise NotAGRUError(
                f"layer {layer} reads {cell.input_size} values into {cell.hidden_size} units, where {expected} into "
                f"{first.hidden_size} fit; save each layer as a GRU of its own"
            )
    return FoundGRU(
        name=name,
        format="",
        layers=layers,
        directions=tuple("reverse" if r else "forward" for r in reverse),
        input_size=first.input_size,
        hidden_size=first.hidden_size,
        convention=convention,
        biases=first.biases,
        dtype=first.dtype,
        evidence=evidence,
        warning=warning,
        batch_first=batch_first,
        sources=tuple(tuple(cells[layer, r].read for r in reverse) for layer in range(layers)),
    )
