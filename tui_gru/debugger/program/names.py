"""All names of a run, with their kinds and the meaning of their axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tui_gru.engine.compiling.scheduling import Schedule
from tui_gru.engine.compiling.update import WEIGHT
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.model import Model
from tui_gru.equations.axes import Axes
from tui_gru.equations.errors import EquationError, did_you_mean
from tui_gru.equations.names import with_word

if TYPE_CHECKING:
    from tui_gru.debugger.program.line_table import ProgramLine

#: Numbers of a batch that exist in every model.
NUMBERS = ("loss", "grad_norm", "max_weight")
COUNTERS = ("epoch", "batch", "t")
CHARACTERS = ("char", "target")
#: What an axis counts, in words.
_COUNTED = {"B": "row", "V": "character", "H": "unit", "D": "column", "I": "input"}


def counted(axis: str) -> str:
    """Return what an axis counts, in words."""
    return _COUNTED.get(axis, f"{axis} ")


class Spellings(dict[str, str]):
    """Every spelling of a readable name, and the name in code; `tokens` are those of a vocabulary that are longer than a
    character."""

    tokens: frozenset[str] = frozenset()


class ValueKind(Enum):
    """The kind of a name."""

    INPUT = "input"  # read from outside; readable as soon as its timestep begins
    STATE = "state"  # the state that a timestep reads: h_prev
    VALUE = "value"  # computed by the forward pass
    VALUE_GRADIENT = "value gradient"  # the gradient of a value
    PARAMETER = "parameter"
    GRADIENT = "gradient"  # of a parameter
    OPTIMIZER_STATE = "optimizer state"  # a state of the update rule: m_Wz
    UPDATE_VALUE = "update value"  # an intermediate value of the update: m_hat_Wz
    NUMBER = "number"  # one for the whole batch: loss
    SETTING = "setting"  # of the update rule: learning_rate
    COUNTER = "counter"
    CHARACTER = "character"


@dataclass(frozen=True)
class ProgramName:
    """One name. `axes` are the axes of its value at one timestep; `timed` says whether every timestep has its own value.

    `read_in`, for a state that is read or a gradient from the next timestep, is the line that reads it, in the same timestep.
    """

    name: str
    kind: ValueKind
    axes: Axes
    timed: bool = False
    read_in: str = ""

    @property
    def counted(self) -> tuple[str, ...]:
        """The meaning of each axis in words: row (of the batch), unit, character; column for one that joins different ones."""
        words = [dict.fromkeys(map(counted, axis.split("+"))) for axis in self.axes]
        return tuple("column" if len(every) > 1 else next(iter(every)) for every in words)


def named_values(
    model: Model, schedule: Schedule, update: Sequence[ProgramLine], *, backward: bool = True, outside: bool = False
) -> Mapping[str, ProgramName]:
    """Return every name of a model, in the order of the equations; without `backward`, of its forward pass only.

    `outside` is True if the program has a line for the gradients from outside. Raises `TuiGruError` if the cell has a name that
    every run has, such as epoch.
    """
    page, found = model.page, dict[str, ProgramName]()
    for name in (*NUMBERS[1:], *COUNTERS, *CHARACTERS):  # the loss is a line of the model
        if name in model.axes:
            error = EquationError(f"{name} is also a name of every run; choose another one here", page.places.get(name))
            raise TuiGruError(str(error), option="cell")

    def add(name: str, kind: ValueKind, axes: Axes, read_in: str = "") -> None:
        found.setdefault(name, ProgramName(name, kind, tuple(axis for axis in axes if axis != "T"), "T" in axes, read_in))

    def add_lines(phase: str, kind: ValueKind) -> None:
        gradients = {f"d{name}" for name in page.parameters}
        for line in schedule.phases[phase].lines:
            if line.target in gradients:
                continue
            for node in reversed(tuple(line.formula.walk())):  # inner parts first
                if node.label and schedule.named[node.label].phase == phase:
                    add(node.label, kind, schedule.named[node.label].axes)
            if line.target != "loss":
                add(line.target, kind, schedule.named[line.target].axes)

    for name in page.inputs:
        add(name, ValueKind.INPUT, model.axes[name])
    for state in page.states:
        add(page.before(state), ValueKind.STATE, model.axes[state], state)
    add_lines("forward", ValueKind.VALUE)
    for output in page.outputs if backward else ():
        add(with_word(f"d{output}", "given"), ValueKind.VALUE_GRADIENT, model.axes[output], "" if outside else f"d{output}")
    for state in page.states if backward else ():
        add(page.ahead(state), ValueKind.VALUE_GRADIENT, model.axes[state], f"d{page.before(state)}")
    if backward:
        add_lines("backward", ValueKind.VALUE_GRADIENT)
    for name in page.parameters:
        add(name, ValueKind.PARAMETER, model.axes[name])
    for name in page.parameters if backward else ():
        add(f"d{name}", ValueKind.GRADIENT, model.axes[name])
    rule = model.rule
    targets = dict.fromkeys(line.target for line in rule.lines if rule.is_vector(line.target) and line.target != WEIGHT)
    for target in targets if update else ():
        for name in page.parameters:
            add(
                rule.name_for(target, name),
                ValueKind.OPTIMIZER_STATE if target in rule.states else ValueKind.UPDATE_VALUE,
                model.axes[name],
            )
    for name in dict.fromkeys((*NUMBERS, *(rule.scalars if update else ()))):
        if backward or name != "grad_norm":
            add(name, ValueKind.NUMBER, ())
    for name in rule.settings if update else ():
        add(name, ValueKind.SETTING, ())
    for name in COUNTERS:
        add(name, ValueKind.COUNTER, ())
    for name in CHARACTERS if update and any(given.one_hot for given in page.inputs.values()) else ():
        add(name, ValueKind.CHARACTER, ("T", "B"))
    return found


def unknown_name(name: str, known: Sequence[str]) -> str:
    """Return the message for an unknown name, with similar names."""
    return f"there is no value named {name!r}; {did_you_mean(name, known)}"
