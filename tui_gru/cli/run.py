"""`tui-gru run`: commands of the debugger without a screen, from the command line or line by line from standard input."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from tui_gru.cli import completion
from tui_gru.cli.models import chosen_config, given_model, model_options
from tui_gru.cli.options import BAD_INPUT, INTERRUPTED, STANDARD_OUTPUT, learn_option, open_output, session_option
from tui_gru.errors import TuiGruError, cut_long_words, safe_text

if TYPE_CHECKING:
    from tui_gru.session.session import Session
    from tui_gru.tui.console import Answer, Console

Echo = Callable[..., None]  # `click.echo`


@click.command(
    "run",
    short_help="Execute commands of the debugger without a screen.",
    epilog="""\b
Examples:
  tui-gru run -x 'l; 3n; why h[row 2, unit 1]; findings'
  tui-gru run --session walk.tui-gru -x 'go e1 b2 t1; check' --json
  tui-gru run -i""",
)
@model_options
@learn_option
@session_option("Execute on this session, whose file does not change; default: a new run.")
@click.option(
    "-x",
    "--execute",
    "commands",
    multiple=True,
    metavar="'COMMAND; …'",
    help="Commands of the `:` line, and keys with counts (3n); can be given more than once.",
    shell_complete=completion.verbs,
)
@click.option("-i", "--interactive", is_flag=True, help="Then read commands from standard input, one a line.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each command.")
def run_command(session: str | None, learn: bool | None, commands: tuple[str, ...], interactive: bool, as_json: bool) -> None:
    """Execute commands and print what each answers: what the last row of the screen would say, and panels as text.

    A command that is refused ends with exit code 2 and its message on standard error; with -i, the message is its answer. A run
    that would take longer than a minute says so on standard error; ctrl+c ends it with what is reached, and exit code 130.
    """
    if not (commands or interactive):
        raise TuiGruError("give commands, as in -x 's; why h[row 1, unit 1]', or -i to type them", option="execute")
    from tui_gru.tui.console import Console
    from tui_gru.tui.keys import commands_of

    with open_output(STANDARD_OUTPUT):  # refused if the shell has closed it
        pass
    # Textual redirects the streams while it runs.
    out, problems = (partial(click.echo, file=stream) for stream in (sys.stdout, sys.stderr))
    with closing(Console(session_to_execute_on(session, learn), announce=lambda words: problems(f"tui-gru: {words}"))) as console:
        stop = _CtrlC(console)
        for command in (command for text in commands for command in commands_of(text)):
            try:
                with stop:
                    answer = console.execute(command)
            except TuiGruError as error:  # printed here, since names in it are those of the debugger, not of options
                problems(safe_text(cut_long_words(f"tui-gru: {command}: {error}")))
                click.get_current_context().exit(INTERRUPTED if stop.asked else BAD_INPUT)
            _print(command, answer, as_json, out)
            if stop.asked:
                click.get_current_context().exit(INTERRUPTED)
            if console.ended:
                return
        if interactive:
            _converse(console, commands_of, as_json, out)


def session_to_execute_on(name: str | None, learn: bool | None = None) -> Session:
    """Return a saved session, whose file does not change, or a new run on the options of this command line; for commands without a
    screen. `learn` says whether learning is on, None if nothing was said. Raises `TuiGruError`."""
    from tui_gru.session.session import Session

    if name is None:
        session = Session.on(chosen_config())
        session.stop_on_nan = True  # as on the screen
        if learn is not None:
            session.learning = learn
        return session
    from tui_gru.cli.sessions import looked_at

    session = looked_at(name, given_model() | ({} if learn is None else {"learn": learn}))
    session.recorder.stay_in_memory()
    return session


def _print(command: str, answer: Answer, as_json: bool, out: Echo) -> None:
    if as_json:
        from tui_gru.storage.trace import json_text

        fields = {"command": command, "answer": answer.text, "position": answer.place, "data": answer.data}
        out(json_text(fields))
    elif answer.text:
        out(answer.text)


# ------------------------------------------------------------------------------
# The line mode: a prompt with the place, a command, its answer; for screen readers and pipes.


class _CtrlC:
    """What ctrl+c does while commands are executed: it stops the run that is under way and drops the commands after it. The second
    one, and one between commands, raises `KeyboardInterrupt`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._busy = self.asked = False
        self._before: Any = None

    def __enter__(self) -> None:
        """Begin to execute the commands of a line."""
        self._console.session.interrupts.forget()
        self._busy, self.asked = True, False
        self._before = _on_ctrl_c(self.take)

    def __exit__(self, *error: object) -> None:
        self._busy = False
        _on_ctrl_c(self._before)

    def take(self, number: int, frame: Any) -> None:
        """Handle the signal."""
        if not self._busy or self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._console.session.interrupt()


def _on_ctrl_c(handler: Any) -> Any:
    """Set what SIGINT does and return what it did before; nothing if it is ignored, and outside of the main thread."""
    is_taken = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    return signal.signal(signal.SIGINT, handler) if is_taken and handler is not None else None


def _converse(console: Console, commands_of: Callable[[str], list[str]], as_json: bool, out: Echo) -> None:
    """Read lines until the end of the input or `quit`. ctrl+c stops a run, as on the screen."""
    stop = _CtrlC(console)
    before = signal.signal(signal.SIGINT, stop.take)
    try:
        for line in _lines(console, as_json, out):
            with stop:
                _execute(console, commands_of(line), stop, as_json, out)
            if console.ended:
                return
    finally:
        signal.signal(signal.SIGINT, before)


def _execute(console: Console, commands: list[str], stop: _CtrlC, as_json: bool, out: Echo) -> None:
    """Execute the commands of a line, up to one that is refused or stopped."""
    for command in commands:
        try:
            answer = console.execute(command)
        except TuiGruError as error:
            words = safe_text(str(error))
            out(json.dumps({"command": command, "refused": words}) if as_json else words)
            return
        _print(command, answer, as_json, out)
        if console.ended or stop.asked:
            return


def _lines(console: Console, as_json: bool, out: Echo) -> Iterator[str]:
    while True:
        if not as_json:
            out(f"({_place(console)}) ", nl=False)
        try:
            line = sys.stdin.readline() if sys.stdin is not None else ""
        except KeyboardInterrupt:
            out("\nnothing is running; q or ctrl+d ends")
            continue
        except UnicodeDecodeError as error:
            raise TuiGruError(f"a line of standard input is not {error.encoding}; convert it") from None
        if not line:
            if not as_json:
                out()
            return
        yield line


def _place(console: Console) -> str:
    """Return the place for the prompt: `e1 b2 t3 forward`, as it is typed after `go`, and the phase."""
    from tui_gru.debugger.position import as_typed

    position = console.snapshot.position
    return f"{as_typed(position)} {position.phase}" if position.tick else "start"
