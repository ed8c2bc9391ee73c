import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_gru.tui.widgets import numbers

anything = st.floats(width=64) | st.floats(width=32) | st.floats(-10, 10)


@given(anything)
def test_widths_never_vary(x):
    assert len(numbers.wide(x)) == numbers.WIDE
    assert len(numbers.compact(x)) == numbers.COMPACT
    assert len(numbers.unit(x)) == numbers.UNIT


@given(anything.filter(lambda x: abs(x) < 1e300))
def test_what_is_written_is_the_number_rounded(x):
    written = float(numbers.wide(x))
    assert written == pytest.approx(x, rel=0.05 if 1e-9 < abs(x) < 1e100 else 0.5, abs=0 if abs(x) < 5e-5 else 5e-5)
    assert math.copysign(1, written) == math.copysign(1, x) or x == 0


@given(anything.filter(lambda x: math.isfinite(x) and x != 0))
def test_only_zero_looks_like_zero(x):
    assert float(numbers.wide(x)) != 0 or abs(x) < 1e-300


@given(st.floats(-9.9999, 9.9999).filter(lambda x: abs(x) >= 5e-5))
def test_points_align(x):
    assert numbers.wide(x)[2] == "."
    assert len(numbers.wide(x).strip()) == numbers.WIDE


@pytest.mark.parametrize(
    ("x", "wide", "compact", "unit"),
    [
        (0.7565, "+0.7565", "+0.76", "0.7565"),
        (-123.456, "-123.46", " -123", "-123.5"),
        (0.0, " 0     ", " 0   ", "0     "),
        (-0.0, " 0     ", " 0   ", "0     "),
        (1.0, "+1.0000", "+1.00", "1     "),
        (0.99999, "+1.0000", "+1.00", "1.0000"),
        (9.99999, "+10.000", "+10.0", "10.000"),
        (123456.0, "+1.23e5", " +1e5", "1.23e5"),
        (-1.2e-5, "-1.2e-5", "-1e-5", " -1e-5"),
        (math.nan, "  nan  ", " nan ", " nan  "),
        (math.inf, "  +inf ", " +inf", " inf  "),
        (-math.inf, "  -inf ", " -inf", " -inf "),
    ],
)
def test_forms(x, wide, compact, unit):
    assert (numbers.wide(x), numbers.compact(x), numbers.unit(x)) == (wide, compact, unit)


@given(st.floats(width=32, allow_nan=False))
def test_exact_form_comes_back_bit_for_bit(x):
    assert np.float32(numbers.exact(np.float32(x))) == np.float32(x)


def test_exact_form_is_the_shortest():
    assert numbers.exact(np.float32(0.76641524)) == "+0.76641524"
    assert numbers.exact(np.float64(-0.1)) == "-0.1"
    assert numbers.exact(np.float32("nan")) == "nan"
