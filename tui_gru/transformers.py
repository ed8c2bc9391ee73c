"""Rewind and try in the loop of the Trainer of Hugging Face: `Trainer(…, callbacks=[tui_gru.transformers.Steps(pause=40)])`."""

from __future__ import annotations

import functools
from typing import Any

from tui_gru.errors import TuiGruError
from tui_gru.rewind.trainers import TrainerSteps, calling_trainer

try:
    from transformers import TrainerCallback
except ImportError:
    raise TuiGruError("tui_gru.transformers needs transformers; install it: pip install transformers accelerate") from None


class Steps(TrainerSteps, TrainerCallback):  # type: ignore[misc]
    """A callback with which the last updates of the training can be rewound, seen and tried again. Its options are those of
    `tui_gru.steps`; `run` is what `tui_gru.steps` returns. A step is one update, of all batches whose gradients it accumulates."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        from torch.optim.lr_scheduler import ReduceLROnPlateau

        trainer = self._trainer = calling_trainer(self)
        model, optimizer, scheduler = more["model"], more["optimizer"], more["lr_scheduler"]
        train_on = trainer.training_step
        accelerator = trainer.accelerator

        @functools.wraps(train_on)
        def training_step(model: Any, inputs: Any, *counts: Any, **named: Any) -> Any:
            """A step of the trainer, whose batch is remembered."""
            self.add_to_batch((inputs, counts, named))
            try:
                return train_on(model, inputs, *counts, **named)
            except Exception as error:
                self.died(error)
                raise

        def body(parts: Any) -> None:
            """What the trainer does for an update, without its callbacks."""
            trainer.current_gradient_accumulation_steps = len(parts)
            for place, (inputs, counts, named) in enumerate(parts):
                accelerator.gradient_state._set_sync_gradients(place == len(parts) - 1)
                train_on(wrapped(), inputs, *counts, **named)
            if args.max_grad_norm is not None and args.max_grad_norm > 0:
                accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()
            if not accelerator.optimizer_step_was_skipped and not isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step()
            model.zero_grad()

        def wrapped() -> Any:
            return trainer.model_wrapped

        trainer.training_step = training_step
        self._index = 0
        self.begin(model, [getattr(optimizer, "optimizer", optimizer)], [optimizer, scheduler, accelerator, trainer], body)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._index = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.start_step([], self._index)
        self._index += 1

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.end_step()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.end_epoch()

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        vars(self._trainer).pop("training_step", None)
        self.end()
