"""Format npz: a zip archive of NumPy arrays. Arrays of Python objects are pickled, so they are not read."""

from __future__ import annotations

import io
import warnings
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np

from tui_gru.interop.containers.opened import OpenedFile
from tui_gru.interop.containers.zip_archive import Member
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.found import FileFormat, Findings
from tui_gru.interop.matching.named_arrays import find_by_name
from tui_gru.interop.tensors import ITEM_SIZE, AnyArray, ByteOrder, Tensor, byte_size, checked_shape, decode

NAME = "npz"
MOST_NPY_HEADER = 1 << 14
#: The errors of NumPy's parser of headers. It parses Python literals of any kind.
UNREADABLE = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, SyntaxError, OverflowError, RecursionError, MemoryError),
    TokenError,
)
SUFFIX = ".npy"


def is_npz(file: OpenedFile) -> bool:
    return any(name.endswith(SUFFIX) for name in file.members)


def npz_tensors(file: OpenedFile) -> dict[str, Tensor]:
    """Return the arrays by name. Raises `ModelFileError`."""
    arrays = {name.removesuffix(SUFFIX): member for name, member in file.members.items() if name.endswith(SUFFIX)}
    return {name: _npy_tensor(member) for name, member in arrays.items()}


def _npy_tensor(member: Member) -> Tensor:
    head = io.BytesIO(member.read_span(0, min(member.size, MOST_NPY_HEADER)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, column_major, dtype = npy_header(head)
    except UNREADABLE:
        raise ModelFileError(f"{printable(member.name)} in it is not a NumPy array, or is damaged; get the file again") from None
    start, shape = head.tell(), checked_shape(shape)
    kind = dtype.newbyteorder("=").name
    if kind in ITEM_SIZE and member.size != start + byte_size(shape, kind):
        raise ModelFileError(f"the size of {printable(member.name)} in it does not fit its shape; get the file again")
    order: ByteOrder = ">" if dtype.byteorder == ">" else "<"

    def read() -> AnyArray:
        data = memoryview(member.read())[start:]
        return decode(data, kind, shape[::-1], order).T if column_major else decode(data, kind, shape, order)

    return Tensor(shape, kind, read)


def npy_header(head: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array as numpy.save writes it. Returns the shape, True for column-major order, and the type. Raises one
    of `UNREADABLE`."""
    version = np.lib.format.read_magic(head)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(head)
    return np.lib.format.read_array_header_2_0(head)


def find(file: OpenedFile, order: str | None) -> Findings:
    return find_by_name(npz_tensors(file), NAME, file.path, order)


FORMAT = FileFormat(NAME, is_npz, find)
