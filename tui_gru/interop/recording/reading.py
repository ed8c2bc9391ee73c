"""Reading of a recording: its steps, their ranks and their contents. The recording may still be growing; reading never changes
it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TypeVar

from tui_gru.engine.numbers import gib
from tui_gru.interop.capture.calls import CapturedStep, GRUModule
from tui_gru.interop.errors import ModelFileError, RecordingError, printable
from tui_gru.interop.recording.encoding import module_of
from tui_gru.interop.recording.folder import RUN, RecordingVersionError, read_run, shard_name, step_in
from tui_gru.interop.recording.listing import KeptStep, RecordingContents, list_folder
from tui_gru.interop.recording.outlines import Outlines
from tui_gru.interop.recording.shards import check_shard, read_shard

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Recording:
    """The contents of a recording's folder at the time of reading.

    `ranks` is the number of processes that trained together; `missing_ranks` are those without files. `steps` has the kept steps
    in order; `total` is the number of all steps. `closed` says that every rank with files has ended its recording; otherwise it
    is still being written, or was interrupted. `damaged` has a line, with the reason, for each part that cannot be read.
    """

    folder: Path
    modules: tuple[GRUModule, ...]
    ranks: int
    steps: tuple[KeptStep, ...]
    total: int
    missing_ranks: tuple[int, ...] = ()
    closed: bool = False
    damaged: tuple[str, ...] = ()

    def gaps(self) -> tuple[tuple[int, int], ...]:
        """Return the gaps between recorded steps, each as the step before and the step after the gap."""
        pairs = zip(self.steps, self.steps[1:], strict=False)
        return tuple((a.number, b.number) for a, b in pairs if b.number > a.number + 1)

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
        ranks = self._kept(number).ranks
        return tuple(rank for rank in ranks if self._is_intact(number, rank)) if len(ranks) > 1 else ranks

    def _is_intact(self, number: int, rank: int) -> bool:
        try:
            self.outline(number, rank)
        except RecordingError:
            return False
        return True

    def _path(self, number: int, rank: int | None) -> Path:
        ranks = self._kept(number).ranks
        if rank is not None and rank not in ranks:
            raise RecordingError(f"{_shown(self.folder)}: rank {rank} did not keep step {number}; {_named(ranks)} did")
        return self.folder / shard_name(number, ranks[0] if rank is None else rank)

    def _kept(self, number: int) -> KeptStep:
        if (kept := self._by_number.get(number)) is not None:
            return kept
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
        what = "it is a file" if path.exists() else "there is no such folder"
        raise RecordingError(f"{_shown(path)}: {what}; give the folder that tui_gru.record wrote", option="path")
    return _read(path, lambda: _opened(path))


def _opened(folder: Path) -> Recording:
    listing = list_folder(folder)
    damaged = list(listing.damaged)
    try:
        run = read_run(folder)
        modules = tuple(module_of(entry) for entry in run["modules"])
        ranks = run["ranks"]
        if type(ranks) is not int or not 1 <= ranks < 10**6:
            raise ModelFileError(f"{RUN} in it names {printable(ranks, 20)} ranks; it is damaged")
        if not modules:
            raise ModelFileError(f"{RUN} in it names no GRU; it is damaged")
    except RecordingVersionError:
        raise
    except (ModelFileError, OSError, KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, ModelFileError) else f"there is no {RUN} in it that can be read"
        if not listing.steps:
            raise ModelFileError(f"{reason}; give the folder that tui_gru.record wrote") from None
        damaged.append(reason)
        modules, ranks = _of_steps(folder, listing)
    here = listing.ranks
    return Recording(
        folder,
        modules,
        ranks,
        listing.steps,
        listing.total,
        tuple(rank for rank in range(ranks) if rank not in here),
        bool(here) and here == listing.closed_ranks,
        tuple(damaged),
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


def _read(path: Path, read: Callable[[], _Found]) -> _Found:
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
