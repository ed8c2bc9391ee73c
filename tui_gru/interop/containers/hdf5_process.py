"""Reads HDF5 files through a process that may crash or be ended (`hdf5.serve`), and that is kept for the next request."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock, Timer
from typing import Any

import numpy as np

from tui_gru.interop.containers.zip_archive import Member
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.tensors import FLOATS, AnyArray, Tensor, byte_size, checked_shape, not_float

SECONDS = 10  # of the processor, for the structure of a file or an array; more for many bytes
PATIENCE = 3  # times as long by the clock, since the machine may be busy
BYTES_PER_SECOND = 50_000_000
MEMORY = 1 << 31  # bytes, besides those of the file and of the array
#: The process has the modules of this one, also where they are not installed.
CODE = "import sys; sys.path[:] = {path!r}; from tui_gru.interop.containers.hdf5 import serve; serve()"
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


class _Reader:
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


READER = _Reader()
atexit.register(READER.end)
