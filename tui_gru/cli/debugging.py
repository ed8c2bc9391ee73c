"""`tui_gru.debug`, which pauses a training script and opens the debugger on the batch just computed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tui_gru.cli.screen import open_debugger, require_terminal
from tui_gru.engine.errors import TuiGruError

if TYPE_CHECKING:
    from torch.nn import Linear, Module
    from torch.optim import Optimizer

    from tui_gru.debugger.session.session import Session

WATCHING = (
    "tui_gru.debug: nothing to show yet. PyTorch does not keep what a GRU has computed, so the first call of debug only sets hooks "
    "on the module; the next call opens on the batch computed before it"
)
INSTEAD = (
    "screen=False gives the session, and tui_gru.record(folder, module, optimizer) writes a recording for `tui-gru open` elsewhere"
)


def debug(
    module: Module,
    optimizer: Optimizer | None = None,
    head: Linear | None = None,
    screen: bool = True,
    name: str | None = None,
) -> Session | None:
    """Open the debugger on the batch that `module` has just computed; like breakpoint(), in a training script.

        tui_gru.debug(model, optimizer)  # before the loop: capture from here on
        for x, y in batches:
            …; loss.backward(); optimizer.step()
            tui_gru.debug(model, optimizer)  # opens on this batch; q continues the script

    Hooks on every torch.nn.GRU and GRUCell of the module capture the batch. The first call only sets the hooks, because PyTorch
    does not keep what was computed before; it prints a message to standard error and returns None. The hooks do not change what the
    script computes. `head` is the torch.nn.Linear that reads the GRU's output, `name` the GRU if there are several. Later calls
    return the session; with screen=False, in a notebook or without a terminal, no screen opens.

    Raises `TuiGruError`, one line that names the argument and says what to do.
    """
    from tui_gru.debugger.session.loading import on_module
    from tui_gru.engine.reference.torch_loading import require_torch

    require_torch("tui_gru.debug")
    session = on_module(module, optimizer, head, name)
    if session is None:
        print(WATCHING, file=sys.stderr)
    if session is None or not screen:
        return session
    try:
        require_terminal()
    except TuiGruError as error:
        why = "a notebook is not a terminal" if "ipykernel" in sys.modules else str(error).partition(":")[0]
        print(f"tui_gru.debug: {why}: {INSTEAD}", file=sys.stderr)
        return session
    open_debugger(lambda: session)
    return session
