"""PyTorch, imported where it is first asked for, beside a thread that must not be kept waiting."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path


def load_torch() -> None:
    """Import torch, one thread for its products. The first time takes about a second; another thread can go on meanwhile.

    Python keeps its lock while it loads a library of machine code, and PyTorch's is so large that every other thread would
    stand still for 150-250 ms. So it is loaded beforehand by a call that lets go of the lock; the import then finds it there.
    Where that does not work, only the pause is longer.
    """
    if "torch" not in sys.modules:
        _load_libraries()
    import torch

    torch.set_num_threads(1)


def _load_libraries() -> None:
    """dlopen as a foreign function: ctypes lets go of the lock for those, though not for its own loading."""
    spec = find_spec("torch")
    if os.name != "posix" or spec is None or not spec.submodule_search_locations:
        return
    folder = Path(spec.submodule_search_locations[0]) / "lib"
    suffix = "dylib" if sys.platform == "darwin" else "so"
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    # The same two, in the same order and with the same flags, as torch loads them itself.
    for name, flags in (("libtorch_global_deps", os.RTLD_NOW | os.RTLD_GLOBAL), ("libtorch_python", os.RTLD_NOW)):
        library = folder / f"{name}.{suffix}"
        if library.exists():
            dlopen(os.fsencode(library), flags)
