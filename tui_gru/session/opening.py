"""Opens sessions: saved ones, and those on model files, recordings and modules of a running script."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from tui_gru import arguments
from tui_gru.debugger.state import Marks
from tui_gru.engine.config import Reset, RunOptions, check_options
from tui_gru.engine.data import ImportedConfig
from tui_gru.engine.source import Imported
from tui_gru.equations.syntax import did_you_mean
from tui_gru.errors import TuiGruError
from tui_gru.session import sources
from tui_gru.session.session import REOPENED, Session
from tui_gru.storage.file import SessionFileError, SessionInUseError, UnwritableSessionError
from tui_gru.storage.store import free_path, is_own

if TYPE_CHECKING:
    from torch.nn import Linear, Module

    from tui_gru.equations.functions import Gate
    from tui_gru.files.kinds import ZMeaning
    from tui_gru.session.sources import GivenCell, Optimizers

# ------------------------------------------------------------------------------
# Sessions on what other programs have made: a model file, a recording of a training run, a PyTorch module of a running script.


_OTHER = {"before": "after", "after": "before", "keeps": "takes", "takes": "keeps"}


def load(
    path: str | PathLike[str],
    name: str | None = None,
    inputs: Any = None,
    h0: Any = None,
    lengths: Any = None,
    expect: Any = None,
    order: str | None = None,
    reset: Reset | None = None,
    z: ZMeaning | None = None,
    gate: Gate | None = None,
    embedding: Any = None,
    head: Any = None,
    text: str | None = None,
    vocabulary: Any = None,
    tokens: str | PathLike[str] | None = None,
    batch_first: bool = False,
    **options: Unpack[RunOptions],
) -> Session:
    """Open a session on the GRU, LSTM or RNN called `name` in the file at `path`; the name can be omitted if there is only one.

    inputs: (T, B, I), or integers (T, B) that index the table `embedding` (V, I); default: random. h0: (layers · directions, B,
    H), of an LSTM the pair (h0, c0); default: zero. lengths: (B) timesteps of each row. expect: the output of the original model
    for these inputs, (T, B, directions · H). It decides what `order`, `reset`, `z` and `gate` leave open of the convention, and
    `Session.expected` compares it with ours. Each array may be the path of a .npy file. With `batch_first`, as in torch, the rows
    of inputs and of expect come before their timesteps: (B, T, I).

    head, text: for a model with predictions and a loss. The head, and likewise the embedding, may be the name of a tensor in the
    file: `fc` or `fc.weight`. `vocabulary` has the characters in the order of the model's indices: a string, a list of tokens
    that may be longer than a character, or a dict with their indices; `tokens` is the path of a file with them, one a line or
    JSON. A text is cut into the longest tokens that match; instead of a text, `inputs` may be token ids (N). Such a session can
    be sampled from and trained like any other; `options` are those of `Config.of`. Raises `TuiGruError` with a one-line message
    that says what to do.
    """
    check_options(options)
    convention = {"order": order, "reset": reset, "z": z, "gate": gate}
    others = {"h0": h0, "lengths": lengths, "expect": expect}
    if head is None and text is None:
        about_text = {"vocabulary": vocabulary, "tokens": tokens, **options}
        if other := next((option for option, value in about_text.items() if value is not None), None):
            raise TuiGruError(f"{other} is for a run on a text; give a head and a text as well, or leave it out", option=other)
        numbers = {"inputs": inputs, "embedding": embedding, **others, "batch_first": arguments.boolean("batch_first", batch_first)}
        source, notice = sources.model_on_numbers(path, name, convention, numbers)
        session = _on(source, notice)
        expected = session.expected
        session.notice = "; ".join(filter(None, (notice, "" if expected is None else expected.sentence)))
        return session
    if other := next(
        (option for option, value in {**others, "batch_first": batch_first or None}.items() if value is not None), None
    ):
        raise TuiGruError(f"{other} is for a run on inputs; a run on a text begins with zero: leave it out", option=other)
    reads = {"head": head, "embedding": embedding, "text": text, "ids": inputs, "vocabulary": vocabulary, "tokens": tokens}
    config, weights, notice = sources.model_on_text(path, name, convention, reads, dict(options))
    session = Session.on(config, weights=weights)
    session.notice = notice
    return session


def other_reading(session: Session) -> Session:
    """Open a session at the same place on the same model file, read with the next of four conventions.

    The reset gate is applied before or after the product; the update gate z keeps the old state or takes the new one. If no output
    was expected, that of the first reading is, which shows the difference at each timestep. Raises `TuiGruError` if the session is
    not on a model file.
    """
    source = session.config.source
    if not isinstance(source, Imported) or source.again is None:
        reason = "not on a model file" if not isinstance(source, Imported) or source.stored is None else "not on a GRU"
        raise TuiGruError(f"this run is {reason}, so it cannot be read in another convention")
    reset, z = source.reading
    record = session.state.timeline.record(0)
    again, notice = source.again(_OTHER[reset], z if reset == "after" else _OTHER[z], sources.output_of(record).copy())
    other = _on(again, notice)
    other.seek(session.position.tick)  # every convention has the same number of lines
    expected = other.expected
    other.notice = f"{notice}: {expected.sentence}" if expected is not None else notice
    return other


def other_module(session: Session, name: str = "") -> Session:
    """Open a session on another module of the same captured batch or recording: the one called `name`, by default the next in the
    order of the calls.

    It is at the same timestep in the forward pass, otherwise at the end of the batch; in a recording at the same step, or the
    nearest one in which the module has something. A module that was shown before has its edits, marks and breakpoints. Raises
    `TuiGruError` if there is no other module.
    """
    source, position = session.config.source, session.position
    if not isinstance(source, Imported) or source.of_module is None or len(source.modules) < 2:
        raise TuiGruError("this run has one module only; a batch of a script, or a recording, can have several")
    names = source.modules
    if name and name not in names:
        raise TuiGruError(f"there is no module {name!r}; {did_you_mean(name, names)}")
    name = name or names[(names.index(source.module) + 1) % len(names)]
    opened = session.by_module
    opened[source.module] = session
    notice = ""
    if name not in opened:
        run, notice = source.of_module(name)
        opened[name] = Session.on(ImportedConfig.of_source(run))
        opened[name].by_module = opened
    other = opened[name]
    batch = position.batch
    if source.steps:
        batch = min(range(len(other.steps)), key=lambda i: abs(other.steps[i] - source.steps[position.batch]))
    t = min(position.t, other.config.seq_length - 1)
    if position.tick and position.phase == "forward":
        other.seek(f"b{batch + 1} t{t + 1}")
    else:
        other.seek((batch if position.tick == 0 else batch + 1) * other.program.ticks)
    other.notice = ": ".join(filter(None, (other.config.source.title, notice)))
    return other


def on_recording(folder: str | PathLike[str], name: str | None = None, *, follow: bool = False) -> Session:
    """Open a session on the GRU called `name` of a recording; unlike `Session.open`, for a recording of several GRUs. `follow`: for
    `with_newer_steps`, while another process writes the recording.

    Raises `RecordingError`, one line.
    """
    return _on(*sources.recorded_steps(Path(folder).expanduser(), name, follow=follow))


def to_read(path: Path) -> Session:
    """Open a session to read it, at its last position, or a recording at its end; neither is changed. Raises `TuiGruError`."""
    session = Session.open(path)
    if path.is_dir():
        session.seek(f"e1 b{session.config.num_batches}")
        session.step("batch")
    return session


def with_newer_steps(session: Session, source: Imported) -> Session:
    """Return a session on a recording that has more steps than it had in `session`. It has the same breakpoints, watches and marks,
    and is at the same place; at the end, if `session` is.

    A session with changes, or one that is recorded to a file, keeps its steps: raises `TuiGruError`.
    """
    before, now = session.config.source, session.state
    if now.branches.done or len(now.branches.names) > 1 or session.recording is not None:
        raise TuiGruError("newer steps are not shown, since this session has changes; undo them, or open the recording again")
    memory = now.timeline.memory.budget.limit
    newer = Session.on(ImportedConfig.of_source(source), history_memory=memory)
    is_alike = newer.program.ticks == session.program.ticks

    def moved(tick: int) -> int:
        """Return the tick of the same place; of the first line of its step, if steps have another number of lines now."""
        if not tick:
            return 0
        batch, offset = divmod(tick - 1, session.program.ticks)
        index = bisect_left(source.steps, before.steps[batch])
        return min(index, len(source.steps) - 1) * newer.program.ticks + (offset if is_alike else 0) + 1

    marks = {letter: replace(mark, tick=moved(mark.tick)) for letter, mark in now.marks.by_letter.items()}
    newer.carry_over(now, Marks(marks))
    is_at_end = session.end is not None and session.position.tick == session.end.tick
    newer.seek(newer.end if is_at_end and newer.end is not None else moved(session.position.tick))
    return newer


def on_module(
    module: Module,
    optimizer: Optimizers = None,
    head: Linear | None = None,
    name: str | None = None,
    cell: GivenCell | None = None,
) -> Session | None:
    """Open a session on the calls of `module` since the last call of this function. The first call starts watching it: None.

    Raises `CaptureError` if the module has no GRU, none was called, or its values cannot be recomputed.
    """
    run = sources.newest_step(module, optimizer, head, name, cell)
    return None if run is None else _on(*run)


def _on(source: Imported, notice: str) -> Session:
    session = Session.on(ImportedConfig.of_source(source))
    session.notice = notice
    return session


# ------------------------------------------------------------------------------
# Opens saved sessions: recorded to their own file, as a copy, or in memory only if no file can be written.


def open_session(path: Path, history_memory: int | None = None) -> Session:
    """Open the session in a file. It is recorded to the file if that is in one of the user's folders; other files are not changed.

    For such other files, the first change makes the session `undecided`. Raises `SessionFileError` if the file cannot be read, or
    is in one of the user's folders and open elsewhere.
    """
    if is_own(path):
        return reopen_session(path, history_memory)
    session = Session.open(path, history_memory=history_memory)
    session.recorder.record_later(lambda: None)
    return session


def reopen_session(path: Path, history_memory: int | None = None) -> Session:
    """Open the session in a file and record it there. Raises `SessionFileError` if it cannot be read or is open elsewhere.

    If the file cannot be written, the session continues in memory only, and its notice says so.
    """
    try:
        return Session.open(path, record=True, history_memory=history_memory)
    except UnwritableSessionError as error:
        session = Session.open(path, history_memory=history_memory)
        session.notice = ""
        session.recorder.stay_in_memory(str(error))
        return session


def copied(path: Path, history_memory: int | None = None) -> Session:
    """Open a copy of the session in a file, recorded next to it under a free name. Raises `SessionFileError` like `reopened`."""
    session, to = Session.open(path, history_memory=history_memory), free_path(path)
    left, session.notice = session.outcome.notice, ""
    record_session(session, to)
    if session.recording is not None and left is not None:
        session.add_notice(
            f"a copy of {path.stem}, recorded as {to.stem}: {left.text.removeprefix(REOPENED)}", warning=left.warning
        )
    return session


def record_session(session: Session, path: Path) -> None:
    """Record a session to a file; if it cannot be written, continue in memory.

    Raises `SessionInUseError` if it is open elsewhere.
    """
    try:
        session.record_to(path)
    except SessionInUseError:
        raise
    except SessionFileError as error:
        session.recorder.stay_in_memory(str(error))
