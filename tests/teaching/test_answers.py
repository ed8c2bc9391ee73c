"""Answers: as many digits as are typed, from the rounded numbers on the screen, and lines in every equal form."""

from pathlib import Path

import pytest

import tui_gru
from tui_gru.teaching.judging import Judge, typed_number
from tui_gru.teaching.lesson import Question, WrongAnswer, lesson_of
from tui_gru.teaching.values import LessonValues


@pytest.fixture(scope="module")
def judge():
    session = tui_gru.Session()
    session.learning = True
    session.seek("e1 b1 t3")
    session.run_to("dh_prev")
    return Judge(lesson_of("# L\n## C\n", "l.md", Path()), LessonValues({"main": session}, "main"))


def asked(answer, kind="answer", **fields):
    return Question(1, "?", kind, answer, 1, **fields)


@pytest.mark.parametrize(
    "typed", ["1.7905", "1.79", "1.8", "1.79e0", "+1.7905", "1,7905", "1.790540", "17.905e-1", "179.05 %", "-log(0.1669)", "1.7904"]
)
def test_a_number_is_right_to_the_digits_typed(judge, typed):
    assert judge.judged(asked("-term2[row 1] t 1"), typed).right  # 1.79054; 1.7904 is −log 0.1669, from the digits on the screen


@pytest.mark.parametrize(
    "typed", ["1.7915", "1.7", "1.80", "2", "-1.7905", "17.905", "abc", "", "nan", "inf", "z", "1.79.", "9" * 2000]
)
def test_another_number_is_not(judge, typed):
    assert not judge.judged(asked("-term2[row 1] t 1"), typed).right


def test_a_digit_more_is_asked_for_where_a_foreseen_mistake_fits_as_well(judge):
    question = asked("loss", wrong=(WrongAnswer("loss * 1.001", "Too much.", 1),))
    assert judge.judged(question, "1.26").hint.startswith("write a digit more")
    assert judge.judged(question, "1.2602").right
    assert judge.judged(question, "1.2615").hint == "Too much."


def test_an_expression_of_two_entries_is_read_wholly(judge):
    """Not as the entry with which it begins."""
    question = asked("h[row 1, unit 1] - h[row 2, unit 2] t 1")
    right = float(judge.value(question))
    assert judge.judged(question, f"{right:.4f}").right
    assert not judge.judged(question, f"{float(judge.value(asked('h[row 1, unit 1]'))):.4f}").right


def test_a_chance_is_no_slip_of_a_number_without_a_logarithm(judge):
    assert judge.judged(asked("1"), "0.37").hint == "not yet"
    assert "in percent" in judge.judged(asked("ŷ[row 1, a] t 1"), "16.69").hint


def test_one_digit_is_not_enough(judge):
    assert "two digits" in judge.judged(asked("loss"), "1").hint
    assert judge.judged(asked("0 * loss"), "0").right
    assert judge.judged(asked("max(abs(dh_future))"), "0.00").right


def test_typed_numbers_have_a_unit():
    assert typed_number("1.50").unit == pytest.approx(0.01)
    assert typed_number("5.4e-6").unit == pytest.approx(1e-7)
    assert typed_number("5.4·10^-6").value == pytest.approx(5.4e-6)
    assert typed_number("50 %").value == 0.5
    assert typed_number("x") is None


@pytest.mark.parametrize(
    "typed",
    [
        "dh⊙z + drh⊙r + daz Uzᵀ + dar Urᵀ",
        "dar Ur' + daz Uz.T + r*drh + z*dh",
        "dhₜ₋₁ = z⊙dh + r⊙drh + daz @ Uz.T + dar @ Ur.T",
        "-(-dh⊙z - drh⊙r) + daz Uzᵀ + dar Urᵀ",
    ],
)
def test_a_line_is_right_in_each_equal_form(judge, typed):
    assert judge.judged(asked("dhₜ₋₁", "line"), typed).right
    assert judge.judged(asked("dhₜ₋₁", "line", hidden="dar Urᵀ"), typed).right


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("dr Urᵀ", "dr in the place of dar"),
        ("dar Ur", "Ur has to be transposed: Urᵀ"),
        ("daz Urᵀ", "daz in the place of dar"),
        ("−dar Urᵀ", "the sign is the other one"),
        ("dar", "with it dhₜ₋₁"),
        ("dar Urᵀ +", "this is not read as a formula"),
        ("dat Urᵀ", "there is no dat here"),
        ("dar Wyᵀ", "the shapes do not fit"),
    ],
)
def test_what_is_wrong_with_a_line_is_named(judge, typed, hint):
    verdict = judge.judged(asked("dhₜ₋₁", "line", hidden="dar Urᵀ"), typed)
    assert not verdict.right
    assert hint in verdict.hint


def test_a_line_is_judged_at_all_timesteps(judge):
    """At t 3, where nothing comes from later ones, dh is do Wyᵀ."""
    verdict = judge.judged(asked("dh", "line"), "do Wyᵀ")
    assert (verdict.right, verdict.hint) == (False, "the term dh← is missing")
    assert judge.judged(asked("Wz", "line"), "Wz − η⊙dWz").right is False
    assert judge.judged(asked("Wz", "line"), "Wz = Wz − η⊙dWz").right
    assert judge.judged(asked("do", "line"), "ŷ − y").hint == "it is 6 times too large, and B·T = 6"


def test_choices_are_taken_by_letter_and_by_words(judge):
    from tui_gru.teaching.lesson import Choice

    question = asked(
        "", "choice", choices=(Choice("the carry", "", "if loss > 9", 1), Choice("the candidate", "", "if loss < 9", 1))
    )
    assert all(judge.judged(question, typed).right for typed in ("b", "B)", "candidate", "the candidate"))
    assert not any(judge.judged(question, typed).right for typed in ("a", "carry", "c", "the"))
    assert judge.judged(question, "c").unread


def test_places_are_equal_however_they_are_written(judge):
    question = asked("Uh[unit 2, unit 1]", "place")
    assert judge.judged(question, "Uh[1, 0]").right
    assert not judge.judged(question, "Uh[unit 1, unit 2]").right
    assert judge.judged(asked("h̃", "place"), "h_tilde").right
    assert judge.judged(asked("e1 b2 t3", "place"), "e1 b2 t3").right
    assert judge.judged(asked("Wz[M, 1]", "place"), "Wz[“M”, unit 1]").right
