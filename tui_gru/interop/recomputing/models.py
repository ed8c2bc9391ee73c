"""A captured call as a model: its structure, sizes and weights, the computation of its values, and the conversion back to torch's
names and shapes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tui_gru.engine.compiling.compiled import Compiled, compiled
from tui_gru.engine.config import machine_memory
from tui_gru.engine.model import Structure
from tui_gru.engine.numbers import gib
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.computing import compute
from tui_gru.engine.running.weights import Weights
from tui_gru.equations.compose import LIVE
from tui_gru.equations.names import with_word
from tui_gru.interop.blocks import LETTERS, Blocks, canonical
from tui_gru.interop.capture.calls import CapturedStep, GRUCall, GRUModule
from tui_gru.interop.errors import CaptureError
from tui_gru.interop.tensors import AnyArray

ORDER = "rzn"  # the order of gates in torch
HEAD_TOLERANCE = 1e-4  # of the largest gradient of an output, for its part that came through the head


def structure_of(module: GRUModule, *, head: bool, lengths: bool, dropout: bool) -> Structure:
    """Return the model of a GRU on given numbers: its stack, with `head` if only the head read the output."""
    return Structure(
        cell="gru-reset-after",
        layers=module.layers,
        bidirectional=module.bidirectional,
        input="dense",
        head="linear" if head else "",
        loss="",
        lengths=lengths,
        dropout=dropout,
    )


def sizes_of(module: GRUModule, timesteps: int, rows: int, classes: int) -> dict[str, int]:
    """Return the sizes of the model; `classes` is the width of the head, or 0. Raises `CaptureError` for an empty call."""
    if not rows or not timesteps:
        raise CaptureError(f"{module.name}: a call without rows or timesteps has nothing to show; choose another one")
    sizes = {"I": module.input_size, "H": module.hidden_size, "B": rows, "T": timesteps}
    return sizes | ({"V": classes} if classes else {})


def check_masks(call: GRUCall) -> None:
    """Raise `CaptureError` for a call with unknown masks, whose inner values cannot be computed."""
    if call.module.dropout and call.training and call.module.layers > 1 and not call.masks:
        raise CaptureError(f"{call.module.name}: the masks of its dropout are not known; run it on the CPU, or with dropout 0")


def classes_of(call: GRUCall) -> int:
    """Return the width of the head of a call, if the model can include it; otherwise 0."""
    return len(call.head.weight) if call.head is not None and reads_head(call) else 0


def reads_head(call: GRUCall) -> bool:
    """Return True if the complete gradient of the output came through the head, so that the model can include the logits."""
    head = call.head
    if head is None or head.dlogits is None or call.dout is None:
        return False
    dout = head.dlogits @ head.weight
    largest = np.abs(call.dout).max(initial=0)
    return bool(np.abs(dout - call.dout).max(initial=0) <= HEAD_TOLERANCE * largest)


def compiled_for(call: GRUCall, dtype: str | None = None) -> Compiled:
    """Return the model of a call compiled for its sizes, in `dtype`; by default float64 for a float64 call, otherwise float32.

    Raises `CaptureError` for a call whose inner values cannot be computed: with unknown masks, or too large for the memory.
    """
    check_masks(call)
    classes = classes_of(call)
    sizes = sizes_of(call.module, call.timesteps, call.rows, classes)
    structure = structure_of(call.module, head=classes > 0, lengths=call.lengths is not None, dropout=bool(call.masks))
    model = compiled(structure, sizes, dtype or ("float64" if call.dtype == "float64" else "float32"))
    if model.record_bytes > machine_memory() // 2:
        raise CaptureError(
            f"{call.module.name}: the inner values of this call take {gib(model.record_bytes)}, more than half of "
            "this machine's memory; capture a smaller batch"
        )
    return model


def weights_of(call: GRUCall, model: Compiled) -> Weights:
    """Return the weights of a call, under the names of the model."""
    weights = _canonical(call.module, call.weights.values, model, 0.0)
    if (head := call.head) is not None and model.model.structure.head:
        weights["Wy"][...] = head.weight.T
        weights["by"][...] = 0 if head.bias is None else head.bias
    return weights


def recorded_gradients(step: CapturedStep, call: GRUCall, model: Compiled) -> Weights:
    """Return p.grad as the step recorded it, under the names of the model, as `BatchRecord.gradients`; NaN if nothing is known.

    It is the sum over all calls of the step, as the optimizer used it. For a weight that is computed from parameters it is the
    gradient from autograd.
    """
    used = call.weights
    found = {weight: step.gradients[name] for weight, name in used.parameters.items() if name in step.gradients}
    return _canonical(call.module, {**used.gradients, **found}, model, np.nan)


def _canonical(module: GRUModule, arrays: Mapping[str, AnyArray], model: Compiled, missing: float) -> Weights:
    """Return arrays with torch's names and shapes under the names of the model; missing arrays are filled with `missing`."""
    weights = Weights.zeros(model.layout, str(model.dtype))
    weights.flat[...] = np.nan
    H = module.hidden_size
    for suffix, layer in zip(module.suffixes, model.model.composed.layers, strict=True):
        width = len(weights[f"Wz{layer.suffix}"])
        shapes = {"weight_ih": (3, H, width), "weight_hh": (3, H, H), "bias_ih": (3, H), "bias_hh": (3, H)}
        parts: list[AnyArray] = []
        for role, shape in shapes.items():
            absent = 0.0 if role.startswith("bias") and not module.bias else missing
            array = arrays.get(role + suffix)
            part = np.full(shape, absent) if array is None else array.reshape(shape)
            parts.append(part.transpose(0, 2, 1) if part.ndim == 3 else part)
        for name, value in canonical(Blocks(*parts), ORDER, "after", "keeps").items():
            weights[name + layer.suffix][...] = value
    return weights


def torch_gradients(call: GRUCall, gradients: Weights, model: Compiled) -> dict[str, AnyArray]:
    """Return gradients of the model under torch's names and in torch's shapes, as p.grad has them: weight_ih_l0 (3H, I) …"""
    found: dict[str, AnyArray] = {}
    for suffix, layer in zip(call.module.suffixes, model.model.composed.layers, strict=True):
        own = layer.suffix
        rows = {
            "weight_ih": [gradients[f"W{LETTERS[gate]}{own}"].T for gate in ORDER],
            "weight_hh": [gradients[f"U{LETTERS[gate]}{own}"].T for gate in ORDER],
            "bias_ih": [gradients[f"b{LETTERS[gate]}{own}"] for gate in ORDER],
            "bias_hh": [gradients[f"bh{gate}{own}"] for gate in ORDER],
        }
        found |= {role + suffix: np.concatenate(parts) for role, parts in rows.items()}
    return {name: found[name] for name in call.module.weight_names}


def fill(record: BatchRecord, call: GRUCall) -> None:
    """Load the inputs, first states, weights and outside gradients of a call into a record of `compiled_for(call)`."""
    model = record.compiled.model
    record.array("x")[...] = call.x
    if call.lengths is not None:
        record.array(LIVE)[...] = np.arange(call.timesteps)[:, None] < call.lengths
    for number, mask in enumerate(call.masks):
        record.array(f"mask_l{number}")[...] = mask
    for state, h0 in zip(record.compiled.states, call.h0, strict=True):
        record.border(state, end=False)[...] = h0
    (output,) = model.page.outputs
    given = call.head.dlogits if call.head is not None and model.structure.head else call.dout
    record.array(with_word(f"d{output}", "given"))[...] = 0 if given is None else given
    for i, flow in enumerate(record.flows_in):
        flow[...] = 0 if call.dhn is None else call.dhn[i]
    record.before = weights_of(call, record.compiled)


def recompute(call: GRUCall, dtype: str | None = None, record: BatchRecord | None = None) -> BatchRecord:
    """Compute all inner values of a call: forward, and backward if it received a gradient. There is no update.

    The dtype is `dtype`, by default that of `compiled_for`. The values are written to `record`, or to a new record, which is
    returned. Raises `CaptureError`.
    """
    record = BatchRecord(compiled_for(call, dtype)) if record is None else record
    with np.errstate(all="ignore"):  # NaN and infinities are valid numbers here
        fill(record, call)
        compute(record, None, learn=call.learned)
    return record
