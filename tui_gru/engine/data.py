"""The inputs of a run: a text cut into batches, or batches that come from a file or a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import compiled
from tui_gru.engine.config import Config, check_memory
from tui_gru.engine.model import Structure
from tui_gru.engine.source import Imported
from tui_gru.engine.text import Text, index_of, picked
from tui_gru.engine.weights import Array, Weights
from tui_gru.equations.syntax import with_word

# ------------------------------------------------------------------------------
# The text of a run, cut into batches of characters.


class Corpus:
    """Inputs and targets of an epoch, as indices into the vocabulary.

    `inputs` and `targets` are (num_batches, T, B). Layout `tutorial` cuts the text into consecutive sequences of T characters;
    each B consecutive sequences are a batch, so row 0 of batch 1 does not continue row 0 of batch 0 unless B is 1. Layout
    `contiguous` cuts the text into B long rows, so that every row continues where it ended in the batch before.
    """

    def __init__(self, config: Config) -> None:
        index = index_of(config.vocabulary)
        ids = np.fromiter((index[char] for char in config.text), np.intp, len(config.text))
        self.text, self.vocabulary = config.text, config.vocabulary
        self.num_batches, self._rows, self._length = config.num_batches, config.batch_size, config.seq_length
        self._contiguous = config.layout == "contiguous"
        self.inputs = self._cut(ids[:-1])  # (num_batches, T, B)
        self.targets = self._cut(ids[1:])  # (num_batches, T, B)

    def _cut(self, ids: NDArray[np.intp]) -> NDArray[np.intp]:
        used = ids[: self.num_batches * self._rows * self._length]
        if self._contiguous:
            batches = used.reshape(self._rows, self.num_batches, self._length).transpose(1, 2, 0)
        else:
            batches = used.reshape(self.num_batches, self._rows, self._length).swapaxes(1, 2)
        cut = np.ascontiguousarray(batches)
        cut.setflags(write=False)
        return cut

    def load(self, record: BatchRecord, batch: int, t: int | slice = slice(None)) -> None:
        """Load the characters of a batch of the epoch into a record as one-hot rows; with `t`, only those timesteps."""
        for name, given in record.compiled.model.page.inputs.items():
            ids = (self.targets if given.target else self.inputs)[batch, t]
            if given.one_hot:
                record.set_one_hot(name, ids, t)
            else:  # a loss such as the squared error compares with the numbers of a one-hot row
                record.array(name)[t] = ids[..., None] == np.arange(len(self.vocabulary))

    def position_in_text(self, batch: int, t: int, row: int) -> int:
        """Return the position of an input character in the text, 0-based; its target is at the next position."""
        sequence = row * self.num_batches + batch if self._contiguous else batch * self._rows + row
        return sequence * self._length + t

    def cell_of(self, position: int) -> tuple[int, int, int] | None:
        """Return the batch, timestep and row that read the character at a position in the text, all 0-based; None if no batch reads
        it."""
        sequence, t = divmod(position, self._length)
        if not 0 <= sequence < self.num_batches * self._rows:
            return None
        row, batch = divmod(sequence, self.num_batches) if self._contiguous else divmod(sequence, self._rows)[::-1]
        return batch, t, row

    def row_text(self, ids: NDArray[np.intp], batch: int, row: int) -> Text:
        """Return the characters of one row of `inputs` or `targets`."""
        return picked(ids[batch, :, row], self.vocabulary)

    def continues(self, batch: int, row: int) -> bool:
        """Return True if a row continues in the text at the position where the same row of the batch before ended."""
        return batch > 0 and self.position_in_text(batch, 0, row) == self.position_in_text(batch - 1, self._length, row)


# ------------------------------------------------------------------------------
# Runs on imported batches, whose weights, inputs, first states and outside gradients come from a file or a recording.


@dataclass(frozen=True)
class ImportedConfig(Config):
    """The config of a run on imported batches. It has no text; each batch begins with its own weights and states."""

    imported: Imported = field(kw_only=True)

    def __repr__(self) -> str:
        batches = "1 batch" if self.num_batches == 1 else f"{self.num_batches} batches"
        return f"<config of {self.source.title}: {batches} of {self.seq_length} timesteps>"

    @classmethod
    def of_source(cls, source: Imported) -> ImportedConfig:
        """Create it from imported batches. Raises `TuiGruError` if the equations do not fit the sizes, or a batch does not fit into
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
            imported=source,
        )
        check_memory(config)
        return config

    @property
    def source(self) -> Imported:
        return self.imported

    @cached_property
    def structure(self) -> Structure:
        return self.source.structure

    @property
    def sizes(self) -> dict[str, int]:
        return dict(self.source.sizes)

    @property
    def vocab_size(self) -> int:
        return self.source.sizes.get("V", 0)

    @property
    def num_batches(self) -> int:
        return len(self.source.batches)


class ImportedCorpus:
    """Loads imported batches into records; replaces `Corpus`."""

    vocabulary = ""

    def __init__(self, config: ImportedConfig) -> None:
        self._batches = config.source.batches
        self.text, self.num_batches = config.source.title, config.num_batches
        page = config.model.page
        self._inputs = page.inputs
        self._outside = with_word(f"d{page.outputs[0]}", "given") if page.outputs else ""

    def load(self, record: BatchRecord, batch: int, t: int | slice = slice(None)) -> None:
        """Load the inputs and outside gradients of a batch into a record; with `t`, load the inputs of those timesteps only."""
        own = self._batches[batch]
        record.loss = own.loss
        for name, declared in self._inputs.items():
            if declared.one_hot:
                record.set_one_hot(name, own.inputs[name][t], t)
            else:
                record.array(name)[t] = own.inputs[name][t]
        if self._outside:
            record.array(self._outside)[...] = 0 if own.outside is None else own.outside
            flows = own.flows or [np.zeros(())] * len(record.flows_in)
            for into, flow in zip(record.flows_in, flows, strict=True):
                into[...] = flow

    def begin(self, batch: int) -> tuple[Weights, Array]:
        """Return the weights and the first states of a batch."""
        own = self._batches[batch]
        return own.weights, own.states

    def computed(self, record: BatchRecord, batch: int) -> None:
        """Pass on the gradients of a batch that has been computed as it was imported."""
        if record.learned:
            self._batches[batch].derived(record.own_gradients)

    def continues(self, batch: int, row: int) -> bool:
        """Return True: imported batches are not cut from one text, so no row is interrupted."""
        return True


def weights_for(structure: Structure, sizes: Mapping[str, int], dtype: str, values: Mapping[str, Array]) -> Weights:
    """Return the weights of a model from arrays by parameter name. Raises `KeyError` for a missing parameter."""
    weights = Weights.zeros(compiled(structure, sizes, dtype).layout, dtype)
    for name, array in weights.items():
        array[...] = values[name]
    return weights
