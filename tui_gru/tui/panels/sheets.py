"""Sheets: all parameters of a small model at a glance, or their gradients, or their last changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tui_gru.debugger.snapshot import Snapshot
from tui_gru.engine.config import Config
from tui_gru.engine.parameters import parameter_names
from tui_gru.tui.palette import Palette
from tui_gru.tui.widgets.boxes import Box, flow, hstack, text, titled, vstack
from tui_gru.tui.widgets.written import ENTRIES, Array, matrix, scale_of

#: More numbers than this are no picture any more.
MOST_ENTRIES = 400


@dataclass(frozen=True)
class Sheet:
    """One quantity that every parameter has: how it is read, and the sign before a parameter's name that says so."""

    name: str
    sign: str
    read: Callable[[Snapshot, str], Array | None]

    def fresh(self, snapshot: Snapshot, parameter: str) -> bool:
        """Whether the line just executed has computed it."""
        line = snapshot.line
        if line is None:
            return False
        return line.target == (f"d{parameter}" if self.sign == "d" else parameter)

    def there(self, snapshot: Snapshot) -> bool:
        """Whether it is computed for any parameter."""
        return any(self.read(snapshot, name) is not None for name in snapshot.record.parameters.names)


WEIGHTS = Sheet("weights", "", Snapshot.parameter)
GRADIENTS = Sheet("gradients", "d", Snapshot.gradient)
CHANGES = Sheet("last change", "Δ", Snapshot.last_step)


def fits(config: Config, width: int) -> bool:
    """Whether a model's parameters can be shown as sheets of this width: it is small, and no matrix wider than that."""
    entry = ENTRIES["signed", True].width + 1
    widest = max(config.hidden_size * entry + 1, config.vocab_size * entry + 1 + len("by "))
    return config.parameter_count <= MOST_ENTRIES and widest <= width


def sheet(palette: Palette, snapshot: Snapshot, kind: Sheet, width: int, *, compact: bool, chosen: str | None = None) -> Box:
    """The matrices of one sheet: W over U for each gate, then what makes the output, and the biases.

    `chosen` is a parameter to mark. The names that the line just executed reads are picked out.
    """
    names = parameter_names(snapshot.config.reset)
    arrays = {name: kind.read(snapshot, name) for name in names}
    scale = max((scale_of(array) for array in arrays.values() if array is not None), default=1.0)

    def named(name: str, *, beside: bool = False) -> Box:
        shape = snapshot.record.parameters[name].shape
        box = matrix(
            palette,
            arrays[name],
            shape=(shape[0], shape[1]) if len(shape) == 2 else (1, shape[0]),
            scale=scale,
            fresh=kind.fresh(snapshot, name),
            compact=compact,
        )
        style = palette.cursor if name == chosen else palette.accent if _picked(kind, snapshot, name) else palette.dim
        title = text(palette, kind.sign + name, style)
        return hstack(title, replace(box, axis=0)) if beside else titled(title, box)

    gates = [_column(named(f"W{gate}"), named(f"U{gate}")) for gate in "zrh"]
    biases = [named(name, beside=True) for name in names if name[0] == "b" and name != "by"]
    output = [named("Wy", beside=True), vstack(named("by", beside=True), *biases)]
    roomy = sum(box.height for box in output) < gates[0].height
    return flow([*gates, _column(*output, leading=int(roomy))], width, gap=2)


def _column(*boxes: Box, leading: int = 1) -> Box:
    """The boxes one under another; columns beside each other begin on one line."""
    return replace(vstack(*boxes, gap=leading), axis=0)


def _picked(kind: Sheet, snapshot: Snapshot, name: str) -> bool:
    line = snapshot.line
    return line is not None and (kind.sign + name in line.reads or kind.fresh(snapshot, name))
