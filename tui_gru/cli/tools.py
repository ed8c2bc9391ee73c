"""`tui-gru mcp`: the debugger as tools of the Model Context Protocol, on standard input and output.

The tools open a run, execute its commands, look at its screen and list its commands; they are those of `tui-gru run`. An answer is
as short as the caller asks for, and an error says what to do about it.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import closing
from functools import wraps
from importlib import resources
from importlib.util import find_spec
from threading import Event, Lock, Timer
from typing import Any

import click
import numpy as np

from tui_gru import __version__
from tui_gru.cli.models import open_command, session_on_file
from tui_gru.cli.options import line_of
from tui_gru.cli.run import run_command, session_to_execute_on
from tui_gru.cli.sessions import file_of_session
from tui_gru.engine.numbers import counted, significant
from tui_gru.engine.source import Imported
from tui_gru.errors import TuiGruError, cut_long_words, safe_text
from tui_gru.imported.captured import RecordedBatches
from tui_gru.session.session import Session
from tui_gru.storage.recorder import report_error
from tui_gru.storage.trace import json_text
from tui_gru.tui.console import Answer, Console
from tui_gru.tui.keys import KEY_SIGNS, Verb, commands_of, example
from tui_gru.tui.verbs import VERBS

CHARACTERS = 4_000  # of an answer, unless the caller asks for more
SECONDS = 60.0  # of all commands of a call, unless the caller asks for more
SIZE = 120, 36  # columns and rows of the screen
GUIDE = "AGENTS.md"


class RefusedError(Exception):
    """A command is refused; the text has the answers of those before it."""


class Tools:
    """One debugger, on which the tools act. Each tool returns text; a call waits for the one before it."""

    def __init__(self) -> None:
        self._console = Console(session_of(""))
        self._lock = Lock()

    def close(self) -> None:
        self._console.close()

    def open(self, arguments: str = "") -> str:
        """Open a run, in the place of the one that is open. Arguments are those of the shell, quoted as there.

        "" is the built-in example. "--file poem.txt --cell lstm --seed 3" is a new run on a text. "train.gru" is a recording of a
        script, "walk.tui-gru" a saved session, "model.pt --input x.npy" a trained model; give files by their paths. "--help" lists
        the options of a new run, "model.pt --help" those of a model file. Returns in about ten lines what was opened, where it is,
        what is wrong first, and what to type next; `look` shows the program.
        """
        with self._lock:
            try:
                session = session_of(arguments)
            except OptionsAsked as request:
                return str(request)
            self._console.close()
            self._console = Console(session)
            lines = [self._place(), *_summary(session)]
            return "\n".join(safe_text(line) for line in lines if line)

    def run(self, commands: str, data: bool = False, depth: int = 1, characters: int = CHARACTERS, seconds: float = SECONDS) -> str:
        """Execute commands, separated by ";", and return their answers, up to one that is refused.

        Keys with counts: "3n" three batches, "o" a line, "s" a timestep, "e" an epoch; capitals go back in time; "l" learning on,
        "a" an SGD step. Commands: "until loss < 0.5", "go e3 b2 t1", "findings", "why h[row 1, unit 2]", "story",
        "set learning_rate 0.1", "sample Ma 20". The tool `commands` has all of them.

        data: numbers as one JSON object a command, in the place of text. depth: levels of terms of a derivation in data.
        characters: the longest answer; what is cut is counted. seconds: after which a run is stopped where it is.
        """
        answers: list[str] = []
        with self._lock:
            console = self._console
            console.session.interrupts.forget()
            is_late = Event()

            def stop() -> None:
                is_late.set()
                console.session.interrupt()

            timer = Timer(max(seconds, 0.0), stop)
            timer.daemon = True
            timer.start()
            try:
                for command in commands_of(commands):
                    try:
                        answer = console.execute(command)
                    except TuiGruError as error:
                        raise RefusedError("\n".join([*answers, f"> {command}", f"refused: {error}"])) from None
                    answers.append(_data_text(command, answer, depth) if data else f"> {command}\n{answer.text}".rstrip())
                    if is_late.is_set():
                        answers.append(f"stopped after {seconds:g} s; call again to go on, or with more seconds")
                        break
            finally:
                timer.cancel()
            text = "\n".join(answers)
            return _shortened(text if data else f"{text}\n{self._place()}".lstrip(), characters)

    def look(self, columns: int = SIZE[0], rows: int = SIZE[1]) -> str:
        """Return the screen as text: the program with its current line, values, weights, loss, and what was opened last."""
        if not (20 <= columns <= 300 and 6 <= rows <= 200):
            raise TuiGruError(f"a screen has 20 to 300 columns and 6 to 200 rows, not {columns}x{rows}")
        with self._lock:
            return "\n".join(row.rstrip() for row in self._console.rows((columns, rows)))

    def commands(self, words: str = "") -> str:
        """Return the commands with what they do, a command a row; with words, only those in whose row each of the words is."""
        rows = [_row(self._console.session, verb) for verb in VERBS if verb.help]
        chosen = [row for row in rows if all(word in row.lower() for word in words.lower().split())]
        if not chosen:
            raise TuiGruError(f"no command has the words {words!r}; without words, all {len(rows)} are listed")
        return "\n".join(chosen)

    def _place(self) -> str:
        from tui_gru.session.answers import place_in_words

        return place_in_words(self._console.snapshot)


def _summary(session: Session) -> Iterator[str]:
    """Yield what was opened, a line a thing: the model, the steps, the losses, what is wrong first, and what to type next."""
    config, notice = session.config, session.outcome.notice
    source = config.source
    yield (
        f"{source.title} · {', '.join(f'{name} {size:,}' for name, size in source.sizes.items())}"
        if isinstance(source, Imported)
        else f"a run of this program: {config.cell}, {counted(len(config.text), 'character')} of text"
    )
    if len(source.modules) > 1:
        yield f"models: {', '.join(source.modules)}; module NAME shows another"
    if notice is not None:
        yield notice.text
    if not isinstance(source, Imported):
        yield "next: l (learning on), 100n (a hundred batches), findings, facts, look"
        return
    if isinstance(source.batches, RecordedBatches):
        recording = source.batches.recording
        losses = np.ma.compressed(recording.losses)
        kept = ", ".join(map(str, source.steps[:12])) + (" …" if len(source.steps) > 12 else "")
        yield f"{counted(recording.total, 'step')}, of which {len(source.steps):,} are recorded: {kept}"
        if len(losses):
            first, last, least = (significant(loss, 4) for loss in (losses[0], losses[-1], losses.min()))
            yield f"loss {first} at first, {last} at last, {least} at least"
    try:
        findings = session.findings()
    except TuiGruError as error:
        yield f"findings: {error}"
    else:
        count = len([finding for finding in findings if not finding.is_observation])
        first = f"; the first: {findings[0].title}" if findings else ", which is no proof that all is well"
        yield f"findings: {count}{first}"
    yield "next: findings, facts targets, facts parameters, facts step, n (to the end of a step), look"


class OptionsAsked(Exception):  # noqa: N818 - not an error
    """Raised by `--help`, with the text of the options."""


def session_of(arguments: str) -> Session:
    """Return the session that arguments of the shell open: a file first, or options of a new run. Raises `TuiGruError`."""
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise TuiGruError(f"{str(error).lower()} in {arguments!r}; quote as in a shell") from None
    is_session = bool(words) and not words[0].startswith("-") and not os.path.lexists(words[0]) and file_of_session(words[0])
    command = run_command if not words or words[0].startswith("-") or is_session else open_command
    words = ["--session", *words] if is_session else words
    if "--help" in words:
        with click.Context(command, info_name="open", max_content_width=100) as context:
            raise OptionsAsked(command.get_help(context))
    try:
        with command.make_context("open", words, max_content_width=100) as context:
            options = dict(context.params)
            if command is run_command:
                return session_to_execute_on(options["session"])
            for of_screen in ("theme", "ascii_only", "keymap"):
                options.pop(of_screen)
            if options.pop("follow"):
                raise TuiGruError("a recording is opened as it is now; open it again for newer steps", option="follow")
            return session_on_file(**options)
    except (TuiGruError, click.ClickException) as error:
        raise TuiGruError(cut_long_words(line_of(error, words))) from None


def serve_tools() -> None:
    """Serve the tools until standard input ends. Raises `TuiGruError` if the package of the protocol is not installed."""
    if find_spec("mcp") is None:
        raise TuiGruError("this needs the package of the protocol: pip install 'tui-gru[mcp]'")
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    guide = resources.files("tui_gru").joinpath(GUIDE).read_text(encoding="utf-8")
    server: MCPServer[Any] = MCPServer("tui-gru", instructions=guide, version=__version__, log_level="WARNING")
    with closing(Tools()) as tools:
        for tool in (tools.open, tools.run, tools.look, tools.commands):
            server.add_tool(_refusing(tool, ToolError), structured_output=False)
        server.run("stdio")


def _refusing(tool: Any, refusal: type[Exception]) -> Any:
    """Return the tool with the errors of its commands as those of the protocol, whose text the caller reads."""

    @wraps(tool)
    def called(**arguments: Any) -> str:
        try:
            text: str = tool(**arguments)
        except (TuiGruError, RefusedError) as error:
            raise refusal(str(error)) from None
        except Exception as error:  # the caller can go on: a fault of one command does not end the server
            raise refusal(report_error(error, "a tool")) from None
        return text

    return called


def _row(session: Session, verb: Verb[Any]) -> str:
    keys = " ".join(KEY_SIGNS.get(key, key) for key in verb.keys.split(",") if key)
    typed = example(session.program, verb.usage) if verb.names else ""
    words = example(session.program, "; ".join(filter(None, (verb.help, verb.more))))
    return f"{' or '.join(filter(None, (keys, typed)))}: {words}"


def _data_text(command: str, answer: Answer, depth: int) -> str:
    answered, _, _ = answer.text.partition("\n")  # the numbers of a panel are in the data
    fields = {"command": command, "answer": answered, "position": answer.place["words"], "data": _pruned(answer.data, depth)}
    return json.dumps(json.loads(json_text(fields)), ensure_ascii=False)


def _pruned(data: Any, depth: int) -> Any:
    """Return the data with the terms of derivations down to `depth` levels."""
    if isinstance(data, list):
        return [_pruned(item, depth) for item in data]
    if not isinstance(data, dict):
        return data
    terms = data.get("terms")
    if isinstance(terms, list) and depth < 1:
        return {name: item for name, item in data.items() if name != "terms"} | {"terms_left_out": len(terms)}
    return {name: _pruned(item, depth - (name == "terms")) for name, item in data.items()}


def _shortened(text: str, characters: int) -> str:
    if len(text) <= characters:
        return text
    left = len(text) - characters
    return f"{text[:characters]}\n… {left:,} more characters; ask for less, or for characters={len(text)}"
