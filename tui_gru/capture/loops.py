"""Joins calls of one timestep that a script makes in a loop, over a cell or a decoder, into one call with as many timesteps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tui_gru.capture.calls import GRUCall, HeadCall, Take, fresh
from tui_gru.files.arrays import AnyArray


@dataclass(eq=False)
class CallLoop:
    """The calls of a loop so far, and for each the rows (B) that begin with the state before it; None if all do."""

    calls: list[GRUCall]
    carried: list[AnyArray | None] = field(default_factory=lambda: [None])


def joined(calls: Sequence[GRUCall], take: Take = fresh) -> tuple[GRUCall, ...]:
    """Return the calls of a step in order, with those of a loop joined into one, at the place of the first.

    A call continues a loop if it begins with the state that the loop ended with: with that state itself, which is then the same
    array, or with equal numbers, as in a detached state or a copy, in all rows or in some of them that are not 0. The state itself
    comes first: of two loops with equal numbers, such as beams, each goes on with its own.
    """
    one_step = [call for call in calls if _is_one_step(call)]
    if len(one_step) < 2:
        return tuple(calls)
    ends, begins = {id(call.hn) for call in one_step}, {id(call.h0) for call in one_step if call.h0_given}
    by_numbers = _EndsByNumbers() if begins - ends else None
    loops, by_array = list[GRUCall | CallLoop](), dict[int, CallLoop]()
    for call in calls:
        if not _is_one_step(call):
            loops.append(call)
            continue
        loop, carried = by_array.get(id(call.h0)) if call.h0_given else None, None
        if loop is not None and _alike(loop.calls[-1], call):
            del by_array[id(call.h0)]  # a second call that begins with this state is another loop
        elif by_numbers is not None and call.h0_given and (found := by_numbers.find(call)) is not None:
            loop, carried = found
        else:
            loop = None
        if loop is None:
            loops.append(loop := CallLoop([call]))
        else:
            loop.calls.append(call)
            loop.carried.append(carried)
        if id(call.hn) in begins:
            by_array[id(call.hn)] = loop
        elif by_numbers is not None:
            by_numbers.add(loop)
    return tuple(each if isinstance(each, GRUCall) else _one_call(each, take) for each in loops)


def _is_one_step(call: GRUCall) -> bool:
    return call.timesteps == 1 and not call.module.bidirectional and call.lengths is None and call.states is None


def _alike(before: GRUCall, call: GRUCall) -> bool:
    """Return True if two calls had the same weights, and were made in the same way."""
    return (call.weights is before.weights and call.rows == before.rows) and (
        (call.dtype, call.autocast, call.training) == (before.dtype, before.autocast, before.training)
    )


class _EndsByNumbers:
    """The loops by the rows of the state that they end with. A row is found by its bytes, so a step with a thousand loops takes no
    longer than one with a thousand timesteps."""

    def __init__(self) -> None:
        self._loops: dict[tuple[int, bytes], list[tuple[CallLoop, int]]] = {}

    def add(self, loop: CallLoop) -> None:
        for row in _rows(loop.calls[-1].hn):
            self._loops.setdefault(row, []).append((loop, len(loop.calls)))

    def find(self, call: GRUCall) -> tuple[CallLoop, AnyArray | None] | None:
        """Return the loop that a call continues, and the rows that do; of several, that with most such rows, then the first."""
        carried: dict[CallLoop, list[int]] = {}
        for row in _rows(call.h0):
            for loop, length in self._loops.get(row, ()):
                if len(loop.calls) == length and _alike(loop.calls[-1], call):
                    carried.setdefault(loop, []).append(row[0])
        for loop, rows in sorted(carried.items(), key=lambda each: -len(each[1])):
            if len(rows) == call.rows:
                return loop, None
            if call.h0[:, rows].any():
                found = np.zeros(call.rows, bool)
                found[rows] = True
                return loop, found
        return None


def _rows(state: AnyArray) -> Iterator[tuple[int, bytes]]:
    """Yield each row of states (S, B, H) by its number and its bytes."""
    by_row = np.ascontiguousarray(state.transpose(1, 0, 2))
    return ((b, row.tobytes()) for b, row in enumerate(by_row))


def _one_call(loop: CallLoop, take: Take) -> GRUCall:
    """Return the calls of a loop as one call; a single call as it is."""
    run = loop.calls
    first, last, learned = run[0], run[-1], any(call.learned for call in run)
    if len(run) == 1:
        return first
    keep: AnyArray = np.ones((len(run), first.rows), first.x.dtype)
    for t, (call, carried) in enumerate(zip(run[1:], loop.carried[1:], strict=True), 1):
        keep[t] = (1 if carried is None else carried) if call.h0_attached or not learned else 0
    states_set = None
    if not keep.all():
        begun = _stack((call.h0 for call in run), first.h0, len(run), take)
        states_set = np.where(keep[:, None, :, None], np.zeros((), begun.dtype), begun)
    whole = replace(
        first,
        x=_stack((call.x[0] for call in run), first.x[0], len(run), take),
        out=_stack((call.out[0] for call in run), first.out[0], len(run), take),
        hn=last.hn,
        masks=tuple(np.concatenate(layer) for layer in zip(*(call.masks for call in run), strict=True)),
        head=_joined_head(run),
        backward_passes=max(call.backward_passes for call in run),
        notes=tuple(dict.fromkeys(note for call in run for note in call.notes)),
        keep=None if states_set is None else keep,
        states_set=states_set,
    )
    states = whole.out[:, None] if len(first.hn) == 1 else _stack((call.hn for call in run), first.hn, len(run), take)
    if not learned:
        return replace(whole, states=states)
    zeros = np.zeros_like(first.hn)
    flows = _stack((zeros if call.dhn is None else call.dhn for call in run), first.hn, len(run), take)
    dout = _stack((zeros[-1] if call.dout is None else call.dout[0] for call in run), first.out[0], len(run), take)
    return replace(whole, states=states, flows=flows, dout=dout, dhn=last.dhn)


def _stack(arrays: Iterable[AnyArray], like: AnyArray, count: int, take: Take) -> AnyArray:
    stacked = take((count, *like.shape), like.dtype)
    np.stack(list(arrays), out=stacked)
    return stacked


def _joined_head(run: Sequence[GRUCall]) -> HeadCall | None:
    heads = [call.head for call in run if call.head is not None]
    if len(heads) < len(run) or any(not np.array_equal(head.weight, heads[0].weight) for head in heads):
        return None
    dlogits = [np.zeros_like(head.logits) if head.dlogits is None else head.dlogits for head in heads]
    return replace(heads[0], logits=np.concatenate([head.logits for head in heads]), dlogits=np.concatenate(dlogits))
