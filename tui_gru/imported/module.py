"""The last captured step of a module of a script, opened as a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet

from tui_gru.capture.calls import CapturedStep, GivenCell, GRUCall, Note
from tui_gru.capture.hooks import UNTRAINED, Capture, Optimizers
from tui_gru.engine.source import Imported
from tui_gru.equations.syntax import did_you_mean
from tui_gru.errors import CaptureError, TuiGruError, shown
from tui_gru.imported.captured import CallShape, CapturedModel, batch_of, calls_of
from tui_gru.imported.recompute import sequences, stepped_call, without_gradients

if TYPE_CHECKING:
    from torch.nn import Linear, Module

WHY_CAPTURE_IS_FIXED = "this batch belongs to your script, whose optimizer trains: press q to continue the script"


class _Watched:
    """A captured module. `step` is the last step that had something to show; it can be asked for again, for another module in it.

    It belongs to the hooks on the modules in it, through the capture.
    """

    def __init__(self, module: Module, optimizer: Optimizers, head: Linear | None, cell: GivenCell | None) -> None:
        self.module = module
        self.step: CapturedStep | None = None
        self.capture_with(optimizer, head, cell)

    def capture_with(self, optimizer: Optimizers, head: Linear | None, cell: GivenCell | None) -> None:
        self.capture = Capture(
            self.module, optimizer, head=head, on_step=self._ignore, without_gradient=UNTRAINED, cell=cell, may_repeat=True
        )
        self.optimizer, self.head, self.cell = optimizer, head, cell

    def _ignore(self, step: CapturedStep) -> None:
        """Makes the capture hold this object; steps are taken with `Capture.cut`."""


_watched: WeakSet[_Watched] = WeakSet()  # a module lives no longer than in the script


def last_run(
    module: Module, optimizer: Optimizers, head: Linear | None, name: str | None = None, cell: GivenCell | None = None
) -> tuple[Imported, str] | None:
    """Return the last step of `module` since the previous call, as a run of one batch, and the first message (see `captured_run`).
    `cell` is the name of a hand-written cell, or its equations.

    Returns None on the first call, which begins the capture. A step can be asked for again while nothing new is computed, as for
    another module in it. Raises `CaptureError` for a wrong argument, with its name as `option`, and as `captured_run` does.
    """
    watched = _of(module)
    if watched is None:
        watched = _Watched(module, optimizer, head, cell)
        try:
            _check_name(watched, name)
        except CaptureError:
            watched.capture.close()
            raise
        _watched.add(watched)
        return None
    _check_name(watched, name)
    step = watched.capture.cut()
    again = watched.step is not None and not (step.calls or step.notes)
    watched.step = step = watched.step if again and watched.step is not None else step
    later = _captured_otherwise(watched, optimizer, head, cell)
    left_out = watched.capture.left_out
    if name in left_out:  # no wrong argument: a call has shown that it is no cell
        raise CaptureError(left_out[name])
    if left_out and not (watched.capture.modules or step.calls or step.notes):
        raise CaptureError("nothing is captured, for the reason in the warning before; cell= names a hand-written cell")
    if watched.capture.undecided and not (watched.capture.modules or step.calls or step.notes):
        raise CaptureError(watched.capture.undecided)
    try:
        source, remarks = captured_run(step, name)
    except CaptureError:
        raise
    except TuiGruError as error:  # of the model that computes it again, which is no argument of this call
        raise CaptureError(str(error)) from None
    return source, " ".join(filter(None, (remarks, SAME_BATCH if again else "", later)))


SAME_BATCH = "This is the batch of the call before: nothing was computed since."


def _check_name(watched: _Watched, name: str | None) -> None:
    names = watched.capture.names
    if name is not None and (not isinstance(name, str) or name not in (*names, *watched.capture.left_out)):
        raise CaptureError(
            f"there is no module {shown(name)} in it; {did_you_mean(name if isinstance(name, str) else '', names)}", option="name"
        )


def _of(module: Module) -> _Watched | None:
    return next((watched for watched in _watched if watched.module is module), None)


def _captured_otherwise(watched: _Watched, optimizer: Optimizers, head: Linear | None, cell: GivenCell | None) -> str:
    """Begin a new capture if the script gives an optimizer, a head or a cell that is not captured yet. Returns a sentence about it,
    or ""."""
    arguments = {"optimizer": optimizer, "head": head, "cell": cell}
    new = {name: value for name, value in arguments.items() if value is not None and not _same(value, getattr(watched, name))}
    if not new:
        return ""
    before = watched.capture
    watched.capture_with(
        watched.optimizer if optimizer is None else optimizer,
        watched.head if head is None else head,
        watched.cell if cell is None else cell,
    )
    before.close()
    are, them = ("is", "it") if len(new) == 1 else ("are", "them")
    return f"The {' and the '.join(new)} of this call {are} captured from the next batch on; give {them} to the first call as well."


def _same(one: object, other: object) -> bool:
    """Return True for the same object, and for lists of the same objects, which a script may write anew in each call."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return _same([*one.values()], [*other.values()])
    return one is other or (isinstance(one, str) and one == other)


def forget(module: Module) -> None:
    """Stop capturing a module: remove all hooks."""
    if (watched := _of(module)) is not None:
        watched.capture.close()
        _watched.remove(watched)


def captured_run(step: CapturedStep, name: str | None = None) -> tuple[Imported, str]:
    """Return a step as a run of one batch, and the first message.

    The run shows the module called `name`, by default the last one that learned. Raises `CaptureError` if none was called, or
    not the one of this name.
    """
    step = replace(step, calls=sequences(step))
    calls = step.calls
    chosen_calls = [stepped_call(call) for call in _chosen_calls(calls, name, step.notes)]
    frame = CapturedModel.around([[CallShape.of(call) for call in chosen_calls]])
    batch = batch_of(frame, [(step, chosen_calls)])
    others = [other for other in dict.fromkeys(call.module.name for call in calls) if other != frame.module.name]
    remarks = batch.remarks()
    if batch.is_misread():
        chosen_calls = [without_gradients(call) for call in chosen_calls]
        frame = CapturedModel.around([[CallShape.of(call) for call in chosen_calls]])
        batch = replace(batch_of(frame, [(step, chosen_calls)]), remarks=batch.remarks)
    if others:
        remarks += f" Also captured: {', '.join(others)}; name= or :module shows another."
    source = Imported(
        title=f"{frame.module.name} of your script",
        origin="your script",
        inputs_from="your script",
        structure=frame.structure,
        sizes=frame.sizes,
        dtype=frame.dtype,
        batches=(batch,),
        fixed=WHY_CAPTURE_IS_FIXED,
        learns=frame.learns,
        knows_loss=step.loss is not None,
        module=frame.module.name,
        modules=tuple(dict.fromkeys(call.module.name for call in calls)),
        of_module=partial(captured_run, step),
    )
    return source, remarks.strip()


def _chosen_calls(calls: Sequence[GRUCall], name: str | None, notes: Sequence[Note]) -> list[GRUCall]:
    """Return the last calls that learned, of one module with one set of weights."""
    names = list(dict.fromkeys(call.module.name for call in calls))
    if not names and Note.NOT_CAPTURED in notes:
        raise CaptureError(f"nothing can be shown: {Note.NOT_CAPTURED.sentence}; call the module on tensors of the CPU or a GPU")
    if not names:
        raise CaptureError("no recurrent module was called since the last call of debug; call debug after a forward pass")
    if name is not None and (not isinstance(name, str) or name not in names):
        raise CaptureError(f"{name} was not called since the last call of debug; these were: {', '.join(names)}")
    named = [call for call in calls if name in (None, call.module.name)]
    last = ([call for call in named if call.learned] or named)[-1]
    return calls_of([call for call in named if call.module == last.module])
