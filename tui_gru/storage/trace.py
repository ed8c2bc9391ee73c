"""The trace of a run: what the debugger shows of every batch, written exactly as JSON or npz."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from tui_gru import arguments
from tui_gru.debugger.program import program_of
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Config, machine_memory
from tui_gru.engine.numbers import gib
from tui_gru.engine.source import Imported
from tui_gru.engine.training import initial_weights, train
from tui_gru.engine.weights import Array, Weights
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# Exact JSON and npz output of nested numbers and arrays.
#
# JSON has no NaN and no infinities. They are written as the strings "NaN", "Infinity" and "-Infinity", as in the JSON of
# protobuf: the file stays valid JSON, and `float(value)` and `np.array(value, np.float32)` convert these strings back to numbers.


def json_text(value: Any) -> str:
    """Return `value` (mappings, sequences, strings, numbers, float arrays) as one line of JSON; what is masked is null.

    An entry of an array is written as the shortest decimal that reads back as the same number of the array's dtype.
    """
    if isinstance(value, np.ma.MaskedArray):
        return json_text(value.tolist())
    if isinstance(value, (np.ndarray, np.floating)):
        return _array_text(np.asarray(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)}: {json_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(json_text, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return _not_finite(value)
    return json.dumps(value)


def _array_text(array: Array) -> str:
    numbers = array.ravel()
    tokens = list(map(str, numbers))  # the shortest exact decimal; for finite numbers also valid JSON
    for i in np.flatnonzero(~np.isfinite(numbers)).tolist():
        tokens[i] = _not_finite(numbers[i])
    for axis in reversed(range(array.ndim)):
        size, count = array.shape[axis], math.prod(array.shape[:axis])
        tokens = ["[" + ", ".join(tokens[i * size : (i + 1) * size]) + "]" for i in range(count)]
    return tokens[0]


def _not_finite(number: float) -> str:
    return '"NaN"' if math.isnan(number) else '"Infinity"' if number > 0 else '"-Infinity"'


def write_json(out: BinaryIO, head: Mapping[str, Any], name: str, items: Iterable[Mapping[str, Any]]) -> None:
    """Write `{**head, name: [*items]}`, with each entry and each item on its own line. `items` is consumed one at a time."""
    opening = "{"
    for key, value in head.items():
        out.write(f"{opening}{json.dumps(key)}: {json_text(value)}".encode())
        opening = ",\n"
    out.write(f"{opening}{json.dumps(name)}: [".encode())
    opening = "\n"
    for item in items:
        out.write((opening + json_text(item)).encode())
        opening = ",\n"
    out.write(b"\n]}\n")


def stacked(head: Mapping[str, Any], items: Iterable[Mapping[str, Any]], count: int) -> dict[str, Array]:
    """Return `head` and `count` items as arrays; items of equal shapes are stacked along a new first axis.

    Nested names are joined by slashes, `timesteps/z`. Strings become string arrays.
    """
    arrays = {path: np.asarray(value) for path, value in _leaves(head)}
    for i, item in enumerate(items):
        for path, value in _leaves(item):
            if i == 0:
                first = np.asarray(value)
                arrays[path] = np.empty((count, *first.shape), first.dtype)
            arrays[path][i] = value
    return arrays


def write_arrays(out: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write arrays as npz, which has no pickle in it."""
    with zipfile.ZipFile(out, "w") as archive:
        for path, array in arrays.items():
            member = zipfile.ZipInfo(f"{path}.npy")  # dated 1980, so that equal runs give equal bytes
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


# ------------------------------------------------------------------------------
# All values of a run, batch by batch, as arrays, and written as JSON or npz.


FORMAT, VERSION = "tui-gru-trace", 2
Records = Callable[[], Iterator[tuple[int, int, BatchRecord]]]


class Trace:
    """Batches of a run, each with every value of its forward pass.

    With `learn`, each batch also has every delta of its backward pass, its gradients and their norm, and the parameters after its
    update. `head` says which run it is, `records` yields the epoch, the batch and the record of each, both counted from 0, and
    `count` is their number; the weights are those before the first batch of the run.
    """

    def __init__(
        self, config: Config, weights: Weights, head: Mapping[str, Any], records: Records, count: int, *, learn: bool
    ) -> None:
        self.config, self.learn, self.batch_count = config, learn, count
        self._weights, self._run, self._records = weights, head, records
        program = program_of(config)
        self._knows_loss = program.knows_loss
        names = (*program.values, *(program.deltas if learn else ()))
        self._timed = [name for name in names if program.names[name].timed]
        self._once = [name for name in names if not program.names[name].timed]

    @classmethod
    def of_new_run(cls, config: Config, *, epochs: int = 1, from_epoch: int = 0, learn: bool = True) -> Trace:
        """Return the trace of `epochs` epochs from fresh weights, from epoch `from_epoch` (0-based) on.

        Raises `TuiGruError` if the epochs are invalid.
        """
        arguments.integer("epochs", epochs, least=0, option="epochs")
        if not 0 <= from_epoch < max(epochs, 1):
            raise TuiGruError(
                f"from_epoch must be from 0 to {max(epochs, 1) - 1}, not {from_epoch}: epochs count from 0, and epochs is {epochs}",
                option="from_epoch",
            )
        weights = initial_weights(config)

        def records() -> Iterator[tuple[int, int, BatchRecord]]:
            run = train(config, epochs=epochs, learn=learn, weights=weights)
            return (batch for batch in run if batch[0] >= from_epoch)

        count = (epochs - from_epoch) * config.num_batches
        return cls(config, weights, {"epochs": epochs, "from_epoch": from_epoch, "learn": learn}, records, count, learn=learn)

    @classmethod
    def of_timeline(cls, timeline: Timeline, batches: range) -> Trace:
        """Return the trace of finished batches of a run, counted through all epochs, 0-based; with gradients if all of them
        learned."""
        program = timeline.program
        learn = bool(timeline.learned(batches[0], batches[-1]).all())

        def records() -> Iterator[tuple[int, int, BatchRecord]]:
            for batch in batches:
                yield *divmod(batch, program.num_batches), timeline.record(batch)

        head = {"first_batch": batches[0], "batches": len(batches), "learn": learn}
        return cls(program.config, timeline.record(0).before, head, records, len(batches), learn=learn)

    def write_json(self, out: BinaryIO) -> None:
        """Write the trace as JSON, one batch a line, while it is computed; a long run needs no more memory than a short one."""
        write_json(out, self._head(), "batches", map(_by_timestep, self._batches()))

    def write_npz(self, out: BinaryIO) -> None:
        """Write `arrays` as npz, without pickle. Raises `TuiGruError` if they do not fit into memory."""
        write_arrays(out, self.arrays())

    def arrays(self) -> dict[str, Array]:
        """Return the trace as arrays, with the batch as their first axis and the timestep as their second, by the names of the JSON
        joined by slashes, `timesteps/z`. `config` and `run` are JSON text. Raises `TuiGruError` if they do not fit into memory."""
        self._check_memory()
        head = self._head()
        texts = {name: json_text(head[name]) for name in ("config", "run")}
        return stacked(head | texts, self._batches(), self.batch_count)

    def _head(self) -> dict[str, Any]:
        config, source = self.config, self.config.source
        return {
            "format": FORMAT,
            "version": VERSION,
            "config": {"model": source.title, "dtype": source.dtype, **source.sizes}
            if isinstance(source, Imported)
            else config.options,
            "run": self._run,
            "vocabulary": config.vocabulary,
            "initial_parameters": dict(self._weights.items()),
        }

    def _batches(self) -> Iterator[dict[str, Any]]:
        for epoch, batch, record in self._records():
            loss = {"loss": record.loss} if self._knows_loss else {}
            yield {"epoch": epoch, "batch": batch, **loss, **self._arrays(record)}

    def _arrays(self, record: BatchRecord) -> dict[str, Any]:
        """Return the arrays of a batch, (T, …) under `timesteps`; views, valid until the next batch is computed."""
        arrays: dict[str, Any] = {"timesteps": {name: record.array(name) for name in self._timed}}
        arrays |= {name: record.array(name) for name in self._once}
        if self.learn and record.gradients is not None:
            arrays["grad_norm"] = record.grad_norm
            arrays |= {name: number for name, number in record.numbers.items() if name != "grad_norm"}
            arrays["gradients"] = dict(record.gradients.items())
            arrays["parameters"] = dict(record.after.items())
            if states := record.after.layout.state_names:
                arrays["optimizer"] = {name: record.after[name] for name in states}
        return arrays

    def _check_memory(self) -> None:
        size = self.batch_count * self.config.record_bytes
        if size > machine_memory() // 2:
            raise TuiGruError(
                f"{self.batch_count} batches as npz would take {gib(size)}, more than half of this machine's memory; "
                "ask for fewer epochs, a later from_epoch, or json, which is written as it is computed",
                option="epochs",
            )


def _by_timestep(batch: dict[str, Any]) -> dict[str, Any]:
    arrays: dict[str, Any] = batch["timesteps"]
    length = len(next(iter(arrays.values())))
    return batch | {"timesteps": [{"t": t} | {name: array[t] for name, array in arrays.items()} for t in range(length)]}
