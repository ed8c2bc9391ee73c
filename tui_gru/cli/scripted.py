"""`tui-gru run`: commands of the debugger without a screen, from the command line or line by line from standard input."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from tui_gru.cli import completion
from tui_gru.cli.models import chosen_config, given_model, model_options
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
@click.option(
    "--session",
    metavar="NAME|PATH",
    help="Execute on this session, whose file does not change; default: a new run.",
    shell_complete=completion.sessions,
)
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
def run_command(session: str | None, commands: tuple[str, ...], interactive: bool, as_json: bool) -> None:
    """Execute commands and print what each answers: what the last row of the screen would say, and panels as text.

    A command that is refused ends with exit code 2 and its message on standard error; with -i, the message is its answer.
    """
    if not (commands or interactive):
        raise TuiGruError("give commands, as in -x 's; why h[row 1, unit 1]', or -i to type them", option="execute")
    from tui_gru.tui.console import Console
    from tui_gru.tui.keys import commands_of

    # Textual redirects the streams while it runs.
    out, problems = (partial(click.echo, file=stream) for stream in (sys.stdout, sys.stderr))
    with closing(Console(_session(session))) as console:
        for each in (each for text in commands for each in commands_of(text)):
            try:
                _print(each, console.execute(each), as_json, out)
            except TuiGruError as error:  # printed here, since names in it are those of the debugger, not of options
                problems(safe_text(cut_long_words(f"tui-gru: {each}: {error}")))
                click.get_current_context().exit(2)
            if console.ended:
                return
        if interactive:
            _converse(console, commands_of, as_json, out)


def _session(name: str | None) -> Session:
    from tui_gru.session.session import Session

    if name is None:
        session = Session.on(chosen_config())
        session.stop_on_nan = True  # as on the screen
        return session
    from tui_gru.cli.sessions import looked_at

    session = looked_at(name, given_model())
    session.recorder.stay_in_memory()
    return session


def _print(command: str, answer: Answer, as_json: bool, out: Echo) -> None:
    if as_json:
        from tui_gru.storage.trace import json_text

        found = {"command": command, "answer": answer.text, "position": answer.place, "data": answer.data}
        out(json_text(found))
    elif answer.text:
        out(answer.text)


# ------------------------------------------------------------------------------
# The line mode: a prompt with the place, a command, its answer; for screen readers and pipes.


class _CtrlC:
    """What ctrl+c does: it stops the run that is under way and drops the commands after it; without one, it raises
    `KeyboardInterrupt`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._busy = self.asked = False

    def __enter__(self) -> None:
        """Begin to execute the commands of a line."""
        self._console.session.interrupts.forget()
        self._busy, self.asked = True, False

    def __exit__(self, *error: object) -> None:
        self._busy = False

    def take(self, number: int, frame: Any) -> None:
        """Handle the signal."""
        if not self._busy:
            raise KeyboardInterrupt
        self.asked = True
        self._console.session.interrupt()


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
