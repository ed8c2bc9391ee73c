"""The state of a session that its file keeps: branches, stops, hits, marks, the log; immutable, replaced by each verb."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tui_gru import arguments, errors
from tui_gru.debugger.drafts import TextDraft
from tui_gru.debugger.position import Position, StepMemory
from tui_gru.debugger.stops import HitCounts, HitKey, LogLine, Stops
from tui_gru.debugger.timeline import Branches, BranchInfo, Timeline
from tui_gru.engine.config import Config
from tui_gru.errors import TuiGruError
from tui_gru.schema import Whole

if TYPE_CHECKING:
    from tui_gru.engine.sampling import Sample

# ------------------------------------------------------------------------------
# Marks: places on branches, each stored under a letter.


_LETTER = re.compile("[a-zA-Z]")


@dataclass(frozen=True)
class Mark:
    """A place on a branch, its letter, and a text about it of one line or several, which may be empty."""

    letter: str
    branch: str
    tick: Whole
    text: str = ""

    @property
    def on_one_line(self) -> str:
        """The text on one line."""
        return " ".join(self.text.split())


@dataclass(frozen=True)
class Marks:
    """All marks of a session, by letter. Immutable."""

    by_letter: Mapping[str, Mark] = field(default_factory=dict)

    @property
    def sorted(self) -> tuple[Mark, ...]:
        """a to z, then A to Z."""
        return tuple(self.by_letter[letter] for letter in sorted(self.by_letter, key=str.swapcase))

    def get(self, letter: str) -> Mark:
        """Return the mark of a letter. Raises `TuiGruError` if there is none."""
        check_letter(letter)
        if letter not in self.by_letter:
            existing = f"there are {' '.join(mark.letter for mark in self.sorted)}" if self.by_letter else "m and a letter sets one"
            raise TuiGruError(f"there is no mark {letter}; {existing}")
        return self.by_letter[letter]

    def with_mark(self, mark: Mark) -> Marks:
        check_letter(mark.letter)
        return Marks({**self.by_letter, mark.letter: mark})

    def without(self, letter: str) -> Marks:
        """Return the marks without one letter. Raises `TuiGruError` if there is none."""
        self.get(letter)
        return Marks({other: mark for other, mark in self.by_letter.items() if other != letter})

    def with_branch(self, old: str, new: str | None) -> Marks:
        """Return the marks after branch `old` was renamed to `new`, or deleted if `new` is None."""
        moved = {letter: replace(mark, branch=new or "") if mark.branch == old else mark for letter, mark in self.by_letter.items()}
        return Marks({letter: mark for letter, mark in moved.items() if mark.branch})


def check_letter(letter: Any) -> None:
    """Raise `TuiGruError` if `letter` is not one of a to z or A to Z."""
    if not isinstance(letter, str) or not _LETTER.fullmatch(letter):
        raise TuiGruError(f"a mark is a letter, a to z or A to Z, not {errors.shown(letter)}")


# ------------------------------------------------------------------------------
# The complete state of a session that is saved in its file and restored from it.


BranchTick = tuple[str, int]  # a branch, by name, and a tick
BACK = "'"  # in the place of the letter of a mark: the place before the last jump


@dataclass(frozen=True, eq=False)
class State:
    """A session between two verbs. Immutable; each verb creates a new state.

    The run: `config`, `epochs` (None: no end), `branches`. The position on the current branch: `tick`, and `stride`, the memory
    of the steps that led there. `left` is the place before the last jump, `compared` the two branches being compared, if any.
    `hits` has the ticks of each branch at which runs have stopped, the latest stop last, and `log` the lines that log points have
    written on it, in the order of time. `drafts` has what the model has written after some batches of each branch, in order. `kept`
    has the JSON values of the front end, by name. `hit_counts` has the hits of counted breakpoints on the current timeline; it is
    filled in when the state is saved, because counting them again takes long.
    """

    config: Config
    epochs: int | None
    branches: Branches
    tick: int = 0
    stride: StepMemory = field(default_factory=lambda: StepMemory.begin("", 0))
    stop_on_nan: bool = False
    samples: tuple[Sample, ...] = ()
    stops: Stops = field(default_factory=Stops)
    marks: Marks = field(default_factory=Marks)
    left: BranchTick | None = None
    last_condition: str = ""
    compared: tuple[str, ...] = ()
    hits: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    log: Mapping[str, tuple[LogLine, ...]] = field(default_factory=dict)
    drafts: Mapping[str, tuple[TextDraft, ...]] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)
    hit_counts: Mapping[HitKey, HitCounts] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<state at tick {self.tick} on {self.branch} of {self.config!r}>"

    @property
    def timeline(self) -> Timeline:
        """The timeline of the current branch."""
        return self.branches.timeline

    @property
    def branch(self) -> str:
        """The name of the current branch."""
        return self.branches.current

    @property
    def others(self) -> tuple[str, ...]:
        """The names of the other branches. Raises `TuiGruError` if there is none."""
        others = tuple(name for name in self.branches.names if name != self.branch)
        if not others:
            raise TuiGruError("there is only this branch; a change made in the past forks another")
        return others

    @property
    def comparing(self) -> str | None:
        """The branch that the current one is compared with; None if there is no comparison or that branch no longer exists."""
        others = [name for name in self.compared[::-1] if name != self.branch and name in self.branches.names]
        return others[0] if others else None

    def relative(self, forks: Sequence[BranchInfo]) -> str:
        """Return the source of the current branch, else the newest branch that forked from it, else the newest other branch.

        `forks` describes all branches. Raises `TuiGruError` if there is no other branch.
        """
        others = self.others
        source = next(fork.source for fork in forks if fork.name == self.branch)
        left = [fork.name for fork in forks if fork.source == self.branch]
        return source or (left or others)[-1]

    def destination(self, letter: str) -> BranchTick:
        """Return the place of a mark, or, for `'`, the place before the last jump.

        Raises `TuiGruError` if there is no such place, or its branch no longer exists.
        """
        if arguments.string("a mark", letter) != BACK:
            mark = self.marks.get(letter)
            where, place_name = (mark.branch, mark.tick), f"mark {letter}"
        elif self.left is None:
            raise TuiGruError("there is no place to jump back to yet; a jump, a search or go sets one")
        else:
            where, place_name = self.left, "the place before the last jump"
        if where[0] not in self.branches.named:
            raise TuiGruError(f"{place_name} is on the branch {where[0]}, which has been undone; redo may bring it back")
        return where

    def next_mark(self, forwards: bool) -> Mark:
        """Return the next mark, or the one before: in time, then by branch. Raises `TuiGruError` if there is none."""
        names = self.branches.names
        marks = {(names.index(mark.branch), mark.tick): mark for mark in self.marks.sorted if mark.branch in names}
        current = names.index(self.branch), self.tick
        beyond = [place for place in marks if (place > current if forwards else place < current)]
        if not beyond:
            if not marks:
                raise TuiGruError("there are no marks yet; m and a letter sets one")
            no = "this is the last mark" if forwards else "this is the first mark"
            raise TuiGruError(no if current in marks else f"there is no mark {'further on' if forwards else 'before this place'}")
        return marks[min(beyond) if forwards else max(beyond)]

    def mark_beyond(self, forwards: bool) -> Mark | None:
        """Return the next mark of this branch in a direction, None if there is none."""
        ticks = {mark.tick: mark for mark in self.marks.sorted if mark.branch == self.branch}
        beyond = [tick for tick in ticks if (tick > self.tick if forwards else tick < self.tick)]
        return ticks[min(beyond) if forwards else max(beyond)] if beyond else None

    def replaced(self, **changes: Any) -> State:
        """Return the state with other values of these fields: like `dataclasses.replace`, but faster, since every step calls it."""
        fields = self.__dict__
        state = object.__new__(State)
        state.__dict__.update(fields)
        state.__dict__.update(changes)
        if len(state.__dict__) > len(fields):
            raise TypeError(f"a state has no {', '.join(changes.keys() - fields.keys())}")
        return state


MOST_SAMPLES, LEAST_SAMPLES = 64, 2**16  # how many at most, and the bytes that they may use even if the budget is smaller
DRAW_BYTES = 320  # memory of a sampled character, in bytes, without its distribution


def newest_samples(samples: tuple[Sample, ...], memory: int) -> tuple[Sample, ...]:
    """Return the newest samples that fit into `memory` bytes: at least one, at most `MOST_SAMPLES`."""
    count, used = 0, 0
    for sample in reversed(samples[-MOST_SAMPLES:]):
        used += sum(DRAW_BYTES + draw.y_hat.nbytes for draw in sample.draws)
        if count and used > max(memory, LEAST_SAMPLES):
            break
        count += 1
    return samples[-count:]


# ------------------------------------------------------------------------------
# The outcome of a verb of a session: the position, what stopped the run, and the message.


StopCause = Literal["breakpoint", "condition", "not finite", "growth", "check"]


@dataclass(frozen=True)
class Notice:
    """A one-line message: an answer to the user, or a `warning` that something is wrong."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class StopEvent:
    """What stopped a run just after `tick`.

    `cause` is a breakpoint or a watch; the condition of a search; a number that is not finite; one that grew a thousandfold; or a
    batch whose numbers differ from PyTorch's. `notice` says which, in words; a search for a condition says nothing.
    """

    tick: int
    cause: StopCause
    notice: Notice | None = None


@dataclass(frozen=True)
class Outcome:
    """The position of a session after a verb, what stopped the run there (None: it ended or was interrupted), and the message."""

    position: Position
    stopped_by: StopEvent | None = None
    notice: Notice | None = None


def joined_notices(*notices: Notice | None) -> Notice | None:
    """Join notices into one, which is a warning if any of them is; None if all are empty."""
    filled = [notice for notice in notices if notice is not None and notice.text]
    if len(filled) < 2:
        return filled[0] if filled else None
    return Notice("; ".join(notice.text for notice in filled), any(notice.warning for notice in filled))


# ------------------------------------------------------------------------------
# The data that a state stores by branch name: the ticks at which runs have stopped, the lines in the log, and drafts.
#
# A new branch copies the data of the branch that it forked from, up to the fork, since its past is the same; what a run does on it
# afterwards must not show on the other. Renaming or deleting a branch renames or deletes its data.


MOST_HITS = 256

T = TypeVar("T")


def hits_here(state: State) -> tuple[int, ...]:
    """Return the ticks of the current branch at which runs have stopped."""
    return tuple(tick for tick in state.hits.get(state.branch, ()) if tick <= state.branches.newest)


def log_here(state: State) -> tuple[LogLine, ...]:
    """Return the log lines of the current branch."""
    return tuple(line for line in state.log.get(state.branch, ()) if line.tick <= state.branches.newest)


def with_hit(state: State, tick: int) -> dict[str, Any]:
    """Return the fields of a state that change when a run stops at `tick` of the current branch."""
    others = [hit for hit in state.hits.get(state.branch, ()) if hit != tick]
    return {"hits": _with_branch(state.hits, state.branch, (*others, tick)[-MOST_HITS:])}


def with_log(state: State, lines: tuple[LogLine, ...]) -> dict[str, Any]:
    """Return the fields of a state that change when the log of the current branch is replaced by `lines`."""
    return {"log": _with_branch(state.log, state.branch, lines)}


def drafts_here(state: State) -> tuple[TextDraft, ...]:
    """Return the drafts of the current branch up to the position."""
    return tuple(draft for draft in state.drafts.get(state.branch, ()) if draft.tick <= state.tick)


def with_draft(state: State, draft: TextDraft) -> dict[str, Any]:
    """Return the fields of a state that change when the model of the current branch has written a draft."""
    others = [other for other in state.drafts.get(state.branch, ()) if other.tick != draft.tick]
    return {"drafts": _with_branch(state.drafts, state.branch, tuple(sorted((*others, draft))))}


def taken_over(state: State, source: str, target: str, upto: int) -> dict[str, Any]:
    """Return the fields of a state that change when the data of `target` is replaced by that of `source` up to a tick."""
    return {
        "hits": _with_branch(state.hits, target, tuple(tick for tick in state.hits.get(source, ()) if tick <= upto)),
        "log": _with_branch(state.log, target, tuple(line for line in state.log.get(source, ()) if line.tick <= upto)),
        "drafts": _with_branch(state.drafts, target, tuple(draft for draft in state.drafts.get(source, ()) if draft.tick <= upto)),
    }


def moved_branch(state: State, old: str, new: str | None) -> dict[str, Any]:
    """Return the fields of a state that change when a branch is renamed, or deleted if `new` is None: hits, log, drafts, marks,
    last place, and, for a new name, the compared branches."""
    changes: dict[str, Any] = {}
    for name, by_branch in (("hits", state.hits), ("log", state.log), ("drafts", state.drafts)):
        without: Mapping[str, Any] = _with_branch(by_branch, old, ())
        changes[name] = without if new is None else _with_branch(without, new, by_branch.get(old, ()))
    if any(mark.branch == old for mark in state.marks.sorted):
        changes["marks"] = state.marks.with_branch(old, new)
    if state.left is not None and state.left[0] == old:
        changes["left"] = None if new is None else (new, state.left[1])
    if new is not None:
        changes["compared"] = tuple(new if name == old else name for name in state.compared)
    return changes


def _with_branch(by_branch: Mapping[str, tuple[T, ...]], branch: str, items: tuple[T, ...]) -> Mapping[str, tuple[T, ...]]:
    """Replace the items of a branch; a branch without items has no entry."""
    if items == by_branch.get(branch, ()):
        return by_branch
    return {name: entries for name, entries in {**by_branch, branch: items}.items() if entries}
