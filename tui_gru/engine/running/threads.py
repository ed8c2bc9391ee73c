"""A context manager that limits matrix products to one thread, whatever number of threads NumPy was loaded with.

The matrices are small: a second thread costs more time than it saves, and the last bits of a product may depend on the number of
threads.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Any


class OneThread:
    """Inside `with ONE_THREAD:`, the BLAS library of this process computes in one thread. The context can be nested and entered by
    several threads.

    Does nothing if OPENBLAS_NUM_THREADS is 1, as for the command `tui-gru`.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._limit = threading.Lock(), 0, None
        self._pools: Any = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._limit = self._limited()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._limit is not None:
                self._limit.restore_original_limits()
                self._limit = None

    def _limited(self) -> Any:
        if os.environ.get("OPENBLAS_NUM_THREADS") == "1":
            return None
        if self._pools is None:
            from threadpoolctl import ThreadpoolController  # imported late: the command line does not need it

            self._pools = ThreadpoolController().select(user_api="blas")
        return self._pools.limit(limits=1)


ONE_THREAD = OneThread()
