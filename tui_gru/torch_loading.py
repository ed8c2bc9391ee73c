"""Import of PyTorch on first use, without blocking other threads."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from tui_gru.errors import TuiGruError


def is_installed() -> bool:
    """Return True if torch can be imported, as far as that can be told without importing it."""
    if "torch" in sys.modules:
        return sys.modules["torch"] is not None
    try:
        return find_spec("torch") is not None
    except (ImportError, ValueError):  # an import hook refuses it
        return False


def require_torch(need: str) -> None:
    """Import torch. Raises `TuiGruError`, in one line that says what to install, if that fails; `need` is what needs torch."""
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        if not is_installed():
            raise TuiGruError(f"{need} needs PyTorch, which is not installed: pip install torch") from None
        reason = " ".join(str(error).split())
        raise TuiGruError(f"{need} needs PyTorch, which is installed but cannot be loaded ({reason}); install it again") from error


def load_torch(need: str = "the check") -> None:
    """Import torch and let it compute in one thread. The first import takes about a second; other threads can run meanwhile.

    Raises `TuiGruError` as `require_torch` does.

    Python holds its global lock while it loads a shared library, and PyTorch's library is so large that every other thread would be
    blocked for 150-250 ms. So the library is loaded first by a call that releases the lock; the import then finds it loaded. If
    that fails, the import still works, with the longer pause.
    """
    if "torch" not in sys.modules and is_installed():
        _load_libraries()
    require_torch(need)
    import torch

    torch.set_num_threads(1)


def _load_libraries() -> None:
    """Load the libraries with dlopen as a foreign function, during which ctypes releases the lock; ctypes's own loading does
    not."""
    spec = find_spec("torch")
    if os.name != "posix" or spec is None or not spec.submodule_search_locations:
        return
    folder = Path(spec.submodule_search_locations[0]) / "lib"
    suffix = "dylib" if sys.platform == "darwin" else "so"
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    # The same two libraries, in the same order and with the same flags as in torch.
    for name, flags in (("libtorch_global_deps", os.RTLD_NOW | os.RTLD_GLOBAL), ("libtorch_python", os.RTLD_NOW)):
        library = folder / f"{name}.{suffix}"
        if library.exists():
            dlopen(os.fsencode(library), flags)
