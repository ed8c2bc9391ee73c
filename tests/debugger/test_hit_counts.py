"""Hit counts: the hits that stop, and invalid counts."""

from contextlib import closing
from pathlib import Path

import pytest

from tui_gru import Session
from tui_gru.debugger.expressions import ConditionError
from tui_gru.debugger.stops import HitCount


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ("5", [5]),
        ("==5", [5]),
        ("= 5", [5]),
        (" 5 ", [5]),
        (">5", [6, 7, 8, 9, 10, 11, 12]),
        (">=5", [5, 6, 7, 8, 9, 10, 11, 12]),
        ("≥ 5", [5, 6, 7, 8, 9, 10, 11, 12]),
        ("<3", [1, 2]),
        ("<=3", [1, 2, 3]),
        ("≤3", [1, 2, 3]),
        ("%5", [5, 10]),
        ("% 1", list(range(1, 13))),
        (">0", list(range(1, 13))),
        ("007", [7]),
    ],
)
def test_stops(text: str, stops: list[int]) -> None:
    count = HitCount.parse(text)
    assert [n for n in range(1, 13) if count.stops(n)] == stops
    assert count.source == text


@pytest.mark.parametrize(
    ("text", "column"),
    [(text, 1) for text in ("", "five", "5.0", "-5", "5 5", "!=5", ">", "=>5", "5%", "٣", "9" * 19, "5\n6")]
    + [("0", 1), ("==0", 3), ("< 1", 3), ("<=0", 3), ("%0", 2), ("  %  0", 6)],
)
def test_refused(text: str, column: int) -> None:
    with pytest.raises(ConditionError) as caught:
        HitCount.parse(text)
    assert caught.value.column == column
    assert len(str(caught.value).splitlines()) == 1


def test_saved_counts_do_not_outlast_a_change_of_their_timeline(tmp_path: Path) -> None:
    path = tmp_path / "counted.tui-gru"
    session = Session()
    session.break_at("h", condition="any(h > 0.8)", hits="%7")
    session.record_to(path)
    assert session.continue_()
    session.close()
    with closing(Session.open(path, record=True)) as again:
        again.seek(0)
        again.learning_rate = 0.5  # forks a branch without batches, which the counts do not fit
        assert Session.open(path).branch == again.branch
    assert Session.open(path).branch == again.branch
