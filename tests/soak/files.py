"""Session files with flipped bits or a cut-off end: opening gives the same session or an error that says why not.

python -m tests.soak.files --count 10000 --seed 0
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from tests.debugger.acting import OPTIONS, acted, portrait, untouched
from tests.debugger.test_session_file import damage, opened
from tests.soak.blocks import run_blocks

FILES = 100  # of a block


def block(seed: int) -> int:
    """Damage the file of one session repeatedly. Returns the number of damaged files."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tui-gru"
        session = acted(seed, 10, **{name: chance.choice(values) for name, values in OPTIONS.items()})
        session.save(path)
        good, whole = path.read_bytes(), portrait(session)
        for _ in range(FILES):
            path.write_bytes(damage(good, chance))
            with untouched(path):
                found = opened(path)
            assert found in (whole, "a named error"), found
    return FILES


if __name__ == "__main__":
    run_blocks(__doc__ or "", "files", 10_000, block)
