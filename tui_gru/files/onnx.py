"""Reads the GRU, LSTM and RNN nodes of ONNX files by their wire format."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TypeAlias

import numpy as np

from tui_gru.equations.functions import HARD_SLOPE, MIDDLE, gate_named
from tui_gru.errors import ModelFileError, printable
from tui_gru.files.arrays import (
    FLOATS,
    ITEM_SIZE,
    AnyArray,
    FileFormat,
    FileLayers,
    FoundGRU,
    OpenedFile,
    Tensor,
    byte_size,
    checked_shape,
    decode,
)
from tui_gru.files.kinds import KINDS, LSTM, NONE, RNN, Blocks, CellKind, Convention
from tui_gru.files.matching import CellArrays, NotAGRUError, check_floats, find_by_name, stack

# ------------------------------------------------------------------------------
# A reader of the wire format of Protocol Buffers: the fields of a message by number, as positions in the file, without a schema.
#
# Format: Protocol Buffers' documentation, "Encoding".


Buffer: TypeAlias = bytes | mmap
#: The start and end of a field of bytes in the buffer.
Span: TypeAlias = tuple[int, int]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MOST_FIELDS = 1_000_000


class DamagedMessageError(ModelFileError):
    """The data is not a message of Protocol Buffers, or it is cut off."""

    def __init__(self) -> None:
        super().__init__("it is damaged or cut off; get the file again")


class Message:
    """A message in `buffer[start:end]`. Its fields are read once; each number has a list of values in their order."""

    def __init__(self, buffer: Buffer, span: Span, budget: list[int] | None = None) -> None:
        self.buffer, self.span = buffer, span
        self._budget = [MOST_FIELDS] if budget is None else budget
        self._numbers: dict[int, list[int]] = {}
        self._spans: dict[int, list[Span]] = {}
        for number, value in self._fields():
            if isinstance(value, int):
                self._numbers.setdefault(number, []).append(value)
            else:
                self._spans.setdefault(number, []).append(value)

    def _fields(self) -> Iterator[tuple[int, int | Span]]:
        at, end = self.span
        while at < end:
            self._budget[0] -= 1
            if self._budget[0] < 0:
                raise ModelFileError(f"it has more than {MOST_FIELDS} fields; it is not read")
            key, at = self._varint(at, end)
            number, wire = key >> 3, key & 7
            if wire == VARINT:
                value, at = self._varint(at, end)
                yield number, value
            elif wire == BYTES:
                length, at = self._varint(at, end)
                yield number, (at, at + length)
                at += length
            elif wire in (FIXED32, FIXED64):
                length = 4 if wire == FIXED32 else 8
                if at + length > end:
                    raise DamagedMessageError
                yield number, int.from_bytes(self.buffer[at : at + length], "little")
                at += length
            else:
                raise DamagedMessageError
            if at > end or not number:
                raise DamagedMessageError

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise DamagedMessageError
            byte = self.buffer[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & (2**64 - 1), at
        raise DamagedMessageError

    def numbers(self, number: int) -> list[int]:
        """Return the unsigned integers of a repeated field, packed or not."""
        packed = []
        for at, end in self._spans.get(number, ()):
            while at < end:
                self._budget[0] -= 1
                if self._budget[0] < 0:
                    raise ModelFileError(f"it has more than {MOST_FIELDS} fields; it is not read")
                value, at = self._varint(at, end)
                packed.append(value)
        return self._numbers.get(number, []) + packed

    def signed(self, number: int) -> list[int]:
        """Return the signed integers of a repeated field of type int64."""
        return [value - 2**64 if value >= 2**63 else value for value in self.numbers(number)]

    def floats(self, number: int) -> list[float]:
        """Return the floats of a repeated field, packed or not."""
        loose = [struct.unpack("<f", bits.to_bytes(4, "little"))[0] for bits in self._numbers.get(number, []) if bits < 2**32]
        packed = b"".join(self.buffer[start:end] for start, end in self.spans(number))
        if len(packed) % 4:
            raise DamagedMessageError
        return [*loose, *struct.unpack(f"<{len(packed) // 4}f", packed)]

    def spans(self, number: int) -> list[Span]:
        return self._spans.get(number, [])

    def messages(self, number: int) -> list[Message]:
        return [Message(self.buffer, span, self._budget) for span in self.spans(number)]

    def texts(self, number: int) -> list[str]:
        return [bytes(self.buffer[start:end]).decode("utf-8", "replace") for start, end in self.spans(number)]

    def text(self, number: int) -> str:
        """Return the text of a field, "" if it is missing. The last of several wins, as in every reader of Protocol Buffers."""
        return (self.texts(number) or [""])[-1]


def whole_file(path: Path) -> Message:
    """Return the file as one message. It is mapped into memory, not read. Raises `ModelFileError`."""
    with path.open("rb") as file:
        buffer = mmap(file.fileno(), 0, access=ACCESS_READ)
    return Message(buffer, (0, len(buffer)))


# ------------------------------------------------------------------------------
# A reader of ONNX's TensorProto, whose numbers are in the message or in a file beside it. Field numbers are those of onnx.proto.


#: The types by their numbers in ONNX, from 0.
DTYPES = (
    *("undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool"),
    *("float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16"),
)
DIMS, DATA_TYPE, FLOAT_DATA, INT32_DATA, INT64_DATA, TENSOR_NAME, RAW_DATA, DOUBLE_DATA = 1, 2, 4, 5, 7, 8, 9, 10
EXTERNAL_DATA, DATA_LOCATION, EXTERNAL = 13, 14, 1


def onnx_tensor(message: Message, path: Path) -> Tensor:
    """Return the tensor in a message of the file `path`. Raises `ModelFileError`."""
    shape = checked_shape(message.signed(DIMS))
    number = (message.numbers(DATA_TYPE) or [0])[-1]
    dtype = DTYPES[number] if number < len(DTYPES) else f"of ONNX's type {number}"
    if dtype not in ITEM_SIZE:
        return Tensor(shape, dtype, lambda: decode(b"", dtype, shape))
    size = byte_size(shape, dtype)
    if (message.numbers(DATA_LOCATION) or [0])[-1] == EXTERNAL:
        source, offset = _external(message, path, size)
    elif message.numbers(INT32_DATA) and dtype in ("float16", "bfloat16"):
        bits = np.array(message.numbers(INT32_DATA), np.uint64).astype("<u2").tobytes()
        _check_size(message, len(bits), size)
        return Tensor(shape, dtype, lambda: decode(bits, dtype, shape))
    else:
        source, offset = path, _inside(message, dtype, size)

    def read() -> AnyArray:
        with source.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise ModelFileError(f"{printable(source.name)} is cut off; get the file again")
        return decode(data, dtype, shape)

    return Tensor(shape, dtype, read)


def integers(message: Message) -> AnyArray | None:
    """Return the numbers of an int32 or int64 tensor in the message, as int64; None for another type or a tensor in another
    file."""
    shape, number = checked_shape(message.signed(DIMS)), (message.numbers(DATA_TYPE) or [0])[-1]
    dtype = DTYPES[number] if number < len(DTYPES) else ""
    if dtype not in ("int32", "int64") or (message.numbers(DATA_LOCATION) or [0])[-1] == EXTERNAL:
        return None
    if spans := message.spans(RAW_DATA):
        start, end = spans[-1]
        _check_size(message, end - start, byte_size(shape, dtype))
        return np.frombuffer(message.buffer[start:end], np.dtype(dtype).newbyteorder("<")).reshape(shape).astype(np.int64)
    values = message.signed(INT32_DATA if dtype == "int32" else INT64_DATA)
    _check_size(message, len(values), byte_size(shape, "int8"))
    return np.array(values, np.int64).reshape(shape)


def _inside(message: Message, dtype: str, size: int) -> int:
    """Return the position of the tensor's first byte."""
    spans = message.spans(RAW_DATA) or message.spans({"float32": FLOAT_DATA, "float64": DOUBLE_DATA}.get(dtype, RAW_DATA))
    if not spans and not size:
        return 0
    start, end = spans[-1] if spans else (0, 0)
    _check_size(message, end - start, size)
    return start


def _check_size(message: Message, have: int, size: int) -> None:
    if have != size:
        name = printable(message.text(TENSOR_NAME)) or "a tensor"
        raise ModelFileError(f"{name} in it has {have} bytes, but its shape needs {size}; get the file again")


def _external(message: Message, path: Path, size: int) -> tuple[Path, int]:
    """Return the file beside the model that has the tensor, and the offset in it. Raises `ModelFileError` for a file outside the
    model's folder."""
    entries = {entry.text(1): entry.text(2) for entry in message.messages(EXTERNAL_DATA)}
    location = entries.get("location", "")
    name, folder = printable(location), path.parent.resolve()
    source, exists = folder, False
    with suppress(ValueError, OSError, RuntimeError):  # a null byte, a name that is too long, or a circle of links
        source = (folder / location).resolve()
        exists = source.is_file()
    if not source.is_relative_to(folder):
        raise ModelFileError(f"its weights should be in {name}, outside its folder, which is not read")
    if not exists:
        raise ModelFileError(f"its weights are in {name}, which does not exist; put that file beside it")
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", size))
    except ValueError:
        raise ModelFileError(f"the position of its weights in {name} is not a number; get the file again") from None
    if length != size or not 0 <= offset <= source.stat().st_size - size:
        raise ModelFileError(f"{name} does not have the {size} bytes of a tensor at the given position; get both files again")
    return source, offset


# ------------------------------------------------------------------------------
# Format ONNX: the recurrent nodes of a model's graphs. Field numbers are those of onnx.proto, defaults those of the operators.


NAME = "ONNX"
IR_VERSION, GRAPH = 1, 7  # fields of a model
MODEL_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
NODE, INITIALIZER = 1, 5  # fields of a graph
INPUT, OUTPUT, NODE_NAME, OP_TYPE, ATTRIBUTE = 1, 2, 3, 4, 5  # fields of a node
ATTRIBUTE_NAME, FLOAT, INT, STRING, TENSOR, SUBGRAPH, NUMBERS, STRINGS, SUBGRAPHS = 1, 2, 3, 4, 5, 6, 7, 9, 11
MOST_NESTED = 20
CONVENTIONS = {"GRU": Convention("zrn"), "LSTM": replace(LSTM, order="iofg"), "RNN": RNN}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def is_onnx(file: OpenedFile) -> bool:
    """Return True if the first fields are those of a model, with the version before the graph. ONNX has no magic number. The graph
    may be cut off."""
    head, at, fields = file.head, 0, set()
    while at < len(head):
        key, at = head[at], at + 1
        number, wire = key >> 3, key & 7
        if key >= 128 or number not in MODEL_FIELDS or wire not in (0, 2):
            return False
        if number == GRAPH:
            return wire == 2 and IR_VERSION in fields
        fields.add(number)
        value, shift = 0, 0
        while at < len(head) and head[at] >= 128 and shift < 63:
            value, shift, at = value | (head[at] & 127) << shift, shift + 7, at + 1
        if at < len(head):
            value |= head[at] << shift
        at += 1 + (value if wire == 2 else 0)
    return False


@dataclass
class Scope:
    """The names in a graph: constants, and the operations that compute the others."""

    path: Path
    constants: dict[str, Message]
    made_by: dict[str, str]

    def tensor(self, name: str, role: str) -> Tensor:
        """Return a constant. Raises `NotAGRUError` if it is computed. `role` names it in the message."""
        if message := self.constants.get(name):
            return onnx_tensor(message, self.path)
        operation = self.made_by.get(name)
        if operation in ("DequantizeLinear", "DynamicQuantizeLinear"):
            raise NotAGRUError("it is quantised; open the model in float that it was made from")
        if operation:
            raise NotAGRUError(f"its {role} is computed by {printable(operation)}, not stored; export it with constant folding")
        raise NotAGRUError(f"its {role} is an input of the graph, not stored; store it as an initializer")


@dataclass(frozen=True)
class Attributes:
    """The attributes of a node by name."""

    messages: dict[str, Message]

    def integer(self, name: str, default: int) -> int:
        message = self.messages.get(name)
        return (message.signed(INT) or [default])[-1] if message else default

    def text(self, name: str, default: str) -> str:
        message = self.messages.get(name)
        return message.text(STRING) if message else default

    def texts(self, name: str) -> list[str]:
        message = self.messages.get(name)
        return message.texts(STRINGS) if message else []

    def floats(self, name: str) -> list[float]:
        message = self.messages.get(name)
        return message.floats(NUMBERS) + message.floats(FLOAT) if message else []


def find_in_onnx(file: OpenedFile, order: str | None) -> FileLayers:
    """Find the recurrent nodes, each as one layer. Raises `ModelFileError`."""
    model = whole_file(file.path)
    graphs = model.messages(GRAPH)
    if not graphs:
        raise ModelFileError("it has no graph; get the file again")
    layers: list[FoundGRU] = []
    refused: list[str] = []
    for node, operation, scope in _recurrent(graphs[-1], Scope(file.path, {}, {}), 0):
        number = len(layers) + len(refused) + 1
        name = printable(node.text(NODE_NAME) or (node.texts(OUTPUT) or [""])[0]) or f"{operation}_{number}"
        try:
            layers.append(replace(_layer(name, operation, node, scope), format=NAME, path=file.path))
        except ModelFileError as error:
            refused.append(f"{name}: {error}")
    return FileLayers(tuple(layers), tuple(refused)) if layers or refused else _in_single_operations(graphs[-1], file.path, order)


def _in_single_operations(graph: Message, path: Path, order: str | None) -> FileLayers:
    """Find the layers whose nodes the exporter wrote as single operations, by the names of their weights."""
    tensors = dict[str, Tensor]()
    for message in graph.messages(INITIALIZER):
        with suppress(ModelFileError):  # one that is damaged, or in a file that does not exist, is of another layer
            tensors[message.text(TENSOR_NAME)] = onnx_tensor(message, path)
    named = find_by_name(tensors, NAME, path, order, by_shape=False)
    words = "; the graph computes it in single operations"
    return replace(named, layers=tuple(replace(layer, evidence=layer.evidence + words) for layer in named.layers))


def _recurrent(graph: Message, outer: Scope, depth: int) -> Iterator[tuple[Message, str, Scope]]:
    """Yield the recurrent nodes of a graph and its subgraphs, each with its operation and the scope of its names."""
    if depth > MOST_NESTED:
        raise ModelFileError(f"its graphs are nested more than {MOST_NESTED} deep; it is not read")
    constants = outer.constants | {tensor.text(TENSOR_NAME): tensor for tensor in graph.messages(INITIALIZER)}
    scope = Scope(outer.path, constants, dict(outer.made_by))
    for node in graph.messages(NODE):
        operation = node.text(OP_TYPE)
        inputs, outputs = node.texts(INPUT), node.texts(OUTPUT)
        scope.made_by.update(dict.fromkeys(outputs, operation))
        if operation == "Constant" and outputs:
            values = [tensor for attribute in node.messages(ATTRIBUTE) for tensor in attribute.messages(TENSOR)]
            scope.constants.update(zip(outputs, values, strict=False))
        elif operation == "Identity" and outputs and inputs and inputs[0] in scope.constants:
            scope.constants[outputs[0]] = scope.constants[inputs[0]]
        elif operation in CONVENTIONS:
            yield node, operation, scope
        elif operation in ("If", "Loop", "Scan"):
            for attribute in node.messages(ATTRIBUTE):
                for inner in (*attribute.messages(SUBGRAPH), *attribute.messages(SUBGRAPHS)):
                    yield from _recurrent(inner, scope, depth + 1)


def _layer(name: str, operation: str, node: Message, scope: Scope) -> FoundGRU:
    """Return the layer of a node. Raises `NotAGRUError` for what is not supported."""
    attributes = Attributes({message.text(ATTRIBUTE_NAME): message for message in node.messages(ATTRIBUTE)})
    inputs, convention = [*node.texts(INPUT), *[""] * 8][:8], CONVENTIONS[operation]
    kind = KINDS[convention.kind]
    reverse = DIRECTIONS.get(attributes.text("direction", "forward"))
    if reverse is None:
        raise NotAGRUError(f"its direction is {printable(attributes.text('direction', ''))}; get the file again")
    if any(attributes.floats("clip")):
        raise NotAGRUError("it clips the inputs of its gates, which is not supported; export it without clip")
    if inputs[7]:
        raise NotAGRUError("it has peepholes, from the cell to the gates, which are not supported; an LSTM without them is opened")
    if attributes.integer("input_forget", 0):
        raise NotAGRUError("its input gate is 1 minus its forget gate (input_forget), which is not supported")
    W, R = scope.tensor(inputs[1], "W"), scope.tensor(inputs[2], "R")
    B = scope.tensor(inputs[3], "B") if inputs[3] else None
    cells = _cells(kind, W, R, B, reverse)
    convention = _with_functions(convention, attributes, len(reverse))
    batch_first = attributes.integer("layout", 0) == 1
    parts, doubt = [f"gates {' '.join(convention.order)}" if len(convention.order) > 1 else convention.gate], ""
    if kind.resets != NONE:
        after = attributes.integer("linear_before_reset", 0) != 0
        convention = replace(convention, reset="after" if after else "before")
        parts += [f"linear_before_reset {int(after)} is reset {convention.reset}", "z keeps"]
        doubt = "" if after else _doubt(B)
    optional_inputs = (("sequence_lens", inputs[4]), ("initial_h", inputs[5]), ("initial_c", inputs[6]))
    sources = "".join(_from(role, tensor_name, scope) for role, tensor_name in optional_inputs)
    evidence = f"an ONNX {operation} node: {', '.join(parts)}{sources}"
    layer = stack(name, cells, convention, evidence, doubt, batch_first)
    shape = len(reverse), layer.hidden_size
    h0, *memory = (
        _initial(role, tensor_name, scope, shape, batch_first) for role, tensor_name in optional_inputs[1 : 1 + len(kind.states)]
    )
    return replace(layer, h0=_joined(h0, *memory), lengths=_lengths(inputs[4], scope))


def _cells(kind: CellKind, W: Tensor, R: Tensor, B: Tensor | None, reverse: tuple[bool, ...]) -> dict[tuple[int, bool], CellArrays]:
    """Return the cells of a node by layer and direction, from W (D, GH, I), R (D, GH, H) and B (D, 2GH), whose first half is the
    bias of the input."""
    D, G = len(reverse), len(kind.gates)
    if len(W.shape) != 3 or len(R.shape) != 3:
        raise NotAGRUError(f"its W {W.shape} and R {R.shape} do not have three axes")
    H, size = R.shape[2], W.shape[2]
    if W.shape != (D, G * H, size) or R.shape != (D, G * H, H) or (B and B.shape != (D, 2 * G * H)) or not H * size:
        raise NotAGRUError(f"its W {W.shape}, R {R.shape} and B {B and B.shape} do not fit {D} direction{'s' * (D > 1)}")
    check_floats((W, R, B))

    def blocks(d: int) -> Blocks:
        bias = B.read()[d].reshape(2, G, H) if B else np.zeros((2, G, H), np.float32)
        w, r = (tensor.read()[d].reshape(G, H, -1).transpose(0, 2, 1) for tensor in (W, R))
        return Blocks(w, r, bias[0], bias[1])

    biases = "two" if B else "none"
    return {(0, r): CellArrays(kind, size, H, biases, W.dtype, partial(blocks, d)) for d, r in enumerate(reverse)}


def _with_functions(convention: Convention, attributes: Attributes, directions: int) -> Convention:
    """Return the convention with the activations of a node. Raises `NotAGRUError` if they are not supported."""
    kind = KINDS[convention.kind]
    usual = {"gru": ["sigmoid", "tanh"], "lstm": ["sigmoid", "tanh", "tanh"], "rnn": ["tanh"]}[kind.name]
    names = [name.lower() for name in attributes.texts("activations")] or usual * directions
    per_direction = [names[i : i + len(usual)] for i in range(0, len(names), len(usual))]
    if len(per_direction) != directions or len(per_direction[-1]) != len(usual):
        raise NotAGRUError("its directions have different activations, or some have none; export each direction by itself")
    if kind.name == "rnn":
        if len(set(names)) > 1 or names[0] not in kind.functions:
            raise NotAGRUError(f"its activation is {printable(' and '.join(names))}; one of tanh and relu is supported")
        return replace(convention, gate=names[0])
    alphas, betas = iter(attributes.floats("activation_alpha")), iter(attributes.floats("activation_beta"))
    conventions = set()
    for gate, *others in per_direction:
        hard = gate == "hardsigmoid"
        if len(set(others)) > 1 or others[0] not in kind.state_functions or not (hard or gate == "sigmoid"):
            raise NotAGRUError(
                f"its activations are {printable(gate)} and {printable(' and '.join(others))}; sigmoid or hard sigmoid, and "
                f"{' or '.join(kind.state_functions)} are supported"
            )
        slope, middle = (next(alphas, HARD_SLOPE), next(betas, MIDDLE)) if hard else (HARD_SLOPE, MIDDLE)
        if (gate_name := gate_named(gate, slope, middle)) is None:
            raise NotAGRUError(f"its hard sigmoid is {slope:g} a + {middle:g}; 0.2 a + 0.5 and a/6 + 0.5 are supported")
        conventions.add(replace(convention, gate=gate_name, state_function=others[0]))
    if len(conventions) != 1:
        raise NotAGRUError("its directions have different activations, or some have none; export each direction by itself")
    return conventions.pop()


def _doubt(B: Tensor | None) -> str:
    if B is None or not all(half.any() for half in np.split(B.read(), 2, axis=1)):
        return ""
    return (
        "linear_before_reset is 0 and both biases are set, as one exporter (torch 2.10) wrote nn.GRU by mistake; "
        "if it was an nn.GRU, read it with reset after"
    )


def _from(role: str, name: str, scope: Scope) -> str:
    if not name:
        return ""
    return f", {role} {'in the file' if name in scope.constants else f'from {printable(name)}'}"


def _joined(h: Tensor | None, c: Tensor | None = None) -> Tensor | None:
    """Return the constant first states of h, or of h and c as (2, directions, B, H); one that is missing is zero."""
    state = h or c
    if state is None or c is None:
        return state
    if h is not None and h.shape != c.shape:
        raise NotAGRUError(f"its initial_h {h.shape} and initial_c {c.shape} do not fit; get the file again")
    return Tensor((2, *c.shape), c.dtype, lambda: np.stack([np.zeros_like(c.read()) if h is None else h.read(), c.read()]))


def _initial(role: str, name: str, scope: Scope, shape: tuple[int, int], batch_first: bool) -> Tensor | None:
    """Return a constant initial_h or initial_c as (directions, B, H); `shape` is (directions, H)."""
    if name not in scope.constants:
        return None
    tensor = scope.tensor(name, role)
    axes = (1, 0, 2) if batch_first else (0, 1, 2)
    if len(tensor.shape) != 3 or (tensor.shape[axes[0]], tensor.shape[2]) != shape or tensor.dtype not in FLOATS:
        raise NotAGRUError(f"its {role} {tensor.shape} does not fit; get the file again")
    return Tensor((shape[0], tensor.shape[axes[1]], shape[1]), tensor.dtype, lambda: tensor.read().transpose(axes))


def _lengths(name: str, scope: Scope) -> Tensor | None:
    """Return constant sequence_lens, (B) whole numbers."""
    values: AnyArray | None = integers(scope.constants[name]) if name in scope.constants else None
    return None if values is None else Tensor(values.shape, "int64", lambda: values)


FORMAT = FileFormat(NAME, is_onnx, find_in_onnx)
