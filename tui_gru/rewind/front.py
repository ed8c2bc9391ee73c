"""`tui_gru.steps` and `tui_gru.kept`, which load nothing before they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tui_gru.torch_loading import require_torch

if TYPE_CHECKING:
    from torch.nn import Linear, Module

    from tui_gru.capture.calls import GivenCell
    from tui_gru.capture.hooks import Optimizers
    from tui_gru.rewind.run import ScriptRun
    from tui_gru.rewind.states import Cursor


def steps(
    loader: Iterable[Any],
    model: Module | None = None,
    optimizer: Optimizers = None,
    *,
    pause: int | str | Iterable[int] | None = None,
    record: Any = None,
    every: int = 100,
    on: str = "nan or loss > 3*mean(loss)",
    keep: int = 32,
    also: Sequence[Any] = (),
    body: Callable[[Any], object] | None = None,
    head: Linear | None = None,
    cell: GivenCell | None = None,
    screen: bool | Callable[[ScriptRun], object] = True,
) -> ScriptRun:
    """Iterate over the batches of a training loop, so that its last steps can be rewound, seen and tried again.

        for x, y in tui_gru.steps(loader, model, optimizer):
            …  # the body stays as it is

    While the script trains, no hooks are set. At a pause the last `keep` steps run again, from the source of the body, with a
    recorder on; so do trials of them with a change, after which everything is put back.

    pause: a step (from 1), several, or a condition such as "loss > 2", after which the loop pauses; so does ctrl+c, pressed once,
    and the variable TUI_GRU_PAUSE. screen: True opens the debugger in the terminal at a pause, a function is called with this run
    instead, and False never pauses. also: objects whose state cannot be put back, and that a trial gets copies of. body: a function
    of the batch that does what a step does, where the loop is not the script's own. head, cell: as of `tui_gru.debug`.

    Returns the run, to iterate over, with `again`, `rates`, `try_cures`, `session` and `adopt`. Raises `TuiGruError` for a wrong
    argument. What it finds while the script trains never ends the script.
    """
    require_torch("tui_gru.steps")
    from tui_gru.rewind.run import ScriptRun

    return ScriptRun(
        loader, model, optimizer, pause=pause, record=record, every=every, on=on, keep=keep, also=also, body=body, head=head,
        cell=cell, screen=screen,
    )  # fmt: skip


def kept(iterator: Iterable[Any], most: int = 1024) -> Cursor:
    """Return an iterator that the body of a loop can take items from by `next`, and whose last `most` items are kept, so that the
    loop can be rewound: `it = tui_gru.kept(it)`, before the loop."""
    require_torch("tui_gru.kept")
    from tui_gru.rewind.states import Cursor

    return Cursor(iterator, most)
