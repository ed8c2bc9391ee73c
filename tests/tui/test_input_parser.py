"""The parser of terminal input: the same keys as Textual's, with malformed input ignored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual import events
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual._xterm_parser import XTermParser
from textual.message import Message

from tui_gru.tui import terminal as input_parser
from tui_gru.tui.app import key_event
from tui_gru.tui.terminal import InputParser, TypedText


def words(messages: list[Message]) -> list[str]:
    """Return keys by name, pastes by text, and other events by type."""
    named = {events.Key: "key", events.Paste: "text"}
    single = [key for each in messages for key in (map(key_event, each.text) if isinstance(each, TypedText) else (each,))]
    return [str(getattr(each, named.get(type(each), ""), type(each).__name__)) for each in single]


def read(data: bytes) -> list[str]:
    parser = InputParser()
    return words([*parser.feed(data), *parser.end()])


def test_every_known_sequence_is_read_as_textual_reads_it() -> None:
    for sequence in ANSI_SEQUENCES_KEYS:
        parser = XTermParser()
        assert read(sequence.encode()) == words([*parser.feed(sequence), *parser.feed("")]), repr(sequence)


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8))
def test_characters_that_come_at_once_are_the_keys_that_they_are_one_by_one(text: str) -> None:
    parser = XTermParser()
    if "\x1b" not in text:
        assert read(text.encode()) == words([message for char in text for message in parser.feed(char)])


def test_a_thousand_characters_are_one_message() -> None:
    parser, text = InputParser(), "set Wz[0,1] 日本 " * 70
    (typed,) = parser.feed(text.encode())
    assert isinstance(typed, TypedText)
    assert typed.text == text
    keys, typed = parser.feed(b"\x1b[A" + b"sNow\r")[:2], parser.feed(b"s" * 1000)[0]
    assert words(list(keys)) == ["up", "s"]
    assert isinstance(typed, TypedText)


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (b"\xffs", ["s"]),
        (b"\xe9s", ["s"]),
        (b"\x80\x80s", ["s"]),
        ("é名".encode(), ["é", "名"]),
        (b"\x1b[999999999999999999~s", ["s"]),
        (b"\x1b[:~s", ["s"]),
        (b"\x1b[55296us", ["s"]),
        (b"\x1b[1114112us", ["s"]),
        (b"\x1b[99qs", ["s"]),
        (b"\x1b[<0;" + b"9" * 300 + b";1Ms", ["s"]),
        (b"\x1b[48;999999999;999999999;1;1ts", ["s"]),
        (b"\x1b[48;0;80;1;1ts", ["s"]),
        (b"\x1b[48;24;80;1;1ts", ["Resize", "s"]),
        (b"\x1b[<0;5;6Ms", ["MouseDown", "s"]),
        (b"\x1b[97;5us", ["ctrl+a", "s"]),
        (b"\x1b[12;40Rs", ["CursorPosition", "s"]),
        (b"\x1b[?2026;2$ys", ["TerminalSupportsSynchronizedOutput", "s"]),
        (b"\x1bs", ["alt+s"]),
        (b"\x1b\x1b[Ass", ["escape", "up", "s", "s"]),
        (b"\x1b\x1bOPss", ["escape", "f1", "s", "s"]),
        (b"\x1b", ["escape"]),
        (b"\x1b[200~n\n\x1b[31mq\0\x1b[201~s", ["n\n\x1b[31mq", "s"]),
        (b"\x1b[200~\x1b[201~s", ["", "s"]),
        (b"\x1b[200~never ended", []),
    ],
)
def test_what_is_malformed_is_left_out(data: bytes, messages: list[str]) -> None:
    assert read(data) == messages
    parser = InputParser()
    one_by_one = [message for i in range(len(data)) for message in parser.feed(data[i : i + 1])]
    assert words([*one_by_one, *parser.end()]) == messages


def test_a_paste_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_parser, "LONGEST_PASTE", 10)
    (pasted, key) = read(b"\x1b[200~" + b"abcdefghij" * 100 + b"\x1b[201~s")
    assert pasted.startswith("abcdefghij")
    assert len(pasted) <= 16
    assert key == "s"


@given(st.lists(st.one_of(st.binary(), st.text("\x1b[]<>?;:0123456789~uMmtR").map(str.encode))))
def test_whatever_comes_is_read_and_what_follows_is_read_right(chunks: list[bytes]) -> None:
    parser = InputParser()
    for chunk in chunks:
        parser.feed(chunk)
        parser.tick()
    parser.feed(b"\x1b[201~")  # ends a paste that may have begun
    parser.feed(b"\x1b[m" * 2)  # and an escape sequence
    assert words(parser.feed(b"s"))[-1:] == ["s"]
