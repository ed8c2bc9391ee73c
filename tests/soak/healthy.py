"""Healthy runs of every size, text, cell and optimizer: there are no findings at any time, and none that have gone again.

python -m tests.soak.healthy --count 50 --seed 0

A run has the default options for a user's own text, with a rate that fits its optimizer, and random sizes. It is checked at the
beginning, and after growing numbers of batches. No run reads in both directions: it would read its targets, which is a finding.
"""

from __future__ import annotations

import random
from typing import Any

from tests.soak.blocks import run_blocks
from tui_gru import Session
from tui_gru.equations.page import names_of

STOPS = (1, 8, 40, 150, 400)  # batches
UNITS = 8  # for each prediction of a batch, at most: with more, the default rate is really too large, which is a finding
RATES = {"adam": (0.01,), "sgd": (0.3, 1.0), "momentum": (0.05, 0.1)}
LETTERS = "etaoinshrdlucmfwypvbgkqjxz"


def random_text(chance: random.Random, length: int) -> str:
    """Return sentences of a small language in which some words are more frequent than others."""
    letters = LETTERS[: chance.randint(4, len(LETTERS))]
    words = ["".join(chance.choice(letters) for _ in range(chance.randint(1, 8))) for _ in range(chance.randint(5, 200))]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    text = ""
    while len(text) < length:
        sentence = chance.choices(words, weights, k=chance.randint(3, 12))
        text += " ".join(sentence).capitalize() + chance.choice([". ", ".\n", "? "])
    return text[:length]


def random_options(seed: int) -> dict[str, Any]:
    """Return the options of a healthy run."""
    chance = random.Random(seed)
    rows, timesteps = chance.choice([1, 2, 4, 8, 16, 32]), chance.choice([2, 3, 4, 8, 16, 32, 64])
    options = {
        "text": random_text(chance, chance.choice([2, 5, 20]) * rows * timesteps + chance.randint(200, 4000)),
        "hidden_size": min(chance.choice([2, 4, 8, 16, 32, 64, 128]), UNITS * rows * timesteps),
        "batch_size": rows,
        "seq_length": timesteps,
        "seed": seed,
        "cell": chance.choice(["gru", "gru", *names_of("cell")]),
        "layers": chance.choice([1, 1, 1, 2]),
        "embedding": chance.choice([0, 0, 0, 8]),
        "dtype": chance.choice(["float32", "float32", "float64"]),
    }
    optimizer = chance.choice(["adam", *RATES])
    return options | {"optimizer": optimizer, "learning_rate": chance.choice(RATES[optimizer])}


def block(seed: int) -> int:
    """Check one run at each of its stops."""
    options = random_options(seed)
    session = Session(**options)
    session.learning = True
    for stop in STOPS:
        session.step("batch", stop - session.position.number - (session.position.tick > 0))
        found = session.findings()
        gone = session.gone() if stop == STOPS[-1] else ()
        assert not (*found, *gone), (stop, {name: value for name, value in options.items() if name != "text"}, found, gone)
    return 1


if __name__ == "__main__":
    run_blocks(__doc__ or "", "runs", 50, block)
