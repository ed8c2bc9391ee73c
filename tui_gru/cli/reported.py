"""The output of `tui-gru report`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tui_gru.cli.model import read_text_file
from tui_gru.cli.output import STANDARD_OUTPUT
from tui_gru.cli.sessions import found
from tui_gru.debugger.analysis.report.written import WRITERS
from tui_gru.debugger.session.session import Session
from tui_gru.engine.errors import TuiGruError


def reported(name: str, output: str, held_out: Path | None) -> bytes:
    """The report of a session, given by name or file, in the format of the suffix of `output`. Does not change the session."""
    suffix = ".md" if output == STANDARD_OUTPUT else Path(output).suffix.lower()
    if suffix not in WRITERS:
        raise TuiGruError(f"a report is {', '.join(WRITERS)}, but {output} has another suffix; name it report.html", option="o")
    path = found(name)
    if path is None:
        raise TuiGruError(f"there is no session {name}; `tui-gru sessions` lists those there are")
    text = "" if held_out is None else read_text_file(held_out, option="held_out")
    with closing(Session.open(path)) as session:
        report = session.report(path.stem, held_out=text)
    return WRITERS[suffix](report).encode()
