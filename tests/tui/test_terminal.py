"""The program in a real terminal: keys from bytes, sizes, signals, and killed sessions."""

from __future__ import annotations

import os
import signal
from contextlib import closing

import numpy as np
import pytest

from tests.extent import SOAK, spread
from tests.session.acting import assert_same
from tests.terminal import Terminal
from tui_gru.session.session import Session
from tui_gru.storage.store import automatic_folder, session_path


@pytest.fixture
def start():
    """Start the program in a pseudo-terminal with arguments."""
    terminals = []

    def start(*arguments, until="training loop", **options):
        terminal = Terminal(*arguments, **options)
        terminals.append(terminal)
        terminal.wait(until)
        return terminal

    yield start
    for terminal in terminals:
        terminal.close()


@pytest.fixture(scope="module")
def one_program(tmp_path_factory):
    """A program, started by a shell, for tests that do not end it."""
    with closing(Terminal(shell=True, XDG_STATE_HOME=str(tmp_path_factory.mktemp("state")))) as terminal:
        terminal.wait("training loop")
        yield terminal
        terminal.type("q")
        assert terminal.wait_for_the_end() == 0


@pytest.fixture
def terminal(one_program):
    """The program that is left running, at the start of its training."""
    one_program.type("g0\r")
    one_program.wait_at("epoch 1 batch 1 of 3 start")
    return one_program


# Signals


SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
#: Each signal, and whether it comes while a run goes on; in the first half, each signal is there once.
ENDS = [(number, (i + half) % 2 == 1) for half in (0, 1) for i, number in enumerate(SIGNALS)]


@pytest.mark.parametrize(("number", "running"), ENDS if SOAK else ENDS[: len(SIGNALS)])
def test_a_signal_to_end_restores_the_terminal(start, number, running):
    terminal = start()
    if running:
        terminal.type("l999999e")
        terminal.wait("esc stops")
    terminal.process.send_signal(number)
    assert terminal.wait_for_the_end() == 128 + number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_end_before_anything_is_drawn(number):
    with closing(Terminal()) as terminal:
        terminal.wait(lambda: b"\x1b[?1049h" in terminal.output)
        terminal.process.send_signal(number)
        assert terminal.wait_for_the_end() == 128 + number


@pytest.mark.parametrize(
    "numbers", spread([["CONT"], ["STOP", "CONT"], ["TSTP", "CONT"], ["TSTP", "CONT", "CONT", "STOP", "CONT"]], 2), ids="-".join
)
def test_a_stop_and_what_follows_it(terminal, numbers):
    """As by `kill`, or by a shell's `fg`: the program takes the terminal again, draws everything, and reads each key once."""
    for name in numbers:
        seen = len(terminal.output)
        os.kill(terminal.pid, signal.Signals[f"SIG{name}"])
        if name == "CONT":
            terminal.process.send_signal(signal.SIGCONT)
            terminal.wait(lambda seen=seen: b"training loop" in terminal.output[seen:])
        else:
            wait_for_a_stop(terminal)
            assert terminal.restored() is (name == "TSTP")
    terminal.type("s")
    terminal.wait_at("epoch 1 batch 1 of 3 t 1 of 3 forward")
    terminal.type("ns")
    terminal.wait_at("epoch 1 batch 2 of 3 t 1 of 3 forward")


def wait_for_a_stop(terminal):
    terminal.wait(lambda: os.WIFSTOPPED(os.waitpid(terminal.process.pid, os.WUNTRACED | os.WNOHANG)[1]))


TYPED = pytest.mark.parametrize("typed", ["\x1a", ":suspend\r"], ids=["ctrl+z", "suspend"])


@TYPED
def test_the_program_can_be_suspended(terminal, typed):
    seen = len(terminal.output)
    terminal.type(typed)
    wait_for_a_stop(terminal)
    assert terminal.restored()
    os.kill(terminal.pid, signal.SIGCONT)
    terminal.process.send_signal(signal.SIGCONT)
    terminal.wait(lambda: b"training loop" in terminal.output[seen:])
    terminal.type("s")
    terminal.wait_at("epoch 1 batch 1 of 3 t 1 of 3 forward")


@TYPED
def test_the_program_goes_on_where_no_shell_could_continue_it(start, typed):
    """As in `xterm -e tui-gru`, where only a kill would end a stop."""
    terminal = start()
    for count in (1, 2):
        terminal.type(typed)
        terminal.wait(lambda count=count: terminal.output.count(b"\x1b[?1049h") > count)
        terminal.wait("no shell could continue the program here")
        terminal.type("s")
        terminal.wait_at("epoch 1 batch 1 of 3 t 1 of 3 forward")
        terminal.type("g0\r")
        terminal.wait_at("epoch 1 batch 1 of 3 start")
    terminal.type("q")
    assert terminal.wait_for_the_end() == 0


def test_a_run_can_be_interrupted(terminal):
    terminal.type(":learning on\r999999e")
    terminal.wait("esc stops")
    terminal.type("\x03")
    terminal.wait(lambda: "esc stops" not in terminal.screen)
    terminal.type("\x03")
    terminal.wait("nothing is running; q quits")


@pytest.mark.parametrize("playing", [False, True], ids=["idle", "playing"])
def test_the_terminal_is_gone_without_a_signal(start, playing):
    """As for the terminal of another session of processes (setsid): the program ends, and its session can be opened."""
    terminal = start("--session", "math")
    terminal.type("ls")
    terminal.wait_at("epoch 1 batch 1 of 3 t 1 of 3 forward")
    if playing:
        terminal.type("+++ ")
        terminal.wait("playing")
    terminal.hang_up()
    assert terminal.process.wait(30) == 128 + signal.SIGHUP
    with closing(Session.open(session_path("math"), record=True)) as session:
        assert session.position.tick > 0


def test_a_signal_to_end_while_it_plays(start):
    terminal = start()
    terminal.type("ls+++ ")
    terminal.wait("playing")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.wait_for_the_end() == 128 + signal.SIGTERM


def test_a_signal_to_end_while_the_terminal_takes_no_more(start):
    """Nobody reads the output, so that all drawing blocks; the program still ends, with the session saved."""
    terminal = start("--session", "math", size=(200, 60))
    terminal.type("ls")
    terminal.wait_at("epoch 1 batch 1 of 3 t 1 of 3 forward")
    terminal.type("+++ ")
    terminal.until_blocked()
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(30) == 128 + signal.SIGTERM
    with closing(Session.open(session_path("math"), record=True)) as session:
        assert session.position.tick > 0


# Keys


@pytest.mark.parametrize(
    "data",
    [b"\xff", b"\xe9", b"\x1b[999999999999999999~", b"\x1b[:~", b"\x1b[55296u", b"\x1b[99q", b"\x1b[48;999999999;999999999;1;1t"],
)
def test_malformed_input_does_nothing(terminal, data):
    terminal.send(data)
    terminal.type("s")
    terminal.wait_at("epoch 1 batch 1 of 3 t 1 of 3 forward")


def test_pasted_keys_are_not_typed(terminal):
    terminal.type("\x1b[200~n\nN:q!\n\x1b[201~")
    terminal.type("s")
    terminal.wait_at("epoch 1 batch 1 of 3 t 1 of 3 forward")
    assert terminal.process.poll() is None


def test_what_is_pasted_into_a_command_waits_for_enter(terminal):
    terminal.type(":")
    terminal.wait("a command, such as")
    terminal.type("\x1b[200~step 2 batch\nquit\nN:q!\n\x1b[201~")
    terminal.wait("step 2 batch")
    assert terminal.process.poll() is None
    assert "epoch 1 batch 1 of 3 start" in terminal.place
    terminal.type("\r")
    terminal.wait_at("epoch 1 batch 2 of 3")
    assert terminal.process.poll() is None


def test_escape_and_a_letter_at_once_are_two_keys(terminal):
    terminal.type(":")
    terminal.wait("a command, such as")
    terminal.type("\x1bs")
    terminal.wait_at("epoch 1 batch 1 of 3 t 1 of 3 forward")
    assert "a command, such as" not in terminal.screen
    terminal.type("9\x1bs")  # the count is discarded
    terminal.wait_at("epoch 1 batch 1 of 3 t 2 of 3 forward")


def test_a_command_typed_at_once_is_no_row_of_verbs(start):
    terminal = start("--session", "math")
    terminal.type(":set Wz[0,1] 0.75 zzzqqq")
    terminal.wait("set Wz[0,1] 0.75 zzzqqq")
    terminal.type("\x7f" * 7 + "\r999")  # input right after enter does not belong to the command
    terminal.wait(lambda: terminal.process.poll() is not None or terminal.type("q"))
    assert terminal.wait_for_the_end() == 0
    session = Session.open(session_path("math"))
    assert session.kept("commands") == ["set Wz[0,1] 0.75"]
    assert session.parameter("Wz")[0, 1] == np.float32(0.75)
    assert session.position.tick == 0


def test_an_arrow_is_one_key_however_slowly_it_comes(terminal):
    terminal.type("\x1b[C")
    terminal.wait_at("epoch 1 batch 1 of 3 t 1 of 3 forward")
    terminal.type("\x1b[C\x1b[C\x1b[D")
    terminal.wait_at("epoch 1 batch 1 of 3 t 2 of 3 forward")


def test_a_key_that_is_held_down_is_kept_up_with(terminal):
    """Two seconds of a key; it is held down longer in tests/soak/screen.py."""
    held_down(terminal, 60)


def held_down(terminal, keys):
    terminal.type(":learning on\r" + "o" * keys)
    terminal.wait(lambda: "start" not in terminal.place)
    terminal.type("g0\r")  # handled after all of them
    terminal.wait_at("epoch 1 batch 1 of 3 start")
    terminal.type("n")
    terminal.wait_at("epoch 1 batch 1 of 3 update")


def test_a_storm_of_sizes_is_survived_while_it_runs(terminal):
    terminal.type(":learning on\r999999e")
    terminal.wait("esc stops")
    for columns, rows in [(1, 1), (200, 60), (2, 1), (1, 40), (300, 1), (40, 12), (9, 9), (1, 1), (80, 24)] * 12:
        terminal.resize(columns, rows)
    terminal.resize(1, 1)
    terminal.type("\x1b")
    terminal.resize(100, 30)
    terminal.wait(lambda: "training loop" in terminal.screen and "esc stops" not in terminal.screen)
    terminal.type("g0\rs")
    terminal.wait_at("epoch 1 batch 1 of 3 t 1 of 3 forward")


@pytest.mark.parametrize("variables", [{"COLUMNS": "999999999"}, {"COLUMNS": "99999", "LINES": "99999"}], ids=["wide", "both"])
def test_an_absurd_size_in_the_environment_is_drawn_in_part(variables):
    with closing(Terminal(**variables)) as terminal:
        terminal.wait(lambda: b"training loop" in terminal.output)
        terminal.type("sq")
        assert terminal.wait_for_the_end() == 0
        assert len(terminal.output) < 10**7


def test_an_absurd_delay_in_the_environment_leaves_the_keys_alive():
    with closing(Terminal(ESCDELAY="99999999999")) as terminal:
        terminal.wait("training loop")
        terminal.type("\x1b")
        terminal.rest(0.3)
        terminal.type("[C")  # the rest of an arrow
        terminal.wait_at("epoch 1 batch 1 of 3 t 1 of 3 forward")
        terminal.type("q")
        assert terminal.wait_for_the_end() == 0


# Sessions


def test_what_was_to_be_seen_is_there_after_a_kill(start):
    path = session_path("math")
    terminal = start("--session", "math", size=(160, 50))
    terminal.type("l3n")
    terminal.wait_at("epoch 1 batch 3 of 3")
    terminal.type("2N")
    terminal.wait_at("epoch 1 batch 1 of 3")
    terminal.type(":set Wz[0,1] 0.5\r")
    terminal.wait("branch main~1")
    terminal.type("p")
    terminal.wait("fed back")
    terminal.type("n")
    terminal.wait_at("epoch 1 batch 2 of 3")
    terminal.kill()

    left = Session.open(path)
    assert (left.position.number, left.branch, left.branches) == (1, "main~1", ("main", "main~1"))
    assert left.kept("commands") == ["set Wz[0,1] 0.5"]
    assert len(left.samples) == 2
    again = start("--session", "math", size=(160, 50), until="reopened where it was left: epoch 1 · batch 2 · t 3 on main~1")
    again.wait("branch main~1")
    again.type("u")
    again.wait_at("epoch 1 batch 1 of 3")
    again.type(":\x1b[A")
    again.wait("set Wz[0,1] 0.5")
    again.type("\x1b")
    again.wait(lambda: "set Wz" not in again.screen)
    again.type("q")
    assert again.wait_for_the_end() == 0
    assert Session.open(path).branches == ("main",)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_run_without_a_name_survives_a_kill_too(start):
    terminal = start("--learn")
    terminal.type("5n")
    terminal.wait_at("epoch 2 batch 2 of 3")
    terminal.kill()
    again = start("--session", "last", until="reopened where it was left: epoch 2 · batch 2 · t 3")
    again.type("o")
    again.wait_at("epoch 2 batch 3 of 3 t 1 of 3 forward")
    again.process.send_signal(signal.SIGTERM)
    assert again.wait_for_the_end() == 128 + signal.SIGTERM
    twin = Session()
    twin.learning = True
    twin.step("batch", 5)
    twin.step("op")
    (file,) = automatic_folder().iterdir()
    left = Session.open(file)
    assert left.position == twin.position
    assert np.array_equal(left.parameter("Wz"), twin.parameter("Wz"))


def test_a_second_one_on_a_session_asks_for_a_copy(start):
    first = start("--session", "math")
    first.type("s")
    first.wait_at("epoch 1 batch 1 of 3 t 1 of 3 forward")
    second = start("--session", "math", until="math is open in another tui-gru. Open a copy of it? [Y/n]")
    assert "training loop" not in second.screen
    second.type("y\r")
    second.wait("a copy of math, recorded as math-2: epoch 1 · batch 1 · t 1 on main")
    second.type("s")
    second.wait_at("epoch 1 batch 1 of 3 t 2 of 3 forward")
    for terminal in (first, second):
        terminal.type("q")
        assert terminal.wait_for_the_end() == 0
    assert Session.open(session_path("math")).position.t == 0
    with closing(Session.open(session_path("math-2"), record=True)) as copy:
        assert copy.position.t == 1
        assert_same(copy, Session.open(session_path("math-2")))
