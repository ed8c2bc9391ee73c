"""A training batch under pytest-benchmark: `pytest tests/benchmarks --benchmark-enable`. No time is asserted."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks.contenders import CONTENDERS, OF_CELL, SIZES
from tests.benchmarks.ratios import HEADING, IN_FLOAT64, MEASURED, SIZES_IN_MANUAL, BatchTimes, MeasuredRow, section


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


def test_the_section_of_the_manual_has_what_was_measured():
    free, busy = BatchTimes(2.0, 3.0, 2.1, 5.25), BatchTimes(2.0, 1.0)
    rows = [MeasuredRow("gru", SIZES[0], "float32", free, busy), MeasuredRow("lstm", SIZES[1], "float64", busy, free)]
    written = section(rows, "a processor")
    assert "| GRU | H 2, B 2, T 3, V 4 | float32 | 2 ms | 1.50 | 2.50 | 0.50 |\n" in written
    assert "| LSTM | H 64, B 16, T 32, V 64 | float64 | 2 ms | 0.50 | · | 1.50 |\n" in written
    manual = MEASURED.read_text(encoding="utf-8").partition(HEADING)[2]
    for cell in ("GRU", "LSTM"):
        for sizes in SIZES_IN_MANUAL:
            assert f"| {cell} | H {sizes.H}, B {sizes.B}, T {sizes.T}, V {sizes.V} | float32 | " in manual
    assert manual.count("| float64 |") == 2 * len(IN_FLOAT64)
