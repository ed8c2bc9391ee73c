"""What a session file contains: the writer, the reader, and the checks that all data from a file passes through."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.drafts import TextDraft
from tui_gru.debugger.edits import JournalEntry, TextEdit, TrainingSettings, plan
from tui_gru.debugger.history import COLUMNS, BySize, DivergedError, Machine, ScalarRows, fingerprint, this_machine
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import StepMemory, in_words, position_of
from tui_gru.debugger.program import program_of
from tui_gru.debugger.segment import HistorySegment, Memory, checkpoint_of
from tui_gru.debugger.state import Mark, Marks, State
from tui_gru.debugger.stops import HitCache, HitCounts, HitKey, LogLine, Stops, resolve
from tui_gru.debugger.timeline import LONGEST_NAME, Branch, BranchChange, Branches, Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import SAMPLERS, Config, check_setting, index_of, separator, text_of_tokens
from tui_gru.engine.data import ImportedConfig, SeriesConfig
from tui_gru.engine.sampling import Draw, Sample
from tui_gru.engine.source import Ability, Imported, ImportedFact, Series, arrays_of, fact_of, imported_of
from tui_gru.engine.weights import Weights
from tui_gru.errors import TuiGruError, printable
from tui_gru.schema import Positive, Rate, Tokens, Whole, encoded, one_line, one_of, partly, reader, within
from tui_gru.storage.file import OlderSessionError, SessionFile, SessionFileError, damaged, from_json, pack, to_json, unpack

# ------------------------------------------------------------------------------
# The facts of a session file: each is one JSON value under its key, as declared here. All that is read passes through these checks;
# references between facts are checked by the reader, which has all of them.
#
# Beside the facts there are arrays: by segment, `columns/I` with the scalars of every batch, in pieces, and `checkpoints/I` with
# rows of weights and states, by batch; `given` with the numbers of an imported batch, `sample/N` with the draws of a sample, and
# `counts` with the hits of each counted breakpoint in every batch of the timeline that ends with segment `here.counted`; where
# batches had to be tested, also the numbers of those with hits, and the ticks of the hits.


LATEST = 250_000 * 10**12  # microseconds since 1970; in the year 9892
NAME, LONGEST_PLACE = LONGEST_NAME + 20, 400  # characters; the name of a fork is longer by a number


def _word(value: str) -> None:
    if value.split() != [value]:
        raise ValueError("is not one word")


BranchName = Annotated[str, one_line(NAME), _word]
MachineName = Annotated[str, one_line(200)]
Hash = Annotated[str, one_line(32)]


@dataclass(frozen=True)
class RecordingFact:
    """A recording: its folder, its name in it, and its steps with their hashes."""

    folder: str
    name: str
    steps: tuple[tuple[Whole, Hash], ...]


@dataclass(frozen=True)
class RunFact:
    """`run`: the options, the number of ticks of a batch, the machine that began the run with a hash of the results of its first
    batch, and, if there were several, all machines that computed batches, each with its hash."""

    config: Annotated[Mapping[str, Any], partly(Config)]
    epochs: Positive | None
    history_memory: Whole
    machine: MachineName
    first_batch: Hash
    ticks: Positive | None = None
    machines: tuple[tuple[MachineName, Hash], ...] | None = None
    recording: RecordingFact | None = None
    series: bool | None = None  # True if the run reads series of numbers, which are arrays
    given: Mapping[str, Any] | None = None  # the name of `ImportedFact` in the files of all versions


@dataclass(frozen=True)
class HereFact:
    """`here`: the position, the newest tick of its branch, the numbers of changes that can be undone and redone, the segment whose
    hits are counted, the time of writing in microseconds since 1970, and, for a run without a text, the place in words."""

    tick: Whole
    branch: BranchName
    newest: Whole
    stride: StepMemory
    stop_on_nan: bool
    done: Whole
    undone: Whole
    counted: Whole | None
    written: Annotated[int, within(0, LATEST)]
    place: Annotated[str, one_line(LONGEST_PLACE)] | None = None


class BranchRow(NamedTuple):
    """A row of `branches`: a branch, its last segment, and its newest tick."""

    name: BranchName
    segment: Whole
    newest: Whole


BranchRows = tuple[BranchRow, ...]


@dataclass(frozen=True)
class ChangeFact:
    """`done/N` or `undone/N`: a change. `other` is a branch as its last segment and its newest tick."""

    source: BranchName
    target: BranchName
    tick: Whole
    other: tuple[Whole, Whole] | None
    left: Whole


#: The arguments of each kind of change. The value of an edit is a character of the text, or a number.
ACTIONS = {
    "begin": make_dataclass("Begin", ()),
    "learning": make_dataclass("Learning", [("value", bool)]),
    "learning_rate": make_dataclass("LearningRate", [("value", Rate)]),
    "sgd": make_dataclass("SGD", ()),
    "edit": make_dataclass(
        "Edited", [("name", Annotated[str, one_line(NAME)]), ("index", tuple[int, ...]), ("value", str | float)]
    ),
}


def _action(fact: ActionFact) -> None:
    reader(ACTIONS[fact.kind])(fact.args)


@dataclass(frozen=True)
class ActionFact:
    """A change as its kind and the arguments of that kind."""

    kind: Annotated[str, one_of(*ACTIONS)]
    args: Mapping[str, Any]


@dataclass(frozen=True)
class SegmentFact:
    """`segment/I`: the segment before it, its start, the change that began it, and its settings: the rule as far as it changed."""

    before: Whole | None
    start: Whole
    action: Annotated[ActionFact, _action]
    learning: bool
    learning_rate: Rate
    once: Whole | None
    rule: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HistoryFact:
    """`history/I`: the numbers of batches and checkpoints of a segment, and, unless it is the first for all, the machine that
    computed the batches from each batch on."""

    length: Positive
    checkpoints: Whole
    machines: tuple[tuple[Whole, Whole], ...] | None = None


@dataclass(frozen=True)
class SampleFact:
    """An entry of `samples`: the options of a sample, the number of its array, its characters and the uniform numbers drawn."""

    at: Whole
    primer: Tokens
    sampler: Annotated[str, one_of(*SAMPLERS)]
    temperature: Rate
    seed: Annotated[int, within(0, None)]
    chars: Tokens
    uniforms: tuple[Annotated[float, within(0, below=1)] | None, ...]
    tick: Whole | None = None


@dataclass(frozen=True)
class CountsFact:
    """`counts`: the keys of counted breakpoints, and for each the batches in which it could not be evaluated."""

    keys: tuple[tuple[str, ...], ...]
    doubtful: tuple[tuple[Whole, ...], ...]


class StateField(NamedTuple):
    """A field of the state in `kept`, beside the values that a front end has saved there: its name in the state, its kind in the
    file, and its value if it is not written. `of_verb` is True if only verbs change the field."""

    field: str
    kind: Any
    empty: Any
    of_verb: bool = False


ENTRIES = {
    "marked": StateField("marks", tuple[Mark, ...], Marks()),
    "last_condition": StateField("last_condition", str, "", of_verb=True),
    "left": StateField("left", tuple[str, Whole] | None, None, of_verb=True),
    "stops": StateField("stops", Stops, Stops()),
    "hits": StateField("hits", Mapping[str, tuple[Whole, ...]], {}, of_verb=True),
    "log": StateField("log", Mapping[str, tuple[LogLine, ...]], {}, of_verb=True),
    "drafts": StateField("drafts", Mapping[str, tuple[TextDraft, ...]], {}, of_verb=True),
    "compared": StateField("compared", tuple[str, ...], (), of_verb=True),
}
"""By the names in `kept`. A front end cannot save values under them."""


def read(file: SessionFile, key: str, kind: Any) -> Any:
    """Read and check the fact under `key`. Raises `DamagedSessionError` if it is missing or invalid."""
    text = file.fact(key)
    try:
        return reader(kind)(from_json(text))
    except ValueError as error:
        raise damaged(file.path, f"{key}, which {error}") from None


# ------------------------------------------------------------------------------
# Writes a session to a file: everything the first time, then only what has changed.


KEY, SERIES = "given", "series"  # of the arrays of an imported batch, and of series


def last_place(state: State) -> str:
    """Return the position at which a session without a text was left, in words, for a list of sessions."""
    config, at = state.config, state.branches.timeline.position(state.tick)
    if config.source.can(Ability.TRAIN):
        return in_words(at.epoch, at.batch, at.t, step=at.step)
    places = config.source.places
    return printable(f"{config.source.title}, {f'{places[at.batch]}, ' if places else ''}t {at.t + 1}", LONGEST_PLACE)


def kept_of(state: State, verb: State) -> dict[str, Any]:
    """Return the fact `kept`, in a form that JSON can represent. Fields that only verbs change come from `verb`, the state after
    the last verb."""
    data = dict(state.kept)
    for name, entry in ENTRIES.items():
        value = getattr(verb if entry.of_verb else state, entry.field)
        if value != entry.empty:
            data[name] = encoded(value.sorted if isinstance(value, Marks) else value)
    return data


PIECE = 256  # batches whose scalars are written together
MOST_CHECKPOINTS, CHECKPOINT_BYTES = 2**14, 2**26  # limits for a session
AT_ONCE, BYTES_AT_ONCE = 2**11, 2**22  # limits for what a step or a run adds to it
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
        self._machines: dict[
            int, tuple[tuple[int, int], ...]
        ] = {}  # by segment: the machine that computed the batches from each batch on
        self._fixed: dict[int, Collection[int]] = {}  # by segment: the checkpoints that are never removed
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
        self._place_fact: HereFact | None = None  # without the time
        self._grown: set[HistorySegment] = set()

    def write(self, file: SessionFile, state: State) -> None:
        """Update the file to this state, in one transaction. After an error, the writer must not be used again."""
        with file.transaction():
            before, is_complete = file.changes, not self._lengths
            if is_complete:
                file.clear()
                self._write_run(file, state)
                self._spacing = self._first_spacing(state)
            for branch in self._branches(state):
                self._write_segments(file, branch.timeline.last)
            for segment in self._grown | {state.branches.timeline.last}:
                self._write_history(file, segment, is_complete=is_complete)
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
        fields = (state.kept, *(getattr(state, entry.field) for entry in ENTRIES.values()))
        if self._kept is None or any(new is not old for new, old in zip(fields, self._kept, strict=True)):
            self._put(file, "kept", kept_of(state, verb))
        self._kept, self._verb = fields if verb is state else None, verb

    def _put(self, file: SessionFile, key: str, value: Any) -> None:
        """Write a fact unless it is the same as in the file."""
        json = to_json(encoded(value))
        if self._facts.get(key) != json:
            file.put_fact(key, json)
            self._facts[key] = json

    def _write_run(self, file: SessionFile, state: State) -> None:
        timeline = state.branches.timeline
        source, memory = state.config.source, timeline.memory
        current = memory.here or Machine(this_machine(), fingerprint(timeline.beginning.record(0)[1].as_computed()))
        machines = memory.machines or (current,)
        self._numbers_of = {None: machines.index(current), **{machine: i for i, machine in enumerate(machines)}}
        imported = source if isinstance(source, Imported) else None
        recording = None if imported is None or imported.identity is None else imported.identity()
        run = RunFact(
            config=state.config.options if imported is None else {},
            epochs=state.epochs,
            history_memory=memory.budget.limit,
            machine=machines[0].name,
            first_batch=machines[0].first_batch,
            ticks=timeline.program.ticks,
            machines=machines if len(machines) > 1 else None,
            recording=None if recording is None else RecordingFact(**recording),
            series=True if isinstance(source, Series) else None,
            given=encoded(fact_of(imported)) if imported is not None and recording is None else None,
        )
        if imported is not None and recording is None:
            file.put_arrays(KEY, [(0, pack(arrays_of(imported)))])
        if isinstance(source, Series):
            file.put_arrays(SERIES, [(0, pack({"input": source.inputs, "target": source.targets}))])
        file.put_fact("run", to_json(encoded(run)))

    def write_place(self, file: SessionFile, state: State, *, changed: bool) -> None:
        branches = state.branches
        place = None if state.config.source.can(Ability.TEXT) else last_place(state)
        done, undone = len(branches.done), len(branches.undone)
        place_fact = HereFact(
            state.tick, branches.current, branches.newest, state.stride, state.stop_on_nan, done, undone, self._counted, 0, place
        )
        if changed or place_fact != self._place_fact:
            self.written = min(max(now(), self.written + 1), LATEST)
            self._put(file, "here", replace(place_fact, written=self.written))
            self._place_fact = place_fact

    def _write_branches(self, file: SessionFile, branches: Branches) -> None:
        """Write the branches. The newest tick of the current one is in `here`, so that a step does not write all branches again."""
        named = tuple(
            (name, branch.timeline.last if name == branches.current else branch) for name, branch in branches.named.items()
        )
        if named != self._named:
            self._put(file, "branches", [BranchRow(name, *_branch(branch)) for name, branch in branches.named.items()])
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
        settings, begun_with, before = segment.settings, segment.trainer.config.settings, segment.before
        changed = {name: value for name, value in settings.rule.items() if value != begun_with[name] and name != "learning_rate"}
        action, rate = ActionFact(segment.action.kind, segment.action.args), settings.rule["learning_rate"]
        fact = SegmentFact(
            None if before is None else before.number, segment.start, action, settings.learning, rate, settings.once, changed
        )
        file.put_fact(f"segment/{segment.number}", to_json(encoded(fact)))
        self._lengths[segment.number] = 0
        self._grown.add(segment)

    def _write_history(self, file: SessionFile, segment: HistorySegment, *, is_complete: bool) -> None:
        number, length = segment.number, segment.checkpoints.length
        written, (count, _) = self._lengths[number], self._checkpoints.get(number, _NONE)
        if written < length:
            pieces = range(written - written % PIECE, length, PIECE)
            file.put_arrays(f"columns/{number}", ((first, _columns(segment, first)) for first in pieces))
            self._lengths[number] = length
        runs = segment.machines or ((segment.first_batch, None),)
        self._machines[number] = tuple((batch, self._numbers_of[machine]) for batch, machine in runs)
        self._write_checkpoints(file, segment, is_complete=is_complete)
        if (written, count) != (length, self._checkpoints.get(number, _NONE)[0]):
            self._write_size(file, number)

    def _write_checkpoints(self, file: SessionFile, segment: HistorySegment, *, is_complete: bool) -> None:
        """Write the new checkpoints of a segment. If the file would have too many, every second one is removed, as in memory.

        A long run keeps the user waiting with its end, so nothing is written that is removed at once; and of many new ones, unless
        the session `is_complete`, every second or fourth …: the batches between are replayed once the file is opened again.
        """
        checkpoints, number = segment.checkpoints, segment.number
        _, last = self._checkpoints.get(number, _NONE)
        self._fixed[number] = fixed = checkpoints.fixed
        if not (batches := checkpoints.batches_after(last)):
            return
        row = next(checkpoints.after(last))[1]
        at_once = len(batches) if is_complete else _most(row, AT_ONCE, BYTES_AT_ONCE)

        def due() -> Sequence[int]:
            new, spacing = batches, self._spacing
            while True:
                new = [batch for batch in new if batch % spacing == 0 or batch in fixed]
                if sum(batch not in fixed for batch in new) <= at_once:
                    return new
                spacing *= 2

        new, fixed_ones, most = due(), sum(map(len, self._fixed.values())), _most(row, MOST_CHECKPOINTS, CHECKPOINT_BYTES)
        while sum(count for count, _ in self._checkpoints.values()) + len(new) - fixed_ones > most:
            self._thin(file, self._spacing * 2)
            new = due()
        if new:
            dtype, due_batches = segment.trainer.config.dtype, set(new)
            rows = (
                (batch, pack({"row": np.frombuffer(row, dtype)})) for batch, row in checkpoints.after(last) if batch in due_batches
            )
            file.put_arrays(f"checkpoints/{number}", rows)
            self._checkpoints[number] = self._checkpoints.get(number, _NONE)[0] + len(new), new[-1]

    def _first_spacing(self, state: State) -> int:
        """Return the spacing of the checkpoints of a whole session. More are not written, since the file would keep their pages."""
        segments: set[HistorySegment] = set()
        for branch in self._branches(state):
            segment: HistorySegment | None = branch.timeline.last
            while segment is not None and segment not in segments:
                segments.add(segment)
                segment = segment.before
        batches = [b for segment in segments for b in segment.checkpoints.batches_after(-1) if b not in segment.checkpoints.fixed]
        first, spacing = state.branches.timeline.beginning.checkpoints.at(0), 1
        while first is not None and sum(batch % spacing == 0 for batch in batches) > _most(
            first, MOST_CHECKPOINTS, CHECKPOINT_BYTES
        ):
            spacing *= 2
        return spacing

    def _thin(self, file: SessionFile, spacing: int) -> None:
        """Remove the checkpoints from the file whose batch is not a multiple of `spacing`, except for fixed ones."""
        left = file.thin_arrays("checkpoints/", spacing, {f"checkpoints/{number}": fixed for number, fixed in self._fixed.items()})
        self._spacing = spacing
        for number, (count, last) in self._checkpoints.items():
            count_left = left.get(f"checkpoints/{number}", 0)
            if count_left != count:
                self._checkpoints[number] = count_left, last
                self._write_size(file, number)

    def _write_size(self, file: SessionFile, number: int) -> None:
        machines = self._machines[number] if any(machine for _, machine in self._machines[number]) else None
        fact = HistoryFact(self._lengths[number], self._checkpoints.get(number, _NONE)[0], machines)
        file.put_fact(f"history/{number}", to_json(encoded(fact)))

    def _write_changes(self, file: SessionFile, stack: str, changes: Sequence[BranchChange]) -> None:
        for i in range(_same(self._changes[stack], changes), len(changes)):
            change = changes[i]
            other = None if change.other is None else _branch(change.other)
            fact = ChangeFact(change.source, change.target, change.tick, other, change.left)
            file.put_fact(f"{stack}/{i}", to_json(encoded(fact)))
        self._changes[stack] = changes

    def _write_samples(self, file: SessionFile, samples: Sequence[Sample]) -> None:
        newest = max(self._samples.values(), default=-1)
        numbers = {sample: self._samples[sample] for sample in samples if sample in self._samples}
        for sample in samples:
            if sample not in numbers:
                newest += 1
                numbers[sample] = newest
                file.put_arrays(f"sample/{newest}", [(0, _pack_sample(sample))])
        for sample in self._samples.keys() - numbers.keys():
            file.drop_arrays(f"sample/{self._samples[sample]}")
        self._samples = numbers
        self._put(file, "samples", [_sample_fact(sample, numbers[sample]) for sample in samples])

    def _write_hit_counts(self, file: SessionFile, state: State) -> None:
        if not state.hit_counts:
            return
        self._counted = state.branches.timeline.last.number
        doubtful = [hits.failed(0, len(hits.known_counts)) for hits in state.hit_counts.values()]
        self._put(file, "counts", CountsFact(tuple(state.hit_counts), tuple(map(tuple, doubtful))))
        file.drop_arrays("counts")
        counts = (pack({"counts": hits.known_counts, **hits.places}) for hits in state.hit_counts.values())
        file.put_arrays("counts", enumerate(counts))


def _most(row: bytes, count: int, size: int) -> int:
    """Return how many checkpoints like `row` are at most `count`, and together at most `size` bytes; at least 2."""
    return max(2, min(count, size // len(row)))


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


def _sample_fact(sample: Sample, at: int) -> SampleFact:
    chars, uniforms = (
        text_of_tokens((draw.char for draw in sample.draws), sample.primer),
        tuple(draw.uniform for draw in sample.draws),
    )
    options = sample.primer, sample.sampler, sample.temperature, int(sample.seed)
    return SampleFact(at, *options, chars, uniforms, sample.tick)


def _pack_sample(sample: Sample) -> bytes:
    draws = sample.draws
    arrays: dict[str, NDArray[Any]] = {"index": np.array([draw.index for draw in draws], np.int64)}
    if draws:
        arrays["y_hat"] = np.array([draw.y_hat for draw in draws])
    return pack(arrays)


# ------------------------------------------------------------------------------
# Reads the session that `StateWriter` has written, bit for bit, without running it again.


MOST_REPLAYED, MOST_REPLAYED_BYTES = 32, 2**28  # batches of another machine that are replayed at first, and bytes of their records


#: Returns the run of a recording from its identity, which a session on it has stored, and from a folder in which it may be as well.
#: Raises `TuiGruError` if the recording has moved or changed.
OpenRecording = Callable[[Mapping[str, Any], Path], Imported]


def read_state(file: SessionFile, open_recording: OpenRecording) -> tuple[State, list[str]]:
    """Return the state that was written last, and the names in `kept` that cannot be read.

    Raises `DamagedSessionError` if something is missing or inconsistent. Numbers of another machine are no damage.
    """
    try:
        return _SessionReader(file, open_recording).state()
    except SessionFileError:
        raise
    except DivergedError as error:  # a contradiction within the file
        raise damaged(file.path, f"its history: {error}") from None
    except TuiGruError as error:  # for example, a model that does not fit into memory
        raise SessionFileError(f"{file.path} cannot be opened here: {error}") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        raise damaged(file.path, f"its contents ({type(error).__name__})") from error


class _SessionReader:
    """Reads one file. Each segment is created once, because branches and changes share segments."""

    def __init__(self, file: SessionFile, open_recording: OpenRecording) -> None:
        self._file, self._open_recording = file, open_recording
        run: RunFact = self._fact("run", RunFact)
        self._config = self._config_of(run)
        self._epochs = run.epochs
        self._memory = Memory(self._config, run.history_memory)
        self._program = program_of(self._config)
        if run.ticks not in (None, self._program.ticks):
            raise OlderSessionError(
                f"{file.path} cannot be opened here: in the version of tui-gru that wrote it, a batch of this model has "
                f"{run.ticks:,} lines, and in this one {self._program.ticks:,}; open it with that version"
            )
        first = Machine(run.machine, run.first_batch)
        self._machines = [first] if run.machines is None else [Machine(*machine) for machine in run.machines]
        self._require(self._machines[:1] == [first], "run")
        self._segments: dict[int, HistorySegment] = {}

    def state(self) -> tuple[State, list[str]]:
        place: HereFact = self._fact("here", HereFact)
        branches = self._branches(place)
        if not branches.timeline.last.own:
            _replay_first_batches(branches.timeline)
        fields, unreadable = self._kept_fields(self._fact("kept", Mapping[str, Any]))
        state = State(
            self._config,
            self._epochs,
            branches,
            tick=place.tick,
            stride=self._step_memory(place.stride, branches, place.tick),
            stop_on_nan=place.stop_on_nan,
            samples=tuple(map(self._sample, self._fact("samples", tuple[SampleFact, ...]))),
            hit_counts=self._hit_counts(place.counted, branches.timeline),
            **fields,
        )
        return state, unreadable

    def _config_of(self, run: RunFact) -> Config:
        if run.recording is not None:
            return ImportedConfig.of_source(self._open_recording(encoded(run.recording), self._file.path.parent))
        if run.series:
            from tui_gru.engine.data import series_of

            arrays = self._array(SERIES)
            series = series_of(arrays["input"], arrays["target"], run.config.get("dtype", Config.dtype))
            return SeriesConfig.of_series(series, **run.config)
        if run.given is None:
            return Config.of(**run.config)
        return ImportedConfig.of_source(imported_of(reader(ImportedFact)(run.given), self._array(KEY)))

    def _fact(self, key: str, kind: Any) -> Any:
        return read(self._file, key, kind)

    def _require(self, holds: bool, part: str) -> None:
        if not holds:
            raise damaged(self._file.path, part)

    def _branches(self, place: HereFact) -> Branches:
        named, current = self._fact("branches", BranchRows), place.branch
        branches = Branches(
            {name: self._branch((last, place.newest if name == current else newest)) for name, last, newest in named},
            current,
            tuple(self._change(f"done/{i}") for i in range(place.done)),
            tuple(self._change(f"undone/{i}") for i in range(place.undone)),
        )
        self._require(len(branches.named) == len(named) and branches.current in branches.named, "the names of its branches")
        tick = place.tick
        self._require(tick <= branches.newest and branches.timeline.place(tick) == tick, "the place where it was left")
        self._require(branches.undoable == branches.done and branches.redoable == branches.undone, "its changes")
        return branches

    def _step_memory(self, stride: StepMemory, branches: Branches, tick: int) -> StepMemory:
        """Return the step memory, if its steps end at `tick` and start from a place that has been reached; otherwise a new one."""
        begun = StepMemory.begin("", tick)
        if stride.at != tick or not stride.level or stride.origin > branches.newest:
            return begun
        return stride if stride.cut or stride.target(branches.timeline.step_index(stride.level), 0)[0] == tick else begun

    def _array(self, key: str) -> dict[str, NDArray[Any]]:
        entries = [data for _, data in self._file.arrays(key)]
        if len(entries) != 1:
            raise damaged(self._file.path, key)
        return unpack(entries[0])

    def _change(self, key: str) -> BranchChange:
        fact: ChangeFact = self._fact(key, ChangeFact)
        return BranchChange(fact.source, fact.target, fact.tick, fact.other and self._branch(fact.other), fact.left)

    def _branch(self, fact: tuple[int, int]) -> Branch:
        number, newest = fact
        timeline = Timeline(self._segment(number), self._memory)
        reached = (timeline.computed + 1) * self._program.ticks
        fits = self._config.source.can(Ability.TRAIN) or timeline.computed < self._config.num_batches
        self._require(fits and timeline.last.start <= newest <= reached, "how far a branch has come")
        return Branch(timeline, newest)

    def _segment(self, number: int) -> HistorySegment:
        """Return the segment with a number in the file; creates the segments before it first."""
        chain: list[tuple[int, SegmentFact]] = []
        at: int | None = number
        while at is not None and at not in self._segments:
            fact: SegmentFact = self._fact(f"segment/{at}", SegmentFact)
            chain.append((at, fact))
            self._require(fact.before is None or fact.before < at, f"segment/{at}")
            at = fact.before
        for at, fact in reversed(chain):
            self._segments[at] = self._create_segment(at, fact, None if fact.before is None else self._segments[fact.before])
        return self._segments[number]

    def _create_segment(self, at: int, fact: SegmentFact, before: HistorySegment | None) -> HistorySegment:
        action, start = JournalEntry.of(fact.action.kind, fact.action.args), fact.start
        self._check(at, action, start, before)
        letters = None if before is None else before.settings.letters
        if action.kind == "edit" and action.name == "text":
            letters = TextEdit(action.index[0], action.value, letters)
        settings = TrainingSettings(fact.learning, self._rule(at, fact), fact.once, letters)
        segment = HistorySegment(self._memory, start, settings, action, before)
        self._restore_history(at, segment)
        return segment

    def _rule(self, at: int, fact: SegmentFact) -> dict[str, float]:
        """Return the settings of the update rule in a segment. The file has those that were changed, and the learning rate."""
        rule = self._config.settings
        for name, value in {**fact.rule, "learning_rate": fact.learning_rate}.items():
            self._require(name in rule, f"segment/{at}")
            try:
                rule[name] = check_setting(name, value)
            except TuiGruError:
                raise damaged(self._file.path, f"segment/{at}") from None
        return rule

    def _check(self, at: int, action: JournalEntry, start: int, before: HistorySegment | None) -> None:
        """Check that a segment starts within the segment before it, with a change that is possible there."""
        position = position_of(self._program, start)
        if before is None:
            fit = action.kind == "begin" and start == 0
        else:
            fit = action.kind != "begin" and before.start <= start and position.number <= before.computed
        self._require(fit, f"segment/{at}")
        if action.kind == "edit" and before is not None:
            self._blank.learned = before.learns(position.number) or position.offset > self._program.loss_tick
            try:
                plan(action, Moment(self._program, position, self._blank, self._config.vocabulary), before.settings)
            except TuiGruError:
                raise damaged(self._file.path, f"segment/{at}") from None

    @cached_property
    def _blank(self) -> BatchRecord:
        """A record for testing which changes are possible at a position; its numbers do not matter."""
        return BatchRecord(self._config.compiled)

    def _restore_history(self, at: int, segment: HistorySegment) -> None:
        fact: HistoryFact = self._fact(f"history/{at}", HistoryFact)
        first = segment.first_batch
        starts, pieces = self._entries(f"columns/{at}", COLUMNS)
        numbers = [np.stack([piece[name] for name in COLUMNS], axis=1) for piece in pieces]
        ends = np.cumsum([0, *map(len, numbers)]).tolist()
        float64 = all(piece[name].dtype == np.float64 for piece in pieces for name in COLUMNS)
        self._require(float64 and starts == ends[:-1] and ends[-1] == fact.length, f"history/{at}")
        batches, rows = self._entries(f"checkpoints/{at}", ("row",))
        fit = all((row["row"].shape, row["row"].dtype) == (self._row.shape, self._row.dtype) for row in rows)
        in_order = batches == sorted(set(batches)) and (not batches or first <= batches[0] <= batches[-1] <= first + ends[-1])
        self._require(fit and in_order and len(rows) == fact.checkpoints, f"history/{at}")
        self._require(segment.before is not None or batches[:1] == [0], f"history/{at}")
        checkpoints = {batch: row["row"].tobytes() for batch, row in zip(batches, rows, strict=True)}
        runs = ((first, 0),) if fact.machines is None else fact.machines
        begins = [batch for batch, _ in runs]
        begins_fit = begins == sorted(set(begins)) and begins[:1] == [first] and begins[-1] < first + ends[-1]
        self._require(begins_fit and all(number < len(self._machines) for _, number in runs), f"history/{at}")
        machines = [(batch, self._machines[number]) for batch, number in runs]
        if self._memory.here is None:
            self._begin(segment, numbers, checkpoints, machines[0][1])
        else:
            segment.restore(numbers, checkpoints)
        segment.computed_by(tuple((batch, None if machine == self._memory.here else machine) for batch, machine in machines))

    def _begin(self, segment: HistorySegment, numbers: list[ScalarRows], checkpoints: dict[int, bytes], recorded: Machine) -> None:
        """Restore the beginning of the run, and compute its first batch to see whether this machine recorded it.

        Its name alone does not prove that: machines of the same name can compute different bits.
        """
        steps = self._memory.numbers  # of a recording; files of earlier versions have the derived norm of the first step
        if steps is not None and not np.isnan(steps[0, 1]):
            numbers = [np.concatenate([[[numbers[0][0, 0], steps[0, 1], numbers[0][0, 2]]], numbers[0][1:]]), *numbers[1:]]
        segment.restore(numbers, checkpoints)
        segment.computed_by(((0, recorded),))  # compared by size until it is known
        record = segment.record(0)[1].as_computed()
        current = Machine(this_machine(), fingerprint(record))
        self._memory.here = current
        self._memory.machines = tuple(dict.fromkeys((*self._machines, current)))
        if current == recorded:
            if steps is None:
                self._memory.restored.numbers(0, record, segment.checkpoints.numbers(0))
            if record is not segment.record(0)[1]:
                self._memory.records.clear()
            self._memory.by_size = BySize(self._config.num_batches, self._config.dtype)

    @cached_property
    def _row(self) -> NDArray[Any]:
        """A row with the shape and dtype of a checkpoint."""
        compiled = self._config.compiled
        state = self._memory.trainers.of(None).initial_state()
        return np.frombuffer(checkpoint_of(Weights.zeros(compiled.layout, self._config.dtype), state), self._config.dtype)

    def _entries(self, key: str, names: Iterable[str]) -> tuple[list[int], list[dict[str, NDArray[Any]]]]:
        """Return the numbers of the arrays under a key, and for each the arrays of these names."""
        entries = [(at, unpack(data)) for at, data in self._file.arrays(key)]
        self._require(all(arrays.keys() == set(names) for _, arrays in entries), key)
        return [at for at, _ in entries], [arrays for _, arrays in entries]

    def _hit_counts(self, counted: int | None, timeline: Timeline) -> dict[HitKey, HitCounts]:
        """Return the hit counts of the timeline that ends with the segment `counted`, as far as `timeline` shares its batches."""
        if counted is None:
            return {}
        fact: CountsFact = self._fact("counts", CountsFact)
        before, cache = Timeline(self._segment(counted), self._memory), HitCache()
        hits: dict[HitKey, HitCounts] = {}
        entries = [unpack(data) for _, data in self._file.arrays("counts")]
        for key, arrays, doubtful in zip(fact.keys, entries, fact.doubtful, strict=True):
            self._require(self._is_counted(arrays, before), "counts")
            hits[key] = HitCounts.of(arrays["counts"], doubtful, arrays.get("batches"), arrays.get("ticks"))
        cache.put(before, hits)
        counts = {key: cache.of(timeline, key) for key in fact.keys}
        return counts

    def _is_counted(self, arrays: dict[str, NDArray[Any]], timeline: Timeline) -> bool:
        """Return True if arrays are the hits of one stop on a timeline, as `HitCounts.of` takes them."""
        N, counts = self._program.ticks, arrays["counts"]
        if counts.dtype != np.int32 or counts.ndim != 1 or len(counts) > timeline.computed + 1:
            return False
        if not ((counts >= -1) & (counts <= N)).all() or arrays.keys() - {"counts", "batches", "ticks"}:
            return False
        if "batches" not in arrays:  # as in older files
            return "ticks" not in arrays
        batches, ticks = arrays["batches"], arrays["ticks"]
        if any(array.dtype != np.int64 or array.ndim != 1 for array in (batches, ticks)):
            return False
        if not ((batches >= 0) & (batches < len(counts))).all() or (np.diff(batches) <= 0).any() or (counts[batches] <= 0).any():
            return False
        return (
            len(ticks) == counts[batches].sum()
            and bool((np.diff(ticks) > 0).all())
            and np.array_equal((ticks - 1) // N, np.repeat(batches, counts[batches]))
        )

    def _sample(self, fact: SampleFact) -> Sample:
        arrays, chars, vocabulary = self._array(f"sample/{fact.at}"), fact.chars, self._config.vocabulary
        index, y_hat = arrays["index"].tolist(), arrays.get("y_hat", np.empty((0, len(vocabulary))))
        fit = arrays["index"].dtype.kind == "i" and y_hat.dtype == np.float64 and y_hat.shape == (len(chars), len(vocabulary))
        indices = index_of(vocabulary)
        self._require(fit and [indices.get(char, -1) for char in chars] == index and -1 not in index, "samples")
        primer = text_of_tokens(fact.primer, vocabulary)
        self._require(bool(primer) and set(primer) <= indices.keys(), "samples")
        draws = tuple(Draw(*draw) for draw in zip(chars, index, y_hat, fact.uniforms, strict=True))
        between = separator(vocabulary)
        return Sample(primer, fact.sampler, float(fact.temperature), fact.seed, draws, fact.tick, between)

    def _kept_fields(self, saved: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the fields of a state that the fact has; and the names whose values cannot be read, as those of another program.

        These are left out, and the rest of the session is opened.
        """
        fields: dict[str, Any] = {"kept": {name: value for name, value in saved.items() if name not in ENTRIES}}
        unreadable = []
        for name, entry in ENTRIES.items():
            if name in saved:
                try:
                    fields[entry.field] = self._kept_field(name, reader(entry.kind)(saved[name]))
                except (ValueError, RecursionError):
                    unreadable.append(name)
        return fields, unreadable

    def _kept_field(self, name: str, value: Any) -> Any:
        """Return the value of a field of the state. Raises `ValueError`."""
        if name == "compared" and len(value) not in (0, 2):
            raise ValueError("is not two branches")
        if name == "stops":
            ids = [stop.id for stop in value.all]
            if not value.last_id or len(set(ids)) < len(ids) or any(id > value.last_id for id in ids):
                raise ValueError("has invalid ids")
            for stop in value.all:
                resolve(stop, self._program)
        return reduce(Marks.with_mark, value, Marks()) if name == "marked" else value


def _replay_first_batches(timeline: Timeline) -> None:
    """Replay a few batches that another machine computed, so that the size of the difference is known from the start."""
    most = max(1, min(MOST_REPLAYED, MOST_REPLAYED_BYTES // timeline.program.config.record_bytes))
    timeline.walk(0, min(most - 1, timeline.computed), lambda batch, record: False)
