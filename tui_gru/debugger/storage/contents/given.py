"""Stores a run on one given batch in a session file: its description as a fact, its numbers as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.state.state import State
from tui_gru.engine.compiling.compiled import Compiled, compiled
from tui_gru.engine.model import Structure
from tui_gru.engine.running.weights import Weights
from tui_gru.interop.errors import printable

if TYPE_CHECKING:
    from tui_gru.engine.data.given import Given

KEY = "given"
LONGEST_PLACE = 400  # characters
_TEXTS = ("title", "origin", "inputs_from", "fixed", "dtype")
_OWN = {"input": ("dense", "embedding"), "head": ("", "linear"), "loss": ("",), "update": ("sgd",), "update_text": ("",)}


def fact_of(given: Given) -> dict[str, Any]:
    """Return the description of a run in a form that JSON can represent."""
    batch = given.batches[0]
    return {
        **{name: getattr(given, name) for name in _TEXTS},
        "structure": asdict(given.structure),
        "sizes": dict(given.sizes),
        "learns": given.learns,
        "loss": batch.loss if given.knows_loss and np.isfinite(batch.loss) else None,
        "tolerance": batch.tolerance,
        "said": batch.remarks(),
    }


def place_of(state: State) -> str:
    """Return the position at which a session on given batches was left, in words, for a list of sessions."""
    config, at = state.config, state.branches.timeline.position(state.tick)
    assert config.given is not None
    places = config.given.places
    return printable(f"{config.given.title}, {f'{places[at.batch]}, ' if places else ''}t {at.t + 1}", LONGEST_PLACE)


def arrays_of(given: Given) -> dict[str, NDArray[Any]]:
    """Return the arrays of a run, by name."""
    batch = given.batches[0]
    arrays: dict[str, NDArray[Any]] = {"weights": batch.weights.flat, "states": batch.states}
    arrays |= {f"input {name}": np.asarray(array) * 1 for name, array in batch.inputs.items()}  # `* 1` turns a mask into integers
    arrays |= {f"flow {i}": flow for i, flow in enumerate(batch.flows or ())}
    recorded = None if batch.recorded is None else batch.recorded.flat
    others = {"outside": batch.outside, "expected": batch.expected, "recorded": recorded}
    return arrays | {name: array for name, array in others.items() if array is not None}


def given_of(fact: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Given:
    """Recreate the run. Raises `ValueError`, `KeyError` or `TypeError` for inconsistent data, before allocating memory for it."""
    from tui_gru.engine.data.given import Given, GivenBatch  # imported late: a session on a text has none

    structure = _structure(fact["structure"])
    sizes = {str(axis): size for axis, size in fact["sizes"].items()}
    inputs = {name.removeprefix("input "): array for name, array in arrays.items() if name.startswith("input ")}
    fits = all(type(size) is int and size > 0 for size in sizes.values())
    fits = fits and (sizes["T"], sizes["B"]) == next(iter(inputs.values())).shape[:2]
    if not fits or fact["dtype"] not in ("float32", "float64"):
        raise ValueError("has sizes that do not fit its arrays")
    model, dtype, learns = compiled(structure, sizes, fact["dtype"]), np.dtype(fact["dtype"]), bool(fact["learns"])
    _check_arrays(model, arrays, inputs, learns=learns)
    page, recorded = model.model.page, arrays.get("recorded")
    remarks, loss = str(fact["said"]), fact["loss"]
    batch = GivenBatch(
        weights=Weights(model.layout, np.array(arrays["weights"], dtype)),
        inputs={name: array.astype(np.intp) if page.inputs[name].one_hot else array for name, array in inputs.items()},
        states=np.array(arrays["states"], dtype),
        outside=arrays.get("outside"),
        flows=[arrays[f"flow {i}"] for i in range(len(page.states))] if learns else None,
        expected=arrays.get("expected"),
        loss=float("nan") if loss is None else float(loss),
        tolerance=None if fact["tolerance"] is None else float(fact["tolerance"]),
        recorded=None if recorded is None else Weights(model.layout, np.array(recorded, dtype)),
        remarks=lambda: remarks,
    )
    title, origin, inputs_from, fixed, _ = (str(fact[name]) for name in _TEXTS)
    return Given(
        title, origin, inputs_from, structure, sizes, fact["dtype"], (batch,), fixed, learns=learns, knows_loss=loss is not None
    )


def _check_arrays(model: Compiled, arrays: Mapping[str, NDArray[Any]], inputs: Mapping[str, NDArray[Any]], *, learns: bool) -> None:
    """Raise `ValueError` for arrays that do not fit the model, `KeyError` for one that is missing."""
    page, axes = model.model.page, model.model.axes
    if arrays["weights"].shape != (model.layout.size,):
        raise ValueError("has other weights than its equations")
    for name, declared in page.inputs.items():
        if inputs[name].shape != (model.shape(axes[name])[:2] if declared.one_hot else model.shape(axes[name])):
            raise ValueError(f"has the input {name} in another shape")
        if declared.one_hot and not 0 <= inputs[name].min() <= inputs[name].max() < model.shape(axes[name])[-1]:
            raise ValueError("has a token that its table does not have")
    states = [model.shape(axes[state])[1:] for state in page.states]
    if arrays["states"].shape != (sum(int(np.prod(shape)) for shape in states),):
        raise ValueError("has first states of another shape")
    if learns:
        flows = [arrays[f"flow {i}"].shape for i in range(len(states))]
        if arrays["outside"].shape != model.shape(axes[page.outputs[0]]) or flows != states:
            raise ValueError("has gradients from outside of another shape")
    if "recorded" in arrays and arrays["recorded"].shape != arrays["weights"].shape:
        raise ValueError("has recorded gradients of another shape")


def _structure(fact: Mapping[str, Any]) -> Structure:
    """Check and create the structure of a model. Raises like `given_of`."""
    kinds = {name: type(value) for name, value in asdict(Structure()).items()}
    fact = {"update_text": "", **fact}  # older files have none
    if fact.keys() != kinds.keys() or any(type(fact[name]) is not kind for name, kind in kinds.items()):
        raise ValueError("has another structure than a model")
    if any(fact[name] not in allowed for name, allowed in _OWN.items()) or not 1 <= fact["layers"] <= 1000:
        raise ValueError("has a model that is not given")
    return Structure(**fact)
