"""Random models and random scripts, and every public name of a session on each, against an independent loop and autograd.

python -m tests.soak.pairs --count 500 --seed 0

A block is one model with a few batches, and one module of random source text that a script trains (tests/session/pairs); its number
is the seed of all choices. A model that is refused, or whose numbers grow too large, does not count, nor does a module that is not
captured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from tests.session.pairs import script_verbs, verbs
from tests.session.pairs.modules import ScriptSweep
from tests.session.pairs.sweep import Left, Sweep
from tests.soak.blocks import run_blocks

TOTALS: Counter[str] = Counter()


def block(seed: int) -> int:
    """Run all checks on one model and on one script. Return how many of the two were examined."""
    torch.set_num_threads(1)
    errors: list[Exception] = []
    with TemporaryDirectory() as folder, np.errstate(all="ignore"):
        done = examined("models", lambda: Sweep(seed), verbs.CHECKS, errors)
        done += examined("scripts", lambda: ScriptSweep(seed, Path(folder)), script_verbs.CHECKS, errors)
    print(dict(TOTALS), flush=True)
    if errors:
        raise ExceptionGroup(f"{len(errors)} checks", errors)
    return done


def examined(what: str, begin: Callable[[], Any], checks: Iterable[Callable[[Any], None]], errors: list[Exception]) -> int:
    """Run all checks on one sweep, and collect their errors. Return 1, or 0 if it was left out."""
    try:
        sweep = begin()
    except Left as reason:
        TOTALS[f"{what} left out: {str(reason)[:40]}"] += 1
        return 0
    except Exception as error:
        errors.append(error)
        return 0
    for check in checks:
        TOTALS[f"checks of {what}"] += 1
        with suppress(Left):
            try:
                check(sweep)
            except Left:
                raise
            except Exception as error:
                error.add_note(f"in {check.__name__} of {getattr(sweep, 'setup', '')} {getattr(sweep, 'text', '')}")
                errors.append(error)
    TOTALS[what] += 1
    TOTALS["comparisons"] += sweep.comparisons
    return 1


if __name__ == "__main__":
    run_blocks(__doc__ or "", "models and scripts", 500, block)
