"""Sessions from the command line: created, reopened, copied, listed, and refused in one line without changing the file."""

import io
from contextlib import closing

import pytest

from tests.cli.test_mistakes import assert_one_line
from tests.session.acting import untouched
from tui_gru import Session
from tui_gru.cli.commands import main
from tui_gru.storage.file import VERSION
from tui_gru.storage.store import session_path, sessions_folder


@pytest.fixture
def opened(capsys, monkeypatch):
    """Run the program up to the screen. Returns (exit code, standard error, the session for the screen)."""
    shown = []
    monkeypatch.setattr("tui_gru.tui.app.run", lambda session, **options: shown.append(session))
    monkeypatch.setattr("tui_gru.cli.options.require_terminal", lambda: None)

    def run(*arguments):
        shown.clear()
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.err + captured.out, shown[0] if shown else None

    yield run
    for session in shown:
        session.close()


@pytest.fixture
def saved():
    """A session in the user's folder, by its name."""

    def save(name="math", **options):
        session = Session(**options)
        session.step("batch", 2)
        session.save(session_path(name))
        return session

    return save


def test_a_name_begins_a_session_and_goes_on_with_it(opened):
    code, said, session = opened("--session", "poem", "--hidden-size", "3", "--learn", "--history-memory", "1M")
    assert (code, said) == (0, "")
    assert session.recording == session_path("poem")
    assert (session.config.hidden_size, session.learning, session.notice) == (3, True, "")
    session.step("batch", 4)
    session.close()
    _, _, again = opened("--session", "poem")
    assert again.position == session.position
    assert again.recording == session_path("poem")
    assert again.state.timeline.memory.budget.limit == 2**20
    assert again.notice == "reopened where it was left: epoch 2 · batch 1 · t 3 on main, 1 branch, 1 change"


def test_a_path_is_taken_as_it_is(opened, tmp_path):
    path = tmp_path / "deep" / "poem.tui-gru"
    code, said, _ = opened("--session", str(path))
    assert code == 2
    assert_one_line(said, "--session: there is no folder", "create it first")
    path.parent.mkdir()
    assert opened("--session", str(path))[2].recording == path


@pytest.mark.parametrize("before", [(), ("open",)])
def test_the_file_of_a_session_is_opened(opened, saved, tmp_path, before):
    path = tmp_path / "lesson.tui-gru"
    saved().save(path)
    code, said, session = opened(*before, str(path))
    assert (code, said) == (0, "")
    assert session.position == Session.open(path).position
    assert session.recording is None  # looking at it does not change it
    code, said, session = opened(*before, str(path), "--input", "x.npy")
    assert (code, session) == (2, None)
    assert_one_line(said, "--input: a session has its own model and inputs; remove it")
    code, said, _ = opened("--seed", "5", *before, str(path))
    assert code == 2
    assert_one_line(said, "in the session lesson --seed is 1, not 5")


@pytest.mark.parametrize("before", [(), ("open",)])
def test_the_file_of_a_session_that_does_not_exist(opened, before):
    code, said, _ = opened(*before, "lesson.tui-gru")
    assert code == 2
    assert_one_line(said, "there is no session lesson.tui-gru; `tui-gru sessions` lists them")


def test_without_a_name_a_session_is_recorded_once_it_is_used(opened, own_state_folder):
    _, _, session = opened("--text", "to be or not to be, that is")
    assert not list(own_state_folder.iterdir())
    session.step()
    assert session.recording.parent == sessions_folder() / "automatic"
    assert session.recording.name.endswith("-to.tui-gru")
    session.close()
    assert opened("--session", "last")[2].position == session.position


def test_recording_can_be_turned_off(opened, own_state_folder):
    _, _, session = opened("--no-record")
    session.step()
    assert session.recording is None
    assert not list(own_state_folder.iterdir())


def test_what_is_said_of_the_model_must_be_what_it_is(opened, saved, tmp_path):
    saved(hidden_size=5, seed=3)
    text = tmp_path / "text"
    text.write_text("something else, and longer")
    with untouched(session_path("math")):
        code, said, _ = opened(
            "--session", "math", "--hidden-size", "64", "--seed", "3", "--learn", "--file", str(tmp_path / "text")
        )
        assert code == 2
        assert_one_line(
            said,
            "in the session math",
            "--hidden-size is 5, not 64",
            "--learn is off, not on",
            "--file is 'MathMath",
            "remove the option, or name another session",
        )
        assert "seed" not in said
    assert opened("--session", "math", "--hidden-size", "5", "--text", "MathMathMathMathMath", "--no-learn")[0] == 0


@pytest.mark.parametrize(
    ("size", "bytes_"), [("64", 64 * 2**20), ("1g", 2**30), ("512K", 2**19), ("1.5MiB", 3 * 2**19), ("0", 0), ("2MB", 2**21)]
)
def test_sizes_of_memory(opened, saved, size, bytes_):
    assert opened("--no-record", "--history-memory", size)[2].state.timeline.memory.budget.limit == bytes_


@pytest.mark.parametrize("size", ["", "big", "-1", "64X", "1e9", "1,5G", "٣"])
def test_what_is_no_size_of_memory_is_refused(opened, size):
    code, said, _ = opened("--history-memory", size)
    assert code == 2
    assert_one_line(said, "--history-memory", "is not a size such as 64 (MiB), 64M or 1G")


# Sessions in use


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_session_in_use_is_refused_where_nobody_can_be_asked(opened, saved, monkeypatch):
    saved()
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with closing(Session.open(session_path("math"), record=True)):
        code, said, _ = opened("--session", "math")
    assert code == 2
    assert_one_line(said, "math is open in another tui-gru; --copy opens a copy of it")


@pytest.mark.parametrize(("answer", "copied"), [("\n", True), ("y\n", True), ("n\n", False)])
def test_a_session_in_use_is_copied_if_one_says_so(opened, saved, monkeypatch, answer, copied):
    session = saved()
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    with closing(Session.open(session_path("math"), record=True)):
        code, said, copy = opened("--session", "math")
    assert code == 0
    assert "math is open in another tui-gru. Open a copy of it? [Y/n]" in said
    assert (copy is not None) is copied
    if copied:
        assert copy.recording == session_path("math-2")
        assert copy.position == session.position
        assert "a copy of math" in copy.notice


def test_a_copy_can_be_asked_for(opened, saved):
    saved()
    with closing(Session.open(session_path("math"), record=True)):
        assert opened("--session", "math", "--copy")[2].recording == session_path("math-2")
    for arguments, words in (
        (("--copy",), "name the session with --session"),
        (("--copy", "--session", "none"), "there is no session none; `tui-gru sessions` lists them"),
    ):
        code, said, _ = opened(*arguments)
        assert code == 2
        assert_one_line(said, words)


# Damaged files


def damage(kind, path):
    good = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(good[: len(good) // 2])
    elif kind == "flipped":
        at = good.index(b'"tick"')
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    elif kind == "future":
        path.write_bytes(good[:60] + (VERSION + 1).to_bytes(4, "big") + good[64:])
    elif kind == "foreign":
        path.write_bytes(b"#!/bin/sh\necho no session\n" * 40)
    else:
        path.write_bytes(b"")


FAULTS = {
    "truncated": "is damaged",
    "flipped": "is damaged at",
    "future": f"format version {VERSION + 1}; this tui-gru reads version {VERSION}: use a newer one",
    "foreign": "is not a tui-gru session; name another file",
    "empty": "is empty",
}


@pytest.mark.parametrize("more", [(), ("--copy",), ("--hidden-size", "2")], ids=["opened", "copied", "compared"])
@pytest.mark.parametrize(("kind", "words"), FAULTS.items())
def test_a_file_that_is_no_good_session_is_an_error_and_untouched(opened, saved, kind, words, more):
    saved()
    damage(kind, session_path("math"))
    with untouched(session_path("math")):
        code, said, session = opened("--session", "math", *more)
    assert (code, session) == (2, None)
    assert_one_line(said, "math.tui-gru", words)


def test_no_session_yet(opened):
    code, said, _ = opened("--session", "last")
    assert code == 2
    assert_one_line(said, "there is no session in", "leave out --session to begin one")


@pytest.mark.parametrize("name", ["a\0b", "", "x" * 300, "~nobody-of-this-name/a"])
def test_a_name_that_is_none(opened, name):
    code, said, _ = opened("--session", name)
    assert code == 2
    assert_one_line(said, "is not a file name")


def test_a_state_folder_that_cannot_be_made_is_said_on_the_screen(opened, own_state_folder):
    own_state_folder.rmdir()
    own_state_folder.write_text("a file")
    code, said, session = opened("--session", "math")
    assert (code, said) == (0, "")
    assert "not recorded; the session continues in memory only" in session.notice
    session.step()
    assert session.position.t == 0


# The list


def test_the_list(opened, saved):
    assert opened("sessions")[1].startswith(f"no sessions in {sessions_folder()} yet; `tui-gru --session NAME` creates one")
    session = saved("a-long-name")
    session.edit("Wz", (0, 0), 1.0)
    session.step("timestep", -1)
    session.edit("Wz", (0, 0), 1.0)
    session.save(session_path("b"))
    session.save(session_path("c"))
    damage("foreign", session_path("c"))
    code, said, _ = opened("sessions")
    assert code == 0
    head, *rows = said.splitlines()
    assert head == "SESSION      WRITTEN             SIZE  LEFT AT                BRANCHES"
    said = {row.split()[0]: row for row in rows}
    assert list(said) == ["b", "a-long-name", "c"]
    assert "is not a tui-gru session" in said["c"]
    assert said["a-long-name"].endswith("KiB  epoch 1, batch 2, t 3  main")
    assert said["b"].endswith("KiB  epoch 1, batch 2, t 3  main~1, main")
