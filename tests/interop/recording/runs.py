"""Small recorded runs for the tests."""

import torch
from torch import nn

from tui_gru.interop.recording import record

torch.set_num_threads(1)
T, B, IN, H = 5, 2, 3, 4


def trained(folder, losses=(), steps=10, model=None, **options):
    """Train for some steps while recording; `losses` are factors of the loss of each step. The recorder, closed."""
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
    recorder.close()
    return recorder
