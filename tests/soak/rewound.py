"""Random training scripts, from a grammar of carried state, containers, optimizers, schedules, loaders and places: after the public
verbs of `tui_gru.steps`, losses, weights and random numbers of the rest are those of the plain run, bit for bit."""

import tempfile
from pathlib import Path

import torch

from tests.rewind.run_scripts import checked
from tests.soak.blocks import run_blocks
from tests.statements import assert_none


def block(seed: int) -> int:
    """Train one script plainly, watched, and rewound."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        sentence, refusal = checked(seed, Path(name))
    assert_none([words for words in (sentence, refusal and f"{seed} is refused: {refusal}") if words])
    return 1


if __name__ == "__main__":
    run_blocks(__doc__ or "", "scripts", 3000, block)
