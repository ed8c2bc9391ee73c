"""Text from a user or a file reaches the terminal without control characters."""

import pytest
from textual.geometry import Region

from tests.cli.test_mistakes import assert_one_line
from tui_gru import Session
from tui_gru.cli.commands import main
from tui_gru.engine.config import Config
from tui_gru.errors import safe_text
from tui_gru.storage.store import session_path
from tui_gru.tui.app import make_app
from tui_gru.tui.command import CommandLine
from tui_gru.tui.headless import headless
from tui_gru.tui.session_screen import BottomLine

EVIL = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202eb\udc9bc"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("Math 1.5 · h̃ → “x”", "Math 1.5 · h̃ → “x”"),
        ("\x1b[31m", "\\x1b[31m"),
        ("one\ntwo\t\x00", "one\\ntwo\\t\\x00"),
        ("\x9b\u202e\u2066\ud800\u200b", "\\x9b\\u202e\\u2066\\ud800\\u200b"),
    ],
)
def test_what_is_not_printable_is_escaped(text, safe):
    assert safe_text(text) == safe
    assert safe.isprintable()


NAMED = [("--session", f"no/{EVIL}"), ("--file", EVIL), ("trace", EVIL), (f"--{EVIL}",), ("--text", EVIL, "--vocabulary", "x")]


@pytest.mark.parametrize("arguments", NAMED)
def test_a_name_on_the_command_line_is_escaped_in_the_error(capsys, arguments):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert_one_line(said, "")
    assert said[:-1].isprintable()


def test_the_name_of_a_file_is_escaped_in_the_list(capsys):
    Session().save(session_path("plain"))
    session_path("plain").with_name("evil\x1b[2J.tui-gru").write_text("no session")
    main(["sessions"])
    said = capsys.readouterr().out
    assert "evil\\x1b[2J" in said
    assert said.replace("\n", "").isprintable()


def lines_of(widget):
    """Return the lines of a widget as the terminal receives them."""
    return ["".join(segment.text for segment in strip) for strip in widget.render_lines(Region(0, 0, *widget.size))]


async def test_what_is_said_and_typed_on_the_screen_commands_no_terminal():
    async with headless(make_app(Config.of()), (120, 36)) as pilot:
        screen = pilot.app.screen
        screen.say(f"there is no branch {EVIL}")
        await pilot.pause()
        said, _ = lines_of(screen.query_one(BottomLine))  # the keys are below
        assert said.strip() == f"there is no branch {safe_text(EVIL)}"
        await pilot.press(":")
        line = screen.query_one(CommandLine)
        line.value = EVIL
        await pilot.pause()
        (typed,) = lines_of(line)
        assert typed.isprintable()
        assert typed.strip() == "a]0;owned[2J31mb\ufffdc"
        assert sum(strip.cell_length for strip in line.render_lines(Region(0, 0, *line.size))) == line.size.width


async def test_a_kept_command_with_escapes_is_left_out():
    session = Session()
    session.keep("commands", ["go 3", EVIL])
    async with headless(make_app(session)) as pilot:
        await pilot.press(":", "up")
        assert pilot.app.screen.query_one(CommandLine).value == "go 3"
