"""`tui-gru mcp`: the debugger as tools, driven by a client of the protocol over standard input and output."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from tests.process import PROGRAM
from tui_gru import Session, TuiGruError
from tui_gru.cli.tools import RefusedError, Tools
from tui_gru.engine.config import Config
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless

ROOT = Path(__file__).parents[2]
GUIDE = resources.files("tui_gru").joinpath("AGENTS.md").read_text(encoding="utf-8")
COMMANDS = sorted({command for text in re.findall(r'`run "([^"`]+)"', GUIDE) for command in text.split("; ")})


@pytest.fixture
def tools():
    opened = Tools()
    yield opened
    opened.close()


async def test_a_client_of_the_protocol_drives_the_debugger(tmp_path):
    """Opens, runs, looks and lists over a pipe; what is refused is an error with its cure, and the server goes on."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    (tmp_path / "words.txt").write_text("the cat sat on the mat and the dog sat on the log " * 20, encoding="utf-8")
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "tui_gru", "mcp"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}
    )
    async with stdio_client(server) as streams, ClientSession(*streams) as client:
        greeting = await client.initialize()
        assert greeting.instructions == GUIDE
        assert {tool.name for tool in (await client.list_tools()).tools} == {"open", "run", "look", "commands"}

        async def call(tool, **arguments):
            answer = await client.call_tool(tool, arguments)
            (content,) = answer.content
            return bool(answer.is_error), content.text

        assert (await call("open"))[1].startswith("before the first line\na run of this program: gru, 20 characters of text")
        failed, answer = await call("run", commands="l; 3n; findings")
        assert not failed
        assert "> 3n\nat the end of epoch 1" in answer
        failed, answer = await call("run", commands="s; fly; n")
        assert failed
        assert answer.endswith("> fly\nrefused: there is no command 'fly'; ? lists all")
        failed, answer = await call("open", arguments="--file words.txt --hidden-size 0")
        assert failed
        assert "--hidden-size must be at least 1, not 0" in answer
        assert "loss" in (await call("look", columns=100, rows=30))[1]
        assert (await call("commands", words="numbers hidden"))[0]
        assert "until loss < 0.5" in (await call("commands", words="condition"))[1]
        assert not (await call("open", arguments="--file words.txt --hidden-size 8 --batch-size 2 --seq-length 8"))[0]


def test_without_the_package_of_the_protocol_it_says_what_to_install(monkeypatch, capsys):
    from tui_gru.cli.commands import main

    monkeypatch.setattr("tui_gru.cli.tools.find_spec", lambda name: None)
    assert main(["mcp"]) == 2
    assert capsys.readouterr().err == "tui-gru: this needs the package of the protocol: pip install 'tui-gru[mcp]'\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_guide_are_executed(tools, command):
    tools.open("--text 'hello world, hello again, hello' --hidden-size 4 --batch-size 2 --seq-length 4")
    tools.run("l; 8n")
    written = command.replace("NAME[row 1, unit 1]", "h[row 1, unit 1]")
    assert tools.run(written, seconds=2 if "until" in command else 100)  # one runs for as long as it may


def test_the_guide_is_a_page():
    assert len(GUIDE.splitlines()) <= 60


def test_data_have_as_many_levels_and_characters_as_are_wanted(tools):
    tools.run("s")
    (shallow, deep) = (json.loads(tools.run("why h[row 1, unit 1]", data=True, depth=depth, characters=10**6)) for depth in (1, 2))
    assert shallow["data"]["terms"][0]["terms_left_out"] == 2
    assert deep["data"]["terms"][0]["terms"][0]["terms_left_out"] == 3
    cut = tools.run("why h[row 1, unit 1]", characters=50)
    assert cut[50:].startswith("\n… ")
    whole = re.search(r"characters=(\d+)", cut)
    assert whole is not None
    assert "more characters" not in tools.run("why h[row 1, unit 1]", characters=int(whole[1]))


def test_letters_of_data_are_no_escapes(tools):
    tools.run("s")
    assert "h̃" in tools.run("why h[row 1, unit 1]", data=True)


def test_a_run_without_an_end_is_stopped_after_its_seconds(tools):
    answer = tools.run("l; until loss < -1; s", seconds=0.2)
    assert "stopped after 0.2 s; call again to go on, or with more seconds" in answer
    assert "> s" not in answer
    assert tools.run("s").startswith("> s\nat ")  # nothing of it is left


def test_it_looks_at_the_screen_of_this_moment(tools):
    tools.run("l; 2n; s")
    rows = tools.look(120, 36).splitlines()
    assert len(rows) == 36
    assert rows[0].startswith(" epoch 1  batch 3 of 3  t 1 of 3")
    assert "where does" not in "\n".join(rows)
    tools.run("why h[row 1, unit 1]")
    assert "h[row 1, unit 1]" in tools.look(120, 36)
    with pytest.raises(TuiGruError, match="20 to 300 columns"):
        tools.look(5, 5)


def test_the_streams_are_put_back_in_whatever_order_screens_end():
    before = sys.stdout, sys.stderr
    one, other = Tools(), Tools()
    for opened in (one, other):
        opened.look()
    for opened in (one, other):
        opened.close()
    assert (sys.stdout, sys.stderr) == before


async def test_a_screen_that_began_within_another_app_leaves_no_stream_of_it():
    before = sys.stdout, sys.stderr
    tools = Tools()
    async with headless(make_app(Config.of())):
        tools.look()
    tools.close()
    assert (sys.stdout, sys.stderr) == before


def test_sessions_and_recordings_are_opened_by_their_paths(tools, tmp_path):
    session = Session()
    session.step("batch", 2)
    session.save(tmp_path / "walk.tui-gru")
    assert "at the end of epoch 1 · batch 2" in tools.open(f"'{tmp_path / 'walk.tui-gru'}'")
    with pytest.raises(TuiGruError, match="no such file"):
        tools.open("nowhere.pt")
    with pytest.raises(TuiGruError, match="no closing quotation"):
        tools.open("'half")
    assert "--hidden-size N" in tools.open("--help")
    with pytest.raises(RefusedError, match="refused: there is no command 'fly'"):
        tools.run("fly")


def test_nothing_but_the_protocol_is_written_to_standard_output():
    """A line that is no message is answered with an error of the protocol, or ignored; the end of the input ends the server."""
    done = subprocess.run([*PROGRAM, "mcp"], input="not a message\n", capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in done.stdout.splitlines())
