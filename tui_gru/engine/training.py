"""Training: initial weights, one batch after the other, and the next one in advance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Generic, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.batch import BatchRecord, RecordPool
from tui_gru.engine.compiled import Compiled
from tui_gru.engine.config import FROM_FILE, Config
from tui_gru.engine.data import AnyCorpus, Corpus, ImportedConfig, ImportedCorpus, SeriesConfig, SeriesCorpus
from tui_gru.engine.lowering import ELEMENTWISE, Operation, Slot
from tui_gru.engine.model import KeepNumber, page_of
from tui_gru.engine.source import Ability
from tui_gru.engine.weights import NUMPY_SETTINGS, Array, Weights
from tui_gru.equations.functions import numpy_function
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# Computation of one batch of a compiled model: forward pass, backward pass and update, or the rest of a batch from a given point.


RuleSettings = Mapping[str, float]  # settings of the update rule: learning_rate, beta1 …; never changed in place


class Earlier(NamedTuple):
    """The earlier batches of an epoch that the gradient continues into (carry `notebook`), latest first.

    `scratch` receives their deltas, because the records keep the deltas of their own losses.
    """

    records: Sequence[BatchRecord] = ()
    scratch: BatchRecord | None = None


NO_EARLIER = Earlier()


class Point(NamedTuple):
    """A point in the computation of a batch.

    `phase` is forward, backward or update; `segment` and `step` are the segment of the phase and the step of the segment (0-based);
    `done` is the number of lines executed in this step. The update has one segment with one step. `parts` has the labelled parts
    that have been computed as well.
    """

    phase: str
    segment: int = 0
    step: int = 0
    done: int = 0
    parts: frozenset[str] = frozenset()


def compute(record: BatchRecord, settings: RuleSettings | None, *, learn: bool, earlier: Earlier = NO_EARLIER) -> None:
    """Compute a batch whose inputs, first states and `before` are set.

    A model without a loss also needs the gradients from outside to be set: those of its outputs (`dh_given`, named after
    `Page.outputs`), and in `flows_in` those of the last states. Without `settings` the weights are not updated.
    """
    _forward(record)
    if learn:
        _backward(record, earlier)
    _finish(record, settings, learn)


def compute_from(
    record: BatchRecord, at: Point, settings: RuleSettings | None, *, learn: bool, earlier: Earlier = NO_EARLIER
) -> None:
    """Compute the rest of a batch from `at`, with the weights in `before`. Everything before `at` is unchanged.

    The passes run completely, with the same calls on the same shapes, so that they give the same bits; every value from before `at`
    is then restored.
    """
    keep: KeepNumber | None = None
    if at.phase == "forward":
        _go_on(record, at)
        if learn:
            _backward(record, earlier)
    elif learn and not record.learned:
        _backward(record, earlier)
    elif learn and at.phase == "backward":
        _go_on(record, at)
        _run_into_earlier(record, earlier)
    elif learn:
        keep = _executed_updates(record, at.done)
    _finish(record, settings, learn, keep)


def _forward(record: BatchRecord) -> None:
    compiled = record.compiled
    record.cut("forward")
    compiled.cut(record.before, "forward")
    compiled.functions["forward"].run(record, record.before, None)


def _backward(record: BatchRecord, earlier: Earlier) -> None:
    compiled = record.compiled
    record.cut("backward")
    compiled.cut(record.before, "backward")
    compiled.cut(record.own_gradients, "backward", "G")
    for flow in record.flows_in if compiled.model.structure.loss else ():  # without a loss they are set from outside
        flow.fill(0)
    compiled.functions["backward"].run(record, record.before, record.own_gradients)
    _run_into_earlier(record, earlier)


def _finish(record: BatchRecord, settings: RuleSettings | None, learn: bool, keep: KeepNumber | None = None) -> None:
    """Compute the update and the scalars of the batch."""
    record.learned, record.settings, record.own_results = learn, settings or {}, None
    if record.loss_array is not None:
        record.loss = float(record.loss_array)
    record.grad_norm, record.numbers = math.nan, {}
    if learn:
        gradient = record.own_gradients.flat
        if settings is None:
            record.own_after.flat[...], record.own_after.updates = record.before.flat, record.before.updates
        else:
            update = record.compiled.update
            record.numbers = update.run(record.before, record.own_after, record.of_update, settings, keep)
        norm = record.numbers.get("grad_norm")
        record.grad_norm = math.sqrt(float(gradient.dot(gradient))) if norm is None else norm
    weights = record.after.parameters
    # Both argmax and argmin find the first NaN. On a small model they take a fifth of the time of max and min.
    record.max_weight = max(float(weights[weights.argmax()]), -float(weights[weights.argmin()]))


def flow_out_of(record: BatchRecord, state: str) -> Array:
    """Return the gradient of a state that a batch passes to the batch before it, (B, ·), as a view."""
    page = record.compiled.model.page
    flow: Array = record.array(f"d{page.before(state)}")[-1 if page.states[state].backwards else 0]
    return flow


def flows_out_of(record: BatchRecord) -> list[Array]:
    """Return copies of the gradients of all states that a batch passes to the batch before it, each (B, ·)."""
    return [flow_out_of(record, state).copy() for state in record.compiled.states]


# Into earlier batches


def _run_into_earlier(record: BatchRecord, earlier: Earlier) -> None:
    if earlier.records:
        for gain in gains_of_earlier(record, flows_out_of(record), earlier):
            record.own_gradients.flat += gain


def gains_of_earlier(record: BatchRecord, flows: Sequence[Array], earlier: Earlier) -> Iterator[Array]:
    """Yield the contribution of each earlier batch to the gradients, (P). Every batch yields the same array; its deltas are in
    `earlier.scratch`.

    `flows` has, for each state, the gradient that enters the latest of these batches, (B, ·). The pass uses the recorded values of
    each batch and the current weights. The losses of these batches are not differentiated again.
    """
    if not earlier.records:
        return
    compiled, scratch = record.compiled, earlier.scratch
    assert scratch is not None
    compiled.cut(record.before, "earlier")
    gain = scratch.own_gradients
    compiled.cut(gain, "earlier", "G")
    gain.flat[...] = 0
    for before in earlier.records:
        for into, flow in zip(scratch.flows_in, flows, strict=True):
            into[...] = flow
        compiled.function("earlier").run(before.arrays_with(scratch), record.before, gain)
        yield gain.flat
        flows = flows_out_of(scratch)


def forward_setting(record: BatchRecord, state: str, computed: Callable[[int], None]) -> None:
    """Compute the forward pass, and call `computed` with each timestep (0-based) whose state has just been computed.

    It may set what later timesteps read. The pass makes the same calls on the same shapes as always, so that a pass over the
    inputs that were set gives the same bits.
    """
    compiled, phase, name = record.compiled, record.compiled.schedule.phases["forward"], "forward_on"
    function, state_operation = compiled.function(name), phase.operations.index(compiled.schedule.named[state])
    record.cut(name)
    compiled.cut(record.before, name)
    compiled.cut(record.own_gradients, name, "G")
    loops = dict.fromkeys(operation.loop for operation in phase.operations if operation.loop >= 0)
    timesteps = itertools.count()

    def see(number: int) -> None:
        if number == state_operation:
            computed(next(timesteps))

    function.run(record, record.before, record.own_gradients, [0] * len(loops), see)


# From the middle of a batch


def _go_on(record: BatchRecord, at: Point) -> None:
    """Compute the rest of a pass from a point in it."""
    compiled, phase = record.compiled, record.compiled.schedule.phases[at.phase]
    name = f"{at.phase}_on"
    function = compiled.function(name)
    record.cut(name)
    compiled.cut(record.before, name)
    compiled.cut(record.own_gradients, name, "G")
    T = compiled.sizes["T"]
    starts: dict[int, int] = {}  # by loop: the number of complete steps
    saved: dict[Slot, tuple[Array, Array]] = {}
    for operation in phase.operations:
        segment = phase.place(operation.line)[0]
        if operation.loop >= 0:
            starts[operation.loop] = T if segment < at.segment else at.step if segment == at.segment else 0
        slot = operation.memory
        if operation.timed and slot.for_all_timesteps and slot not in saved:
            part = record.slot(slot, operation.half)
            direction = phase.directions.get(operation.loop) or phase.segments[segment].direction
            done = _executed(record, at, slot)
            part = part[:done] if direction > 0 else part[T - done :]
            saved[slot] = part, part.copy()
        elif not operation.timed and slot.kind == "record" and slot not in saved and _executed(record, at, slot):
            array = record.slot(slot)
            saved[slot] = array, array.copy()

    softmaxes = {operation.log_of for operation in phase.operations} - {None}
    by_hand: dict[Operation, NDArray[np.bool_]] = {}  # entries of a softmax that differ from the computed ones

    def keep(number: int) -> None:
        operation = phase.operations[number]
        array = record.slot(operation.memory, operation.half)
        if operation.log_of in by_hand:  # log(softmax) is computed from the argument of the softmax, not from the edited softmax
            where = by_hand[operation.log_of]
            array[where] = np.log(record.array(operation.log_of.name)[where])
        if operation.memory in saved:
            part, value = saved[operation.memory]
            computed = array.copy() if operation in softmaxes else array
            part[...] = value
            if operation in softmaxes:
                by_hand[operation] = array != computed

    order = list(dict.fromkeys(operation.loop for operation in phase.operations if operation.loop >= 0))
    function.run(record, record.before, record.own_gradients, [starts[loop] for loop in order], keep)


def _executed(record: BatchRecord, at: Point, slot: Slot) -> int:
    """Return the number of timesteps whose value in a slot is computed at `at`; 0 or 1 for a value computed once."""
    segment, line = record.compiled.schedule.phases[at.phase].place(slot.line)
    if segment != at.segment:
        return record.compiled.sizes["T"] if segment < at.segment else 0
    return at.step + (line < at.done or slot.name in at.parts)


def _executed_updates(record: BatchRecord, done: int) -> KeepNumber:
    """Return a callback that restores the result of each executed line of the update rule, for the parameters it was executed
    for."""
    compiled = record.compiled
    rule, layout = compiled.model.rule, compiled.layout
    executed = rule.lines_of(layout.names)[:done]
    targets = {line.target for line in executed}
    numbers, vectors = dict(record.numbers), {}
    for number, line in enumerate(rule.lines):
        pieces = []
        for name in layout.names if rule.is_vector(line.target) else ():
            if rule.name_for(line.target, name) in targets:
                flat = record.update_vector(line.target)
                at, shape = layout.places[name]
                pieces.append((flat[at : at + math.prod(shape)], flat[at : at + math.prod(shape)].copy()))
        vectors[number] = pieces

    def keep(number: int, value: float = math.nan) -> float:
        for part, before in vectors[number]:
            part[...] = before
        target = rule.lines[number].target
        return numbers[target] if target in targets and target in numbers else value

    return keep


def gradients_so_far(record: BatchRecord, at: Point, names: Sequence[str] | None = None) -> dict[str, Array]:
    """Return the gradients of all parameters, or of those in `names`, at a point in the backward pass, each in the shape of its
    parameter. Each is one product over the timesteps whose deltas are computed.

    At the end of the pass they equal, bit for bit, the gradients that the update uses, without those that carry `notebook` adds
    from earlier batches. A sum of the contributions of single timesteps would differ by about 5e-7 relative in float32.
    """
    phase, T = record.compiled.schedule.phases["backward"], record.compiled.sizes["T"]
    values: dict[Operation, Array] = {}

    def part(operation: Operation, line: int) -> Array:
        """Return the timesteps of a value for which a line has been executed, (·, B, ·)."""
        array = record.slot(operation.memory, operation.half)
        segment, k = phase.place(line)
        done = (
            T
            if segment < at.segment or not phase.segments[segment].direction
            else at.step + (k < at.done)
            if segment == at.segment
            else 0
        )
        return array[:done] if phase.segments[segment].direction > 0 else array[T - done :]

    def value(operation: Operation, line: int) -> Array:
        if operation.timed:
            return part(operation, line)
        if operation.kind == "constant":
            return np.asarray(operation.number, record.compiled.dtype)
        if operation.phase != "backward" and operation.memory.kind == "parameter":
            return record.before[operation.memory.name]
        if operation.phase != "backward":
            return record.slot(operation.memory, operation.half)
        if operation not in values:  # a path of a parameter that is read twice; the record has its sum over all timesteps
            values[operation] = _once(operation, [value(arg, operation.line) for arg in operation.args], record.compiled)
        return values[operation]

    named = record.compiled.schedule.named
    targets = [(name, named[f"d{name}"]) for name in names or record.before.names]
    with np.errstate(all="ignore"):  # NaN and infinities are shown like other numbers
        return {name: value(operation, operation.line) for name, operation in targets}


def _once(operation: Operation, args: Sequence[Array], compiled: Compiled) -> Array:
    """Return the value of an operation that runs once for all timesteps, computed with the calls of the compiled code."""
    x, result = args[0], args[0]
    match operation.kind:
        case "outer":
            result = np.dot(x.reshape(-1, x.shape[-1]).T, args[1].reshape(-1, args[1].shape[-1]))
        case "rows":
            rows = x.reshape(-1, *x.shape[2:])
            result = np.dot(np.ones(len(rows), rows.dtype), rows)
        case "dot" | "dot-turned":
            result = np.dot(x, args[1].T if operation.kind == "dot-turned" else args[1])
        case "sum":
            axes = operation.args[0].axes
            result = np.add.reduce(x, axes.index(operation.over) - len(axes))
        case "turn":
            result = x.T
        case "copy":
            result = np.broadcast_to(x, compiled.shape(operation.axes))
        case kind:
            result = numpy_function(ELEMENTWISE[kind])(*args)
    return result


# ------------------------------------------------------------------------------
# Initial weights, drawn as in the tutorial or as in PyTorch's modules.


#: Draws stored in the package, so that the tutorial starts without torch: V 4, H 2, seed 1.
_SHIPPED_SEED, _SHIPPED_SHAPES = 1, [(4, 2)] * 3 + [(2, 2)] * 3 + [(2, 4)]
_DRAWN_24_BITS, _DRAWN_53_BITS = 2.0**-24, 2.0**-53
_BLOCK = 16  # numbers that PyTorch draws together; a matrix with fewer is drawn one by one


def initial_weights(config: Config) -> Weights:
    """Return the initial weights of a config. With `init` tutorial this imports torch (about a second), unless sizes and seed are
    the tutorial's, or torch is not installed."""
    if (first := config.source.batch(0)) is not None:
        return first.weights
    if config.init == FROM_FILE:
        raise TuiGruError(f"init {FROM_FILE} needs a model file: tui_gru.load(path, head=…, text=…)", option="init")
    weights = Weights.zeros(config.compiled.layout, config.dtype)
    if config.init == "torch":
        _as_torch_modules(config, weights)
    elif config.seed == _SHIPPED_SEED and [weights[name].shape for name in drawn_names(weights)] == _SHIPPED_SHAPES:
        at = 0
        data = np.frombuffer(Path(__file__).with_name("tutorial_weights.bin").read_bytes(), "<f4")
        for name in drawn_names(weights):
            weights[name][...] = data[at : at + weights[name].size].reshape(weights[name].shape)
            at += weights[name].size
    else:
        _standard_normal(config, weights)
    for name, number in config.model.page.initial.items():
        weights[name][...] = number
    return weights


def drawn_names(weights: Weights) -> tuple[str, ...]:
    """Return the parameters that `init` tutorial draws: all matrices, in the order of the equations. Biases are zero."""
    return tuple(name for name, array in weights.items() if array.ndim == 2)


def is_drawn(config: Config, name: str) -> bool:
    """Return True if the initial value of a parameter is drawn at random."""
    return name not in config.model.page.initial and (config.init == "torch" or len(config.model.axes[name]) == 2)


def _standard_normal(config: Config, weights: Weights) -> None:
    """Draw as in the tutorial: `torch.manual_seed(seed)` and one `torch.randn` per matrix.

    Without torch, the same uniform numbers go through the same formulas. The last bits can differ, as they do in torch itself
    between processors.
    """
    from tui_gru.torch_loading import is_installed

    if not is_installed():
        twister, spare = np.random.RandomState(config.seed % 2**32), list[float]()
        for name in drawn_names(weights):
            weights[name][...] = _normal(twister, weights[name].size, spare).reshape(weights[name].shape)
        return
    import torch

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(config.seed)
    for name in drawn_names(weights):
        weights[name][...] = torch.randn(*weights[name].shape, generator=generator).numpy()


def _normal(generator: np.random.RandomState, count: int, spare: list[float]) -> Array:
    """Return (count) standard normal float32 numbers, by the method of Box and Muller in the order in which torch applies it.

    Fewer than a block are drawn in pairs, one from two uniform numbers of 53 bits each; the second of a pair waits in `spare` for
    the next draw. Otherwise the first half of each block has the cosines and the second half the sines, and an incomplete last
    block is replaced by a new one that overlaps the block before.
    """
    if count < _BLOCK:
        while len(spare) < count:
            high, low = np.frombuffer(generator.bytes(16), "<u4").astype(np.uint64).reshape(2, 2).T
            angle, radius = ((high << np.uint64(32) | low) & np.uint64(2**53 - 1)) * _DRAWN_53_BITS
            spare += map(float, _circle(1 - radius, angle))
        drawn, spare[:] = spare[:count], spare[count:]
        return np.array(drawn, np.float32)
    numbers = np.empty(count, np.float32)
    in_blocks = count - count % _BLOCK
    numbers[:in_blocks] = _blocks(_uniform(generator, count)[:in_blocks])
    if in_blocks < count:
        numbers[-_BLOCK:] = _blocks(_uniform(generator, _BLOCK))
    return numbers


def _blocks(uniform: Array) -> Array:
    radius, angle = uniform.reshape(-1, 2, _BLOCK // 2).swapaxes(0, 1)
    return np.stack(_circle(1 - radius, angle), axis=1).ravel()


def _circle(radius: Array, angle: Array) -> tuple[Array, Array]:
    """Return two independent normal numbers for two uniform ones."""
    radius, angle = np.sqrt(-2 * np.log(radius)), 2 * np.pi * angle
    return radius * np.cos(angle), radius * np.sin(angle)


def _as_torch_modules(config: Config, weights: Weights) -> None:
    """Draw uniformly within ±1/√n, where n is H for the cell (torch.nn.GRU) and the number of inputs for each matrix of the head,
    also for the vectors after it (torch.nn.Linear); an embedding is standard normal (torch.nn.Embedding).

    The uniform numbers equal those of torch's generator, which is not imported.
    """
    generator = np.random.RandomState(config.seed % 2**32)
    head, table = (() if page is None else page.parameters for page in (page_of(config.structure, k) for k in ("head", "input")))
    rows = config.hidden_size
    for name, array in weights.items():
        if name in table:
            array[...] = generator.standard_normal(array.shape)
        else:
            if name in head and array.ndim == 2:
                rows = array.shape[0]
            bound = (rows if name in head else config.hidden_size) ** -0.5
            array[...] = (2 * _uniform(generator, array.size).reshape(array.shape) - 1) * bound


def _uniform(generator: np.random.RandomState, count: int) -> Array:
    """Return numbers in [0, 1) with 24 bits each, as torch draws them from the same Mersenne Twister."""
    words = np.frombuffer(generator.bytes(4 * count), "<u4")
    return (words & np.uint32(2**24 - 1)).astype(np.float64) * _DRAWN_24_BITS


# ------------------------------------------------------------------------------
# The computation of batches of one config on one corpus: load the inputs, run forward and, if the batch learns, backward and
# update; and the training loop without a session.


class Trainer:
    """Computes batches. The caller stores the state of the training. Trainers of the same model can share a pool of records."""

    def __init__(self, config: Config, corpus: AnyCorpus, pool: RecordPool | None = None) -> None:
        self.config, self.corpus, self.compiled = config, corpus, config.compiled
        self.pool = pool or RecordPool(self.compiled)
        self._zero = np.zeros(
            sum(int(np.prod(self.compiled.shape(config.model.axes[s])[1:])) for s in self.compiled.states), config.dtype
        )

    def new_record(self) -> BatchRecord:
        """Return a free record with the shapes of the config."""
        return self.pool.take()

    def initial_state(self) -> Array:
        """Return all states before the first timestep of an epoch, flattened. They are zero."""
        return self._zero

    @property
    def trains(self) -> bool:
        """True if a batch begins where the one before it ended; False if each begins with its own weights and states."""
        return self.config.source.can(Ability.TRAIN)

    def own_beginning(self, batch: int) -> tuple[Weights, Array] | None:
        """Return the own weights and flattened states of a batch of the epoch; None if they come from the batch before."""
        return None if self.trains else self._imported.begin(batch)

    @property
    def _imported(self) -> ImportedCorpus:
        return cast(ImportedCorpus, self.corpus)

    def carried(self, batch: int, state: Array) -> Array:
        """Return the flattened states at the start of a batch of the epoch, given those at the end of the batch before it."""
        return state if self.config.carried_batches(batch) else self._zero

    def run(
        self,
        record: BatchRecord,
        batch: int,
        weights: Weights,
        state: Array,
        *,
        learn: bool,
        settings: RuleSettings,
        earlier: Sequence[BatchRecord] = (),
    ) -> None:
        """Compute batch `batch` (of the epoch) into `record`.

        `state` has the flattened states at its start, `settings` those of the update rule, `earlier` the records of the epoch's
        earlier batches, latest first (carry `notebook` only). Afterwards `record.after` has the weights for the next batch.
        """
        with NUMPY_SETTINGS:  # inf and NaN are results that the debugger shows
            self.load(record, batch)
            record.begin_with(state)
            record.before = weights
            compute(record, settings if self.trains else None, learn=learn, earlier=self._earlier(earlier))

    def run_imported(self, record: BatchRecord, batch: int, *, learn: bool) -> BatchRecord:
        """Compute an imported batch as it was imported into `record`, and return `record`. It has no update."""
        weights, state = self._imported.begin(batch)
        self.run(record, batch, weights, state, learn=learn, settings={})
        self._imported.computed(record, batch)
        return record

    def resume(self, record: BatchRecord, at: Point, *, learn: bool, earlier: Sequence[BatchRecord] = ()) -> None:
        """Compute the rest of a batch, with the weights in `record.before`; everything before `at` is unchanged."""
        with NUMPY_SETTINGS:
            settings = record.settings if self.trains else None
            compute_from(record, at, settings, learn=learn, earlier=self._earlier(earlier))

    def load(self, record: BatchRecord, batch: int, t: int | slice = slice(None)) -> None:
        """Load the inputs of a batch of the epoch into a record; with `t`, only those timesteps."""
        self.corpus.load(record, batch, t)

    def _earlier(self, records: Sequence[BatchRecord]) -> Earlier:
        return Earlier(records, self._scratch) if records else NO_EARLIER

    @cached_property
    def _scratch(self) -> BatchRecord:
        return BatchRecord(self.compiled)


def corpus_of(config: Config) -> AnyCorpus:
    """Return the batches of a config: imported ones, or those cut from its text or its series."""
    match config:
        case ImportedConfig():
            return ImportedCorpus(config)
        case SeriesConfig():
            return SeriesCorpus(config)
    return Corpus(config)


def train(
    config: Config, *, epochs: int, learn: bool = True, weights: Weights | None = None
) -> Iterator[tuple[int, int, BatchRecord]]:
    """Run `epochs` epochs from `weights`, by default the initial ones. Yield (epoch, batch, record) after each batch, both counts
    0-based.

    A record that the caller does not hold is reused for a later batch.
    """
    trainer = Trainer(config, corpus_of(config))
    weights, settings = initial_weights(config) if weights is None else weights, config.settings
    state = trainer.initial_state()
    for epoch in range(epochs):
        earlier: list[BatchRecord] = []  # of this epoch, latest first; for carry `notebook`
        for batch in range(config.num_batches):
            record = trainer.new_record()
            weights, state = trainer.own_beginning(batch) or (weights, trainer.carried(batch, state))
            trainer.run(
                record,
                batch,
                weights,
                state,
                learn=learn,
                settings=settings,
                earlier=earlier,
            )
            yield epoch, batch, record
            weights, state = record.after, record.states(end=True)
            if config.carry == "notebook":
                earlier.insert(0, record)


# ------------------------------------------------------------------------------
# Computation of what is likely to be needed next, in a thread.


Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """One item, such as the next batch, that is read or computed in a thread while the item before it is in use.

    The methods are called by one thread at a time.
    """

    def __init__(self) -> None:
        self._key: Hashable = None
        self._thread = Thread()
        self._item: Item | None = None

    def is_free_for(self, key: Hashable) -> bool:
        """Return True if `begin` would begin to compute the item `key`."""
        return key != self._key and not self._thread.is_alive()

    def begin(self, key: Hashable, compute: Callable[[], Item]) -> None:
        """Begin to compute the item `key`, unless it is there or another is still being computed."""
        if not self.is_free_for(key):
            return
        self._key, self._item = key, None
        self._thread = Thread(target=self._run, args=(compute,), name="tui-gru-prefetch")
        self._thread.start()

    def take(self, key: Hashable) -> Item | None:
        """Return the item `key` if it has been or is being computed, and forget it; otherwise None, also if it failed. Computing it
        directly raises the error."""
        if key != self._key:
            return None
        if self._thread.is_alive():
            self._thread.join()
        item, self._item, self._key = self._item, None, None
        return item

    def _run(self, compute: Callable[[], Item]) -> None:
        try:
            self._item = compute()
        except Exception:  # the caller computes the item again, which raises the error
            self._item = None
