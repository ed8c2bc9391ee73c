"""`tui_gru.debug`: a training script stands still, and the debugger opens on the batch that it has just computed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tui_gru.cli.terminal import require_terminal, speaks_utf8
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
    """Open the debugger on the batch that `module` has just computed; like breakpoint(), in a script that trains.

        tui_gru.debug(model, optimizer)  # before the loop: watch from here on
        for x, y in batches:
            …; loss.backward(); optimizer.step()
            tui_gru.debug(model, optimizer)  # opens on this batch; q lets the script go on

    It is read by hooks on every torch.nn.GRU and GRUCell in the module. The first call sets them; PyTorch has not kept what was
    computed before it, so it says so on standard error and returns None. The script computes what it would without. head: the
    torch.nn.Linear that reads the GRU's output. name: which GRU, where there are several. With screen=False, in a notebook or
    without a terminal nothing is opened; the session is returned in any case.

    Raises `TuiGruError`, one line that names the argument and the cure.
    """
    from tui_gru.debugger.session.live_module import session_on

    session = session_on(module, optimizer, head, name)
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
    from tui_gru.cli.screen import open_debugger

    open_debugger(lambda: session, theme=None, ascii=not speaks_utf8(os.environ, sys.stdout.encoding), keymap=None)
    return session
