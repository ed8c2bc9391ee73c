"""Random cells: engine, derivations, check, what-if, texts and influence against an independent training loop.

python -m tests.soak.cells --count 2000 --seed 0

A block is one random cell with three batches (tests/debugger/random_cells.py); its number is the seed of the cell. A cell that is
refused, or whose numbers grow too large, does not count.
"""

from __future__ import annotations

import numpy as np

from tests.debugger.random_cells import sweep
from tests.soak.blocks import run_blocks


def block(seed: int) -> int:
    """Check one cell. Return 1, or 0 for a cell that was left out."""
    with np.errstate(all="ignore"):
        return int(sweep(seed) > 0)


if __name__ == "__main__":
    run_blocks(__doc__ or "", "cells", 2_000, block)
