"""Two processes that train together, in each of the ways of `KINDS`.

With "record" they record into the folder `record`; otherwise each writes its steps to a file named for its rank in the folder of
the kind. python -m tests.capture.ranks FOLDER
"""

import os
import pickle
import shutil
import sys
from pathlib import Path

import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard

from tests.capture.scripts import IN, B, Model, T, loss_of
from tui_gru.capture.hooks import Capture
from tui_gru.capture.record import record

KINDS = ("ddp", "fsdp", "record", "again")
torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)  # imports what an optimizer needs, once for every fork


def train(kind, rank, folder):
    torch.manual_seed(5)
    model = Model(num_layers=2)
    if kind == "fsdp":
        fully_shard(model.rnn)
        fully_shard(model)
    else:
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    torch.manual_seed(rank)
    steps = []
    with (
        record(folder, model, optimizer, every=1)
        if kind in ("record", "again")
        else Capture(model, optimizer, on_step=steps.append) as running
    ):
        for _ in range(3):
            optimizer.zero_grad()
            loss = loss_of(model(torch.randn(T, B, IN))[0])
            loss.backward()
            optimizer.step()
            running.step(loss)
    if steps:
        folder.mkdir(exist_ok=True)
        (folder / str(rank)).write_bytes(pickle.dumps(steps))


def main(folder):
    """Rank 1 is a fork, so that PyTorch is imported once."""
    other = os.fork()
    rank = 0 if other else 1
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for kind in KINDS:
        if kind == "again" and rank == 0:  # an earlier run, of which one rank had not begun to record
            shutil.copytree(folder / "record", folder / "again", ignore=shutil.ignore_patterns("*rank1*"))
        distributed.barrier()
        train(kind, rank, folder / kind)
    distributed.destroy_process_group()
    if other:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
