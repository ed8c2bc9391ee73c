"""Runs whose batches come from elsewhere: the weights, inputs, first states and outside gradients of each batch are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import compiled
from tui_gru.engine.config import Config, check_memory
from tui_gru.engine.model import Structure
from tui_gru.engine.weights import Array, Weights
from tui_gru.equations.names import with_word


@dataclass(frozen=True, eq=False)
class GivenBatch:
    """What one batch begins with.

    `inputs` has every input of the model by name: numbers (T, B, I), a mask (T, B) or (T, B, ·), and whole numbers (T, B) for a
    one-hot input. `states` are the first states, one behind the other, flat. `outside` (T, B, ·) is the gradient of the model's
    output, and `flows` has that of each last state (B, ·), both None where none came. What its owner computed, None where that is
    not known: `expected` (T, B, ·), the output, which may be off by `tolerance`, relative to the largest; `loss`; and `recorded`,
    the gradients that the optimizer used, with its `settings`. `said` is what there is to say of how those came about.
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
    said: Callable[[], str] = str


@dataclass(frozen=True, eq=False)
class Given:
    """Batches of one model, all of the same sizes. `batches` may read each one when it is asked for.

    `title` says in a few words what it is, `origin` where the weights are from, such as `model.pt`, and `inputs_from` the inputs.
    `learns`: gradients from outside are given, so that there is a backward pass; there is never an update. `knows_loss`: its owner
    said what the loss of its batches was. `fixed` is the sentence for whoever wants to train on. `places` name where each batch
    comes from, such as `step 300`, and `steps` are the numbers of those of a recording. `numbers` (batches, 3) has loss, gradient
    norm and largest weight where they are known beforehand, NaN for what is not. Of a model file, `reading` is the place of the
    reset gate and the meaning of z, and `again` reads it with others, given an output to compare with, and says what it is then.
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


@dataclass(frozen=True)
class GivenConfig(Config):
    """The config of a run on given batches: it has no text, and each batch begins with its own weights and states."""

    source: Given | None = None

    @classmethod
    def of_given(cls, source: Given) -> GivenConfig:
        """Raises `TuiGruError` where the equations do not fit the sizes, or a batch does not fit into memory."""
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
    """Puts given batches into records; in the place of a `Corpus`."""

    vocabulary = ""

    def __init__(self, config: Config) -> None:
        assert config.given is not None
        self.given = config.given
        self.text, self.num_batches = self.given.title, config.num_batches
        page = config.model.page
        self._inputs = page.inputs
        self._outside = with_word(f"d{page.outputs[0]}", "given") if page.outputs else ""

    def load(self, record: BatchRecord, batch: int, t: int | slice = slice(None)) -> None:
        """Put what a batch reads, and the gradients from outside, into a record; of the inputs one timestep only where `t` is
        given."""
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
        """The weights and the first states of a batch."""
        given = self.given.batches[batch]
        return given.weights, given.states

    def continues(self, batch: int, row: int) -> bool:
        """Given batches are not cut from one text, so that no row goes on or breaks off."""
        return True


def weights_for(structure: Structure, sizes: Mapping[str, int], dtype: str, values: Mapping[str, Array]) -> Weights:
    """Weights of a model from arrays under its names. Raises `KeyError` for a parameter that has none."""
    weights = Weights.zeros(compiled(structure, sizes, dtype).layout, dtype)
    for name, array in weights.items():
        array[...] = values[name]
    return weights
