import math

import numpy as np
import pytest

from tui_gru.tui.matrix import heat_row
from tui_gru.tui.theme import BLACKBOARD, palette_for

P = palette_for(BLACKBOARD)


def row(values, kind="signed", scale=1.0, cursor=None, quiet=False):
    return heat_row(P, np.array(values), len(values), kind=kind, scale=scale, cursor=cursor, quiet=quiet)


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        ("signed", [0, 0.04, -0.04, 0.55, -0.999, 1, -1, 9], " 0+0-0+5-9+9-9+9"),
        ("signed", [math.nan, math.inf, -math.inf], " ✗ ✗ ✗"),
        ("unit", [0, 0.4342, 0.99, 1], " 0 4 9 9"),
        ("onehot", [0, 1, 0], " 0 1 0"),
    ],
)
def test_sign_and_tenths(kind, values, text):
    assert row(values, kind).text == text


def test_the_scale_is_the_strongest_colour():
    styles = [segment.style for segment in row([3, -3, 0.75], scale=3)]
    assert styles == [P.signed_scale[-1], P.signed_scale[0], P.signed(0.25)]


def test_marks():
    assert list(row([0.1, 0.2], cursor=1))[1].style is P.cursor
    assert {segment.style for segment in row([0.1, 0.9], quiet=True)} == {P.dim}


def test_blank_row():
    assert heat_row(P, None, 3, kind="unit", scale=1, cursor=None, quiet=False).text == " · · ·"
