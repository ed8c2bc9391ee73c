"""From the bytes that come from a terminal to messages. What is no text, and no sequence that is known, is left out."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable
from contextlib import suppress

from textual import events
from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.message import Message

LONGEST = 31  # characters of a control sequence, which Textual's parser takes for keys beyond that
LONGEST_PASTE = 10**6  # characters: of a longer paste the rest is left out
LARGEST = 10_000  # columns and rows of a terminal
PASTE_BEGINS, PASTE_ENDS = "\x1b[200~", "\x1b[201~"


class InputParser:
    """Textual's parser (8.2), which makes keys of the characters of a sequence that it does not know, and ends at some numbers.

    A control sequence is an escape, `[`, numbers, and a sign that ends it. One that means nothing is left out whole, so that its
    characters do nothing.
    """

    def __init__(self, debug: bool = False) -> None:
        self._parser = XTermParser(debug)
        self._debug = debug
        self._decode = getincrementaldecoder("utf-8")("ignore").decode
        self._sequence = ""  # what has come of a control sequence
        self._skipping = False  # to the end of one that is too long
        self._pasted: list[str] | None = None  # what has come of a paste

    def feed(self, data: bytes) -> list[Message]:
        """The messages of the bytes that have come, as far as these are whole."""
        return [message for char in self._decode(data) for message in self._of(char)]

    def tick(self) -> list[Message]:
        """What an escape is that nothing has followed."""
        return self._parsed(self._parser.tick)

    def end(self) -> list[Message]:
        """What is left when nothing more comes."""
        with suppress(EOFError, ParseError):
            return self._parsed(lambda: self._parser.feed(""))
        return []

    def _of(self, char: str) -> list[Message]:
        if self._skipping:
            self._skipping = not _ends(char)
            return []
        if self._pasted is not None:
            return self._paste(self._pasted, char)
        messages = self._parsed(lambda: self._parser.feed(char))
        self._sequence = char if char == "\x1b" else f"{self._sequence}{char}" if self._sequence else ""
        sequence = self._sequence
        if len(sequence) < 2:
            return messages
        if sequence[1] != "[" or sequence in ("\x1b[M", "\x1b[["):  # not of this form: the old mouse, the Linux console
            self._sequence = ""
        elif _ends(char) and len(sequence) > 2:
            self._sequence, self._pasted = "", [] if sequence == PASTE_BEGINS else None
            if not messages:
                self._begin_again()
        elif len(sequence) == LONGEST:
            self._sequence, self._skipping = "", True
            self._begin_again()
        return messages

    def _paste(self, pasted: list[str], char: str) -> list[Message]:
        """A paste once it is whole, with the escapes that are in it."""
        pasted.append(char)
        if char != "~" or "".join(pasted[-len(PASTE_ENDS) :]) != PASTE_ENDS:
            del pasted[LONGEST_PASTE : -len(PASTE_ENDS)]
            return []
        self._pasted = None
        return [events.Paste("".join(pasted[: -len(PASTE_ENDS)]).replace("\0", ""))]

    def _parsed(self, parse: Callable[[], Iterable[Message]]) -> list[Message]:
        try:
            return [message for message in parse() if _makes_sense(message)]
        except (ValueError, OverflowError, IndexError):  # of a number that is none, or no character's
            self._begin_again()
            return []

    def _begin_again(self) -> None:
        """Forget what has been read of a sequence."""
        last, self._parser = self._parser, XTermParser(self._debug)
        for name in ("last_x", "last_y", "mouse_pixels", "terminal_size", "terminal_pixel_size"):
            setattr(self._parser, name, getattr(last, name))


def _ends(char: str) -> bool:
    """Whether a character ends a control sequence."""
    return "@" <= char <= "~" or char < " "


def _makes_sense(message: Message) -> bool:
    """Whether a message can be one of a terminal's: a key that can be written, a size that fits a screen."""
    if isinstance(message, events.Key) and message.character is not None:
        return not any("\ud800" <= char <= "\udfff" for char in message.character)
    if isinstance(message, events.Resize):
        return all(0 < cells <= LARGEST for cells in message.size)
    return True
