"""The condition at which the last steps are written to the recording."""

import math

import pytest

from tui_gru.capture.record import DEEPEST, WINDOW, Trigger
from tui_gru.errors import CaptureError

QUIET = {"loss": 1.0, "norm": 1.0, "step": 0, "lr": 0.1, "nan": 0.0}


def fired(source, losses, **more):
    trigger = Trigger(source)
    return [n for n, loss in enumerate(losses) if trigger.fires({**QUIET, **more, "loss": loss, "step": n})]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("loss > 3*mean(loss)", [4]),
        ("loss > max(loss)", [4]),
        ("loss < min(loss)", [3]),
        ("loss > 5 * prev(loss)", [4]),
        ("step == 2", [2]),
        ("not step < 3", [3]),
        ("loss >= 1 and loss != 1", [4]),
        ("loss / 0 > 1 and step - 1 == 0", [1]),
        ("abs(-loss) > 9 or isnan(loss)", [4]),
        ("-loss <= -10", [4]),
        ("lr * norm + loss > 100", []),
        ("isfinite(loss)", [0]),
        ("nan", []),
        ("", []),
        ("  ", []),
    ],
)
def test_conditions(source, expected):
    assert fired(source, [1.0, 1.0, 1.0, 0.5, 10.0, 1.0]) == expected


def test_it_fires_where_it_begins_to_hold():
    assert fired("loss > 2", [1, 3, 4, 5, 1, 3]) == [1, 5]
    assert fired("nan", [1, 1, 1], nan=1.0) == [0]


def test_each_part_of_an_or_fires_where_it_begins_to_hold():
    """A run explodes before it turns NaN, and the step where it does that must not be lost."""
    trigger = Trigger("nan or loss > 2")
    steps = [{**QUIET, "loss": loss, "nan": nan} for loss, nan in ((1.0, 0.0), (3.0, 0.0), (9.0, 0.0), (9.0, 1.0), (9.0, 1.0))]
    waiting, fired = zip(*((trigger.waits_for_nan, trigger.fires(step)) for step in steps), strict=True)
    assert fired == (False, True, False, True, False)
    assert waiting == (True, True, True, True, False)


def test_what_is_not_known_compares_with_nothing():
    nan = math.nan
    assert fired("loss > 3*mean(loss)", [9.0]) == []
    assert fired("loss > 3 or loss <= 3 or loss == loss", [nan, nan]) == []
    assert fired("nan or loss > 3", [nan], nan=1.0) == [0]
    assert fired("not loss > 3", [nan]) == [0]


def test_what_is_not_finite_does_not_spoil_the_mean():
    assert fired("loss > 3*mean(loss)", [1.0, math.inf, math.nan, 1.0, 4.0]) == [1, 4]


def test_the_mean_forgets():
    assert fired("loss > 3*mean(loss)", [1000.0] * 5 + [1.0] * (WINDOW + 1) + [4.0]) == [5 + WINDOW + 1]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("los > 1", r"on: column 1: unknown name los; did you mean loss\?"),
        ("loss > accuracy", r"on: column 8: unknown name accuracy; the names are loss, norm, step, lr, nan"),
        ("loss >", r"on: column \d+: 'loss >' is not a condition; write one such as nan or loss > 3\*mean\(loss\)"),
        ("median(loss) > 1", r"on: column 1: there is no function median; there are mean, min, max, prev, abs"),
        ("mean(loss*2) > 1", r"on: column 1: mean takes a name, as in mean\(loss\)"),
        ("loss.real", r"on: column 1: this is not allowed here"),
        ("__import__('os')", r"on: column 1: there is no function __import__"),
        ("[loss for loss in loss]", r"this is not allowed here"),
        ("loss < norm < 3", r"this is not allowed here"),
        ("'a' == loss", r"on: column 1: this is not allowed here"),
        ("True", r"this is not allowed here"),
        ("loss ** 2 > 1", r"this is not allowed here"),
        ("loss > 1" + "0" * 400, r"this number is too large"),
        ("loss > 1" + "0" * 2000, r"on is longer than 1000 characters"),
        ("-" * (DEEPEST + 5) + "loss", r"it is nested too deeply"),
        ("(" * 900 + "loss", r"is not a condition"),
        ("loss > \x1b[2J1", r"is not a condition"),
    ],
)
def test_what_is_no_condition_is_refused_in_one_line(source, message):
    with pytest.raises(CaptureError, match=message) as caught:
        Trigger(source)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert caught.value.option == "on"
