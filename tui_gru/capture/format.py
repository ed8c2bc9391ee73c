"""The format of a recording: the encoding of a step, the files of a step, and the folder with its lists."""

from __future__ import annotations

import json
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np

from tui_gru.capture.calls import CapturedStep, CellEquations, GRUCall, GRUModule, HeadCall, Note, WeightSet
from tui_gru.capture.facts import StepFacts
from tui_gru.disk import save_bytes, saving
from tui_gru.errors import ModelFileError, TuiGruError, printable
from tui_gru.files import tensors as safetensors
from tui_gru.files.arrays import AnyArray, OpenedFile, Tensor, open_file
from tui_gru.files.kinds import KINDS, Convention

# ------------------------------------------------------------------------------
# Encoding of a captured step as named arrays and a JSON object, and decoding with full validation.


_CALL = ("dtype", "autocast", "h0_given", "h0_attached", "training", "dc_through_h", "backward_passes")
_LOOP = ("keep", "states_set", "states", "flows", "script")
_STEP = ("number", "updated", "rank", "ranks", "not_kept")


def encoded_step(step: CapturedStep) -> tuple[dict[str, AnyArray], dict[str, Any]]:
    """Return the arrays of a step by name, `calls.0.x`, and a JSON object with the rest."""
    arrays: dict[str, AnyArray] = {}
    modules, sets = list[GRUModule](), list[WeightSet]()
    calls = []
    for i, call in enumerate(step.calls):
        if call.module not in modules:
            modules.append(call.module)
        if not any(call.weights is numbers for numbers in sets):
            sets.append(call.weights)
        parts = {name: getattr(call, name) for name in ("x", "h0", "out", "hn", "dout", "dhn", "lengths", *_LOOP)}
        if len(call.hn) == 1 and not call.chunks:
            del parts["states"]  # they are the outputs
        parts |= {f"mask_l{k}": mask for k, mask in enumerate(call.masks)}
        if (head := call.head) is not None:
            parts |= {f"head.{name}": getattr(head, name) for name in ("logits", "dlogits", "weight", "bias")}
        arrays |= {f"calls.{i}.{name}": array for name, array in parts.items() if array is not None}
        about = {name: getattr(call, name) for name in _CALL}
        at = next(k for k, numbers in enumerate(sets) if numbers is call.weights)
        about |= {
            "loop": call.states is not None,
            "module": modules.index(call.module),
            "weights": at,
            "notes": call.notes,
            "cut": call.cut,
            "chunks": call.chunks,
            "straight_states": call.straight_states,
            "detached": call.detached,
            "head": head.name if head else None,
        }
        calls.append(about)
    for i, used in enumerate(sets):
        arrays |= {f"weights.{i}.{name}": array for name, array in used.values.items()}
        arrays |= {f"weights.{i}.gradients.{name}": array for name, array in used.gradients.items()}
    arrays |= {f"gradients.{name}": array for name, array in step.gradients.items()}
    arrays |= {f"before.{name}": array for name, array in step.before.items()}
    handed = step.handed or {}
    arrays |= {f"handed.{name}": array for name, array in handed.items() if array is not step.gradients.get(name)}
    about = {name: getattr(step, name) for name in _STEP}
    about |= {"loss": encoded_number(step.loss), "settings": {name: encoded_number(value) for name, value in step.settings.items()}}
    about |= {"handed": None if step.handed is None else list(handed), "shared": dict(step.shared), "hooked": step.hooked}
    about |= {"notes": step.notes, "modules": [described_module(module) for module in modules], "calls": calls}
    about["weights"] = [{"module": modules.index(used.module), "parameters": dict(used.parameters)} for used in sets]
    return arrays, about


def encoded_number(value: float | None) -> float | str | None:
    """Return a number for JSON; NaN and infinities become strings."""
    return value if value is None or math.isfinite(value) else str(value)


def decoded_number(value: Any) -> float | None:
    """Return the number that `plain` encoded. Raises `ModelFileError`."""
    if value is None:
        return None
    if type(value) in (int, float) or value in ("nan", "inf", "-inf"):
        return float(value)
    raise ModelFileError(f"{printable(value, 40)} is not a number; the file is damaged")


def decoded(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> CapturedStep:
    """Return the step. Raises `ModelFileError` if an entry is missing or does not fit."""
    try:
        return _Decoder(tensors, about).step()
    except ModelFileError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ModelFileError(f"its description of the calls is damaged ({type(error).__name__}: {printable(error, 60)})") from None


class _Decoder:
    def __init__(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._tensors, self._about = tensors, about
        self._modules = [module_of(entry) for entry in _list(about["modules"])]
        self._sets = [self._weights(i, entry) for i, entry in enumerate(_list(about["weights"]))]

    def step(self) -> CapturedStep:
        about, gradients, handed = self._about, self._named("gradients."), None
        if about.get("handed") is not None:  # which earlier versions did not write
            changed = self._named("handed.")
            handed = {str(name): changed[name] if name in changed else gradients[name] for name in _list(about["handed"])}
        return CapturedStep(
            _count_of(about["number"]),
            tuple(self._call(i, entry) for i, entry in enumerate(_list(about["calls"]))),
            gradients,
            self._named("before."),
            decoded_number(about["loss"]),
            bool(about["updated"]),
            {str(name): decoded_number(value) or 0.0 for name, value in about["settings"].items()},
            _count_of(about["rank"]),
            _count_of(about["ranks"]),
            _count_of(about["not_kept"]),
            _notes(about["notes"]),
            handed,
            shared={str(name): tuple(map(str, _list(others))) for name, others in about.get("shared", {}).items()},
            hooked=tuple(map(str, _list(about.get("hooked", [])))),
            is_joined=all("loop" in entry for entry in about["calls"]),  # which the first versions did not write
        )

    def _call(self, i: int, about: Mapping[str, Any]) -> GRUCall:
        module, weights = _item(self._modules, about["module"]), _item(self._sets, about["weights"])
        if weights.module is not module:
            raise ModelFileError(f"call {i} uses the weights of another module; the file is damaged")
        prefix = f"calls.{i}."
        shape = self._tensors[f"{prefix}x"].shape
        if len(shape) != 3:
            raise ModelFileError(f"the input of call {i} has the shape {shape}, not (timesteps, rows, numbers)")
        T, B = shape[:2]
        width, states = module.directions * module.hidden_size, module.layers * module.directions * module.states
        read = self._reader(prefix)
        lengths = read("lengths", (B,), True)
        if lengths is not None and ((lengths < 0) | (lengths > T)).any():
            raise ModelFileError(f"call {i} has a row that is longer than the call; the file is damaged")
        drawn = [read(f"mask_l{k}", (T, B, width), True) for k in range(module.layers - 1)]
        masks = tuple(mask for mask in drawn if mask is not None)
        if len(masks) not in (0, len(drawn)):
            raise ModelFileError(f"call {i} has masks for some of its layers only; the file is damaged")
        x, h0 = _required(read("x", (T, B, module.input_size))), _required(read("h0", (states, B, module.hidden_size)))
        out, timed = _required(read("out", (T, B, width))), (T, states, B, module.hidden_size)
        is_loop = bool(about.get("loop", False))  # which earlier versions did not write
        chunks = tuple(map(_count_of, _list(about.get("chunks", []))))
        if chunks and (sum(chunks) != T or not all(chunks) or not is_loop):
            raise ModelFileError(f"call {i} has {sum(chunks)} timesteps in its parts, not {T}; the file is damaged")
        parts = (len(chunks) or T, *timed[1:])
        keep, states_set = read("keep", (T, B), True), read("states_set", timed, True)
        if (keep is None) != (states_set is None) or (is_loop and (module.bidirectional or lengths is not None)):
            raise ModelFileError(f"call {i} has states that do not fit a loop; the file is damaged")
        return GRUCall(
            module,
            i,
            x,
            h0,
            out,
            _required(read("hn", (states, B, module.hidden_size))),
            weights,
            read("dout", (T, B, width), True),
            read("dhn", (states, B, module.hidden_size), True),
            lengths,
            masks,
            self._head(f"{prefix}head.", about["head"], (T, B, width)),
            str(about["dtype"]),
            str(about["autocast"]),
            bool(about["h0_given"]),
            bool(about["h0_attached"]),
            bool(about["training"]),
            bool(about.get("dc_through_h", False)),  # which earlier versions did not write
            _count_of(about["backward_passes"]),
            _notes(about["notes"]),
            keep,
            states_set,
            None if not is_loop else out[:, None] if states == 1 and not chunks else _required(read("states", parts)),
            read("flows", parts, True),
            chunks=chunks,
            script=read("script", parts, True),
            detached=None if (detached := about.get("detached")) is None else tuple(t for t in map(_count_of, detached) if t < T),
            straight_states=tuple(state for state in map(_count_of, about.get("straight_states", ())) if state < states),
            cut=None if (cut := about.get("cut")) is None else tuple(state for state in map(_count_of, cut) if state < states),
        )

    def _head(self, prefix: str, name: Any, shape: tuple[int, int, int]) -> HeadCall | None:
        if name is None:
            return None
        read, classes = self._reader(prefix), self._tensors[f"{prefix}weight"].shape[0]
        logits = (*shape[:2], classes)
        weight = _required(read("weight", (classes, shape[2])))
        return HeadCall(
            printable(name),
            _required(read("logits", logits)),
            read("dlogits", logits, True),
            weight,
            read("bias", (classes,), True),
        )

    def _weights(self, i: int, about: Mapping[str, Any]) -> WeightSet:
        module = _item(self._modules, about["module"])
        prefix = f"weights.{i}."
        shapes = weight_shapes(module)
        read, gradient = self._reader(prefix), self._reader(f"{prefix}gradients.")
        values = {name: _required(read(name, shape)) for name, shape in shapes.items()}
        gradients = {name: array for name, shape in shapes.items() if (array := gradient(name, shape, True)) is not None}
        parameters = {str(name): str(parameter) for name, parameter in about["parameters"].items() if name in shapes}
        for weight, parameter in parameters.items():
            for kind in ("gradients.", "before.", "handed."):
                tensor = self._tensors.get(kind + parameter)
                if tensor is not None and tensor.shape != shapes[weight]:
                    raise ModelFileError(f"{printable(kind + parameter)} has the shape {tensor.shape}, not {shapes[weight]}")
        return WeightSet(module, values, parameters, gradients)

    def _named(self, prefix: str) -> dict[str, AnyArray]:
        return {name.removeprefix(prefix): tensor.read() for name, tensor in self._tensors.items() if name.startswith(prefix)}

    def _reader(self, prefix: str) -> Callable[..., AnyArray | None]:
        def read(name: str, shape: tuple[int, ...], optional: bool = False) -> AnyArray | None:
            tensor = self._tensors.get(prefix + name)
            if tensor is None and optional:
                return None
            if tensor is None or tensor.shape != shape:
                fields_read = "is missing" if tensor is None else f"has the shape {tensor.shape}, not {shape}"
                raise ModelFileError(f"{printable(prefix + name)} {fields_read}; the file is damaged")
            return tensor.read()

        return read


def described_module(module: GRUModule) -> dict[str, Any]:
    """Return a module for JSON; only a hand-written cell has a convention, or equations."""
    return {name: value for name, value in asdict(module).items() if value is not None and (value or name != "written_as")}


def module_of(entry: Mapping[str, Any]) -> GRUModule:
    """Return a module as JSON describes it. Raises `ModelFileError` if the description is invalid."""
    sizes = {name: _count_of(entry[name]) for name in ("input_size", "hidden_size", "layers")}
    flags = {name: bool(entry[name]) for name in ("bidirectional", "bias", "batch_first")}
    kind, nonlinearity = entry["kind"], entry.get("nonlinearity", "tanh")  # which earlier versions did not write
    module_sizes = entry.get("equations")
    is_cell = kind in ("GRUCell", "LSTMCell", "RNNCell", "Cell")
    fits = (is_cell or kind in ("GRU", "LSTM", "RNN")) and nonlinearity in ("tanh", "relu")
    fits &= (module_sizes is not None) == (kind == "Cell")
    fits &= sizes["layers"] <= (1 if is_cell else 1000) and not (is_cell and flags["bidirectional"])
    if not fits or not all(1 <= size < 2**31 for size in sizes.values()):
        raise ModelFileError(f"{printable(entry.get('name'))} has an impossible description; the file is damaged")
    name, dropout, written_as = (
        printable(entry["name"]),
        decoded_number(entry["dropout"]) or 0.0,
        printable(entry.get("written_as", "")),
    )
    convention = None if (convention_fields := entry.get("convention")) is None else Convention(**convention_fields)
    conventions = KINDS[kind.removesuffix("Cell").lower()].conventions if is_cell and module_sizes is None else ()
    if convention is not None and convention not in conventions:
        raise ModelFileError(f"{name} has an impossible convention; the file is damaged")
    return GRUModule(
        name=name,
        kind=kind,
        dropout=dropout,
        nonlinearity=nonlinearity,
        convention=convention,
        written_as=written_as,
        equations=None if module_sizes is None else _equations(module_sizes, sizes["input_size"], sizes["hidden_size"]),
        **sizes,  # type: ignore[arg-type]
        **flags,
    )


def _equations(stored: Mapping[str, Any], input_size: int, hidden_size: int) -> CellEquations:
    try:
        return CellEquations.of(printable(stored["name"]), str(stored["text"]), input_size, hidden_size)
    except TuiGruError as error:
        raise ModelFileError(f"the equations of its cell cannot be used: {error}") from None


def weight_shapes(module: GRUModule) -> dict[str, tuple[int, ...]]:
    """Return the shapes of torch's weights, by torch's names; or of those in the equations of a cell."""
    if module.equations is not None:
        return dict(module.equations.shapes)
    H, shapes = module.hidden_size, dict[str, tuple[int, ...]]()
    G = len(module.gates) * H
    for i, suffix in enumerate(module.suffixes):
        width = module.input_size if i < module.directions else module.directions * H
        rows = {"weight_ih": (G, width), "weight_hh": (G, H), "bias_ih": (G,), "bias_hh": (G,)}
        shapes |= {role + suffix: shape for role, shape in rows.items()}
    return {name: shapes[name] for name in module.weight_names}


def _required(array: AnyArray | None) -> AnyArray:
    assert array is not None
    return array


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise ModelFileError("a list is expected and missing; the file is damaged")
    return value


def _item(items: Sequence[Any], at: Any) -> Any:
    return items[_count_of(at)]


def _count_of(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ModelFileError(f"{printable(value, 40)} is not a whole number; the file is damaged")
    return value


def _notes(value: Any) -> tuple[Note, ...]:
    names = {str(note) for note in Note}
    return tuple(Note(note) for note in _list(value) if note in names)  # a later version may have more notes


# ------------------------------------------------------------------------------
# Files of one step in safetensors format, which are never changed after they were written.
#
# The metadata has the checksums (CRC-32): first of the header, as it is without them, then of the bytes of each tensor, in the
# order of the header. Recordings of earlier versions have none.


KEY, CHECKSUMS = "tui_gru", "checksums"  # the keys of the metadata; the first is of a JSON object
DAMAGED = "its header does not match its checksum; get the file again"
HEADER_SIZE = 1 << 14  # bytes; more than most headers have
_NONE = b'"%s":""' % CHECKSUMS.encode()
_WRITTEN = re.compile(rb'"%s":"([0-9a-f ]*)"' % CHECKSUMS.encode())
_TYPES = {"float32": "F32", "float64": "F64", "int64": "I64"}


def write_shard(path: Path, arrays: Mapping[str, AnyArray], about: Mapping[str, Any], *, half: bool = False) -> int:
    """Write arrays and a JSON object, and return the size in bytes.

    `half` writes numbers that are exact in bfloat16 as bfloat16. If the process is killed at any time, the file is complete or
    missing; it is not flushed to the disk. Raises `OSError`.
    """
    header: dict[str, Any] = {"__metadata__": {KEY: json.dumps(about, ensure_ascii=False, allow_nan=False), CHECKSUMS: ""}}
    pieces, at = [], 0
    for name, array in arrays.items():
        kind, piece = _encoded(array, half)
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + piece.nbytes]}
        pieces.append(piece)
        at += piece.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    checksums = " ".join(f"{checksum:08x}" for checksum in [zlib.crc32(text), *(zlib.crc32(piece.data) for piece in pieces)])
    text = text.replace(_NONE, _NONE[:-1] + checksums.encode() + b'"', 1)
    text += b" " * (-len(text) % 8)
    with saving(path, durable=False) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for piece in pieces:
            file.write(piece.data)
    return 8 + len(text) + at


def _encoded(array: AnyArray, half: bool) -> tuple[str, AnyArray]:
    array = np.ascontiguousarray(array)
    if half and array.dtype == np.float32 and not (bits := array.view(np.uint32) & 0xFFFF).any():
        del bits
        return "BF16", (array.view(np.uint32) >> 16).astype("<u2")
    return _TYPES[array.dtype.name], array.astype(array.dtype.newbyteorder("<"), copy=False)


def read_shard(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the JSON object and the arrays, which are read on demand. Raises `ModelFileError`."""
    return read_description(open_shard(path))


def open_shard(path: Path) -> OpenedFile:
    """Open a file of a step, and read as many bytes as its header usually has. Raises `ModelFileError`, and `FileNotFoundError` if
    it has been deleted."""
    try:
        return open_file(path, HEADER_SIZE)
    except ModelFileError:
        path.lstat()
        raise


def read_description(file: OpenedFile) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the JSON object and the arrays of an open file. Arrays are compared with their checksums when they are read. Raises
    `ModelFileError`."""
    header = safetensors.safetensors_header(file)
    about, names = _about(header), [name for name in header if name != "__metadata__"]
    checksums = checked_header(safetensors.header_text(file))
    if CHECKSUMS in header["__metadata__"] and len(checksums) != len(names):
        raise ModelFileError(DAMAGED)
    return about, safetensors.safetensors_tensors(file, header, dict(zip(names, checksums, strict=False)))


def check_shard(path: Path) -> int:
    """Compare all numbers of a file with their checksums, and return their bytes; 0 if it has no checksums. Raises
    `ModelFileError`."""
    file = open_shard(path)
    if not checked_header(safetensors.header_text(file)):
        return 0
    for tensor in read_description(file)[1].values():
        tensor.read()
    return file.size


def checked_header(text: bytes) -> tuple[int, ...]:
    """Compare the text of a header with its checksum, and return those of the tensors; none if it was written without. Raises
    `ModelFileError`."""
    written = _WRITTEN.search(text)
    if written is None:
        return ()
    words = written[1].split(b" ") if written[1] else []
    if any(len(word) != 8 for word in words):  # a flipped bit can turn a 0 into a space
        raise ModelFileError(DAMAGED)
    version, *others = (int(word, 16) for word in words) if words else (-1,)
    if zlib.crc32((text[: written.start()] + _NONE + text[written.end() :]).rstrip(b" ")) != version:
        raise ModelFileError(DAMAGED)
    return tuple(others)


def _about(header: Mapping[str, Any]) -> dict[str, Any]:
    about = header.get("__metadata__")
    try:
        facts = json.loads(about[KEY]) if isinstance(about, dict) else None
    except (KeyError, TypeError, ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise ModelFileError("it is not a step of a recording; give the folder that tui_gru.record wrote")
    if about is not None and not about.keys() <= {KEY, CHECKSUMS}:
        raise ModelFileError(DAMAGED)  # a flipped bit in the name must not make it a file without checksums
    return facts


# ------------------------------------------------------------------------------
# The folder of a recording: its file names, and its two kinds of text file.
#
# run.json describes the recording. steps.rank0.jsonl has a line for each kept step, with the losses since the line before. Each
# kept step is a file: step-00000100.rank0.safetensors. Each rank writes its own files, independently of the others.


FORMAT, VERSION, READABLE = "tui-gru-recording", 2, (1, 2)
RUN = "run.json"
MOST_TEXT = 1 << 28  # bytes of a text file that are read at most
_SHARD = re.compile(r"step-(\d{8,15})\.rank(\d{1,6})\.safetensors")
_LINES = re.compile(r"steps\.rank(\d{1,6})\.jsonl")


class RecordingVersionError(ModelFileError):
    """The recording was written by another version of this program."""


def holds_a_recording(folder: Path) -> bool:
    """Return True if a folder has a file with a name of a recording."""
    try:
        names = os.listdir(folder)
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return False
    return any(name == RUN or rank_in_name(name) is not None for name in names)


def ranks_in(folder: Path) -> set[int]:
    """Return the ranks that have files in a folder. Raises `OSError`."""
    return {rank for name in os.listdir(folder) if (rank := rank_in_name(name)) is not None}


def rank_in_name(name: str) -> int | None:
    """Return the rank in the name of any file of a recording; None for run.json and for other files."""
    step = step_and_rank(name)
    return rank_of_lines(name) if step is None else step[1]


def remove_recording(folder: Path, of: Callable[[int], bool]) -> None:
    """Delete the files of the ranks for which `of` is True, and no other file. Raises `OSError`."""
    for name in os.listdir(folder):
        rank = rank_in_name(name.removesuffix(".part"))  # which earlier versions have left when they were killed
        if rank is not None and of(rank):
            (folder / name).unlink(missing_ok=True)


def shard_name(step: int, rank: int) -> str:
    return f"step-{step:08d}.rank{rank}.safetensors"


def lines_name(rank: int) -> str:
    return f"steps.rank{rank}.jsonl"


def step_and_rank(name: str) -> tuple[int, int] | None:
    """Return the step and rank in the name of a file; None for other files."""
    match = _SHARD.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2]))


def rank_of_lines(name: str) -> int | None:
    match = _LINES.fullmatch(name)
    return None if match is None else int(match[1])


def step_in(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> CapturedStep:
    """Return the step in the contents of a file. Raises `ModelFileError` if they are damaged, or of another step than its name."""
    step = decoded(tensors, about)
    if shard_name(step.number, step.rank) != path.name:
        raise ModelFileError(f"it contains step {step.number} of rank {step.rank}, which does not match its name")
    return step


@dataclass(frozen=True)
class StepRecord:
    """A kept step. `why` is "every", "trigger", "before" a trigger or the end, or "end": the script stopped inside of it.

    `losses` has the losses of all steps since the line before, up to this one; None for steps without a loss. `rates` has the
    steps among them whose learning rate is not that of the step before, each with its rate.
    """

    step: int
    why: str
    loss: float | None = None
    norm: float | None = None
    losses: tuple[float | None, ...] = ()
    rates: tuple[tuple[int, float], ...] = ()

    def written(self) -> str:
        entry = {"step": self.step, "why": self.why, "loss": encoded_number(self.loss), "norm": encoded_number(self.norm)}
        return _sealed({**entry, **_encoded_course(self.losses, self.rates)})


class EndKind(StrEnum):
    """What ended a script: an error; ctrl+c, `sys.exit` or a signal; or nothing that was seen."""

    ERROR = "error"
    STOPPED = "stopped"
    UNSEEN = "unseen"


@dataclass(frozen=True)
class ScriptEnd:
    """How a script ended that did not close its recording as usual.

    `cause` is the exception in one line, or the name of a signal; `place` the file of the script and the line where it was,
    `train.py:31`, and `code` the text of that line; each is empty if unknown. `step` is the step within which it ended, None if it
    ended between two.
    """

    kind: EndKind
    cause: str = ""
    place: str = ""
    code: str = ""
    step: int | None = None

    def sentence(self, steps: int) -> str:
        """Return in words how it ended after so many steps, the last of which may be incomplete."""
        where = (
            f"in step {self.step:,}" if self.step is not None else f"after step {steps - 1:,}" if steps else "before its first step"
        )
        line = f", {self.place}" if self.place else ""
        if self.kind is EndKind.ERROR:
            return f"the script ended {where}: {self.cause}{line}"
        if self.kind is EndKind.STOPPED:
            return f"the script was ended {where} by {self.cause}{line}"
        return f"the recording ends {where}, by no error that was seen"


@dataclass(frozen=True)
class RecordingProgress:
    """The number of steps so far, with the losses and rates since the line before.

    `closed` is True if the recording has ended; `end` says how the script did, None if it closed the recording as usual. `missed`
    is the number of steps so far that could not be written, `why_missed` the reason of the first.
    """

    steps: int
    losses: tuple[float | None, ...] = ()
    rates: tuple[tuple[int, float], ...] = ()
    closed: bool = False
    missed: int = 0
    why_missed: str = ""
    end: ScriptEnd | None = None

    def written(self) -> str:
        entry = {"steps": self.steps, "closed": self.closed, **_encoded_course(self.losses, self.rates)}
        entry |= {"missed": self.missed, "why_missed": self.why_missed} if self.missed else {}
        return _sealed(entry if self.end is None else {**entry, "end": asdict(self.end)})


def _encoded_course(losses: Sequence[float | None], rates: Sequence[tuple[int, float]]) -> dict[str, Any]:
    course: dict[str, Any] = {"losses": [encoded_number(loss) for loss in losses]}
    return course | ({"rates": [[step, encoded_number(rate)] for step, rate in rates]} if rates else {})


def _sealed(entry: Mapping[str, Any]) -> str:
    """Return a line of JSON that ends with its own checksum (CRC-32)."""
    text = json.dumps(entry, allow_nan=False)[:-1]
    return f'{text}, "crc": "{zlib.crc32(text.encode()):08x}"}}\n'


_ENTRIES = {
    "step",
    "why",
    "loss",
    "norm",
    "losses",
    "rates",
    "steps",
    "closed",
    "missed",
    "why_missed",
    "end",
    "facts",
    "crc",
}  # of lines


def written_facts(facts: StepFacts) -> str:
    """Return the line with the facts of a watched step."""
    return _sealed({"facts": facts.encoded()})


def read_line(text: str, *, losses: bool = False) -> StepRecord | RecordingProgress | StepFacts:
    """Parse one line of steps.rankN.jsonl, with its `losses` and `rates` only if they are asked for.

    Raises `ModelFileError` for an invalid or incomplete line.
    """
    try:
        entry = json.loads(text)
        sealed, _, checksum = text.rpartition(', "crc": "')
        if "crc" in entry and f'{zlib.crc32(sealed.encode()):08x}"}}' != checksum:
            raise ModelFileError("a line does not match its checksum")
        if not entry.keys() <= _ENTRIES:
            raise ModelFileError("a line has an unknown entry")  # such as a damaged name of the checksum
        if "facts" in entry:
            return StepFacts.decoded(entry["facts"])
        line = tuple(map(decoded_number, entry["losses"])) if losses else ()
        rates = tuple((_count(step), decoded_number(rate) or 0.0) for step, rate in entry.get("rates", ())) if losses else ()
        if "step" not in entry:
            missed, why_missed = _count(entry.get("missed", 0)), printable(str(entry.get("why_missed", "")), 200)
            end = _end_of(entry.get("end"))
            return RecordingProgress(_count(entry["steps"]), line, rates, entry["closed"] is True, missed, why_missed, end)
        return StepRecord(
            _count(entry["step"]), str(entry["why"]), decoded_number(entry["loss"]), decoded_number(entry["norm"]), line, rates
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise error if isinstance(error, ModelFileError) else ModelFileError("a line is damaged or cut off") from None


def _end_of(entry: Mapping[str, Any] | None) -> ScriptEnd | None:
    if entry is None:
        return None
    cause, place, code = (printable(str(entry[name]), 300) for name in ("cause", "place", "code"))
    return ScriptEnd(EndKind(entry["kind"]), cause, place, code, None if entry["step"] is None else _count(entry["step"]))


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 10**15:
        raise ModelFileError("a line has a step that is not a number")
    return value


def write_run(folder: Path, about: Mapping[str, Any]) -> None:
    """Write run.json, whole or not at all. Raises `OSError`."""
    text = json.dumps({"format": FORMAT, "version": VERSION, **about}, indent=1)
    save_bytes(folder / RUN, f"{text}\n".encode())


def read_run(folder: Path) -> dict[str, Any]:
    """Read run.json. Raises `ModelFileError` if it is invalid, and `OSError`."""
    try:
        run = json.loads(file_text(folder / RUN))
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, ModelFileError) else ModelFileError(f"{RUN} in it is damaged; copy it again") from None
    if not isinstance(run, dict) or run.get("format") != FORMAT:
        raise ModelFileError(f"{RUN} in it does not belong to a recording")
    if run.get("version") not in READABLE:
        version = printable(repr(run.get("version")), 20)
        versions = " and ".join(map(str, READABLE))
        raise RecordingVersionError(f"it has version {version} of the format, and {versions} are read; update tui-gru")
    return run


def file_text(path: Path) -> str:
    """Return the text of a file. Raises `ModelFileError` if it is no file or too large, and `OSError`."""
    if not S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its other end
        raise ModelFileError(f"{path.name} in it is no file; copy it again")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_TEXT:
            raise ModelFileError(f"{path.name} in it has {size} bytes, more than {MOST_TEXT}; it is not read")
        return file.read(MOST_TEXT).decode("utf-8", "replace")
