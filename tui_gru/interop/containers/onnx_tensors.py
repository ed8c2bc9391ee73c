"""A reader of ONNX's TensorProto, whose numbers are in the message or in a file beside it. Field numbers are those of
onnx.proto."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from tui_gru.interop.containers.protobuf import Message
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.tensors import ITEM_SIZE, AnyArray, Tensor, byte_size, checked_shape, decode

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
