"""A run of a GRU from a file on its inputs, as one given batch of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from tui_gru.engine.data.given import Given, GivenBatch, weights_for
from tui_gru.engine.model import Structure, text_of
from tui_gru.equations.compose import LIVE
from tui_gru.interop.blocks import canonical
from tui_gru.interop.found import Convention, FoundGRU
from tui_gru.interop.opening.numbers import LayerInputs
from tui_gru.interop.recomputing.comparing import TOLERANCES
from tui_gru.interop.tensors import AnyArray, precision_of

_SHIPPED = {("before", "keeps"): "gru", ("before", "takes"): "gru-cho", ("after", "keeps"): "gru-reset-after"}
#: The formula of each gate function, with {} for its argument.
_GATES = {"hard_sigmoid": "clamp(0.2 ⊙ ({}) + 0.5)", "hard_sigmoid_6": "clamp(({}) / 6 + 0.5)"}
_GATE_LINE = re.compile(r"^((?:update|reset): .*= )σ\((.*)\)(\s*#.*)$", re.MULTILINE)
_KEEPS, _TAKES = "near 1 keeps the old state", "near 1 takes the candidate"


def cell_in(convention: Convention) -> tuple[str, str]:
    """Return the name of the cell and the text of its equations; the text is empty for a built-in cell."""
    return _cell(convention.reset, convention.z, convention.gate)


@lru_cache(maxsize=16)
def _cell(reset: str, z: str, gate: str) -> tuple[str, str]:
    shipped = _SHIPPED.get((reset, z), "")
    if shipped and gate == "sigmoid":
        return shipped, ""
    text = text_of("cell", shipped or "gru-reset-after")
    if not shipped:
        old, new = (re.search("^carry:.*$", each, re.MULTILINE) for each in (text, text_of("cell", "gru-cho")))
        assert old is not None
        assert new is not None
        text = text.replace(old[0], new[0]).replace(_KEEPS, _TAKES)
    if gate != "sigmoid":
        text = _GATE_LINE.sub(lambda line: line[1] + _GATES[gate].format(line[2]) + line[3], text)
    return f"gru, reset {reset}, z {z}, {gate}", text


NO_LOSS = (
    "this GRU was opened without a head and a loss, so it has no gradient and cannot be trained; "
    "tui_gru.debug(module) shows a GRU that a script trains"
)


def given_run(found: FoundGRU, numbers: LayerInputs, path: Path) -> Given:
    """Return a run with the weights of the file and equations in the convention of the file. Raises `ModelFileError`."""
    cell, text = cell_in(found.convention)
    structure = Structure(
        cell=cell,
        cell_text=text,
        layers=found.layers,
        bidirectional=found.bidirectional,
        backwards=found.directions == ("reverse",),
        input="dense" if numbers.table is None else "embedding",
        head="",
        loss="",
        lengths=numbers.lengths is not None,
    )
    T, B = numbers.x.shape[:2]
    sizes = {"H": found.hidden_size, "B": B, "T": T}
    sizes |= {"I": found.input_size} if numbers.table is None else {"V": len(numbers.table), "D": found.input_size}
    dtype = "float64" if found.dtype == "float64" else "float32"
    with np.errstate(all="ignore"):  # NaN and infinities are allowed
        weights = weights_for(structure, sizes, dtype, values_of(found, numbers.table))
        inputs = {"x" if numbers.table is None else "token": numbers.x}
        if numbers.lengths is not None:
            inputs[LIVE] = np.arange(T)[:, None] < numbers.lengths
        tolerance = None if numbers.y is None else max(TOLERANCES[dtype], TOLERANCES[precision_of(numbers.y)])
        batch = GivenBatch(weights, inputs, numbers.h0.astype(dtype).ravel(), expected=numbers.y, tolerance=tolerance)
    return Given(
        title=f"{found.name} of {path.name}",
        origin=path.name,
        inputs_from=numbers.source,
        structure=structure,
        sizes=sizes,
        dtype=dtype,
        batches=(batch,),
        fixed=NO_LOSS,
        reading=(found.reset, found.z),
        again=partial(_again, found, numbers, path),
    )


def _again(found: FoundGRU, numbers: LayerInputs, path: Path, reset: str | None, z: str | None, y: AnyArray) -> tuple[Given, str]:
    """Return the same inputs with another reading of the file, compared with the expected output or else with `y`, and a
    message."""
    other = found.read_as(reset=reset, z=z)
    expected = y if numbers.y is None else numbers.y
    run = given_run(other, replace(numbers, y=expected), path)
    return run, f"read with reset {other.reset}, z {other.z}"


def values_of(found: FoundGRU, table: AnyArray | None) -> Mapping[str, AnyArray]:
    """Return the parameters by our names. The meaning of z is unchanged, so no weights are negated."""
    values = {} if table is None else {"E": table}
    single = found.layers == 1 and not found.bidirectional
    for layer, cells in enumerate(found.blocks()):
        for direction, blocks in zip(found.directions, cells, strict=True):
            suffix = "" if single else f"_l{layer}{'_reverse' if direction == 'reverse' else ''}"
            own = canonical(blocks, found.order, found.reset, "keeps")
            values |= {name + suffix: value for name, value in own.items()}
    return values
