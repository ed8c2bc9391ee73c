"""The list of the steps in the folder of a recording, from its file names and lines, without reading steps."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.recording.encoding import number
from tui_gru.interop.recording.folder import (
    RecordingProgress,
    StepRecord,
    lines_name,
    rank_of_lines,
    read_line,
    read_text,
    shard_name,
    step_and_rank,
)
from tui_gru.interop.recording.shards import read_shard


@dataclass(frozen=True)
class KeptStep:
    """A recorded step: its number, from 0, and the ranks that recorded it. Loss and norm come from the lowest rank."""

    number: int
    ranks: tuple[int, ...]
    loss: float | None = None
    norm: float | None = None


@dataclass(frozen=True)
class RecordingContents:
    """The contents of a folder. `ranks` have files; `closed_ranks` have ended their recording."""

    steps: tuple[KeptStep, ...]
    total: int
    ranks: frozenset[int]
    closed_ranks: frozenset[int]
    damaged: tuple[str, ...]


@dataclass
class _Lines:
    """The contents of the file of lines of one rank."""

    steps: dict[int, StepRecord] = field(default_factory=dict)
    total: int = 0
    closed: bool = False
    damaged: int = 0


def list_folder(folder: Path) -> RecordingContents:
    """List a folder. Raises `OSError` if it cannot be read."""
    shards: dict[int, list[int]] = defaultdict(list)
    ranks = set[int]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if (found := step_and_rank(entry.name)) is not None:
                shards[found[0]].append(found[1])
            elif (rank := rank_of_lines(entry.name)) is not None:
                ranks.add(rank)
    damaged: list[str] = []
    lines = {rank: _lines(folder, rank, damaged) for rank in sorted(ranks)}
    steps = tuple(_kept(folder, step, tuple(sorted(of)), lines, damaged) for step, of in sorted(shards.items()))
    return RecordingContents(
        steps,
        max([steps[-1].number + 1 if steps else 0, *(of.total for of in lines.values())]),
        frozenset(ranks.union(*shards.values())),
        frozenset(rank for rank, of in lines.items() if of.closed),
        tuple(damaged),
    )


def _lines(folder: Path, rank: int, damaged: list[str]) -> _Lines:
    found = _Lines()
    try:
        text = read_text(folder / lines_name(rank))
    except ModelFileError as error:
        damaged.append(str(error))
        return found
    except OSError as error:
        damaged.append(f"{lines_name(rank)} in it cannot be read: {error.strerror or error}; the steps themselves are not affected")
        return found
    entries: list[StepRecord | RecordingProgress] = []
    for line in text.split("\n")[:-1]:  # the text after the last line break is an unfinished line
        try:
            entries.append(read_line(line))
        except ModelFileError:
            found.damaged += 1
    if found.damaged:
        damaged.append(f"{lines_name(rank)}: {found.damaged} lines of it are damaged; the steps themselves are not")
    found.steps = {entry.step: entry for entry in entries if isinstance(entry, StepRecord)}
    found.total = max((entry.steps if isinstance(entry, RecordingProgress) else entry.step + 1 for entry in entries), default=0)
    found.closed = any(isinstance(entry, RecordingProgress) and entry.closed for entry in entries)
    return found


def _kept(folder: Path, step: int, ranks: tuple[int, ...], lines: Mapping[int, _Lines], damaged: list[str]) -> KeptStep:
    for rank in ranks:
        if rank in lines and (line := lines[rank].steps.get(step)) is not None:
            return KeptStep(step, ranks, line.loss, line.norm)
    try:  # the process was killed between writing the step and its line; the step has the same data
        about, _ = read_shard(folder / shard_name(step, ranks[0]))
        return KeptStep(step, ranks, number(about["loss"]), number(about["norm"]))
    except (ModelFileError, OSError, KeyError, TypeError) as error:
        damaged.append(f"{shard_name(step, ranks[0])}: {printable(error, 200)}")
        return KeptStep(step, ranks)
