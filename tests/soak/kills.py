"""Recorded sessions whose process is killed: every action that it reported is in the file, and none is incomplete.

python -m tests.soak.kills --count 1000 --seed 0
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.soak.blocks import run_blocks
from tests.storage.test_store import ROOT, test_what_was_acknowledged_survives_a_kill

KILLS = 20  # of a block


def block(seed: int) -> int:
    """Kill a number of processes. Returns their number."""
    with tempfile.TemporaryDirectory() as folder:
        code = f"from tests.session.acting import acts_for_ever; acts_for_ever({folder!r})"
        with subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                for kill in range(seed * KILLS, (seed + 1) * KILLS):
                    test_what_was_acknowledged_survives_a_kill((process, Path(folder)), kill)
            finally:
                process.kill()
    return KILLS


if __name__ == "__main__":
    run_blocks(__doc__ or "", "kills", 1000, block)
