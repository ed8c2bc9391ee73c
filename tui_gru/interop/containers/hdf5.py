"""A reader of HDF5 files through h5py, in a process of its own (`serve`, asked by `hdf5_process`).

A damaged file can crash the HDF5 library or keep it busy for ever, so no other process calls it. Links and datasets outside the
file are refused, and sizes are checked before reading.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tui_gru.interop.containers.zip_archive import HARMLESS_SIZE, MOST_RATIO, Member
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.tensors import FLOATS, AnyArray, byte_size, checked_shape, not_float

MOST_OBJECTS, MOST_DEPTH = 200_000, 100
IDLE = 10  # seconds without a request after which the process ends
DAMAGED = "its HDF5 structure is damaged or cut off; get the file again"

#: A file by its path, or a member of a zip archive. It is opened for every read.
Source: TypeAlias = Path | Member


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


def serve() -> None:
    """Answer requests on standard input, each a line of JSON, on standard output: a line of JSON, then the numbers of an array."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for whatever a library prints
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl+c is for the program that asks
    while line := _next_line():
        request, array = json.loads(line), None
        member = request["member"]
        source: Source = Path(request["path"]) if member is None else Member(Path(request["path"]), *member)
        try:
            _limit(request["seconds"], request["bytes"])
            if request["dataset"] is None:
                answer = _tree(source)
            else:
                array = _numbers(source, request["dataset"])
                answer = {"shape": array.shape, "dtype": array.dtype.name, "size": array.nbytes}
        except ModelFileError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer).encode() + b"\n")
        if array is not None:
            answers.write(array.tobytes())
        answers.flush()


def _next_line() -> bytes:
    """Return the next request; b"" if there is none for `IDLE` seconds, or the program that asks has ended."""
    import select

    with suppress(OSError):  # Windows has no select for pipes
        if not select.select([0], [], [], IDLE)[0]:
            return b""
    return sys.stdin.buffer.readline()


def _limit(seconds: int, size: int) -> None:
    """Limit the time of the processor and the memory of this process from now on, where the system can."""
    try:
        import resource
    except ImportError:  # on Windows
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    now = 0
    with suppress(OSError):
        now = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    limits = (
        (resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + 1 + seconds),
        (resource.RLIMIT_AS, now + size),
        (resource.RLIMIT_CORE, 0),
    )
    for kind, most in limits:
        with suppress(OSError, ValueError):  # not supported, or above the limit that the user has set
            resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))


def _tree(source: Source) -> dict[str, Any]:
    """Return the datasets of a file, (path, shape, dtype), and its texts, (path of the group, name, text). Raises
    `ModelFileError`."""
    tensors, texts = list[tuple[str, tuple[int, ...], str]](), list[tuple[str, str, str]]()
    with _opened(source) as file:
        waiting, seen = [("", file, 0)], set()
        while waiting:
            path, group, depth = waiting.pop()
            texts += _texts(path, group)
            inner = []
            for name in group:
                inner_path = f"{path}/{name}" if path else name
                if not isinstance(group.get(name, getlink=True), _h5py().HardLink):
                    continue  # do not follow soft links and links to other files
                item = group[name]
                if isinstance(item, _h5py().Dataset):
                    tensors.append((inner_path, checked_shape(item.shape or ()), np.dtype(item.dtype).name))
                elif isinstance(item, _h5py().Group):
                    info = _h5py().h5o.get_info(item.id)
                    if (info.fileno, info.addr) not in seen:
                        seen.add((info.fileno, info.addr))
                        inner.append((inner_path, item, depth + 1))
                if len(tensors) + len(seen) > MOST_OBJECTS or depth > MOST_DEPTH:
                    raise ModelFileError("it has more groups than a model can have; it is not read")
            waiting.extend(reversed(inner))
    return {"tensors": tensors, "texts": texts}


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


def _texts(path: str, group: Any) -> Iterator[tuple[str, str, str]]:
    for name in ("name", "model_config", "keras_version", "backend"):
        if name in group.attrs:
            value = group.attrs[name]
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            if isinstance(text, str):
                yield path, name, text


def _numbers(source: Source, path: str) -> AnyArray:
    """Return the numbers of a dataset as float32, or float64 if they are. Raises `ModelFileError`."""
    with _opened(source) as file:
        dataset = file[path]
        dtype = np.dtype(dataset.dtype).name
        if dtype not in FLOATS:
            raise ModelFileError(not_float(dtype))
        if refusal := _refusal(dataset, dtype, checked_shape(dataset.shape or ())):
            raise ModelFileError(f"{printable(path)} in it {refusal}; it is not read")
        return np.ascontiguousarray(dataset[()], np.float64 if dtype == "float64" else np.float32)


def _refusal(dataset: Any, dtype: str, shape: tuple[int, ...]) -> str:
    """Return the reason to refuse the dataset, or ""."""
    if dataset.is_virtual or dataset.external:
        return "has its numbers in another file"
    most = max(HARMLESS_SIZE, MOST_RATIO * dataset.id.get_storage_size())
    sizes = [byte_size(shape, dtype), byte_size(dataset.chunks or (), dtype)]
    return f"would inflate to {max(sizes)} bytes" if max(sizes) > most else ""
