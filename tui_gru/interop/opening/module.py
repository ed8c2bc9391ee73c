"""The last captured step of a module of a script, as a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tui_gru.engine.given import Given
from tui_gru.equations.errors import did_you_mean
from tui_gru.interop.capture import Capture, CapturedStep, GRUCall, WeightSet
from tui_gru.interop.errors import CaptureError
from tui_gru.interop.opening.captured import CallShape, Frame, batch_of
from tui_gru.interop.recomputing.sequences import sequences

if TYPE_CHECKING:
    from torch.nn import Linear, Module
    from torch.optim import Optimizer

UNTRAINED = 8  # calls of a step that are kept though no gradient came to them
FIXED = "this batch is one of your script's, whose optimizer trains: leave with q, and let the script go on"

_captures: list[tuple[Module, Capture]] = []


def last_step(module: Module, optimizer: Optimizer | None, head: Linear | None) -> CapturedStep | None:
    """What `module` has computed since the last time; None if it has not been watched before, which begins now."""
    for watched, capture in _captures:
        if watched is module:
            return capture.cut()
    _captures.append((module, Capture(module, optimizer, head=head, without_gradient=UNTRAINED)))
    return None


def forget(module: Module) -> None:
    """Stop capturing a module: remove all hooks."""
    for pair in [pair for pair in _captures if pair[0] is module]:
        pair[1].close()
        _captures.remove(pair)


def captured_run(step: CapturedStep, name: str | None = None) -> tuple[Given, str]:
    """A step as a run of one batch, and what is to be said of it at first: of the GRU of this name, or of the first that learned.

    Raises `CaptureError` if no GRU was called, or there is none of this name.
    """
    calls = sequences(step)
    own = _chosen(calls, name)
    frame = Frame.around([[CallShape.of(call) for call in own]])
    batch = batch_of(frame, [(step, own)])
    others = [other for other in dict.fromkeys(call.module.name for call in calls) if other != frame.module.name]
    said = batch.said()
    if others:
        said += f" Captured besides: {', '.join(others)}; name= shows one of them."
    given = Given(
        title=f"{frame.module.name} of your script",
        origin="your script",
        inputs_from="your script",
        structure=frame.structure,
        sizes=frame.sizes,
        dtype=frame.dtype,
        batches=(batch,),
        fixed=FIXED,
        learns=frame.learns,
        knows_loss=step.loss is not None,
    )
    return given, said.strip()


def _chosen(calls: Sequence[GRUCall], name: str | None) -> list[GRUCall]:
    """The calls of one module with one set of weights: the last that learned."""
    names = list(dict.fromkeys(call.module.name for call in calls))
    if not names:
        raise CaptureError("no GRU of this module was called since the last debug; call it after a forward pass", option="module")
    if name is not None and name not in names:
        raise CaptureError(f"no GRU {name!r} was called since the last call of debug; {did_you_mean(name, names)}", option="name")
    named = [call for call in calls if name in (None, call.module.name)]
    last = ([call for call in named if call.learned] or named)[-1]
    return calls_of([call for call in named if call.module == last.module])


def calls_of(calls: Sequence[GRUCall]) -> list[GRUCall]:
    """Of the calls of one module, those that make one batch: all that learned with the weights of the last, or the last alone."""
    learned = [call for call in calls if call.learned]
    return [call for call in learned if _same(call.weights, learned[-1].weights)] or [calls[-1]]


def _same(one: WeightSet, other: WeightSet) -> bool:
    """Whether two sets have the same numbers: those of a parametrized module are computed anew for each call."""
    return one is other or all(np.array_equal(value, other.values[name], equal_nan=True) for name, value in one.values.items())
