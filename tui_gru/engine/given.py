"""Batches whose weights, inputs, first states and outside gradients come from a file or a recording."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.model import Structure
from tui_gru.engine.weights import Array, Weights


@dataclass(frozen=True, eq=False)
class GivenBatch:
    """The data of one batch.

    `inputs` has every input of the model by name: numbers (T, B, I), a mask (T, B) or (T, B, ·), or whole numbers (T, B) for a
    one-hot input. `states` are the first states, flattened and concatenated. `outside` (T, B, ·) is the gradient of the model's
    output and `flows` has the gradient of each last state (B, ·); both are None if there are none. `expected` (T, B, ·) is the
    output of the original run, which may differ by `tolerance` relative to its largest entry; `loss` is its loss; `recorded` has
    the gradients that the optimizer used, and `settings` its settings. They are None or NaN if unknown. `remarks` returns
    sentences on how the gradients were computed; it may use the gradients that `derived` has received, since it is called with
    them when the batch has been computed as it was given.
    """

    weights: Weights
    inputs: Mapping[str, Array]
    states: Array
    outside: Array | None = None
    flows: Sequence[Array] | None = None
    expected: Array | None = None
    loss: float = math.nan
    tolerance: float | None = None
    recorded: Weights | None = None
    settings: Mapping[str, float] = field(default_factory=dict)
    remarks: Callable[[], str] = str
    derived: Callable[[Weights], None] = lambda gradients: None


@dataclass(frozen=True, eq=False)
class Given:
    """Batches of one model, all of the same sizes. `batches` may load each batch when it is accessed.

    `title` describes the run in a few words; `origin` names the source of the weights, such as `model.pt`, and `inputs_from` that
    of the inputs. `learns` is True if gradients from outside are given, so that there is a backward pass; there is never an update.
    `knows_loss` is True if the original run reported its losses. `fixed` is the message that answers a request to train further.
    `places` names the origin of each batch, such as `step 300`; `steps` has the step numbers of a recording. `numbers` (batches, 3)
    has the loss, gradient norm and largest weight of each batch, NaN if unknown.

    For batches that stay in a recording, `identity` returns JSON that says where the recording is and how to recognise it. For a
    model file, `reading` has the place of the reset gate and the meaning of z; `again` reads the file in another way, compares the
    result with an output, and returns the new data and a sentence about the comparison.
    """

    title: str
    origin: str
    inputs_from: str
    structure: Structure
    sizes: Mapping[str, int]
    dtype: str
    batches: Sequence[GivenBatch]
    fixed: str
    learns: bool = False
    knows_loss: bool = False
    places: Sequence[str] = ()
    steps: tuple[int, ...] = ()
    reading: tuple[str, str] = ("", "")
    again: Callable[[str | None, str | None, Array], tuple[Given, str]] | None = None
    numbers: NDArray[np.float64] | None = None
    identity: Callable[[], Mapping[str, Any]] | None = None
