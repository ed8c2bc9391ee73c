"""Reads the GRUs, LSTMs and simple RNNs of Keras files, of versions 2 and 3."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tui_gru.equations.functions import HARD_SLOPE, STATE_FUNCTIONS, gate_named
from tui_gru.errors import ModelFileError, printable
from tui_gru.files.arrays import AnyArray, FileFormat, FileLayers, FoundGRU, OpenedFile, Tensor
from tui_gru.files.hdf5 import Tree, read_tree
from tui_gru.files.kinds import LSTM, RNN, Blocks, Convention
from tui_gru.files.matching import CellArrays, NotAGRUError, stack, stacked_cell

# ------------------------------------------------------------------------------
# Detection of the recurrent layers in the weights of a Keras model, by paths, shapes and the model's configuration.
#
# Paths of Keras 3 are `layers/<class>/cell/vars/0,1,2` (kernel, recurrent kernel, bias, by position); the layer's own name is an
# attribute. Paths of legacy h5 are `model_weights/<layer>/…/kernel`, `recurrent_kernel`, `bias`, with or without `:0`.


GRU = Convention("zrn")  # of an LSTM, Keras writes i f c o for the gates i f g o
KERNELS = ("kernel", "recurrent_kernel", "bias")
FORWARD, BACKWARD = re.compile(r"forward_.*"), re.compile(r"backward_.*")
GENERATED = re.compile(r"(?:(?:gru|lstm|simple_rnn)_)?cell(?:_\d+)?")  # Keras's own names for the cell in a layer
CLASSES = {"GRU", "GRUCell", "CuDNNGRU", "LSTM", "LSTMCell", "CuDNNLSTM", "SimpleRNN", "SimpleRNNCell"}


@dataclass(frozen=True)
class CellPath:
    """The place of a cell: its path in the file, its names from the outermost layer to the cell itself, and its arrays."""

    path: tuple[str, ...]
    names: tuple[str, ...]
    arrays: tuple[Tensor, ...]

    @property
    def direction(self) -> int | None:
        """The index in `path` of the direction of a bidirectional layer; None for other layers."""
        return next((i for i, part in enumerate(self.path) if FORWARD.fullmatch(part) or BACKWARD.fullmatch(part)), None)

    @property
    def backward(self) -> bool:
        return self.direction is not None and bool(BACKWARD.fullmatch(self.path[self.direction]))

    @property
    def layer(self) -> tuple[str, ...]:
        """The path of the layer, without the direction and the cell."""
        return self.path if self.direction is None else self.path[: self.direction]


def keras_recurrent(tree: Tree, config: Any, version: str, format_name: str, path: Path) -> FileLayers:
    """Find the recurrent layers in `tree`.

    `config` is the model's configuration or None; `version` is the version of Keras, or "".
    """
    layers: dict[tuple[str, ...], list[CellPath]] = {}
    for place in (*_places_3(tree), *_legacy_places(tree)):
        layers.setdefault(place.layer, []).append(place)
    configs = Configs(config, version)
    layers_read, refused = [], []
    for places in sorted(layers.values(), key=lambda places: configs.rank(places[0])):
        name = printable(_name(places[0]))
        try:
            layers_read.append(replace(_layer(name, places, configs), format=format_name, path=path))
        except NotAGRUError as error:
            refused.append(f"{name}: {error}")
    return FileLayers(tuple(layers_read), tuple(refused))


def _places_3(tree: Tree) -> Iterator[CellPath]:
    for name in tree.tensors:
        if not name.endswith("/vars/0"):
            continue
        path = tuple(name.removesuffix("/vars/0").split("/"))
        arrays = [tree.tensors.get(f"{'/'.join(path)}/vars/{i}") for i in range(4)]
        groups = ["/".join(path[: i + 1]) for i in range(len(path))]
        names = tuple(tree.texts.get((f"{group}/vars", "name"), part) for group, part in zip(groups, path, strict=True))
        recurrent = any(part == "cell" for part in path) or re.search("gru|lstm|rnn", names[-1])
        if recurrent and arrays[1] and not arrays[3] and len(arrays[0].shape if arrays[0] else ()) == 2:
            skipped = 1 if path[0] in ("layers", "_layer_checkpoint_dependencies") else 0
            yield CellPath(path, names[skipped:], tuple(array for array in arrays if array))


def _legacy_places(tree: Tree) -> Iterator[CellPath]:
    for name in tree.tensors:
        group, _, leaf = name.rpartition("/")
        if leaf.removesuffix(":0") != "recurrent_kernel" or name.startswith("optimizer_weights/"):
            continue
        suffix = leaf.removeprefix("recurrent_kernel")
        arrays = [tree.tensors.get(f"{group}/{kernel}{suffix}") for kernel in KERNELS]
        path = tuple(part for part in group.split("/") if part != "model_weights")
        if arrays[0]:
            yield CellPath(path, path, tuple(array for array in arrays if array))


def _name(place: CellPath) -> str:
    """Return the name of the layer; for one of several cells stacked in a layer, also the name of the cell."""
    outer = place.names[: len(place.names) - (len(place.path) - len(place.layer))] or place.names
    if "cells" in place.path or any(part.startswith("stacked_rnn_cells") for part in place.path):
        return f"{outer[0]}/{place.names[-1]}"
    return next((name for name in reversed(outer) if not GENERATED.fullmatch(name)), outer[0])


class Configs:
    """The configuration of a model, by layer."""

    def __init__(self, config: Any, version: str) -> None:
        self.version = version
        self.major = int(version[0]) if version[:1].isdigit() else 3
        self._named: dict[str, dict[str, Any]] = {}
        for entry in _entries(config):
            self._named.setdefault(str(entry["config"].get("name")), entry)
        self._order = {name: i for i, name in enumerate(self._named)}
        self._inside: dict[str, list[dict[str, Any]]] = {}

    def rank(self, place: CellPath) -> int:
        """Return the position of the layer in the model."""
        return next((self._order[name] for name in place.names if name in self._order), len(self._order))

    def of(self, place: CellPath) -> dict[str, Any] | None:
        """Return the entry of the layer at `place`: that of the innermost layer whose name is in the configuration; the name of the
        cell itself is tried last."""
        *outer, cell_name = place.names
        for name in (*reversed(outer), cell_name):
            if entries := self._recurrent(name):
                named = [entry for entry in entries if entry["config"].get("name") in place.names]
                same = all(_settings(entry) == _settings(entries[0]) for entry in entries)
                return named[0] if len(named) == 1 else entries[0] if same else None
        return None

    def _recurrent(self, name: str) -> list[dict[str, Any]]:
        """Return the entries of recurrent layers in the layer of that name, itself included."""
        if name not in self._inside:
            entries = _entries(self._named.get(name))
            self._inside[name] = [entry for entry in entries if entry["class_name"] in CLASSES]
        return self._inside[name]


def _entries(config: Any) -> Iterator[dict[str, Any]]:
    """Yield every {"class_name": …, "config": {…}} in `config`, outermost first."""
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if isinstance(item.get("class_name"), str) and isinstance(item.get("config"), dict):
                yield item
            waiting.extend(reversed(item.values()))
        elif isinstance(item, list):
            waiting.extend(reversed(item))


def _settings(entry: dict[str, Any]) -> list[Any]:
    config = entry["config"]
    return [
        entry["class_name"],
        *(config.get(key) for key in ("activation", "recurrent_activation", "inner_activation", "reset_after")),
    ]


def _layer(name: str, places: list[CellPath], configs: Configs) -> FoundGRU:
    cells, readings = {}, []
    for place in places:
        cell = _cell(place)
        entry = configs.of(place)
        convention, evidence, warning = _convention(cell, entry, configs, cudnn=_is_cudnn(place))
        backwards = entry is not None and bool(entry["config"].get("go_backwards")) and place.direction is None
        if backwards:
            evidence += "; it reads backwards, and Keras gives its outputs with the last step first"
        readings.append((convention, evidence, warning))
        cells[0, place.backward or backwards] = cell
    convention, evidence, warning = readings[0]
    if len({reading[0] for reading in readings}) > 1 or len(cells) < len(places):
        raise NotAGRUError("its two directions have different conventions; they cannot be opened as one")
    return stack(name, cells, convention, evidence, warning, batch_first=True)


def _cell(place: CellPath) -> CellArrays:
    kernel, recurrent, *bias = place.arrays
    cell = stacked_cell(kernel, recurrent, bias[0] if bias else None, None, None, "", by_rows=False)
    return replace(cell, read=lambda: _from_cudnn(cell.read())) if _is_cudnn(place) else cell


def _is_cudnn(place: CellPath) -> bool:
    """Return True for a CuDNNGRU or CuDNNLSTM: both of its biases are in one row."""
    _, recurrent, *bias = place.arrays
    return bool(bias) and bias[0].shape == (2 * recurrent.shape[-1],)


def _from_cudnn(blocks: Blocks) -> Blocks:
    """Convert the layout of CuDNNGRU and CuDNNLSTM: each kernel (I, H) has the numbers in the order of (H, I), and U is
    transposed."""
    _, size, hidden = blocks.W.shape
    W: AnyArray = np.stack([gate.reshape(hidden, size).T for gate in blocks.W])
    return replace(blocks, W=W, U=blocks.U.transpose(0, 2, 1))


def _convention(cell: CellArrays, entry: dict[str, Any] | None, configs: Configs, *, cudnn: bool) -> tuple[Convention, str, str]:
    """Return the convention, the evidence for it, and a warning or "". Raises `NotAGRUError` for activations that are not
    supported."""
    label = f"Keras {printable(configs.version, 20)}".strip() + (" CuDNN" if cudnn else " ")
    config = entry["config"] if entry else {}
    if cell.kind.name == "rnn":
        convention = replace(RNN, gate=_state_function(entry))
        evidence, guessed = f"a {label}SimpleRNN: {convention.gate}", [convention.gate] * (entry is None)
    elif cell.kind.name == "lstm":
        convention, assumed = _with_functions(LSTM, entry, configs, cudnn)
        evidence = f"a {label}LSTM: gates {' '.join(convention.order)}, functions of the gates: {convention.functions}"
        guessed = [convention.functions] * assumed
    else:
        after, says = cell.biases == "two", f"its bias is {'(6H)' if cudnn else '(2, 3H)' if cell.biases == 'two' else '(3H)'}"
        if cell.biases == "none":
            after = bool(config.get("reset_after", configs.major >= 3))
            says = f"reset_after is {str(after).lower()}" if "reset_after" in config else "it has no bias"
        reset = "after" if after else "before"
        convention, assumed = _with_functions(replace(GRU, reset=reset), entry, configs, cudnn)
        gates = f"gates {convention.functions}"
        evidence = f"a {label}GRU: gates z r n, {says}, so reset {reset}; z keeps; {gates}"
        guessed = [gates] * assumed + [f"reset {reset}"] * (cell.biases == "none" and "reset_after" not in config)
    warning = f"{' and '.join(guessed)} assumed: the file does not say; give an input and its output to prove it" if guessed else ""
    return convention, evidence, warning


def _with_functions(convention: Convention, entry: dict[str, Any] | None, configs: Configs, cudnn: bool) -> tuple[Convention, bool]:
    """Return the convention of a GRU or an LSTM with the functions of its gates and of its state, and True if they are assumed.
    Those of CuDNN are always sigmoid and tanh. Raises `NotAGRUError` for functions that are not supported."""
    if cudnn:
        return convention, False
    if entry is None:
        old = re.match(r"1\.|2\.[0-2]\.\d+$", configs.version)  # not tf.keras, whose version has a suffix
        return replace(convention, gate="hard_sigmoid" if old else "sigmoid"), True
    config = entry["config"]
    candidate = config.get("activation", "tanh")
    activation = config.get("recurrent_activation", config.get("inner_activation", "sigmoid"))
    gate = gate_named(activation, HARD_SLOPE if configs.major < 3 else 1 / 6) if isinstance(activation, str) else None
    if candidate not in STATE_FUNCTIONS or gate is None:
        activations = f"{_function(activation)} and {_function(candidate)}"
        raise NotAGRUError(
            f"its activations are {activations}; sigmoid or hard_sigmoid, and {' or '.join(STATE_FUNCTIONS)} are supported"
        )
    return replace(convention, gate=gate, state_function=candidate), False


def _state_function(entry: dict[str, Any] | None) -> str:
    """Return the activation of a simple RNN. Raises `NotAGRUError` for one that is not supported."""
    activation = "tanh" if entry is None else entry["config"].get("activation", "tanh")
    if activation not in STATE_FUNCTIONS:
        raise NotAGRUError(f"its activation is {_function(activation)}; {' and '.join(STATE_FUNCTIONS)} are supported")
    return str(activation)


def _function(activation: Any) -> str:
    return printable(activation.get("config", activation) if isinstance(activation, dict) else activation, 40)


# ------------------------------------------------------------------------------
# The formats of Keras: .keras of Keras 3, a zip file of config.json, metadata.json and model.weights.h5; and HDF5, with whole
# models of Keras 1 and 2 (.h5) or weights alone (.weights.h5) of any Keras.


CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MOST_JSON = 1 << 24


def _is_archive(file: OpenedFile) -> bool:
    return {CONFIG, METADATA} <= set(file.members)


def _find_in_archive(file: OpenedFile, order: str | None) -> FileLayers:
    """Find the recurrent layers in the archive. Raises `ModelFileError`."""
    if WEIGHTS not in file.members:
        raise ModelFileError(f"it has no {WEIGHTS}; save it with model.save, in one file")
    metadata = _json(file, METADATA)
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    tree = read_tree(file.members[WEIGHTS])
    return keras_recurrent(tree, _json(file, CONFIG), version if isinstance(version, str) else "3", ARCHIVE.name, file.path)


def _json(file: OpenedFile, name: str) -> Any:
    member = file.members[name]
    if member.size > MOST_JSON:
        raise ModelFileError(f"its {name} has {member.size} bytes, more than {MOST_JSON}; it is not read")
    return _parsed(member.read(), name)


def _parsed(text: str | bytes, name: str) -> Any:
    """Return parsed JSON. Raises `ModelFileError` if the text is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ModelFileError(f"its {name} is damaged; get the file again") from None


def _is_hdf5(file: OpenedFile) -> bool:
    return file.head.startswith(b"\x89HDF\r\n\x1a\n")


def _find_in_hdf5(file: OpenedFile, order: str | None) -> FileLayers:
    """Find the recurrent layers in the file. Raises `ModelFileError`."""
    tree = read_tree(file.path)
    config = tree.texts.get(("", "model_config"))
    version = tree.texts.get(("", "keras_version")) or tree.texts.get(("model_weights", "keras_version"), "")
    return keras_recurrent(tree, _parsed(config, "model_config") if config else None, version, HDF5.name, file.path)


ARCHIVE = FileFormat("Keras 3 archive", _is_archive, _find_in_archive)
HDF5 = FileFormat("Keras HDF5", _is_hdf5, _find_in_hdf5)
