"""Writing a session down: all of it the first time, and from then on what has changed.

The facts: `run` (config, epochs, history_memory, machine), `here` (tick, branch, stride, how many changes can be undone and
redone, when it was written), `branches` [name, segment, newest], `segment/I` (parent, start, action, settings), `history/I` (how
much of it there is), `done/N` and `undone/N` (changes), `samples`, and `kept`: a place by name for what a front end wants to find
again (marks, breakpoints, watches, layout, commands). The arrays, by segment: `first/I` the record that it began with,
`columns/I` the numbers of every batch, in pieces, `checkpoints/I` rows of parameters and state, by batch; `sample/N` the draws of
a sample. Both under `counts`: the keys of counted breakpoints, and their hits in every batch of the timeline that ends with
segment `here.counted`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.branches import Branch, Change
from tui_gru.debugger.encoding import pack, to_json
from tui_gru.debugger.history import COLUMNS, History
from tui_gru.debugger.machine import this_machine
from tui_gru.debugger.segment import Segment
from tui_gru.debugger.session_file import SessionFile
from tui_gru.debugger.state import State
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.batch import BatchRecord

if TYPE_CHECKING:
    from tui_gru.engine.sampling import Sample

PIECE = 256  # batches whose numbers are written together
MOST_CHECKPOINTS, CHECKPOINT_BYTES = 2**14, 2**26  # of one segment
LATEST = 250_000 * 10**12  # microseconds since 1970: in the year 9892


def now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


@dataclass
class _Written:
    """How much of a segment's history is in the file."""

    length: int = 0
    spacing: int = 0
    checkpoints: int = 0


class StateWriter:
    """Writes the states of one session into one file, one after another.

    `written` is when it last wrote, in microseconds since 1970: later than what it was at first, whatever the clock says.
    """

    def __init__(self, written: int = 0) -> None:
        self.written = written
        self._ids: WeakKeyDictionary[Segment, int] = WeakKeyDictionary()
        self._histories: WeakKeyDictionary[Segment, _Written] = WeakKeyDictionary()
        self._segments = 0
        self._text = ""
        self._changes: dict[str, Sequence[Change]] = {"done": (), "undone": ()}
        self._samples: dict[Sample, int] = {}
        self._facts: dict[str, str] = {}
        self._kept: Mapping[str, Any] | None = None
        self._counted: int | None = None
        self._here: dict[str, Any] = {}
        self._grown: set[Segment] = set()

    def write(self, file: SessionFile, state: State) -> None:
        """Bring the file up to this state, in one transaction. The writer is of no use after an error."""
        with file.transaction():
            before = file.changes
            if not self._segments:
                file.clear()
                self._write_run(file, state)
            for branch in self._branches(state):
                self._write_segments(file, branch.timeline)
            for segment in self._grown | {state.branches.timeline.segments[-1]}:
                self._write_history(file, segment)
            self._grown = {state.branches.timeline.segments[-1]}
            self._write_changes(file, "done", state.branches.done)
            self._write_changes(file, "undone", state.branches.undone)
            self._write_samples(file, state.samples)
            self._write_hit_counts(file, state)
            self._put(file, "branches", [[name, *self._branch(branch)] for name, branch in state.branches.named.items()])
            self._write_kept(file, state.kept)
            self._write_place(file, state, changed=file.changes > before)

    def write_kept(self, file: SessionFile, kept: Mapping[str, Any]) -> None:
        """Write what a front end wants to find again, and nothing else."""
        with file.transaction():
            self._write_kept(file, kept)

    def _write_kept(self, file: SessionFile, kept: Mapping[str, Any]) -> None:
        if kept is not self._kept:
            file.put_fact("kept", to_json(kept))
            self._kept = kept

    def _put(self, file: SessionFile, key: str, value: Any) -> None:
        """Write a fact that may have been written before, if it is another now."""
        json = to_json(value)
        if self._facts.get(key) != json:
            file.put_fact(key, json)
            self._facts[key] = json

    def _write_run(self, file: SessionFile, state: State) -> None:
        run = {
            "config": asdict(state.config),
            "epochs": state.epochs,
            "history_memory": state.branches.timeline.memory.budget.limit,
        }
        file.put_fact("run", to_json({**run, "machine": this_machine()}))
        self._text = state.config.text

    def _write_place(self, file: SessionFile, state: State, *, changed: bool) -> None:
        branches = state.branches
        here = {
            "tick": state.tick,
            "branch": branches.current,
            "stride": asdict(state.stride),
            "stop_on_nan": state.stop_on_nan,
            "done": len(branches.done),
            "undone": len(branches.undone),
            "counted": self._counted,
        }
        if changed or here != self._here:
            self.written = min(max(now(), self.written + 1), LATEST)
            self._put(file, "here", {**here, "written": self.written})
            self._here = here

    def _branches(self, state: State) -> Iterator[Branch]:
        """Every branch that may hold segments not written yet."""
        yield from state.branches.named.values()
        for stack, changes in (("done", state.branches.done), ("undone", state.branches.undone)):
            for change in changes[_same(self._changes[stack], changes) :]:
                if change.other is not None:
                    yield change.other

    def _branch(self, branch: Branch) -> tuple[int, int]:
        return self._ids[branch.timeline.segments[-1]], branch.newest

    def _write_segments(self, file: SessionFile, timeline: Timeline) -> None:
        segments, known = timeline.segments, len(timeline.segments)
        while known and segments[known - 1] not in self._ids:
            known -= 1
        for i in range(known, len(segments)):
            self._write_segment(file, segments[i], segments[i - 1] if i else None)

    def _write_segment(self, file: SessionFile, segment: Segment, parent: Segment | None) -> None:
        settings, at = segment.settings, self._segments
        fact: dict[str, Any] = {
            "parent": None if parent is None else self._ids[parent],
            "start": segment.start,
            "first_batch": segment.first_batch,
            "action": {"kind": segment.action.kind, "args": dict(segment.action.args)},
            "learning": settings.learning,
            "learning_rate": settings.learning_rate,
            "once": settings.once,
        }
        text = settings.trainer.config.text
        if text != (self._text if parent is None else parent.settings.trainer.config.text):
            fact["text"] = text
        file.put_fact(f"segment/{at}", to_json(fact))
        file.put_arrays(f"first/{at}", [(0, pack_record(segment.first))])
        self._ids[segment] = at
        self._segments += 1
        self._grown.add(segment)

    def _write_history(self, file: SessionFile, segment: Segment) -> None:
        at, history = self._ids[segment], segment.history
        written = self._histories.setdefault(segment, _Written())
        begin = written.length - written.length % PIECE
        pieces = range(begin if written.length < history.length else history.length, history.length, PIECE)
        file.put_arrays(f"columns/{at}", ((first, _columns(history, first)) for first in pieces))
        written.length = history.length
        self._write_checkpoints(file, f"checkpoints/{at}", segment, written)
        self._put(file, f"history/{at}", asdict(written))

    def _write_checkpoints(self, file: SessionFile, key: str, segment: Segment, written: _Written) -> None:
        """The checkpoints of a history, at a spacing that doubles, as its own does, where they become too many."""
        history, dtype = segment.history, segment.settings.trainer.config.dtype
        batches, rows = history.checkpoints()
        spacing = max(written.spacing, history.spacing)
        most = max(2, min(MOST_CHECKPOINTS, CHECKPOINT_BYTES // max(1, sum(map(len, rows[:1])))))
        while len(batches[:: spacing // history.spacing]) > most:
            spacing *= 2
        if spacing != written.spacing:
            file.drop_arrays(key)
            written.spacing, written.checkpoints = spacing, 0
        step = spacing // history.spacing
        batches, rows = batches[::step], rows[::step]
        new = zip(batches[written.checkpoints :], rows[written.checkpoints :], strict=True)
        file.put_arrays(key, ((batch, pack({"row": np.frombuffer(row, dtype)})) for batch, row in new))
        written.checkpoints = max(written.checkpoints, len(batches))

    def _write_changes(self, file: SessionFile, stack: str, changes: Sequence[Change]) -> None:
        for i in range(_same(self._changes[stack], changes), len(changes)):
            change = changes[i]
            fact = {
                "source": change.source,
                "target": change.target,
                "tick": change.tick,
                "other": change.other and self._branch(change.other),
                "left": change.left,
            }
            file.put_fact(f"{stack}/{i}", to_json(fact))
        self._changes[stack] = changes

    def _write_samples(self, file: SessionFile, samples: Sequence[Sample]) -> None:
        newest = max(self._samples.values(), default=-1)
        known = {sample: self._samples[sample] for sample in samples if sample in self._samples}
        for sample in samples:
            if sample not in known:
                newest += 1
                known[sample] = newest
                file.put_arrays(f"sample/{newest}", [(0, _pack_sample(sample))])
        for sample in self._samples.keys() - known.keys():
            file.drop_arrays(f"sample/{self._samples[sample]}")
        self._samples = known
        self._put(file, "samples", [_sample_fact(sample, known[sample]) for sample in samples])

    def _write_hit_counts(self, file: SessionFile, state: State) -> None:
        if not state.hit_counts:
            return
        self._counted = self._ids[state.branches.timeline.segments[-1]]
        doubtful = [tally.doubtful(0, len(tally.known_counts)) for tally in state.hit_counts.values()]
        self._put(file, "counts", {"keys": list(state.hit_counts), "doubtful": doubtful})
        file.drop_arrays("counts")
        counts = (pack({"counts": tally.known_counts}) for tally in state.hit_counts.values())
        file.put_arrays("counts", enumerate(counts))


def _same(old: Sequence[Change], new: Sequence[Change]) -> int:
    """How many changes two moments of a stack have in common. It only changes at its top."""
    count = min(len(old), len(new))
    while count and old[count - 1] is not new[count - 1]:
        count -= 1
    return count


def pack_record(record: BatchRecord) -> bytes:
    """All that a record holds, as bytes."""
    return pack(record.arrays())


def _columns(history: History, first: int) -> bytes:
    return pack({name: history.column(name)[first : first + PIECE] for name in COLUMNS})


def _sample_fact(sample: Sample, at: int) -> dict[str, Any]:
    return {
        "at": at,
        "primer": sample.primer,
        "sampler": sample.sampler,
        "temperature": sample.temperature,
        "seed": int(sample.seed),
        "chars": "".join(draw.char for draw in sample.draws),
        "uniforms": [draw.uniform for draw in sample.draws],
        "tick": sample.tick,
    }


def _pack_sample(sample: Sample) -> bytes:
    draws = sample.draws
    arrays: dict[str, NDArray[Any]] = {"index": np.array([draw.index for draw in draws], np.int64)}
    if draws:
        arrays["y_hat"] = np.array([draw.y_hat for draw in draws])
    return pack(arrays)
