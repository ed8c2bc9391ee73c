"""Reads recordings: which steps there are, what they contain, and whether they are those of a saved session."""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from os import PathLike
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tui_gru.capture.calls import CapturedStep, GRUModule
from tui_gru.capture.facts import StepFacts
from tui_gru.capture.format import (
    RUN,
    EndKind,
    RecordingProgress,
    RecordingVersionError,
    ScriptEnd,
    StepRecord,
    check_shard,
    checked_header,
    decoded_number,
    file_text,
    lines_name,
    module_of,
    open_shard,
    rank_of_lines,
    read_description,
    read_line,
    read_run,
    read_shard,
    shard_name,
    step_and_rank,
    step_in,
)
from tui_gru.engine.numbers import counted, gib
from tui_gru.engine.source import with_blanks
from tui_gru.errors import ModelFileError, RecordingError, printable
from tui_gru.files import tensors as safetensors
from tui_gru.files.arrays import without_numbers

# ------------------------------------------------------------------------------
# The list of the steps in the folder of a recording, from its file names and lines, without reading steps.


@dataclass(frozen=True)
class KeptStep:
    """A recorded step: its number, from 0, and the ranks that recorded it. Loss and norm come from the lowest rank."""

    number: int
    ranks: tuple[int, ...]
    loss: float | None = None
    norm: float | None = None


@dataclass(frozen=True)
class RecordingContents:
    """The contents of a folder. `ranks` have files; `closed_ranks` have ended their recording; `end` says how the script did;
    `facts` has what the lowest rank has seen of its watched steps."""

    steps: tuple[KeptStep, ...]
    total: int
    ranks: frozenset[int]
    closed_ranks: frozenset[int]
    damaged: tuple[str, ...]
    end: ScriptEnd | None
    facts: tuple[StepFacts, ...] = ()


@dataclass
class _Lines:
    """The contents of the file of lines of one rank."""

    steps: dict[int, StepRecord] = field(default_factory=dict)
    total: int = 0
    closed: bool = False
    damaged: int = 0
    end: ScriptEnd | None = None
    facts: tuple[StepFacts, ...] = ()


def list_folder(folder: Path) -> RecordingContents:
    """List a folder. Raises `OSError` if it cannot be read."""
    shards: dict[int, list[int]] = defaultdict(list)
    ranks = set[int]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if (step_rank := step_and_rank(entry.name)) is not None:
                shards[step_rank[0]].append(step_rank[1])
            elif (rank := rank_of_lines(entry.name)) is not None:
                ranks.add(rank)
    damaged: list[str] = []
    lines = {rank: _lines(folder, rank, damaged) for rank in sorted(ranks)}
    steps = tuple(_kept_step(folder, step, tuple(sorted(of)), lines, damaged) for step, of in sorted(shards.items()))
    return RecordingContents(
        steps,
        max([steps[-1].number + 1 if steps else 0, *(of.total for of in lines.values())]),
        frozenset(ranks.union(*shards.values())),
        frozenset(rank for rank, of in lines.items() if of.closed),
        (*_deleted(lines, shards), *damaged),
        min((of.end for of in lines.values() if of.end is not None), key=lambda end: [*EndKind].index(end.kind), default=None),
        lines[min(lines)].facts if lines else (),
    )


def _deleted(lines: Mapping[int, _Lines], shards: Mapping[int, Collection[int]]) -> Iterator[str]:
    """Say which steps the lines name whose files are not there: a recorder deletes none."""
    for rank, of in lines.items():
        steps = sorted(step for step in of.steps if rank not in shards.get(step, ()))
        if steps:
            which = f"step {steps[0]:,}" if len(steps) == 1 else f"steps {steps[0]:,} to {steps[-1]:,}"
            whose = f" of rank {rank}" if len(lines) > 1 else ""
            yield (
                f"{counted(len(steps), 'file')}{whose} that was written is not there any more: {which}"
                if len(steps) == 1
                else (f"{counted(len(steps), 'file')}{whose} that were written are not there any more, among {which}")
            )


def stamp_of(folder: Path) -> tuple[int, ...]:
    """Return what differs once a process has written to a recording: when a file came into its folder, and the lengths of its
    lists. It is quick. Raises `RecordingError`."""

    def lengths() -> Iterator[int]:
        yield os.stat(folder).st_mtime_ns
        with os.scandir(folder) as entries:
            yield from (entry.stat().st_size for entry in entries if rank_of_lines(entry.name) is not None)

    return _read(folder, lambda: tuple(lengths()))


def _lines(folder: Path, rank: int, damaged: list[str]) -> _Lines:
    lines = _Lines()
    try:
        text = file_text(folder / lines_name(rank))
    except ModelFileError as error:
        damaged.append(str(error))
        return lines
    except OSError as error:
        damaged.append(f"{lines_name(rank)} in it cannot be read: {error.strerror or error}; the steps themselves are not affected")
        return lines
    entries: list[StepRecord | RecordingProgress] = []
    for line in text.split("\n")[:-1]:  # the text after the last line break is an unfinished line
        try:
            entry = read_line(line)
            if isinstance(entry, StepFacts):
                lines.facts = (*lines.facts, entry)
            else:
                entries.append(entry)
        except ModelFileError:
            lines.damaged += 1
    if lines.damaged:
        damaged.append(f"{lines_name(rank)}: {lines.damaged} lines of it are damaged; the steps themselves are not")
    lines.steps = {entry.step: entry for entry in entries if isinstance(entry, StepRecord)}
    lines.total = max((entry.steps if isinstance(entry, RecordingProgress) else entry.step + 1 for entry in entries), default=0)
    progress = [entry for entry in entries if isinstance(entry, RecordingProgress)]
    last = max(progress, key=lambda entry: entry.missed, default=None)
    if last is not None and last.missed:
        steps = f"{last.missed:,} steps" if last.missed > 1 else "a step"
        damaged.append(f"{steps} could not be written: {last.why_missed}")
    lines.closed = any(entry.closed for entry in progress)
    lines.end = next((entry.end for entry in reversed(progress) if entry.closed), None)
    return lines


def _kept_step(folder: Path, step: int, ranks: tuple[int, ...], lines: Mapping[int, _Lines], damaged: list[str]) -> KeptStep:
    for rank in ranks:
        if rank in lines and (line := lines[rank].steps.get(step)) is not None:
            return KeptStep(step, ranks, line.loss, line.norm)
    try:  # the process was killed between writing the step and its line; the step has the same data
        about, _ = read_shard(folder / shard_name(step, ranks[0]))
        return KeptStep(step, ranks, decoded_number(about["loss"]), decoded_number(about["norm"]))
    except (ModelFileError, OSError, KeyError, TypeError) as error:
        damaged.append(f"{shard_name(step, ranks[0])}: {printable(error, 200)}")
        return KeptStep(step, ranks)


# ------------------------------------------------------------------------------
# Reads outlines of steps: a step with zeros in place of all numbers, which takes no memory.
#
# Most steps of a run have the same calls with the same shapes. Their headers differ in a few numbers only, and are checked once.


_COUNT = rb"(?:0|[1-9]\d{0,14})"
_VALUE = rb'(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|null|\\"(?:nan|-?inf)\\")'
_WORDS = rb'\\"(?:every|trigger|before|end)\\"'
_SETTINGS = rb'\{(?:\\"\w+\\": %s(?:, (?=\\"))?)*\}' % _VALUE
#: The parts of a description that differ from step to step, as they stand in the header: JSON in a string of JSON.
_DIFFERENT = re.compile(
    rb'(?:\\"(?:(number|not_kept)\\": %s|(loss|norm)\\": %s|(why)\\": %s|(settings)\\": %s)|%s)(?=[,}])'
    % (_COUNT, _VALUE, _WORDS, _SETTINGS, rb'"checksums":"[0-9a-f ]*"')
)
_NUMBER = re.compile(rb'\\"number\\": (%s)[,}]' % _COUNT)

OutlineKey = tuple[bytes | int | None, ...]  # the header without its numbers, and the size of what follows it


class Outlines:
    """The outlines of the steps of one recording. Steps with the same calls and shapes share one."""

    def __init__(self) -> None:
        self._by_key: dict[OutlineKey, CapturedStep] = {}

    def read(self, path: Path) -> CapturedStep:
        """Return the outline of a step, whose number, loss and settings may be those of another step. Raises `ModelFileError` if
        the header is damaged, or `OSError`."""
        file = open_shard(path)
        text = safetensors.header_text(file)
        checked_header(text)
        key = *_DIFFERENT.split(text.rstrip(b" ")), file.size - len(text)
        outline, number = self._by_key.get(key), _NUMBER.search(text)
        if outline is not None and number is not None and path.name == shard_name(int(number[1]), outline.rank):
            return outline
        about, tensors = read_description(file)
        step = step_in(path, {name: without_numbers(tensor) for name, tensor in tensors.items()}, about)
        self._by_key[key] = step
        return step


# ------------------------------------------------------------------------------
# Reading of a recording: its steps, their ranks and their contents. The recording may still be growing; reading never changes it.


_Contents = TypeVar("_Contents")


@dataclass(frozen=True)
class Recording:
    """The contents of a recording's folder at the time of reading.

    `ranks` is the number of processes that trained together; `missing_ranks` are those without files. `steps` has the kept steps
    in order; `total` is the number of all steps. `closed` says that every rank with files has ended its recording; otherwise it
    is still being written, or was interrupted. `damaged` has a line, with the reason, for each part that cannot be read. `end` says
    how the script ended, None if it closed the recording as usual, or has not ended. `facts` has what was seen of its watched
    steps.
    """

    folder: Path
    modules: tuple[GRUModule, ...]
    ranks: int
    steps: tuple[KeptStep, ...]
    total: int
    missing_ranks: tuple[int, ...] = ()
    closed: bool = False
    damaged: tuple[str, ...] = ()
    end: ScriptEnd | None = None
    facts: tuple[StepFacts, ...] = ()

    def gaps(self) -> tuple[tuple[int, int], ...]:
        """Return the gaps between recorded steps, each as the step before and the step after the gap."""
        pairs = zip(self.steps, self.steps[1:], strict=False)
        return tuple((a.number, b.number) for a, b in pairs if b.number > a.number + 1)

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """The losses of all steps, recorded or not, (total); masked if unknown. They come from the lines of the lowest rank."""
        losses: list[float | None] = [None] * self.total
        for step in self.steps:
            losses[step.number] = step.loss
        for entry in self._lines:
            end = entry.steps if isinstance(entry, RecordingProgress) else entry.step + 1
            line_losses = entry.losses[max(len(entry.losses) - end, 0) :]
            if end <= self.total:
                losses[end - len(line_losses) : end] = line_losses
        return with_blanks(losses)

    @property
    def rates(self) -> tuple[tuple[int, float], ...]:
        """The learning rate of the optimizer's first group: the first step that has it, and each at which it changes, with the
        rate. Empty if the optimizer has none, or an earlier version has recorded it."""
        return tuple(change for entry in self._lines for change in entry.rates)

    @cached_property
    def _lines(self) -> tuple[StepRecord | RecordingProgress, ...]:
        """The lines of the lowest rank with the losses and rates of all steps; none if they cannot be read."""
        ranks = sorted(set(range(self.ranks)) - set(self.missing_ranks))
        try:
            text = file_text(self.folder / lines_name(ranks[0])) if ranks else ""
        except (ModelFileError, OSError):  # `damaged` says so
            return ()
        lines = list[StepRecord | RecordingProgress]()
        for line in text.split("\n")[:-1]:
            with contextlib.suppress(ModelFileError):
                entry = read_line(line, losses=True)
                if not isinstance(entry, StepFacts):
                    lines.append(entry)
        return tuple(lines)

    def load(self, number: int, rank: int | None = None) -> CapturedStep:
        """Return a step with all of its arrays, of one rank, by default the lowest that recorded it. Raises `RecordingError`."""
        path = self._path(number, rank)
        return _read(path, lambda: _load(path))

    def outline(self, number: int, rank: int) -> CapturedStep:
        """Return a step as `load` does, with zeros instead of all numbers; only the header is read and checked.

        Steps with the same calls and shapes share one outline, whose number, loss and settings are those of one of them. Raises
        `RecordingError`.
        """
        path = self._path(number, rank)
        return _read(path, lambda: self._outlines.read(path))

    def check(self, number: int, rank: int) -> int:
        """Compare the numbers of a step with their checksums. Returns the bytes that were read: 0 if it was recorded without
        checksums. Raises `RecordingError`."""
        path = self._path(number, rank)
        return _read(path, lambda: check_shard(path))

    def intact_ranks(self, number: int) -> tuple[int, ...]:
        """Return the ranks whose file of a step can be read, as far as its header shows; all if there is no other rank."""
        ranks = self._step(number).ranks
        return tuple(rank for rank in ranks if self._is_intact(number, rank)) if len(ranks) > 1 else ranks

    def _is_intact(self, number: int, rank: int) -> bool:
        try:
            self.outline(number, rank)
        except RecordingError:
            return False
        return True

    def _path(self, number: int, rank: int | None) -> Path:
        ranks = self._step(number).ranks
        if rank is not None and rank not in ranks:
            raise RecordingError(f"{_shown(self.folder)}: rank {rank} did not keep step {number}; {_named(ranks)} did")
        return self.folder / shard_name(number, ranks[0] if rank is None else rank)

    def _step(self, number: int) -> KeptStep:
        if (step := self._by_number.get(number)) is not None:
            return step
        near = min(self._by_number, key=lambda other: abs(other - number), default=None)
        hint = "no step was" if near is None else f"the nearest that was is {near}"
        raise RecordingError(f"{_shown(self.folder)}: step {number} was not kept; {hint}")

    @cached_property
    def _outlines(self) -> Outlines:
        return Outlines()

    @cached_property
    def _by_number(self) -> dict[int, KeptStep]:
        return {step.number: step for step in self.steps}


def open_recording(folder: str | PathLike[str]) -> Recording:
    """Open the recording in a folder, without reading its steps. Raises `RecordingError`, one line that says what to do."""
    path = Path(os.path.expanduser(folder))
    if not path.is_dir():
        problem = "it is a file" if path.exists() else "there is no such folder"
        raise RecordingError(f"{_shown(path)}: {problem}; give the folder that tui_gru.record wrote", option="path")
    return _read(path, lambda: _opened(path))


def _opened(folder: Path) -> Recording:
    listing = list_folder(folder)
    damaged = list(listing.damaged)
    try:
        run = read_run(folder)
        modules = tuple(module_of(entry) for entry in [*run["modules"], *run.get("cells", ())])
        ranks = run["ranks"]
        if type(ranks) is not int or not 1 <= ranks < 10**6:
            raise ModelFileError(f"{RUN} in it names {printable(ranks, 20)} ranks; it is damaged")
        if not modules and (listing.steps or "cells" not in run):
            raise ModelFileError(f"{RUN} in it names no GRU; it is damaged")
    except RecordingVersionError:
        raise
    except (ModelFileError, OSError, KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, ModelFileError) else f"there is no {RUN} in it that can be read"
        if not listing.steps:
            raise ModelFileError(f"{reason}; give the folder that tui_gru.record wrote") from None
        damaged.append(reason)
        modules, ranks = _of_steps(folder, listing)
        if not modules:
            raise ModelFileError(
                "its steps have no call of a recurrent module; the script was warned why, and cell= of tui_gru.record names a "
                "hand-written cell"
            ) from None
    ranks_present = listing.ranks
    return Recording(
        folder,
        modules,
        ranks,
        listing.steps,
        listing.total,
        tuple(rank for rank in range(ranks) if rank not in ranks_present),
        bool(ranks_present) and ranks_present == listing.closed_ranks,
        tuple(damaged),
        listing.end,
        listing.facts,
    )


def _of_steps(folder: Path, listing: RecordingContents) -> tuple[tuple[GRUModule, ...], int]:
    """Return the modules and the number of ranks from a step, if run.json does not have them."""
    last = listing.steps[-1]
    step = _load(folder / shard_name(last.number, last.ranks[0]))
    return tuple(dict.fromkeys(call.module for call in step.calls)), max(step.ranks, max(listing.ranks) + 1)


def _load(path: Path) -> CapturedStep:
    from tui_gru.engine.config import machine_memory

    size = path.stat().st_size
    if size > machine_memory() // 2:
        raise ModelFileError(f"it has {gib(size)}, more than half of this machine's memory; open it on a larger one")
    about, tensors = read_shard(path)
    return step_in(path, tensors, about)


def _read(path: Path, read: Callable[[], _Contents]) -> _Contents:
    try:
        return read()
    except ModelFileError as error:
        raise RecordingError(f"{_shown(path)}: {error}") from None
    except FileNotFoundError:
        raise RecordingError(f"{_shown(path)}: it is not there any more; put it back, or go to another step") from None
    except OSError as error:
        raise RecordingError(f"{_shown(path)}: it cannot be read: {error.strerror or error}; open the recording again") from None


def _shown(path: Path) -> str:
    return printable(path, 250)


def _named(ranks: Sequence[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"


# ------------------------------------------------------------------------------
# The identity of a recording, by which it is found again: its folder, and a hash of the header of every recorded step.


HASH = 16  # bytes


def identity_of(recording: Recording, name: str) -> dict[str, Any]:
    """Return the identity of the GRU called `name` in a recording, as JSON. Raises `RecordingError` for a step that cannot be
    read."""
    steps = [[step.number, _hash(recording.folder, step.number, recording.intact_ranks(step.number))] for step in recording.steps]
    return {"folder": str(recording.folder.resolve()), "name": name, "steps": steps}


def recognised(identity: Mapping[str, Any], other_folder: Path | None = None) -> Recording:
    """Return the recording with this identity, with the steps that it had when the identity was created; later steps are omitted.

    If it is not where it was, as on another machine, a folder of its name in `other_folder` takes its place. Raises
    `RecordingError`, one line that says what has moved or changed, and `ValueError` for an invalid identity.
    """
    numbers = [number for number, _ in identity["steps"]]
    if numbers != sorted(set(numbers)):
        raise ValueError("the steps of a recording are not in order")
    folder = Path(identity["folder"])
    shown = printable(folder, 250)
    if not folder.is_dir() and other_folder is not None:
        folder = other_folder / PureWindowsPath(identity["folder"]).name  # which splits a path of any system
    if not folder.is_dir():
        raise RecordingError(f"its recording is not at {shown} any more; move it back there, or open the recording where it is now")
    recording = open_recording(folder)
    steps = {step.number: step for step in recording.steps}
    for step, digest in identity["steps"]:
        if step not in steps:
            raise RecordingError(f"step {step:,} of its recording {shown} was deleted; open the recording itself")
        if _hash(folder, step, recording.intact_ranks(step)) != digest:
            raise RecordingError(f"step {step:,} of its recording {shown} has changed; open the recording itself")
    return replace(recording, steps=tuple(steps[number] for number, _ in identity["steps"]))


def _hash(folder: Path, number: int, ranks: tuple[int, ...]) -> str:
    """Return the hash of the sizes and headers of a step's files. A header has the loss, the norm, and the name, type and shape of
    every array."""
    digest = blake2b(digest_size=HASH)
    for rank in ranks:
        path = folder / shard_name(number, rank)
        try:
            file = open_shard(path)
            digest.update(f"{rank} {file.size} ".encode() + safetensors.header_text(file))
        except ModelFileError as error:
            raise RecordingError(f"{printable(path, 250)}: {error}") from None
        except OSError as error:
            raise RecordingError(
                f"{printable(path, 250)}: it cannot be read: {error.strerror or error}; open the recording again"
            ) from None
    return digest.hexdigest()
