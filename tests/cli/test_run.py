"""`tui-gru run`: its output, exit codes, line mode and interrupts."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from tests.cli.test_mistakes import assert_one_line
from tests.process import PROGRAM, process
from tests.session.acting import untouched
from tui_gru import Session, record
from tui_gru.cli.commands import main
from tui_gru.tui.console import Console


@pytest.fixture
def run(capsys):
    """Run the program in this process: (exit code, standard output, standard error)."""

    def run(*arguments):
        code = main(["run", *arguments])
        return code, *capsys.readouterr()

    return run


def test_each_command_prints_its_answer(run):
    code, out, err = run("-x", "l; 3n", "-x", "why h[row 2, unit 1]")
    assert (code, err) == (0, "")
    assert out.startswith("learning on: batches end with backward and update\nat the end of epoch 1: epoch 2 begins")
    assert "\nh[row 2, unit 1] = " in out


def test_json_is_one_object_a_command(run):
    code, out, err = run("--json", "--hidden-size", "3", "-x", "l; n; findings; s")
    assert (code, err) == (0, "")
    found = [json.loads(line, parse_constant=pytest.fail) for line in out.splitlines()]
    assert [each["command"] for each in found] == ["l", "n", "findings", "s"]
    assert all(set(each) == {"command", "answer", "position", "data"} for each in found)
    assert found[1]["position"] == {
        "epoch": 1, "batch": 1, "t": 3, "phase": "update",
        "words": "at the end of epoch 1 · batch 1: batch 2 begins with the next line",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("commands", "words"), [("s; foo; n", "foo: there is no command"), ("c", "c: no breakpoints"), ("set q", "learning_rate 0.1")]
)
def test_a_refused_command_ends_with_2(run, commands, words):
    code, out, err = run("-x", commands)
    assert code == 2
    assert_one_line(err, words)
    assert len(out.splitlines()) == commands.count("foo")  # of the commands before it


def test_nothing_to_execute_is_bad_usage(run):
    assert_one_line(run()[2], "--execute: give commands")
    assert_one_line(run("-x", "s", "--session", "nowhere")[2], "there is no session nowhere")


def test_the_file_of_a_session_does_not_change(run, tmp_path):
    path, other = tmp_path / "a" / "walk.tui-gru", tmp_path / "other.tui-gru"
    path.parent.mkdir()
    session = Session()
    session.step("batch", 2)
    session.save(path)
    with untouched(path):
        code, out, err = run("--session", str(path), "-x", f"set Wz[0,0] 1; n; save {other}")
    assert (code, err) == (0, "")
    assert "in memory" not in out
    assert Session.open(other).parameter("Wz")[0, 0] == 1
    assert_one_line(run("--session", str(path), "--seed", "5", "-x", "s")[2], "in the session walk --seed is 1, not 5")


def test_a_recording_in_this_folder_is_found_by_its_name(run, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    gru = torch.nn.GRU(3, 4)
    with record("run.gru", gru, every=1) as recorder:
        gru(torch.zeros(5, 2, 3))[0].sum().backward()
        recorder.step(1.0)
    code, out, err = run("--session", "run.gru", "-x", "5s; why h[0,0]")
    assert (code, err) == (0, "")
    assert "\nh[row 1, unit 1] = " in out


def test_no_screen_is_loaded_for_what_needs_none():
    script = (
        "import sys; from tui_gru.cli.commands import main; code = main(['run', '-x', sys.argv[1]]); "
        "print(code, [name for name in ('textual', 'rich', 'torch', 'asyncio') if name in sys.modules])"
    )
    commands = (
        "o; 2s; N; a; l; go e2; why h[0,0]; set Wz[0,0] 1; u; b; c; watch loss; mark a; 'a; compare; r; sample; until loss < 9"
    )
    done = subprocess.run([sys.executable, "-c", script, commands], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


def test_the_line_mode_has_the_place_in_its_prompt(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("s\n\nfoo; s\nl; 3n\n"))
    code, out, err = run("-x", "o", "-i")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1].startswith("(e1 b1 t1 forward) at epoch 1 · batch 1 · t 1 · forward")
    assert lines[3].startswith("(e1 b1 t1 forward) there is no command 'foo'") or "(e1 b1 t1 forward) (e1 b1 t1" in lines[2]
    assert lines[-1].strip() == "(e1 b3 t3 update)"
    monkeypatch.setattr(sys, "stdin", io.StringIO("foo\nq\ns\n"))
    code, out, _ = run("-i", "--json")
    assert code == 0
    assert [set(json.loads(line)) for line in out.splitlines()] == [
        {"command", "refused"},
        {"command", "answer", "position", "data"},
    ]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_stops_a_run_and_the_end_of_the_input_ends():
    child = subprocess.Popen(
        [*PROGRAM, "run", "-i"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(b"l; s\n")
    seen = b""
    while b"t1 forward) " not in seen:
        seen += os.read(child.stdout.fileno(), 4096)
    child.stdin.write(b"o; 100000000e\n")
    while b"z =" not in seen:  # the answer of the first: the second has begun, or is about to
        seen += os.read(child.stdout.fileno(), 4096)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(b"s\n", timeout=60)
    assert (child.returncode, err) == (0, b"")
    assert out.count(b") ") >= 2


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("command", ["1000000000n", "go e99999999999"])
def test_a_long_run_says_how_long_it_takes_and_ctrl_c_ends_it_with_what_is_reached(command):
    child = subprocess.Popen(
        [*PROGRAM, "run", "-x", f"l; {command}; e"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, text=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert child.stderr is not None
    line = child.stderr.readline().decode()
    words = r"tui-gru: about [\d,]+ batches, [\d,.]+ (h|days|years) at this speed; ctrl\+c ends with what is reached\n"
    assert re.fullmatch(words, line)
    child.send_signal(signal.SIGINT)
    out, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (130, b"")
    learning, reached = out.decode().splitlines()
    assert learning.startswith("learning on")
    assert re.search(r"epoch \d", reached)


def test_a_count_that_is_too_large_is_refused(capsys):
    assert main(["run", "-x", "l; 1000000001n"]) == 2
    assert "1000000001n: a count is at most 1,000,000,000, not '1000000001'" in capsys.readouterr().err


def test_only_a_run_that_takes_longer_than_a_minute_is_announced(monkeypatch):
    """By a clock that goes on by an hour at each look."""
    hours = iter(range(10**6))
    monkeypatch.setattr("tui_gru.tui.console.time.monotonic", lambda: 3600.0 * next(hours))
    said = []
    console = Console(Session(epochs=3), announce=said.append)
    console.execute("30e")
    (words,) = said
    assert words.startswith("about 9 batches, ")
    monkeypatch.setattr("tui_gru.tui.console.time.monotonic", lambda: 0.001 * next(hours))
    console.execute("step -3 epoch")
    console.execute("step 3 epoch")
    assert len(said) == 1
    console.close()


def test_a_shell_completes_commands():
    words = {"COMP_WORDS": "tui-gru run -x 's; fin", "COMP_CWORD": "3", "_TUI_GRU_COMPLETE": "bash_complete"}
    done = process(env={**os.environ, **words})
    assert "plain,s; findings" in done.stdout.splitlines()


def test_a_text_of_one_character_is_said_to_teach_nothing(run):
    code, out, err = run("--text", "a" * 30, "-x", "3e; findings")
    assert (code, err) == (0, "")
    assert "nothing can be learned: the text has one character only" in out
    assert "however long" not in out
    _, out, _ = run("--text", "a" * 30, "-x", "3e; y")
    assert out.count("no character has an influence: it is 0 for each") == 2
    assert "∂/∂h is 0" in out
    _, out, _ = run("--text", "a" * 30, "-x", "3e; d")
    assert "-0.000" not in out


def test_a_single_character_that_was_read_reaches_nowhere(run):
    _, out, _ = run("--text", "ab", "--batch-size", "1", "--seq-length", "1", "-x", "3e; y")
    assert out.count("only one character has been read") == 2
    assert "at least 0" not in out


@pytest.mark.parametrize("loss", ["cross-entropy", "squared-error"])
def test_the_prediction_that_influence_is_about_is_the_number_of_the_run(run, loss):
    _, out, _ = run("--text", "MathMathMath", "--loss", loss, "-x", "n; y")
    name, char, value = re.search(r"after “.” (\S+) gives “(.)” (\S+)", out).groups()
    session = Session(text="MathMathMath", loss=loss)
    session.learning = True
    session.step("batch")
    output = session.value({"ŷ": "y_hat"}.get(name, name))[0]
    assert (char, float(value)) == (session.config.vocabulary[output.argmax()], pytest.approx(output.max(), abs=1e-4))


def test_a_rate_of_0_is_not_called_slow(run):
    _, out, _ = run("--learning-rate", "0", "-x", "l; 3e; findings")
    assert "the learning rate is 0: the weights do not change" in out
    assert "very many steps" not in out


def test_a_check_that_cannot_be_made_is_refused(run):
    pytest.importorskip("torch")
    code, _, errors = run("-x", "l; set by[0] 3e38; set by[1] -3e38; n; k; s")
    assert code == 2
    assert_one_line(errors)
    assert "k: this batch has NaN or Inf in its loss or gradients, so nothing can be checked; step back to before it" in errors


def test_a_check_names_parts_of_lines_as_the_screen_does(run):
    pytest.importorskip("torch")
    code, out, _ = run("-x", "k")
    assert code == 0
    for part in ("hₜ₋₁ Uz ", "r⊙hₜ₋₁ ", "1 − z ", "az "):
        assert f"\n  {part}" in out
    assert not any(f"\n  {name} " in out for name in ("hUz", "rh", "one_minus_z", "new"))
    assert "log_p = log ŷ, all 24 entries" in out
