"""Runs on given batches, whose weights, inputs, first states and outside gradients come from a file or a recording."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.compiling.compiled import compiled
from tui_gru.engine.config import Config, check_memory
from tui_gru.engine.model import Structure
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Array, Weights
from tui_gru.equations.names import with_word


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


@dataclass(frozen=True)
class GivenConfig(Config):
    """The config of a run on given batches. It has no text; each batch begins with its own weights and states."""

    source: Given | None = None

    def __repr__(self) -> str:
        batches = "1 batch" if self.num_batches == 1 else f"{self.num_batches} batches"
        return f"<config of {self.given.title}: {batches} of {self.seq_length} timesteps>"

    @classmethod
    def of_given(cls, source: Given) -> GivenConfig:
        """Create it from given batches. Raises `TuiGruError` if the equations do not fit the sizes, or a batch does not fit into
        memory."""
        structure, sizes = source.structure, source.sizes
        config = cls(
            text="",
            vocabulary="",
            hidden_size=sizes["H"],
            batch_size=sizes["B"],
            seq_length=sizes["T"],
            carry="reset",
            dtype=source.dtype,
            reset="",
            cell=structure.cell,
            cell_text=structure.cell_text,
            layers=structure.layers,
            bidirectional=structure.bidirectional,
            embedding=sizes.get("D", 0),
            source=source,
        )
        check_memory(config)
        return config

    @property
    def given(self) -> Given:
        assert self.source is not None
        return self.source

    @cached_property
    def structure(self) -> Structure:
        return self.given.structure

    @property
    def sizes(self) -> dict[str, int]:
        return dict(self.given.sizes)

    @property
    def vocab_size(self) -> int:
        return self.given.sizes.get("V", 0)

    @property
    def num_batches(self) -> int:
        return len(self.given.batches)


class GivenCorpus:
    """Loads given batches into records; replaces `Corpus`."""

    vocabulary = ""

    def __init__(self, config: Config) -> None:
        assert config.given is not None
        self.given = config.given
        self.text, self.num_batches = self.given.title, config.num_batches
        page = config.model.page
        self._inputs = page.inputs
        self._outside = with_word(f"d{page.outputs[0]}", "given") if page.outputs else ""

    def load(self, record: BatchRecord, batch: int, t: int | slice = slice(None)) -> None:
        """Load the inputs and outside gradients of a batch into a record; with `t`, load the inputs of those timesteps only."""
        given = self.given.batches[batch]
        record.loss = given.loss
        for name, declared in self._inputs.items():
            if declared.one_hot:
                record.set_one_hot(name, given.inputs[name][t], t)
            else:
                record.array(name)[t] = given.inputs[name][t]
        if self._outside:
            record.array(self._outside)[...] = 0 if given.outside is None else given.outside
            flows = given.flows or [np.zeros(())] * len(record.flows_in)
            for into, flow in zip(record.flows_in, flows, strict=True):
                into[...] = flow

    def begin(self, batch: int) -> tuple[Weights, Array]:
        """Return the weights and the first states of a batch."""
        given = self.given.batches[batch]
        return given.weights, given.states

    def computed(self, record: BatchRecord, batch: int) -> None:
        """Pass on the gradients of a batch that has been computed as it was given."""
        if record.learned:
            self.given.batches[batch].derived(record.own_gradients)

    def continues(self, batch: int, row: int) -> bool:
        """Return True: given batches are not cut from one text, so no row is interrupted."""
        return True


def weights_for(structure: Structure, sizes: Mapping[str, int], dtype: str, values: Mapping[str, Array]) -> Weights:
    """Return the weights of a model from arrays by parameter name. Raises `KeyError` for a missing parameter."""
    weights = Weights.zeros(compiled(structure, sizes, dtype).layout, dtype)
    for name, array in weights.items():
        array[...] = values[name]
    return weights
