"""The table of file formats: those that are read, and those that are recognised but not supported, with what to do instead.

The first format that fits a file reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from tui_gru.interop.containers import safetensors
from tui_gru.interop.containers.opened import OpenedFile
from tui_gru.interop.errors import ModelFileError
from tui_gru.interop.formats import keras, npz, onnx, torch_checkpoint
from tui_gru.interop.formats.torch_checkpoint import SAVE_STATE_DICT
from tui_gru.interop.found import FileFormat, Findings
from tui_gru.interop.matching.named_arrays import find_by_name

TORCH_BEFORE_1_6 = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


def _refused(name: str, fits: Callable[[OpenedFile], bool], cure: str) -> FileFormat:
    def find(file: OpenedFile, order: str | None) -> NoReturn:
        raise ModelFileError(f"it is {name}, which is not supported; {cure}")

    return FileFormat(name, fits, find)


def _starts(*starts: bytes, at: int = 0) -> Callable[[OpenedFile], bool]:
    return lambda file: file.head[at:].startswith(starts)


def _has_member(ending: str) -> Callable[[OpenedFile], bool]:
    return lambda file: any(name.endswith(ending) for name in file.members)


REFUSED = (
    _refused(
        "a file of torch before 1.6 (or saved without its zip format)",
        _starts(TORCH_BEFORE_1_6),
        "write torch.save(torch.load(FILE), NEW) with a later torch and open that",
    ),
    _refused("a pickle", _starts(*(b"\x80" + bytes([version]) for version in range(2, 6))), SAVE_STATE_DICT),
    _refused("an exported program of torch", _has_member("serialized_exported_program.json"), SAVE_STATE_DICT),
    _refused("an exported program of torch", _has_member("/archive_format"), SAVE_STATE_DICT),
    _refused("TFLite", _starts(b"TFL3", at=4), "it has no GRU, only the steps of one; open the Keras model that it was made from"),
    _refused("GGUF", _starts(b"GGUF"), "open the model that it was made from"),
    _refused(
        "one array of NumPy, or several without names",
        _starts(b"\x93NUMPY"),
        "save them with names, with np.savez or as safetensors",
    ),
    _refused("a Git LFS pointer, not the file itself", _starts(b"version https://git-lfs"), "run git lfs pull and open it again"),
    _refused(
        "msgpack, as flax writes it",
        lambda file: len(file.head) > 1 and file.head[0] & 0xF0 == 0x80 and file.head[1] & 0xE0 == 0xA0,
        'save flatten_dict(params, sep="/") as safetensors or with np.savez',
    ),
    _refused(
        "a session of this program, or another SQLite database",
        _starts(b"SQLite format 3\0"),
        "open a session with tui-gru --session FILE",
    ),
    _refused("compressed with gzip", _starts(b"\x1f\x8b"), "decompress it first"),
)


def _find_in_safetensors(file: OpenedFile, order: str | None) -> Findings:
    return find_by_name(safetensors.safetensors_tensors(file), SAFETENSORS.name, file.path, order)


SAFETENSORS = FileFormat("safetensors", safetensors.is_safetensors, _find_in_safetensors)

#: ONNX comes last because its files have no magic number.
FORMATS: tuple[FileFormat, ...] = (
    torch_checkpoint.FORMAT,
    keras.ARCHIVE,
    npz.FORMAT,
    keras.HDF5,
    SAFETENSORS,
    *REFUSED,
    onnx.FORMAT,
)
