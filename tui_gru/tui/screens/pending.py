"""Input that a verb waits for or uses: a count before a key, a letter after it, the answer to a question."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual import events

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen

LARGEST_COUNT = 10**9


class Pending:
    """At most one count, one letter and one question. `leaving` is True after the warning that quitting loses work."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self._count = 0
        self._letter: Callable[[str], None] | None = None
        self._yes: Callable[[], None] | None = None
        self._no = ""  # the message if the answer is not yes
        self.leaving = False

    # A count

    @property
    def counting(self) -> bool:
        """True if a count has been typed for the next key."""
        return self._count > 0

    def digit(self, digit: int) -> None:
        self._count = min(self._count * 10 + digit, LARGEST_COUNT)
        self._show(str(self._count) if self._count else "")

    def take_count(self) -> int:
        """Return the count typed before this key, 1 if there was none, and reset it."""
        count, self._count = self._count or 1, 0
        self._show("")
        return count

    def _show(self, prefix: str) -> None:
        self._screen.bottom.prefix = prefix

    # A letter

    def wait_for_letter(self, then: Callable[[str], None], sign: str) -> None:
        """Call `then` with the letter typed next, and show `sign` until then."""
        self._letter = then
        self._show(sign)

    # A question

    def ask(self, yes: Callable[[], None], *, otherwise: str) -> None:
        """Call `yes` if the next key is y, otherwise show `otherwise`."""
        self._yes, self._no = yes, otherwise

    def withdraw(self) -> bool:
        """Withdraw the question. Return True if there was one."""
        asked, self._yes = self._yes is not None, None
        if asked:
            self._screen.say(self._no)
        return asked

    # Keys

    def take_key(self, event: events.Key) -> bool:
        """Handle a key as the awaited letter or answer. Return True if its binding must not be executed."""
        if self._letter is not None:
            return self._take_letter(event, self._letter)
        if self._yes is None:
            return False
        yes = self._yes
        self.withdraw()
        if event.key == "y":
            yes()
        return True

    def _take_letter(self, event: events.Key, then: Callable[[str], None]) -> bool:
        self._letter = None
        self._show("")
        self._screen.say("")
        if event.is_printable and event.character is not None:
            then(event.character)
        return event.key == "escape" or event.is_printable
