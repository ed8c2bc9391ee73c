"""A session on the last batch that a PyTorch module of a running script has computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_gru.debugger.session.session import Session
from tui_gru.engine.data.given import GivenConfig
from tui_gru.interop.opening.module import last_run

if TYPE_CHECKING:
    from torch.nn import Linear, Module
    from torch.optim import Optimizer


def session_on(
    module: Module, optimizer: Optimizer | None = None, head: Linear | None = None, name: str | None = None
) -> Session | None:
    """Open a session on the calls of `module` since the last call of this function. The first call starts watching it: None.

    Raises `CaptureError` if the module has no GRU, none was called, or its values cannot be recomputed.
    """
    run = last_run(module, optimizer, head, name)
    if run is None:
        return None
    given, notice = run
    session = Session.on(GivenConfig.of_given(given))
    session.notice = notice
    return session
