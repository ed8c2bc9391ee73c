"""A reader of HDF5 files through h5py. Links and datasets outside the file are refused, and sizes are checked before reading."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tui_gru.interop.containers.zip_archive import HARMLESS_SIZE, MOST_RATIO, Member
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.tensors import FLOATS, Array, Tensor, byte_size, checked_shape, not_float

MOST_OBJECTS, MOST_DEPTH = 200_000, 100
DAMAGED = "its HDF5 structure is damaged or cut off; get the file again"

#: A file by its path, or a member of a zip archive. It is opened for every read.
Source: TypeAlias = Path | Member


@dataclass(frozen=True)
class Tree:
    """The datasets by path, and the text attributes by the path of the group and the name of the attribute."""

    tensors: dict[str, Tensor]
    texts: dict[tuple[str, str], str]


class Window(io.RawIOBase):
    """A part of a file, readable as a file."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = path.open("rb"), start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        wanted = min(len(buffer), max(0, self._size - self._at))
        count = self._file.readinto(memoryview(buffer)[:wanted])
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def read_tree(source: Source) -> Tree:
    """Read the groups and datasets of a file. Raises `ModelFileError`, also if h5py is not installed."""
    tree = Tree({}, {})
    with _opened(source) as file:
        waiting, seen = [("", file, 0)], set()
        while waiting:
            path, group, depth = waiting.pop()
            _take_texts(tree, path, group)
            inner = []
            for name in group:
                inner_path = f"{path}/{name}" if path else name
                if not isinstance(group.get(name, getlink=True), _h5py().HardLink):
                    continue  # do not follow soft links and links to other files
                item = group[name]
                if isinstance(item, _h5py().Dataset):
                    tree.tensors[inner_path] = _tensor(source, inner_path, item)
                elif isinstance(item, _h5py().Group):
                    info = _h5py().h5o.get_info(item.id)
                    if (info.fileno, info.addr) not in seen:
                        seen.add((info.fileno, info.addr))
                        inner.append((inner_path, item, depth + 1))
                if len(tree.tensors) + len(seen) > MOST_OBJECTS or depth > MOST_DEPTH:
                    raise ModelFileError("it has more groups than a model can have; it is not read")
            waiting.extend(reversed(inner))
    return tree


@contextmanager
def _opened(source: Source) -> Iterator[Any]:
    h5py = _h5py()
    if isinstance(source, Path):
        file: Any = str(source)
    elif source.stored:
        file = Window(source.path, source.data_offset(), source.size)
    else:
        file = io.BytesIO(source.read())
    try:
        with h5py.File(file, "r") as opened:
            yield opened
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise error if isinstance(error, ModelFileError) else ModelFileError(DAMAGED) from None
    finally:
        if not isinstance(file, str):
            file.close()


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise ModelFileError("it is an HDF5 file, and reading those needs h5py: pip install 'tui-gru[keras]'") from None
    return h5py


def _take_texts(tree: Tree, path: str, group: Any) -> None:
    for name in ("name", "model_config", "keras_version", "backend"):
        if name in group.attrs:
            value = group.attrs[name]
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            if isinstance(text, str):
                tree.texts[path, name] = text


def _tensor(source: Source, path: str, dataset: Any) -> Tensor:
    dtype = np.dtype(dataset.dtype).name
    shape = checked_shape(dataset.shape or ())
    refusal = _refusal(dataset, dtype, shape)

    def read() -> Array:
        if dtype not in FLOATS:
            raise ModelFileError(not_float(dtype))
        if refusal:
            raise ModelFileError(f"{printable(path)} in it {refusal}; it is not read")
        with _opened(source) as file:
            array = np.asarray(file[path][()])
        if array.shape != shape:
            raise ModelFileError(f"{printable(path)} in it has changed; open the file again")
        return array.astype(np.float64 if dtype == "float64" else np.float32)

    return Tensor(shape, dtype, read)


def _refusal(dataset: Any, dtype: str, shape: tuple[int, ...]) -> str:
    """Return the reason to refuse the dataset, or ""."""
    if dtype not in FLOATS:
        return ""
    if dataset.is_virtual or dataset.external:
        return "has its numbers in another file"
    most = max(HARMLESS_SIZE, MOST_RATIO * dataset.id.get_storage_size())
    sizes = [byte_size(shape, dtype), byte_size(dataset.chunks or (), dtype)]
    return f"would inflate to {max(sizes)} bytes" if max(sizes) > most else ""
