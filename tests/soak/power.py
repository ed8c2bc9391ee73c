"""Power cuts, simulated: the calls of a session or a recorder that write are written down, and a disk is put together that has what
was flushed, and of the rest any part, cut off, out of order or torn. It must have all that was acknowledged over a second before,
and at once what was saved, the end of a recording, and the steps around a trigger.

python -m tests.soak.power --count 1000 --seed 0
"""

from __future__ import annotations

import random
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.soak.blocks import run_blocks
from tests.soak.calls import ran, with_calls
from tests.soak.faults import CHANGES, Model, small
from tui_gru import Session, record
from tui_gru.disk import SOON
from tui_gru.imported.recordings import open_recording

Acknowledge = Callable[[Any], None]

CUTS = 50  # of a block
LASTS = 5.0  # seconds of work in a block
GRACE = 0.5  # seconds that a flush may take, beside the second in which it begins
SECTOR = 512  # bytes that are written whole
AT_ONCE = 10**6  # added to what must be on the disk when it is acknowledged


@dataclass(frozen=True)
class Call:
    """A call that was written down, with its time in seconds; see calls.c for the kinds."""

    kind: str
    path: str
    to: str
    offset: int
    data: bytes
    time: float


def calls_in(log: Path) -> Iterator[Call]:
    content, at, head = log.read_bytes(), 0, struct.Struct("6q")
    while at < len(content):
        kind, path, to, offset, size, microseconds = head.unpack_from(content, at)
        at += head.size
        names = content[at : at + path + to].decode()
        at += path + to
        data = content[at : at + size] if chr(kind) == "W" else b""
        at += len(data)
        yield Call(chr(kind), names[:path].removesuffix(" (deleted)"), names[path:], offset, data, microseconds / 1e6)


@dataclass
class Inode:
    """A file: as it is on the disk, and the changes after that, of which any may be there: (offset, data), or a length."""

    flushed: bytearray = field(default_factory=bytearray)
    changes: list[tuple[int, bytes] | int] = field(default_factory=list)
    begun: int = 0  # the number of changes when the last flush began

    def flush(self) -> None:
        for change in self.changes[: self.begun]:
            apply(self.flushed, change)
        self.changes, self.begun = self.changes[self.begun :], 0

    def after_cut(self, chance: random.Random) -> bytes:
        """Return what may be there: the first changes, any of them, or any of their sectors."""
        content, kind, first = bytearray(self.flushed), chance.randrange(4), chance.randrange(len(self.changes) + 1)
        for i, change in enumerate(self.changes):
            if isinstance(change, int):
                if kind == 0 or i < first:
                    apply(content, change)
                continue
            offset, data = change
            for begin in range(0, len(data), SECTOR):
                torn = i < first or (i == first and chance.random() < 0.5)
                if (True, i < first, chance.random() < 0.5, torn)[kind]:
                    apply(content, (offset + begin, data[begin : begin + SECTOR]))
        return bytes(content)


def apply(content: bytearray, change: tuple[int, bytes] | int) -> None:
    if isinstance(change, int):
        del content[change:]
        content.extend(bytes(change - len(content)))
    else:
        offset, data = change
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data


class Disk:
    """The files below a folder, as the calls change them. `strict`: flushing a file does not flush its name, as on ext4 it does."""

    def __init__(self, folder: Path, *, strict: bool) -> None:
        self._folder, self._strict = folder, strict
        self._names: dict[str, Inode] = {}
        self._flushed_names: dict[str, Inode] = {}
        self._renames: list[tuple[str, Inode | None]] = []  # changes of names that are not flushed, in order
        self._folders = {str(folder)}
        for path in folder.rglob("*"):
            if path.is_file():
                self._names[str(path)] = self._flushed_names[str(path)] = Inode(bytearray(path.read_bytes()))

    def call(self, call: Call) -> None:
        inode = self._names.get(call.path)
        if call.kind == "M":
            self._folders.add(call.path)
        elif call.kind == "C":
            self._name(call.path, Inode())
        elif call.kind == "S" and call.path in self._folders:
            self._flush_names()
        elif call.kind == "R":
            moved = self._names.get(call.path)
            self._name(call.path, None)
            self._name(call.to, moved)
        elif call.kind == "L":
            self._name(call.to, inode)
        elif call.kind == "U":
            self._name(call.path, None)
        elif inode is None:
            return
        elif call.kind == "W":
            inode.changes.append((call.offset, call.data))
        elif call.kind == "T":
            inode.changes.append(call.offset)
        elif call.kind == "B":
            inode.begun = len(inode.changes)
        elif call.kind == "S":
            inode.flush()
            if not self._strict:
                self._flush_names()

    def _name(self, path: str, inode: Inode | None) -> None:
        self._renames.append((path, inode))
        self._names.pop(path, None)
        if inode is not None:
            self._names[path] = inode

    def _flush_names(self) -> None:
        for path, inode in self._renames:
            self._flushed_names.pop(path, None)
            if inode is not None:
                self._flushed_names[path] = inode
        self._renames.clear()

    def cut(self, folder: Path, chance: random.Random) -> None:
        """Write into another folder what may be there after a power cut now."""
        names = dict(self._flushed_names)
        for path, inode in self._renames[: chance.randrange(len(self._renames) + 1)]:  # a journal keeps their order
            names.pop(path, None)
            if inode is not None:
                names[path] = inode
        for path, inode in names.items():
            to = folder / Path(path).relative_to(self._folder)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(inode.after_cut(chance))


# What is done, and what must be there afterwards


def change(session: Session, number: int) -> None:
    CHANGES[number % len(CHANGES)](session)
    session.mark("q", str(number))


def save_again(folder: Path, acknowledge: Acknowledge) -> None:
    session, number = small(3), 0
    for number in range(1, 16):
        change(session, number)
        session.save(folder / "a.tui-gru")
        acknowledge(AT_ONCE + number)


def record_session(folder: Path, acknowledge: Acknowledge) -> None:
    end, number = time.monotonic() + LASTS, 0
    with closing(small(3)) as session:
        session.record_to(folder / "a.tui-gru")
        acknowledge(AT_ONCE)
        while time.monotonic() < end:
            number += 1
            change(session, number)
            acknowledge(number)
            time.sleep(0.02)
    acknowledge(AT_ONCE + number)


def record_training(folder: Path, acknowledge: Acknowledge) -> None:
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = record(folder / "run.gru", model, optimizer, every=2, last=3, on="step == 51")
    acknowledge(AT_ONCE)
    end, number = time.monotonic() + LASTS, -1
    while time.monotonic() < end or number < 60:
        number += 1
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.randn(2, 5, 4)).reshape(-1, 3), torch.randint(0, 3, (10,)))
        loss.backward()
        optimizer.step()
        recorder.step(loss)
        acknowledge(number + 1 + (AT_ONCE if number == 51 else 0))
        time.sleep(0.02)
    recorder.close()
    acknowledge(AT_ONCE + number + 1)


def check_session(folder: Path, required: int) -> None:
    """Check that a session has the change with a number, or a later one; -1 if it need not be there."""
    path = folder / "a.tui-gru"
    if not path.exists():
        assert required < 0, f"{required} must be on the disk, and there is no file"
        return
    session = Session.open(path)
    number = max((int(mark.text) for mark in session.marks), default=0)
    assert number >= required, f"{required} must be on the disk, and {number} is: {session.notice}"
    newest = session.newest.tick
    session.seek(0)
    session.seek(newest)


def check_training(folder: Path, required: int) -> None:
    """Check that a recording has all steps before `required` that it was to keep; it need not be there for -1."""
    if required < 0:
        return
    recording = open_recording(folder / "run.gru")
    present = {step.number for step in recording.steps}
    expected = {step for step in range(required) if step % 2 == 0 or (49 <= step <= 51 and required > 51)}
    assert expected <= present, f"the steps before {required} must be on the disk, and {sorted(expected - present)} are not"
    for step in sorted(expected):
        recording.load(step)


SCENARIOS: dict[str, tuple[Callable[[Path, Acknowledge], None], Callable[[Path, int], None]]] = {
    "save": (save_again, check_session),
    "record": (record_session, check_session),
    "training": (record_training, check_training),
}


def block(seed: int) -> int:
    """Write down one run, and cut the power at CUTS places of it. Returns their number."""
    chance = random.Random(seed)
    name = list(SCENARIOS)[seed % len(SCENARIOS)]
    work, check = SCENARIOS[name]
    with tempfile.TemporaryDirectory(prefix="tui-gru-soak-") as logs, tempfile.TemporaryDirectory(prefix="tui-gru-soak-") as place:
        folder, log = Path(place), Path(logs, "log")
        result = ran(lambda acknowledge: work(folder, acknowledge), folder, written_down=log)
        assert not result.failure, result.failure
        calls = list(calls_in(log))
    places = sorted(chance.choices(range(1, len(calls) + 1), k=CUTS))
    disks = {strict: Disk(Path(place), strict=strict) for strict in (False, True)}
    done, acknowledged = 0, list[tuple[float, int]]()
    for at in places:
        for call in calls[done:at]:
            if call.kind == "A":
                acknowledged.append((call.time, call.offset))
            for disk in disks.values():
                disk.call(call)
        done = at
        now = calls[at - 1].time
        required = max(
            (number % AT_ONCE for time, number in acknowledged if number >= AT_ONCE or time < now - SOON - GRACE), default=-1
        )
        strict = chance.random() < 0.3
        with tempfile.TemporaryDirectory(prefix="tui-gru-soak-") as left:
            disks[strict].cut(Path(left), chance)
            try:
                check(Path(left), required)
            except Exception as finding:
                raise AssertionError(f"{name}: cut after call {at} of {len(calls)}, strict {strict}: {finding!r}") from finding
    return len(places)


if __name__ == "__main__":
    with_calls()
    torch.set_num_threads(1)
    run_blocks(__doc__ or "", "cuts", 1000, block)
