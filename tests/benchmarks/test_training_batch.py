"""A training batch under pytest-benchmark: `pytest tests/benchmarks --benchmark-enable`. No time is asserted."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks.contenders import CONTENDERS, OF_CELL, SIZES


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("cell", "contender"), [(cell, name) for cell, names in OF_CELL.items() for name in names])
def test_training_batch(benchmark, cell, contender, sizes):
    benchmark.group = f"training batch, {cell}, {sizes}"
    assert math.isfinite(benchmark(CONTENDERS[contender](sizes, cell), 1))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_they_train_the_same_model(sizes):
    """The session, the engine and the tutorial's loop give the same losses, so that the same work is compared."""
    runs = [CONTENDERS[name](sizes) for name in ("session", "engine", "tutorial's loop")]
    for _ in range(6):
        session, engine, loop = (run(1) for run in runs)
        assert session == engine == pytest.approx(loop, rel=1e-4)
