"""Writes a run to a file without a screen: all values, batch by batch, as JSON or npz."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, BinaryIO

from tui_gru.debugger.program.line_table import program_of
from tui_gru.engine import formats
from tui_gru.engine.config import Config, machine_memory
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.numbers import gib
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.initial import initial_weights
from tui_gru.engine.running.trainer import check_epochs, train

FORMAT, VERSION = "tui-gru-trace", 2


class Trace:
    """A run of `epochs` epochs from fresh weights, written from epoch `from_epoch` (0-based) on.

    With `learn`, each batch also has every delta of its backward pass, its gradients and their norm, and the parameters after its
    update. Raises `TuiGruError` if the epochs are invalid.
    """

    def __init__(self, config: Config, *, epochs: int = 1, from_epoch: int = 0, learn: bool = True) -> None:
        check_epochs(epochs)
        if not 0 <= from_epoch < max(epochs, 1):
            raise TuiGruError(
                f"from_epoch must be from 0 to {max(epochs, 1) - 1}, not {from_epoch}: epochs count from 0, and epochs is {epochs}",
                option="from_epoch",
            )
        self.config, self.epochs, self.from_epoch, self.learn = config, epochs, from_epoch, learn
        self._weights = initial_weights(config)
        program = program_of(config)
        self._knows_loss = program.knows_loss
        names = (*program.values, *(program.deltas if learn else ()))
        self._timed = [name for name in names if program.names[name].timed]
        self._once = [name for name in names if not program.names[name].timed]

    @property
    def batch_count(self) -> int:
        """The number of batches that are written."""
        return (self.epochs - self.from_epoch) * self.config.num_batches

    def write_json(self, out: BinaryIO) -> None:
        """Write the trace as JSON, one batch a line, while it is computed; a long run needs no more memory than a short one."""
        formats.write_json(out, self._head(), "batches", map(_by_timestep, self._batches()))

    def write_npz(self, out: BinaryIO) -> None:
        """Write the trace as npz, with the same names. Arrays have the batch as their first axis and the timestep as their second.

        `config` and `run` are JSON text. Raises `TuiGruError` if the arrays do not fit into memory.
        """
        self._check_memory()
        head = self._head()
        texts = {name: formats.json_text(head[name]) for name in ("config", "run")}
        formats.write_npz(out, head | texts, self._batches(), self.batch_count)

    def _head(self) -> dict[str, Any]:
        config, given = self.config, self.config.given
        return {
            "format": FORMAT,
            "version": VERSION,
            "config": asdict(config) if given is None else {"model": given.title, "dtype": given.dtype, **given.sizes},
            "run": {"epochs": self.epochs, "from_epoch": self.from_epoch, "learn": self.learn},
            "vocabulary": config.vocabulary,
            "initial_parameters": dict(self._weights.items()),
        }

    def _batches(self) -> Iterator[dict[str, Any]]:
        for epoch, batch, record in train(self.config, epochs=self.epochs, learn=self.learn, weights=self._weights):
            if epoch >= self.from_epoch:
                loss = {"loss": record.loss} if self._knows_loss else {}
                yield {"epoch": epoch, "batch": batch, **loss, **self._arrays(record)}

    def _arrays(self, record: BatchRecord) -> dict[str, Any]:
        """Return the arrays of a batch, (T, …) under `timesteps`; views, valid until the next batch is computed."""
        arrays: dict[str, Any] = {"timesteps": {name: record.array(name) for name in self._timed}}
        arrays |= {name: record.array(name) for name in self._once}
        if record.gradients is not None:
            arrays["grad_norm"] = record.grad_norm
            arrays |= {name: number for name, number in record.numbers.items() if name != "grad_norm"}
            arrays["gradients"] = dict(record.gradients.items())
            arrays["parameters"] = dict(record.after.items())
            if kept := record.after.layout.state_names:
                arrays["optimizer"] = {name: record.after[name] for name in kept}
        return arrays

    def _check_memory(self) -> None:
        needed = self.batch_count * self.config.record_bytes
        if needed > machine_memory() // 2:
            raise TuiGruError(
                f"{self.batch_count} batches as npz would take {gib(needed)}, more than half of this machine's memory; "
                "ask for fewer epochs, a later from_epoch, or json, which is written as it is computed",
                option="epochs",
            )


def _by_timestep(batch: dict[str, Any]) -> dict[str, Any]:
    arrays: dict[str, Any] = batch["timesteps"]
    length = len(next(iter(arrays.values())))
    return batch | {"timesteps": [{"t": t} | {name: array[t] for name, array in arrays.items()} for t in range(length)]}
