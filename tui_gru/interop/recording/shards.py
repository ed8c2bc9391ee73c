"""Files of one step in safetensors format, written under a temporary name, renamed, and never changed afterwards.

The metadata has the checksums (CRC-32): first of the header, as it is without them, then of the bytes of each tensor, in the order
of the header. Recordings of earlier versions have none.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tui_gru.interop.containers import safetensors
from tui_gru.interop.containers.opened import OpenedFile, open_file
from tui_gru.interop.errors import ModelFileError
from tui_gru.interop.tensors import AnyArray, Tensor

KEY, CHECKSUMS = "tui_gru", "checksums"  # the keys of the metadata; the first is of a JSON object
DAMAGED = "its header does not match its checksum; get the file again"
HEADER_SIZE = 1 << 14  # bytes; more than most headers have
_NONE = b'"%s":""' % CHECKSUMS.encode()
_WRITTEN = re.compile(rb'"%s":"([0-9a-f ]*)"' % CHECKSUMS.encode())
_TYPES = {"float32": "F32", "float64": "F64", "int64": "I64"}


def write_shard(path: Path, arrays: Mapping[str, AnyArray], about: Mapping[str, Any], *, half: bool = False) -> int:
    """Write arrays and a JSON object, and return the size in bytes.

    `half` writes numbers that are exact in bfloat16 as bfloat16. If the process is killed at any time, the file is complete or
    missing. Raises `OSError`.
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
    beside = path.with_name(f"{path.name}.part")
    try:
        with open(beside, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for piece in pieces:
                file.write(piece.data)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return 8 + len(text) + at


def _encoded(array: AnyArray, half: bool) -> tuple[str, AnyArray]:
    array = np.ascontiguousarray(array)
    if half and array.dtype == np.float32 and not (bits := array.view(np.uint32) & 0xFFFF).any():
        del bits
        return "BF16", (array.view(np.uint32) >> 16).astype("<u2")
    return _TYPES[array.dtype.name], array.astype(array.dtype.newbyteorder("<"), copy=False)


def read_shard(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the JSON object and the arrays, which are read on demand. Raises `ModelFileError`."""
    return described(open_shard(path))


def open_shard(path: Path) -> OpenedFile:
    """Open a file of a step, and read as many bytes as its header usually has. Raises `ModelFileError`, and `FileNotFoundError` if
    it has been deleted."""
    try:
        return open_file(path, HEADER_SIZE)
    except ModelFileError:
        path.lstat()
        raise


def described(file: OpenedFile) -> tuple[dict[str, Any], dict[str, Tensor]]:
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
    for tensor in described(file)[1].values():
        tensor.read()
    return file.size


def checked_header(text: bytes) -> tuple[int, ...]:
    """Compare the text of a header with its checksum, and return those of the tensors; none if it was written without. Raises
    `ModelFileError`."""
    written = _WRITTEN.search(text)
    if written is None:
        return ()
    own, *others = (int(each, 16) for each in written[1].split()) if written[1] else (-1,)
    if zlib.crc32((text[: written.start()] + _NONE + text[written.end() :]).rstrip(b" ")) != own:
        raise ModelFileError(DAMAGED)
    return tuple(others)


def _about(header: Mapping[str, Any]) -> dict[str, Any]:
    about = header.get("__metadata__")
    try:
        found = json.loads(about[KEY]) if isinstance(about, dict) else None
    except (KeyError, TypeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelFileError("it is not a step of a recording; give the folder that tui_gru.record wrote")
    if about is not None and not about.keys() <= {KEY, CHECKSUMS}:
        raise ModelFileError(DAMAGED)  # a flipped bit in the name must not make it a file without checksums
    return found
