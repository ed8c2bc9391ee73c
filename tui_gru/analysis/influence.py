"""What a prediction depends on: the influence of earlier inputs, and the flow of the gradient back through time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tui_gru import arguments
from tui_gru.analysis.losses import baselines, loss_of_rows
from tui_gru.analysis.units import StoppedError, StopRequested, indices_of, read_windows, values_after_characters
from tui_gru.analysis.what_if import SilentUnit, read_with_silent
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.program import FlowNames, Program, flow_names
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import compiled
from tui_gru.engine.config import Text, picked
from tui_gru.engine.data import weights_for
from tui_gru.engine.model import model_of
from tui_gru.engine.numbers import counted
from tui_gru.engine.training import compute
from tui_gru.engine.weights import NUMPY_SETTINGS, Array, Float64Array, Weights, norms_over_time
from tui_gru.equations.backward import mixed
from tui_gru.equations.page import SILENT
from tui_gru.equations.syntax import Name, split, with_word
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# A model without its loss, in float64, to derive gradients of its output, or to run on any numbers.


class Differentiable:
    """A model without its loss, in float64, that computes the gradient of its input from a gradient of its output.

    With `width` its inputs are numbers (T, B, width), whatever the model reads, so that an input can be zero. The units of the
    value `silent` can be held at 0.
    """

    def __init__(self, program: Program, weights: Weights, timesteps: int, rows: int, width: int = 0, *, silent: str = "") -> None:
        self._program = program
        structure = replace(program.config.structure, loss="", input_gradient=True, silent=silent)
        sizes = program.config.sizes | {"T": timesteps, "B": rows}
        if width:
            structure, sizes = replace(structure, input="dense", input_gradient=False), sizes | {"I": width}
        self.compiled = compiled(structure, sizes, "float64")
        self.record = BatchRecord(self.compiled)
        self.record.before = weights_for(structure, sizes, "float64", dict(weights.items()))
        self.reads = self.compiled.model.composed.layers[0].reads
        self.output = self.compiled.model.page.outputs[0]  # others are states that a script reads between two timesteps
        self._input, *self._others = self.compiled.model.page.inputs

    def as_in(self, record: BatchRecord, rows: slice = slice(None)) -> Self:
        """Take the inputs that are not read as characters or numbers from a batch, such as where its script has set the states:
        those of its rows, or of one of them for all rows."""
        for name in self._others:
            self.record.array(name)[...] = record.array(name)[:, rows]
        return self

    def forward(self, x: NDArray[Any], states: Mapping[str, Array]) -> Array:
        """Return the output (T, B, ·) from these inputs, (T, B) indices or (T, B, I) numbers, and first states; a view."""
        if self.compiled.model.page.inputs[self._input].one_hot:
            self.record.set_one_hot(self._input, x)
        else:
            self.record.array(self._input)[...] = x
        _begin(self.record, states)
        self.record.cut("forward")
        self.compiled.cut(self.record.before, "forward")
        self.compiled.functions["forward"].run(self.record, self.record.before, None)
        return self.record.array(self.output)

    def backward(self, slope: Array) -> BatchRecord:
        """Compute all deltas from the gradient of the output, (T, B, ·)."""
        for output in self.compiled.model.page.outputs:
            self.record.array(with_word(f"d{output}", "given"))[...] = slope if output == self.output else 0
        compute(self.record, None, learn=True)
        return self.record

    def run(self, x: NDArray[Any], states: Mapping[str, Array], t: int, row: int, character: int | None) -> tuple[float, int]:
        """Return the prediction of a row after timestep `t`, and its index in the output.

        Afterwards the record has its gradients.
        """
        output = self.forward(x, states)
        value, chosen = prediction(self._program, output[t, row], character)
        slope = np.zeros_like(output)
        slope[t, row] = prediction_slope(self._program, output[t, row], chosen)
        self.backward(slope)
        return value, chosen


def last_prediction_gradient(program: Program, record: BatchRecord) -> dict[str, Float64Array]:
    """Return the norm of the gradient of the last timestep's loss with respect to each state, over rows and units, by name, (T).

    It is that after each timestep of a batch, with the weights before the batch. Empty if no character is predicted.
    """
    if not program.target or not program.model.page.inputs[program.target].one_hot:
        return {}
    T, B = program.seq_length, program.config.batch_size
    with NUMPY_SETTINGS:
        reader = Differentiable(program, record.before, T, B)
        states = {state: record.border(state, end=False) for state in record.compiled.states}
        output = reader.forward(inputs_of(program, record), states)
        slope = np.zeros_like(output)
        for row, target in enumerate(record.ids(program.target)[-1].tolist()):
            slope[-1, row] = prediction_slope(program, output[-1, row], target) / -B
        gradients = reader.backward(slope)
        return {
            state: np.sqrt(np.square(gradients.array(f"d{state}")).reshape(T, -1).sum(axis=1)) for state in record.compiled.states
        }


def inputs_of(program: Program, record: BatchRecord) -> NDArray[Any]:
    """Return the inputs of a batch, a view: indices (T, B), or numbers (T, B, I)."""
    name = program.input
    return record.ids(name) if program.model.page.inputs[name].one_hot else record.array(name)


def prediction(program: Program, output: Array, character: int | None) -> tuple[float, int]:
    """Return a prediction from an output (·): the log-probability of a character if the loss takes a softmax, otherwise the entry.

    `character` defaults to the largest entry. Returns the prediction and the character. Raises `TuiGruError` for an unknown one.
    """
    chosen = int(np.argmax(output)) if character is None else character
    chosen = arguments.integer("the character", chosen, least=0, most=len(output) - 1)
    wide = np.asarray(output, np.float64)
    if not takes_softmax(program):
        return float(wide[chosen]), chosen
    top = wide.max()
    return float(wide[chosen] - top - np.log(np.exp(wide - top).sum())), chosen


def prediction_slope(program: Program, output: Array, chosen: int) -> Float64Array:
    """Return the gradient of a prediction with respect to the output (·)."""
    slope = np.zeros(len(output))
    slope[chosen] = 1
    if takes_softmax(program):
        powers = np.exp(output - output.max())
        slope -= powers / powers.sum()
    return slope


def takes_softmax(program: Program) -> bool:
    """Return True if the loss takes the softmax of the output, and not of something computed from it."""
    line = program.model.distribution
    return line is not None and line.formula.children == (Name(program.model.output),)


def _begin(record: BatchRecord, states: Mapping[str, Array]) -> None:
    for state in record.compiled.states:
        record.border(state, end=False)[...] = states[state]


# ------------------------------------------------------------------------------
# The influence of each earlier input of a row on a prediction, by gradient and by occlusion.
#
# By gradient: the norm of the gradient of the prediction with respect to the input, as in Madsen (2019, *Visualizing memorization
# in RNNs*). By occlusion: the change of the prediction when the input is omitted (Zeiler and Fergus 2014), that is, replaced by
# zeros. Both are computed in float64.


BACK = 64  # inputs before the prediction that are examined by default
TENTH = 0.1  # of the largest influence; smaller influences do not count
_GROUP = 16  # inputs occluded at once, each in its own row


@dataclass(frozen=True)
class Reach:
    """How many timesteps away the farthest input is whose influence is at least a tenth of the largest, and its `part` of that.

    `falls` is False if it is the farthest of the examined inputs, so that others may be farther away.
    """

    steps: int
    falls: bool
    part: float = 1.0


@dataclass(frozen=True, eq=False)
class Influence:
    """The influence of each of S inputs of a row, in the order of time, on the prediction after input `at`.

    `value` is the prediction: the log-probability of the character `character` (0-based), or this entry of an output that is not
    a probability. `gradient` (S) is the norm of its gradient with respect to each input; `occlusion` (S) is the effect of
    omitting the input, NaN for inputs that were not examined. `states` has, for each state of each layer and direction, the norm
    of the gradient with respect to the state after each input, (S). `batch` (counted through all epochs) and `t` (S), 0-based,
    say where each input was read. `text` is empty for a model that reads no characters.
    """

    row: int
    at: int
    character: int
    value: float
    text: Text
    batch: NDArray[np.intp]
    t: NDArray[np.intp]
    gradient: Float64Array
    occlusion: Float64Array
    states: Mapping[str, Float64Array]
    backwards: frozenset[str]  # the names in `states` that run from the end of the row to its start

    def __repr__(self) -> str:
        return f"<influence of {len(self.gradient)} inputs of row {self.row + 1} on the prediction after input {self.at + 1}>"

    def reach(self, of: str = "gradient") -> Reach:
        """Return the reach of `gradient`, of `occlusion`, or of a state, by name. Raises `TuiGruError` for any other."""
        if of in ("gradient", "occlusion"):
            return reach(np.abs(self.gradient if of == "gradient" else self.occlusion), self.at)
        if of not in self.states:
            raise TuiGruError(f"{of!r} is neither gradient, nor occlusion, nor a state; the states are {', '.join(self.states)}")
        return reach(self.states[of], self.at, direction=1 if of in self.backwards else -1)


def reach(values: Float64Array, at: int, direction: int = -1) -> Reach:
    """Return how far from input `at` an influence reaches, backwards (`direction` −1) or forwards (1)."""
    away = np.nan_to_num(values[at::direction] if direction > 0 else values[at::-1])
    largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    last = int(np.flatnonzero(away >= TENTH * largest).max(initial=0))
    return Reach(last, last < len(away) - 1, float(away[last] / largest))


def influence(
    timeline: Timeline,
    moment: Moment,
    t: int,
    row: int,
    *,
    character: int | None = None,
    back: int = BACK,
    occlusion: bool = True,
    stop: StopRequested | None = None,
) -> Influence:
    """Return the influence on the prediction of `row` after timestep `t` (both 0-based), with the weights of this batch.

    `character` selects the probability, by default the most likely character. At least `back` earlier inputs are examined, as far
    as the epoch has them and the state is carried, from the start of their batch on. Inputs before this batch are computed again
    with its weights, so the prediction can differ slightly from that of the run. The other rows are read along if the row depends
    on them; if it depends on all timesteps of its batch, only that batch is examined. Without `occlusion`, which takes most of the
    time, only gradients are computed.

    Replays the batches of that window. Raises `TuiGruError` for arguments out of range, `StoppedError` if `stop` returns True.
    """
    program = moment.program
    row = arguments.integer("the row", row, least=0, most=program.config.batch_size - 1)
    t = arguments.integer("the timestep t", t, least=0, most=program.seq_length - 1)
    back = arguments.integer("how far back", back, least=0)
    page = program.model.page
    without_loss = model_of(replace(program.config.structure, loss="")).page
    depends_on_rows, depends_on_timesteps = (not mixed(without_loss, axis).isdisjoint(without_loss.outputs) for axis in "BT")
    alone = not depends_on_rows
    batches = 0 if depends_on_timesteps else max(0, -(-(back - t) // program.seq_length))
    window = _Window.of_rows(timeline, moment, slice(row, row + 1) if alone else slice(None), batches)
    at, own_row = len(window.x) - program.seq_length + t, 0 if alone else row
    reader = Differentiable(program, moment.record.before, len(window.x), window.x.shape[1])
    reader.as_in(moment.record, slice(row, row + 1) if alone else slice(None))
    with NUMPY_SETTINGS:
        value, chosen = reader.run(window.x, window.states, at, own_row, character)
        record = reader.record
        read = record.array(reader.reads)
        slopes = record.array(f"d{reader.reads}")[:, own_row]
        states = {state: _timestep_norms(record.array(f"d{state}")[:, own_row]) for state in record.compiled.states}
        without = np.full(len(read), np.nan)
        if occlusion:
            last = len(read) if program.config.bidirectional else at + 1
            without[:last] = value - _occluded(program, record, read, window.states, (at, own_row), chosen, last, stop)
    return Influence(
        row,
        at,
        chosen,
        value,
        window.text(program, own_row),
        window.batch,
        window.t,
        gradient=_timestep_norms(slopes),
        occlusion=without,
        states=states,
        backwards=frozenset(state for state in states if page.states[state].backwards),
    )


# ------------------------------------------------------------------------------
# How far back a model remembers: the loss by the number of characters that it has read, and the mean influence by distance.


CONTEXTS = (1, 2, 4, 8, 16, 32, 64)
POSITIONS = 1000  # predictions whose loss is computed with each context
PREDICTIONS = 32  # over which the influence by distance is a mean
LITTLE = 0.01  # nats; a smaller difference of the loss is none


@dataclass(frozen=True, eq=False)
class ContextMemory:
    """The loss by context, and the mean influence by distance.

    `losses` (n) are the mean losses in nats of the same predictions, each after the last `contexts[i]` characters alone, read from
    zero states; `whole` is that after the whole text before them. `errors` (n) are the standard errors of the differences from
    `whole`. `gradient` and `occlusion` (D) are means over predictions, by the distance of the character, 0 for the last one read.
    """

    contexts: tuple[int, ...]
    losses: Float64Array
    errors: Float64Array
    whole: float
    bigram: float
    gradient: Float64Array
    occlusion: Float64Array

    def __repr__(self) -> str:
        return f"<memory of {'' if self.ends else 'more than '}{counted(self.characters, 'character')}>"

    @property
    def characters(self) -> int:
        """The fewest characters from which on the loss is that after all; the most that were tried if there are none."""
        enough = self.losses - self.whole <= np.maximum(LITTLE, 2 * self.errors)
        more = np.flatnonzero(~enough[:-1])  # a model that is not used to begin in the middle can do worse with two than with one
        return self.contexts[int(more[-1]) + 1 if len(more) else 0]

    @property
    def ends(self) -> bool:
        """True if the loss after `characters` characters is that after all."""
        at = self.contexts.index(self.characters)
        return bool(self.losses[at] - self.whole <= max(LITTLE, 2 * self.errors[at]))

    def reach(self, of: str) -> Reach:
        """Return the reach of the mean influence by `gradient` or `occlusion`."""
        return reach(self.gradient if of == "gradient" else self.occlusion, 0, direction=1)

    @property
    def believed(self) -> str:
        """The measure whose reach is nearer to what the loss by context shows; `occlusion` if both are as near."""
        away = {of: abs(math.log2((self.reach(of).steps + 1) / self.characters)) for of in ("occlusion", "gradient")}
        return min(away, key=lambda of: away[of])

    @property
    def agree(self) -> bool:
        """True if neither measure reaches more than twice as far as the other."""
        near, far = sorted(self.reach(of).steps + 1 for of in ("gradient", "occlusion"))
        return far <= 2 * near


def memory(program: Program, weights: Weights, text: Text, *, stop: StopRequested | None = None) -> ContextMemory:
    """Return how far back a model remembers when it reads a text with these weights.

    Contexts are those of `CONTEXTS` that a quarter of the text has. Raises `TuiGruError` for a model that reads in both directions,
    whose rows depend on each other, that has no loss per character or whose weights are not finite, `StoppedError` if `stop`
    returns True.
    """
    config, row = program.config, program.loss_names.row
    page = program.model.page
    if config.bidirectional or not row or not mixed(page, "B").isdisjoint([row]) or not mixed(page, "T").isdisjoint([row]):
        raise TuiGruError("only a model that reads each row forwards and has a loss per character has a memory of characters")
    if not np.isfinite(weights.parameters).all():
        raise TuiGruError(
            "the weights are not finite, so how far back they remember is not known; go back to where they were finite"
        )
    ids = indices_of(config, text)
    contexts = tuple(context for context in CONTEXTS if context <= max(len(ids) // 4, 1))
    last = np.arange(contexts[-1] - 1, len(ids) - 1)  # the last character read, of each prediction
    if not len(last):
        raise TuiGruError("the text has no character after the first one to predict")
    chosen = last[np.linspace(0, len(last) - 1, min(len(last), POSITIONS)).round().astype(np.intp)]
    after_all = loss_of_rows(program, values_after_characters(config, weights, text, [row], stop=stop)[row][chosen])
    losses, errors = np.empty(len(contexts)), np.empty(len(contexts))
    for i, context in enumerate(contexts):
        windows = ids[chosen[:, None] + np.arange(1 - context, 2)]
        after_context = loss_of_rows(program, read_windows(config, weights, windows, row, stop=stop))
        losses[i], errors[i] = after_context.mean(), (after_context - after_all).std() / math.sqrt(len(chosen))
    some = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), PREDICTIONS)).round().astype(np.intp)]
    gradient, occlusion = _by_distance(program, weights, ids[some[:, None] + np.arange(1 - contexts[-1], 1)].T, stop)
    bigram = baselines(text, config.vocab_size).bigram
    return ContextMemory(contexts, losses, errors, float(after_all.mean()), bigram, gradient, occlusion)


def _by_distance(
    program: Program, weights: Weights, ids: NDArray[np.intp], stop: StopRequested | None
) -> tuple[Float64Array, Float64Array]:
    """Return the mean influence on the likeliest character after the last timestep, by gradient and by occlusion: (T) by distance.

    `ids` (T, R) are read from zero states.
    """
    T, R = ids.shape
    with NUMPY_SETTINGS:
        reader = Differentiable(program, weights, T, R)
        states = {state: np.zeros_like(reader.record.border(state, end=False)) for state in reader.record.compiled.states}
        output = reader.forward(ids, states)
        predictions = [prediction(program, output[-1, row], None) for row in range(R)]
        slope = np.zeros_like(output)
        for row, (_, character) in enumerate(predictions):
            slope[-1, row] = prediction_slope(program, output[-1, row], character)
        reader.backward(slope)
        gradient = np.sqrt(np.square(reader.record.array(f"d{reader.reads}")).sum(axis=2)).mean(axis=1)[::-1]
        read = reader.record.array(reader.reads).copy()
        plain, occlusion = Differentiable(program, weights, T, R, read.shape[-1]), np.empty(T)
        for back in range(T):
            _check_stop(stop)
            x = read.copy()
            x[T - 1 - back] = 0
            outputs = plain.forward(x, states)[-1]
            without = [prediction(program, outputs[row], character)[0] for row, (_, character) in enumerate(predictions)]
            occlusion[back] = np.abs(np.array(without) - [value for value, _ in predictions]).mean()
    return gradient, occlusion


# ------------------------------------------------------------------------------
# The derivative of the state of a layer by that before the timestep. Its eigenvalues are time scales.
#
# It is what the derived backward pass of one timestep makes of the identity matrix: row i of the batch receives 1 for entry i of
# the state after the timestep.


ROUNDED = 1e-9  # by which the modulus of an eigenvalue can differ from 1 by rounding


@dataclass(frozen=True, eq=False)
class Jacobian:
    """The derivative of the state of a layer after a timestep by that before it: `matrix[i, j]` is that of entry i by entry j.

    The N entries are those of `states`, one after the other: of an LSTM first h, then c.
    """

    states: tuple[str, ...]
    matrix: Float64Array

    def __repr__(self) -> str:
        return f"<∂state/∂state before, {' and '.join(self.states)}: {self.words}>"

    @cached_property
    def eigenvalues(self) -> NDArray[np.complex128]:
        """The eigenvalues λ, (N), the largest in modulus first.

        If each later timestep were like this one, n of them would leave the part |λ|ⁿ of a small change along its direction.
        """
        eigenvalues = np.linalg.eigvals(self.matrix).astype(np.complex128)
        return eigenvalues[np.argsort(-np.abs(eigenvalues), kind="stable")]

    @cached_property
    def timesteps(self) -> Float64Array:
        """The timesteps after which 1/e of a small change is left, −1/ln|λ| of each eigenvalue, (N): 0 for λ = 0, infinite for
        |λ| ≥ 1."""
        moduli = np.abs(self.eigenvalues)
        moduli[np.abs(moduli - 1) <= ROUNDED] = 1
        with np.errstate(divide="ignore"):
            return np.where(moduli < 1, -1 / np.log(np.minimum(moduli, 1)), np.inf)

    @property
    def words(self) -> str:
        """What is left of a small change of the state, in one sentence."""
        lasts, largest = self.timesteps, float(np.abs(self.eigenvalues[0]))
        after = max(round(float(lasts[0])), 1) if np.isfinite(lasts[0]) else 1
        if largest == 0:
            return "nothing of the state before is left after a timestep"
        if np.isfinite(lasts[0]):
            later = "one timestep" if after == 1 else f"{after:,} timesteps"
            words = f"the slowest direction keeps {100 * largest**after:.2g} % after {later}"
        elif largest > 1 + ROUNDED:
            words = f"the slowest direction does not fade: it grows to {100 * largest:.4g} % in a timestep"
        else:
            words = "the slowest direction keeps all: it does not fade"
        endless, brief = int(np.isinf(lasts).sum()), int((lasts < 1).sum())
        words += f"; {endless:,} of {len(lasts):,} do not fade" if endless > 1 else ""  # one is the slowest
        return words + (f"; {brief:,} of {len(lasts):,} {'fades' if brief == 1 else 'fade'} within a timestep" if brief else "")


def jacobian_of_row(moment: Moment, name: str, row: int, t: int, silent: SilentUnit | None = None) -> Jacobian:
    """Return the derivative of the state of the layer that computes `name`, of a row at timestep `t` of the batch (both 0-based).

    The weights are those of the batch. `silent` is the unit that the moment is computed without. Raises `TuiGruError` as
    `jacobian`, or if the timestep has not been computed yet.
    """
    program, record, page = moment.program, moment.record, moment.program.model.page
    row = arguments.integer("the row", row, least=0, most=program.config.batch_size - 1)
    t = arguments.integer("the timestep t", t, least=0, most=program.seq_length - 1)
    if not all(moment.is_readable(name_read, t) for name_read in (*page.states, *map(page.before, page.states))):
        raise TuiGruError(f"timestep {t + 1} of this batch has not been computed yet; step on first")
    inputs = {
        name_read: record.ids(name_read) if variable.one_hot else record.array(name_read)
        for name_read, variable in page.inputs.items()
    }
    before = {state: record.array(page.before(state))[t, row] for state in page.states}
    return jacobian(program, record.before, name, {name_read: array[t, row] for name_read, array in inputs.items()}, before, silent)


def states_before(program: Program, weights: Weights, text: Text, silent: SilentUnit | None = None) -> dict[str, Array]:
    """Return the states of all layers before each of n characters of a text, read with these weights, (n, ·) by state."""
    before = {state: program.model.page.before(state) for state in program.model.page.states}
    values = read_with_silent(program.config, weights, text, [*before.values()], silent)
    return {state: values[name] for state, name in before.items()}


def jacobian(
    program: Program,
    weights: Weights,
    name: str,
    inputs: Mapping[str, Any],
    before: Mapping[str, Array],
    silent: SilentUnit | None = None,
) -> Jacobian:
    """Return the derivative of the state of the layer and direction that computes `name` by that before a timestep.

    `inputs` are those of the timestep, an index or numbers (·) each, and `before` has the states of all layers before it, (·) each.
    Raises `TuiGruError` if the layer has no state, or if its rows depend on each other or its timesteps on later ones.
    """
    page = program.model.page
    states = tuple(state for state in page.states if split(state)[1] == split(name)[1])
    if name not in program.names or not states:
        raise TuiGruError(f"no layer with a state computes {name}; those of {', '.join(page.states)} have one")
    if any(not mixed(page, axis).isdisjoint(states) for axis in "BT"):
        raise TuiGruError(f"{name} depends on other rows or timesteps, so one row of one timestep has no derivative of its own")
    sizes = [before[state].size for state in states]
    with NUMPY_SETTINGS:
        reader = Differentiable(program, weights, 1, sum(sizes), silent=silent.name if silent else "")
        record = reader.record
        for input_name, variable in reader.compiled.model.page.inputs.items():
            if input_name == SILENT and silent is not None:
                record.array(input_name)[...] = np.arange(record.array(input_name).shape[-1]) != silent.unit
            elif variable.one_hot:
                record.set_one_hot(input_name, np.full((1, sum(sizes)), inputs[input_name]))
            else:
                record.array(input_name)[...] = inputs[input_name]
        _begin(record, before)
        rows = np.split(np.eye(sum(sizes)), np.cumsum(sizes)[:-1], axis=1)
        for state, flow in zip(record.compiled.states, record.flows_in, strict=True):
            flow[...] = rows[states.index(state)] if state in states else 0
        reader.backward(np.zeros(()))
        matrix = np.concatenate([record.array(f"d{page.before(state)}")[0] for state in states], axis=1)
    if not np.isfinite(matrix).all():
        raise TuiGruError("the derivative of the state is not finite; go back to where the weights and values were finite")
    return Jacobian(states, matrix)


# ------------------------------------------------------------------------------
# The influence of the rows of a batch on each other, which should be none.


@dataclass(frozen=True, eq=False)
class RowInfluence:
    """The influence of the inputs of every row of a batch, (B), on the prediction of one row; it should be 0 for all other rows.

    `together` is the change of the prediction when all other rows are omitted at once. `occlusion` is NaN if the rows were not
    omitted one by one.
    """

    row: int
    gradient: Float64Array
    occlusion: Float64Array
    together: float = 0.0

    def __repr__(self) -> str:
        return f"<influence of {len(self.gradient)} rows on row {self.row + 1}: {self.others:.3g} from others>"

    @property
    def others(self) -> float:
        """The largest influence of another row, by either measure; 0 in a network that does not mix rows."""
        both = np.concatenate([np.delete(np.abs(array), self.row) for array in (self.gradient, np.nan_to_num(self.occlusion))])
        return float(max(both.max(initial=0.0), abs(self.together)))


def influence_of_rows(
    moment: Moment, t: int, row: int, *, one_by_one: bool = True, stop: StopRequested | None = None
) -> RowInfluence:
    """Return the influence of all inputs of each row of the batch on the prediction of `row` after timestep `t` (0-based).

    Without `one_by_one`, only all other rows together are omitted, which takes much less time. Raises `StoppedError` if `stop`
    returns True.
    """
    program, B = moment.program, moment.program.config.batch_size
    row = arguments.integer("the row", row, least=0, most=B - 1)
    t = arguments.integer("the timestep t", t, least=0, most=program.seq_length - 1)
    inputs = inputs_of(program, moment.record)
    states = {state: np.asarray(moment.record.border(state, end=False), np.float64) for state in moment.record.compiled.states}
    reader = Differentiable(program, moment.record.before, program.seq_length, B).as_in(moment.record)
    with NUMPY_SETTINGS:
        value, chosen = reader.run(inputs, states, t, row, None)
        read = reader.record.array(reader.reads).copy()
        gradient = np.sqrt(np.square(reader.record.array(f"d{reader.reads}")).sum(axis=(0, 2)))
        plain = Differentiable(program, moment.record.before, program.seq_length, B, read.shape[-1]).as_in(moment.record)
        occlusion = np.full(B, np.nan)

        def without(rows: NDArray[np.intp]) -> float:
            _check_stop(stop)
            x = read.copy()
            x[:, rows] = 0
            return value - prediction(program, plain.forward(x, states)[t, row], chosen)[0]

        for other in range(B if one_by_one else 0):
            occlusion[other] = without(np.array([other]))
        together = without(np.delete(np.arange(B), row))
    return RowInfluence(row, gradient, occlusion, together)


@dataclass(frozen=True, eq=False)
class _Window:
    """Inputs of some rows, in the order of time, (S, B) indices or (S, B, I) numbers, and the states before the first of them."""

    x: NDArray[Any]
    states: Mapping[str, Float64Array]
    batch: NDArray[np.intp]
    t: NDArray[np.intp]

    @classmethod
    def of_rows(cls, timeline: Timeline, moment: Moment, rows: slice, batches: int) -> _Window:
        """Return the inputs of rows of this batch and of up to `batches` batches before it, as far as the state was carried."""
        program, position = moment.program, moment.position
        carried = 0 if program.config.bidirectional else program.config.carried_batches(position.batch)
        number = position.number
        numbers = range(number - min(batches, carried), number + 1)
        records = [moment.record if n == number else timeline.record(n) for n in numbers]
        first = records[0]
        states = {s: np.asarray(first.border(s, end=False)[rows], np.float64) for s in first.compiled.states}
        x = np.concatenate([inputs_of(program, record)[:, rows] for record in records])
        T = program.seq_length
        return cls(x, states, np.repeat(np.array(numbers), T), np.tile(np.arange(T), len(numbers)))

    def text(self, program: Program, row: int) -> Text:
        """Return the characters of a row of the window."""
        return picked(self.x[:, row], program.config.vocabulary) if self.x.ndim == 2 else ""


def _occluded(
    program: Program,
    record: BatchRecord,
    read: Array,
    states: Mapping[str, Array],
    at: tuple[int, int],
    chosen: int,
    count: int,
    stop: StopRequested | None,
) -> Float64Array:
    """Return the prediction at timestep and row `at` with each of the first `count` inputs of the row omitted, (count).

    `record` is the batch with all inputs; `read` has those that are omitted, (S, B, I). One row alone is copied, so that several
    inputs are omitted at once.
    """
    t, row = at
    alone = read.shape[1] == 1
    group = min(_GROUP, count) if alone else 1
    rows = group if alone else read.shape[1]
    plain = Differentiable(program, record.before, len(read), rows, read.shape[-1]).as_in(record)
    begin = {name: np.repeat(state, group, axis=0) for name, state in states.items()}  # of rows that are not alone, once
    predictions = np.empty(count)
    for first in range(0, count, group):
        _check_stop(stop)
        x = np.repeat(read, group, axis=1)
        inputs = range(first, min(first + group, count))
        omitted = range(len(inputs)) if alone else [row]
        x[inputs, omitted] = 0
        outputs = plain.forward(x, begin)[t]
        for s, i in zip(inputs, omitted, strict=True):
            predictions[s] = prediction(program, outputs[i], chosen)[0]
    return predictions


def _timestep_norms(array: Array) -> Float64Array:
    """Return the norm of each timestep, (T, ·) to (T)."""
    norms: Float64Array = np.sqrt(np.square(array, dtype=np.float64).sum(axis=-1))
    return norms


def _check_stop(stop: StopRequested | None) -> None:
    if stop is not None and stop():
        raise StoppedError("stopped before every input had been occluded once")


# ------------------------------------------------------------------------------
# The flow of the gradient back through time: its norm at each timestep, and the norms of the paths to the timestep before.
#
# All norms are Euclidean, over the rows of the batch and the units, or over the units of one row.


@dataclass(frozen=True)
class Flow:
    """The gradient of a state at one timestep: its norm, and the norms of its parts from this timestep and from the one that
    reads it.

    `handed_on` is the norm of the gradient passed to the timestep before, and `paths` has the norms of its terms; None until the
    line that computes them has been executed.
    """

    t: int
    dh: float
    from_output: float
    from_future: float
    handed_on: float | None = None
    paths: tuple[float, ...] | None = None

    @property
    def shares(self) -> tuple[float, ...] | None:
        """The norm of each path over the sum of all norms. None if the sum is 0 or not finite."""
        total = math.fsum(self.paths or ())
        if self.paths is None or total == 0 or not math.isfinite(total):
            return None
        return tuple(path / total for path in self.paths)


def paths_of(program: Program, state: str) -> tuple[tuple[str, str], ...]:
    """Return a letter and a word for each path along which the gradient of a state continues.

    They come from the label or target of the line that the path passes through.
    """
    letters: list[tuple[str, str]] = []
    for path in flow_names(program, state).paths:
        reading = program.model.backward.paths.get(path)
        target = program.written_with.get(reading.step, reading.step) if reading is not None else ""
        line = next((line for line in program.model.page.lines if line.target == target), None)
        word = "all" if line is None else line.label or program.writer.name(split(target)[0])
        letter = word[0] if line is None or line.target in program.model.page.states else line.target[0]
        letters_used = {other for other, _ in letters}
        letters.append((next((sign for sign in (letter, *word) if sign not in letters_used), letter), word))
    return tuple(letters)


def gradient_flow(moment: Moment, state: str, row: int | None = None) -> tuple[Flow | None, ...]:
    """Return the flow of the gradient of a state at each timestep, of all rows of the batch or of one (0-based).

    It is None at timesteps not computed yet.
    """
    names = flow_names(moment.program, state)
    steps = range(moment.program.seq_length)
    if not moment.learned or not moment.executed(names.delta, 0 if names.direction > 0 else steps[-1]):
        return (None,) * len(steps)
    norms = _delta_norms(moment.record, names, row)

    def at(t: int) -> Flow | None:
        if not moment.executed(names.delta, t):
            return None
        reached = Flow(t, norms[names.delta][t], norms[_OWN][t], norms[names.received][t])
        if not moment.executed(names.handed_on, t):
            return reached
        return replace(reached, handed_on=norms[names.handed_on][t], paths=tuple(norms[name][t] for name in names.paths))

    return tuple(at(t) for t in steps)


_OWN = "own"  # the part of a gradient that comes from its own timestep
_norms_of_records: WeakKeyDictionary[BatchRecord, dict[tuple[FlowNames, int | None], dict[str, list[float]]]] = WeakKeyDictionary()


def _delta_norms(record: BatchRecord, names: FlowNames, row: int | None) -> dict[str, list[float]]:
    """Return the norm of each delta at each timestep; cached per record, since it is slow for large records."""
    norms = _norms_of_records.setdefault(record, {})
    if (names, row) not in norms:
        chosen = slice(None) if row is None else slice(row, row + 1)
        arrays = {name: record.array(name)[:, chosen] for name in (names.delta, names.received, names.handed_on, *names.paths)}
        with np.errstate(all="ignore"):
            local = record.array(names.local)[:, chosen] if names.local else arrays[names.delta] - arrays[names.received]
            norms[names, row] = {name: norms_over_time(array) for name, array in (*arrays.items(), (_OWN, local))}
    return norms[names, row]
