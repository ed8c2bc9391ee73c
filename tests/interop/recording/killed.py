"""A process that records every step of a run without end and prints the number of each kept step, until it is killed."""

import sys

import torch

from tui_gru.interop.recording import record

torch.set_num_threads(1)
model = torch.nn.GRU(32, 64)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
recorder = record(sys.argv[1], model, optimizer, every=1)
number = 0
while True:
    optimizer.zero_grad()
    out, _ = model(torch.randn(16, 8, 32))
    loss = out.pow(2).mean()
    loss.backward()
    optimizer.step()
    recorder.step(loss)
    print(number, flush=True)
    number += 1
