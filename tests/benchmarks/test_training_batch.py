"""A training batch under pytest-benchmark: `pytest tests/benchmarks --benchmark-enable`. Nothing is asserted about time."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks.contenders import CONTENDERS, SIZES


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("contender", CONTENDERS)
def test_training_batch(benchmark, contender, sizes):
    benchmark.group = f"training batch, {sizes}"
    assert math.isfinite(benchmark(CONTENDERS[contender](sizes)))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_they_train_the_same_model(sizes):
    """The engine and the tutorial's loop begin and go on alike: the same work is compared."""
    engine, loop = CONTENDERS["engine"](sizes), CONTENDERS["tutorial's loop"](sizes)
    for _ in range(3):
        assert engine() == pytest.approx(loop(), rel=1e-4)
