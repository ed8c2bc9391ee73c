"""Records every step of a run for ever, and says each one that is kept: to be killed.

For each folder that is read from standard input, the run is a process of its own, which first says its id; "gone" is said after it.
"""

import os
import sys

import torch

from tui_gru.capture.record import record

torch.set_num_threads(1)
torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)  # imports what an optimizer needs, once for every fork


def run_for_ever(folder):
    model = torch.nn.GRU(32, 64)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = record(folder, model, optimizer, every=1)
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


for line in sys.stdin:
    child = os.fork()
    if not child:
        print(os.getpid(), flush=True)
        run_for_ever(line.strip())
    os.waitpid(child, 0)
    print("gone", flush=True)
