"""A lesson as a page: it judges as the program does, without a network, and shows what is hidden once it is answered."""

from __future__ import annotations

import json
import re
from contextlib import closing

import pytest

import tests.chromium
from tests.chromium import Chromium
from tui_gru.teaching.course import Course
from tui_gru.teaching.lesson import Question, read_lesson
from tui_gru.tui.console import Console
from tui_gru.tui.lesson_page import lesson_page, write_lesson

TYPED = {
    1: (
        "1.7905",
        "1.79",
        "1.7904",
        "-log(0.1669)",
        "2.58",
        "0.778",
        "0.1669",
        "-1.7905",
        "1.5516",
        "3.581",
        "1",
        "x",
        "1.7905e0",
        "5.37",
    ),
    2: ("1.6710", "3.342", "1.5516", "1.7905", "1.66"),
    4: ("1.2602", "3.7807", "1.26", "1.3337", "126 %"),
    5: (
        "(ŷ − y)/(B·T)",
        "do = (y_hat - y) / (T*B)",
        "ŷ − y",
        "(y - ŷ)/(B·T)",
        "(ŷ - y)/B",
        "ŷ/(B·T) - y/(B·T)",
        "h",
        "(ŷ - ",
        "ŷ Wy",
    ),
    6: ("-0.0838", "0.0838", "-0.5028", "-.084"),
    7: ("0", "1"),
    9: ("dar Urᵀ", "dr Ur'", "dar Ur", "-dar Ur'", "dh⊙z + drh⊙r + daz Uzᵀ + dar Ur.T", "daz Ur'", "dar"),
    11: ("-0.2456", "-0.2477", "-0.0342"),
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "loss.html"
    write_lesson(read_lesson("loss"), path)
    return path


@pytest.fixture(scope="module")
def browser(page):
    if tests.chromium.PROGRAM is None:
        pytest.skip("chromium is not installed")
    with closing(Chromium()) as chromium:
        chromium.open(page.as_uri(), "!!window.lesson")
        yield chromium


def judged_by_the_program():
    """Yield the judgement on each of the answers typed: whether it is right, None for one that is no answer, and what is said."""
    with closing(Course(read_lesson("loss"), Console)) as course:
        for reached in course.steps():
            if isinstance(question := reached.part, Question):
                for typed in TYPED.get(question.number, ()):
                    judgement = course.judge.judged(question, typed)
                    yield question.number, typed, judgement.right, judgement.hint


def test_the_page_judges_as_the_program_does(browser):
    differing = []
    for number, typed, right, hint in judged_by_the_program():
        its_right, its_hint = browser.run(f"window.lesson.judge({number}, {json.dumps(typed)})")
        says_more = hint.startswith(("with it ", "it has the shape", "this is not read", "the shapes", "there is no "))
        if bool(its_right) is not right or not (right or says_more or its_hint == hint):
            differing.append((number, typed, right, its_right, hint, its_hint))
    assert differing == []


def test_questions_are_answered_in_the_page_without_a_network(browser, page):
    browser.open(page.as_uri(), "!!window.lesson")
    browser.events.clear()
    assert browser.run("document.getElementById('score').textContent") == "0 of 12 right"
    shown = browser.run("document.querySelectorAll('.screen')[1].textContent")
    assert "1.6710" not in shown
    browser.run("document.querySelectorAll('.question')[1].querySelector('.typed').focus()")
    for key in ("1", ".", "6", "7", "1", "Enter"):
        browser.key(key)
    assert browser.run("document.getElementById('score').textContent") == "1 of 12 right"
    assert "1.6710" in browser.run("document.querySelectorAll('.screen')[1].textContent")
    browser.run("document.querySelectorAll('.question')[2].querySelectorAll('input')[1].click()")
    browser.run("document.querySelectorAll('.question')[2].querySelector('button').click()")
    assert "is more than" in browser.run("document.querySelectorAll('.question')[2].textContent")
    assert browser.run("document.getElementById('score').textContent") == "2 of 12 right"
    addresses = [event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"]
    assert [address for address in addresses if not address.startswith("file:")] == []
    assert [event for event in browser.events if event["method"] == "Runtime.exceptionThrown"] == []


def test_a_telephone_needs_no_scrolling_to_the_side(browser, page):
    browser.resize(360, 740, phone=True)
    browser.open(page.as_uri(), "!!window.lesson")
    assert browser.run("document.documentElement.scrollWidth") <= 360


def test_no_text_of_the_page_shows_what_is_asked_for(page):
    text = page.read_text(encoding="utf-8")
    visible = re.sub(r"<(script|style).*?</\1>|<[^>]*>", "", text, flags=re.DOTALL)
    for answer in ("1.7905", "1.6710", "1.2602", "0.0838", "0.2456"):
        assert answer not in visible
    assert visible.count(" ?") > 20
    assert "http" not in text


def test_texts_of_a_lesson_cannot_become_elements():
    from pathlib import Path

    from tui_gru.teaching.lesson import lesson_of

    text = "# A <b>\n## <script>x</script>\n`<i>` & </script>\n```ask\n<u>?\nanswer: 3\nhint: </script><b>\n```\n"
    page = lesson_page(lesson_of(text, "x.md", Path()))
    assert "<b>" not in page.replace("<b></b>", "")
    assert "<u>" not in page
    assert "<script>x" not in page
    assert "\\u003c/script>" in page


def test_a_notebook_asks_with_the_same_hints(tmp_path):
    """All of its cells run, and each answer that the program gives is right."""
    from tui_gru import lesson
    from tui_gru.tui.lesson_notebook import notebook_of

    opened = read_lesson("loss")
    notebook = json.loads(notebook_of(opened, "loss", seed=2))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    code = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert sum("lesson.ask(" in source for source in code) == 12
    space = {}
    for source in code:
        exec(source, space)
    with closing(Course(opened, Console, 2)) as course:
        walkthrough = lesson("loss", seed=2)
        for reached in course.steps():
            if isinstance(question := reached.part, Question):
                assert walkthrough.ask(question.number, course.judge.answer(question)).right, question.number
    assert walkthrough.ask(9, "dr Ur'") == "✗ dr in the place of dar"
    assert walkthrough.ask(2, "3").right is False
    assert walkthrough.session.position.t == 0  # back at its place


def test_a_page_hides_what_a_number_is_and_not_what_it_looks_like(tmp_path):
    """dh← is 0 at t 3; and the largest entry of h at question 11 looks like another number of the gates."""
    path = tmp_path / "named.md"
    path.write_text(
        "# T\n```lesson\nmodel: --learn\n```\n## C\n```do\nto dh\n```\n```ask\nHow much comes from later timesteps?\n"
        "answer: max(abs(dh_future))\n```\n",
        encoding="utf-8",
    )
    out = tmp_path / "named.html"
    write_lesson(read_lesson(path), out)
    screen = out.read_text(encoding="utf-8").partition('<pre class="screen">')[2].partition("</pre>")[0]
    hidden = re.findall(r'data-text="([^"]*)"', screen)
    assert [text.strip() for text in hidden] == ["0"] * len(hidden)
    assert len(hidden) >= 4  # two rows of two units
    assert re.search(r"[^.\d]0[^.\d]", re.sub(r"<span.*?</span>", "", screen))  # other zeros stay
