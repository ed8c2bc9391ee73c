"""Small recorded runs for the tests."""

import atexit
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import nn

from tests.capture.test_scripts import run
from tui_gru.capture.record import record

torch.set_num_threads(1)
T, B, IN, H = 5, 2, 3, 4


def trained(folder, losses=(), steps=10, model=None, close=True, **options):
    """Train for some steps while recording; `losses` are factors of the loss of each step. Returns the recorder, closed or not."""
    torch.manual_seed(2)
    model = model or nn.GRU(IN, H)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = record(folder, model, optimizer, **options)
    for number in range(len(losses) or steps):
        optimizer.zero_grad()
        out, _ = model(torch.randn(T, B, IN))
        loss = (out + 1).pow(2).mean()
        loss.backward()
        optimizer.step()
        recorder.step(losses[number] if losses else loss)
    if close:
        recorder.close()
    return recorder


@cache
def folder_of_scripts():
    """Return a folder that is deleted when the process ends."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return folder


@cache
def recorded(script):
    """The recording of every step of a script (`scripts.py`), which nobody may change, and what `run` gives."""
    path, recorders = Path(folder_of_scripts().name) / f"{script.__name__}.gru", []

    def begin(module, optimizer):
        recorders.append(record(path, module, optimizer, every=1))
        return recorders[0]

    result = run(script, begin)
    recorders[0].close()
    return path, result
