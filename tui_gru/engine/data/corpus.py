"""The text of a run, cut into batches of characters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.config import Config
from tui_gru.engine.data.tokens import Text, index_of, picked
from tui_gru.engine.running.batch import BatchRecord


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
            record.set_one_hot(name, (self.targets if given.target else self.inputs)[batch, t], t)

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
