"""The entry point of the command line. Exit codes: 0 done, 1 internal error, 2 bad usage or bad input (with one line), 130
interrupted."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import shell_complete

from tui_gru.cli.commands import COMPLETE_VARIABLE, NAME, program
from tui_gru.cli.failures import line_of
from tui_gru.cli.output import abandon_standard_output
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.safe_text import cut_long_words, safe_text

DONE, INTERNAL_ERROR, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program on `arguments`, by default those of the process, and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # print characters that the locale lacks as escapes
    given = list(sys.argv[1:] if arguments is None else arguments)
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        return shell_complete(program, {}, NAME, COMPLETE_VARIABLE, instruction)
    try:
        # Replaces click's `main`, which prints three lines for an error and has other exit codes for ctrl+c and closed pipes.
        with program.make_context(NAME, list(given)) as context:
            program.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (TuiGruError, click.ClickException) as error:
        return _fail(line_of(error, given))
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output has closed the pipe
        abandon_standard_output()
    except OSError as error:
        abandon_standard_output()
        return _fail(f"{error.filename or 'standard output'}: {error.strerror}")
    except MemoryError:
        return _fail("there is not enough memory; use a smaller --hidden-size, --batch-size or --seq-length")
    except Exception as error:
        from tui_gru.debugger.storage.error_reports import reported  # imported late because it is rarely needed

        return _fail(reported(error, "a command"), INTERNAL_ERROR)
    return DONE


def _fail(line: str, code: int = BAD_INPUT) -> int:
    click.echo(safe_text(cut_long_words(f"{NAME}: {line}")), err=True)
    return code
