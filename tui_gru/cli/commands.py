"""The commands of `tui-gru` with their options, and its entry point."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import get_completion_class, shell_complete

from tui_gru import __version__
from tui_gru.cli import completion
from tui_gru.cli.lessons import complete_lessons, lesson_command, write_page
from tui_gru.cli.models import (
    check_command,
    chosen_config,
    click_float,
    click_integer,
    config_of,
    for_a_file,
    given_model,
    inspect_command,
    lacks_target,
    model_arguments,
    model_options,
    number_options,
    open_command,
)
from tui_gru.cli.options import (
    BAD_INPUT,
    DONE,
    INTERNAL_ERROR,
    INTERRUPTED,
    PROGRAM,
    STANDARD_OUTPUT,
    abandon,
    held_out_option,
    learn_option,
    line_of,
    open_debugger,
    open_output,
    output_option,
    print_lines,
    quoted_value,
    read_held_out,
    screen_options,
    session_option,
    theme_option,
)
from tui_gru.cli.run import run_command
from tui_gru.engine.config import SAMPLERS
from tui_gru.equations.page import KINDS, choices, shipped, text_of
from tui_gru.errors import TuiGruError, cut_long_words, printable, safe_text

if TYPE_CHECKING:
    from tui_gru.session.session import Session

# ------------------------------------------------------------------------------
# The commands and their options. A command imports its implementation when it runs, so that `--help` is fast.


NAME = "tui-gru"
COMPLETE_VARIABLE = "_TUI_GRU_COMPLETE"
LARGEST_SCREEN = 1000  # cells
LARGEST_PORT = 2**16 - 1
LEVELS = ("line", "timestep", "phase", "batch", "epoch")


def screen_size(value: str) -> tuple[int, int]:
    """Convert `120x36` to columns and rows of a screen; a click type."""
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", value)
    if match is None or not all(1 <= int(cells) <= LARGEST_SCREEN for cells in match.groups()):
        raise click.BadParameter(f"{value!r} is not a size such as 120x36, columns x rows, each from 1 to {LARGEST_SCREEN}")
    return int(match[1]), int(match[2])


def memory_size(value: str | int) -> int:
    """Convert 512K, 64M, 1G, or a number of MiB to bytes; a click type."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*([kmg]?)(?:i?b)?", str(value), re.IGNORECASE | re.ASCII)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a size such as 64 (MiB), 64M or 1G")
    return int(float(match[1]) * 2 ** {"k": 10, "m": 20, "g": 30}[match[2].lower() or "m"])


def port_number(value: str | int) -> int:
    """Convert to the number of a port, or 0; a click type."""
    port = click_integer(value)
    if not 0 <= port <= LARGEST_PORT:
        raise click.BadParameter(f"{quoted_value(value)} is not a port, a number from 1 to {LARGEST_PORT}, or 0 for a free one")
    return port


class Commands(click.Group):
    """The subcommands. In the place of a command, the file of a session is opened; others are refused with what opens them."""

    def resolve_command(self, context: click.Context, arguments: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = arguments[0]
        if name not in self.commands and name.endswith(completion.SESSION_FILE):
            return open_command.name, open_command, arguments
        if name not in self.commands and os.path.exists(name):
            context.fail(
                f"{name} is not a command; open a session with --session {name}, a model or a recording with open {name}, "
                f"learn a text with --file {name}"
            )
        return super().resolve_command(context, arguments)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  tui-gru                                     the tutorial's GRU
  tui-gru --file poem.txt --hidden-size 64    your own text
  tui-gru --cell lstm --layers 2              another model; `tui-gru cells` lists them
  tui-gru --session poem --file poem.txt      a named session; open it again with --session poem
  tui-gru poem.tui-gru                        the session in a file
  tui-gru open model.pt --input x.npy         a trained GRU, or run.gru, a recording of a training run
  tui-gru trace --epochs 3 -o run.json        every number, without a screen
  tui-gru run -x 'l; 9n; findings'            commands of the debugger, without a screen
  tui-gru sample --epochs 700                 train, then sample
  tui-gru serve                               in a browser of this machine

Options of the model can be given before or after a subcommand.""",
)
@model_options
@learn_option
@screen_options
@session_option("Open session NAME, creating it if needed; `last` opens the newest.")
@click.option("--copy", is_flag=True, help="Open a copy of the session and leave the original unchanged.")
@click.option("--record/--no-record", default=True, help="Record sessions without a name; the newest 20 are kept. Default yes.")
@held_out_option
@click.option(
    "--history-memory",
    type=memory_size,
    metavar="SIZE",
    help="Memory for history: 64M, 1G, or a number of MiB; default 256 MiB.",
)
@click.version_option(__version__, message=f"{NAME} %(version)s")
@click.pass_context
def program(
    context: click.Context,
    learn: bool | None,
    theme: str | None,
    ascii_only: bool | None,
    keymap: Path | None,
    session: str | None,
    copy: bool,
    record: bool,
    held_out: Path | None,
    history_memory: int | None,
) -> None:
    """Step through the training of a recurrent network in this terminal, forwards and backwards in time.

    Without options it opens the tutorial's GRU: two units that learn MathMathMathMathMath. Press ? inside for the keys. Sessions
    are saved as you work; `tui-gru sessions` lists them.
    """
    if context.invoked_subcommand is not None:
        _refuse_dropped(context, context.invoked_subcommand)
        return
    if copy and session is None:
        raise TuiGruError("--copy opens a copy of a session; name the session with --session")
    make = _session(session, copy, record, history_memory, learn)
    if held_out is not None:
        make = _holding_out(make, held_out)
    open_debugger(make, theme=theme, ascii_only=ascii_only, keymap=keymap)


def _refuse_dropped(context: click.Context, command: str) -> None:
    """Raise `TuiGruError` if an option of the debugger stands before a subcommand, which would not see it."""
    for parameter in context.command.params:
        is_typed = context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
        if is_typed and parameter.expose_value:
            message = f"it has no effect before {command}; write it after {command} if `{NAME} {command} --help` lists it"
            raise TuiGruError(f"{parameter.opts[0]}: {message}")


def _session(name: str | None, copy: bool, record: bool, history_memory: int | None, learn: bool | None) -> Callable[[], Session]:
    """Return a function that creates the session. An existing session is opened here, so that its errors are reported before the
    screen opens."""
    if name is not None:
        from tui_gru.cli.sessions import continued_session, existing, file_of_session

        path = existing(name) if copy else file_of_session(name)
        if path is not None:
            options = given_model() | ({} if learn is None else {"learn": learn})
            old = continued_session(path, options, copy=copy, history_memory=history_memory)
            return lambda: old
    config = chosen_config()

    def begin() -> Session:
        from tui_gru.tui.app import new_session

        session = new_session(config, learn=learn, record=record and name is None, history_memory=history_memory)
        if name is None:
            return session
        from tui_gru.cli.sessions import recorded_session

        return recorded_session(session, name)

    return begin


def _holding_out(make: Callable[[], Session], path: Path) -> Callable[[], Session]:
    """Return a function that returns the session with a held-out text, whose errors are reported before the screen opens."""
    text, session = read_held_out(path), make()
    session.hold_out(text)
    return lambda: session


@program.command(short_help="List saved sessions.", epilog="Example: tui-gru --session last")
def sessions() -> None:
    """List the sessions in your own folder, newest first, with the date each was saved, its last position, and its branches,
    current one first.

    Sessions whose name begins with a date were recorded without a name; the newest 20 of them are kept.
    """
    from tui_gru.cli.sessions import session_table

    for line in session_table():
        click.echo(line)


def _lister(kind: str) -> click.Command:
    """Return the command that lists the built-in pieces of one kind, or prints one."""
    row, words = KINDS[kind], {"update": "update rules"}.get(kind, KINDS[kind].folder)
    first, (name, *_) = f"tui-gru {row.folder}", choices(kind)

    @click.argument("name", required=False, shell_complete=completion.pieces(kind, with_files=False))
    def print_or_list(name: str | None) -> None:
        width = max(map(len, choices(kind)))
        titles = (f"{piece:<{width}}  {shipped(kind, piece).title}\n" for piece in choices(kind))
        with open_output(STANDARD_OUTPUT) as out:
            # Equations in a file or a pipe are in UTF-8, as --cell reads them, also where the system has another encoding.
            encoding = sys.stdout.encoding if name is None or sys.stdout.isatty() else "utf-8"
            out.write(("".join(titles) if name is None else text_of(kind, name)).encode(encoding, "backslashreplace"))

    return click.command(
        row.folder,
        help=f"List the built-in {words}, or print the equations of one, to edit as your own.",
        short_help=f"List the built-in {words}, or print one.",
        epilog=f"\b\nExamples:\n  {first}\n  {first} {name} > my.{kind} && tui-gru --{row.option} my.{kind}",
    )(print_or_list)


for _kind in ("cell", "head", "loss", "update"):
    program.add_command(_lister(_kind))


@program.command(
    short_help="Write every number of a run to a file.",
    epilog="""\b
Examples:
  tui-gru trace | python -m json.tool | less
  tui-gru trace --epochs 1000 --from-epoch 999 --format npz -o end.npz
  tui-gru trace --model model.pt --input x.npy --format npz -o states.npz""",
)
@model_options
@click.option(
    "--model",
    metavar="FILE",
    help="Run a trained GRU from a file on given inputs, instead of training on a text.",
    shell_complete=completion.files(*completion.MODEL_FILES),
)
@number_options
@click.option("--order", metavar="rzn|zrn|…", help="With --model: the order of the gates in the file.")
@click.option("--z", type=click.Choice(("keeps", "takes")), help="With --model: z keeps the old state, or takes the new one.")
@click.option("--gate", metavar="NAME", help="With --model: sigmoid, hard_sigmoid or hard_sigmoid_6.")
@click.option("--epochs", type=click_integer, default=1, metavar="N", help="Epochs to run in total; default 1.")
@click.option(
    "--from-epoch", type=click_integer, default=0, metavar="N", help="Write from this epoch on, counted from 0; default 0."
)
@click.option("--learn/--no-learn", default=True, help="End each batch with backward and update; default yes.")
@click.option("--format", "kind", type=click.Choice(["json", "npz"]), default="json", help="File format; default json.")
@output_option("Output file; default: standard output.")
def trace(epochs: int, from_epoch: int, learn: bool, kind: str, output: str, model: str | None, **numbers: Any) -> None:
    """Train a new model and write every number that the debugger shows."""
    if model is None:
        if lacks_target():
            words = "it applies to a model file; name the file with --model, or give --target to learn from both"
            raise TuiGruError(words, option="input")
        config = chosen_config()
    else:
        its = for_a_file("reset", "input", "batch_first")
        config = config_of(model, inputs=its.pop("input", None), **numbers, **its)
    if model is not None:
        epochs, from_epoch, learn = 1, 0, False
        _refuse_others(epochs=epochs, from_epoch=from_epoch, learn=learn)
    elif typed := next((name for name, value in numbers.items() if value is not None), None):
        raise TuiGruError("it applies to a model file; name the file with --model", option=typed)
    from tui_gru.storage.trace import Trace

    traced = Trace.of_new_run(config, epochs=epochs, from_epoch=from_epoch, learn=learn)
    if kind == "npz" and output == STANDARD_OUTPUT and sys.stdout is not None and sys.stdout.isatty():
        raise TuiGruError("npz is binary and standard output is a terminal; name a file with -o", option="format")
    with open_output(output, option="o") as out:
        traced.write_npz(out) if kind == "npz" else traced.write_json(out)


def _refuse_others(**values: object) -> None:
    """Raise `TuiGruError` for an option that is given on the command line and has another value than the one in `values`."""
    context = click.get_current_context()
    for name, value in values.items():
        is_typed = context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        if is_typed and context.params[name] != value:
            raise TuiGruError("with --model the states are written, once and without training; remove it", option=name)


@program.command(
    short_help="Train, then sample a line of text.",
    epilog="""\b
Examples:
  tui-gru sample --epochs 1000 --temperature 0                    MathMathMath
  tui-gru sample --epochs 1000 --temperature 0 --sampler tutorial Matttttttttt""",
)
@model_options
@click.option("--epochs", type=click_integer, default=0, metavar="N", help="Epochs to train before sampling; default 0.")
@click.option("--primer", help="Characters to begin with; default: the text's first two.")
@click.option("--length", type=click_integer, default=10, metavar="N", help="Characters to sample; default 10.")
@click.option(
    "--sampler",
    type=click.Choice(SAMPLERS),
    default=SAMPLERS[0],
    help="Feed each sampled character back, or the primer again as the tutorial does; default fed-back.",
)
@click.option("--temperature", type=click_float, default=1.0, metavar="X", help="0 takes the most likely character; default 1.")
@click.option("--sample-seed", type=click_integer, default=0, metavar="N", help="Seed of the sampler; default 0.")
def sample(epochs: int, primer: str | None, length: int, sampler: str, temperature: float, sample_seed: int) -> None:
    """Train a new model, sample from it, and print one line: the primer and the sampled characters.

    Characters that are not printable are printed as escapes, a newline as \\n.
    """
    config = chosen_config()
    from tui_gru.cli.sessions import sampled_line

    primer = config.as_string(config.text[:2]) if primer is None else primer
    line = sampled_line(config, epochs, primer, length, sampler, temperature, sample_seed)
    print_lines([line])


@program.command(
    short_help="Write a report of a session as one page.",
    epilog="""\b
Examples:
  tui-gru report poem -o poem.html
  tui-gru report last -o - | less
  tui-gru report poem --held-out other.txt -o poem.svg
  tui-gru report poem -o poem.html --figures poem
  tui-gru report poem other -o both.html
  tui-gru report run.gru -o run.html""",
)
@click.argument("session", metavar="NAME|PATH|RUN …", nargs=-1, required=True, shell_complete=completion.session_completions)
@output_option("Output file, ending with .html, .svg or .md; default: Markdown to standard output.")
@held_out_option
@click.option("--figures", type=click.Path(path_type=Path), metavar="FOLDER", help="Also write each chart into FOLDER, as an SVG.")
def report(session: tuple[str, ...], output: str, held_out: Path | None, figures: Path | None) -> None:
    """Write a report of a session at its last position: loss curve and baselines, how gates, weights and gradients developed,
    findings, units, memory, sources of the loss, and samples.

    The report is one file without scripts. For RUN, the folder of a recording, the report has the losses and gradient norms, and
    compares the output and p.grad of the last step with the derived ones. Of two sessions or recordings, the report says what
    differs: options, results, curves, findings and samples.
    """
    from tui_gru.cli.sessions import report_of_sessions

    written = report_of_sessions(session, output, held_out, figures)
    with open_output(output, option="o") as out:
        out.write(written)


@program.command(
    short_help="Save the debugger's screen as SVG or PNG.",
    epilog="""\b
Examples:
  tui-gru screenshot --keys 's s n' --size 120x36 after.svg
  tui-gru screenshot --session lesson.tui-gru --at a --size 120x36 first.png
  tui-gru screenshot --session poem --at 'e3 b2 t1' third.svg""",
)
@model_options
@click.option("--keys", default="", metavar="'KEY …'", help="Keys to press first, separated by spaces.")
@click.option("--size", type=screen_size, default="160x50", metavar="WxH", help="Columns x rows; default 160x50.")
@theme_option
@session_option("Show this session, which does not change; default: a new run.")
@click.option("--at", metavar="MARK|PLACE", help="Go first to the mark of a letter, or to a place such as 'e3 b2 t1'.")
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT")
def screenshot(
    keys: str, size: tuple[int, int], theme: str | None, session: str | None, at: str | None, force: bool, out: Path
) -> None:
    """Run the debugger without a terminal, press the given keys, and save the screen as OUT, an SVG or PNG file.

    For a PNG file, rsvg-convert, resvg or inkscape must be installed.
    """
    if out.suffix.lower() not in (".svg", ".png"):
        name = out.with_suffix(".svg") if out.stem.strip(".") else "screen.svg"
        raise TuiGruError(f"OUT: a screenshot is .svg or .png, but {str(out)!r} has another suffix; name it {name}")
    if not out.parent.is_dir():
        raise TuiGruError(f"OUT: there is no folder {out.parent}; create it first")
    exists = TuiGruError(f"OUT: {out} exists and is left as it is; name another file, or add --force")
    if os.path.lexists(out) and not force:  # before the work of drawing
        raise exists
    from tui_gru.cli.sessions import looked_at, pictured_at, save_screenshot
    from tui_gru.session.session import Session

    shown = Session.on(chosen_config()) if session is None else looked_at(session, given_model())
    try:
        save_screenshot(shown if at is None else pictured_at(at, shown), keys.split(), size, out, force=force, theme=theme)
    except FileExistsError:
        raise exists from None
    except OSError as error:
        raise TuiGruError(f"OUT: cannot write {out}: {error.strerror}; write somewhere else") from None


@program.command(
    short_help="Write a walk as one page that a browser steps.",
    epilog="""\b
Examples:
  tui-gru player -x 'l; 50o' --by line -o walk.html
  tui-gru player -x 'l; n; 900e; sample Ma 10 0' --by line --jump 500 -o story.html
  tui-gru player --session lesson.tui-gru -o lesson.html
  tui-gru player --lesson loss -o loss.html""",
)
@model_options
@click.option("--lesson", metavar="NAME|FILE", help="Write this lesson, with its questions.", shell_complete=complete_lessons)
@session_option("Play this session up to its place; it does not change; default: a new run.")
@click.option(
    "-x",
    "commands",
    default="",
    metavar="COMMANDS",
    help="First commands of the `:` line, or keys with counts: 'l; 3n'.",
    shell_complete=completion.verbs,
)
@click.option("--by", type=click.Choice(LEVELS), default="timestep", help="A moment is the end of each; default timestep.")
@click.option("--last", type=click_integer, metavar="N", help="Write the newest N moments; default all.")
@click.option("--jump", type=click_integer, metavar="N", help="Of a command over more than N moments, write only the end.")
@click.option("--size", type=screen_size, default="120x36", metavar="WxH", help="Columns x rows; default 120x36.")
@theme_option
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Output file, such as walk.html."
)
def player(session: str | None, lesson: str | None, output: Path, **options: Any) -> None:
    """Write the walk from the beginning to where the commands lead as one HTML file, which any browser shows without a network.

    The page has the debugger's screen at every moment, its keys, and the derivation of each number that is clicked. FILE.html#30
    opens it at moment 30. Without --theme, it is dark or light as the reader prefers. With --lesson, the page is a lesson, whose
    questions are answered in it.
    """
    if output.suffix.lower() not in (".html", ".htm"):
        raise TuiGruError(f"a player is .html, but {str(output)!r} has another suffix; name it walk.html", option="o")
    if lesson is not None:
        write_page(lesson, output, force=options["force"])
        return
    from tui_gru.cli.sessions import looked_at, played
    from tui_gru.session.session import Session

    shown = Session.on(chosen_config()) if session is None else looked_at(session, given_model())
    played(shown, output, **options)


@program.command(
    short_help="Serve the debugger to a browser of this machine.",
    epilog="""\b
Examples:
  tui-gru serve
  tui-gru serve --port 8001 --file poem.txt --hidden-size 64
  tui-gru serve -- open model.pt --input x.npy
  tui-gru serve -- --session poem --theme whiteboard""",
)
@model_options
@click.option("--port", type=port_number, default=8000, metavar="N", help="Port; 0 takes a free one; default 8000.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="PATH",
    help="The only folder whose files a page can write, read and list; default the current one.",
)
@click.option("--debuggers", type=click_integer, default=4, metavar="N", help="Debuggers that can be open at once; default 4.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGUMENTS]")
def serve(port: int, folder: Path, debuggers: int, arguments: tuple[str, ...]) -> None:
    """Print an address, and show the debugger to the browser of this machine that opens it. Each page has its own debugger, which
    ends with the page.

    ARGUMENTS start another debugger than the one of the options: they are what follows `tui-gru` in a terminal.
    """
    if not folder.is_dir():
        raise TuiGruError(f"there is no folder {folder}; create it first", option="folder")
    if debuggers < 1:
        raise TuiGruError(f"at least 1 must be allowed, not {debuggers}", option="debuggers")
    from tui_gru.cli.serving import serve_debuggers

    serve_debuggers([*model_arguments(), *arguments], port=port, folder=folder.resolve(), debuggers=debuggers)


@program.command(
    "mcp",
    short_help="Serve the debugger as tools of the Model Context Protocol.",
    epilog="""\b
Example, in the configuration of a client:
  {"mcpServers": {"tui-gru": {"command": "tui-gru", "args": ["mcp"]}}}""",
)
def tools_command() -> None:
    """Serve the tools `open`, `run`, `look` and `commands` on standard input and output, until the input ends. Needs the extra
    `mcp`: pip install 'tui-gru[mcp]'.
    """
    from tui_gru.cli.tools import serve_tools

    serve_tools()


@program.command(
    "completion",
    short_help="Print the shell's completion script.",
    epilog="""\b
Add one of these lines to your shell's start-up file:
  bash   eval "$(tui-gru completion bash)"
  zsh    eval "$(tui-gru completion zsh)"
  fish   tui-gru completion fish | source""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_script(shell: str) -> None:
    """Print the script that completes commands, options and their values in a shell."""
    completing = get_completion_class(shell)
    assert completing is not None
    click.echo(completing(program, {}, NAME, COMPLETE_VARIABLE).source())


completion.register()
PROGRAM.append(program)
program.add_command(lesson_command)
program.add_command(inspect_command)
program.add_command(check_command)
program.add_command(open_command)
program.add_command(run_command)


# ------------------------------------------------------------------------------
# The entry point of the command line.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program on `arguments`, by default those of the process, and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # print characters that the locale lacks as escapes
    words = list(sys.argv[1:] if arguments is None else arguments)
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        return shell_complete(program, {}, NAME, COMPLETE_VARIABLE, instruction)
    try:
        # Replaces click's `main`, which prints three lines for an error and has other exit codes for ctrl+c and closed pipes.
        with program.make_context(NAME, list(words)) as context:
            program.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (TuiGruError, click.ClickException) as error:
        return _fail(line_of(error, words))
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output has closed the pipe
        abandon(sys.stdout)
    except OSError as error:
        abandon(sys.stdout)
        return _fail(f"{error.filename or 'standard output'}: {error.strerror}")
    except ValueError as error:
        null = next((word for word in words if "\0" in word), None)
        if null is None or "null" not in str(error):
            return _internal(error)
        return _fail(f"{printable(null)} has a null byte, which no file name can have; check the name")
    except MemoryError:
        return _fail("there is not enough memory; use a smaller --hidden-size, --batch-size or --seq-length")
    except Exception as error:
        return _internal(error)
    return DONE


def _internal(error: Exception) -> int:
    from tui_gru.storage.recorder import report_error

    return _fail(report_error(error, "a command"), INTERNAL_ERROR)


def _fail(line: str, code: int = BAD_INPUT) -> int:
    try:
        click.echo(safe_text(cut_long_words(f"{NAME}: {line}")), err=True)
    except OSError:  # a full disk: the exit code still says it
        abandon(sys.stderr)
    return code
