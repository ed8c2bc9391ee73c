"""The source of a timeline: where its batches come from, and what can be done with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.compiled import Compiled, compiled
from tui_gru.engine.model import Structure
from tui_gru.engine.numbers import counted
from tui_gru.engine.weights import Array, Weights
from tui_gru.errors import TuiGruError
from tui_gru.schema import Positive, one_of

if TYPE_CHECKING:
    from tui_gru.files.kinds import Blocks, Convention


def with_blanks(numbers: Sequence[float | None]) -> NDArray[np.float64]:
    """Return numbers as an array (n); where some are None, it is a masked array: one that is not known differs from NaN there."""
    values = np.array([math.nan if number is None else number for number in numbers], np.float64)
    return masked_where(values, [number is None for number in numbers])


def masked_where(values: NDArray[np.float64], blank: Sequence[bool] | NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return values (n) as they are, or as a masked array if some are `blank`, (n)."""
    return np.ma.masked_array(values, np.array(blank)) if np.any(blank) else values


class Ability(StrEnum):
    """What can be done with the batches of a source."""

    TRAIN = "train"  # weights are updated, so that a batch begins where the batch before it ended, and epochs follow
    TEXT = "text"  # inputs and targets are characters of a text: they can be edited, predicted, sampled and held out
    BACKWARD = "backward"  # there is a gradient at the end of the forward pass
    LOSS = "loss"  # the loss is known, computed or reported


class Source:
    """The source of a timeline. `title` describes it in a few words, "" if its text does.

    `refusals` has, for each `Ability` that is missing, the sentence that says why. `places` names the origin of each batch, such as
    `step 300`; `steps` has the step numbers of a recording. `numbers` (batches, 3) has the loss, gradient norm and largest weight
    of each batch as far as they are known before it is computed, else NaN; None if nothing is.
    """

    title: str
    places: Sequence[str]
    steps: tuple[int, ...]
    numbers: NDArray[np.float64] | None
    epochs: int | None  # the number of epochs; None: no end
    module: str  # the name of the module that is shown, "" if it has none
    modules: tuple[str, ...]  # all that were captured together, in the order of their calls
    unknown_losses: frozenset[int] = frozenset()  # the batches whose loss is not known; one that is NaN is known
    unknown_norms: frozenset[int] = frozenset()  # the steps of a recording of which it has no norm of p.grad
    without_gradients: frozenset[int] = frozenset()  # the batches that got no gradient, so that they end with the loss

    @property
    def refusals(self) -> Mapping[Ability, str]:
        return {}

    def unknown(self, column: str) -> frozenset[int]:
        """Return the batches of which loss or grad_norm is not known, where the run has some of them."""
        return {"loss": self.unknown_losses, "grad_norm": self.unknown_norms}.get(column, frozenset())

    def can(self, ability: Ability) -> bool:
        return ability not in self.refusals

    def check(self, ability: Ability, option: str | None = None) -> None:
        """Raise `TuiGruError`, with the reason, if an ability is missing."""
        if (why := self.refusals.get(ability)) is not None:
            raise TuiGruError(why, option=option)

    def batch(self, number: int) -> ImportedBatch | None:
        """Return what another program computed in a batch; None if there is no other program."""
        return None

    def step(self, batch: int) -> str:
        """Return the step of a recording in words, `step 300`; "" for another source."""
        return f"step {self.steps[batch]:,}" if self.steps else ""


class Replayed(Source):
    """Batches of a text, computed from the initial weights on, and replayed from checkpoints: everything can be done with them."""

    title, places, steps, numbers, epochs, module, modules = "", (), (), None, None, "", ()


REPLAYED = Replayed()


@dataclass(frozen=True, eq=False)
class Series(Replayed):
    """Series of numbers with their targets: like a text, but its inputs are numbers.

    `inputs` (R, N, I) are R series of N timesteps; `targets` are numbers (R, N, V), or classes (R, N), whole numbers below V. Both
    are read-only and finite.
    """

    inputs: NDArray[np.floating]
    targets: NDArray[Any]
    classes: int  # V, the number of classes; 0 if the targets are numbers

    @property
    def shape(self) -> tuple[int, int, int]:
        """R series, N timesteps, I inputs."""
        count, length, width = map(int, self.inputs.shape)
        return count, length, width

    @property
    def title(self) -> str:  # type: ignore[override]
        count, length, width = self.shape
        series = "1 series" if count == 1 else f"{count:,} series"
        return f"{series} of {length:,} timesteps, {counted(width, 'input')}"

    @property
    def refusals(self) -> Mapping[Ability, str]:
        return {Ability.TEXT: "this run has no text: it reads numbers"}


class ModuleLink(NamedTuple):
    """A number of another module in the same batch: `name` at timestep `t` (from 0) of the run of `module`, with the same index."""

    module: str
    name: str
    t: int


@dataclass(frozen=True, eq=False)
class ImportedBatch:
    """The data of one batch.

    `inputs` has every input of the model by name: numbers (T, B, I), a mask (T, B) or (T, B, ·), or whole numbers (T, B) for a
    one-hot input. `states` are the first states, flattened and concatenated. `upstream` (T, B, ·) is the gradient of the
    model's output and `flows` has the gradient of each last state (B, ·); both are None if there are none. `inner` has the
    gradients (T, B, ·) of other states that something outside reads, by name. `expected` (T, B, ·) is the output of the
    original run, which may differ by `tolerance` relative to its largest entry; `loss` is its loss; `recorded` has the
    gradients that the optimizer used, and `settings` its settings. They are None or NaN if unknown. `remarks` returns sentences
    on how the gradients were computed; it may use the gradients that `derived` has received, since it is called with them when
    the batch has been computed as it was imported. `links` returns where states come from and go to in other modules: for a
    state, the last state of another module that it begins with; for its gradient, `dh`, that of the first state of the module
    that begins with it.
    """

    weights: Weights
    inputs: Mapping[str, Array]
    states: Array
    upstream: Array | None = None
    flows: Sequence[Array] | None = None
    inner: Mapping[str, Array] = field(default_factory=dict)
    expected: Array | None = None
    loss: float = math.nan
    tolerance: float | None = None
    recorded: Weights | None = None
    settings: Mapping[str, float] = field(default_factory=dict)
    remarks: Callable[[], str] = str
    derived: Callable[[Weights], None] = lambda gradients: None
    links: Callable[[], Mapping[str, ModuleLink]] = dict


NO_TEXT = "this run has no text: its inputs were imported"


@dataclass(frozen=True, eq=False)
class Imported(Source):
    """Batches of one model from a file, a script or a recording, all of the same sizes. Each is exact, and begins with its own
    weights and states; there is never an update.

    `batches` may load each batch when it is accessed. `origin` names the source of the weights, such as `model.pt`, and
    `inputs_from` that of the inputs. `fixed` says why training cannot continue. `learns` is True if gradients from outside are
    given, so that there is a backward pass; the batches `without_gradients` have none, such as a step within which a script ended.
    `knows_loss` is True if the original run reported its losses; those of the batches `unknown_losses` are not known.
    Of the `numbers` of a recording, the norms of p.grad of the steps `unknown_norms` are not known either.

    For batches that stay in a recording, `identity` returns JSON that says where the recording is and how to recognise it. For a
    model file, `stored` returns its convention and its numbers by layer and direction. If that is a GRU, `reading` has the place of
    the reset gate and the meaning of z; `again` reads the file in another way, compares the result with an output, and returns the
    new data and a sentence about the comparison.

    `of_module` returns the run of another of the `modules`, and the first message; it is None where there are no others. Of a
    recording that is followed, `newer` returns the run with the steps that were written since, and a message; None if there are
    none. It is quick if nothing has changed, and may run in any thread.
    """

    title: str
    origin: str
    inputs_from: str
    structure: Structure
    sizes: Mapping[str, int]
    dtype: str
    batches: Sequence[ImportedBatch]
    fixed: str
    learns: bool = False
    knows_loss: bool = False
    places: Sequence[str] = ()
    steps: tuple[int, ...] = ()
    unknown_losses: frozenset[int] = frozenset()
    unknown_norms: frozenset[int] = frozenset()
    without_gradients: frozenset[int] = frozenset()
    reading: tuple[str, str] = ("", "")
    again: Callable[[str | None, str | None, Array], tuple[Imported, str]] | None = None
    numbers: NDArray[np.float64] | None = None
    identity: Callable[[], Mapping[str, Any]] | None = None
    stored: Callable[[], tuple[Convention, Sequence[Sequence[Blocks]]]] | None = None
    module: str = ""
    modules: tuple[str, ...] = ()
    of_module: Callable[[str], tuple[Imported, str]] | None = None
    newer: Callable[[], tuple[Imported, str] | None] | None = None
    epochs: int | None = field(default=1, init=False)

    @property
    def refusals(self) -> Mapping[Ability, str]:
        reasons = {Ability.TRAIN: self.fixed, Ability.TEXT: NO_TEXT}
        reasons |= {} if self.learns else {Ability.BACKWARD: "this model ends without a loss"}
        return reasons if self.knows_loss else reasons | {Ability.LOSS: "the loss was not recorded"}

    def batch(self, number: int) -> ImportedBatch:
        return self.batches[number]


# ------------------------------------------------------------------------------
# A run on one imported batch as it is saved: its description, and its arrays by name.


@dataclass(frozen=True)
class ImportedFact:
    """A run on one imported batch, without its arrays."""

    title: str
    origin: str
    inputs_from: str
    fixed: str
    dtype: Annotated[str, one_of("float32", "float64")]
    structure: Structure
    sizes: Mapping[str, Positive]
    learns: bool
    loss: float | None
    tolerance: float | None
    said: str


# The pieces that such a run can have.
_OWN = {"input": ("dense", "embedding"), "head": ("", "linear"), "loss": ("",), "update": ("sgd",)}
_OWN |= {f"{kind}_text": ("",) for kind in ("head", "loss", "update")}  # no file of the user but that of a cell


def fact_of(source: Imported) -> ImportedFact:
    """Return the description of a run."""
    batch = source.batches[0]
    return ImportedFact(
        source.title, source.origin, source.inputs_from, source.fixed, source.dtype, source.structure, source.sizes, source.learns,
        batch.loss if source.knows_loss and np.isfinite(batch.loss) else None, batch.tolerance, batch.remarks(),
    )  # fmt: skip


def arrays_of(source: Imported) -> dict[str, NDArray[Any]]:
    """Return the arrays of a run, by name."""
    batch = source.batches[0]
    arrays: dict[str, NDArray[Any]] = {"weights": batch.weights.flat, "states": batch.states}
    arrays |= {f"input {name}": np.asarray(array) * 1 for name, array in batch.inputs.items()}  # `* 1` turns a mask into integers
    arrays |= {f"flow {i}": flow for i, flow in enumerate(batch.flows or ())}
    arrays |= {f"inner {name}": gradient for name, gradient in batch.inner.items()}
    recorded = None if batch.recorded is None else batch.recorded.flat
    others = {"outside": batch.upstream, "expected": batch.expected, "recorded": recorded}
    return arrays | {name: array for name, array in others.items() if array is not None}


def imported_of(fact: ImportedFact, arrays: Mapping[str, NDArray[Any]]) -> Imported:
    """Recreate the run. Raises `ValueError`, `KeyError` or `TypeError` for inconsistent data, before allocating memory for it."""
    structure, sizes = fact.structure, fact.sizes
    if any(getattr(structure, name) not in allowed for name, allowed in _OWN.items()):
        raise ValueError("has a model that is not given")
    inputs = {name.removeprefix("input "): array for name, array in arrays.items() if name.startswith("input ")}
    if (sizes["T"], sizes["B"]) != next(iter(inputs.values())).shape[:2]:
        raise ValueError("has sizes that do not fit its arrays")
    inner = {name.removeprefix("inner "): array for name, array in arrays.items() if name.startswith("inner ")}
    model, dtype, learns = compiled(structure, sizes, fact.dtype), np.dtype(fact.dtype), fact.learns
    _check_arrays(model, arrays, inputs, inner, learns=learns)
    page, recorded = model.model.page, arrays.get("recorded")
    batch = ImportedBatch(
        weights=Weights(model.layout, np.array(arrays["weights"], dtype)),
        inputs={name: array.astype(np.intp) if page.inputs[name].one_hot else array for name, array in inputs.items()},
        states=np.array(arrays["states"], dtype),
        upstream=arrays.get("outside"),
        flows=[arrays[f"flow {i}"] for i in range(len(page.states))] if learns else None,
        inner=inner,
        expected=arrays.get("expected"),
        loss=math.nan if fact.loss is None else fact.loss,
        tolerance=fact.tolerance,
        recorded=None if recorded is None else Weights(model.layout, np.array(recorded, dtype)),
        remarks=lambda: fact.said,
    )
    texts = fact.title, fact.origin, fact.inputs_from
    return Imported(*texts, structure, sizes, fact.dtype, (batch,), fact.fixed, learns=learns, knows_loss=fact.loss is not None)


def _check_arrays(
    model: Compiled,
    arrays: Mapping[str, NDArray[Any]],
    inputs: Mapping[str, NDArray[Any]],
    inner: Mapping[str, NDArray[Any]],
    *,
    learns: bool,
) -> None:
    """Raise `ValueError` for arrays that do not fit the model, `KeyError` for one that is missing."""
    page, axes = model.model.page, model.model.axes
    if arrays["weights"].shape != (model.layout.size,):
        raise ValueError("has other weights than its equations")
    for name, declared in page.inputs.items():
        if inputs[name].shape != (model.shape(axes[name])[:2] if declared.one_hot else model.shape(axes[name])):
            raise ValueError(f"has the input {name} in another shape")
        if declared.one_hot and not 0 <= inputs[name].min() <= inputs[name].max() < model.shape(axes[name])[-1]:
            raise ValueError("has a token that its table does not have")
    states = [model.shape(axes[state])[1:] for state in page.states]
    if arrays["states"].shape != (sum(int(np.prod(shape)) for shape in states),):
        raise ValueError("has first states of another shape")
    if learns:
        flows = [arrays[f"flow {i}"].shape for i in range(len(states))]
        if arrays["outside"].shape != model.shape(axes[page.outputs[0]]) or flows != states:
            raise ValueError("has gradients from outside of another shape")
    if any(name not in page.outputs[1:] or array.shape != model.shape(axes[name]) for name, array in inner.items()):
        raise ValueError("has gradients of states from outside of another shape")
    if "recorded" in arrays and arrays["recorded"].shape != arrays["weights"].shape:
        raise ValueError("has recorded gradients of another shape")
