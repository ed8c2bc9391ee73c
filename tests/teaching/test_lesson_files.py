"""Lesson files: what is read from them, and what is said about those that cannot be read."""

from pathlib import Path

import pytest

from tui_gru.errors import TuiGruError
from tui_gru.paths import confine
from tui_gru.teaching.checking import gives_away, lesson_problems
from tui_gru.teaching.course import Course, graded, typed_answers
from tui_gru.teaching.drafting import lesson_draft, template_text
from tui_gru.teaching.lesson import CommandBlock, Question, SourceLine, Words, lesson_of, read_lesson, shipped_lessons
from tui_gru.teaching.values import LessonValues, number_in_text
from tui_gru.tui.console import Console
from tui_gru.tui.theme import ASCII, transliterate


def lesson(body, header=""):
    return lesson_of(f"# Title\n```lesson\nminutes: 3\n{header}\n```\n## Card\n{body}", "mine.md", Path())


def question(*lines):
    return "```ask\n" + "\n".join(lines) + "\n```\n"


def problems(body, header="", seed=1):
    return [problem.text for problem in lesson_problems(lesson(body, header), Console, seed)]


def test_a_lesson_has_cards_of_words_commands_and_questions():
    read = lesson(
        "Words of\ntwo lines.\n```do\ns\nkeep a = loss\n```\n```press\n2s\n```\n"
        + question("How", "much?", "answer: loss", "wrong: loss * 3 -> Halve {loss}.", "  It is long.", "hint: h", "why: w"),
        "for: you\nmodel a: --seed 2\nmodel b: `--cell lstm`",
    )
    assert (read.title, read.minutes, read.audience) == ("Title", 3, "you")
    assert [(model.name, model.options) for model in read.models] == [("a", "--seed 2"), ("b", "--cell lstm")]
    words, do, press, asked = read.cards[0].parts
    assert isinstance(words, Words)
    assert words.text == "Words of\ntwo lines."
    assert isinstance(do, CommandBlock)
    assert ([command.text for command in do.commands], do.pressed, press.pressed) == (["s", "keep a = loss"], False, True)
    assert isinstance(asked, Question)
    assert (asked.number, asked.words, asked.answer, asked.hint, asked.why) == (1, "How\nmuch?", "loss", "h", "w")
    assert asked.wrong[0][:2] == ("loss * 3", "Halve {loss}. It is long.")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "mine.md:1: a lesson begins with its title"),
        ("# T\n", "mine.md:1: there is no card; write ##"),
        ("# T\n# U\n", "mine.md:2: this is a second title"),
        ("# T\n## C\n```do\n", "mine.md:3: this block has no end; close it with ```"),
        ("# T\n## C\n```python\nx\n```\n", "mine.md:3: a block is one of lesson, do, press and ask, not python"),
        ("# T\n## C\n```aks\nx\n```\n", "did you mean ask?"),
        ("# T\n## C\n```do\n\n```\n", "mine.md:3: this block do has no command"),
        ("# T\n## C\n```do\ns\nsave! x\n```\n", "mine.md:5: save! x: a lesson neither ends the program nor reads or writes files"),
        ("# T\n## C\n```press\nq\n```\n", "mine.md:4: q: a lesson neither ends"),
        ("# T\n```lesson\nminutes: ten\n```\n## C\n", "mine.md:3: minutes is a whole number such as 10, not 'ten'"),
        ("# T\n```lesson\nmodle: x\n```\n## C\n", "mine.md:3: there is no option 'modle'"),
        ("# T\n```lesson\nmodel a: x\nmodel a: y\n```\n## C\n", "mine.md:4: there are two models a"),
        ("# T\n## C\n```ask\nWhat?\n```\n", "mine.md:3: this question has no answer; add answer:"),
        ("# T\n## C\n```ask\nanswer: 1\n```\n", "mine.md:3: this block has no question"),
        ("# T\n## C\n```ask\nWhat?\nanswer: 1\nline: z\n```\n", "mine.md:5: this question has answer and line; keep one"),
        ("# T\n## C\n```ask\nWhat?\nanswer: 1\nmore\n```\n", "mine.md:6: the question stands above its answer"),
        ("# T\n## C\n```ask\nWhat?\nanswers: 1\n```\n", "mine.md:5: there is no answers: in a question; did you mean answer:?"),
        ("# T\n## C\n```ask\nWhat?\nanswer:\n```\n", "mine.md:5: answer: has no value"),
        ("# T\n## C\n```ask\nWhat?\n- yes if loss < 1\n```\n", "mine.md:5: this question has one choice; write 2 to"),
        ("# T\n## C\n```ask\nWhat?\n- yes\n- no if loss < 1\n```\n", "mine.md:5: a choice ends with what decides it"),
        ("# T\n## C\n```ask\nWhat?\n- a by loss\n- b by t\n```\n", "does not end with if; add right: largest"),
        ("# T\n## C\n```ask\nWhat?\nright: most\n- a by loss\n- b by t\n```\n", "mine.md:5: right: is largest or smallest"),
        ("# T\n## C\n```ask\nWhat?\nanswer: 1\nwrong: 2\n```\n", "mine.md:6: wrong: is an expression, ->"),
        ("# T\n## C\n```ask\nWhat?\nanswer: 1\nhide: x\n```\n", "mine.md:6: hide: belongs to line:"),
        ("# T\n## C\n```ask\nWhat?\nplace: h\nvisible: yes\n```\n", "mine.md:6: visible: belongs to answer: and line:"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_line_and_cure(text, error):
    with pytest.raises(TuiGruError) as refused:
        lesson_of(text, "mine.md", Path())
    assert error in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_lesson_and_bytes_that_are_no_text_are_refused(tmp_path):
    with pytest.raises(TuiGruError, match="there is no lesson and no file los; did you mean loss"):
        read_lesson("los")
    (tmp_path / "x.md").write_bytes(b"# T\n## C\n\xff")
    with pytest.raises(TuiGruError, match=r"x.md:3: byte 0xff is not UTF-8"):
        read_lesson(tmp_path / "x.md")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("{los}", "mine.md:7: {los}: unknown name los"),
        ("{dWz}", "mine.md:7: {dWz}: dWz is not computed yet"),
        ("```do\nxyzzy\n```\n", "mine.md:8: xyzzy: "),
        ("{loss}\n```do\nn\n```\n", "mine.md:7: {loss}: loss is not computed yet"),
        (
            "```do\nn\n```\n" + question("?", "- a if loss < 9", "- b if loss < 8"),
            "mine.md:10: 2 of the choices hold; exactly one must",
        ),
        ("```do\nn\n```\n" + question("?", "- a if loss < 0", "- b if loss < 0"), "none of the choices holds"),
        ("```do\nn\n```\nIt is {loss}.\n" + question("?", "answer: loss"), "mine.md:10: the text gives the answer away: 1.2602"),
        ("```do\nn\n```\n" + question("?", "answer: loss", "hint: 1.26"), "the hint gives the answer away: 1.26"),
        (
            "```do\nn\n```\n" + question("?", "answer: loss", "wrong: loss -> No."),
            "mine.md:13: wrong: gives 1.2602, which is the answer",
        ),
        ("```do\nn\n```\n" + question("?", "answer: h"), "answer: h is not one number"),
        ("```do\nn\n```\n" + question("?", "line: hh"), "there is no line hh; the lines are z, r"),
        ("```do\nn\n```\n" + question("?", "line: h", "hide: x"), "has no part x; its terms are z⊙hₜ₋₁"),
        ("```do\nn\n```\n" + question("h = z⊙hₜ₋₁ + (1-z)⊙h̃ ?", "line: h"), "the text gives the line away"),
    ],
)
def test_the_check_finds_what_is_wrong(body, problem):
    assert any(problem in text for text in problems(body)), problems(body)


def test_the_options_of_a_model_are_those_of_the_command_line():
    assert problems("", "model: --cell lstm --hidden-size=3 --learn --text abcabcabcabcabc") == []
    assert "mine.md:4: model: --hide is no option of a model" in problems("", "model: --hide 3")[0]
    assert "mine.md:4: model: 'x' is not a whole number" in problems("", "model: --seed x")[0] or problems(
        "", "model: --hidden-size x"
    )
    assert "mine.md:4: model: cannot read no.txt" in problems("", "model: --file no.txt")[0]
    assert "needs a value" in problems("", "model: --seed")[0]


def test_a_lesson_in_a_browser_reads_files_of_its_folder_only(tmp_path):
    outside, inside = tmp_path / "outside.txt", tmp_path / "folder"
    outside.write_text("abcabcabcabcabcabc", encoding="utf-8")
    inside.mkdir()
    (inside / "a.md").write_text("# T\n```lesson\nmodel: --file ../outside.txt\n```\n## C\nx\n", encoding="utf-8")
    assert list(lesson_problems(read_lesson(inside / "a.md"), Console, 1)) == []
    confine(inside)
    try:
        assert "is outside of" in next(lesson_problems(read_lesson(inside / "a.md"), Console, 1)).text
        with pytest.raises(TuiGruError, match="is outside of"):
            read_lesson("../outside.txt")
        assert list(lesson_problems(read_lesson("bug"), Console, 1)) == []  # its files lie in the package
    finally:
        confine(None)


def test_a_number_is_given_away_by_three_digits():
    assert gives_away("about 1.67", 1.6710) == "1.67"
    assert gives_away("1.7 and 2", 1.6710) is None
    assert gives_away("16.7 %", 0.16686) == "16.7 %"
    assert gives_away("−1.671", 1.6710) is None


@pytest.mark.parametrize("name", shipped_lessons())
def test_the_shipped_lessons_are_right(name):
    listed = []
    assert list(lesson_problems(read_lesson(name), Console, 1, listed.append)) == []
    assert len(listed) == len(read_lesson(name).questions)


def test_the_example_is_right_with_each_seed():
    for seed in (1, 2, 3):
        assert list(lesson_problems(lesson_of(template_text(), "mine.md", Path()), Console, seed)) == []


def test_marks_become_cards(tmp_path):
    console = Console(lesson_session := Course(lesson("", "model: --seed 3 --learn"), Console).session)
    for command in (
        "mark a The start",
        "s",
        "mark b One timestep\\nz is {z}",
        "2n",
        "mark c Two batches",
        "go e1 b1 t2",
        "o",
        "o",
        "mark d r",
    ):
        console.execute(command)
    draft = lesson_draft(lesson_session, "a walk")
    read = lesson_of(draft.text, "draft.md", tmp_path)
    assert [card.heading for card in read.cards] == ["The start", "One timestep", "r", "Two batches"]
    assert read.models[0].options == "--seed 3 --learn"
    course, places = Course(read, Console), []
    for card in read.cards:
        for part in card.parts:
            if isinstance(part, CommandBlock):
                for command in part.commands:
                    course.execute(command)
                places.append(course.session.position.tick)
    assert places == [mark.tick for mark in sorted(lesson_session.state.marks.sorted, key=lambda mark: mark.tick)]
    assert list(lesson_problems(read, Console, 3)) == []


def test_expressions_read_models_timesteps_and_results():
    read = lesson("", "model gru: --learn\nmodel lstm: --cell lstm")
    course = Course(read, Console)
    for command in ("gru", "n", "keep before = loss", "lstm", "n"):
        course.execute(SourceLine(command, 1))
    values: LessonValues = course.values
    assert number_in_text(values.value("gru: term3 t 1")) == "1.6710"
    assert values.value("gru.(term3 t 1 + term3 t 2 + term3 t 3) / 3") == pytest.approx(values.value("before"))
    assert values.value("loss") != values.value("gru: loss")
    assert values.value("gru: say Ma 3 0 tutorial") == values.value("gru: say(“Ma”, 3, 0, tutorial)")
    assert values.value("gru: keeps(h) ** 2") == pytest.approx(values.value("gru: keeps h") ** 2)
    assert values.value("gru: losses capitals") > 0
    assert values.filled("{gru: ŷ[row 1, a] t 1 | %} {0.9 ** 21 | 2} {gru: loss < 9}") == "16.7 % 0.11 yes"
    for wrong in ("term3 t 9", "gru.(loss", "losses(x)", "say Ma x", "{"):
        with pytest.raises(TuiGruError):
            values.value(wrong)


def test_a_sheet_is_graded_at_the_places_of_its_questions():
    read = read_lesson("loss")
    sheet = typed_answers("# mine\n1: 1.7905\n\n2: 3.342\n9: dr Urᵀ\n", "a.txt", read)
    with pytest.raises(TuiGruError, match=r"a.txt:1: there is no question 99"):
        typed_answers("99: 1", "a.txt", read)
    with pytest.raises(TuiGruError, match=r"a.txt:1: an answer is the number"):
        typed_answers("1.5", "a.txt", read)
    verdicts = {each.question.number: each.verdict for each in graded(Course(read, Console), sheet)}
    assert [number for number, verdict in verdicts.items() if verdict.right] == [1]
    assert (verdicts[2].hint, verdicts[9].hint) == ("that is the sum; the mean divides it by 2", "dr in the place of dar")
    assert verdicts[3].hint == "no answer"


@pytest.mark.parametrize("name", shipped_lessons())
def test_an_ascii_terminal_can_show_all_of_a_lesson(name):
    text = shipped_lessons()[name].read_text(encoding="utf-8")
    assert transliterate(text, ASCII).count("?") == text.count("?")
