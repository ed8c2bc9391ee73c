"""Reads HDF5 files in a process of its own, which a damaged file can crash or hang without harm."""

from __future__ import annotations

import atexit
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock, Timer
from typing import Any, TypeAlias

import numpy as np

from tui_gru.errors import ModelFileError, printable
from tui_gru.files.arrays import FLOATS, HARMLESS_SIZE, MOST_RATIO, AnyArray, Member, Tensor, byte_size, checked_shape, not_float

# ------------------------------------------------------------------------------
# A reader of HDF5 files through h5py, in a process of its own (`serve`, asked by `hdf5_process`).
#
# A damaged file can crash the HDF5 library or keep it busy for ever, so no other process calls it. Links and datasets outside the
# file are refused, and sizes are checked before reading.


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
        length = min(len(buffer), max(0, self._size - self._at))
        count = self._file.readinto(memoryview(buffer)[:length])
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def answer_requests() -> None:
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
        waiting, visited = [("", file, 0)], set()
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
                    if (info.fileno, info.addr) not in visited:
                        visited.add((info.fileno, info.addr))
                        inner.append((inner_path, item, depth + 1))
                if len(tensors) + len(visited) > MOST_OBJECTS or depth > MOST_DEPTH:
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


# ------------------------------------------------------------------------------
# Reads HDF5 files through a process that may crash or be ended (`hdf5.answer_requests`), and that is kept for the next request.


SECONDS = 3  # of the processor, for the structure of a file or an array; more for many bytes. Ten thousand layers take two.
PATIENCE = 3  # times as long by the clock, since the machine may be busy
BYTES_PER_SECOND = 10_000_000
MEMORY = 1 << 31  # bytes, besides those of the file and of the array
#: The process has the modules of this one, also where they are not installed.
CODE = "import sys; sys.path[:] = {path!r}; from tui_gru.files.hdf5 import answer_requests; answer_requests()"
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL")}

#: A file by its path, or a member of a zip archive.
HDF5Source = Path | Member


@dataclass(frozen=True)
class Tree:
    """The datasets by path, and the text attributes by the path of the group and the name of the attribute."""

    tensors: dict[str, Tensor]
    texts: dict[tuple[str, str], str]


def read_tree(source: HDF5Source) -> Tree:
    """Read the groups and datasets of a file. Raises `ModelFileError`, also if h5py is not installed."""
    if find_spec("h5py") is None:
        raise ModelFileError("it is an HDF5 file, and reading those needs h5py: pip install 'tui-gru[keras]'")
    answer, _ = READER.ask(source)
    tensors = {path: _tensor(source, path, checked_shape(shape), dtype) for path, shape, dtype in answer["tensors"]}
    return Tree(tensors, {(path, name): text for path, name, text in answer["texts"]})


def _tensor(source: HDF5Source, path: str, shape: tuple[int, ...], dtype: str) -> Tensor:
    return Tensor(shape, dtype, partial(_numbers_in, source, path, shape, dtype))


def _numbers_in(source: HDF5Source, path: str, shape: tuple[int, ...], dtype: str) -> AnyArray:
    if dtype not in FLOATS:
        raise ModelFileError(not_float(dtype))
    answer, data = READER.ask(source, path, byte_size(shape, dtype))
    if tuple(answer["shape"]) != shape:
        raise ModelFileError(f"{printable(path)} in it has changed; open the file again")
    return np.frombuffer(data, answer["dtype"]).reshape(shape)


class _ReaderProcess:
    """The process, which is started when it is first asked, and again after it has ended."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner, self._is_late = 0, False

    def ask(self, source: HDF5Source, dataset: str | None = None, expected: int = 0) -> tuple[dict[str, Any], bytes]:
        """Return the structure of a file, or a dataset with its bytes, of which `expected` are expected. Raises
        `ModelFileError`."""
        path, member = (source, None) if isinstance(source, Path) else (source.path, astuple(source)[1:])
        size = expected + (path.stat().st_size if isinstance(source, Path) else source.size)
        # An absurd size in a damaged file is refused by the process, once it has looked at what is stored.
        seconds = SECONDS + min(size // BYTES_PER_SECOND, 3600)
        request = {
            "path": os.path.abspath(path), "member": member, "dataset": dataset,
            "seconds": seconds, "bytes": min(MEMORY + 4 * size, 1 << 60),
        }  # fmt: skip
        with self._lock:
            for _ in range(2):  # a process that had nothing to do may just be ending
                answer = self._answer(json.dumps(request).encode() + b"\n", PATIENCE * seconds)
                if answer is not None:
                    break
                if (code := self._end()) != 0:
                    break
        if answer is None:
            late = self._is_late or code == -24  # SIGXCPU: the time of the processor is over
            how = f"reading it did not end in {seconds} seconds" if late else "it crashes the HDF5 library"
            raise ModelFileError(f"its HDF5 structure is damaged: {how}; get the file again")
        if "error" in answer[0]:
            raise ModelFileError(answer[0]["error"])
        return answer

    def _answer(self, request: bytes, seconds: float) -> tuple[dict[str, Any], bytes] | None:
        """Return the answer to a request; None if the process ends before."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        self._is_late = False

        def give_up() -> None:
            self._is_late = True
            process.kill()

        end = Timer(seconds, give_up)
        end.daemon = True
        end.start()
        try:
            process.stdin.write(request)
            process.stdin.flush()
            if not (line := process.stdout.readline()).endswith(b"\n"):
                return None
            answer = json.loads(line)
            data = process.stdout.read(answer.get("size", 0))
            return (answer, data) if len(data) == answer.get("size", 0) else None
        except OSError:  # the pipe is broken
            return None
        except BaseException:  # interrupted: the rest of the answer would be taken for the next one
            self._end()
            raise
        finally:
            end.cancel()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._end()
            code, pipe = CODE.format(path=sys.path), subprocess.PIPE
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", code],
                    stdin=pipe,
                    stdout=pipe,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, **ONE_THREAD},
                )
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise ModelFileError(f"reading HDF5 needs a second Python process, which does not start: {reason}") from None
            self._owner = os.getpid()
        return self._process

    def _end(self) -> int:
        """End the process, if it is one of this process and not of the one that this is a copy (fork) of. Returns its exit code."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return 0
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            return process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def end(self) -> None:
        with self._lock:
            self._end()


READER = _ReaderProcess()
atexit.register(READER.end)
