"""Calls of the system that change files fail, or the process dies at them: while a session is saved, recorded or opened again, a
training is recorded, or a trace, a report, a page of the player, an export or a screenshot is written over an older one. Nothing is
lost that was acknowledged or was there before, and no error leaves the program but its own.

python -m tests.soak.faults --count 3000 --seed 0
"""

from __future__ import annotations

import errno
import io
import json
import os
import random
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tests.soak.blocks import run_blocks
from tests.soak.calls import Effect, Ran, ran, with_calls
from tui_gru import Session, TuiGruError, disk, record
from tui_gru.cli.commands import main
from tui_gru.errors import printable
from tui_gru.imported.recordings import open_recording

Acknowledge = Callable[[Any], None]

ERRORS = (errno.EIO, errno.ENOSPC, errno.EACCES)
EFFECTS = [Effect.FAIL_ONCE, Effect.FAIL_FROM_HERE, Effect.WRITE_SHORT, Effect.DIE_BEFORE, Effect.DIE_WITHIN]
OLD = b"OLD " * 50 + b"END"
MOST = 60  # faults of a block


@dataclass(frozen=True)
class Scenario:
    """What is done to files in a folder.

    `prepare` makes the folder as it is before. `work` is what the faults come into; what it acknowledges must be there afterwards.
    `check` raises an AssertionError if it is not.
    """

    prepare: Callable[[Path], None]
    work: Callable[[Path, Acknowledge], None]
    check: Callable[[Path, Ran], None]


# Sessions. A mark has the number of the change that was acknowledged last.


def small(batches: int) -> Session:
    session = Session(text="hello there you " * 9, hidden_size=6, batch_size=2, seq_length=4)
    session.learning = True
    session.step("batch", batches)
    return session


CHANGES: tuple[Callable[[Session], object], ...] = (
    lambda session: session.step("batch", 7),
    lambda session: session.edit("Wz", (0, 0), 0.25),
    lambda session: session.sgd(),
    lambda session: session.step("timestep", -5),
    lambda session: session.step("batch", 30),
    lambda session: session.undo(),
    lambda session: session.sample("he", 8),
    lambda session: session.step("epoch", 3),
)


def change(session: Session, number: int, acknowledge: Acknowledge) -> None:
    CHANGES[number % len(CHANGES)](session)
    session.mark("q", str(number))
    if session.recording is not None:
        acknowledge(number)


def saved_before(folder: Path) -> None:
    session = small(3)
    session.mark("q", "0")
    session.save(folder / "a.tui-gru")


def save(folder: Path, acknowledge: Acknowledge) -> None:
    session = small(9)
    session.mark("q", "1")
    session.save(folder / "a.tui-gru")
    acknowledge(1)


def record_session(folder: Path, acknowledge: Acknowledge) -> None:
    with closing(small(3)) as session:
        session.record_to(folder / "a.tui-gru")
        for number in range(1, 9):
            change(session, number, acknowledge)


@cache
def crashed() -> dict[str, bytes]:
    """The files of a session whose process was killed after six changes."""
    with tempfile.TemporaryDirectory() as name:
        if not (child := os.fork()):
            session = small(3)
            session.record_to(Path(name, "a.tui-gru"))
            for number in range(1, 7):
                change(session, number, lambda _: None)
            os.kill(os.getpid(), 9)
        os.waitpid(child, 0)
        return {path.name: path.read_bytes() for path in Path(name).iterdir()}


def crashed_before(folder: Path) -> None:
    for name, content in crashed().items():
        (folder / name).write_bytes(content)


def reopen(folder: Path, acknowledge: Acknowledge) -> None:
    acknowledge(6)
    with closing(Session.open(folder / "a.tui-gru", record=True)) as session:
        for number in range(7, 10):
            change(session, number, acknowledge)


def check_session(folder: Path, result: Ran) -> None:
    path = folder / "a.tui-gru"
    acknowledged = max(result.acknowledged, default=-1)
    if not path.exists():
        assert acknowledged < 0, f"the file is not there, and {acknowledged} was acknowledged"
        return
    session = Session.open(path)
    number = max((int(mark.text) for mark in session.marks), default=0)
    assert number >= acknowledged, f"{acknowledged} was acknowledged, and {number} is there"
    newest = session.newest.tick
    session.seek(0)
    session.seek(newest)
    assert "damaged" not in session.notice, session.notice
    assert "belongs to another" not in session.notice, session.notice


# The recorder of a training


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = torch.nn.GRU(4, 6, batch_first=True), torch.nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0])  # type: ignore[no-any-return]


def train(folder: Path | None, acknowledge: Acknowledge) -> None:
    """Train, and record if there is a folder; acknowledge the steps that are recorded, then the weights in the end."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = None if folder is None else record(folder / "run.gru", model, optimizer, every=2, last=3, on="step == 5")
    for _ in range(8):
        optimizer.zero_grad()
        logits = model(torch.randn(2, 5, 4))
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, 3), torch.randint(0, 3, (10,)))
        loss.backward()
        optimizer.step()
        if recorder is not None:
            recorder.step(loss)
            acknowledge(["kept", list(recorder.kept)])
    if recorder is not None:
        recorder.close()
    acknowledge(["weights", [float(p.detach().double().sum()) for p in model.parameters()]])


@cache
def trained_without_recorder() -> list[float]:
    acknowledged: list[Any] = []
    train(None, acknowledged.append)
    return list(acknowledged[-1][1])


def check_recording(folder: Path, result: Ran) -> None:
    weights = [value for kind, value in result.acknowledged if kind == "weights"]
    if not result.died and not result.refused:
        assert weights == [trained_without_recorder()], "the training did not end as without the recorder"
    steps = max((value for kind, value in result.acknowledged if kind == "kept"), key=len, default=[])
    if not steps:
        return
    recording = open_recording(folder / "run.gru")
    assert {step.number for step in recording.steps} >= set(steps), f"{steps} were kept, {recording.steps} are there"
    for step in recording.steps:
        recording.load(step.number)
    lost = [each for each in recording.damaged if "could not be written" not in each]
    assert not lost, lost


# Files that a command writes


def old_before(name: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / name).write_bytes(OLD)

    return prepare


def report_before(folder: Path) -> None:
    saved_before(folder)
    old_before("r.html")(folder)


def command(*words: str) -> Callable[[Path, Acknowledge], None]:
    """Return the work of a command of the shell; FOLDER stands for the folder."""

    def work(folder: Path, acknowledge: Acknowledge) -> None:
        code = main([word.replace("FOLDER", str(folder)) for word in words])
        if code:
            raise TuiGruError(f"exit code {code}")
        acknowledge(1)

    return work


def check_file(name: str, is_complete: Callable[[bytes], bool]) -> Callable[[Path, Ran], None]:
    def check(folder: Path, result: Ran) -> None:
        assert (folder / name).exists(), "the old file is gone"
        content = (folder / name).read_bytes()
        assert content == OLD or is_complete(content), f"{len(content)} bytes, neither the old file nor a new one"
        assert content != OLD or not result.acknowledged, "it is said to be written, and the old file is there"

    return check


def is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def is_archive(content: bytes) -> bool:
    try:
        return zipfile.ZipFile(io.BytesIO(content)).testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def ends_with(end: bytes) -> Callable[[bytes], bool]:
    return lambda content: content.endswith((end, end + b"\n"))


def of_command(name: str, is_complete: Callable[[bytes], bool], *words: str) -> Scenario:
    return Scenario(old_before(name), command(*words), check_file(name, is_complete))


SCENARIOS = {
    "save": Scenario(saved_before, save, check_session),
    "record": Scenario(lambda folder: None, record_session, check_session),
    "reopen": Scenario(crashed_before, reopen, check_session),
    "recorder": Scenario(lambda folder: None, train, check_recording),
    "trace": of_command("t.json", is_json, "trace", "-o", "FOLDER/t.json"),
    "arrays": of_command("t.npz", is_archive, "trace", "--format", "npz", "-o", "FOLDER/t.npz"),
    "report": Scenario(
        report_before,
        command("report", "FOLDER/a.tui-gru", "-o", "FOLDER/r.html"),
        check_file("r.html", ends_with(b"</html>")),
    ),
    "player": of_command("p.html", ends_with(b"</html>"), "player", "-x", "o", "--force", "-o", "FOLDER/p.html"),
    "screenshot": of_command("s.svg", ends_with(b"</svg>"), "screenshot", "--size", "40x12", "--force", "FOLDER/s.svg"),
    "export": of_command("e.txt", ends_with(b"\n"), "run", "-x", "s; export! FOLDER/e.txt"),
}


def injected(scenario: Scenario, effect: Effect, at: int, error: int, *, flushes: bool) -> Ran:
    """Do the work of a scenario once in a new folder, with a fault, and check what it leaves."""
    with tempfile.TemporaryDirectory(prefix="tui-gru-soak-") as name:
        folder = Path(name)
        scenario.prepare(folder)

        def work(acknowledge: Acknowledge) -> None:
            disk.SOON = 0.0 if flushes else 10.0**6  # at once in its own thread, or at the end only
            scenario.work(folder, acknowledge)

        result = ran(work, folder, effect=effect, at=at, error=error, refusals=[TuiGruError])
        assert not result.failure, result.failure
        try:
            scenario.check(folder, result)
        except TuiGruError as refusal:
            raise AssertionError(f"it cannot be opened: {printable(refusal)}") from None
        if not result.died and effect is Effect.FAIL_ONCE and result.refused:
            left = [path.name for path in folder.rglob("*") if ".tui-gru-saving" in path.name]
            assert len(left) <= 1, left  # one, if it was its deletion that failed
        return result


def block(seed: int) -> int:
    """Inject faults into calls of one scenario, up to MOST of them, evenly. Returns their number."""
    name = list(SCENARIOS)[seed % len(SCENARIOS)]
    chance = random.Random(seed)
    scenario, effect, error = SCENARIOS[name], chance.choice(EFFECTS), chance.choice(ERRORS)
    flushes = chance.random() < 0.3
    counted = injected(scenario, Effect.COUNT, -1, 0, flushes=False).counted
    places = sorted(chance.sample(range(counted), min(MOST, counted)))
    for at in places:
        try:
            injected(scenario, effect, at, error, flushes=flushes)
        except AssertionError as finding:
            words = f"{name}: {effect.name} {errno.errorcode[error]} at call {at} of {counted}, flushes {flushes}"
            raise AssertionError(f"{words}: {finding}") from None
    return len(places)


if __name__ == "__main__":
    with_calls()
    torch.set_num_threads(1)
    trained_without_recorder()
    crashed()
    run_blocks(__doc__ or "", "faults", 3000, block)
