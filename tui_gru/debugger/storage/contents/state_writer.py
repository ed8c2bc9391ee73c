"""Writes a session to a file: everything the first time, then only what has changed.

The facts: `run` (config, epochs, history_memory, the number of ticks of a batch, the machine that began the run with a hash of the
results of its first batch, and, if there were several, all machines that computed batches, each with its hash), `here` (tick,
branch, the newest tick of that branch, step memory, the numbers of changes that can be undone and redone, the time of writing),
`branches` [name, segment, newest tick], `segment/I` (the segment before it, start, action, settings), `history/I` (the numbers of
batches and checkpoints, and, unless it is the first for all, the machine that computed the batches from each batch on), `done/N`
and `undone/N` (changes), `samples`, and `kept` (breakpoints, marks and others, and the values saved by a front end, by name:
`contents.kept`). The arrays, by segment: `columns/I` the scalars of every batch, in pieces, `checkpoints/I` rows of weights and
states, by batch; `sample/N` the draws of a sample. The fact and the arrays `counts`: the keys of counted breakpoints, and their
hits in every batch of the timeline that ends with segment `here.counted`; where batches had to be tested, also the numbers of those
with hits, and the ticks of the hits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.checkpoints.divergence import Machine, fingerprint, this_machine
from tui_gru.debugger.checkpoints.scalars import COLUMNS
from tui_gru.debugger.state.state import State
from tui_gru.debugger.storage.contents import kept
from tui_gru.debugger.storage.contents.given import KEY, arrays_of, fact_of, place_of
from tui_gru.debugger.storage.encoding import pack, to_json
from tui_gru.debugger.storage.session_file import SessionFile
from tui_gru.debugger.timeline.branches import Branch, BranchChange, Branches
from tui_gru.debugger.timeline.segment import HistorySegment
from tui_gru.engine.data.tokens import as_text

if TYPE_CHECKING:
    from tui_gru.engine.running.sampling import Sample

PIECE = 256  # batches whose scalars are written together
MOST_CHECKPOINTS, CHECKPOINT_BYTES = 2**14, 2**26  # limits for a session
LATEST = 250_000 * 10**12  # microseconds since 1970; in the year 9892
_NONE = 0, -1


def now() -> int:
    """Return the time in microseconds since 1970."""
    return time.time_ns() // 1000


class StateWriter:
    """Writes the states of one session into one file, one after another. Segments are numbered in the file.

    `written` is the time of the last write, in microseconds since 1970; it always increases, whatever the clock says.
    """

    def __init__(self, written: int = 0) -> None:
        self.written = written
        self._lengths: dict[int, int] = {}  # by segment in the file: the number of batches whose scalars are written
        self._checkpoints: dict[int, tuple[int, int]] = {}  # by segment: the number of checkpoints, and the last batch
        self._numbers_of: dict[Machine | None, int] = {}  # of the machines in the file; None is this one
        self._machines: dict[int, list[list[int]]] = {}  # by segment: the machine that computed the batches from each batch on
        self._spacing = 1  # of the checkpoints in the file, in batches
        self._changes: dict[str, Sequence[BranchChange]] = {"done": (), "undone": ()}
        self._samples: dict[Sample, int] = {}
        self._facts: dict[str, str] = {}
        self._named: tuple[
            tuple[str, Branch | HistorySegment], ...
        ] = ()  # the branches in the file; the current one by its last segment
        self._kept: tuple[Any, ...] | None = None  # the fields from which the fact `kept` in the file was computed
        self._verb: State | None = None  # the state after the last verb
        self._counted: int | None = None
        self._here: dict[str, Any] = {}
        self._grown: set[HistorySegment] = set()

    def write(self, file: SessionFile, state: State) -> None:
        """Update the file to this state, in one transaction. After an error, the writer must not be used again."""
        with file.transaction():
            before = file.changes
            if not self._lengths:
                file.clear()
                self._write_run(file, state)
                self._spacing = self._first_spacing(state)
            for branch in self._branches(state):
                self._write_segments(file, branch.timeline.last)
            for segment in self._grown | {state.branches.timeline.last}:
                self._write_history(file, segment)
            self._grown = {state.branches.timeline.last}
            self._write_changes(file, "done", state.branches.done)
            self._write_changes(file, "undone", state.branches.undone)
            self._write_samples(file, state.samples)
            self._write_hit_counts(file, state)
            self._write_branches(file, state.branches)
            self._write_kept(file, state, state)
            self.write_place(file, state, changed=file.changes > before)

    def write_kept(self, file: SessionFile, state: State) -> None:
        """Write `kept`, but no changes of a verb that has not ended yet."""
        with file.transaction():
            self._write_kept(file, state, self._verb or state)

    def _write_kept(self, file: SessionFile, state: State, verb: State) -> None:
        fields = kept.fields_in(state)
        if self._kept is None or any(now is not before for now, before in zip(fields, self._kept, strict=True)):
            self._put(file, "kept", kept.data_of(state, verb))
        self._kept, self._verb = fields if verb is state else None, verb

    def _put(self, file: SessionFile, key: str, value: Any) -> None:
        """Write a fact unless it is the same as in the file."""
        json = to_json(value)
        if self._facts.get(key) != json:
            file.put_fact(key, json)
            self._facts[key] = json

    def _write_run(self, file: SessionFile, state: State) -> None:
        timeline = state.branches.timeline
        given, memory = state.config.given, timeline.memory
        here = memory.here or Machine(this_machine(), fingerprint(timeline.beginning.record(0)[1].as_computed()))
        machines = memory.machines or (here,)
        self._numbers_of = {None: machines.index(here), **{machine: i for i, machine in enumerate(machines)}}
        run: dict[str, Any] = {
            "config": asdict(state.config) if given is None else {},
            "epochs": state.epochs,
            "history_memory": memory.budget.limit,
            "ticks": timeline.program.ticks,
            "machine": machines[0].name,
            "first_batch": machines[0].first_batch,
        }
        if len(machines) > 1:
            run["machines"] = machines
        if given is not None and given.identity is not None:
            run["recording"] = dict(given.identity())
        elif given is not None:
            run["given"] = fact_of(given)
            file.put_arrays(KEY, [(0, pack(arrays_of(given)))])
        file.put_fact("run", to_json(run))

    def write_place(self, file: SessionFile, state: State, *, changed: bool) -> None:
        branches = state.branches
        here = {
            "tick": state.tick,
            "branch": branches.current,
            "newest": branches.newest,
            "stride": asdict(state.stride),
            "stop_on_nan": state.stop_on_nan,
            "done": len(branches.done),
            "undone": len(branches.undone),
            "counted": self._counted,
        }
        if state.config.given is not None:
            here["place"] = place_of(state)
        if changed or here != self._here:
            self.written = min(max(now(), self.written + 1), LATEST)
            self._put(file, "here", {**here, "written": self.written})
            self._here = here

    def _write_branches(self, file: SessionFile, branches: Branches) -> None:
        """Write the branches. The newest tick of the current one is in `here`, so that a step does not write all branches again."""
        named = tuple(
            (name, branch.timeline.last if name == branches.current else branch) for name, branch in branches.named.items()
        )
        if named != self._named:
            self._put(file, "branches", [[name, *_branch(branch)] for name, branch in branches.named.items()])
            self._named = named

    def _branches(self, state: State) -> Iterator[Branch]:
        """Yield the branches that may have segments that are not written yet."""
        yield from state.branches.named.values()
        for stack, changes in (("done", state.branches.done), ("undone", state.branches.undone)):
            for change in changes[_same(self._changes[stack], changes) :]:
                if change.other is not None:
                    yield change.other

    def _write_segments(self, file: SessionFile, last: HistorySegment) -> None:
        """Write a segment, and those before it that are not written yet."""
        missing: list[HistorySegment] = []
        segment: HistorySegment | None = last
        while segment is not None and segment.number not in self._lengths:
            missing.append(segment)
            segment = segment.before
        for segment in reversed(missing):
            self._write_segment(file, segment)

    def _write_segment(self, file: SessionFile, segment: HistorySegment) -> None:
        settings = segment.settings
        fact: dict[str, Any] = {
            "before": segment.before and segment.before.number,
            "start": segment.start,
            "action": {"kind": segment.action.kind, "args": segment.action.args},
            "learning": settings.learning,
            "learning_rate": settings.rule["learning_rate"],
            "once": settings.once,
        }
        begun_with = segment.trainer.config.settings
        changed = {name: value for name, value in settings.rule.items() if value != begun_with[name] and name != "learning_rate"}
        if changed:
            fact["rule"] = changed
        file.put_fact(f"segment/{segment.number}", to_json(fact))
        self._lengths[segment.number] = 0
        self._grown.add(segment)

    def _write_history(self, file: SessionFile, segment: HistorySegment) -> None:
        number, length = segment.number, segment.checkpoints.length
        written, (count, _) = self._lengths[number], self._checkpoints.get(number, _NONE)
        if written < length:
            pieces = range(written - written % PIECE, length, PIECE)
            file.put_arrays(f"columns/{number}", ((first, _columns(segment, first)) for first in pieces))
            self._lengths[number] = length
        runs = segment.machines or ((segment.first_batch, None),)
        self._machines[number] = [[batch, self._numbers_of[machine]] for batch, machine in runs]
        self._write_checkpoints(file, segment)
        if (written, count) != (length, self._checkpoints.get(number, _NONE)[0]):
            self._write_size(file, number)

    def _write_checkpoints(self, file: SessionFile, segment: HistorySegment) -> None:
        """Write the new checkpoints of a segment. If the file has too many, every second one is removed, as in memory."""
        number, spacing = segment.number, self._spacing
        count, last = self._checkpoints.get(number, _NONE)
        new = [(batch, row) for batch, row in segment.checkpoints.after(last) if batch % spacing == 0]
        if not new:
            return
        dtype = segment.trainer.config.dtype
        file.put_arrays(f"checkpoints/{number}", ((batch, pack({"row": np.frombuffer(row, dtype)})) for batch, row in new))
        self._checkpoints[number] = count + len(new), new[-1][0]
        while sum(count for count, _ in self._checkpoints.values()) > _most_checkpoints(new[0][1]):
            spacing *= 2
            self._thin(file, spacing)

    def _first_spacing(self, state: State) -> int:
        """Return the spacing of the checkpoints of a whole session. More are not written, since the file would keep their pages."""
        segments: set[HistorySegment] = set()
        for branch in self._branches(state):
            segment: HistorySegment | None = branch.timeline.last
            while segment is not None and segment not in segments:
                segments.add(segment)
                segment = segment.before
        rows = [row for segment in segments for row in segment.checkpoints.after(-1)]
        spacing = 1
        while rows and sum(batch % spacing == 0 for batch, _ in rows) > _most_checkpoints(rows[0][1]):
            spacing *= 2
        return spacing

    def _thin(self, file: SessionFile, spacing: int) -> None:
        """Remove the checkpoints from the file whose batch is not a multiple of `spacing`."""
        left = file.thin_arrays("checkpoints/", spacing)
        self._spacing = spacing
        for number, (count, last) in self._checkpoints.items():
            now = left.get(f"checkpoints/{number}", 0)
            if now != count:
                self._checkpoints[number] = now, last
                self._write_size(file, number)

    def _write_size(self, file: SessionFile, number: int) -> None:
        size: dict[str, Any] = {"length": self._lengths[number], "checkpoints": self._checkpoints.get(number, _NONE)[0]}
        if any(machine for _, machine in self._machines[number]):
            size["machines"] = self._machines[number]
        file.put_fact(f"history/{number}", to_json(size))

    def _write_changes(self, file: SessionFile, stack: str, changes: Sequence[BranchChange]) -> None:
        for i in range(_same(self._changes[stack], changes), len(changes)):
            change = changes[i]
            fact = {
                "source": change.source,
                "target": change.target,
                "tick": change.tick,
                "other": change.other and _branch(change.other),
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
        self._counted = state.branches.timeline.last.number
        doubtful = [each.doubtful(0, len(each.known_counts)) for each in state.hit_counts.values()]
        self._put(file, "counts", {"keys": list(state.hit_counts), "doubtful": doubtful})
        file.drop_arrays("counts")
        counts = (pack({"counts": each.known_counts, **each.places}) for each in state.hit_counts.values())
        file.put_arrays("counts", enumerate(counts))


def _most_checkpoints(row: bytes) -> int:
    return max(2, min(MOST_CHECKPOINTS, CHECKPOINT_BYTES // len(row)))


def _same(old: Sequence[BranchChange], new: Sequence[BranchChange]) -> int:
    """Return the number of changes that two versions of a stack share. A stack changes only at its top."""
    count = min(len(old), len(new))
    while count and old[count - 1] is not new[count - 1]:
        count -= 1
    return count


def _branch(branch: Branch) -> tuple[int, int]:
    return branch.timeline.last.number, branch.newest


def _columns(segment: HistorySegment, first: int) -> bytes:
    """Return a piece of the scalars of a segment, packed."""
    checkpoints = segment.checkpoints
    begin, end = checkpoints.first + first, checkpoints.first + min(first + PIECE, checkpoints.length)
    return pack({name: checkpoints.column(name, begin, end - 1) for name in COLUMNS})


def _sample_fact(sample: Sample, at: int) -> dict[str, Any]:
    return {
        "at": at,
        "primer": sample.primer,
        "sampler": sample.sampler,
        "temperature": sample.temperature,
        "seed": int(sample.seed),
        "chars": as_text((draw.char for draw in sample.draws), sample.primer),
        "uniforms": [draw.uniform for draw in sample.draws],
        "tick": sample.tick,
    }


def _pack_sample(sample: Sample) -> bytes:
    draws = sample.draws
    arrays: dict[str, NDArray[Any]] = {"index": np.array([draw.index for draw in draws], np.int64)}
    if draws:
        arrays["y_hat"] = np.array([draw.y_hat for draw in draws])
    return pack(arrays)
