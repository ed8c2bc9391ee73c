"""The laws of the test suite, tried with about ten times as many examples, and with every case of their products.

python -m tests.soak.laws --count 3 --seed 0

A block is one run of pytest on all files with tests that Hypothesis tries, or that say how far they are tried (tests/extent.py);
its number is the seed of Hypothesis.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.soak.blocks import run_blocks

ROOT = Path(__file__).parents[2]
SAYS_HOW_FAR = re.compile(r"^from (tests\.extent|hypothesis) import", re.MULTILINE)


def block(seed: int) -> int:
    """Run the laws once."""
    files = [path for path in sorted(ROOT.glob("tests/**/test_*.py")) if SAYS_HOW_FAR.search(path.read_text("utf-8"))]
    command = [sys.executable, "-m", "pytest", "-q", f"--hypothesis-seed={seed}", *map(str, files)]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, "TUI_GRU_SOAK": "1"})
    assert ran.returncode == 0, "the tests that failed are above"
    return 1


if __name__ == "__main__":
    run_blocks(__doc__ or "", "runs of the laws", 3, block)
