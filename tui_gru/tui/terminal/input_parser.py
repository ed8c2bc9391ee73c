"""The parser of the bytes from a terminal. It ignores bytes that are no text and unknown sequences."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable
from contextlib import suppress

from textual import events
from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.message import Message

LONGEST = 31  # characters of a control sequence; Textual's parser interprets longer ones as keys
LONGEST_PASTE = 10**6  # characters; the rest of a longer paste is ignored
LARGEST = 10_000  # columns and rows of a terminal
PASTE_BEGINS, PASTE_ENDS = "\x1b[200~", "\x1b[201~"


class TypedText(events.InputEvent):
    """Several printable characters that were typed at once, in the place of as many keys."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class InputParser:
    """A wrapper of Textual's parser (8.2), which would turn an unknown sequence into keys, and fail on some numbers.

    A control sequence is an escape, `[`, numbers, and a final character. An unknown one is ignored as a whole. Characters that come
    at once become one message, since each message costs more than all else that happens to a character.
    """

    def __init__(self, debug: bool = False) -> None:
        self._parser = XTermParser(debug)
        self._debug = debug
        self._decode = getincrementaldecoder("utf-8")("ignore").decode
        self._sequence = ""  # the part of a control sequence received so far
        self._skipping = False  # True up to the end of a sequence that is too long
        self._pasted: list[str] | None = None  # the part of a paste received so far, None outside of one
        self._plain = True  # True if the next character begins nothing but itself

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete after these bytes."""
        text, at = self._decode(data), 0
        messages: list[Message] = []
        while at < len(text):
            end = at
            while self._plain and end < len(text) and text[end].isprintable():
                end += 1
            if end - at > 1:
                messages.append(TypedText(text[at:end]))
                at = end
                continue
            found = self._of(text[at])
            messages += found
            same = len(found) == 1 and isinstance(found[0], events.Key) and found[0].character == text[at]
            self._plain = same and text[at] != "\x1b"  # the key may be the escape before this one, which begins another sequence
            at += 1
        return messages

    def tick(self) -> list[Message]:
        """Return the messages of a single escape, once its delay is over."""
        return self._parsed(self._parser.tick)

    def end(self) -> list[Message]:
        """Return the remaining messages at the end of the input."""
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
        if sequence[1] != "[" or sequence in ("\x1b[M", "\x1b[["):  # other forms: the old mouse protocol, the Linux console
            self._sequence = ""
        elif _ends(char) and len(sequence) > 2:
            self._sequence, self._pasted = "", [] if sequence == PASTE_BEGINS else None
            if not messages:
                self._reset()
        elif len(sequence) == LONGEST:
            self._sequence, self._skipping = "", True
            self._reset()
        return messages

    def _paste(self, pasted: list[str], char: str) -> list[Message]:
        """Return a paste once it is complete, including the escapes in it."""
        pasted.append(char)
        if char != "~" or "".join(pasted[-len(PASTE_ENDS) :]) != PASTE_ENDS:
            del pasted[LONGEST_PASTE : -len(PASTE_ENDS)]
            return []
        self._pasted = None
        return [events.Paste("".join(pasted[: -len(PASTE_ENDS)]).replace("\0", ""))]

    def _parsed(self, parse: Callable[[], Iterable[Message]]) -> list[Message]:
        try:
            return [message for message in parse() if _makes_sense(message)]
        except (ValueError, OverflowError, IndexError):  # a number that cannot be parsed, or is no code of a character
            self._reset()
            return []

    def _reset(self) -> None:
        """Discard the part of a sequence that has been read."""
        last, self._parser = self._parser, XTermParser(self._debug)
        for name in ("last_x", "last_y", "mouse_pixels", "terminal_size", "terminal_pixel_size"):
            setattr(self._parser, name, getattr(last, name))


def _ends(char: str) -> bool:
    """Return True if a character ends a control sequence."""
    return "@" <= char <= "~" or char < " "


def _makes_sense(message: Message) -> bool:
    """Return True if a message is plausible: a key without surrogates, a size in the valid range."""
    if isinstance(message, events.Key) and message.character is not None:
        return not any("\ud800" <= char <= "\udfff" for char in message.character)
    if isinstance(message, events.Resize):
        return all(0 < cells <= LARGEST for cells in message.size)
    return True
