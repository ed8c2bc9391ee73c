"""Reading back what `state_writer` has written: the same session, bit for bit, without running it again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger import facts
from tui_gru.debugger.branches import Branch, Branches, Change
from tui_gru.debugger.changes import changeable
from tui_gru.debugger.divergence import DivergedError
from tui_gru.debugger.encoding import unpack
from tui_gru.debugger.facts import Check
from tui_gru.debugger.history import COLUMNS, Budget
from tui_gru.debugger.machine import this_machine
from tui_gru.debugger.position import position_of
from tui_gru.debugger.program import program_of
from tui_gru.debugger.records import Records
from tui_gru.debugger.segment import SETTINGS, Action, Memory, Segment, Settings
from tui_gru.debugger.session_errors import SessionFileError, damaged
from tui_gru.debugger.session_file import SessionFile
from tui_gru.debugger.state import State
from tui_gru.debugger.steps import Stride
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Config
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.sampling import Draw, Sample
from tui_gru.engine.trainer import Trainer

if TYPE_CHECKING:
    from tui_gru.debugger.tallies import Key, Tally


def read_state(file: SessionFile) -> State:
    """The state that was written last.

    Raises `DamagedSessionError` where something is missing or makes no sense, `DivergedError` where this machine does not
    compute what was recorded.
    """
    try:
        return _Reader(file).state()
    except (SessionFileError, DivergedError):
        raise
    except TuiGruError as error:  # a model that this machine has no room for, among others
        raise SessionFileError(f"{file.path} cannot be opened here: {error}") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        raise damaged(file.path, f"its contents ({type(error).__name__})") from error


class _Reader:
    """Reads one file. Segments and timelines are made once each, as branches and changes share them."""

    def __init__(self, file: SessionFile) -> None:
        self._file = file
        run = self._fact("run", facts.RUN)
        self._config = Config.of(**run["config"])
        self._epochs, self._machine = run["epochs"], run["machine"]
        self._memory = Memory(Budget(run["history_memory"]), Records(self._config.record_bytes))
        self._program = program_of(self._config)
        self._segments: dict[int, Segment] = {}
        self._timelines: dict[int, Timeline] = {}

    def state(self) -> State:
        here = self._fact("here", facts.HERE)
        branches = self._branches(here)
        self._prove(branches.timeline.segments[0])
        return State(
            self._config,
            self._epochs,
            branches,
            tick=here["tick"],
            stride=self._stride(Stride(**here["stride"]), branches, here["tick"]),
            stop_on_nan=here["stop_on_nan"],
            samples=tuple(self._sample(fact) for fact in self._fact("samples", facts.SAMPLES)),
            kept=self._fact("kept", facts.KEPT),
            hit_counts=self._hit_counts(here.get("counted"), branches.timeline),
        )

    def _fact(self, key: str, check: Check) -> Any:
        return facts.read(self._file, key, check)

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            raise damaged(self._file.path, what)

    def _branches(self, here: dict[str, Any]) -> Branches:
        named = self._fact("branches", facts.BRANCHES)
        branches = Branches(
            {name: self._branch(branch) for name, *branch in named},
            here["branch"],
            tuple(self._change(f"done/{i}") for i in range(here["done"])),
            tuple(self._change(f"undone/{i}") for i in range(here["undone"])),
        )
        self._require(len(branches.named) == len(named) and branches.current in branches.named, "the names of its branches")
        tick = here["tick"]
        self._require(tick <= branches.newest and branches.timeline.place(tick) == tick, "the place where it was left")
        self._require(branches.undoable == branches.done and branches.redoable == branches.undone, "its changes")
        return branches

    def _stride(self, stride: Stride, branches: Branches, tick: int) -> Stride:
        """The stride, if it has led to `tick` from somewhere that has been reached; else a new one."""
        begun = Stride.begin("", tick)
        if stride.at != tick or not stride.level or stride.origin > branches.newest:
            return begun
        return stride if stride.cut or stride.target(branches.timeline.ruler(stride.level), 0)[0] == tick else begun

    def _array(self, key: str) -> dict[str, NDArray[Any]]:
        entries = [data for _, data in self._file.arrays(key)]
        if len(entries) != 1:
            raise damaged(self._file.path, key)
        return unpack(entries[0])

    def _change(self, key: str) -> Change:
        fact = self._fact(key, facts.CHANGE)
        return Change(**{**fact, "other": fact["other"] and self._branch(fact["other"])})

    def _branch(self, fact: list[int]) -> Branch:
        segment, newest = fact
        timeline = self._timeline(segment)
        reached = (timeline.computed + 1) * self._program.ticks
        self._require(timeline.segments[-1].start <= newest <= reached, "how far a branch has come")
        return Branch(timeline, newest)

    def _timeline(self, last: int) -> Timeline:
        """The timeline that ends with a segment; those before it are made first."""
        chain: list[tuple[int, dict[str, Any]]] = []
        at: int | None = last
        while at is not None and at not in self._timelines:
            fact = self._fact(f"segment/{at}", facts.SEGMENT)
            chain.append((at, fact))
            self._require(fact["parent"] is None or fact["parent"] < at, f"segment/{at}")
            at = fact["parent"]
        for at, fact in reversed(chain):
            before = None if fact["parent"] is None else self._timelines[fact["parent"]]
            segment = self._segment(at, fact, before)
            self._timelines[at] = Timeline(self._program, (*(before.segments if before else ()), segment), self._memory)
        return self._timelines[last]

    def _segment(self, at: int, fact: dict[str, Any], before: Timeline | None) -> Segment:
        self._check_segment(at, fact, before)
        settings = Settings(self._trainer(fact, before), fact["learning"], fact["learning_rate"], fact["once"])
        first = self._record(f"first/{at}", settings.trainer.config)
        number = fact["first_batch"]
        earlier = () if before is None or not self._program.earlier else _Earlier(before, number)
        segment = Segment(fact["start"], number, first, settings, self._memory, Action(**fact["action"]), earlier)
        self._restore_history(at, segment)
        return segment

    def _check_segment(self, at: int, fact: dict[str, Any], before: Timeline | None) -> None:
        """It takes over where the one before it has been, and was begun by an action on something that there is."""
        start = fact["start"]
        where = fact["first_batch"] == position_of(self._program, start).number
        if before is None:
            where = where and start == 0
        else:
            last = before.segments[-1]
            where = where and last.start < start and fact["first_batch"] <= last.computed
        known = {*changeable(self._program), *SETTINGS}
        args = fact["action"]["args"]
        changed = {*args.get("after", ()), *([args["name"]] if fact["action"]["kind"] == "edit" else ())}
        self._require(where and changed <= known, f"segment/{at}")

    def _trainer(self, fact: dict[str, Any], before: Timeline | None) -> Trainer:
        if before is not None and "text" not in fact:
            return before.segments[-1].settings.trainer
        config = Config.of(**{**asdict(self._config), "text": fact.get("text", self._config.text)})
        return Trainer(config, Corpus(config))

    def _record(self, key: str, config: Config) -> BatchRecord:
        record = BatchRecord(config.compiled)
        record.restore(self._array(key))
        characters = [record.ids(name) for name in config.model.page.inputs if config.model.page.inputs[name].one_hot]
        self._require(all(ids.min() >= 0 and ids.max() < config.vocab_size for ids in characters), key)
        return record

    def _restore_history(self, at: int, segment: Segment) -> None:
        fact, history = self._fact(f"history/{at}", facts.HISTORY), segment.history
        starts, pieces = self._entries(f"columns/{at}", COLUMNS)
        columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in COLUMNS}
        ends = np.cumsum([0, *(len(piece[COLUMNS[0]]) for piece in pieces)]).tolist()
        whole = starts == ends[:-1] and all(column.shape == (fact["length"],) for column in columns.values())
        batches, rows = self._entries(f"checkpoints/{at}", ("row",))
        first, config = segment.first, segment.settings.trainer.config
        like = np.frombuffer(first.before.tobytes() + first.states(end=False).tobytes(), config.dtype)
        fit = all((row["row"].shape, row["row"].dtype) == (like.shape, like.dtype) for row in rows)
        self._require(whole and fit and len(rows) == fact["checkpoints"], f"history/{at}")
        self._require(all(column.dtype == np.float64 for column in columns.values()), f"history/{at}")
        self._require(fact["spacing"] % history.spacing == 0, f"history/{at}")
        segment.restore(columns, fact["spacing"], [row["row"].tobytes() for row in rows], self._machine)
        there = list(history.checkpoints()[0])
        self._require(batches == there and (not there or there[-1] <= segment.computed + 1), f"history/{at}")

    def _entries(self, key: str, names: Iterable[str]) -> tuple[list[int], list[dict[str, NDArray[Any]]]]:
        """The numbers of the arrays under a key, and for each the arrays of these names."""
        entries = [(at, unpack(data)) for at, data in self._file.arrays(key)]
        self._require(all(arrays.keys() == set(names) for _, arrays in entries), key)
        return [at for at, _ in entries], [arrays for _, arrays in entries]

    def _hit_counts(self, counted: int | None, timeline: Timeline) -> dict[Key, Tally]:
        """The hit counts of a timeline, as far as it is the one that ends with the segment `counted`."""
        if counted is None:
            return {}
        from tui_gru.debugger.tallies import Tallies, Tally

        fact, before, tallies = self._fact("counts", facts.COUNTS), self._timeline(counted), Tallies()
        counts = [arrays["counts"] for arrays in self._entries("counts", ("counts",))[1]]
        fit = all(each.dtype == np.int32 and each.ndim == 1 and len(each) <= before.computed + 1 for each in counts)
        self._require(fit and all(((each >= -1) & (each <= self._program.ticks)).all() for each in counts), "counts")
        known = zip(fact["keys"], counts, fact["doubtful"], strict=True)
        tallies.put(before, {tuple(key): Tally.of(each, doubtful) for key, each, doubtful in known})
        return {tuple(key): tallies.of(timeline, tuple(key)) for key in fact["keys"]}

    def _sample(self, fact: dict[str, Any]) -> Sample:
        arrays, chars, vocabulary = self._array(f"sample/{fact['at']}"), fact["chars"], self._config.vocabulary
        index, y_hat = arrays["index"].tolist(), arrays.get("y_hat", np.empty((0, len(vocabulary))))
        fit = arrays["index"].dtype.kind == "i" and y_hat.dtype == np.float64 and y_hat.shape == (len(chars), len(vocabulary))
        self._require(fit and [vocabulary.find(char) for char in chars] == index and -1 not in index, "samples")
        self._require(bool(fact["primer"]) and set(fact["primer"]) <= set(vocabulary), "samples")
        draws = tuple(Draw(*draw) for draw in zip(chars, index, y_hat, fact["uniforms"], strict=True))
        return Sample(fact["primer"], fact["sampler"], float(fact["temperature"]), fact["seed"], draws, fact.get("tick"))

    def _prove(self, root: Segment) -> None:
        """Compute the first batch once more: a machine that computes something else cannot go on with this session."""
        settings, was = root.settings, root.first
        again = settings.trainer.new_record()
        learn, rate = settings.learns(0), settings.learning_rate
        settings.trainer.run(again, 0, was.before, was.states(end=False), learn=learn, learning_rate=rate)
        if _outcome(again) != _outcome(was):
            raise DivergedError(
                f"{self._file.path} was recorded with {self._machine}; this machine, {this_machine()}, does not compute the same "
                "numbers: open it where it was recorded"
            )


def _outcome(record: BatchRecord) -> tuple[bytes, bytes]:
    """What all that is computed in a batch comes to."""
    return record.array(record.compiled.model.page.output).tobytes(), record.after.tobytes()


class _Earlier(Sequence[BatchRecord]):
    """The records of an epoch's batches before one, run again when they are first asked for (carry `notebook`)."""

    def __init__(self, before: Timeline, batch: int) -> None:
        self._before, self._batch = before, batch

    @cached_property
    def _records(self) -> tuple[BatchRecord, ...]:
        return self._before.earlier(self._batch)

    @overload
    def __getitem__(self, index: int) -> BatchRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[BatchRecord]: ...
    def __getitem__(self, index: int | slice) -> BatchRecord | Sequence[BatchRecord]:
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[BatchRecord]:
        return iter(self._records)
