"""`print`: the numbers of a value, a weight, a gradient, a part of one, or an expression."""

import numpy as np
import pytest

import tui_gru
from tui_gru.analysis.summaries import PrintedNumbers
from tui_gru.errors import TuiGruError
from tui_gru.session.answers import MOST_NUMBERS, PlainResults
from tui_gru.tui.console import Console


@pytest.fixture(scope="module")
def session() -> tui_gru.Session:
    """The tutorial after three batches."""
    session = tui_gru.Session()
    session.learning = True
    session.step("batch", 3)
    return session


@pytest.mark.parametrize(
    ("typed", "label", "expected"),
    [
        ("Wz", "Wz", lambda s: s.parameter("Wz")),
        ("dUz", "dUz", lambda s: s.gradient("Uz")),
        ("h t 2", "h", lambda s: s.value("h", t=1)),
        ("h̃ t 2", "h̃", lambda s: s.value("h_tilde", t=1)),
        ("Wz[1]", "Wz[“a”]", lambda s: s.parameter("Wz")[1]),
        ("Wz[“a”]", "Wz[“a”]", lambda s: s.parameter("Wz")[1]),
        ("h[:, 1]", "h[unit 2]", lambda s: s.value("h")[:, 1]),
        ("h[row 1, unit 2]", "h[row 1, unit 2]", lambda s: s.value("h")[0, 1]),
        ("loss", "loss", lambda s: s.loss),
        ("max(abs(Wz))", "max(abs(Wz))", lambda s: np.abs(s.parameter("Wz")).max()),
        ("norm(dh t 1)", "norm(dh t 1)", lambda s: np.linalg.norm(s.value("dh", t=0).astype(np.float64))),
    ],
)
def test_print_shows_the_numbers_of_the_run(session: tui_gru.Session, typed: str, label: str, expected: object) -> None:
    shown = session.printed(typed)
    assert shown.expression == label
    assert np.allclose(shown.values, expected(session), rtol=1e-6)
    assert len(shown.columns) == (shown.values.shape[-1] if shown.values.ndim else 0)


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("Q", "unknown name Q"),
        ("Wz[7]", "no entry 7"),
        ("Wz[0, 0, 0]", "at most 2 numbers in brackets"),
        ("Wz t 2", "has no timesteps"),
        ("h t 9", "timesteps 1 to 3, not 9"),
    ],
)
def test_what_cannot_be_printed_is_refused(session: tui_gru.Session, typed: str, reason: str) -> None:
    with pytest.raises(TuiGruError, match=reason):
        session.printed(typed)


def test_what_is_not_computed_yet_says_where_it_is() -> None:
    with pytest.raises(TuiGruError, match="dh is not computed yet; go dh goes to its line"):
        tui_gru.Session().printed("dh")


def test_print_answers_as_text_and_whole_as_data(session: tui_gru.Session) -> None:
    console = Console(session)
    try:
        answer = console.execute("print Uz")
    finally:
        console.close()
    lines = answer.text.splitlines()
    assert lines[1].startswith("Uz: (2, 2) float32, ")
    assert lines[2].split() == ["unit", "1", "unit", "2"]
    assert [float(cell) for cell in lines[3].split()[2:]] == pytest.approx(session.parameter("Uz")[0], abs=1e-4)
    assert np.array_equal(answer.data["values"], session.parameter("Uz"))


def test_of_a_large_array_the_data_has_the_first_rows(session: tui_gru.Session) -> None:
    values = np.arange(1024 * 8, dtype=np.float32).reshape(1024, 8)
    plain = PlainResults(session.program).plain(PrintedNumbers("W", values))
    assert plain["rows_left_out"] == 1024 - MOST_NUMBERS // 8
    assert plain["values"].size == MOST_NUMBERS
    assert (plain["smallest"], plain["largest"]) == (0.0, 8191.0)
