import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_gru.engine import numbers

anything = st.floats(width=64) | st.floats(width=32) | st.floats(-10, 10)


@given(anything)
def test_widths_never_vary(x):
    assert len(numbers.wide(x)) == numbers.WIDE
    assert len(numbers.compact(x)) == numbers.COMPACT
    assert len(numbers.unit(x)) == numbers.UNIT
    assert len(numbers.compact_unit(x)) == numbers.COMPACT_UNIT


@pytest.mark.parametrize("write", [numbers.wide, numbers.compact, numbers.unit, numbers.compact_unit])
@given(x=anything.filter(math.isfinite))
def test_no_digit_is_cut_or_made_up(write, x):
    """What is written differs from the number by at most half a unit of the last digit, and has its sign. Only 0 looks like 0."""
    written = write(x).strip()
    assert written.startswith("-") is (x < 0)
    if written.endswith("big"):
        assert abs(x) >= 1e6
        return
    assert abs(Decimal(written) - Decimal(x)) <= Decimal(10) ** Decimal(written).as_tuple().exponent / 2
    assert (Decimal(written) == 0 and not written.endswith(".")) is (x == 0)
    assert (written == "1") is (x == 1 and write in (numbers.unit, numbers.compact_unit))


@pytest.mark.parametrize(
    ("x", "written"),
    [
        (-0.0002, " -0."), (123.4, " 123"), (-0.76, "-0.8"), (7e-9, "7e-9"), (0.9999999, "1.00"), (1.0, "1   "), (0.0, "0   "),
        (0.43, "0.43"), (0.004, "4e-3"), (12.34, "12.3"), (-12.34, " -12"), (12345.0, " 1e4"), (-1e10, "-big"),
    ],
)  # fmt: skip
def test_forms_in_four_cells(x, written):
    assert numbers.compact_unit(x) == written


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
        (-0.0002, "-0.0002", "-2e-4", " -2e-4"),
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


@given(st.one_of(anything, st.just(math.nan)), st.one_of(anything, st.just(math.nan)))
def test_numbers_are_the_same_where_they_are_equal_or_both_nan(a, b):
    expected = a == b or (math.isnan(a) and math.isnan(b))
    assert bool(numbers.same(a, b)) == expected
    assert numbers.same(a, a)
    assert numbers.same(np.array([a, b, 1.0]), np.array([b, b, 2.0])).tolist() == [expected, True, False]


@pytest.mark.parametrize(
    ("function", "x", "written"),
    [
        (numbers.rounded, 0.0123456, "0.0123"), (numbers.rounded, 1.234e-5, "1.23e-5"), (numbers.rounded, 1234.5, "1,234"),
        (numbers.rounded, math.inf, "inf"), (numbers.rounded, math.nan, "nan"), (numbers.scientific, 3.14e-8, "3.1e-8"),
        (numbers.scientific, 0.0, "0"), (numbers.scientific, math.nan, "nan"), (numbers.percent, 0.0, "0 %"),
        (numbers.percent, 0.001, "under 1 %"), (numbers.percent, 0.9999, "99 %"), (numbers.percent, 1.0, "100 %"),
        (numbers.four, 0.0, "0.00"), (numbers.four, 0.0012, "1e-3"), (numbers.four, 12.34, "12.3"), (numbers.four, 250, "2e+02"),
        (numbers.four, math.inf, "inf"), (numbers.four, math.nan, "nan"), (numbers.significant, 1e-8, "1e-8"),
        (numbers.gib, 3 * 2**29, "1.5 GiB"), (numbers.short, -2.0, "−2"), (numbers.short, 0.25, "0.2500"),
        (numbers.short, 1.5e-5, "1.500e−05"),
    ],
)  # fmt: skip
def test_numbers_in_sentences(function, x, written):
    assert function(x) == written


@pytest.mark.parametrize(
    ("number", "places", "written"),
    [
        (1.25, 4, "1.2500"), (0.0, 3, "0.000"), (4e-5, 4, "4.000e-5"), (5e-5, 4, "0.0001"), (-999_999.5, 1, "-999999.5"),
        (1e6, 2, "1.000e6"), (-1.5e38, 4, "-1.500e38"), (math.nan, 2, "nan"), (math.inf, 2, "inf"),
    ],
)  # fmt: skip
def test_decimals_are_not_0_for_another_number_and_not_digits_that_nobody_knows(number, places, written):
    assert numbers.decimals(number, places) == written
    assert numbers.decimals(number, places, signed=True) == (written if number < 0 else f"+{written}")
