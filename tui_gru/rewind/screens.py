"""Where a loop finds what opens the debugger at a pause. The command line is above it, so it is given here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Terminal(Protocol):
    """Opens the debugger in the terminal of this process."""

    def require_terminal(self) -> None:
        """Raises a `TuiGruError` where no screen can be opened."""

    def open_debugger(self, make: Callable[[], Any]) -> None:
        """Open the debugger on the session that a function makes, until the user quits."""


#: Returns what opens screens, which loads the command line; set by the package when it is imported.
terminal: Callable[[], Terminal]
