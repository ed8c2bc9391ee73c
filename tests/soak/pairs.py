"""Random models, and every public name of a session on each, against an independent training loop in PyTorch.

python -m tests.soak.pairs --count 500 --seed 0

A block is one model with a few batches (tests/session/pairs); its number is the seed of all choices. A model that is refused,
or whose numbers grow too large, does not count.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import numpy as np
import torch

from tests.session.pairs.sweep import Left, Sweep
from tests.session.pairs.verbs import CHECKS
from tests.soak.blocks import run_blocks

TOTALS: Counter[str] = Counter()


def block(seed: int) -> int:
    """Run all checks on one model. Return 1, or 0 for a model that was left out."""
    torch.set_num_threads(1)
    try:
        sweep = Sweep(seed)
    except Left:
        TOTALS["left out"] += 1
        return 0
    errors = []
    for check in CHECKS:
        with np.errstate(all="ignore"), suppress(Left):
            TOTALS["checks"] += 1
            try:
                check(sweep)
            except Left:
                raise
            except Exception as error:
                error.add_note(f"in {check.__name__} of {sweep.setup}, {sweep.events}")
                errors.append(error)
    TOTALS["comparisons"] += sweep.comparisons
    print(dict(TOTALS), flush=True)
    if errors:
        raise ExceptionGroup(f"{len(errors)} checks", errors)
    return 1


if __name__ == "__main__":
    run_blocks(__doc__ or "", "models", 500, block)
