"""A context manager for computations with NumPy: in one thread, whatever number of threads NumPy was loaded with, and without
warnings.

The matrices are small: a second thread costs more time than it saves, and the last bits of a product may depend on the number of
threads. NaN and infinities are results that the debugger shows.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Any

import numpy as np


class _Entered(threading.local):
    """How often a thread is inside, and the settings that it had before."""

    times = 0
    before: np.errstate


class NumPySettings:
    """Inside `with NUMPY_SETTINGS:`, the BLAS library of this process computes in one thread, and NumPy does not warn of numbers
    that are not finite. The context can be nested, which takes almost no time, and entered by several threads.

    Does not limit the threads if OPENBLAS_NUM_THREADS is 1, as for the command `tui-gru`.
    """

    def __init__(self) -> None:
        self._lock, self._threads, self._limit = threading.Lock(), 0, None
        self._entered, self._is_one = _Entered(), os.environ.get("OPENBLAS_NUM_THREADS") == "1"
        self._pools: Any = None

    def __enter__(self) -> None:
        own = self._entered
        own.times += 1
        if own.times > 1:
            return
        own.before = np.errstate(all="ignore")
        own.before.__enter__()
        with self._lock:
            self._threads += 1
            if self._threads == 1:
                self._limit = self._limited()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        own = self._entered
        own.times -= 1
        if own.times:
            return
        own.before.__exit__(kind, error, trace)
        with self._lock:
            self._threads -= 1
            if self._threads == 0 and self._limit is not None:
                self._limit.restore_original_limits()
                self._limit = None

    def _limited(self) -> Any:
        if self._is_one:
            return None
        if self._pools is None:
            from threadpoolctl import ThreadpoolController  # imported late: the command line does not need it

            self._pools = ThreadpoolController().select(user_api="blas")
        return self._pools.limit(limits=1)


NUMPY_SETTINGS = NumPySettings()
