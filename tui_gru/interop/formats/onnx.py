"""Format ONNX: the GRU nodes of a model's graphs. Field numbers are those of onnx.proto, defaults those of the GRU operator."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tui_gru.interop.blocks import Blocks
from tui_gru.interop.containers.onnx_tensors import TENSOR_NAME, integers, onnx_tensor
from tui_gru.interop.containers.opened import OpenedFile
from tui_gru.interop.containers.protobuf import Message, whole_file
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.found import Convention, FileFormat, Findings, FoundGRU
from tui_gru.interop.matching.cells import CellArrays, NotAGRUError, check_floats, stack
from tui_gru.interop.tensors import FLOATS, AnyArray, Tensor

NAME = "ONNX"
IR_VERSION, GRAPH = 1, 7  # fields of a model
MODEL_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
NODE, INITIALIZER = 1, 5  # fields of a graph
INPUT, OUTPUT, NODE_NAME, OP_TYPE, ATTRIBUTE = 1, 2, 3, 4, 5  # fields of a node
ATTRIBUTE_NAME, FLOAT, INT, STRING, TENSOR, SUBGRAPH, NUMBERS, STRINGS, SUBGRAPHS = 1, 2, 3, 4, 5, 6, 7, 9, 11
MOST_NESTED = 20
OTHERS = {"LSTM": "an LSTM", "RNN": "a plain RNN"}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
#: The default alpha and beta of the hard sigmoid.
HARD_SIGMOID = (0.2, 0.5)


def is_onnx(file: OpenedFile) -> bool:
    """Return True if the first fields are those of a model, with the version before the graph. ONNX has no magic number. The graph
    may be cut off."""
    head, at, seen = file.head, 0, set()
    while at < len(head):
        key, at = head[at], at + 1
        number, wire = key >> 3, key & 7
        if key >= 128 or number not in MODEL_FIELDS or wire not in (0, 2):
            return False
        if number == GRAPH:
            return wire == 2 and IR_VERSION in seen
        seen.add(number)
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

    def tensor(self, name: str, what: str) -> Tensor:
        """Return a constant. Raises `NotAGRUError` if it is computed. `what` names it in the message."""
        if message := self.constants.get(name):
            return onnx_tensor(message, self.path)
        operation = self.made_by.get(name)
        if operation in ("DequantizeLinear", "DynamicQuantizeLinear"):
            raise NotAGRUError("it is quantised; open the model in float that it was made from")
        if operation:
            raise NotAGRUError(f"its {what} is computed by {printable(operation)}, not stored; export it with constant folding")
        raise NotAGRUError(f"its {what} is an input of the graph, not stored; store it as an initializer")


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


def find(file: OpenedFile, order: str | None) -> Findings:
    """Find the GRU nodes, each as a GRU of one layer. Raises `ModelFileError`."""
    model = whole_file(file.path)
    graphs = model.messages(GRAPH)
    if not graphs:
        raise ModelFileError("it has no graph; get the file again")
    found: list[FoundGRU] = []
    refused: list[str] = []
    for node, operation, scope in _recurrent(graphs[-1], Scope(file.path, {}, {}), 0):
        number = len(found) + len(refused) + 1
        name = printable(node.text(NODE_NAME) or (node.texts(OUTPUT) or [""])[0]) or f"{operation}_{number}"
        try:
            if operation != "GRU":
                raise NotAGRUError(f"it is {OTHERS[operation]}, and only GRUs are opened")
            found.append(replace(_gru(name, node, scope), format=NAME, path=file.path))
        except ModelFileError as error:
            refused.append(f"{name}: {error}")
    return Findings(tuple(found), tuple(refused))


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
        elif operation == "GRU" or operation in OTHERS:
            yield node, operation, scope
        elif operation in ("If", "Loop", "Scan"):
            for attribute in node.messages(ATTRIBUTE):
                for inner in (*attribute.messages(SUBGRAPH), *attribute.messages(SUBGRAPHS)):
                    yield from _recurrent(inner, scope, depth + 1)


def _gru(name: str, node: Message, scope: Scope) -> FoundGRU:
    attributes = Attributes({message.text(ATTRIBUTE_NAME): message for message in node.messages(ATTRIBUTE)})
    inputs = [*node.texts(INPUT), *[""] * 6][:6]
    reverse = DIRECTIONS.get(attributes.text("direction", "forward"))
    if reverse is None:
        raise NotAGRUError(f"its direction is {printable(attributes.text('direction', ''))}; get the file again")
    if any(attributes.floats("clip")):
        raise NotAGRUError("it clips the inputs of its gates, which is not supported; export it without clip")
    W, R = scope.tensor(inputs[1], "W"), scope.tensor(inputs[2], "R")
    B = scope.tensor(inputs[3], "B") if inputs[3] else None
    cells = _cells(W, R, B, reverse)
    after = attributes.integer("linear_before_reset", 0) != 0
    gate = _gate(attributes, len(reverse))
    batch_first = attributes.integer("layout", 0) == 1
    evidence = (
        f"an ONNX GRU node: gates z r n, linear_before_reset {int(after)} is reset {'after' if after else 'before'}, z keeps"
        f"{_from('sequence_lens', inputs[4], scope)}{_from('initial_h', inputs[5], scope)}"
    )
    convention = Convention("zrn", "after" if after else "before", "keeps", gate)
    gru = stack(name, cells, convention, evidence, "" if after else _doubt(B), batch_first)
    return replace(gru, h0=_h0(inputs[5], scope, (len(reverse), gru.hidden_size), batch_first), lengths=_lengths(inputs[4], scope))


def _cells(W: Tensor, R: Tensor, B: Tensor | None, reverse: tuple[bool, ...]) -> dict[tuple[int, bool], CellArrays]:
    """Return the cells of a node by layer and direction, from W (D, 3H, I), R (D, 3H, H) and B (D, 6H), whose first half is the
    bias of the input."""
    D = len(reverse)
    if len(W.shape) != 3 or len(R.shape) != 3:
        raise NotAGRUError(f"its W {W.shape} and R {R.shape} do not have three axes")
    H, size = R.shape[2], W.shape[2]
    if W.shape != (D, 3 * H, size) or R.shape != (D, 3 * H, H) or (B and B.shape != (D, 6 * H)) or not H * size:
        raise NotAGRUError(f"its W {W.shape}, R {R.shape} and B {B and B.shape} do not fit {D} direction{'s' * (D > 1)}")
    check_floats((W, R, B))

    def blocks(d: int) -> Blocks:
        bias = B.read()[d].reshape(2, 3, H) if B else np.zeros((2, 3, H), np.float32)
        w, r = (tensor.read()[d].reshape(3, H, -1).transpose(0, 2, 1) for tensor in (W, R))
        return Blocks(w, r, bias[0], bias[1])

    kind = "two" if B else "none"
    return {(0, r): CellArrays(size, H, kind, W.dtype, partial(blocks, d)) for d, r in enumerate(reverse)}


def _gate(attributes: Attributes, directions: int) -> str:
    """Return the activation of the gates. Raises `NotAGRUError` if it is not supported, or if the candidate's is not tanh."""
    names = [name.lower() for name in attributes.texts("activations")] or ["sigmoid", "tanh"] * directions
    alphas, betas = iter(attributes.floats("activation_alpha")), iter(attributes.floats("activation_beta"))
    gates = set()
    for gate, candidate in zip(names[::2], names[1::2], strict=False):
        if candidate != "tanh" or gate not in ("sigmoid", "hardsigmoid"):
            raise NotAGRUError(
                f"its activations are {printable(gate)} and {printable(candidate)}; sigmoid or hard sigmoid, and tanh are supported"
            )
        slope, middle = (next(alphas, HARD_SIGMOID[0]), next(betas, HARD_SIGMOID[1])) if gate == "hardsigmoid" else (0.0, 0.0)
        kinds = {(0.0, 0.0): "sigmoid", HARD_SIGMOID: "hard_sigmoid", (1 / 6, 0.5): "hard_sigmoid_6"}
        kind = next(
            (k for values, k in kinds.items() if math.isclose(values[0], slope, rel_tol=1e-4) and values[1] == middle), None
        )
        if kind is None:
            raise NotAGRUError(f"its hard sigmoid is {slope:g} a + {middle:g}; 0.2 a + 0.5 and a/6 + 0.5 are supported")
        gates.add(kind)
    if len(gates) != 1 or len(names) != 2 * directions:
        raise NotAGRUError("its directions have different activations, or some have none; export each direction by itself")
    return gates.pop()


def _doubt(B: Tensor | None) -> str:
    if B is None or not all(half.any() for half in np.split(B.read(), 2, axis=1)):
        return ""
    return (
        "linear_before_reset is 0 and both biases are set, as one exporter (torch 2.10) wrote nn.GRU by mistake; "
        "if it was an nn.GRU, read it with reset after"
    )


def _from(what: str, name: str, scope: Scope) -> str:
    if not name:
        return ""
    return f", {what} {'in the file' if name in scope.constants else f'from {printable(name)}'}"


def _h0(name: str, scope: Scope, shape: tuple[int, int], batch_first: bool) -> Tensor | None:
    """Return a constant initial_h as (directions, B, H); `shape` is (directions, H)."""
    if name not in scope.constants:
        return None
    tensor = scope.tensor(name, "initial_h")
    axes = (1, 0, 2) if batch_first else (0, 1, 2)
    if len(tensor.shape) != 3 or (tensor.shape[axes[0]], tensor.shape[2]) != shape or tensor.dtype not in FLOATS:
        raise NotAGRUError(f"its initial_h {tensor.shape} does not fit; get the file again")
    return Tensor((shape[0], tensor.shape[axes[1]], shape[1]), tensor.dtype, lambda: tensor.read().transpose(axes))


def _lengths(name: str, scope: Scope) -> Tensor | None:
    """Return constant sequence_lens, (B) whole numbers."""
    values: AnyArray | None = integers(scope.constants[name]) if name in scope.constants else None
    return None if values is None else Tensor(values.shape, "int64", lambda: values)


FORMAT = FileFormat(NAME, is_onnx, find)
