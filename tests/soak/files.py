"""Files with flipped bits or a cut-off end: a session file, the log of a session whose process was killed, a recorded step, and a
Keras file. Opening gives the same contents, or says what is wrong.

python -m tests.soak.files --count 10000 --seed 0
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np

from tests.capture.runs import trained
from tests.files.test_keras import ARRAYS, KERAS_2, legacy, mutated, read_all
from tests.session.acting import OPTIONS, act, acted, portrait, untouched
from tests.soak.blocks import run_blocks
from tests.storage.test_damaged_log import FRAME, HEADER
from tests.storage.test_session_file import damage, opened
from tui_gru import Session, TuiGruError
from tui_gru.capture.calls import CapturedStep
from tui_gru.imported.recordings import open_recording
from tui_gru.storage.log_damage import SYSTEM_PAGE

T = TypeVar("T")

FILES = 25  # of each kind in a block


def block(seed: int) -> int:
    """Damage files of each kind. Returns the number of damaged files."""
    chance = random.Random(seed)
    for damage_files in (sessions, logs, steps, keras_files):
        with tempfile.TemporaryDirectory() as folder:
            damage_files(Path(folder), seed, chance)
    return 4 * FILES


def tried(read: Callable[[Path], T], path: Path) -> tuple[T | None, str]:
    """Return what `read` returns and "", or None and the message of the error that names the damage."""
    try:
        return read(path), ""
    except TuiGruError as error:
        return None, str(error)


def sessions(folder: Path, seed: int, chance: random.Random) -> None:
    path = folder / "a.tui-gru"
    session = acted(seed, 10, **{name: chance.choice(values) for name, values in OPTIONS.items()})
    session.save(path)
    good, whole = path.read_bytes(), portrait(session)
    for _ in range(FILES):
        path.write_bytes(damage(good, chance))
        with untouched(path):
            found = opened(path)
        assert found in (whole, "a named error"), found


def logs(folder: Path, seed: int, chance: random.Random) -> None:
    (folder / "live").mkdir()
    session = acted(seed, 0, **{name: chance.choice(values) for name, values in OPTIONS.items()})
    with closing(session):
        session.record_to(folder / "live" / "a.tui-gru")
        session.step("batch")  # so that there is a log
        for _ in range(chance.choice([3, 30, 300])):
            act(session, chance)
        shutil.copytree(folder / "live", folder / "left")
        whole = portrait(session)
    path = folder / "left" / "a.tui-gru"
    log, index = path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
    good, of_index = log.read_bytes(), index.read_bytes()
    assert_said(path, whole, must_be_whole=True)
    for _ in range(FILES):
        log.write_bytes(bad := damage(good, chance))
        index.unlink(missing_ok=True)
        if chance.random() < 0.5:
            index.write_bytes(of_index)
        # Without the index a log that ends between two frames, with the header of one, or at a page of the system, is what a killed
        # process leaves.
        ends_like_a_crash = (len(bad) - HEADER) % FRAME <= FRAME - 4096 or len(bad) % SYSTEM_PAGE == 0
        if index.exists() or len(bad) == len(good) or not ends_like_a_crash:
            assert_said(path, whole)


def assert_said(path: Path, whole: object, *, must_be_whole: bool = False) -> None:
    """Check that a session is whole, or that its notice or the error names what is missing."""
    with untouched(path):
        session, refusal = tried(Session.open, path)
    if session is None:
        assert str(path) in refusal, refusal
        assert not must_be_whole
        return
    said = "is damaged" in session.notice or "which is missing" in session.notice
    assert not (must_be_whole and said), session.notice
    assert said or portrait(session) == whole, session.notice


def steps(folder: Path, seed: int, chance: random.Random) -> None:
    trained(folder / "run.gru", steps=3, every=1)
    path = folder / "run.gru" / "step-00000001.rank0.safetensors"
    good, whole = path.read_bytes(), load_step(folder / "run.gru")
    for _ in range(FILES):
        path.write_bytes(damage(good, chance))
        step, refusal = tried(load_step, folder / "run.gru")
        assert refusal.isprintable()
        if step is None:
            continue
        assert (step.loss, step.settings, step.notes) == (whole.loss, whole.settings, whole.notes)
        for mine, theirs in zip(step.calls, whole.calls, strict=True):
            assert np.array_equal(mine.out, theirs.out)
            assert all(np.array_equal(mine.weights.values[name], array) for name, array in theirs.weights.values.items())


def load_step(folder: Path) -> CapturedStep:
    return open_recording(folder).load(1)


def keras_files(folder: Path, seed: int, chance: random.Random) -> None:
    path = legacy(folder / "model.h5", "2.2.4", KERAS_2 % ("GRU", ""), **ARRAYS)
    good = path.read_bytes()
    for _ in range(FILES):
        path.write_bytes(mutated(good, chance))
        _, refusal = tried(read_all, path)
        assert refusal.isprintable()


if __name__ == "__main__":
    run_blocks(__doc__ or "", "files", 10_000, block)
