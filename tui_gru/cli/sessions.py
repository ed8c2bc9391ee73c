"""What commands do with saved sessions, and what they write about a run: samples, reports and pictures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from tui_gru import arguments
from tui_gru.cli.options import STANDARD_OUTPUT, option_name, quoted_value, read_held_out
from tui_gru.disk import save_bytes
from tui_gru.engine.config import Config, machine_memory
from tui_gru.engine.numbers import counted, gib
from tui_gru.engine.training import initial_weights, train
from tui_gru.errors import TuiGruError, safe_text
from tui_gru.session import opening
from tui_gru.session.session import Session
from tui_gru.storage import store as library
from tui_gru.storage.file import SessionInUseError
from tui_gru.storage.store import sessions_folder

# ------------------------------------------------------------------------------
# The opening of sessions by name, and the list of all sessions.


def file_of_session(name: str) -> Path | None:
    """Return the file of an existing session; None if it does not exist."""
    path = library.find_session(name)
    return path if os.path.lexists(path) else None


def existing(name: str) -> Path:
    """Return the file of a session, or the folder of a recording.

    Raises `TuiGruError` if neither exists, with the spelling of a file in this folder.
    """
    path = file_of_session(name)
    if path is None and os.path.isdir(name):
        return Path(name)
    if path is None:
        hint = f"; to open the file of this name, write ./{name}" if os.path.lexists(name) else ""
        raise TuiGruError(f"there is no session {name}; `tui-gru sessions` lists them{hint}")
    return path


def continued_session(path: Path, options: Mapping[str, Any], *, copy: bool, history_memory: int | None) -> Session:
    """Open the session in a file.

    With `copy`, the session is recorded to a copy. Otherwise it is recorded to the file if the file is in the user's folder, or not
    recorded until the user decides. `options` are those of the model on the command line. Raises `TuiGruError` if options
    differ from the session, or the session cannot be opened.
    """
    if options:
        _check_same(Session.open(path), path, options)
    try:
        return opening.copied(path, history_memory) if copy else opening.open_session(path, history_memory)
    except SessionInUseError:
        _ask_for_a_copy(path)
    return opening.copied(path, history_memory)


def looked_at(name: str, options: Mapping[str, Any]) -> Session:
    """Open a session whose file is not changed. Raises `TuiGruError` if it cannot be opened, or options differ from it."""
    path = existing(name)
    session = Session.open(path)
    _check_same(session, path, options)
    session.notice = ""
    return session


def recorded_session(session: Session, name: str) -> Session:
    """Record a new session under a name, and return it. Raises `TuiGruError` if the folder does not exist."""
    path = library.find_session(name)
    if path.parent != sessions_folder() and not path.parent.is_dir():
        raise TuiGruError(f"there is no folder {path.parent}; create it first", option="session")
    opening.record_session(session, path)
    return session


def session_table() -> Iterator[str]:
    """Yield the lines of the list of sessions, newest first."""
    sessions = library.all_sessions()
    if not sessions:
        yield safe_text(f"no sessions in {sessions_folder()} yet; `tui-gru --session NAME` creates one")
        return
    rows = [("SESSION", "WRITTEN", "SIZE", "LEFT AT", "BRANCHES")]
    for session in sessions:
        written = datetime.fromtimestamp(session.written).strftime("%Y-%m-%d %H:%M") if session.written else "?"
        rows.append(
            (
                safe_text(session.name),
                written,
                _size(session.size),
                safe_text(session.place),
                safe_text(", ".join(session.branches)),
            )
        )
    widths = [max(len(row[i]) for row in rows if i != 3 or row[4]) for i in range(4)]
    for name, written, size, place, branches in rows:
        yield f"{name:<{widths[0]}}  {written:<{widths[1]}}  {size:>{widths[2]}}  {place:<{widths[3]}}  {branches}".rstrip()


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return quoted_value(value) if isinstance(value, str) else str(value)


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{-(-size // 2**10)} KiB"


def _ask_for_a_copy(path: Path) -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        raise SessionInUseError(f"{path.stem} is open in another tui-gru; --copy opens a copy of it") from None
    if not click.confirm(f"{safe_text(path.stem)} is open in another tui-gru. Open a copy of it?", default=True):
        raise click.exceptions.Exit(0) from None


def _check_same(session: Session, path: Path, options: Mapping[str, Any]) -> None:
    """Raise `TuiGruError` if options of the model differ from those of the session."""
    its: dict[str, Any] = {**vars(session.config), "file": session.config.text, "learn": session.learning}
    others = [
        f"{option_name(field)} is {_shown(its[field])}, not {_shown(value)}"
        for field, value in options.items()
        if field in its and its[field] != value
    ]
    if numbers := [option_name(field) for field in ("input", "target") if field in options]:
        from tui_gru.engine.data import has_numbers

        others += [] if has_numbers(session.config, options) else [f"there are other numbers than in {' and '.join(numbers)}"]
    if others:
        raise TuiGruError(f"in the session {path.stem} {'; '.join(others)}: remove the option, or name another session")


# ------------------------------------------------------------------------------
# What `tui-gru sample`, `report`, `screenshot` and `player` write. Each imports only what it needs.


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

    from tui_gru.engine import sampling

    arguments.integer("epochs", epochs, least=0, option="epochs")
    sampling.checked_temperature(config, primer, length, sampler, temperature, seed)
    _check_memory(config, length)
    weights = initial_weights(config)
    for _, _, record in train(config, epochs=epochs, weights=weights):
        weights = record.after
    if not np.isfinite(weights.parameters).all():
        raise TuiGruError(f"the training overflowed within {epochs} epochs; use a smaller rate", option="learning_rate")
    text = sampling.sample_text(config, weights, primer, length, sampler=sampler, temperature=temperature, seed=seed).text
    return safe_text(text)


def _check_memory(config: Config, length: int) -> None:
    size = length * (DRAW_BYTES + 8 * config.vocab_size)
    if size > machine_memory() // 2:
        raise TuiGruError(
            f"{length} characters would take {gib(size)}, more than half of this machine's memory; sample fewer",
            option="length",
        )


def report_of_sessions(names: Sequence[str], output: str, held_out: Path | None, figures: Path | None = None) -> bytes:
    """Return the report of a session, given by name or file, or of a recording, given by its folder; of two, their comparison.

    The suffix of `output` decides the format. With `figures`, each chart is written into that folder as an SVG as well. The
    sessions and recordings are not changed. Raises `TuiGruError` for an unknown suffix or session, or a folder that cannot be
    written.
    """
    from tui_gru.analysis.report import COMPARISON_WRITERS, WRITERS, figure_svg
    from tui_gru.capture.format import holds_a_recording

    suffix = ".md" if output == STANDARD_OUTPUT else Path(output).suffix.lower()
    if suffix not in WRITERS:
        raise TuiGruError(f"a report is {', '.join(WRITERS)}, but {output!r} has another suffix; name it report.html", option="o")
    if len(names) > 2:
        raise TuiGruError(f"a report is of one session, or compares two; there are {len(names)}: {', '.join(names)}")
    paths = [Path(name) if holds_a_recording(Path(name)) else existing(name) for name in names]
    titles = [path.name if path.is_dir() else path.stem for path in paths]
    text = "" if held_out is None else read_held_out(held_out)
    with ExitStack() as stack:
        sessions = [stack.enter_context(closing(opening.to_read(path))) for path in paths]
        if len(sessions) == 1:
            report = sessions[0].report(titles[0], held_out=text)
            drawn, written = (report.loss, *report.figures), WRITERS[suffix](report)
        else:
            compared = sessions[0].compared(sessions[1], (titles[0], titles[1]))
            drawn, written = (compared.loss,), COMPARISON_WRITERS[suffix](compared)
    if figures is not None:
        try:
            figures.mkdir(parents=True, exist_ok=True)
            for figure in drawn:
                save_bytes(figures / f"{figure.name}.svg", figure_svg(figure).encode())
        except OSError as error:
            words = f"cannot write into {figures}: {error.strerror}; name another folder"
            raise TuiGruError(words, option="figures") from None
    return written.encode()


def pictured_at(at: str, session: Session) -> Session:
    """Return a session at a mark or a place in time. Raises `TuiGruError` if there is no such place."""
    try:
        session.jump(at) if len(at) == 1 and at.isalpha() else session.seek(at)
    except TuiGruError as error:
        raise TuiGruError(str(error), option="at") from None
    return session


def save_screenshot(
    session: Session, keys: Sequence[str], size: tuple[int, int], out: Path, *, force: bool, theme: str | None
) -> None:
    """Save the screen of a session after some keys, in the format of the suffix of `out`, .svg or .png.

    Raises `TuiGruError` if a key is invalid, or nothing is installed that converts to PNG; `OSError` if the file cannot be written,
    or it exists and not `force`.
    """
    from tui_gru.tui.app import own_display
    from tui_gru.tui.headless import take

    if theme is None:
        theme, _, problem = own_display()
        if problem:
            print(f"tui-gru: {safe_text(problem)}", file=sys.stderr)
    with closing(session):
        if out.suffix.lower() == ".svg":
            save_bytes(out, take(session, keys, size, theme=theme).encode(), overwrite=force)
            return
        program = next(filter(shutil.which, CONVERTERS), None)
        if program is None:
            *others, last = CONVERTERS
            raise TuiGruError(f"OUT: install {', '.join(others)} or {last} to convert to PNG, or name it {out.with_suffix('.svg')}")
        with TemporaryDirectory() as folder:
            svg, png = Path(folder) / "screen.svg", Path(folder) / "screen.png"
            save_bytes(svg, take(session, keys, size, theme=theme).encode())
            command = [program, *CONVERTERS[program](str(svg), str(png))]
            done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
            if done.returncode:
                words = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise TuiGruError(f"OUT: {program} failed: {words}; name it {out.with_suffix('.svg')}")
            save_bytes(out, png.read_bytes(), overwrite=force)


def played(session: Session, out: Path, *, force: bool, **options: Any) -> None:
    """Write the walk of a session as a page. Prints what it has, its size, and what is left out; the progress on a terminal.

    Raises `TuiGruError` if a command fails, the walk is too large, or the file exists and not `force`.
    """
    from tui_gru.tui.player import Player, Walk, check_free, write

    output, progress = sys.stdout, sys.stderr  # Textual puts others in their place while an app runs

    def planned(walk: Walk, size: int) -> None:
        left = f"; {walk.left_out:,} others are left out" if walk.left_out else ""
        print(f"{counted(len(walk.ticks), 'moment')}, about {_size(size)}{left}", file=output, flush=True)

    def drawn(done: int, total: int) -> None:
        if progress is not None and progress.isatty():
            print(f"\r{done / total:4.0%}", end="\r" if done == total else "", file=progress, flush=True)

    if not force:
        check_free(out)
    with closing(session):
        player = Player(session, **options)
        player.draw(planned, drawn)
        size = write(player, out, force=force)
    left = f"; {player.unexplained:,} numbers are shown without a derivation" if player.unexplained else ""
    print(f"{safe_text(str(out))}: {_size(size)}{left}", file=output)
