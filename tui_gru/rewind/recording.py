"""Steps of a loop that are computed again, as a recording, and the session on it."""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_gru.capture.facts import StepWatch
from tui_gru.capture.hooks import Capture, hook_calls, optimizers_in, unhook
from tui_gru.capture.record import Recorder
from tui_gru.rewind.states import RewindError, ScriptState
from tui_gru.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui_gru.analysis.live import LiveLoop
    from tui_gru.rewind.loop import TrialOutcome
    from tui_gru.rewind.losses import StepLosses


class StepRecorder:
    """Records the steps of a trial from its first one on: into a folder of its own, or among those of a recorder."""

    def __init__(
        self,
        target: Path | Recorder,
        model: Any,
        optimizer: Any,
        *,
        head: Any,
        cell: Any,
        losses: Sequence[float] = (),
        error: BaseException | None = None,
    ) -> None:
        """`losses` are those of the steps of the script so far; `error` is what has ended it."""
        self._target, self._model, self._optimizer, self._head, self._cell = target, model, optimizer, head, cell
        self._losses, self._error = [None if math.isnan(loss) else loss for loss in losses], error
        self._recorder: Recorder | Capture | None = None
        self.folder: Path | None = None

    def begin(self, first: int, state: ScriptState) -> StepRecorder:
        """Set the hooks, at the beginning of step `first` (from 0). Raises `TuiGruError` if there is nothing to record."""
        model = self._model if self._model is not None else recurrent_module(state)
        optimizer = self._optimizer if self._optimizer is not None else list(state.optimizers) or None
        self._close()
        target = self._target
        if isinstance(target, Recorder):
            self._recorder = Capture(
                model, optimizer, head=self._head, on_step=target.add, on_not_finite=lambda step: None, cell=self._cell
            )
            self._recorder.begin_at(first + 1)  # the steps are numbered from 1, as in `pause`
        else:
            if self.folder is not None and self.folder.exists():  # the trial begins anew, without a statement
                shutil.rmtree(self.folder)
            self._recorder = Recorder(target, model, optimizer, self._head, every=1, last=0, on="", cell=self._cell)
            self._recorder.begin_at(first + 1, [None, *self._losses])
            self.folder = self._recorder.folder
        return self

    def step(self, losses: StepLosses) -> None:
        assert self._recorder is not None
        self._recorder.step(losses.total if losses.count else None)

    def pass_over(self) -> None:
        """The next step is left out."""
        if isinstance(self._recorder, Recorder):
            self._recorder.pass_over()

    def end(self, outcome: TrialOutcome) -> None:
        """End the recording, within a step if the trial ended in one by an error."""
        error = self._error or outcome.error
        recorder, self._recorder = self._recorder, None
        if isinstance(recorder, Recorder):
            recorder.__exit__(None if error is None else type(error), error, None)
        elif recorder is not None:
            recorder.close(stopped=error is not None)

    def _close(self) -> None:
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None


class StepWatcher:
    """Measures the facts of the steps of a trial from its first one on."""

    def __init__(self, model: Any, optimizer: Any) -> None:
        self._model, self._optimizer = model, optimizer
        self.watch: StepWatch | None = None

    def begin(self, first: int, state: ScriptState) -> StepWatcher:
        """Set the hooks, at the beginning of step `first` (from 0)."""
        self.close()
        model = self._model if self._model is not None else recurrent_module(state)
        optimizers = optimizers_in(self._optimizer if self._optimizer is not None else list(state.optimizers))
        self.watch = StepWatch(model, optimizers, hook_calls, unhook, keeps_tapes=True, all_steps=True)
        self.watch.implicit = False
        return self

    def step(self, losses: StepLosses) -> None:
        assert self.watch is not None
        self.watch.end_step(losses.total if losses.count else None)

    def pass_over(self) -> None:
        """The next step is left out, of which there are no facts."""

    def end(self, outcome: TrialOutcome) -> None:
        self.close()

    def close(self) -> None:
        if self.watch is not None:
            self.watch.close()


def recurrent_module(state: ScriptState) -> Any:
    """Return the outermost module of the script with a recurrent one in it. Raises `RewindError` without one."""
    import torch

    inner = {id(part) for module in state.modules for part in module.modules() if part is not module}
    outer = [module for module in state.modules if id(module) not in inner]
    recurrent = [
        module for module in outer if any(isinstance(part, torch.nn.RNNBase | torch.nn.RNNCellBase) for part in module.modules())
    ]
    if not outer:
        raise RewindError("the loop reaches no module; name it: tui_gru.steps(loader, model, optimizer)")
    return (recurrent or outer)[0]


def new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="tui-gru-")) / "steps.gru"


def opened(folder: Path, loop: LiveLoop) -> Session:
    """Return a session on a recording, at its end, that tries on the loop of the script. The files go with the session."""
    session = Session.open(folder)
    if session.end is not None:
        session.seek(session.end)
    session.live = loop
    weakref.finalize(session, shutil.rmtree, folder.parent, ignore_errors=True)
    return session
