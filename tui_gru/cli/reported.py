"""The output of `tui-gru report`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tui_gru.cli.model import read_held_out
from tui_gru.cli.output import STANDARD_OUTPUT
from tui_gru.cli.sessions import existing
from tui_gru.debugger.analysis.report.written import WRITERS
from tui_gru.debugger.session.session import Session
from tui_gru.engine.errors import TuiGruError
from tui_gru.interop.recording.folder import holds_a_recording


def reported(name: str, output: str, held_out: Path | None) -> bytes:
    """Return the report of a session, given by name or file, or of a recording, given by its folder.

    The format is that of the suffix of `output`. The session or recording is not changed. Raises `TuiGruError` for an unknown
    suffix or session.
    """
    suffix = ".md" if output == STANDARD_OUTPUT else Path(output).suffix.lower()
    if suffix not in WRITERS:
        raise TuiGruError(f"a report is {', '.join(WRITERS)}, but {output} has another suffix; name it report.html", option="o")
    path = Path(name) if holds_a_recording(Path(name)) else existing(name)
    text = "" if held_out is None else read_held_out(held_out)
    with closing(Session.open(path)) as session:
        if text and session.config.given is not None:
            raise TuiGruError("a run without a text has no held-out text; remove the option", option="held_out")
        if path.is_dir():
            session.seek(f"e1 b{session.config.num_batches}")
            session.step("batch")
        report = session.report(path.name if path.is_dir() else path.stem, held_out=text)
    return WRITERS[suffix](report).encode()
