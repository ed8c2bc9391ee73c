"""`tui-gru lesson` without a screen: the list, the check, grading, and new files."""

import json

import pytest

from tests.cli.test_mistakes import assert_one_line
from tui_gru import Session
from tui_gru.teaching.lesson import read_lesson, shipped_lessons


def test_the_list_has_all_lessons_with_their_minutes(run):
    code, out, err = run("lesson")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == list(shipped_lessons())
    assert "15 min  The loss and its gradient, by hand" in out


def test_answers_are_graded_as_json(run, tmp_path):
    (tmp_path / "a.txt").write_text("1: 2.58\n2: 1.671\n9: dar Ur\n", encoding="utf-8")
    code, out, err = run("lesson", "loss", "--answers", tmp_path / "a.txt", "--json")
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["question"] for row in rows] == list(range(1, 13))
    assert all(set(row) == {"question", "typed", "right", "hint"} for row in rows)
    assert [row["question"] for row in rows if row["right"]] == [2]
    assert "in bits" in rows[0]["hint"]
    assert rows[1]["hint"] == ""
    assert rows[8]["hint"] == "Ur has to be transposed: Urᵀ"


def test_the_exit_code_tells_whether_enough_is_right(run, tmp_path):
    (tmp_path / "a.txt").write_text("1: 1.7905\n2: 1.671\n3: b\n", encoding="utf-8")
    grade = ("lesson", "loss", "--answers", tmp_path / "a.txt", "--json", "--at-least")
    assert run(*grade, "0.25")[0] == 0
    code, out, err = run(*grade, "0.3")
    assert (code, err) == (1, "")
    assert len(out.splitlines()) == 12
    for share, words in (("30", "from 0 to 1"), ("-0.1", "from 0 to 1"), ("x", "number")):
        code, _, err = run(*grade, share)
        assert code == 2
        assert words in err
    code, _, err = run("lesson", "loss", "--at-least", "0.3")
    assert (code, "it belongs to --answers" in err) == (2, True)


def test_another_seed_is_another_sheet(run, tmp_path):
    (tmp_path / "a.txt").write_text("1: 1.7905\n", encoding="utf-8")
    sheets = [run("lesson", "loss", "--answers", tmp_path / "a.txt", "--seed", seed)[1] for seed in (1, 2)]
    assert sheets[0].startswith("  1 ✓ 1.7905\n")
    assert sheets[1].startswith("  1 ✗ 1.7905")
    assert sheets[0].endswith("1 of 12 right\n")


def test_the_check_ends_with_1_for_a_lesson_with_a_mistake(run, tmp_path):
    code, out, err = run("lesson", "--check", "loss")
    assert (code, err) == (0, "")
    assert out.endswith("loss: 12 questions, 9 cards, seeds 1, 2, 3, 4, 5: right\n")
    wrong = tmp_path / "wrong.md"
    wrong.write_text("# T\n## C\nIt is {loss}.\n", encoding="utf-8")
    code, out, err = run("lesson", "--check", wrong, "--seed", "3")
    assert (code, err) == (1, "")
    assert f"{wrong}:3: {{loss}}: loss is not computed yet" in out


def test_a_new_lesson_is_right_and_no_file_is_overwritten(run, tmp_path):
    path = tmp_path / "mine.md"
    assert run("lesson", "--new", path)[0] == 0
    assert len(read_lesson(path).questions) == 5
    assert run("lesson", "--check", path)[0] == 0
    code, _, err = run("lesson", "--new", path)
    assert code == 2
    assert "exists and is left as it is" in err


def test_the_marks_of_a_session_become_a_lesson(run, tmp_path):
    session = Session(text="abcdefgh" * 40, hidden_size=3, batch_size=2, seq_length=4, seed=7)
    session.learning = True
    session.step("timestep", 2)
    session.mark("a", "Two timesteps")
    session.save(tmp_path / "walk.tui-gru")
    code, _, err = run("lesson", "--from", tmp_path / "walk.tui-gru")
    assert code == 2
    assert "name the file of the lesson with --new" in err
    assert run("lesson", "--from", tmp_path / "walk.tui-gru", "--new", tmp_path / "walk.md")[0] == 0
    assert (tmp_path / "walk.txt").read_text(encoding="utf-8") == "abcdefgh" * 40
    assert run("lesson", "--check", tmp_path / "walk.md", "--seed", "7")[0] == 0
    code, _, err = run("lesson", "--from", tmp_path / "walk.tui-gru", "--new", tmp_path / "walk.md")
    assert code == 2


def test_a_lesson_is_written_as_a_page(run, tmp_path):
    page = tmp_path / "why.html"
    code, out, err = run("player", "--lesson", "why", "-o", page)
    assert (code, err) == (0, "")
    assert out.startswith(f"{page}: ")
    assert "Why Mattttttttt?" in page.read_text(encoding="utf-8")
    code, _, err = run("player", "--lesson", "why", "-o", page)
    assert code == 2
    assert "exists and is left as it is; name another file, or add --force" in err
    assert run("player", "--lesson", "why", "-o", page, "--force", "--seed", "2")[0] == 0
    for more in (("--hidden-size", "3"), ("-x", "s"), ("--last", "3")):
        code, _, err = run("player", "--lesson", "why", "-o", page, *more)
        assert code == 2
        assert_one_line(err)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["losss"], "there is no lesson and no file losss; did you mean loss"),
        (["--answers", "none.txt"], "name a lesson, one of why"),
        (["loss", "--answers", "none.txt"], "there is no file none.txt"),
        (["loss", "--json"], "--json: it belongs to --answers"),
        (["loss", "--check", "--answers", "x"], "--check and --answers are both given"),
        (["loss", "--new", "x.md"], "loss would not be used"),
        (["--new", "x.txt"], "name it x.md"),
        (["--new", "/no/x.md"], "write somewhere else"),
        (["--from", "no-session"], "there is no session no-session"),
        (["loss", "--seed", "x", "--check"], "--seed: 'x' is not a whole number"),
    ],
)
def test_mistakes_are_one_line_that_names_the_cure(run, arguments, words):
    code, _, err = run("lesson", *arguments)
    assert code == 2
    assert_one_line(err)
    assert words in err
