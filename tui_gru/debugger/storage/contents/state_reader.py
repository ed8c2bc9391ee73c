"""Reads the session that `state_writer` has written, bit for bit, without running it again."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.checkpoints.divergence import BySize, DivergedError, Machine, fingerprint, this_machine
from tui_gru.debugger.checkpoints.scalars import COLUMNS, ScalarRows
from tui_gru.debugger.program.line_table import program_of
from tui_gru.debugger.program.position import position_of
from tui_gru.debugger.program.steps import StepMemory
from tui_gru.debugger.state.marks import Mark, Marks
from tui_gru.debugger.state.state import State
from tui_gru.debugger.state.stops import Breakpoint, LogLine, Stops, Watch
from tui_gru.debugger.storage.contents import facts
from tui_gru.debugger.storage.contents.facts import FieldCheck
from tui_gru.debugger.storage.contents.given import KEY, given_of
from tui_gru.debugger.storage.contents.kept import ENTRIES
from tui_gru.debugger.storage.encoding import unpack
from tui_gru.debugger.storage.session_errors import OlderSessionError, SessionFileError, damaged
from tui_gru.debugger.storage.session_file import SessionFile
from tui_gru.debugger.timeline.branches import Branch, BranchChange, Branches
from tui_gru.debugger.timeline.edits import Edit, plan
from tui_gru.debugger.timeline.journal import JournalEntry, TextEdit, TrainingSettings
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.debugger.timeline.segment import HistorySegment, Memory, checkpoint_of
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine.config import Config, check_setting
from tui_gru.engine.data.given import GivenConfig
from tui_gru.engine.data.tokens import as_text, index_of, separator
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.sampling import Draw, Sample
from tui_gru.engine.running.weights import Weights

if TYPE_CHECKING:
    from tui_gru.debugger.state.hit_counts import HitCounts, HitKey

LOOKED_AT, LOOKED_AT_BYTES = 32, 2**28  # batches of another machine that are replayed at first, and bytes of their records


def read_state(file: SessionFile) -> tuple[State, list[str]]:
    """Return the state that was written last, and the names in `kept` that cannot be read.

    Raises `DamagedSessionError` if something is missing or inconsistent. Numbers of another machine are none of that.
    """
    try:
        return _Reader(file).state()
    except SessionFileError:
        raise
    except DivergedError as error:  # a contradiction within the file
        raise damaged(file.path, f"its history: {error}") from None
    except TuiGruError as error:  # for example, a model that does not fit into memory
        raise SessionFileError(f"{file.path} cannot be opened here: {error}") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        raise damaged(file.path, f"its contents ({type(error).__name__})") from error


class _Reader:
    """Reads one file. Each segment is created once, because branches and changes share segments."""

    def __init__(self, file: SessionFile) -> None:
        self._file = file
        run = self._fact("run", facts.RUN)
        self._config = self._config_of(run)
        self._epochs = run["epochs"]
        self._memory = Memory(self._config, run["history_memory"])
        self._program = program_of(self._config)
        if run.get("ticks", self._program.ticks) != self._program.ticks:
            raise OlderSessionError(
                f"{file.path} cannot be opened here: in the version of tui-gru that wrote it, a batch of this model has "
                f"{run['ticks']:,} lines, and in this one {self._program.ticks:,}; open it with that version"
            )
        self._machines = [Machine(*each) for each in run.get("machines", [[run["machine"], run["first_batch"]]])]
        self._require(self._machines[:1] == [(run["machine"], run["first_batch"])], "run")
        self._segments: dict[int, HistorySegment] = {}

    def state(self) -> tuple[State, list[str]]:
        here = self._fact("here", facts.HERE)
        branches = self._branches(here)
        if not branches.timeline.last.own:
            _look_at(branches.timeline)
        kept, unreadable = self._kept(self._fact("kept", facts.KEPT))
        state = State(
            self._config,
            self._epochs,
            branches,
            tick=here["tick"],
            stride=self._step_memory(StepMemory(**here["stride"]), branches, here["tick"]),
            stop_on_nan=here["stop_on_nan"],
            samples=tuple(self._sample(fact) for fact in self._fact("samples", facts.SAMPLES)),
            hit_counts=self._hit_counts(here.get("counted"), branches.timeline),
            **kept,
        )
        return state, unreadable

    def _config_of(self, run: dict[str, Any]) -> Config:
        if "recording" in run:
            from tui_gru.interop.opening.recorded import recognised_run  # imported late: few sessions are on a recording

            return GivenConfig.of_given(recognised_run(run["recording"], self._file.path.parent))
        return GivenConfig.of_given(given_of(run["given"], self._array(KEY))) if "given" in run else Config.of(**run["config"])

    def _fact(self, key: str, check: FieldCheck) -> Any:
        return facts.read(self._file, key, check)

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            raise damaged(self._file.path, what)

    def _branches(self, here: dict[str, Any]) -> Branches:
        named, current = self._fact("branches", facts.BRANCHES), here["branch"]
        branches = Branches(
            {name: self._branch([last, here["newest"] if name == current else newest]) for name, last, newest in named},
            here["branch"],
            tuple(self._change(f"done/{i}") for i in range(here["done"])),
            tuple(self._change(f"undone/{i}") for i in range(here["undone"])),
        )
        self._require(len(branches.named) == len(named) and branches.current in branches.named, "the names of its branches")
        tick = here["tick"]
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
        fact = self._fact(key, facts.CHANGE)
        return BranchChange(**{**fact, "other": fact["other"] and self._branch(fact["other"])})

    def _branch(self, fact: list[int]) -> Branch:
        number, newest = fact
        timeline = Timeline(self._segment(number), self._memory)
        reached = (timeline.computed + 1) * self._program.ticks
        there = self._config.given is None or timeline.computed < self._config.num_batches
        self._require(there and timeline.last.start <= newest <= reached, "how far a branch has come")
        return Branch(timeline, newest)

    def _segment(self, number: int) -> HistorySegment:
        """Return the segment with a number in the file; creates the segments before it first."""
        chain: list[tuple[int, dict[str, Any]]] = []
        at: int | None = number
        while at is not None and at not in self._segments:
            fact = self._fact(f"segment/{at}", facts.SEGMENT)
            chain.append((at, fact))
            self._require(fact["before"] is None or fact["before"] < at, f"segment/{at}")
            at = fact["before"]
        for at, fact in reversed(chain):
            self._segments[at] = self._create_segment(at, fact, None if fact["before"] is None else self._segments[fact["before"]])
        return self._segments[number]

    def _create_segment(self, at: int, fact: dict[str, Any], before: HistorySegment | None) -> HistorySegment:
        action, start = JournalEntry.of(**fact["action"]), fact["start"]
        self._check(at, action, start, before)
        letters = None if before is None else before.settings.letters
        if action.kind == "edit" and action.name == "text":
            letters = TextEdit(action.index[0], action.value, letters)
        settings = TrainingSettings(fact["learning"], self._rule(at, fact), fact["once"], letters)
        segment = HistorySegment(self._memory, start, settings, action, before)
        self._restore_history(at, segment)
        return segment

    def _rule(self, at: int, fact: dict[str, Any]) -> dict[str, float]:
        """Return the settings of the update rule in a segment. The file has those that were changed, and the learning rate."""
        rule = self._config.settings
        for name, value in {**fact.get("rule", {}), "learning_rate": fact["learning_rate"]}.items():
            self._require(name in rule, f"segment/{at}")
            try:
                rule[name] = check_setting(name, value)
            except TuiGruError:
                raise damaged(self._file.path, f"segment/{at}") from None
        return rule

    def _check(self, at: int, action: JournalEntry, start: int, before: HistorySegment | None) -> None:
        """Check that a segment starts within the segment before it, with a change that is possible there."""
        here = position_of(self._program, start)
        if before is None:
            fit = action.kind == "begin" and start == 0
        else:
            fit = action.kind != "begin" and before.start <= start and here.number <= before.computed
        self._require(fit, f"segment/{at}")
        if action.kind == "edit" and before is not None:
            self._blank.learned = before.settings.learns(here.number) or here.offset > self._program.loss_tick
            try:
                edit = Edit(action.name, action.index, action.value)
                plan(edit, Moment(self._program, here, self._blank, self._config.vocabulary), before.settings)
            except TuiGruError:
                raise damaged(self._file.path, f"segment/{at}") from None

    @cached_property
    def _blank(self) -> BatchRecord:
        """A record for testing which changes are possible at a position; its numbers do not matter."""
        return BatchRecord(self._config.compiled)

    def _restore_history(self, at: int, segment: HistorySegment) -> None:
        fact, spacing = self._fact(f"history/{at}", facts.HISTORY), segment.first_batch
        starts, pieces = self._entries(f"columns/{at}", COLUMNS)
        numbers = [np.stack([piece[name] for name in COLUMNS], axis=1) for piece in pieces]
        ends = np.cumsum([0, *map(len, numbers)]).tolist()
        float64 = all(piece[name].dtype == np.float64 for piece in pieces for name in COLUMNS)
        self._require(float64 and starts == ends[:-1] and ends[-1] == fact["length"], f"history/{at}")
        batches, rows = self._entries(f"checkpoints/{at}", ("row",))
        fit = all((row["row"].shape, row["row"].dtype) == (self._row.shape, self._row.dtype) for row in rows)
        there = batches == sorted(set(batches)) and (not batches or spacing <= batches[0] <= batches[-1] <= spacing + ends[-1])
        self._require(fit and there and len(rows) == fact["checkpoints"], f"history/{at}")
        self._require(segment.before is not None or batches[:1] == [0], f"history/{at}")
        checkpoints = {batch: row["row"].tobytes() for batch, row in zip(batches, rows, strict=True)}
        runs = fact.get("machines", [[segment.first_batch, 0]])
        begins = [batch for batch, _ in runs]
        known = begins == sorted(set(begins)) and begins[:1] == [segment.first_batch] and begins[-1] < spacing + ends[-1]
        self._require(known and all(number < len(self._machines) for _, number in runs), f"history/{at}")
        machines = [(batch, self._machines[number]) for batch, number in runs]
        if self._memory.here is None:
            self._begin(segment, numbers, checkpoints, machines[0][1])
        else:
            segment.restore(numbers, checkpoints, ())
        segment.computed_by(tuple((batch, None if machine == self._memory.here else machine) for batch, machine in machines))

    def _begin(self, segment: HistorySegment, numbers: list[ScalarRows], checkpoints: dict[int, bytes], recorded: Machine) -> None:
        """Restore the beginning of the run, and compute its first batch to see whether this machine recorded it.

        Its name alone does not prove that: machines of the same name can compute different bits.
        """
        segment.restore(numbers, checkpoints, ((0, recorded),))  # compared by size until it is known
        record = segment.record(0)[1].as_computed()
        here = Machine(this_machine(), fingerprint(record))
        self._memory.here = here
        self._memory.machines = tuple(dict.fromkeys((*self._machines, here)))
        if here == recorded:
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
        from tui_gru.debugger.state.hit_counts import HitCache, HitCounts

        fact, before, cache = self._fact("counts", facts.COUNTS), Timeline(self._segment(counted), self._memory), HitCache()
        known: dict[HitKey, HitCounts] = {}
        entries = [unpack(data) for _, data in self._file.arrays("counts")]
        for key, arrays, doubtful in zip(fact["keys"], entries, fact["doubtful"], strict=True):
            self._require(self._is_counted(arrays, before), "counts")
            known[tuple(key)] = HitCounts.of(arrays["counts"], doubtful, arrays.get("batches"), arrays.get("ticks"))
        cache.put(before, known)
        return {tuple(key): cache.of(timeline, tuple(key)) for key in fact["keys"]}

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
        if any(each.dtype != np.int64 or each.ndim != 1 for each in (batches, ticks)):
            return False
        if not ((batches >= 0) & (batches < len(counts))).all() or (np.diff(batches) <= 0).any() or (counts[batches] <= 0).any():
            return False
        return (
            len(ticks) == counts[batches].sum()
            and bool((np.diff(ticks) > 0).all())
            and np.array_equal((ticks - 1) // N, np.repeat(batches, counts[batches]))
        )

    def _sample(self, fact: dict[str, Any]) -> Sample:
        arrays, chars, vocabulary = self._array(f"sample/{fact['at']}"), fact["chars"], self._config.vocabulary
        index, y_hat = arrays["index"].tolist(), arrays.get("y_hat", np.empty((0, len(vocabulary))))
        fit = arrays["index"].dtype.kind == "i" and y_hat.dtype == np.float64 and y_hat.shape == (len(chars), len(vocabulary))
        known = index_of(vocabulary)
        self._require(fit and [known.get(char, -1) for char in chars] == index and -1 not in index, "samples")
        primer = as_text(fact["primer"], vocabulary)
        self._require(bool(primer) and set(primer) <= known.keys(), "samples")
        draws = tuple(Draw(*draw) for draw in zip(chars, index, y_hat, fact["uniforms"], strict=True))
        between = separator(vocabulary)
        return Sample(primer, fact["sampler"], float(fact["temperature"]), fact["seed"], draws, fact.get("tick"), between)

    def _kept(self, data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the fields of a state that the fact has; and the names whose values cannot be read, as those of another program.

        These are left out, and the rest of the session is opened.
        """
        fields: dict[str, Any] = {"kept": {name: value for name, value in data.items() if name not in ENTRIES}}
        unreadable = []
        for name, entry in ENTRIES.items():
            if name in data:
                try:
                    fields[entry.field] = self._kept_field(name, data[name])
                except (ValueError, RecursionError):
                    unreadable.append(name)
        return fields, unreadable

    def _kept_field(self, name: str, data: Any) -> Any:
        """Return one field, checked. Raises `ValueError`."""
        match name:
            case "marked":
                return reduce(Marks.with_mark, (Mark(**mark) for mark in facts.MARKS(data)), Marks())
            case "stops":
                return self._stops(facts.STOPS(data))
            case "left":
                return None if facts.LEFT(data) is None else tuple(data)
            case "hits":
                return {branch: tuple(ticks) for branch, ticks in facts.HITS(data).items()}
            case "log":
                return {branch: tuple(LogLine(*line) for line in lines) for branch, lines in facts.LOG(data).items()}
            case "compared":
                names = tuple(facts.listed(facts.text)(data))
                if len(names) not in (0, 2):
                    raise ValueError("is not two branches")
                return names
        return facts.text(data)

    def _stops(self, fact: dict[str, Any]) -> Stops:
        stops = Stops(
            tuple(Breakpoint(**one) for one in fact["breakpoints"]), tuple(Watch(**one) for one in fact["watches"]), fact["last_id"]
        )
        ids = [stop.id for stop in stops.all]
        if len(set(ids)) < len(ids) or any(id > stops.last_id for id in ids):
            raise ValueError("has invalid ids")
        if ids:
            from tui_gru.debugger.breakpoints.resolved import resolve  # imported late: includes the compiler of conditions

            for stop in stops.all:
                resolve(stop, self._program)
        return stops


def _look_at(timeline: Timeline) -> None:
    """Replay a few batches that another machine computed, so that the size of the difference is known from the start."""
    most = max(1, min(LOOKED_AT, LOOKED_AT_BYTES // timeline.program.config.record_bytes))
    timeline.walk(0, min(most - 1, timeline.computed), lambda batch, record: False)
