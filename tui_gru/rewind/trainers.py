"""Loops that are a trainer's: what its callbacks do, so that its last steps can be rewound, seen and tried again."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tui_gru.errors import TuiGruError
from tui_gru.rewind.run import ON, ScriptRun

if TYPE_CHECKING:
    from torch.nn import Linear

    from tui_gru.capture.calls import GivenCell
    from tui_gru.rewind.loop import TrainingLoop


class TrainerSteps:
    """The options of `tui_gru.steps` for the loop of a trainer, and the run, once the training has begun: `steps.run.again()`."""

    def __init__(
        self,
        *,
        pause: Any = None,
        record: Any = None,
        every: int = 100,
        on: str = ON,
        keep: int = 32,
        also: Sequence[Any] = (),
        head: Linear | None = None,
        cell: GivenCell | None = None,
        screen: bool | Callable[[ScriptRun], object] = True,
    ) -> None:
        """`tui_gru.steps` says what each option means; a step is one update of the trainer's loop."""
        self._options: dict[str, Any] = {
            "pause": pause, "record": record, "every": every, "on": on, "keep": keep, "also": also, "head": head, "cell": cell,
            "screen": screen,
        }  # fmt: skip
        self.run = ScriptRun((), None, None, body=_no_body, **self._options)  # a wrong option is told before the training
        self._loop: TrainingLoop | None = None
        self._is_first = True

    def begin(self, model: Any, optimizers: Sequence[Any], more: Sequence[Any], body: Callable[[Any], object]) -> None:
        """The training begins; `body` does what one step does, and `more` are objects that it changes."""
        self.run = ScriptRun((), model, list(optimizers), body=body, **self._options)
        self._loop = self.run.attach(None, more)
        self._is_first = True
        self.run.take_signals()

    def start_step(self, batch: Any, index: int) -> None:
        """A step begins, the one of a number, from 0, in its epoch."""
        if self._loop is not None:
            if self._is_first:
                self._loop.begin_epoch(None)
            self._loop.start_step(batch, index, first=self._is_first)
            self._is_first = False

    def add_to_batch(self, part: Any) -> None:
        """The step that has begun goes on with another part of its batch."""
        if self._loop is not None:
            self._loop.add_to_batch(part)

    def end_step(self) -> None:
        """The step is over, with its update; pause here if this is the place."""
        if self._loop is not None and self._loop.open is not None:
            self._loop.end_step()
            self.run.take_step()
            self.run.pause_here()

    def end_epoch(self) -> None:
        if self._loop is not None and not self._is_first:
            self._loop.end_epoch()
            self._is_first = True

    def died(self, error: BaseException) -> None:
        """An error ends the training."""
        if self._loop is not None:
            self.run.died(error)
            self.end()

    def end(self) -> None:
        """The training is over."""
        if self._loop is not None:
            self.end_epoch()
            self.run.return_signals()
            self.run.ended()


def _no_body(batch: Any) -> None:
    raise TuiGruError("the training has not begun; these are the steps of a trainer, which runs them")


def calling_trainer(callback: Any) -> Any:
    """Return the trainer of transformers that calls a callback, which does not say it. Raises `TuiGruError` if none does."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        callbacks = getattr(getattr(caller, "callback_handler", None), "callbacks", ())
        if any(entry is callback for entry in callbacks):
            return caller
        frame = frame.f_back
    raise TuiGruError("tui_gru.transformers.Steps is a callback of a Trainer: Trainer(…, callbacks=[tui_gru.transformers.Steps()])")
