"""The device of the tests: `pytest tests/capture --device late`.

`cpu` is what it is without. `late` is the CPU as a device whose copies arrive when somebody waits for them, and are NaN before:
what reads them too early gets a wrong number. Any other name is a device of PyTorch, on which all tensors of a test are made.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="cpu, late (the CPU, whose copies arrive late), or a device of PyTorch")


class LateEvent:
    """The end of a copy that arrives when somebody waits for it."""

    def __init__(self, array: np.ndarray, numbers) -> None:
        self._array, self._numbers = array, numbers

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        self._array[...] = self._numbers.numpy()


def begin_late_copy(tensor, dtype):
    """Begin a copy as `tui_gru.capture.calls.begin_copy` does. It has the numbers of this moment, as on the stream of a device."""
    numbers = tensor.detach().to(dtype).clone()
    numpy_type = np.dtype(str(dtype).removeprefix("torch."))
    array = np.full(tuple(tensor.shape), np.nan if numpy_type.kind == "f" else np.iinfo(numpy_type).max, numpy_type)
    return array, LateEvent(array, numbers)


def let_copies_be_late(patch: pytest.MonkeyPatch) -> None:
    """Let the tensors of the CPU be those of a device whose copies arrive late."""
    from tui_gru.capture import calls, pending

    patch.setattr(calls, "begin_copy", begin_late_copy)
    for module in (calls, pending):
        patch.setattr(module, "reading_waits", lambda tensor: True)


READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__")


def reads_in(step: Callable[[], Any]) -> tuple[Any, list[str]]:
    """Return what a step returns, and the methods of tensors by which it reads numbers. On a GPU, Python waits for each; the other
    operations for which it waits are there as well, as PyTorch names them."""
    import torch

    reads = list[str]()

    def counted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: (reads.append(name), original(*args))[1]

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for name in READS:
            patch.setattr(torch.Tensor, name, counted(name, getattr(torch.Tensor, name)))
        patch.setattr(torch, "equal", counted("equal", torch.equal))
        if on_gpu := torch.cuda.is_initialized():
            torch.cuda.set_sync_debug_mode("warn")
        try:
            result = step()
        finally:
            if on_gpu:
                torch.cuda.set_sync_debug_mode("default")
    return result, reads + [str(warning.message) for warning in said if "synchroniz" in str(warning.message)]


@pytest.fixture(autouse=True)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """The device of the tests."""
    name = request.config.getoption("--device")
    if name == "late":
        let_copies_be_late(monkeypatch)
    elif name != "cpu":
        import torch

        torch.set_default_device(name)
    yield name
    if name not in ("cpu", "late"):
        torch.set_default_device("cpu")
