"""Mistakes on the command line: one line that names the option and says what to do, with exit code 2."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.process import PROGRAM, process
from tui_gru.cli.options import line_of
from tui_gru.errors import TuiGruError
from tui_gru.tui import configuration


def assert_one_line(err, *said):
    assert err.startswith("tui-gru: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for words in said:
        assert words in err


# Arguments, and the words that the line must contain
MISTAKES = [
    ("--hiden-size 3", "--hiden-size", "--hidden-size"),
    ("trase", "trase", "--help"),
    ("--held-out nowhere.txt", "--held-out", "nowhere.txt"),
    ("--held-out /dev/null", "--held-out", "/dev/null is empty"),
    (f"--held-out {Path(__file__)}", "--held-out", "which is not in the vocabulary 'hatM'"),
    ("--theme whiteboard screenshot a.svg", "--theme", "write it after screenshot"),
    ("--session walk report", "--session", "write it after report"),
    ("--learn trace", "--learn", "write it after trace"),
    ("trace extra", "extra", "--help"),
    ("trace --hidden-size", "--hidden-size", "requires an argument"),
    ("trace --hidden-size two", "--hidden-size", "'two' is not a whole number"),
    ("trace --hidden-size 1.5", "--hidden-size", "whole number"),
    ("trace --hidden-size 0", "--hidden-size", "at least 1"),
    ("trace --hidden-size 999999999", "--hidden-size", "GiB"),
    (f"trace --hidden-size 1{'0' * 400}", "--hidden-size", "too large"),
    (f"trace --hidden-size 1{'0' * 5000}", "--hidden-size", "…"),
    ("trace --batch-size -1", "--batch-size", "at least 1"),
    ("trace --batch-size 100", "--batch-size", "need 301"),
    ("trace --seq-length 0", "--seq-length", "at least 1"),
    ("trace --seq-length 99999999999", "--seq-length", "need 199999999999"),
    ("trace --text Math --batch-size 2 --seq-length 3", "--text", "need 7"),
    ("trace --text Math --seq-length 9", "--text", "need 10"),
    ("trace --seed -1", "--seed", "from 0"),
    ("trace --seed 9999999999999999999", "--seed", "2^63-1"),
    ("trace --learning-rate nan", "--learning-rate", "finite"),
    ("trace --learning-rate inf", "--learning-rate", "finite"),
    ("trace --learning-rate -0.1", "--learning-rate", "not negative"),
    ("trace --learning-rate fast", "--learning-rate", "'fast' is not a number"),
    ("trace --carry on", "--carry", "notebook"),
    ("trace --dtype float16", "--dtype", "float32"),
    ("trace --reset now", "--reset", "before"),
    ("trace --vocabulary hat", "--vocabulary", "'M' at position 1"),
    ("trace --vocabulary hatMh", "--vocabulary", "twice, at 1 and 5"),
    ("trace --text Math --file poem", "--text and --file", "keep one"),
    ("--text Math trace --file poem", "--text and --file", "keep one"),
    ("trace --epochs -1", "--epochs", "0 or more"),
    ("trace --from-epoch 1", "--from-epoch", "0 to 0"),
    ("trace --from-epoch -1", "--from-epoch", "0 to 0"),
    ("trace --format xml", "--format", "npz"),
    ("trace --format npz --epochs 1000000000", "--epochs", "GiB"),
    ("trace -o nowhere/run.json", "-o", "No such file"),
    ("trace -o .", "-o", "directory"),
    ("trace --cell nothing.cell", "--cell", "No such file or directory; check the name"),
    ("sample --bidirectional", "--bidirectional", "train one that reads forwards"),
    ("sample --primer Mx", "--primer", "'x' at position 2"),
    ("sample --length -1", "--length", "0 or more"),
    ("sample --length 99999999999", "--length", "GiB"),
    ("sample --sampler best", "--sampler", "fed-back"),
    ("sample --temperature -1", "--temperature", "0 or more"),
    ("sample --temperature nan", "--temperature", "finite"),
    ("sample --sample-seed -1", "--sample-seed", "0 or more"),
    ("sample --epochs -1", "--epochs", "0 or more"),
    ("sample --epochs 9 --learning-rate 3e38", "--learning-rate", "smaller"),
    ("screenshot", "OUT", "--help"),
    ("screenshot --size 120 out.svg", "--size", "120x36"),
    ("screenshot --size 0x36 out.svg", "--size", "120x36"),
    ("screenshot ..", "OUT", "name it screen.svg"),
    ("screenshot nowhere/out.svg", "OUT", "nowhere"),
    ("screenshot out.gif", "OUT", "name it out.svg"),
    ("screenshot --at z out.svg", "--at", "there is no mark z; m and a letter sets one"),
    ("screenshot --at e1,b9 out.svg", "--at", "is not a place in time; write it as e3 b2 t1"),
    ("screenshot --session nowhere out.svg", "there is no session nowhere", "tui-gru sessions"),
    ("screenshot --keys entre out.svg", "--keys", "'entre' is not a key; did you mean enter"),
    ("screenshot --keys ctrl+shiftx out.svg", "--keys", "'ctrl+shiftx' is not a key"),
    ("trace --file my_book_file.txt", "--file", "my_book_file.txt"),
    ("trace --file hidden_size.txt", "--file", "hidden_size.txt"),
    ("trace --file batch_size/hidden_size", "--file", "batch_size/hidden_size"),
    ("completion tcsh", "tcsh", "fish"),
    ("--keymap nowhere", "--keymap", "nowhere"),
    ("--learning-rate nan", "--learning-rate", "finite"),
    ("", "not a terminal", "tui-gru trace"),
]


@pytest.mark.parametrize(("arguments", "named", "cure"), MISTAKES, ids=lambda words: words[:40])
def test_a_mistake_is_one_line_and_code_2(run, tmp_path, monkeypatch, arguments, named, cure):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "")
    assert_one_line(err, named, cure)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no file"), ("folder", "directory"), (b"", "empty"), (b"a", "need 2"), (b"abcdefgh\xff", "byte 0xff at offset 8")],
)
def test_a_bad_file_is_one_line(run, tmp_path, content, said):
    path = tmp_path / "text"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    code, _, err = run("trace", "--file", str(path))
    assert code == 2
    assert_one_line(err, "--file", said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a = " + b"[" * 5000 + b"]" * 5000, "brackets are too deep"),
        (b"a = " + b"9" * 6000, "too many digits"),
        (b"[keys]\n" + b"#" * 70_000, "longer than 64 KiB"),
        (b"\xff", "is not a TOML file"),
        (b"[keys", "is not a TOML file"),
    ],
    ids=["nested", "digits", "long", "bytes", "broken"],
)
def test_a_bad_key_file_is_one_line(tmp_path, content, said):
    path = tmp_path / "keys.toml"
    path.write_bytes(content)
    with pytest.raises(TuiGruError, match=said) as caught:
        configuration.load_keys(path)
    assert_one_line(f"tui-gru: {line_of(caught.value)}\n", "--keymap", str(path))


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ('[keys]\n# mine\n"step.tme" = "j"', 3, "there is no verb 'step.tme'"),
        ('[keys]\n\n"check" = "shift+nothing"', 3, "'shift+nothing' is not a valid key for check"),
        ('[keys]\n"check" = 5', 2, "5 is not a valid key for check"),
        ('[keys]\n"check" = "s"', 2, "the key 's' is both step.timestep and check"),
        ('[keys]\n"play" = "f5"\n"step.line" = "f5"', 2, "the key 'f5' is both"),
        ("keys = 3", 1, "[keys] must be a table"),
    ],
)
def test_a_mistake_in_a_key_file_is_said_with_its_line(tmp_path, content, line, said):
    path = tmp_path / "keys.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TuiGruError) as caught:
        configuration.load_keys(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "place", "said"),
    [
        ('[display]\n\ntheme = "whitebord"', ":3: ", "there is no theme 'whitebord'; did you mean whiteboard?"),
        ("[display]\ntheme = 3", ":2: ", "there is no theme 3"),
        ('[display]\nascii = "yes"', ":2: ", "ascii is true or false, not 'yes'"),
        ("[display]\nascii = true\ncolours = 3", ":3: ", "there is no 'colours' in [display]"),
        ('# mine\ntheme = "whiteboard"', ":2: ", "there is no table [theme]; write [display], with theme and ascii in it"),
        ("[keys]\na = 1", ":1: ", "there is no table [keys]; write [display]"),
        ("display = 1", ":1: ", "[display] must be a table"),
        ("[display]\ntheme = whiteboard", " is not a TOML file: ", "at line 2"),
    ],
)
def test_a_mistake_in_the_file_of_the_display_is_said_with_its_line(tmp_path, content, place, said):
    path = tmp_path / "config.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TuiGruError) as caught:
        configuration.load_display(path)
    assert str(caught.value).startswith(f"{path}{place}")
    assert said in str(caught.value)


def test_of_a_key_file_without_an_end_only_the_beginning_is_read():
    with pytest.raises(TuiGruError, match="longer than 64 KiB"):
        configuration.load_keys(Path("/dev/zero"))


@pytest.mark.parametrize("name", ["loop", "loop/trace.json"])
def test_links_that_lead_in_a_circle_are_one_line(run, tmp_path, name):
    (tmp_path / "loop").symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(tmp_path / "loop")
    code, _, err = run("trace", "-o", str(tmp_path / name))
    assert code == 2
    assert_one_line(err, "-o: cannot write", "symbolic links")
    assert (tmp_path / "loop").is_symlink()


def test_an_internal_error_is_one_line_and_a_report(run, monkeypatch, expected_reports):
    monkeypatch.setattr("tui_gru.cli.sessions.sampled_line", lambda *_: 1 / 0)
    code, out, err = run("sample")
    assert (code, out) == (1, "")
    assert_one_line(err, "internal error (ZeroDivisionError: division by zero); report: ")
    (report,) = expected_reports()
    assert "Traceback" in report


@pytest.mark.parametrize(("arguments", "named"), [(["trace", "--text", ""], "--text"), (["sample", "--primer", ""], "--primer")])
def test_an_empty_text_is_one_line(run, arguments, named):
    code, _, err = run(*arguments)
    assert code == 2
    assert_one_line(err, named, "empty")


def test_an_empty_cell_is_one_line(run, tmp_path):
    (tmp_path / "empty.cell").write_text("")
    code, out, err = run("trace", "--cell", str(tmp_path / "empty.cell"))
    assert (code, out) == (2, "")
    assert_one_line(err, "--cell: ", "empty.cell: it is empty; write equations in it")


def test_a_mistake_in_a_process_of_its_own():
    done = process("trace", "--text", b"\xff" * 20)
    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr, "--text")


def test_without_a_terminal_it_says_what_to_do():
    done = process()
    assert (done.returncode, done.stdout) == (2, "")
    assert_one_line(done.stderr, "not a terminal", "tui-gru trace", "tui-gru screenshot")


@pytest.mark.parametrize("term", ["dumb", None])
def test_a_terminal_that_cannot_draw_is_said_to_be_one(term):
    environment = {name: value for name, value in os.environ.items() if name != "TERM"} | ({"TERM": term} if term else {})
    screen, terminal = pty.openpty()
    done = process(env=environment, stdin=terminal, stdout=terminal)
    os.close(terminal)
    os.close(screen)
    assert done.returncode == 2
    assert_one_line(done.stderr, "TERM", "tui-gru trace")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a Linux device")
def test_a_full_disk_is_one_line():
    for arguments in ("trace", "sample", "--help"):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = process(*arguments.split(), stdout=full)
        assert done.returncode == 2
        assert_one_line(done.stderr, "standard output")
    with open("/dev/full", "w", encoding="utf-8") as full:  # where nothing can be said, the exit code still says it
        assert process("sample", "--primer", "X", stderr=full).returncode == 2


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@pytest.mark.parametrize("arguments", [["sample"], ["trace"], ["run", "-x", "s"]])
def test_a_closed_standard_output_is_one_line(arguments):
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *PROGRAM, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert_one_line(done.stderr, "standard output: it is closed")


def test_a_file_in_the_place_of_a_command(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("model.pt")[2] == "tui-gru: No such command 'model.pt'; see tui-gru --help\n"
    Path("model.pt").touch()
    code, _, err = run("model.pt")
    assert code == 2
    assert_one_line(err, "model.pt is not a command; open a session with --session model.pt", "learn a text with --file model.pt")


def test_an_empty_name_of_a_screenshot_is_one_line(run):
    code, out, err = run("screenshot", "")
    assert (code, out) == (2, "")
    assert_one_line(err, "OUT", "name it screen.svg")


@pytest.mark.parametrize(("arguments", "named"), [(["inspect", ""], "the name"), (["trace", "--model", ""], "--model: the name")])
def test_an_empty_name_of_a_model_file_is_one_line(run, arguments, named):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err == f"tui-gru: {named} of the file is empty; name the file that holds the weights\n"


@pytest.mark.parametrize(
    "arguments",
    ["trace --file {}", "trace -o {}", "screenshot {}.svg", "--keymap {}", "inspect {}", "open {}", "trace --cell {}.cell"],
)
def test_a_null_byte_in_a_name_is_one_line(run, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments.format("a\0b").split(" "))
    assert (code, out) == (2, "")
    assert_one_line(err, r"a\x00b", "check the name")
    assert list(tmp_path.iterdir()) == []


LONG = {"one word": "a" * 5000, "many words": "a 'b' " * 1000}
QUOTING = [
    "{}", "--{}", "--{}=3", "--cell {}", "--file {}", "--session {}", "--keymap {}", "--carry {}", "--optimizer {}", "cells {}",
    "inspect {}", "open {}", "report {}", "completion {}", "trace -o {}", "trace --model {}", "trace --format {}", "trace extra {}",
    "screenshot {}", "screenshot {}.svg", "screenshot --size {} x.svg", "screenshot --theme {} x.svg", "screenshot --at {} x.svg",
    "sample --temperature {}", "report x -o {}",
]  # fmt: skip


@pytest.mark.parametrize("long", LONG.values(), ids=LONG)
@pytest.mark.parametrize("arguments", QUOTING)
def test_a_long_argument_is_quoted_shortened(run, tmp_path, monkeypatch, arguments, long):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*(word.replace("{}", long) for word in arguments.split()))
    assert (code, out) == (2, "")
    assert_one_line(err)
    assert len(err) < 900
    assert "…" in err or long[:40] not in err


def test_a_long_word_in_a_message_is_cut():
    long = "a" * 299
    assert str(TuiGruError(f"there is no {long}, is there?")) == f"there is no {long}, is there?"
    assert str(TuiGruError(f"no {'a' * 1000} {'b' * 1000}")) == f"no {'a' * 150}…{'a' * 50} {'b' * 150}…{'b' * 50}"


@pytest.mark.parametrize(
    ("variable", "value", "cure"),
    [
        ("TEXTUAL_COLOR_SYSTEM", "bogus", "truecolor"),
        ("TEXTUAL_LOG", "no such folder/x", "No such file"),
        ("TEXTUAL_LOG", "/", ""),
    ],
)
def test_a_variable_that_textual_fails_on_is_one_line(tmp_path, variable, value, cure):
    picture = tmp_path / "out.svg"
    done = process("screenshot", str(picture), env={**os.environ, variable: value}, cwd=tmp_path)
    assert done.returncode == 2
    assert_one_line(done.stderr, f"{variable} is {value!r}", cure)
    assert not picture.exists()


def test_a_value_may_have_the_one_name_that_python_lets_nothing_assign_to(run, tmp_path):
    cell = tmp_path / "own.cell"
    cell.write_text("state h : H\nparameters Wf Uf\n__debug__ = x Wf + h_prev Uf\nh = tanh(__debug__)\n", encoding="utf-8")
    code, out, err = run("trace", "--cell", str(cell))
    assert (code, err) == (0, "")
    assert '"__debug__"' in out
