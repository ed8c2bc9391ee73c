"""Reading back what `state_writer` has written: the same session, bit for bit, without running it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.branches import Branch, Branches, Change
from tui_gru.debugger.divergence import DivergedError, fingerprint
from tui_gru.debugger.encoding import unpack
from tui_gru.debugger.journal import Action, Letter, Settings
from tui_gru.debugger.machine import this_machine
from tui_gru.debugger.scalars import COLUMNS, Rows
from tui_gru.debugger.segment import Memory, Segment
from tui_gru.debugger.session_errors import damaged
from tui_gru.debugger.session_file import SessionFile
from tui_gru.debugger.state import State
from tui_gru.debugger.steps import Stride
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.config import Config
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.sampling import Draw, Sample


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
    """Reads one file. Segments are made once each, as branches and changes share them."""

    def __init__(self, file: SessionFile) -> None:
        self._file = file
        run = self._fact("run")
        self._config = Config.of(**run["config"])
        self._epochs, self._machine, self._first_batch = run["epochs"], run["machine"], run["first_batch"]
        self._memory = Memory(self._config, run["history_memory"])
        self._segments: dict[int, Segment] = {}

    def state(self) -> State:
        here = self._fact("here")
        named = {name: self._branch(branch) for name, *branch in self._fact("branches")}
        current = named[here["branch"]]
        branches = Branches(
            {**named, here["branch"]: Branch(current.timeline, here["newest"])},
            here["branch"],
            tuple(self._change(f"done/{i}") for i in range(here["done"])),
            tuple(self._change(f"undone/{i}") for i in range(here["undone"])),
        )
        self._prove(branches.timeline.beginning)
        return State(
            self._config,
            self._epochs,
            branches,
            tick=here["tick"],
            stride=Stride(**here["stride"]),
            stop_on_nan=here["stop_on_nan"],
            samples=tuple(self._sample(fact) for fact in self._fact("samples")),
            kept=self._fact("kept"),
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
        return Branch(Timeline(self._segment(segment), self._memory), newest)

    def _segment(self, number: int) -> Segment:
        """The segment with a number in the file; those before it are made first."""
        chain: list[tuple[int, dict[str, Any]]] = []
        at: int | None = number
        while at is not None and at not in self._segments:
            fact = self._fact(f"segment/{at}")
            chain.append((at, fact))
            if fact["before"] is not None and not 0 <= fact["before"] < at:
                raise damaged(self._file.path, f"segment/{at}")
            at = fact["before"]
        for at, fact in reversed(chain):
            self._segments[at] = self._made(at, fact, None if fact["before"] is None else self._segments[fact["before"]])
        return self._segments[number]

    def _made(self, at: int, fact: dict[str, Any], before: Segment | None) -> Segment:
        action, start = Action.of(**fact["action"]), fact["start"]
        if (action.kind == "begin") != (before is None) or start < (0 if before is None else before.start):
            raise damaged(self._file.path, f"segment/{at}")
        letters = None if before is None else before.settings.letters
        if action.kind == "edit" and action.name == "text":
            (place,) = action.index
            letters = Letter(place, action.value, letters)
            if not 0 <= place < len(self._config.text) or action.value not in list(self._config.vocabulary):
                raise damaged(self._file.path, f"segment/{at}")
        settings = Settings(fact["learning"], fact["learning_rate"], fact["once"], letters)
        segment = Segment(self._memory, start, settings, action, before)
        size = self._fact(f"history/{at}")
        checkpoints = {batch: unpack(data)["row"].tobytes() for batch, data in self._file.arrays(f"checkpoints/{at}")}
        segment.restore(self._numbers(at), checkpoints, self._machine)
        there = {"length": segment.history.length, "checkpoints": len(checkpoints)}
        if there != size or (before is None and 0 not in checkpoints):
            raise damaged(self._file.path, f"history/{at}")
        return segment

    def _numbers(self, at: int) -> Iterator[Rows]:
        """The numbers of a segment's batches, in pieces."""
        for _, data in self._file.arrays(f"columns/{at}"):
            piece = unpack(data)
            yield np.stack([piece[name] for name in COLUMNS], axis=1)

    def _sample(self, fact: dict[str, Any]) -> Sample:
        arrays = self._array(f"sample/{fact['at']}")
        drawn = zip(fact["chars"], arrays["index"].tolist(), arrays.get("y_hat", ()), fact["uniforms"], strict=True)
        draws = tuple(Draw(*draw) for draw in drawn)
        return Sample(fact["primer"], fact["sampler"], fact["temperature"], fact["seed"], draws)

    def _prove(self, beginning: Segment) -> None:
        """Compute the first batch once more: a machine that computes something else cannot go on with this session."""
        try:
            same = fingerprint(beginning.record(0)[1]) == self._first_batch
        except DivergedError:
            same = False
        if not same:
            raise DivergedError(
                f"{self._file.path} was recorded with {self._machine}; this machine, {this_machine()}, does not compute the same "
                "numbers: open it where it was recorded"
            )
