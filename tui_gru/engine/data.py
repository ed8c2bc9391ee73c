"""The inputs of a run: a text or series of numbers, checked and cut into batches, or batches of a file or a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tui_gru import errors
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import compiled
from tui_gru.engine.config import (
    LEARNS,
    Classes,
    Config,
    Text,
    check_memory,
    check_options,
    check_run,
    checked_options,
    index_of,
    picked,
)
from tui_gru.engine.model import Structure
from tui_gru.engine.numbers import counted
from tui_gru.engine.source import Imported, Series
from tui_gru.engine.weights import Array, Weights
from tui_gru.equations.syntax import with_word
from tui_gru.errors import TuiGruError

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
        self.inputs = cut_into_batches(ids[None, :-1], config)  # (num_batches, T, B)
        self.targets = cut_into_batches(ids[None, 1:], config)  # (num_batches, T, B)

    def load(self, record: BatchRecord, batch: int, t: int | slice = slice(None)) -> None:
        """Load the characters of a batch of the epoch into a record as one-hot rows; with `t`, only those timesteps."""
        for name, variable in record.compiled.model.page.inputs.items():
            record.set_one_hot(name, (self.targets if variable.target else self.inputs)[batch, t], t)

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


def cut_into_batches(series: NDArray[Any], config: Config) -> NDArray[Any]:
    """Return R series of N timesteps, (R, N, …), cut into read-only batches (num_batches, T, B, …).

    Layout `tutorial` cuts them into sequences of T timesteps, one series after the other; each B consecutive sequences are a
    batch. Layout `contiguous` cuts a single series into B long rows, and takes B of several series at a time; every row then
    continues where it ended in the batch before, until the next B series begin.
    """
    T, B, (R, N), rest = config.seq_length, config.batch_size, series.shape[:2], series.shape[2:]
    if config.layout != "contiguous":
        pieces = series[:, : N // T * T].reshape(-1, T, *rest)
        batches = pieces[: len(pieces) // B * B].reshape(-1, B, T, *rest).swapaxes(1, 2)
    else:
        if R == 1:
            series = series[0, : N // T // B * T * B].reshape(B, -1, *rest)
        long = series[:, : series.shape[1] // T * T]
        batches = np.moveaxis(long.reshape(len(long) // B, B, -1, T, *rest), 1, 3)  # (groups of series, P, T, B, …)
        batches = batches.reshape(-1, *batches.shape[2:])
    cut = np.ascontiguousarray(batches)
    cut.setflags(write=False)
    return cut


# ------------------------------------------------------------------------------
# Runs on series of numbers.


@dataclass(frozen=True)
class SeriesConfig(Config):
    """The config of a run on series of numbers, which has no text; its vocabulary has the classes, if the targets are classes."""

    series: Series = field(kw_only=True)

    def __repr__(self) -> str:
        return f"<config of {self.source.title}>"

    @classmethod
    def of_series(cls, series: Series, **options: Any) -> SeriesConfig:
        """Return a checked config; missing options get the defaults of a text of your own, and those of sizes that follow from the
        series: several are one batch, in one piece. Raises a `TuiGruError` that names the option and says what to do."""
        count, length, _ = series.shape
        defaults: dict[str, Any] = {**LEARNS, "loss": "cross-entropy" if series.classes else "squared-error"}
        if count > 1:
            defaults |= {"batch_size": count, "seq_length": length}
        vocabulary = Classes(map(str, range(series.classes)))
        config = cls(text="", vocabulary=vocabulary, series=series, **checked_options(options, defaults))
        _check_series(config)
        check_run(config)
        return config

    @property
    def options(self) -> dict[str, Any]:
        return {name: value for name, value in super().options.items() if name not in ("text", "vocabulary")}

    def with_options(self, options: Mapping[str, Any]) -> SeriesConfig:
        return SeriesConfig.of_series(self.series, **options)

    @property
    def source(self) -> Series:
        return self.series

    @cached_property
    def structure(self) -> Structure:
        return replace(super().structure, input="dense")

    @property
    def sizes(self) -> dict[str, int]:
        return {**super().sizes, "V": self.vocab_size, "I": self.series.shape[2]}

    @property
    def vocab_size(self) -> int:
        return self.series.classes or int(self.series.targets.shape[2])

    @property
    def num_batches(self) -> int:
        count, length, _ = self.series.shape
        if count > 1 and self.layout == "contiguous":
            return count // self.batch_size * (length // self.seq_length)
        return count * (length // self.seq_length) // self.batch_size

    def carried_batches(self, batch: int) -> int:
        count, length, _ = self.series.shape
        if count > 1 and self.layout == "contiguous":
            batch %= length // self.seq_length  # the next series begin
        return super().carried_batches(batch)


def _check_series(config: SeriesConfig) -> None:
    """Raise `TuiGruError` for sizes or options that do not fit the series."""
    count, length, _ = config.series.shape
    T, B = config.seq_length, config.batch_size
    if config.embedding:
        raise TuiGruError("an embedding is a table of characters, but the input has numbers; leave it out", option="embedding")
    if length < T:
        raise TuiGruError(
            f"the input has {length:,} timesteps, fewer than a batch of {T:,}; use longer series, or a smaller seq_length",
            option="seq_length",
        )
    if config.layout == "contiguous" and count > 1:
        if count % B:
            raise TuiGruError(
                f"{count:,} series cannot be divided into batches of {B:,} rows; use a batch_size that divides {count:,}, or "
                "layout tutorial",
                option="batch_size",
            )
        if config.carry == "notebook" and count > B:
            raise TuiGruError(
                f"carry notebook continues the gradient into the epoch's earlier batches, but after {B:,} of {count:,} series the "
                f"next begin; use carry detach or reset, or batch_size {count}",
                option="carry",
            )
    if not config.num_batches:
        raise TuiGruError(
            f"the input has {count * length:,} timesteps; {B:,} rows of {T:,} timesteps need {B * T:,} (batch_size x seq_length): "
            "use longer series or smaller sizes",
            option="batch_size",
        )
    target = config.model.page.inputs[config.model.target]
    if target.one_hot and not config.series.classes:
        raise TuiGruError(
            f"the loss {config.loss} compares with classes, whole numbers from 0 in an array of integers, but the target has the "
            f"type {config.series.targets.dtype}; convert it, or use another loss, such as squared-error",
            option="target",
        )
    if not target.one_hot and config.series.classes:
        raise TuiGruError(
            f"the loss {config.loss} compares with numbers, but the target has whole numbers, which are classes; convert it to "
            "float, or use another loss, such as cross-entropy",
            option="target",
        )


class SeriesCorpus:
    """Inputs and targets of an epoch of series of numbers; replaces `Corpus`. `inputs` is (num_batches, T, B, I), `targets`
    (num_batches, T, B, V), or (num_batches, T, B) if they are classes."""

    def __init__(self, config: SeriesConfig) -> None:
        self.text, self.vocabulary, self.num_batches = config.source.title, config.vocabulary, config.num_batches
        self.inputs = cut_into_batches(config.series.inputs, config)
        self.targets = cut_into_batches(config.series.targets, config)
        count, self._length, _ = config.series.shape
        self._several = count > 1
        self._places = cut_into_batches(np.arange(count * self._length).reshape(count, -1), config)

    def load(self, record: BatchRecord, batch: int, t: int | slice = slice(None)) -> None:
        """Load the numbers of a batch of the epoch into a record; with `t`, only those timesteps."""
        for name, declared in record.compiled.model.page.inputs.items():
            values = (self.targets if declared.target else self.inputs)[batch, t]
            if declared.one_hot:
                record.set_one_hot(name, values, t)
            else:
                record.array(name)[t] = values

    def place(self, batch: int, t: int, row: int) -> str:
        """Return where a timestep of a row is in the series, in words."""
        series, step = divmod(int(self._places[batch, t, row]), self._length)
        return f"timestep {step + 1:,} of series {series + 1:,}" if self._several else f"timestep {step + 1:,} of the series"

    def continues(self, batch: int, row: int) -> bool:
        """Return True if a row continues in its series at the timestep where the same row of the batch before ended."""
        before, start = self._places[batch - 1, -1, row], self._places[batch, 0, row]
        return batch > 0 and int(start) == int(before) + 1 and int(start) % self._length > 0


# ------------------------------------------------------------------------------
# Runs on imported batches, whose weights, inputs, first states and outside gradients come from a file or a recording.


@dataclass(frozen=True)
class ImportedConfig(Config):
    """The config of a run on imported batches. It has no text; each batch begins with its own weights and states."""

    imported: Imported = field(kw_only=True)

    def __repr__(self) -> str:
        return f"<config of {self.source.title}: {counted(self.num_batches, 'batch')} of {self.seq_length} timesteps>"

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
        self._upstream = page.outputs

    def load(self, record: BatchRecord, batch: int, t: int | slice = slice(None)) -> None:
        """Load the inputs and outside gradients of a batch into a record; with `t`, load the inputs of those timesteps only."""
        imported = self._batches[batch]
        record.loss = imported.loss
        for name, declared in self._inputs.items():
            if declared.one_hot:
                record.set_one_hot(name, imported.inputs[name][t], t)
            else:
                record.array(name)[t] = imported.inputs[name][t]
        for name in self._upstream:
            upstream = imported.upstream if name == self._upstream[0] else imported.inner.get(name)
            record.array(with_word(f"d{name}", "given"))[...] = 0 if upstream is None else upstream
        if self._upstream:
            flows = imported.flows or [np.zeros(())] * len(record.flows_in)
            for into, flow in zip(record.flows_in, flows, strict=True):
                into[...] = flow

    def begin(self, batch: int) -> tuple[Weights, Array]:
        """Return the weights and the first states of a batch."""
        imported = self._batches[batch]
        return imported.weights, imported.states

    def computed(self, record: BatchRecord, batch: int) -> None:
        """Pass on the gradients of a batch that has been computed as it was imported."""
        if record.learned:
            self._batches[batch].derived(record.own_gradients)

    def continues(self, batch: int, row: int) -> bool:
        """Return True: imported batches are not cut from one text, so no row is interrupted."""
        return True


AnyCorpus: TypeAlias = Corpus | SeriesCorpus | ImportedCorpus


def weights_for(structure: Structure, sizes: Mapping[str, int], dtype: str, values: Mapping[str, Array]) -> Weights:
    """Return the weights of a model from arrays by parameter name. Raises `KeyError` for a missing parameter."""
    weights = Weights.zeros(compiled(structure, sizes, dtype).layout, dtype)
    for name, array in weights.items():
        array[...] = values[name]
    return weights


# ------------------------------------------------------------------------------
# Series of numbers with their targets, from arrays or .npy files, checked.


#: The most classes of a target: a larger whole number is taken for another mistake.
MOST_CLASSES = 100_000


def config_from(options: Mapping[str, Any]) -> Config:
    """Return the checked config of a run: on `input` and `target`, or on a text. Raises `TuiGruError`."""
    others = dict(options)
    arrays = {name: others.pop(name) for name in ("input", "target") if others.get(name) is not None}
    others = {name: value for name, value in others.items() if name not in ("input", "target")}
    if not arrays:
        return Config.of(**others)
    for name, other in (("input", "target"), ("target", "input")):
        if name not in arrays:
            raise TuiGruError(f"{other} is given without {name}; give both, as arrays or .npy files", option=other)
    for name in ("text", "vocabulary"):
        if others.pop(name, None) is not None:
            raise TuiGruError(
                f"{name} belongs to a text, but the run reads numbers; leave out {name}, or input and target", option=name
            )
    check_options(others, "input", "target")
    return SeriesConfig.of_series(series_of(arrays["input"], arrays["target"], others.get("dtype", Config.dtype)), **others)


def series_of(inputs: Any, targets: Any, dtype: str = Config.dtype) -> Series:
    """Return checked series from arrays or names of .npy files.

    `inputs` are (time, features), one series; (rows, time, features), several; or (time), one series of one number. `targets` have
    the same first axes: numbers with one more axis for several outputs, or whole numbers, which are classes counted from 0. Raises
    a `TuiGruError` about `input` or `target` for other shapes or types, for numbers that are not finite, and for those that the
    `dtype` of the run cannot hold.
    """
    from tui_gru.files.tensors import array_of  # only a run on numbers needs it

    x, y = array_of(inputs, "input"), array_of(targets, "target")
    if not 1 <= x.ndim <= 3:
        raise TuiGruError(
            f"the input has the shape {x.shape}; give (time, features) for one series, or (rows, time, features) for several",
            option="input",
        )
    x = x[:, None] if x.ndim == 1 else x
    if not x.size:
        raise TuiGruError(
            f"the input has the shape {x.shape}, so it is empty; give at least one timestep of a number", option="input"
        )
    first = x.shape[:-1]
    if y.shape[: len(first)] != first or y.ndim - len(first) not in (0, 1) or not y.size:
        turned = y.ndim >= 2 and len(first) == 2 and y.shape[:2] == first[::-1]
        axes = ", ".join(map(str, first))
        hint = "; swap its first two axes" if turned else ""
        raise TuiGruError(
            f"the target has the shape {y.shape}, but the input has {x.shape}; give one target for each timestep, "
            f"({axes},) or ({axes}, outputs){hint}",
            option="target",
        )
    is_class = y.dtype.kind in "iub" and y.ndim == len(first)
    _check_finite(x, "input", dtype)
    if is_class:
        _check_classes(y)
    else:
        _check_finite(y, "target", dtype)
        y = y[..., None] if y.ndim == len(first) else y
    x, y = (array[None] if len(first) == 1 else array for array in (x, y))
    numbers = y.astype(np.intp) if is_class else _stored(y)
    numbers.setflags(write=False)
    stored_inputs = _stored(x)
    stored_inputs.setflags(write=False)
    return Series(stored_inputs, numbers, int(y.max()) + 1 if is_class else 0)


def _stored(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy in float32 or float64."""
    return array.astype(np.float32 if array.dtype in (np.float16, np.float32) else np.float64)


def _check_finite(array: NDArray[Any], name: str, dtype: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        wrong = ~np.isfinite(array.astype(dtype if dtype in ("float32", "float64") else "float64"))
    if not wrong.any():
        return
    place = np.unravel_index(int(np.argmax(wrong)), array.shape)
    value = array[place]
    where = f"{name}[{', '.join(map(str, place))}]"
    count = int(wrong.sum())
    more = f", and {count - 1:,} more" if count > 1 else ""
    if np.isfinite(value):
        raise TuiGruError(f"{where} is {value:g}{more}, too large for {dtype}; use dtype float64, or smaller numbers", option=name)
    raise TuiGruError(f"{where} is {value:g}{more}; give finite numbers only", option=name)


def _check_classes(array: NDArray[Any]) -> None:
    for wrong, words in (
        (array < 0, "classes are whole numbers from 0"),
        (array >= MOST_CLASSES, f"there can be {MOST_CLASSES:,} classes; convert numbers to float"),
    ):
        if wrong.any():
            place = np.unravel_index(int(np.argmax(wrong)), array.shape)
            where = ", ".join(map(str, place))
            raise TuiGruError(f"target[{where}] is {errors.shown(int(array[place]))}; {words}", option="target")


def has_numbers(config: Config, options: Mapping[str, Any]) -> bool:
    """Return True if `input` and `target` of these options are the numbers of a run. Raises `TuiGruError` if they are invalid."""
    if not isinstance(config, SeriesConfig) or not {"input", "target"} <= options.keys():
        return False
    other = series_of(options["input"], options["target"], config.dtype)
    return np.array_equal(other.inputs, config.series.inputs) and np.array_equal(other.targets, config.series.targets)
