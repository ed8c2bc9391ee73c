"""Which call of a module goes on from which, by the graph of autograd."""

from __future__ import annotations

import heapq
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from tui_gru.capture.calls import Seen
    from tui_gru.capture.pending import PendingCall

MOST_NODES = 4096  # that are looked at between two calls
MORE_NODES = 64  # that are looked at for another call, after one was reached
NO_NUMBER = 1 << 63  # and more: nodes that add to p.grad, which have no place in time

#: Nodes that pass on the numbers of one input, and its gradient, as they are.
COPIES = frozenset(
    f"{name}Backward0"
    for name in (
        *("Clone", "View", "UnsafeView", "ReshapeAlias", "Alias", "Squeeze", "Unsqueeze", "Transpose", "Permute", "T"),
        *("Select", "Slice", "Unbind", "Stack", "Cat", "ToCopy", "AsStrided"),
    )
)


class _End:
    """A mark at a node that computed last states of a call, after its timestep `at`: which of its outputs are which of them."""

    __slots__ = ("at", "call", "kind", "names")

    def __init__(self, call: weakref.ref[PendingCall], at: int, names: dict[int, str], kind: type | None = None) -> None:
        self.call, self.at, self.names, self.kind = call, at, names, kind


@dataclass(frozen=True)
class _Edge:
    """Where a node reads states of the call before: the inputs, with the names of the states."""

    node: Any
    inputs: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class _Path:
    """A way through the graph from the states with which a call begins to a node that reads those of the call before: the number of
    the state, and of the input at each node."""

    state: int
    steps: tuple[int, ...]


class Links:
    """The calls of a step by the nodes of the graph that computed their last states.

    A node has a number, which is greater than those of all nodes that it reads, so that a search goes back no further than to the
    first call of the module. The marks hold no tensor and no module: the graph must not hold what holds the graph.
    """

    def __init__(self) -> None:
        self._key = object()  # of its marks: another capture can have marks at the same nodes
        self._numbers: set[int] = set()  # of the nodes with a mark; threads have the same ones
        self._later: dict[int, _End] = {}  # of later timesteps of loops, in place of a mark
        self._first: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()  # the smallest of each module
        self._paths: weakref.WeakKeyDictionary[Any, tuple[list[_Path], bool]] = weakref.WeakKeyDictionary()

    def mark(self, call: PendingCall, tensors: Sequence[tuple[str, Tensor | None]]) -> None:
        """Mark the nodes that computed the last states of a call, the tensors that get the gradients with these names."""
        reference, at = call.reference, len(call.later)
        for name, tensor in tensors:
            if tensor is None or (node := tensor.grad_fn) is None:
                continue
            number, marks = node._sequence_nr(), _marks(node)
            end = marks.get(self._key) if number in self._numbers else None
            if end is not None and (end.call() is not call or end.at != at):
                continue  # the states of another call, which this one passes on
            if end is None:
                end = marks[self._key] = _End(reference, at, {})
                self._numbers.add(number)
                self._first[call.part] = min(number, self._first.get(call.part, number))
            end.names.setdefault(tensor.output_nr, name)

    def mark_later(self, call: PendingCall, hn: Tensor, cn: Tensor | None, out: Tensor | None) -> None:
        """Note the nodes of the latest timestep of a loop, which are new. Some of several outputs can be of one node.

        The number and the kind of a node show which it is: another thread has nodes with these numbers as well, but they are not
        in the graph of a loop on the CPU. Metadata would take as long as all the rest.
        """
        if not hn.is_cpu:
            return self.mark(call, (("dhn", hn), ("dcn", cn), ("dout", out)))
        node: Any = hn.grad_fn
        number = node._sequence_nr()
        self._later[number] = end = _End(call.reference, len(call.later), {hn.output_nr: "dhn"}, type(node))
        self._numbers.add(number)
        for name, tensor in (("dcn", cn), ("dout", out)):
            if tensor is None or (other := tensor.grad_fn) is None:
                continue
            if other is node:
                end.names[tensor.output_nr] = name
            else:
                number = other._sequence_nr()
                self._later[number] = _End(end.call, end.at, {tensor.output_nr: name}, type(other))
                self._numbers.add(number)

    def follow(self, call: PendingCall, tensors: Seen, same_memory: PendingCall | None, changed_memory: PendingCall | None) -> None:
        """Note the call of the same module that a call goes on from: that of which the graph computes its first states; without a
        graph that with the same memory, which the script may have changed."""
        states = [state for state in (tensors.h0, tensors.c0) if state is not None and state.grad_fn is not None]
        edges: list[_Edge] = []
        if states:
            before, is_straight, edges = self._reached(states, call.part)
            if before is not None and edges:  # all nodes between can be copies, of other rows or layers
                is_straight = is_straight and before.ended_with_numbers(tensors.h0, tensors.c0)
        else:
            before, is_straight = (same_memory, True) if same_memory is not None else (changed_memory, False)
        if before is None or before is call or before.is_followed or before.part is not call.part:
            call.chain = object()
            return
        before.is_followed, call.chain, call.follows = True, before.chain, weakref.ref(before)
        call.is_straight, call.is_linked = is_straight, bool(states)
        if not is_straight:
            both = (tensors.h0, tensors.c0)
            call.straight_states = tuple(i for i, s in enumerate(both) if s is not None and self._ends_at(s.grad_fn, before))
            for edge in edges:
                before.handles.append(edge.node.register_hook(before.adder(edge.inputs)))

    def _ends_at(self, node: Any, call: PendingCall) -> bool:
        return node is not None and (end := self._end(node, call.part)) is not None and _call_that_ended(end) is call

    def _end(self, node: Any, part: Module) -> _End | None:
        """Return the mark of a node that computed states of a call of a module."""
        number = node._sequence_nr()
        if number not in self._numbers:
            return None
        end = self._later.get(number)
        if end is None or end.kind is not type(node):
            end = _marks(node).get(self._key)
        call = None if end is None else end.call()
        return end if call is not None and call.part is part else None

    def _reached(self, states: Sequence[Any], part: Module) -> tuple[PendingCall | None, bool, list[_Edge]]:
        """Return the latest call of a module of whose states others are computed, whether these are the same numbers, and where
        nodes read them. There is no such call if one of another sequence is reached as well, as where the states of two branches of
        a tree are added."""
        ends = [self._end(state.grad_fn, part) for state in states]
        if ends[0] is not None and all(end is ends[0] or (end is not None and _are_of_one(end, ends[0])) for end in ends):
            return _call_that_ended(ends[0]), True, []
        first = self._first.get(part)
        if first is None:
            return None, False, []
        latest = self._paths.get(part)
        again = None if latest is None else self._along(latest[0], states, part)
        if latest is not None and again is not None and not again[0].is_followed:
            return again[0], latest[1], again[1]
        return self._searched(states, part, first)

    def _searched(self, states: Sequence[Any], part: Module, first: int) -> tuple[PendingCall | None, bool, list[_Edge]]:
        todo: list[tuple[int, int, Any, Any]] = []  # (-number, id, node, the route to it, backwards)
        # PyTorch makes a new object for a node each time that it is read, unless one is alive: only these have ids of their own.
        visited, alive = set[int](), [state.grad_fn for state in states]
        for at, node in enumerate(alive):
            if id(node) not in visited:
                visited.add(id(node))
                todo.append((-node._sequence_nr(), id(node), node, (None, at)))
        heapq.heapify(todo)
        before: PendingCall | None = None
        are_copies, left, readers = True, MOST_NODES, list[tuple[Any, Any]]()
        while todo and left:
            left -= 1
            _, _, node, route = heapq.heappop(todo)
            if (end := self._end(node, part)) is not None:
                call = end.call()
                if before is None:
                    if (before := _call_that_ended(end)) is None:
                        return None, False, []  # it has gone on from these states already
                    left = min(left, MORE_NODES)
                elif call is not None and call.chain is not before.chain:
                    return None, False, []
                continue
            if before is None:
                are_copies = are_copies and node.name() in COPIES
            readers.append((node, route))
            for i, (following, _) in enumerate(node.next_functions):
                if following is None or not first <= following._sequence_nr() < NO_NUMBER or id(following) in visited:
                    continue
                visited.add(id(following))
                alive.append(following)
                heapq.heappush(todo, (-following._sequence_nr(), id(following), following, (route, i)))
        if before is None:
            return None, False, []
        edges, paths = list[_Edge](), list[_Path]()
        for node, route in readers:
            if inputs := self._inputs(node, before):
                edges.append(_Edge(node, inputs))
                state, *steps = _forwards(route)
                paths.append(_Path(state, tuple(steps)))
        if not any(self._ends_at(state.grad_fn, before) for state in states):
            self._paths[part] = paths, are_copies
        return before, are_copies, edges

    def _inputs(self, node: Any, before: PendingCall) -> tuple[tuple[int, str], ...]:
        """Return the inputs of a node that are states of a call."""
        inputs = list[tuple[int, str]]()
        for i, (read, output) in enumerate(node.next_functions):
            end = None if read is None else self._end(read, before.part)
            if end is not None and _call_that_ended(end) is before and output in end.names:
                inputs.append((i, end.names[output]))
        return tuple(inputs)

    def _along(self, paths: Sequence[_Path], states: Sequence[Any], part: Module) -> tuple[PendingCall, list[_Edge]] | None:
        """Return the call at the end of the paths that led to the call before the last one, which proves it, and where nodes read
        it; None if one of them leads elsewhere."""
        before, edges = None, list[_Edge]()
        for path in paths:
            if path.state >= len(states):
                return None
            node = states[path.state].grad_fn
            for i in path.steps:
                read = node.next_functions
                if i >= len(read) or (node := read[i][0]) is None or self._end(node, part) is not None:
                    return None
            for read, _ in node.next_functions:
                if read is not None and (end := self._end(read, part)) is not None:
                    call = _call_that_ended(end)
                    if call is None or (before is not None and call is not before):
                        return None
                    before = call
            if before is None or not (inputs := self._inputs(node, before)):
                return None
            edges.append(_Edge(node, inputs))
        return None if before is None else (before, edges)


def _call_that_ended(end: _End) -> PendingCall | None:
    """Return the call that ended with the states of a mark; None if it has more timesteps."""
    call = end.call()
    return call if call is not None and end.at == len(call.later) else None


def _are_of_one(end: _End, other: _End) -> bool:
    return end.call() is other.call() and end.at == other.at


def _marks(node: Any) -> dict[object, _End]:
    """Return the metadata of a node, which stays with it as long as the graph is there."""
    marks: dict[object, _End] = node.metadata
    return marks


def _forwards(route: Any) -> list[int]:
    numbers = list[int]()
    while route is not None:
        route, i = route
        numbers.append(i)
    return numbers[::-1]
