"""Reading back what `state_writer` has written: the same session, bit for bit, without running it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.branches import Branch, Branches, Change
from tui_gru.debugger.divergence import DivergedError
from tui_gru.debugger.encoding import unpack
from tui_gru.debugger.history import COLUMNS, Budget
from tui_gru.debugger.machine import this_machine
from tui_gru.debugger.program import program_of
from tui_gru.debugger.records import Records
from tui_gru.debugger.segment import Action, Memory, Segment, Settings
from tui_gru.debugger.session_errors import damaged
from tui_gru.debugger.session_file import SessionFile
from tui_gru.debugger.state import State
from tui_gru.debugger.steps import Stride
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.config import Config
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.parameters import Array, Parameters
from tui_gru.engine.record import Activations, BatchRecord, Deltas
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
    except TuiGruError:
        raise
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise damaged(file.path, f"its contents ({type(error).__name__})") from error


class _Reader:
    """Reads one file. Segments and timelines are made once each, as branches and changes share them."""

    def __init__(self, file: SessionFile) -> None:
        self._file = file
        run = self._fact("run")
        self._config = Config.of(**run["config"])
        self._epochs, self._machine = run["epochs"], run["machine"]
        self._memory = Memory(Budget(run["history_memory"]), Records(self._config.record_bytes))
        self._program = program_of(self._config)
        self._segments: dict[int, Segment] = {}
        self._timelines: dict[int, Timeline] = {}

    def state(self) -> State:
        here = self._fact("here")
        branches = Branches(
            {name: self._branch(branch) for name, *branch in self._fact("branches")},
            here["branch"],
            tuple(self._change(f"done/{i}") for i in range(here["done"])),
            tuple(self._change(f"undone/{i}") for i in range(here["undone"])),
        )
        self._prove(branches.timeline.segments[0])
        return State(
            self._config,
            self._epochs,
            branches,
            tick=here["tick"],
            stride=Stride(**here["stride"]),
            stop_on_nan=here["stop_on_nan"],
            samples=tuple(self._sample(fact) for fact in self._fact("samples")),
            kept=self._fact("kept"),
            hit_counts=self._hit_counts(here.get("counted"), branches.timeline),
        )

    def _fact(self, key: str) -> Any:
        return json.loads(self._file.fact(key))

    def _array(self, key: str) -> dict[str, NDArray[Any]]:
        entries = [data for _, data in self._file.arrays(key)]
        if len(entries) != 1:
            raise damaged(self._file.path, key)
        return unpack(entries[0])

    def _change(self, key: str) -> Change:
        fact = self._fact(key)
        return Change(**{**fact, "other": fact["other"] and self._branch(fact["other"])})

    def _branch(self, fact: list[int]) -> Branch:
        segment, newest = fact
        return Branch(self._timeline(segment), newest)

    def _timeline(self, last: int) -> Timeline:
        """The timeline that ends with a segment; those before it are made first."""
        chain: list[tuple[int, dict[str, Any]]] = []
        at: int | None = last
        while at is not None and at not in self._timelines:
            fact = self._fact(f"segment/{at}")
            chain.append((at, fact))
            if fact["parent"] is not None and not 0 <= fact["parent"] < at:
                raise damaged(self._file.path, f"segment/{at}")
            at = fact["parent"]
        for at, fact in reversed(chain):
            before = None if fact["parent"] is None else self._timelines[fact["parent"]]
            segment = self._segment(at, fact, before)
            self._timelines[at] = Timeline(self._program, (*(before.segments if before else ()), segment), self._memory)
        return self._timelines[last]

    def _segment(self, at: int, fact: dict[str, Any], before: Timeline | None) -> Segment:
        settings = Settings(self._trainer(fact, before), fact["learning"], fact["learning_rate"], fact["once"])
        first = self._record(f"first/{at}", settings.trainer.config)
        number = fact["first_batch"]
        earlier = () if before is None or not self._program.earlier else _Earlier(before, number)
        segment = Segment(fact["start"], number, first, settings, self._memory, Action(**fact["action"]), earlier)
        self._restore_history(at, segment)
        return segment

    def _trainer(self, fact: dict[str, Any], before: Timeline | None) -> Trainer:
        if before is not None and "text" not in fact:
            return before.segments[-1].settings.trainer
        config = Config.of(**{**asdict(self._config), "text": fact.get("text", self._config.text)})
        return Trainer(config, Corpus(config))

    def _record(self, key: str, config: Config) -> BatchRecord:
        arrays = self._array(key)
        activations = Activations(config)
        _fill(activations, "activations", arrays)
        deltas = None
        if any(name.startswith("deltas/") for name in arrays):
            deltas = Deltas(config)
            _fill(deltas, "deltas", arrays)
        parameters = self._parameters(arrays["parameters"], config)
        updated = self._parameters(arrays["updated"], config) if "updated" in arrays else parameters
        gradients = self._parameters(arrays["gradients"], config) if "gradients" in arrays else None
        learning_rate, loss, grad_norm = arrays["numbers"].tolist()
        record = BatchRecord(activations, deltas, gradients, learning_rate, loss, grad_norm)
        record.parameters, record.updated = parameters, updated
        return record

    def _parameters(self, flat: Array, config: Config) -> Parameters:
        parameters = Parameters.zeros(config)
        parameters.flat[...] = flat
        return parameters

    def _restore_history(self, at: int, segment: Segment) -> None:
        fact = self._fact(f"history/{at}")
        pieces = [unpack(data) for _, data in self._file.arrays(f"columns/{at}")]
        columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in COLUMNS}
        checkpoints = [unpack(data)["row"].tobytes() for _, data in self._file.arrays(f"checkpoints/{at}")]
        if len(columns["loss"]) != fact["length"] or len(checkpoints) != fact["checkpoints"]:
            raise damaged(self._file.path, f"history/{at}")
        segment.restore(columns, fact["spacing"], checkpoints, self._machine)

    def _hit_counts(self, counted: int | None, timeline: Timeline) -> dict[Key, Tally]:
        """The hit counts of a timeline, as far as it is the one that ends with the segment `counted`."""
        if counted is None:
            return {}
        from tui_gru.debugger.tallies import Tallies, Tally

        fact, before, tallies = self._fact("counts"), self._timeline(counted), Tallies()
        counts = [unpack(data)["counts"] for _, data in self._file.arrays("counts")]
        known = zip(fact["keys"], counts, fact["doubtful"], strict=True)
        tallies.put(before, {tuple(key): Tally.of(each, doubtful) for key, each, doubtful in known})
        return {tuple(key): tallies.of(timeline, tuple(key)) for key in fact["keys"]}

    def _sample(self, fact: dict[str, Any]) -> Sample:
        arrays = self._array(f"sample/{fact['at']}")
        drawn = zip(fact["chars"], arrays["index"].tolist(), arrays.get("y_hat", ()), fact["uniforms"], strict=True)
        draws = tuple(Draw(*draw) for draw in drawn)
        return Sample(fact["primer"], fact["sampler"], fact["temperature"], fact["seed"], draws)

    def _prove(self, root: Segment) -> None:
        """Compute the first batch once more: a machine that computes something else cannot go on with this session."""
        settings, was = root.settings, root.first
        again, state = settings.trainer.new_record(), was.activations.states[0]
        learn, rate = settings.learns(0), settings.learning_rate
        settings.trainer.run(again, 0, was.parameters, state, learn=learn, learning_rate=rate)
        if _outcome(again) != _outcome(was):
            raise DivergedError(
                f"{self._file.path} was recorded with {self._machine}; this machine, {this_machine()}, does not compute the same "
                "numbers: open it where it was recorded"
            )


def _outcome(record: BatchRecord) -> tuple[bytes, bytes]:
    """What all that is computed in a batch comes to."""
    return record.activations.y_hat.tobytes(), record.updated.flat.tobytes()


class _Earlier(Sequence[Activations]):
    """The activations of an epoch's batches before one, run again when they are first asked for (carry `notebook`)."""

    def __init__(self, before: Timeline, batch: int) -> None:
        self._before, self._batch = before, batch

    @cached_property
    def _activations(self) -> tuple[Activations, ...]:
        return self._before.earlier(self._batch)

    @overload
    def __getitem__(self, index: int) -> Activations: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Activations]: ...
    def __getitem__(self, index: int | slice) -> Activations | Sequence[Activations]:
        return self._activations[index]

    def __len__(self) -> int:
        return len(self._activations)

    def __iter__(self) -> Iterator[Activations]:
        return iter(self._activations)


def _fill(into: Activations | Deltas, kind: Literal["activations", "deltas"], arrays: dict[str, NDArray[Any]]) -> None:
    for name in into.owned:
        getattr(into, name)[...] = arrays[f"{kind}/{name}"]
