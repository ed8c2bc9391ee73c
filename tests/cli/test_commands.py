"""The command line: its output, its files, and the arguments that it passes to the screen."""

import json
import os
import re
import signal
import subprocess
import threading
import tomllib
from pathlib import Path

import pytest
from click.shell_completion import split_arg_string
from platformdirs import user_config_path

import tui_gru
from tests.process import PROGRAM, process
from tui_gru.cli.commands import main
from tui_gru.cli.options import speaks_utf8
from tui_gru.engine.config import Config
from tui_gru.equations.page import KINDS, choices, shipped
from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session
from tui_gru.storage.store import session_path
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless
from tui_gru.tui.session_screen import BottomLine


@pytest.fixture
def traced(run):
    def traced(*arguments):
        code, out, err = run("trace", *arguments)
        assert (code, err) == (0, "")
        return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    return traced


# The trace


def test_the_default_trace_is_the_tutorials_first_epoch(traced):
    trace = traced()
    assert list(trace) == ["format", "version", "config", "run", "vocabulary", "initial_parameters", "batches"]
    assert (trace["format"], trace["version"], trace["vocabulary"]) == ("tui-gru-trace", 2, "hatM")
    assert trace["config"] == {
        "text": "MathMathMathMathMath", "vocabulary": "hatM", "hidden_size": 2, "batch_size": 2, "seq_length": 3, "seed": 1,
        "learning_rate": 0.01, "carry": "detach", "dtype": "float32", "reset": "before", "cell": "gru", "cell_text": "",
        "layers": 1, "bidirectional": False, "embedding": 0, "optimizer": "sgd", "optimizer_text": "", "clip": 0.0,
        "init": "tutorial", "layout": "tutorial", "head": "linear", "head_text": "", "loss": "cross-entropy", "loss_text": "",
    }  # fmt: skip
    assert trace["run"] == {"epochs": 1, "from_epoch": 0, "learn": True}
    assert [(batch["epoch"], batch["batch"]) for batch in trace["batches"]] == [(0, 0), (0, 1), (0, 2)]
    first = trace["batches"][0]
    assert f"{first['timesteps'][0]['y_hat'][0][0]:.4f}" == "0.4342"
    assert f"{first['loss']:.4f}" == "1.2602"


def test_from_epoch_runs_everything_and_writes_the_end(traced):
    whole, end = traced("--epochs", "4"), traced("--epochs", "4", "--from-epoch", "2")
    assert end["batches"] == whole["batches"][6:]
    assert end["initial_parameters"] == whole["initial_parameters"]


def test_options_before_the_command_count_and_those_after_it_win(traced):
    assert main(["--hidden-size", "0", "trace", "--hidden-size", "2", "-o", os.devnull]) == 0
    assert main(["--hidden-size", "0", "trace"]) == 2


def test_a_file_and_its_vocabulary(traced, tmp_path):
    (tmp_path / "text").write_bytes("\ufeffab\r\n[🙂]漢\0ab\n".encode())
    config = traced("--file", str(tmp_path / "text"), "--vocabulary", "\n\rab[]🙂漢\0", "--hidden-size", "2", "--no-learn")[
        "config"
    ]
    assert config["text"] == "ab\r\n[🙂]漢\0ab\n"
    assert config["vocabulary"] == "\n\rab[]🙂漢\0"


# The output file


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "run.json"
    target.write_text("before")
    target.chmod(0o640)
    (tmp_path / "link").symlink_to(target)
    assert main(["trace", "-o", str(tmp_path / "link")]) == 0
    assert json.loads(target.read_text())["format"] == "tui-gru-trace"
    assert target.stat().st_mode & 0o777 == 0o640
    written = target.read_bytes()
    monkeypatch.setattr("tui_gru.storage.trace.train", interrupted)
    assert main(["trace", "-o", str(target)]) == 130
    assert target.read_bytes() == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "run.json"]


def interrupted(*arguments, **options):
    raise KeyboardInterrupt


def test_a_device_is_written_and_not_replaced():
    assert main(["trace", "-o", os.devnull]) == 0
    assert Path(os.devnull).is_char_device()


def test_a_reader_that_has_read_enough_is_no_error():
    for arguments in ("trace --epochs 300", "trace --epochs 300 --format npz", "sample", "--help"):
        read, write = os.pipe()
        os.close(read)
        done = process(*arguments.split(), stdout=write)
        os.close(write)
        assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_is_quiet():
    running = subprocess.Popen([*PROGRAM, "trace", "--epochs", "1000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    running.stdout.read(1000)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (130, b"")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("command", [["player", "-x", "l; 99999999e; 99999999e", "-o"], ["screenshot", "--keys", "l 99999999e"]])
def test_ctrl_c_stops_a_run_whose_screen_is_drawn(run, command, tmp_path, monkeypatch):
    step, begun = Session.step, []

    def interrupted(session, level, count=1, **options):
        begun.append(count)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return step(session, level, count, **options)

    monkeypatch.setattr(Session, "step", interrupted)
    assert run(*command, tmp_path / ("out.html" if "player" in command else "out.svg")) == (130, "", "")
    assert (begun, list(tmp_path.iterdir())) == ([99999999], [])


# Samples


def test_sample_prints_one_line(run):
    code, out, err = run("sample", "--epochs", "5", "--primer", "Ma", "--length", "10")
    assert (code, err) == (0, "")
    assert out.startswith("Ma")
    assert len(out) == 13
    assert out.endswith("\n")


def test_the_tutorials_sampler_never_advances(run):
    greedy = ("sample", "--epochs", "1000", "--temperature", "0")
    assert run(*greedy) == (0, "MathMathMath\n", "")
    assert run(*greedy, "--sampler", "tutorial") == (0, "Matttttttttt\n", "")


def test_the_sample_seed_chooses(run):
    assert run("sample", "--sample-seed", "1") == run("sample", "--sample-seed", "1") != run("sample", "--sample-seed", "2")


def test_what_would_break_the_line_is_escaped(run):
    _, out, _ = run("sample", "--text", "\n\x1b\u2028 " * 3, "--primer", "\n\x1b\u2028 ", "--length", "0", "--hidden-size", "2")
    assert out == r"\n\x1b\u2028 " + "\n"


def test_a_character_that_the_locale_lacks_is_escaped():
    done = process("sample", "--text", "漢字仮名" * 3, "--length", "0", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\u6f22\\u5b57\n", "")


# The terminal


@pytest.mark.parametrize(
    ("locale", "encoding", "utf8"),
    [
        ({}, "utf-8", True),
        ({"LANG": "de_DE.UTF-8"}, "utf-8", True),
        ({"LANG": "de_DE.utf8@euro"}, "utf-8", True),
        ({"LC_ALL": "C"}, "utf-8", False),
        ({"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}, "utf-8", False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "utf-8", False),  # Python itself sets LC_CTYPE
        ({"LC_CTYPE": "C.UTF-8"}, "utf-8", True),
        ({"LC_CTYPE": "C.UTF-8", "LANG": "de_DE.UTF-8"}, "utf-8", True),
        ({"LANG": "de_DE.ISO-8859-1"}, "utf-8", False),
        ({"LANG": "de_DE.UTF-8"}, "iso8859-1", False),
        ({"LANG": "de_DE.UTF-8"}, "no-such-encoding", False),
    ],
)
def test_ascii_is_chosen_where_the_locale_is_not_utf8(locale, encoding, utf8):
    assert speaks_utf8(locale, encoding) is utf8


@pytest.fixture
def screen(monkeypatch):
    """The calls that would open the screen, which is not opened."""
    calls = []
    monkeypatch.setattr("tui_gru.tui.app.run", lambda *arguments, **options: calls.append((arguments, options)))
    monkeypatch.setattr("tui_gru.tui.headless.take", lambda *arguments, **options: calls.append((arguments, options)) or "")
    monkeypatch.setattr("tui_gru.cli.options.require_terminal", lambda: None)
    monkeypatch.setattr("tui_gru.cli.options.speaks_utf8", lambda environ, encoding: False)
    return calls


def test_the_debugger_is_opened_on_the_tutorial(run, screen):
    assert run() == (0, "", "")
    (((session,), options),) = screen
    assert (session.config, session.learning, session.stop_on_nan, session.recording) == (Config(), False, True, None)
    assert options == {"theme": None, "ascii": True, "keys": None, "command": ""}


def test_the_debuggers_options_reach_it(run, screen, tmp_path):
    keymap = tmp_path / "keys.toml"
    keymap.touch()
    arguments = ("--seed", "7", "--learn", "--theme", "nord", "--no-ascii", "--keymap", str(keymap), "--history-memory", "2")
    assert run(*arguments)[0] == 0
    (((session,), options),) = screen
    assert (session.config, session.learning) == (Config(seed=7), True)
    assert session.state.branches.timeline.memory.budget.limit == 2 * 2**20
    assert options == {"theme": "nord", "ascii": False, "keys": keymap, "command": ""}


@pytest.fixture
def configured():
    """Write a file in the user's configuration folder."""
    folder = user_config_path("tui-gru", appauthor=False)

    def configured(name, content):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
        return folder / name

    return configured


def test_the_users_file_sets_the_display_that_no_option_sets(run, screen, configured, tmp_path):
    configured("config.toml", '[display]\ntheme = "whiteboard"\nascii = false\n')
    for arguments in ((), ("--theme", "nord"), ("--ascii",), ("screenshot", str(tmp_path / "a.svg"))):
        assert run(*arguments) == (0, "", "")
    assert [options["theme"] for _, options in screen] == ["whiteboard", "nord", "whiteboard", "whiteboard"]
    assert [options["ascii"] for _, options in screen[:3]] == [False, False, True]


def test_a_mistake_in_the_users_file_is_said_and_does_not_stop_the_program(run, screen, configured, tmp_path):
    path = configured("config.toml", '[display]\ntheme = "whitebord"\n')
    assert run() == (0, "", "")
    (((session,), options),) = screen
    assert (options["theme"], options["ascii"]) == (None, True)
    words = f"{path}:2: there is no theme 'whitebord'; did you mean whiteboard?; the display is the usual one"
    assert (session.notice, session.outcome.notice.warning) == (words, True)
    code, _, err = run("screenshot", str(tmp_path / "a.svg"))
    assert (code, err) == (0, f"tui-gru: {words}\n")


async def test_a_mistake_in_the_users_keys_is_said_on_screen(configured):
    path = configured("keys.toml", '[keys]\n"check" = "s"\n')
    app = make_app(Config.of())
    async with headless(app, (160, 50)) as pilot:
        line = app.screen.query_one(BottomLine)
        assert line.warning
        assert f"{path}:2: the key 's' is both step.timestep and check" in line.message
        await pilot.press("s")
        assert app.session.position.t == 0
    with pytest.raises(TuiGruError, match="give one of them another"):
        make_app(Config.of(), keys=path)


def test_a_screenshot_is_asked_for(run, screen, tmp_path):
    out = tmp_path / "out.svg"
    assert run("screenshot", "--keys", "s  s n", "--size", "120x36", "--carry", "reset", str(out))[0] == 0
    (((session, *others), options),) = screen
    assert (session.config, session.learning, session.recording) == (Config(carry="reset"), False, None)
    assert (others, options) == ([["s", "s", "n"], (120, 36)], {"theme": None})


def test_a_screenshot_overwrites_only_with_force(run, tmp_path):
    out = tmp_path / "out.svg"
    out.write_text("an older one")
    code, _, error = run("screenshot", "--size", "40x12", str(out))
    assert (code, error) == (2, f"tui-gru: OUT: {out} exists and is left as it is; name another file, or add --force\n")
    assert out.read_text() == "an older one"
    assert run("screenshot", "--size", "40x12", "--force", str(out)) == (0, "", "")
    assert out.read_text("utf-8").startswith("<svg")


def test_a_screenshot_of_a_session_at_a_mark_or_a_place(run, tmp_path):
    path, out = tmp_path / "lesson.tui-gru", tmp_path / "out.svg"
    lesson = Session()
    lesson.step("timestep", 2)
    lesson.mark("a", "the second prediction")
    lesson.step("batch", 2)
    lesson.save(path)
    before = path.read_bytes()
    for at, shown in (("a", "thesecondprediction"), ("e1 b2 t1", "batch2/3")):  # blanks are no text of the picture
        assert run("screenshot", "--session", str(path), "--at", at, "--size", "80x24", "--force", str(out)) == (0, "", "")
        assert shown in re.sub("<[^>]*>", "", out.read_text("utf-8")).replace("&#160;", ""), at
    assert path.read_bytes() == before
    code, _, error = run("screenshot", "--session", str(path), "--seed", "5", str(tmp_path / "other.svg"))
    assert (code, error) == (2, "tui-gru: in the session lesson --seed is 1, not 5: remove the option, or name another session\n")


def test_a_png_needs_a_converter(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, error = run("screenshot", "--size", "40x12", str(tmp_path / "out.png"))
    assert (code, error.count("\n")) == (2, 1)
    assert "OUT: install rsvg-convert, resvg or inkscape to convert to PNG, or name it" in error
    converter = tmp_path / "resvg"
    converter.write_text('#!/bin/sh\nread line < $1; echo "PNG of $line" > $2\n')
    converter.chmod(0o755)
    assert run("screenshot", "--size", "40x12", str(tmp_path / "out.png")) == (0, "", "")
    assert (tmp_path / "out.png").read_text().startswith("PNG of <svg")
    converter.write_text("#!/bin/sh\necho no fonts >&2; exit 3\n")
    code, _, error = run("screenshot", "--size", "40x12", "--force", str(tmp_path / "out.png"))
    assert (code, f"OUT: resvg failed: no fonts; name it {tmp_path / 'out.svg'}" in error) == (2, True)


# Help, version, completion


def test_help_has_examples_and_every_option(run):
    for command in ([], ["trace"], ["sample"], ["screenshot"]):
        code, out, _ = run(*command, "--help")
        assert code == 0
        assert "Example" in out
        for field in (name for name in Config.__dataclass_fields__ if not name.endswith("_text")):  # those are read from files
            assert f"--{field.replace('_', '-')} " in out


def test_the_version_is_the_projects(run):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == tui_gru.__version__
    assert run("--version") == (0, f"tui-gru {tui_gru.__version__}\n", "")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].option])
def test_built_in_pieces_are_listed_and_printed(run, kind, tmp_path):
    command, option = KINDS[kind].folder, KINDS[kind].option
    code, out, err = run(command)
    assert (code, err) == (0, "")
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [[name, shipped(kind, name).title] for name in choices(kind)]
    name = choices(kind)[-1]
    own = tmp_path / f"own.{kind}"
    own.write_text(run(command, name)[1], encoding="utf-8")
    given, copied = (json.loads(run("trace", f"--{option}", each)[1])["batches"] for each in (name, str(own)))
    assert given == copied
    code, out, err = run(command, "nothing")
    assert (code, out) == (2, "")
    assert err.startswith(f"tui-gru: --{option}: there is no {kind} 'nothing'; ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_the_program(run, shell):
    code, out, err = run("completion", shell)
    assert (code, err) == (0, "")
    assert f"_TUI_GRU_COMPLETE={shell}_complete" in out


@pytest.fixture
def completed(run, monkeypatch, tmp_path):
    """What each shell is given for a command line that ends with the text to complete, in a folder with files of every kind."""
    for name in ("in.cell", "my dir/own two.cell", "run.gru/run.json", ".hidden/x.cell"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    models = ("m.pt", "M.SAFETENSORS", "x.npy", "lesson.tui-gru")
    for name in ("my.cell", "my.update", "focal.loss", "deep.head", ".hidden.cell", "bad\n.cell", "words.txt", *models):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)

    def completed(words, shell="bash"):
        parts = [*split_arg_string(words), *([""] if words.endswith(" ") else [])]
        monkeypatch.setenv("_TUI_GRU_COMPLETE", f"{shell}_complete")
        monkeypatch.setenv("COMP_WORDS", f"tui-gru {words}")
        monkeypatch.setenv("COMP_CWORD", parts[-1] if shell == "fish" else str(len(parts)))
        code, out, err = run()
        assert (code, err) == (0, "")
        return out.strip().splitlines()

    return completed


FOLDERS = ["path,my dir", "path,run.gru"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("trace --car", ["plain,--carry"]),
        ("--cell gru-", ["plain,gru-cho", "plain,gru-reset-after"]),
        ("--cell m", ["plain,mgu", "plain,minimal-rnn", "path,my dir", "path,my.cell"]),
        ("sample --cell 'my dir/'", ["path,my dir/own two.cell"]),
        ("trace --cell nowhere/", []),
        ("--cell .", ["path,.hidden", "path,.hidden.cell"]),
        ("--optimizer ", ["plain,sgd", "plain,momentum", "plain,adam", "path,my dir", "path,my.update", "path,run.gru"]),
        ("cells l", ["plain,layer-norm-gru", "plain,lstm"]),
        ("losses s", ["plain,squared-error"]),
        ("--loss ", ["plain,cross-entropy", "plain,squared-error", "path,focal.loss", *FOLDERS]),
        ("sample --head ", ["plain,linear", "path,deep.head", *FOLDERS]),
        ("--theme w", ["plain,whiteboard"]),
        ("screenshot --theme ansi", ["plain,ansi-dark", "plain,ansi-light"]),
        ("--session ", ["plain,last", "plain,poem", "plain,walk", "path,lesson.tui-gru", *FOLDERS]),
        ("report p", ["plain,poem"]),
        ("screenshot --session w", ["plain,walk"]),
        ("open ", ["path,M.SAFETENSORS", "path,lesson.tui-gru", "path,m.pt", *FOLDERS]),
        ("open r", ["path,run.gru"]),
        ("inspect m.", ["path,m.pt"]),
        ("trace --model ", ["path,M.SAFETENSORS", "path,m.pt", *FOLDERS]),
        ("open m.pt --input ", [*FOLDERS, "path,x.npy"]),
        ("open m.pt --expect x", ["path,x.npy"]),
        ("open m.pt --tokens w", ["path,words.txt"]),
        ("--file wo", ["file,wo"]),  # the shell completes it
        ("completion ", ["plain,bash", "plain,zsh", "plain,fish"]),
        ("--carry n", ["plain,notebook"]),
    ],
)
def test_completion_completes(completed, words, found):
    for name in ("walk", "poem"):
        tui_gru.Session().save(session_path(name))
    assert completed(words) == found


def test_completion_in_the_other_shells(completed):
    assert completed("--cell m", "zsh") == [
        *("plain", "mgu", shipped("cell", "mgu").title, "plain", "minimal-rnn", shipped("cell", "minimal-rnn").title),
        *("path", "my dir/", "_", "path", "my.cell", "_"),
    ]
    assert completed("--cell m", "fish") == [
        *(f"plain,{name}\t{shipped('cell', name).title}" for name in ("mgu", "minimal-rnn")),
        *("path,my dir/", "path,my.cell"),
    ]
    assert completed("--theme w", "fish") == ["plain,whiteboard"]


def test_the_script_of_bash_takes_what_the_program_gives(run, tmp_path):
    script = run("completion", "bash")[1]
    program = tmp_path / "tui-gru"
    program.write_text("#!/bin/sh\nprintf 'plain,gru\\npath,two words,1.cell\\nfile,x\\n'\n")
    program.chmod(0o755)
    words = 'compopt() { told+=("$2"); }; _tui_gru_completion "$0"; printf \'%s|\' "${COMPREPLY[@]}" "${told[@]}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{words}", str(program)], capture_output=True, text=True, timeout=120)
    assert done.stdout == "gru|two words,1.cell|filenames|default|"
