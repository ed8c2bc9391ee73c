"""One of two processes that train together. It captures its own calls and writes its steps to a file, or records them."""

import os
import pickle
import sys
from pathlib import Path

import torch
from torch import distributed, nn

from tests.interop.capture.scripts import IN, B, Model, T, loss_of
from tui_gru.interop.capture import Capture
from tui_gru.interop.recording import record


def main(kind, rank, port, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(5)
    model = Model(num_layers=2)
    if kind == "fsdp":
        from torch.distributed.fsdp import fully_shard

        fully_shard(model.rnn)
        fully_shard(model)
    else:
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    torch.manual_seed(rank)
    steps = []
    with (
        record(folder, model, optimizer, every=1)
        if kind == "record"
        else Capture(model, optimizer, on_step=steps.append) as running
    ):
        for _ in range(3):
            optimizer.zero_grad()
            loss = loss_of(model(torch.randn(T, B, IN))[0])
            loss.backward()
            optimizer.step()
            running.step(loss)
    if steps:
        Path(folder, str(rank)).write_bytes(pickle.dumps(steps))
    distributed.destroy_process_group()


if __name__ == "__main__":
    kind, rank, port, folder = sys.argv[1:]
    main(kind, int(rank), port, folder)
