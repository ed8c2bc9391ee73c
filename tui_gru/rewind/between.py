"""What a script changes between the end of one loop and the beginning of the next, as on a new epoch; a trial does it again."""

from __future__ import annotations

from typing import Any

import torch

from tui_gru.rewind import states
from tui_gru.rewind.states import ScriptState, equal_numbers

_ABSENT = object()


class Between:
    """The differences of two states of a script, with its weights the same in both."""

    def __init__(self, before: ScriptState, after: ScriptState) -> None:
        """Compare the states. Call `changes_weights` first: only then nothing else is needed."""
        self._after = after
        earlier = {(part[0], id(part[1])): part for part in before.parts}
        self._parts: list[tuple[Any, Any, Any, Any]] = []  # put back in full
        self._entries: list[tuple[dict[Any, Any], dict[Any, Any]]] = []  # entries of a dict that are others; _ABSENT: removed
        self._appended: list[tuple[Any, list[Any]]] = []
        for part in after.parts:
            put, owner, value, more = part
            was = earlier.get((put, id(owner)), _ABSENT)
            if was is _ABSENT:
                self._parts.append(part)
            elif put in (states.put_map, states.put_namespace):
                old = was[2]  # type: ignore[index]
                entries = {
                    key: value.get(key, _ABSENT) for key in {**old, **value} if value.get(key, _ABSENT) is not old.get(key, _ABSENT)
                }
                if entries:
                    self._entries.append((owner, entries))
            elif put is states.put_sequence:
                old = was[2]  # type: ignore[index]
                if len(value) >= len(old) and all(a is b for a, b in zip(old, value, strict=False)):
                    if len(value) > len(old):
                        self._appended.append((owner, value[len(old) :]))
                else:
                    self._parts.append(part)
            elif value is not was[2] or more is not was[3]:  # type: ignore[index]
                self._parts.append(part)
        self.tensors = [entry for key, entry in after.tensors.items() if entry.copy is not None and _differs(before, key, entry)]
        self._arrays = [
            (numbers, copy)
            for key, (numbers, copy, _) in after.arrays.items()
            if copy is not None
            and (key not in before.arrays or before.arrays[key][1] is None or (before.arrays[key][1] != copy).any())
        ]
        same = {name for name, value in after.names.items() if before.names.get(name, _ABSENT) is value}
        self._names = {name: value for name, value in after.names.items() if name not in same}
        self._same = {name: value for name, value in after.names.items() if name in same}

    def put(self, names: dict[str, Any]) -> None:
        """Do to a trial, with these local names, what the script has done."""
        for name in [name for name in names if name not in self._names and name not in self._same]:
            del names[name]
        names.update(self._names)
        names.update({name: value for name, value in self._same.items() if name not in names})
        for put, owner, value, more in self._parts:
            put(owner, value, more)
        for contents, entries in self._entries:
            for key, value in entries.items():
                if value is _ABSENT:
                    contents.pop(key, None)
                else:
                    contents[key] = value
        for contents, values in self._appended:
            contents.extend(values)
        with torch.no_grad():
            for entry in self.tensors:
                entry.put()
        for numbers, copy in self._arrays:
            numbers[...] = copy


def changes_weights(before: ScriptState, after: ScriptState) -> bool:
    """Return True if a parameter is another one, or has other numbers."""
    parameters = [key for key, entry in after.tensors.items() if isinstance(entry.tensor, torch.nn.Parameter)]
    return any(key not in before.tensors or _differs(before, key, after.tensors[key]) for key in parameters)


def _differs(before: ScriptState, key: int, entry: states.TensorCopy) -> bool:
    old = before.tensors.get(key)
    if old is None or old.copy is None or entry.copy is None:
        return True
    return old.copy is not entry.copy and not equal_numbers(old.copy, entry.copy)
