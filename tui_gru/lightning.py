"""Rewind and try in the loop of a Lightning trainer: `lightning.Trainer(callbacks=[tui_gru.lightning.Steps(pause=40)])`."""

from __future__ import annotations

from typing import Any

from tui_gru.errors import TuiGruError
from tui_gru.rewind.trainers import TrainerSteps

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError:
        raise TuiGruError("tui_gru.lightning needs Lightning; install it: pip install lightning") from None


class Steps(TrainerSteps, Callback):  # type: ignore[misc]
    """A callback with which the last batches of the training can be rewound, seen and tried again. Its options are those of
    `tui_gru.steps`; `run` is what `tui_gru.steps` returns. A step is one batch."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        loop = trainer.fit_loop.epoch_loop
        optimization = loop.automatic_optimization if module.automatic_optimization else loop.manual_optimization

        def body(item: Any) -> None:
            """What the trainer does for a batch, without its callbacks."""
            batch, index, epoch, is_last = item
            loop.batch_progress.current.ready = index + 1
            loop.batch_progress.is_last_batch = is_last
            trainer.fit_loop.epoch_progress.current.processed = epoch
            arguments = loop._build_kwargs({}, batch, index)
            if module.automatic_optimization:
                optimization.run(trainer.optimizers[0], index, arguments)
            else:
                optimization.run(arguments)
            loop.update_lr_schedulers("step", update_plateau_schedulers=False)
            if loop._num_ready_batches_reached():
                loop.update_lr_schedulers("epoch", update_plateau_schedulers=False)

        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        progress = (
            loop.batch_progress,
            trainer.fit_loop.epoch_progress,
            optimization.optim_progress if module.automatic_optimization else optimization.optim_step_progress,
        )
        self.begin(module, trainer.optimizers, [*schedulers, *progress, trainer], body)

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int, *more: Any) -> None:
        progress = trainer.fit_loop.epoch_loop.batch_progress
        self.start_step((batch, batch_idx, trainer.current_epoch, progress.is_last_batch), batch_idx)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int, *more: Any) -> None:
        self.end_step()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.end_epoch()

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.end()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        self.died(exception)
