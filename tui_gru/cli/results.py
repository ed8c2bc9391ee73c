"""What `tui-gru sample`, `report` and `screenshot` write. Each imports only what it needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tui_gru.cli.model import read_held_out
from tui_gru.cli.output import STANDARD_OUTPUT
from tui_gru.engine.config import Config, machine_memory
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.numbers import gib
from tui_gru.engine.safe_text import safe_text

if TYPE_CHECKING:
    from tui_gru.debugger.session.session import Session

DRAW_BYTES = 400  # for one sampled character, without its distribution
#: Programs that convert an SVG file to PNG, each with the arguments for the two files; the first that is installed is used.
CONVERTERS: Mapping[str, Callable[[str, str], Sequence[str]]] = {
    "rsvg-convert": lambda svg, png: (svg, "-o", png),
    "resvg": lambda svg, png: (svg, png),
    "inkscape": lambda svg, png: (svg, "-o", png),
}


def sampled_line(config: Config, epochs: int, primer: str, length: int, sampler: str, temperature: float, seed: int) -> str:
    """Train for `epochs`, then sample. Return the primer and the sampled characters on one line. Raises `TuiGruError`."""
    import numpy as np

    from tui_gru.engine.running import sampling
    from tui_gru.engine.running.initial import initial_weights
    from tui_gru.engine.running.trainer import check_epochs, train

    check_epochs(epochs)
    sampling.check(config, primer, length, sampler, temperature, seed)
    _check_memory(config, length)
    weights = initial_weights(config)
    for _, _, record in train(config, epochs=epochs, weights=weights):
        weights = record.after
    if not np.isfinite(weights.parameters).all():
        raise TuiGruError(f"the training overflowed within {epochs} epochs; use a smaller rate", option="learning_rate")
    text = sampling.sample(config, weights, primer, length, sampler=sampler, temperature=temperature, seed=seed).text
    return safe_text(text)


def _check_memory(config: Config, length: int) -> None:
    needed = length * (DRAW_BYTES + 8 * config.vocab_size)
    if needed > machine_memory() // 2:
        raise TuiGruError(
            f"{length} characters would take {gib(needed)}, more than half of this machine's memory; sample fewer",
            option="length",
        )


def reported(name: str, output: str, held_out: Path | None) -> bytes:
    """Return the report of a session, given by name or file, or of a recording, given by its folder.

    The format is that of the suffix of `output`. The session or recording is not changed. Raises `TuiGruError` for an unknown
    suffix or session.
    """
    from tui_gru.cli.sessions import existing
    from tui_gru.debugger.analysis.report.written import WRITERS
    from tui_gru.debugger.session.session import Session
    from tui_gru.interop.recording.folder import holds_a_recording

    suffix = ".md" if output == STANDARD_OUTPUT else Path(output).suffix.lower()
    if suffix not in WRITERS:
        raise TuiGruError(f"a report is {', '.join(WRITERS)}, but {output!r} has another suffix; name it report.html", option="o")
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


def pictured_at(at: str, session: Session) -> Session:
    """Return a session at a mark or a place in time. Raises `TuiGruError` if there is no such place."""
    try:
        session.jump(at) if len(at) == 1 and at.isalpha() else session.seek(at)
    except TuiGruError as error:
        raise TuiGruError(str(error), option="at") from None
    return session


def save(session: Session, keys: Sequence[str], size: tuple[int, int], out: Path, *, theme: str | None) -> None:
    """Save the screen of a session after some keys, in the format of the suffix of `out`, .svg or .png.

    Raises `TuiGruError` if a key is invalid, or nothing is installed that converts to PNG.
    """
    from tui_gru.tui.app import own_display
    from tui_gru.tui.screenshot import take

    if theme is None:
        theme, _, problem = own_display()
        if problem:
            print(f"tui-gru: {safe_text(problem)}", file=sys.stderr)
    with closing(session):
        if out.suffix.lower() == ".svg":
            take(session, keys, size, out, theme=theme)
            return
        program = next(filter(shutil.which, CONVERTERS), None)
        if program is None:
            *others, last = CONVERTERS
            raise TuiGruError(f"OUT: install {', '.join(others)} or {last} to convert to PNG, or name it {out.with_suffix('.svg')}")
        with TemporaryDirectory() as folder:
            svg = Path(folder) / "screen.svg"
            take(session, keys, size, svg, theme=theme)
            command = [program, *CONVERTERS[program](str(svg), str(out))]
            done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        if done.returncode:
            words = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise TuiGruError(f"OUT: {program} failed: {words}; name it {out.with_suffix('.svg')}")
