"""A session on the batch that a script's own module has just computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_gru.debugger.session.session import Session
from tui_gru.engine.data.given import GivenConfig
from tui_gru.interop.opening.module import captured_run, last_step

if TYPE_CHECKING:
    from torch.nn import Linear, Module
    from torch.optim import Optimizer


def session_on(
    module: Module, optimizer: Optimizer | None = None, head: Linear | None = None, name: str | None = None
) -> Session | None:
    """A session on what `module` has computed since the last time; None the first time, which begins to watch it.

    Raises `CaptureError` where there is no GRU in it, none was called, or its inside cannot be computed.
    """
    step = last_step(module, optimizer, head)
    if step is None:
        return None
    given, said = captured_run(step, name)
    session = Session.on(GivenConfig.of_given(given))
    session.notice = said
    return session
